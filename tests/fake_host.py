"""Hosts for tests: `core.engine.Host` with a progress bar of the test's own, and a record of freed memory."""

from __future__ import annotations

from collections.abc import Callable

from maskwright.core.engine import NO_PROGRESS, Progress
from maskwright.core.memory import StandaloneHost


class FakeHost(StandaloneHost):
    """Returns ``bar`` as progress bar, calls ``free`` in `free_memory` and counts the calls, and takes errors of the
    kind ``interrupt`` for the user's."""

    def __init__(
        self,
        bar: Progress = NO_PROGRESS,
        free: Callable[[], None] = lambda: None,
        interrupt: type[BaseException] | tuple = (),
    ) -> None:
        self.bar, self._free, self._interrupt = bar, free, interrupt
        self.total, self.freed = 0, 0

    def progress(self, total: int) -> Progress:
        self.total = total
        return self.bar

    def free_memory(self) -> None:
        self.freed += 1
        self._free()

    def is_interrupt(self, error: BaseException) -> bool:
        return isinstance(error, self._interrupt)
