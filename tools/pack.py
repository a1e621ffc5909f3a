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
    """Import the pack in ``root`` as the module "maskwright", once.

    Raises: `FileNotFoundError` without an ``__init__.py``; `RuntimeError` if another copy of the pack is loaded; and
    any error of the pack's own code (after which nothing remains loaded).
    """
    init = Path(root) / "__init__.py"
    loaded = sys.modules.get(MODULE_NAME)
    if loaded is not None:
        if loaded.__file__ and Path(loaded.__file__).resolve() == init.resolve():
            return loaded
        raise RuntimeError(f"{MODULE_NAME} is already loaded from {loaded.__file__}, so {init} cannot be loaded too")
    if not init.is_file():
        raise FileNotFoundError(f"there is no node pack in {Path(root)}: it has no __init__.py")
    spec = importlib.util.spec_from_file_location(MODULE_NAME, init, submodule_search_locations=[str(root)])
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODULE_NAME] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        for name in [name for name in sys.modules if name == MODULE_NAME or name.startswith(f"{MODULE_NAME}.")]:
            del sys.modules[name]
        raise
    return module


def own_class(schema: dict) -> type | None:
    """The class of this pack that an entry of an engine's object_info describes.

    None for other classes, including those that another pack registered under an id of this pack.
    """
    kind = load_pack().NODE_CLASS_MAPPINGS.get(schema.get("name"))
    return kind if kind and schema.get("description") == kind.DESCRIPTION else None
