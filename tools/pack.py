"""Load this node pack the way ComfyUI loads it, without ComfyUI.

ComfyUI imports a pack from its folder, whatever that folder is called, and never puts the folder on `sys.path`.
Doing the same here keeps relative imports honest, and keeps the pack's `nodes/` from shadowing ComfyUI's own
top-level module `nodes`.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).absolute().parent.parent
MODULE_NAME = "maskwright"


def load_pack(root: Path = ROOT) -> ModuleType:
    """Import the pack that lies in `root` as the module "maskwright", once.

    Takes: `root`, the folder that holds the pack's `__init__.py`.
    Gives: the module; the same one when it is already loaded from there.
    Raises: `FileNotFoundError` where there is no `__init__.py`; `RuntimeError` when another copy of the pack is
    loaded already; and whatever the pack's own code raises (nothing half-loaded stays behind then).
    """
    init = Path(root) / "__init__.py"
    loaded = sys.modules.get(MODULE_NAME)
    if loaded is not None:
        if _same_file(loaded.__file__, init):
            return loaded
        raise RuntimeError(f"{MODULE_NAME} is already loaded from {loaded.__file__}, so {init} cannot be loaded too")
    if not init.is_file():
        raise FileNotFoundError(f"no node pack in {Path(root)}: there is no __init__.py")

    before = set(sys.modules)
    spec = importlib.util.spec_from_file_location(MODULE_NAME, init, submodule_search_locations=[str(root)])
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODULE_NAME] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        for name in set(sys.modules) - before:
            if name == MODULE_NAME or name.startswith(MODULE_NAME + "."):
                del sys.modules[name]
        raise
    return module


def own_class(schema: dict) -> type | None:
    """The class of this pack that a node type's entry in an engine's object_info describes.

    None for all others, those too that another pack registered under one of this pack's ids: the last loaded wins.
    """
    kind = load_pack().NODE_CLASS_MAPPINGS.get(schema.get("name"))
    return kind if kind and schema.get("description") == kind.DESCRIPTION else None


def _same_file(first: str | None, second: Path) -> bool:
    return first is not None and Path(first).resolve() == second.resolve()
