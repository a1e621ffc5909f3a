"""`TaskQueue` gives the batches of a simple definition, with few comparisons."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from maskwright.core.detail.batches import Task, TaskQueue
from maskwright.core.engine import Pipe
from maskwright.core.geometry import Box, SamplingFrame

PIPES = [Pipe("model", positive, negative) for positive, negative in (("a", "b"), ("a", "c"), ("d", "b"))]


def make_task(number: int, reads: tuple[Box, ...], writes: Box, version: int = 0, **more: object) -> Task:
    size = more.pop("size", 64)
    values = {"region": None, "seed": number, "pipe": PIPES[0], "refiner": None, **more}
    return Task(version, number, frame=SamplingFrame(reads[0], size, size), reads=reads, writes=writes, **values)


def are_compatible(task: Task, other: Task) -> bool:
    """Whether both can be rows of one batch: same size and identical conditionings."""

    def same(one: Pipe | None, two: Pipe | None) -> bool:
        if one is None or two is None:
            return one is two
        return one.positive is two.positive and one.negative is two.negative

    sizes = {(each.frame.width, each.frame.height) for each in (task, other)}
    return len(sizes) == 1 and same(task.pipe, other.pipe) and same(task.refiner, other.refiner)


def batches_from_queue(tasks: Sequence[Task], next_limit: Callable[[], int]) -> Iterator[list[Task]]:
    queue = TaskQueue(tasks)
    while batch := queue.take(next_limit()):
        yield batch


def batches_by_definition(tasks: Sequence[Task], next_limit: Callable[[], int]) -> Iterator[list[Task]]:
    """Compare each task with all unfinished tasks before it."""
    pending = list(tasks)
    while pending:
        batch, limit = [], next_limit()
        for i, task in enumerate(pending):
            before = [other for other in pending[:i] if other.version == task.version]
            fits = not batch or (are_compatible(task, batch[0]) and all(map(task.is_independent_of, before)))
            if fits and len(batch) < limit:
                batch.append(task)
        pending = [task for task in pending if task not in batch]
        yield batch


@st.composite
def boxes(draw: st.DrawFn, longest: int) -> Box:
    x, y = draw(st.integers(0, 60)), draw(st.integers(0, 60))
    return Box(x, y, x + draw(st.integers(1, longest)), y + draw(st.integers(1, longest)))


@st.composite
def task_lists(draw: st.DrawFn) -> list[Task]:
    longest = draw(st.sampled_from((4, 20, 80)))
    return [
        make_task(
            number,
            tuple(draw(st.lists(boxes(longest), min_size=1, max_size=2))),
            draw(boxes(longest)),
            version=draw(st.integers(0, 1)),
            size=draw(st.sampled_from((64, 64, 128))),
            pipe=draw(st.sampled_from(PIPES[:1] * 4 + PIPES)),
            refiner=draw(st.sampled_from((None, None, *PIPES[:2]))),
        )
        for number in range(draw(st.integers(0, 30)))
    ]


@pytest.mark.slow
@given(tasks=task_lists(), limits=st.lists(st.integers(1, 6), min_size=1, max_size=4))
def test_take_matches_definition(tasks: list[Task], limits: list[int]) -> None:
    def numbers(function: Callable) -> list[list[int]]:
        remaining = [*reversed(limits)]  # the limit may change, as when memory runs out
        next_limit = lambda: remaining.pop() if len(remaining) > 1 else remaining[0]  # noqa: E731
        return [[task.number for task in batch] for batch in function(tasks, next_limit)]

    assert numbers(batches_from_queue) == numbers(batches_by_definition)


@pytest.mark.parametrize("limit", [1, 4])
@pytest.mark.parametrize("step", [1, 20, 70], ids=["crowded", "overlapping", "apart"])
def test_take_makes_few_comparisons(step: int, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Comparing all pairs takes minutes for thousands of tasks."""
    comparisons = 0
    is_independent_of = Task.is_independent_of

    def count_comparisons(task: Task, other: Task) -> bool:
        nonlocal comparisons
        comparisons += 1
        return is_independent_of(task, other)

    monkeypatch.setattr(Task, "is_independent_of", count_comparisons)
    per_task = {}
    for side in (10, 30):
        corners = [(x * step, y * step) for y in range(side) for x in range(side)]
        crops = [Box(x, y, x + 60, y + 60) for x, y in corners]
        tasks = [make_task(i, (crop,), crop) for i, crop in enumerate(crops)]
        comparisons = 0
        assert sum(map(len, batches_from_queue(tasks, lambda: limit))) == side**2
        per_task[side] = comparisons / side**2
    assert per_task[30] < 2 * per_task[10] + 4
