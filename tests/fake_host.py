"""A `core.engine.Host` for tests."""

from __future__ import annotations

from collections.abc import Callable

from maskwright.core.batching import NO_PROGRESS, StandaloneHost
from maskwright.core.engine import Progress


class FakeHost(StandaloneHost):
    """A host with the progress bar ``bar``. `free_memory` calls ``free`` and counts in ``freed``; errors of the class
    ``interrupt`` are interrupts."""

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
