"""Parallel maps: results in order, and torch's thread counts restored."""

from __future__ import annotations

import threading

import pytest
import torch
from maskwright.core.parallel import parallel_map


@pytest.fixture(params=[1, 2, 5])
def cores(request: pytest.FixtureRequest):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 12])
def test_parallel_map_keeps_order_and_restores_threads(cores: int, count: int) -> None:
    assert parallel_map(lambda item: item * item, range(count)) == [item * item for item in range(count)]
    assert torch.get_num_threads() == cores
    inherited: list[int] = []
    thread = threading.Thread(target=lambda: inherited.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert inherited == [cores]


def test_parallel_map_divides_threads_and_disables_gradients(cores: int) -> None:
    modes = parallel_map(lambda _: (torch.get_num_threads(), torch.is_grad_enabled()), range(2))
    assert modes == [(max(1, cores // 2), False)] * 2
    assert torch.is_grad_enabled()


def test_parallel_map_propagates_exceptions_and_restores_threads(cores: int) -> None:
    class Stopped(BaseException):
        pass

    def work(item: int) -> None:
        if item == 1:
            raise Stopped

    with pytest.raises(Stopped):
        parallel_map(work, range(4))
    assert torch.get_num_threads() == cores


def test_parallel_map_writes_to_inference_tensors(cores: int) -> None:
    with torch.inference_mode():
        result = torch.zeros(4)

        def write(item: int) -> None:
            result[item] = item

        parallel_map(write, range(4))
    assert result.tolist() == [0, 1, 2, 3]
