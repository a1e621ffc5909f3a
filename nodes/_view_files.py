"""Lifetime of the nodes' preview files: as long as an editor may request them.

A node is identified by its id (with its path through subgraphs) and its workflow's id. For each node, these files are
kept:

- those of the last finished run, which a reloaded page shows;
- those of earlier runs whose results ComfyUI still caches, since it sends their entries again (``--cache-lru``);
- those of the run in progress.

So with ComfyUI's default cache, 100 runs leave as many files as one.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from pathlib import Path

import torch


class RunFiles:
    """A node's files in one run. With list inputs, a run calls the node several times."""

    def __init__(self, run: str, node_files: list[RunFiles]) -> None:
        self.run = run
        self.is_finished = False
        self.results = 0  # number of results that still exist
        self._paths: list[Path] = []
        self._of_node = node_files  # all runs of the same node that have files, oldest first

    def add(self, path: Path) -> None:
        """Register ``path`` before it is written, so that the file is removed even if the run fails."""
        self._paths.append(path)

    def keep_for(self, result: torch.Tensor) -> None:
        """Keep the files at least as long as ``result`` exists. Call after writing all of them."""
        with _lock:
            self.is_finished = True
            self.results += 1
            weakref.finalize(result, self._result_is_gone).atexit = False
            _remove_unneeded(self._of_node)

    def _result_is_gone(self) -> None:
        with _lock:
            self.results -= 1
            _remove_unneeded(self._of_node)

    def remove(self) -> None:
        while self._paths:
            with contextlib.suppress(OSError):  # already deleted, or locked by a virus scanner
                self._paths.pop().unlink()


_files_by_node: dict[tuple[str, str], list[RunFiles]] = {}
_lock = threading.RLock()  # reentrant, since a result may be garbage-collected inside it


def get_run_files(workflow_id: str, executing: tuple[str, str] | None) -> RunFiles:
    """Return the record of a node's files in this run, creating it if necessary.

    Args:
        workflow_id: "" if it has none.
        executing: The ids of the run and the node. If unknown (None), the files are never removed.
    """
    if executing is None:
        return RunFiles("", [])
    run, node = executing
    with _lock:
        node_files = _files_by_node.setdefault((workflow_id, node), [])
        if not node_files or node_files[-1].run != run:
            node_files.append(RunFiles(run, node_files))
            _remove_unneeded(node_files)
        return node_files[-1]


def _remove_unneeded(node_files: list[RunFiles]) -> None:
    finished = [files for files in node_files if files.is_finished]
    for files in node_files[:-1]:
        if not files.results and files not in finished[-1:]:
            with contextlib.suppress(ValueError):  # already removed by a result collected during this loop
                node_files.remove(files)
            files.remove()
