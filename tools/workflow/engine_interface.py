"""What an engine is told and gives back, and the errors, so that every engine speaks one language."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path


class WorkflowError(Exception):
    """The workflow, or what was asked of it, is wrong. The text names the place and the remedy."""


class BadWorkflow(WorkflowError):
    """A workflow with one or more faults; `problems` holds a sentence for each."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(dict.fromkeys(problems))
        head = "the workflow cannot run"
        if len(self.problems) == 1:
            super().__init__(f"{head}: {self.problems[0]}")
        else:
            super().__init__(
                f"{head}, for {len(self.problems)} reasons:\n" + "\n".join(f"  - {p}" for p in self.problems)
            )


Progress = Callable[[str, "int | None", "int | None"], None]
"""Told what goes on: a text, and where there is a count, how much is done of how much."""


class NodeFailed(Exception):
    """A node raised an error while it ran. `trace` is the traceback's text, for those who want it."""

    def __init__(self, node_id: str, node_type: str, message: str, error_type: str = "", trace: str = "") -> None:
        self.node_id, self.node_type, self.message, self.trace = node_id, node_type, message, trace
        # This pack's own errors are whole sentences for the user; any other needs its type to make sense.
        name = error_type.rsplit(".", 1)[-1]
        own = ".core.errors." in f".{error_type}"
        text = message or "no message"
        sentence = text if own or not name else f"{name}: {text}"
        super().__init__(f"{node_label(node_id, node_type)} failed: {sentence}")


@dataclass(frozen=True)
class OutputFile:
    """One file that a node wrote: which node, where, and whether it is a "output" or only a "temp" preview."""

    node_id: str
    path: Path
    kind: str
    subfolder: str


@dataclass(frozen=True)
class RunResult:
    """What a run gave: each node's `ui` data by node id, and the files among it, in order of node id."""

    outputs: dict[str, dict]
    files: list[OutputFile] = field(default_factory=list)


def output_files(outputs: dict[str, dict], base: Path) -> list[OutputFile]:
    """The files named in nodes' `ui` data. Takes: that data by node id; the folder that holds output and temp."""
    files = []
    for node_id in sorted(outputs, key=id_order):
        for items in outputs[node_id].values():
            for item in items if isinstance(items, (list, tuple)) else []:
                if isinstance(item, dict) and item.get("filename"):
                    kind, subfolder = item.get("type", "output"), item.get("subfolder", "")
                    files.append(OutputFile(node_id, base / kind / subfolder / item["filename"], kind, subfolder))
    return files


def node_label(node_id: object, node_type: str, title: object = None) -> str:
    """What every message calls a node: `node 7 (KSampler "Refine")`, or without a title that says nothing new."""
    return f"node {node_id} ({node_type}" + (f' "{title}")' if title and title != node_type else ")")


def short(value: object) -> str:
    """Format a value for messages; long ones are shortened."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else text[:77] + "..."


def id_order(node_id: str) -> tuple:
    """A key that sorts node ids as people count ("2" before "10", "10:3" after "10"), whatever else they hold."""
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in str(node_id).split(":"))
