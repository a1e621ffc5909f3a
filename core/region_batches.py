"""Which regions are sampled together, so that the results are those of one at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from .interfaces import Pipe
from .regions import Box, Frame, Region


@dataclass(frozen=True, eq=False)
class Task:
    """One region of one version of one picture.

    Attributes:
        number: Its place in the lists of results.
        version: Which of the pictures that are being made it belongs to.
        seed: Of its first cycle.
        pipe, refiner: With the conditionings for this region.
        reads: The parts of the picture that its result depends on.
        writes: The part of the picture that it changes.
    """

    number: int
    version: int
    region: Region
    frame: Frame
    seed: int
    pipe: Pipe
    refiner: Pipe | None
    reads: tuple[Box, ...]
    writes: Box

    def goes_with(self, other: Task) -> bool:
        """Whether both can be rows of one batch: the same size, and the very same conditionings."""
        return (
            (self.frame.width, self.frame.height) == (other.frame.width, other.frame.height)
            and _same_conditionings(self.pipe, other.pipe)
            and _same_conditionings(self.refiner, other.refiner)
        )

    def is_independent_of(self, other: Task) -> bool:
        """Whether it makes no difference which of two tasks of one version is done first: neither reads what the other
        writes."""
        return not (
            any(box.meets(other.writes) for box in self.reads) or any(box.meets(self.writes) for box in other.reads)
        )


def _same_conditionings(one: Pipe | None, other: Pipe | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.positive is other.positive and one.negative is other.negative


def batches(tasks: Sequence[Task], at_once: Callable[[], int]) -> Iterator[list[Task]]:
    """The tasks in order, some of them together: up to ``at_once()`` that go with each other.

    A task is taken out of turn only if it is independent of all those before it that are not done yet, so that the
    results are those of one task at a time.
    """
    pending = list(tasks)
    while pending:
        batch, waiting, limit = [], [], at_once()
        undone = defaultdict(list)  # of each version, the tasks before the one looked at
        for i, task in enumerate(pending):
            if len(batch) == limit:
                waiting += pending[i:]
                break
            before = undone[task.version]
            together = not batch or (task.goes_with(batch[0]) and all(map(task.is_independent_of, before)))
            (batch if together else waiting).append(task)
            before.append(task)
        pending = waiting
        yield batch
