"""Progress of one stage of long work, as a fraction."""

from __future__ import annotations

from .engine import NO_PROGRESS, Progress


class StageProgress:
    """Converts fractions of a stage to steps of a `Progress`.

    Args:
        progress: Receives the steps.
        steps: Number of steps of this stage, at least 0.
    """

    def __init__(self, progress: Progress, steps: int) -> None:
        self._progress, self._steps, self._done = progress, steps, 0

    def advance_to(self, fraction: float) -> None:
        """Report that ``fraction`` of the stage is done, and check for an interrupt.

        Args:
            fraction: 0..1; values below an earlier one have no effect.
        """
        done = max(self._done, int(self._steps * min(1.0, fraction)))
        count, self._done = done - self._done, done
        self._progress.step(count)


NO_STAGE_PROGRESS = StageProgress(NO_PROGRESS, 0)
