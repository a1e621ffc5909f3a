"""What ``core`` asks of the world around it; ``nodes/_host.py`` answers inside ComfyUI, tests with a few lines."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Where long work reports itself, and where it learns that it should stop."""

    def step(self, count: int = 1) -> None:
        """``count`` more units are done. Raises whatever the host raises to stop the work; let that pass."""


class NoProgress:
    """A `Progress` that nobody watches."""

    def step(self, count: int = 1) -> None:
        return None


WITHOUT_PROGRESS = NoProgress()
