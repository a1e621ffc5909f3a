"""One part of long work, reported by the fraction that is done."""

from __future__ import annotations

from .engine import NO_PROGRESS, Progress


class StageProgress:
    """Turns fractions into steps of a `Progress`.

    Args:
        progress: What to report to.
        steps: How many of its steps this part has, 0 or more.
    """

    def __init__(self, progress: Progress, steps: int) -> None:
        self._progress, self._steps, self._done = progress, steps, 0

    def advance_to(self, fraction: float) -> None:
        """Report that ``fraction`` of this part is done, and check whether to go on.

        Args:
            fraction: 0..1; one below an earlier one changes nothing.
        """
        done = max(self._done, int(self._steps * min(1.0, fraction)))
        count, self._done = done - self._done, done
        self._progress.step(count)


NO_STAGE = StageProgress(NO_PROGRESS, 0)
