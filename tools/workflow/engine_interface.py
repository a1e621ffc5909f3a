"""What all engines share: the scratch folder, results and errors."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from .graph import id_order, node_label


class WorkflowError(Exception):
    """The workflow or a request about it is wrong. The message names the place and the remedy."""


class BadWorkflow(WorkflowError):
    """A workflow with one or more faults; `problems` has a sentence for each."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = list(dict.fromkeys(problems))
        count, lines = len(self.problems), "".join(f"\n  - {problem}" for problem in self.problems)
        details = f": {self.problems[0]}" if count == 1 else f", for {count} reasons:{lines}"
        super().__init__(f"the workflow cannot run{details}")


class NodeFailed(Exception):
    """A node raised an error while it ran. `trace` is the text of the traceback."""

    def __init__(self, node_id: str, node_type: str, message: str, error_type: str = "", trace: str = "") -> None:
        self.trace = trace
        # This pack's errors are complete sentences; others need their type to make sense.
        own = ".core.errors." in f".{error_type}"
        name = "" if own or not error_type else f"{error_type.rsplit('.', 1)[-1]}: "
        super().__init__(f"{node_label(node_id, node_type)} failed: {name}{message or 'no message'}")


@dataclass(frozen=True)
class OutputFile:
    """A file that a node wrote. `kind` is "output", or "temp" for a preview."""

    node_id: str
    path: Path
    kind: str
    subfolder: str


class RunResult:
    """Each node's `ui` data by node id, and the files in it, in order of node id, in the scratch folder `base`."""

    def __init__(self, outputs: dict[str, dict], base: Path) -> None:
        self.outputs, self.files = outputs, []
        for node_id in sorted(outputs, key=id_order):
            lists = [values for values in outputs[node_id].values() if isinstance(values, (list, tuple))]
            items = [item for values in lists for item in values if isinstance(item, dict) and item.get("filename")]
            for item in items:
                kind, subfolder = item.get("type", "output"), item.get("subfolder", "")
                self.files.append(OutputFile(node_id, base / kind / subfolder / item["filename"], kind, subfolder))


class Engine:
    """Runs prompts in a scratch folder `base` with the folders input, output and temp.

    Subclasses add `object_info`, `model_folders`, `unknown` and `queue`.
    """

    base: Path
    # Called with the current step and, if countable, the amounts done and in total.
    progress: Callable[[str, int | None, int | None], None] = staticmethod(lambda text, done, total: None)

    @property
    def input_folder(self) -> Path:
        """The folder that LoadImage reads from."""
        return self.base / "input"

    def copy_input(self, file: Path, name: str | None = None) -> str:
        """Copy a file to the input folder, by default under its own name. Return that name."""
        name = name or file.name
        (self.input_folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, self.input_folder / name)
        return name
