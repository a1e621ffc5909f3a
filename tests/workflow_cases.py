"""What the tests of `tools/` share: the workflow files among the fixtures, and prompts made of a few nodes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

WORKFLOWS = Path(__file__).parent / "fixtures" / "workflows"
EDITOR_FILES = WORKFLOWS.parent / "editor_files"  # as users saved them, reduced to what was misread
TOOLS = Path(__file__).parent.parent / "tools"


def load(name: str) -> dict:
    return json.loads((WORKFLOWS / name).read_text(encoding="utf-8"))


def editor_file(name: str) -> dict:
    return json.loads((EDITOR_FILES / f"{name}.json").read_text(encoding="utf-8"))


def saved(out: str) -> list[Path]:
    """The files that a run named on stdout, which holds nothing else."""
    return [Path(line) for line in out.splitlines()]


def loaders(*names: object) -> dict:
    """A prompt with a LoadImage for each file name, ids 1, 2, ..., each shown."""
    prompt = {}
    for number, name in enumerate(names, 1):
        prompt[str(number)] = {"class_type": "LoadImage", "inputs": {"image": name}}
        prompt[str(100 + number)] = {"class_type": "PreviewImage", "inputs": {"images": [str(number), 0]}}
    return prompt


class Borrowed:
    """A server that somebody else starts and stops."""

    def __init__(self, server: Any) -> None:
        self._server = server

    def __getattr__(self, name: str) -> object:
        return getattr(self._server, name)

    def __enter__(self) -> Any:
        return self._server

    def __exit__(self, *_: object) -> None:
        return None
