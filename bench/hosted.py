"""ComfyUI's own modules and other packs in the process of a benchmark, without a server.

The environment variables of `PACKS` name the folders of other packs; packs whose variable is not set are left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import io
import logging
import os
import re
import sys
from pathlib import Path

import _measuring  # noqa: F401 - makes the tools importable
from rows import Call, Report

PACKS = {
    "KJNodes": "KJNODES_PATH",
    "Impact Pack": "IMPACT_PACK_PATH",
    "CropAndStitch": "CROP_AND_STITCH_PATH",
    "essentials": "ESSENTIALS_PATH",
    "LayerStyle": "LAYERSTYLE_PATH",
    "inpaint-nodes": "INPAINT_NODES_PATH",
}
VERSION = "MASKWRIGHT_BENCH_COMFYUI"  # ComfyUI's version, set where its modules are loaded

_nodes: dict[str, type] = {}
_loaded = {"ComfyUI"}  # names of packs whose nodes `call_node` can run


def start_comfyui(scratch: str) -> None:
    """Do what ComfyUI's main.py does before it loads packs, in its folder, on the CPU, without a listening server."""
    sys.path.insert(0, os.getcwd())
    sys.argv = ["main.py", "--cpu", "--base-directory", scratch]
    import comfy.options

    comfy.options.enable_args_parsing()
    logging.disable(logging.WARNING)
    for name in ("execution", "folder_paths", "utils.extra_config"):
        importlib.import_module(name)
    nodes, server = (importlib.import_module(name) for name in ("nodes", "server"))
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    server.PromptServer(loop)
    loop.run_until_complete(nodes.init_builtin_extra_nodes())
    _nodes.update(nodes.NODE_CLASS_MAPPINGS)


def pack_folders(*names: str) -> dict[str, Path]:
    """The folders of the named packs, by name, if their variable is set."""
    folders = {name: os.environ.get(variable) for name, variable in PACKS.items() if name in names}
    return {name: Path(folder).absolute() for name, folder in folders.items() if folder}


def describe_packs(*names: str) -> str:
    """The versions of the named packs that are on this machine, as a sentence."""
    versions = []
    for name, folder in pack_folders(*names).items():
        file = folder / "pyproject.toml"
        match = re.search(r'^version *= *"(.+?)"', file.read_text("utf-8") if file.exists() else "", re.MULTILINE)
        versions.append(f"{name} {match[1] if match else 'of unknown version'}")
    return f"Measured with {', '.join(versions)}." if versions else ""


def import_pack(folder: Path) -> dict[str, type]:
    """Import a pack as ComfyUI does. Returns its nodes by id."""
    name = f"pack_{folder.name}"
    search = {"submodule_search_locations": [str(folder)]}
    spec = importlib.util.spec_from_file_location(name, folder / "__init__.py", **search)
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if hasattr(module, "NODE_CLASS_MAPPINGS"):
        return module.NODE_CLASS_MAPPINGS
    loop = asyncio.get_event_loop()
    extension = loop.run_until_complete(module.comfy_entrypoint())
    return {node.define_schema().node_id: node for node in loop.run_until_complete(extension.get_node_list())}


def import_packs(*names: str) -> None:
    """Import those of the named packs that are on this machine, so that `call_node` finds their nodes."""
    for name, folder in pack_folders(*names).items():
        try:
            _nodes.update(import_pack(folder))
            _loaded.add(name)
        except Exception as error:
            print(f"{name} does not load: {type(error).__name__}: {error}")


def make_report(job: str, *packs: str, **values: object) -> Report:
    """Import the packs for a report, and name their versions and ComfyUI's in its text."""
    import_packs(*packs)
    return Report(job, version=os.environ[VERSION], packs=describe_packs(*packs), **values)


def call_node(node: str, *args, **inputs):
    """Run a node of ComfyUI or of an imported pack, and suppress what it prints. Returns its outputs."""
    kind = _nodes[node]
    run = kind.execute if hasattr(kind, "define_schema") else getattr(kind(), kind.FUNCTION)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return run(*args, **inputs)


def select_available(calls: dict[str, Call]) -> dict[str, Call]:
    """The calls of imported packs. Keys are names of packs."""
    return {name: call for name, call in calls.items() if name in _loaded}
