"""What ``core`` asks of the world around it; ``nodes/_host.py`` answers inside ComfyUI, tests with a few lines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import torch


class Progress(Protocol):
    """Where long work reports itself, and where it learns that it should stop."""

    def step(self, count: int = 1) -> None:
        """``count`` more units are done. Raises whatever the host raises to stop the work; let that pass."""


class NoProgress:
    """A `Progress` that nobody watches."""

    def step(self, count: int = 1) -> None:
        return None


WITHOUT_PROGRESS = NoProgress()


class MaskSource(Protocol):
    """What selects something in a picture: a model that is ready to run."""

    masks_per_picture: int

    def masks(self, picture: torch.Tensor) -> torch.Tensor:
        """``[H,W,3 or 4]`` in 0..1 -> ``[masks_per_picture,H,W]`` in 0..1, on any device; alpha is not looked at."""
