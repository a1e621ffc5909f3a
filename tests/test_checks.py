"""What nodes accept, and the words they refuse with."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
import torch
from maskwright.core import checks
from maskwright.core.errors import InputError, PackError


@pytest.mark.parametrize("shape", [(4, 6), (1, 4, 6), (1, 1, 4, 6)])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_as_mask_batch_shapes_and_dtypes(shape: tuple, dtype: torch.dtype) -> None:
    value = torch.full(shape, 0.5, dtype=dtype)
    result = checks.as_mask_batch(value)
    assert result.shape == (1, 4, 6)
    assert result.dtype == torch.float32
    assert torch.all(result == 0.5)


def test_as_mask_batch_copies_only_to_clamp() -> None:
    good = torch.rand(2, 4, 6)
    assert checks.as_mask_batch(good) is good
    wild = torch.tensor([[[-0.5, 0.25, 1.5]]])
    assert checks.as_mask_batch(wild).tolist() == [[[0.0, 0.25, 1.0]]]
    assert wild.tolist() == [[[-0.5, 0.25, 1.5]]]


@pytest.mark.parametrize("shape", [(0, 4, 5), (0, 1, 4, 5)])
def test_as_mask_batch_accepts_empty_batch(shape: tuple[int, ...]) -> None:
    assert checks.as_mask_batch(torch.zeros(shape)).shape == (0, 4, 5)


BAD_MASKS = [
    (None, "my mask is missing"),
    ([[0.0, 1.0]], "my mask is of type list, not a mask"),
    (torch.zeros(4), r"shape \[4\]"),
    (torch.zeros(1, 3, 4, 5), r"shape \[1, 3, 4, 5\].*\[batch, 1, height, width\]"),
    (torch.zeros(4, 4, dtype=torch.uint8), "uint8.*255"),
    (torch.zeros(4, 4, dtype=torch.int64), "int64.*255"),
    (torch.zeros(4, 4, dtype=torch.complex64), "complex64"),
    (torch.zeros(0, 0, 4), r"empty.*\[0, 0, 4\]"),
    (torch.zeros(1, 0, 4), "empty"),
    (torch.eye(3).to_sparse(), "sparse_coo tensor.*to_dense"),
    (torch.zeros(4, 4, device="meta"), "meta tensor"),
    (torch.tensor([[0.0, float("nan")]]), "NaN or infinity in 1 of 2 values"),
    (torch.tensor([[float("inf"), -float("inf")]]), "NaN or infinity in 2 of 2 values"),
]


@pytest.mark.parametrize(("value", "message"), BAD_MASKS)
def test_as_mask_batch_refuses_invalid_mask(value: object, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        checks.as_mask_batch(value, "my mask")
    assert isinstance(caught.value, PackError)
    assert "my mask" in caught.value.problem
    assert len(caught.value.remedy) > 10


def make_nested_tensor() -> torch.Tensor:
    return torch.nested.nested_tensor([torch.zeros(4, 4), torch.zeros(3, 4)])


@pytest.mark.filterwarnings("ignore::UserWarning")  # some of these are deprecated in torch
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: torch.quantize_per_tensor(torch.rand(4, 4), 0.1, 0, torch.quint8), "quint8"),
        (lambda: torch.eye(3).to_mkldnn(), "_mkldnn tensor.*to_dense"),
        (make_nested_tensor, "nested tensor"),
        (lambda: torch.zeros(4, 4, dtype=torch.float4_e2m1fn_x2), "float4_e2m1fn_x2.*float32"),
    ],
    ids=("quantised", "mkldnn", "nested", "float4"),
)
def test_as_mask_batch_refuses_non_dense_tensors(make: Callable, message: str) -> None:
    try:
        tensor = make()
    except (AttributeError, RuntimeError):
        pytest.skip("this torch cannot make such tensors")
    with pytest.raises(InputError, match=f"my mask .*{message}"):
        checks.as_mask_batch(tensor, "my mask")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_describe_nested_tensor_without_shape() -> None:
    assert checks.describe(make_nested_tensor()) == "a nested tensor"


@pytest.mark.parametrize("shape", [(4, 6, 3), (2, 4, 6, 3), (2, 4, 6, 4), (2, 4, 6, 1)])
def test_as_image_batch_shapes(shape: tuple) -> None:
    result = checks.as_image_batch(torch.rand(shape, dtype=torch.float16))
    assert result.dtype == torch.float32
    assert result.ndim == 4
    assert result.shape[-1] == {1: 3, 3: 3, 4: 4}[shape[-1]]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (torch.zeros(1, 4, 6), r"shape \[1, 4, 6\]|shape \[1, 1, 4, 6\]"),
        (torch.zeros(2, 4, 6, 2), r"shape \[2, 4, 6, 2\]"),
        (torch.zeros(0, 4, 6, 3), "empty"),
        (torch.full((1, 2, 2, 3), float("nan")), "12 of 12 values"),
        ("image", "is of type str, not an image"),
    ],
)
def test_as_image_batch_refuses_invalid_image(value: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        checks.as_image_batch(value)


def test_as_mask_batch_detaches_gradient() -> None:
    assert not checks.as_mask_batch(torch.rand(1, 4, 4, requires_grad=True)).requires_grad


@pytest.mark.parametrize("check", [checks.as_mask_batch, checks.as_image_batch])
def test_as_batch_resolves_lazy_negation(check: Callable) -> None:
    values = torch.rand(1, 4, 4, 3) if check is checks.as_image_batch else torch.rand(1, 4, 4)
    lazy_values = torch.complex(torch.zeros_like(values), -values).conj().imag
    assert lazy_values.is_neg()
    result = check(lazy_values)
    assert torch.equal(result, values)
    result.numpy()


def test_as_mask_batch_accepts_bool() -> None:
    mask = torch.eye(4) > 0
    assert torch.equal(checks.as_mask_batch(mask), torch.eye(4).unsqueeze(0))


def test_as_image_batch_without_clamp() -> None:
    wild = torch.tensor([-1.0, 0.5, 4.0]).expand(1, 2, 2, 3)
    assert torch.equal(checks.as_image_batch(wild, clamp=False), wild)
    assert torch.equal(checks.as_image_batch(wild), wild.clamp(0, 1))
    with pytest.raises(InputError, match="NaN or infinity"):
        checks.as_image_batch(wild / 0, clamp=False)


def test_check_choice() -> None:
    assert checks.check_choice("b", "letter", ("a", "b")) == "b"
    for value in ("c", None, ["a"], 3, torch.zeros(3)):
        with pytest.raises(InputError, match="letter is .*Choose one of: a, b"):
            checks.check_choice(value, "letter", ("a", "b"))
    with pytest.raises(InputError) as caught:
        checks.check_choice(list(range(10_000)), "letter", ("a", "b"))
    assert len(str(caught.value)) < 200


def test_check_switch() -> None:
    assert [checks.check_switch(value, "s") for value in (True, False, 1, 0, 1.0)] == [True, False, True, False, True]
    for value in ("false", "true", "", None, 2, 0.5, float("nan"), [], torch.zeros(2)):
        with pytest.raises(InputError, match="s is .*not true or false.*Use true or false"):
            checks.check_switch(value, "s")


def test_check_number_and_whole_number() -> None:
    assert checks.check_whole_number(3.0, "n", 1, 5) == 3
    assert checks.check_number(0.25, "x", 0, 1) == 0.25
    for value in (0.5, True, "3", None, float("inf"), 9):
        with pytest.raises(InputError, match="n is .*from 1 to 5"):
            checks.check_whole_number(value, "n", 1, 5)


HUGE = (10**400, -(10**400), 10**5000, -(10**5000), Fraction(10**5000, 3))


@pytest.mark.parametrize("value", HUGE, ids=lambda value: f"{type(value).__name__}-{value.numerator.bit_length()}")
def test_checks_refuse_huge_numbers_with_short_messages(value: object) -> None:
    for check in (
        lambda: checks.check_number(value, "n"),
        lambda: checks.check_number(value, "n", 0),
        lambda: checks.check_whole_number(value, "n", 0, 9),
        lambda: checks.check_whole_number([value], "n"),
        lambda: checks.check_switch(value, "n"),
        lambda: checks.check_choice(value, "n", ("a", "b")),
        lambda: checks.check_text(value, "n"),
        lambda: checks.as_mask_batch(value, "n"),
    ):
        with pytest.raises(InputError, match=r"^n is .") as caught:
            check()
        assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a" * 500, "'aaaaaaaaaaaa...aaaaaaaaaaaaa'"),
        (torch.zeros(2, 3), "a tensor of shape [2, 3]"),
        ([torch.zeros(2, 3)], "[a tensor of shape [2, 3]]"),
        ({"samples": np.zeros(4)}, "{'samples': an array of shape [4]}"),
        (10**5000, "an int of about 5000 digits"),
        ([-(10**5000)], "[an int of about 5000 digits]"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
def test_describe_is_short(value: object, text: str) -> None:
    assert checks.describe(value) == text


def test_check_text() -> None:
    assert checks.check_text("", "t") == ""
    for value in (None, 3, ["a"], b"a"):
        with pytest.raises(InputError, match="t is .*, which is not text"):
            checks.check_text(value, "t")
