"""Load this node pack the way ComfyUI loads it, without ComfyUI.

ComfyUI imports a pack from its folder, whatever that folder is called, and never puts the folder on `sys.path`. Doing
the same verifies relative imports, and keeps the pack's `nodes/` from shadowing ComfyUI's top-level module `nodes`.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).absolute().parent.parent
MODULE_NAME = "maskwright"


def load_pack(root: Path = ROOT) -> ModuleType:
    """Import the pack in ``root`` as the module "maskwright", once. Raises: any error of the pack's own code."""
    if MODULE_NAME not in sys.modules:
        init = Path(root) / "__init__.py"
        spec = importlib.util.spec_from_file_location(MODULE_NAME, init, submodule_search_locations=[str(root)])
        module = sys.modules[MODULE_NAME] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[MODULE_NAME]


def own_class(schema: dict) -> type | None:
    """The class of this pack that an entry of an engine's object_info describes.

    None for other classes, including those that another pack registered under an id of this pack.
    """
    kind = load_pack().NODE_CLASS_MAPPINGS.get(schema.get("name"))
    return kind if kind and schema.get("description") == kind.DESCRIPTION else None
