"""Morphology against the original node and OpenCV; combination against its definition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from maskwright.core import masks, morphology
from maskwright.core.errors import InputError

cv2 = pytest.importorskip("cv2")
GOLDEN = Path(__file__).parent / "golden"
CV2_SHAPES = {"rectangle": cv2.MORPH_RECT, "ellipse": cv2.MORPH_ELLIPSE, "cross": cv2.MORPH_CROSS}
SIZES = (1, 2, 3, 4, 5, 8, 15, 30, 31)


def random_masks(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def run_opencv(mask: torch.Tensor, operation: int, size: int, shape: str) -> np.ndarray:
    element = cv2.getStructuringElement(CV2_SHAPES[shape], (size, size))
    return np.stack([cv2.morphologyEx(each.numpy(), operation, element) for each in mask])


@pytest.mark.parametrize("case", range(6))
def test_gradient_matches_original_node(case: int) -> None:
    golden = np.load(GOLDEN / "gradient.npz")
    mask = torch.from_numpy(golden[f"in{case}"].astype(np.float32) / 255)
    result = morphology.gradient(mask, int(golden[f"k{case}"]))
    # The original node rounded its input down to 8 bits, so it may be one level lower.
    np.testing.assert_allclose(result.numpy() * 255, golden[f"out{case}"], atol=1.0 + 1e-4)


@pytest.mark.parametrize("shape", morphology.SHAPES)
@pytest.mark.parametrize("size", SIZES)
def test_morphology_matches_opencv(size: int, shape: str) -> None:
    mask = random_masks(3, 57, 83)
    for function, operation in (
        (morphology.dilate, cv2.MORPH_DILATE),
        (morphology.erode, cv2.MORPH_ERODE),
        (morphology.gradient, cv2.MORPH_GRADIENT),
    ):
        expected = run_opencv(mask, operation, size, shape)
        np.testing.assert_allclose(function(mask, size, shape=shape).numpy(), expected, atol=1e-6)


def test_dilate_single_pixel_draws_element() -> None:
    mask = torch.zeros(1, 5, 5)
    mask[0, 2, 2] = 1
    dilated = {shape: morphology.dilate(mask, 3, shape)[0].int().tolist() for shape in morphology.SHAPES}
    assert dilated["rectangle"] == [[0, 0, 0, 0, 0], [0, 1, 1, 1, 0], [0, 1, 1, 1, 0], [0, 1, 1, 1, 0], [0, 0, 0, 0, 0]]
    assert dilated["cross"] == [[0, 0, 0, 0, 0], [0, 0, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0]]
    five = morphology.dilate(mask, 5, "ellipse")[0].int().tolist()
    assert five == [[0, 0, 1, 0, 0], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [1, 1, 1, 1, 1], [0, 0, 1, 0, 0]]


@pytest.mark.parametrize("size", [3, [3, 5]])
def test_gradient_of_no_mask_is_no_mask(size: int | list[int]) -> None:
    assert morphology.gradient(torch.zeros(0, 4, 5), size).shape == (0, 4, 5)


@pytest.mark.parametrize("options", [{"shape": "disc"}, {"edge": "left"}, {"size": 0}])
def test_gradient_of_no_mask_checks_its_options(options: dict) -> None:
    with pytest.raises(InputError):
        morphology.gradient(torch.zeros(0, 4, 5), **options)


def test_gradient_inner_and_outer_edges() -> None:
    mask = torch.zeros(1, 8, 8)
    mask[0, 2:6, 2:6] = 1
    inner = morphology.gradient(mask, 3, edge="inner")
    outer = morphology.gradient(mask, 3, edge="outer")
    assert inner.sum() == 4 * 4 - 2 * 2
    assert torch.all(inner <= mask)
    assert outer.sum() == 6 * 6 - 4 * 4
    assert torch.all(outer <= 1 - mask)
    assert torch.equal(inner + outer, morphology.gradient(mask, 3, edge="both"))


def test_gradient_draws_nothing_at_image_border() -> None:
    assert morphology.gradient(torch.ones(1, 9, 7), 5).max() == 0


def test_gradient_size_list_repeats_last_entry() -> None:
    mask = random_masks(4, 20, 30)
    expected = torch.cat([morphology.gradient(mask[i : i + 1], size) for i, size in enumerate((3, 7, 7, 7))])
    assert torch.equal(morphology.gradient(mask, [3, 7]), expected)
    assert torch.equal(morphology.gradient(mask, (3, 7, 7.0)), expected)


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (0, "kernel_size is 0"),
        (-3, "kernel_size is -3"),
        (2.5, "2.5"),
        (float("nan"), "nan"),
        ("3", "'3'"),
        (None, "None"),
        (True, "True"),
        (65536, "kernel_size is 65536, which is out of range. Use a whole number from 1 to 65535"),
        (10**400, r"kernel_size is 1000.*\.\.\..*out of range"),
        ([], "list of 0 sizes for 2 masks"),
        ([3, 3, 3], "list of 3 sizes for 2 masks"),
        ([3, 0], r"kernel_size\[1\] is 0"),
    ],
)
def test_gradient_rejects_invalid_size(size: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        morphology.gradient(torch.zeros(2, 4, 4), size)


@pytest.mark.parametrize("shape", morphology.SHAPES)
def test_dilate_and_erode_limit_element_to_image(shape: str) -> None:
    mask = random_masks(1, 9, 7)
    for size in (morphology.MAX_SIZE, 999.0):
        assert torch.equal(morphology.dilate(mask, size, shape), morphology.dilate(mask, 41, shape))
        assert torch.equal(morphology.erode(mask, size, shape), morphology.erode(mask, 41, shape))


def force_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use three threads, regardless of mask size and number of cores."""
    monkeypatch.setattr(morphology, "_PIXELS_PER_THREAD", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)


