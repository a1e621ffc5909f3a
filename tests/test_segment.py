"""Text to mask, against golden arrays of the original nodes and against plain transformers.

The model is tiny and random: its selections are meaningless, but its numbers must match those of transformers.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_clipseg
import torch
from clipseg_cases import plain_logits, probabilities, random_image
from maskwright.core import tensors
from maskwright.core.errors import InputError
from maskwright.core.text import clipseg_engine
from maskwright.core.text.query import Query
from maskwright.core.text.segment import (
    NORMALIZATIONS,
    Selection,
    apply_color_map,
    render_selection,
    score,
    segment,
    select,
    stretch,
)
from PIL import Image

GOLDEN = Path(__file__).parent / "golden"
NATIVE = tiny_clipseg.IMAGE_SIZE

pytestmark = pytest.mark.usefixtures("clear_clipseg_caches")


@pytest.mark.parametrize("case", range(3))
def test_stretch_matches_original_node(case: int) -> None:
    golden = np.load(GOLDEN / "clipseg_masking.npz")
    width, height = golden[f"size{case}"].tolist()
    result = stretch(torch.from_numpy(golden[f"logits{case}"]).sigmoid(), height, width)
    np.testing.assert_allclose(result.numpy() * 255, golden[f"mask{case}"], atol=1.0)
    np.testing.assert_allclose(tensors.mask_to_image(result).numpy() * 255, golden[f"mask_image{case}"], atol=1.0)


@pytest.mark.parametrize("case", range(5))
def test_select_matches_original_node(case: int) -> None:
    golden = np.load(GOLDEN / "clipseg.npz")
    image = torch.from_numpy(golden[f"image{case}"]).unsqueeze(0) / 255
    blur, threshold, dilation = golden[f"params{case}"].tolist()
    probabilities = torch.from_numpy(golden[f"logits{case}"]).unsqueeze(0).sigmoid()
    selection = select(probabilities, Selection(blur, threshold, int(dilation)))
    mask, heat_map = render_selection(image, selection)
    np.testing.assert_allclose(mask.numpy() * 255, golden[f"mask{case}"], atol=1.0)
    np.testing.assert_allclose(tensors.mask_to_image(mask).numpy() * 255, golden[f"bw{case}"], atol=1.0)
    if case == 2:  # nothing above the threshold: the original node divided 0 by 0
        assert mask.max() == 0
        assert torch.equal(heat_map, image)
    else:
        np.testing.assert_allclose(heat_map.numpy() * 255, golden[f"heatmap{case}"], atol=1.0)


def test_select_of_uniform_probabilities() -> None:
    levels = torch.tensor([0.2, 0.9, 1.0]).view(3, 1, 1).expand(3, 30, 40)
    selection = select(levels, Selection(blur=3.0, threshold=0.5, dilation_factor=4))
    assert selection[0].max() == 0
    assert selection[1:].min() == 1
    assert stretch(torch.zeros(1, 8, 8), 8, 8).max() == 0


def test_select_scales_blur_and_dilation() -> None:
    small = torch.zeros(1, 88, 88)
    small[:, 30:60, 20:50] = 0.9
    large = small.repeat_interleave(2, 1).repeat_interleave(2, 2)
    selection = Selection(2.0, 0.3, 3)
    one = select(small, selection)
    two = torch.nn.functional.avg_pool2d(select(large, selection, scale=2.0), 2)
    assert (one - two).abs().max() < 0.05
    assert (one - torch.nn.functional.avg_pool2d(select(large, selection), 2)).abs().max() > 0.3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1, 0.3, 4), "blur is -1"),
        ((float("nan"), 0.3, 4), "blur is nan"),
        ((3, 1.5, 4), "threshold is 1.5"),
        ((3, 0.3, -4), "dilation_factor is -4"),
        ((3, 0.3, 4.5), "dilation_factor is 4.5"),
    ],
)
def test_selection_rejects_invalid_numbers(arguments: tuple, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Selection(*arguments)


def test_select_with_dilation_wider_than_image() -> None:
    mask = torch.zeros(1, 20, 30)
    mask[0, 0, 0] = 1
    assert select(mask, Selection(0, 0.5, 100)).min() == 1
    assert select(mask, Selection(0, 0.5, 10**9)).min() == 1


def test_score_matches_transformers_and_original_node(pair: tuple, segmenter: clipseg_engine.Segmenter) -> None:
    image = random_image(3, 90, 70, 4)
    result = score(image, segmenter, Query("cat")).masks
    for each, logits in zip(result, plain_logits(pair, image, "cat")):
        p = logits.sigmoid()
        gray = Image.fromarray((((p - p.min()) / p.max()).numpy() * 255).astype(np.uint8)).resize((70, 90))
        np.testing.assert_allclose(each.numpy() * 255, np.asarray(gray), atol=2)


def test_segment_matches_transformers_and_original_node(pair: tuple, segmenter: clipseg_engine.Segmenter) -> None:
    cv2, ndimage = pytest.importorskip("cv2"), pytest.importorskip("scipy.ndimage")
    matplotlib = pytest.importorskip("matplotlib")
    image = random_image(2, 90, 70, 3)
    masks, heat_maps = segment(image, segmenter, Query("dog"), Selection(1.5, 0.2, 2))[:2]
    for each_image, mask, heat_map, logits in zip(image, masks, heat_maps, plain_logits(pair, image, "dog")):
        p = logits.sigmoid().numpy()
        assert (p > 0.2).any() and (p <= 0.2).any()
        smooth = ndimage.gaussian_filter(np.where(p > 0.2, p, 0), sigma=1.5)
        smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
        dilated = cv2.dilate(smooth, np.ones((5, 5), np.uint8))

        def apply_colors(name: str, dilated: np.ndarray = dilated) -> np.ndarray:
            return cv2.resize((matplotlib.colormaps[name](dilated)[..., :3] * 255).astype(np.uint8), (70, 90))

        np.testing.assert_allclose(mask.numpy() * 255, apply_colors("Greys_r")[..., 0], atol=2)
        expected = cv2.addWeighted((each_image.numpy() * 255).astype(np.uint8), 0.5, apply_colors("viridis"), 0.5, 0)
        np.testing.assert_allclose(heat_map.numpy() * 255, expected, atol=2)


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (7, 3), (200, 90)])
def test_score_and_segment_any_image_size(segmenter: clipseg_engine.Segmenter, size: tuple[int, int]) -> None:
    image = random_image(2, *size, 3)
    for normalization in NORMALIZATIONS:
        result = score(image, segmenter, Query("cat"), normalization).masks
        assert result.shape == (2, *size)
        assert result.isfinite().all() and result.min() >= 0 and result.max() <= 1
    mask, heat_map = segment(image, segmenter, Query("cat"))[:2]
    assert (mask.shape, heat_map.shape) == ((2, *size), (2, *size, 3))
    for result in (mask, heat_map):
        assert result.isfinite().all() and result.min() >= 0 and result.max() <= 1


@pytest.mark.parametrize("resolution", [352, 704, 1056])
def test_score_and_segment_batch_equals_singles(segmenter: clipseg_engine.Segmenter, resolution: int) -> None:
    image = random_image(3, 60, 80, 4)
    original = image.clone()
    query = Query("cat|dog", "sky", resolution)
    batch = (score(image, segmenter, query).masks, *segment(image, segmenter, query)[:2])
    singles = [(score(each, segmenter, query).masks, *segment(each, segmenter, query)[:2]) for each in image.split(1)]
    for whole, parts in zip(batch, zip(*singles)):
        assert torch.equal(whole, torch.cat(parts))
    assert torch.equal(image, original)


def test_segment_in_inference_mode(pair: tuple) -> None:
    image = random_image(3, 30, 40, 3)
    expected = segment(image, clipseg_engine.Segmenter(*pair), Query("hair|face"))[:2]
    with torch.inference_mode():
        segmenter = clipseg_engine.Segmenter(pair[0], clipseg_engine.copy_with_dtype(pair[1], torch.float32))
        inside = segment(image, segmenter, Query("hair|face"))[:2]
    for one, other in zip(inside, expected):
        assert torch.equal(one, other)
    assert torch.equal(segment(image, segmenter, Query("hair|face"))[:2][0], expected[0])


def test_segment_ignores_alpha(segmenter: clipseg_engine.Segmenter) -> None:
    image = random_image(1, 50, 60, 4)
    query = Query("cat")
    for rgba, opaque in zip(segment(image, segmenter, query)[:2], segment(image[..., :3], segmenter, query)[:2]):
        assert torch.equal(rgba, opaque)


def test_score_without_normalization_returns_probabilities(pair: tuple, segmenter: clipseg_engine.Segmenter) -> None:
    image = random_image(1, *[NATIVE // 2] * 2, 3)
    expected = plain_logits(pair, image, "cat").sigmoid()
    torch.testing.assert_close(probabilities(segmenter, image, "cat"), expected, atol=1e-4, rtol=0)


def test_score_rejects_unknown_normalization(segmenter: clipseg_engine.Segmenter) -> None:
    with pytest.raises(InputError, match=r"normalization is 'minmax'.*stretch, none"):
        score(random_image(1, 8, 8, 3), segmenter, Query("cat"), "minmax")


# Color maps and overlays, against matplotlib and OpenCV


@pytest.mark.parametrize(("name", "matplotlib_name"), [("viridis", "viridis"), ("greys", "Greys_r")])
def test_apply_color_map_matches_matplotlib(name: str, matplotlib_name: str) -> None:
    matplotlib = pytest.importorskip("matplotlib")
    mask = torch.cat([torch.linspace(0, 1, 4000), torch.arange(257) / 256]).view(1, 1, -1)
    expected = (matplotlib.colormaps[matplotlib_name](mask[0, 0].numpy())[:, :3] * 255).astype(np.uint8)
    np.testing.assert_array_equal((apply_color_map(mask, name)[0, 0] * 255).round().numpy(), expected)


def test_apply_color_map_greys_brighten_from_black_to_white() -> None:
    colors = apply_color_map(torch.linspace(0, 1, 1000).view(1, 10, 100), "greys")
    assert torch.equal(colors, colors[..., :1].expand(-1, -1, -1, 3))
    assert (colors[..., 0].flatten().diff() >= 0).all()
    assert (colors.min(), colors.max()) == (0, 1)


def test_apply_color_map_rejects_unknown_name() -> None:
    with pytest.raises(InputError, match=r"color map is 'jet'.*viridis"):
        apply_color_map(torch.zeros(1, 2, 2), "jet")


def test_render_selection_blends_and_drops_alpha() -> None:
    image, selection = torch.rand(2, 5, 6, 4), torch.rand(2, 5, 6)
    original = image.clone()
    expected = (image[..., :3] + apply_color_map(selection, "viridis")) / 2
    torch.testing.assert_close(render_selection(image, selection)[1], expected)
    assert torch.equal(image, original)


def test_render_selection_matches_opencv() -> None:
    cv2 = pytest.importorskip("cv2")
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (1, 70, 90, 3), generator=generator) / 255
    mask = torch.rand(1, 31, 47, generator=generator)
    colors = cv2.resize((apply_color_map(mask, "viridis")[0] * 255).round().byte().numpy(), (90, 70))
    expected = cv2.addWeighted((image[0] * 255).round().byte().numpy(), 0.5, colors, 0.5, 0)
    np.testing.assert_allclose(render_selection(image, mask)[1][0].numpy() * 255, expected, atol=1.0)


def test_render_selection_keeps_images_of_empty_masks() -> None:
    image = torch.rand(2, 8, 9, 3)
    mask = torch.zeros(2, 4, 4)
    mask[1, 2, 2] = 1
    result = render_selection(image, mask)[1]
    assert torch.equal(result[0], image[0])
    assert not torch.isclose(result[1], image[1]).all(dim=-1).any()
