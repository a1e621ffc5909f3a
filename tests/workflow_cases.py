"""Workflow fixtures and small prompts for the tests of ``tools/``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

WORKFLOWS = Path(__file__).parent / "fixtures" / "workflows"
EDITOR_FILES = WORKFLOWS.parent / "editor_files"  # saved by users, reduced to the parts that were misread
TOOLS = Path(__file__).parent.parent / "tools"


def load(name: str) -> dict:
    return json.loads((WORKFLOWS / name).read_text(encoding="utf-8"))


def editor_file(name: str) -> dict:
    return json.loads((EDITOR_FILES / f"{name}.json").read_text(encoding="utf-8"))


def saved(out: str) -> list[Path]:
    """The files listed on stdout, which contains nothing else."""
    return [Path(line) for line in out.splitlines()]


def loaders(*names: object) -> dict:
    """A prompt with a LoadImage for each file name, ids 1, 2, ..., each with a preview."""
    prompt = {}
    for number, name in enumerate(names, 1):
        prompt[str(number)] = {"class_type": "LoadImage", "inputs": {"image": name}}
        prompt[str(100 + number)] = {"class_type": "PreviewImage", "inputs": {"images": [str(number), 0]}}
    return prompt


class SharedServer:
    """A running server: entering and leaving do nothing."""

    def __init__(self, server: Any) -> None:
        self._server = server

    def __getattr__(self, name: str) -> object:
        return getattr(self._server, name)

    def __enter__(self) -> Any:
        return self._server

    def __exit__(self, *_: object) -> None:
        return None
