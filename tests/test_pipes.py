"""Checks of basic pipes."""

from __future__ import annotations

from typing import Any

import pytest
from maskwright.core.errors import InputError
from maskwright.nodes._pipes import check_basic_pipe


@pytest.mark.parametrize(
    ("pipe", "message"),
    [
        (None, "basic_pipe is missing"),
        ("model", "basic_pipe is of type str, not a pipe"),
        (10**5000, "basic_pipe is of type int, not a pipe"),
        ((1, 2, 3), "basic_pipe has 3 parts, not the 5"),
        ((1, 2, None, 4, None), "basic_pipe is missing vae, negative"),
    ],
    ids=["missing", "text", "huge", "short", "parts missing"],
)
def test_check_basic_pipe_names_what_is_wrong(pipe: Any, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        check_basic_pipe(pipe)
    assert len(str(caught.value)) < 200


def test_check_basic_pipe_takes_missing_parts_that_are_not_needed() -> None:
    assert check_basic_pipe([1, None, 3, 4, 5], needed=("model", "vae")) == (1, None, 3, 4, 5)
