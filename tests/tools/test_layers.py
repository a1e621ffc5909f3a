"""The modules of tools/workflow: each imports only those above it in the list that the package's docstring gives."""

from __future__ import annotations

import ast
import re

import workflow
from workflow_cases import TOOLS

FOLDER = TOOLS / "workflow"
ORDER = re.findall(r"^(\w+)  +\S", workflow.__doc__, re.MULTILINE)


def test_workflow_lists_every_module() -> None:
    assert sorted(ORDER) == sorted(path.stem for path in FOLDER.glob("[!_]*.py"))


def test_workflow_modules_import_only_those_above() -> None:
    for place, name in enumerate(ORDER):
        tree = ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))
        own = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.level}
        assert own <= set(ORDER[:place]), name