@pytest.mark.parametrize("in_threads", (False, True))
def test_gradient_progress_counts_masks_and_interrupts(monkeypatch: pytest.MonkeyPatch, in_threads: bool) -> None:
    if in_threads:
        force_threads(monkeypatch)

    class Stop(BaseException):
        pass

    class StopAfterTwo:
        count_so_far = 0

        def step(self, count: int = 1) -> None:
            self.count_so_far += count
            if self.count_so_far == 2:
                raise Stop

    progress = StopAfterTwo()
    with pytest.raises(Stop):
        morphology.gradient(random_masks(5, 8, 8), 3, progress=progress)
    assert progress.count_so_far == 2


def test_gradient_rejects_unknown_shape_and_edge() -> None:
    with pytest.raises(InputError, match="shape is 'disc'.*ellipse"):
        morphology.gradient(torch.zeros(1, 4, 4), 3, shape="disc")
    with pytest.raises(InputError, match="edge is 'left'.*outer"):
        morphology.gradient(torch.zeros(1, 4, 4), 3, edge="left")


@given(
    batch=st.integers(1, 3),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    size=st.integers(1, 45),
    shape=st.sampled_from(morphology.SHAPES),
    edge=st.sampled_from(morphology.EDGES),
    seed=st.integers(0, 1000),
)
def test_gradient_properties(batch: int, height: int, width: int, size: int, shape: str, edge: str, seed: int) -> None:
    mask = random_masks(batch, height, width, seed=seed)
    original = mask.clone()
    result = morphology.gradient(mask, size, shape, edge)
    assert result.shape == mask.shape
    assert result.dtype == torch.float32
    assert result.min() >= 0 and result.max() <= 1
    assert torch.equal(mask, original), "changed in place"
    singles = torch.cat([morphology.gradient(mask[i : i + 1], size, shape, edge) for i in range(batch)])
    assert torch.equal(result, singles)


@pytest.mark.parametrize("in_threads", (False, True))
def test_gradient_has_no_seams_between_bands(monkeypatch: pytest.MonkeyPatch, in_threads: bool) -> None:
    mask = random_masks(2, 97, 41)
    whole = {shape: morphology.gradient(mask, 7, shape) for shape in morphology.SHAPES}
    monkeypatch.setattr(morphology, "_CPU_PIXELS", 1)
    if in_threads:
        force_threads(monkeypatch)
    for shape, expected in whole.items():
        assert torch.equal(morphology.gradient(mask, 7, shape), expected)


def test_gradient_accepts_strided_views() -> None:
    wide = random_masks(2, 30, 40)
    view = wide[:, ::2, 5:35].transpose(1, 2)  # [2,30,15], neither contiguous nor starting at 0
    assert torch.equal(morphology.gradient(view, 5), morphology.gradient(view.contiguous(), 5))


@pytest.mark.parametrize("shape", morphology.SHAPES)
@pytest.mark.parametrize("size", (1, 2, 5, 31, 90))
def test_gradient_ignores_uninitialized_memory(monkeypatch: pytest.MonkeyPatch, size: int, shape: str) -> None:
    mask = random_masks(2, 33, 47)
    expected = morphology.gradient(mask, size, shape)
    monkeypatch.setattr(morphology, "_flat_buffer", lambda like, length: np.full(length, np.nan, np.float32))
    assert torch.equal(morphology.gradient(mask, size, shape), expected)


@pytest.mark.parametrize("shape", morphology.SHAPES)
@pytest.mark.parametrize("size", (1, 2, 5, 31))
def test_band_torch_matches_numpy(size: int, shape: str) -> None:
    mask = random_masks(3, 33, 47)
    band = morphology._Band(
        mask, 0, mask.shape[1], morphology._Element(size, shape)
    )  # the code path of accelerators, on the CPU
    assert torch.equal(band.maximum().clone() - band.minimum(), morphology.gradient(mask, size, shape))


def test_combine() -> None:
    first, second = torch.tensor([[[0.2, 0.5, 0.9]]]), torch.tensor([[[0.6, 0.5, 0.3]]])
    for combination, expected in {
        "union": [0.6, 0.5, 0.9],
        "intersection": [0.2, 0.5, 0.3],
        "difference": [0.0, 0.0, 0.6],
        "sum": [0.8, 1.0, 1.0],
    }.items():
        result = masks.combine(first, second, combination)
        torch.testing.assert_close(result, torch.tensor([[expected]]))
    many = first.expand(4, -1, -1)
    assert torch.equal(masks.combine(many, second, "union"), masks.combine(first, second, "union").expand(4, -1, -1))


def test_combine_rejects_invalid_input() -> None:
    mask = torch.zeros(2, 4, 4)
    with pytest.raises(InputError, match=r"\[2, 4, 4\] and \[2, 4, 5\]"):
        masks.combine(mask, torch.zeros(2, 4, 5), "union")
    with pytest.raises(InputError, match=r"\[2, 4, 4\] and \[3, 4, 4\]"):
        masks.combine(mask, torch.zeros(3, 4, 4), "union")
    with pytest.raises(InputError, match=r"combination is 'xor'.*union"):
        masks.combine(mask, mask, "xor")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_gradient_cuda_launches_do_not_grow_with_batch() -> None:
    mask = random_masks(4, 200, 300).to(device="cuda")

    def launches(batch: int) -> int:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            morphology.gradient(mask[:batch], 15)
            torch.cuda.synchronize()
        return sum(event.count for event in profile.key_averages() if "kernel" in event.key.lower())

    assert launches(4) == launches(1)
