"""Groups regions into batches whose results equal those of one region at a time."""

from __future__ import annotations

import heapq
import itertools
import math
from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

from ..engine import Pipe
from ..geometry import Box, SamplingFrame
from ..regions import Region
from .placement import Placement


@dataclass(frozen=True, eq=False)
class Task:
    """One region of one version of an image.

    Attributes:
        version: Index of the version in the result.
        number: Index of the region in its version.
        frame: Where the region is cropped, and the size at which it is sampled.
        seed: Seed of the first cycle.
        pipe, refiner: Models with the conditionings of this region, for the whole image.
        reads: The parts of the image that the result depends on.
        writes: The part of the image that changes.
        placement: The crop that the conditionings move to; None if they are the same for all crops.
    """

    version: int
    number: int
    region: Region
    frame: SamplingFrame
    seed: int
    pipe: Pipe
    refiner: Pipe | None
    reads: tuple[Box, ...]
    writes: Box
    placement: Placement | None = None

    @property
    def kind(self) -> Hashable:
        """Equal for tasks that can be rows of one batch: same size and identical conditionings, moved to
        the same crop if they must move."""
        pipes = [self.pipe] if self.refiner is None else [self.pipe, self.refiner]
        conditionings = tuple(id(each) for pipe in pipes for each in (pipe.positive, pipe.negative))
        return self.frame.width, self.frame.height, conditionings, self.placement

    def is_independent_of(self, other: Task) -> bool:
        """Whether two tasks of one version can run in any order: neither reads what the other writes."""
        return not (
            any(box.overlaps(other.writes) for box in self.reads)
            or any(box.overlaps(self.writes) for box in other.reads)
        )


class TaskQueue:
    """Yields tasks in order, in batches of one kind.

    A task overtakes others only if it is independent of all unfinished tasks before it, so the results are the same
    as one task at a time.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._tasks = tasks
        self._kinds = [task.kind for task in tasks]
        self._done = [False] * len(tasks)
        self._first = 0  # all tasks before this one are done
        self._earlier = _find_nearby_tasks(tasks, self._done)
        self._ready: dict[Hashable, list[int]] = defaultdict(list)  # by kind: heaps of tasks that can run now
        self._waiting: dict[int, list[int]] = defaultdict(list)  # by task: the tasks that wait for it
        for i in range(len(tasks)):
            self._enqueue(i)

    def take(self, limit: int) -> list[Task]:
        """Return the next batch of at most ``limit`` tasks, and mark them as done. Empty if no task is left."""
        while self._first < len(self._tasks) and self._done[self._first]:
            self._first += 1
        if self._first == len(self._tasks):
            return []
        ready = self._ready[self._kinds[self._first]]  # the first unfinished task depends on none, so it is on top
        batch = [heapq.heappop(ready) for _ in range(min(limit, len(ready)))]
        for i in batch:
            self._done[i] = True
        for i in batch:
            for other in self._waiting.pop(i, ()):
                self._enqueue(other)
        return [self._tasks[i] for i in batch]

    def _enqueue(self, i: int) -> None:
        """Mark task ``i`` as ready, or as waiting for one other task. Continues where the last call for ``i`` stopped:
        all tasks before that are done or independent of ``i``."""
        for other in self._earlier[i]:
            if not self._done[other] and not self._tasks[i].is_independent_of(self._tasks[other]):
                self._waiting[other].append(i)
                return
        heapq.heappush(self._ready[self._kinds[i]], i)


def _find_nearby_tasks(tasks: Sequence[Task], done: Sequence[bool]) -> list[Iterator[int]]:
    """For each task, the earlier tasks it may depend on: those of its version that share a grid cell with it. They may
    repeat, and may include finished tasks."""
    extents = [_extent(task) for task in tasks]
    # With cells the size of a typical task, few tasks share a cell and each task covers few cells.
    typical = math.isqrt(sum(max(box.width, box.height) ** 2 for box in extents) // max(1, len(extents)))
    cell = max(1, typical)
    grid: dict[tuple[int, int, int], _Cell] = defaultdict(_Cell)
    nearby = []
    for i, (task, box) in enumerate(zip(tasks, extents)):
        columns = range(box.x1 // cell, (box.x2 - 1) // cell + 1)
        rows = range(box.y1 // cell, (box.y2 - 1) // cell + 1)
        cells = [grid[task.version, x, y] for x, y in itertools.product(columns, rows)]
        nearby.append(itertools.chain.from_iterable([each.unfinished(len(each.numbers), done) for each in cells]))
        for each in cells:
            each.numbers.append(i)
    return nearby


class _Cell:
    """The indices of the tasks in one grid cell, in order."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self._first = 0  # all before this one are done

    def unfinished(self, count: int, done: Sequence[bool]) -> Iterator[int]:
        """Yield the first ``count`` indices in reverse, back to the first unfinished task."""
        for i in range(count - 1, -1, -1):
            while self._first < i and done[self.numbers[self._first]]:
                self._first += 1
            if i < self._first:
                return
            yield self.numbers[i]


def _extent(task: Task) -> Box:
    """The bounding box of everything that the task reads and writes."""
    boxes = (*task.reads, task.writes)
    return Box(
        min(box.x1 for box in boxes), min(box.y1 for box in boxes),
        max(box.x2 for box in boxes), max(box.y2 for box in boxes),
    )  # fmt: skip
