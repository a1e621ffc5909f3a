"""The layers nodes -> models -> core, and ComfyUI only in functions of nodes/_host/."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from pack import ROOT

LAYERS = ("core", "models", "nodes")  # each may import itself and the layers before it
HOST_MODULES = {"comfy", "comfy_api", "comfy_execution", "comfy_extras", "execution", "folder_paths", "latent_preview"}
HOST_MODULES |= {"node_helpers", "nodes", "server"}
HEAVY = {"transformers", "rembg", "onnxruntime", "cv2", "scipy", "matplotlib", "pymatting", "numba", "huggingface_hub"}
DOOR = ("nodes", "_host")  # the only package that may import ComfyUI
SOURCES = [ROOT / "__init__.py", *(path for layer in LAYERS for path in sorted((ROOT / layer).rglob("*.py")))]


def iterate_imports(tree: ast.AST, path: Path) -> Iterator[tuple[str, bool, ast.stmt]]:
    """Each import of a file: its full module name (the pack's own start with "."), and whether it runs at load."""

    def walk(node: ast.AST, at_load: bool) -> Iterator[tuple[str, bool, ast.stmt]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from ((alias.name, at_load, child) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                if child.level:
                    package = path.parent.relative_to(ROOT).parts
                    base = package[: len(package) - child.level + 1]
                    module = [*base, *(child.module or "").split(".")]
                    targets = [[*module, alias.name] for alias in child.names] if not child.module else [module]
                    yield from (("." + ".".join(part for part in t if part), at_load, child) for t in targets)
                else:
                    yield child.module or "", at_load, child
            else:
                inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) or _type_checking(child)
                yield from walk(child, at_load and not inside)

    yield from walk(tree, True)


def _type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def find_faults(path: Path, source: str) -> list[str]:
    """The forbidden imports of one file."""
    layer = path.relative_to(ROOT).parts[0]
    rank = LAYERS.index(layer) if layer in LAYERS else len(LAYERS)
    faults = []
    for name, at_load, statement in iterate_imports(ast.parse(source), path):
        top = name.lstrip(".").split(".")[0]
        where = f"{path.relative_to(ROOT)}:{statement.lineno} imports {name}"
        if name.startswith("."):
            if top in LAYERS and LAYERS.index(top) > rank:
                faults.append(f"{where}: {layer} is below {top}")
        elif top in HOST_MODULES:
            if path.relative_to(ROOT).parts[:2] != DOOR or at_load:
                faults.append(f"{where}: only functions of nodes/_host/ import ComfyUI")
        elif top in HEAVY and at_load:
            faults.append(f"{where} when the pack is loaded; import it where it is used")
        elif top in LAYERS or top == "maskwright":
            faults.append(f"{where}: the pack's own modules are imported relatively")
    return faults


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_layers(path: Path) -> None:
    assert find_faults(path, path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("core/masks.py", "from ..nodes import _host"),
        ("core/masks.py", "from ..models.catalog import MODELS"),
        ("models/clipseg_loader.py", "from ..nodes._host import device"),
        ("core/masks.py", "def f():\n    import comfy.utils"),
        ("nodes/gradient_region.py", "def f():\n    import folder_paths"),
        ("nodes/_host/__init__.py", "import comfy.utils"),
        ("nodes/_host/sampling.py", "from comfy import samplers"),
        ("nodes/_host.py", "def f():\n    import comfy.utils"),
        ("nodes/clipseg.py", "import nodes"),
        ("core/text/clipseg_engine.py", "import transformers"),
        ("nodes/clipseg.py", "from core import masks"),
    ],
)
def test_find_faults_detects_forbidden_imports(file: str, source: str) -> None:
    assert len(find_faults(ROOT / file, source)) == 1


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("nodes/_host/sampling.py", "def f():\n    import comfy.utils"),
        ("nodes/_host/sampling.py", "def f():\n    import nodes"),
        ("nodes/_host/sampling.py", "from ...core.engine import SamplerRun\nfrom . import schedulers"),
        ("nodes/clipseg.py", "from ..core import masks\nfrom ..models import clipseg\nfrom . import _host"),
        ("core/text/clipseg_engine.py", "def f():\n    import transformers"),
        ("models/rembg.py", "from ..core.errors import ModelError"),
    ],
)
def test_find_faults_accepts_allowed_imports(file: str, source: str) -> None:
    assert find_faults(ROOT / file, source) == []


def test_modules_have_distinct_names() -> None:
    """So that an import, a traceback or a search names one file. Python and pytest prescribe two names."""
    tracked = subprocess.run(["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode != 0:
        pytest.skip("not a git checkout")
    names = Counter(Path(line).stem for line in tracked.stdout.splitlines())
    assert {name for name, count in names.items() if count > 1} <= {"__init__", "conftest"}


OWN_IMPORT = re.compile(r"from (maskwright[\w.]*) import \(?([\w, ]+)")


@pytest.mark.parametrize("folder", ["tests", "tools"])
def test_imports_in_scripts_exist(folder: str) -> None:
    """Some tests run code from strings, in processes that quick runs skip. Linters do not check those imports."""
    missing = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        for module, names in OWN_IMPORT.findall(path.read_text(encoding="utf-8")):
            for name in (each.split(" as ")[0].strip() for each in names.split(",")):
                if not _can_import(module, name):
                    missing.append(f"{path.relative_to(ROOT)}: from {module} import {name}")
    assert missing == []


def _can_import(module: str, name: str) -> bool:
    try:
        return hasattr(importlib.import_module(module), name) or bool(importlib.import_module(f"{module}.{name}"))
    except ImportError:
        return False


def test_loading_pack_imports_nothing_heavy() -> None:
    script = (
        "import sys, torch\n"
        "before = set(sys.modules)\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "import pack\n"
        "pack.load_pack()\n"
        f"heavy = {HEAVY!r} & ({{name.split('.')[0] for name in sys.modules}} - {{n.split('.')[0] for n in before}})\n"
        "assert not heavy, heavy\n"
    )
    process = subprocess.run([sys.executable, "-c", script, str(ROOT / "tools")], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr


def test_pack_loads_from_folder_with_dashes(tmp_path: Path) -> None:
    folder = tmp_path / "comfyui-mask-wright.main"
    folder.mkdir()
    shutil.copy(ROOT / "__init__.py", folder)
    for layer in LAYERS:
        shutil.copytree(ROOT / layer, folder / layer, ignore=shutil.ignore_patterns("__pycache__"))
    before = list(sys.path)
    name = str(folder).replace(".", "_x_")  # as ComfyUI names the module
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
        assert "GradientRegion" in module.NODE_CLASS_MAPPINGS
        assert module.NODE_CLASS_MAPPINGS["GradientRegion"].__module__.startswith(name)
    finally:
        for loaded in [key for key in sys.modules if key == name or key.startswith(name + ".")]:
            del sys.modules[loaded]
    assert sys.path == before
