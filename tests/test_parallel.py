"""Work on several cores at once: the same results, and torch's settings as they were."""

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
def test_results_are_in_order_and_torch_has_its_threads_back(cores: int, count: int) -> None:
    assert parallel_map(lambda item: item * item, range(count)) == [item * item for item in range(count)]
    assert torch.get_num_threads() == cores
    later: list[int] = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [cores]


def test_the_cores_are_shared_out_and_gradients_are_off(cores: int) -> None:
    seen = parallel_map(lambda _: (torch.get_num_threads(), torch.is_grad_enabled()), range(2))
    assert seen == [(max(1, cores // 2), False)] * 2
    assert torch.is_grad_enabled()


def test_an_exception_passes_and_torch_has_its_threads_back(cores: int) -> None:
    class Stopped(BaseException):
        pass

    def work(item: int) -> None:
        if item == 1:
            raise Stopped

    with pytest.raises(Stopped):
        parallel_map(work, range(4))
    assert torch.get_num_threads() == cores


def test_what_was_made_in_inference_mode_can_be_written_to(cores: int) -> None:
    with torch.inference_mode():
        result = torch.zeros(4)

        def write(item: int) -> None:
            result[item] = item

        parallel_map(write, range(4))
    assert result.tolist() == [0, 1, 2, 3]
