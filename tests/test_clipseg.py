"""Text to mask, against golden arrays of the original nodes and against plain transformers.

The model is tiny and random: its selections are meaningless, but its numbers must match those of transformers.
"""

from __future__ import annotations

import copy
import gc
import logging
import weakref
from pathlib import Path

import numpy as np
import pytest
import tiny_clipseg
import torch
from fake_host import FakeHost
from maskwright.core import tensors
from maskwright.core.errors import InputError, ModelError
from maskwright.core.text import clipseg
from maskwright.core.text.query import Query, split_prompts
from maskwright.core.text.segment import NORMALIZATIONS, score, segment
from maskwright.core.text.selection import Selection, render_selection, select, stretch
from maskwright.core.text.tensor_cache import TensorCache
from maskwright.core.text.tiles import TiledInference, _tile_starts
from PIL import Image

GOLDEN = Path(__file__).parent / "golden"
NATIVE = tiny_clipseg.IMAGE_SIZE


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple:
    pytest.importorskip("transformers")
    return tiny_clipseg.make(tmp_path_factory.mktemp("tiny clipseg"))


@pytest.fixture(scope="module")
def segmenter(pair: tuple) -> clipseg.Segmenter:
    return clipseg.Segmenter(*pair)


@pytest.fixture(autouse=True)
def clear_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty the text cache for each test, and disable the image cache."""
    monkeypatch.setattr(clipseg, "_TEXT_CACHE", TensorCache(1_000_000))
    monkeypatch.setattr(clipseg, "_IMAGE_CACHE", TensorCache(0))


def random_image(*shape: int, seed: int = 0) -> torch.Tensor:
    """Images with coarse and fine structure, so that every filter has an effect."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(shape[0], 3, 4, 5, generator=generator)
    fine = torch.rand(shape[0], shape[3], *shape[1:3], generator=generator)
    fine[:, :3] = (
        0.7 * torch.nn.functional.interpolate(coarse, shape[1:3], mode="bicubic").clamp(0, 1) + 0.3 * fine[:, :3]
    )
    return tensors.bchw_to_image(fine)


def plain_logits(pair: tuple, image: torch.Tensor, text: str) -> torch.Tensor:
    """Plain transformers on 8-bit images, one at a time, as in the original nodes."""
    processor, model = pair
    rows = []
    for each in image:
        pil_image = Image.fromarray((each[..., :3].numpy() * 255).astype(np.uint8))
        inputs = processor(text=[text], images=pil_image, return_tensors="pt")
        with torch.no_grad():
            rows.append(model(**inputs).logits.reshape(1, *model_side(pair)))
    return torch.cat(rows)


def model_side(pair: tuple) -> tuple[int, int]:
    side = NATIVE // tiny_clipseg.PATCH * (tiny_clipseg.PATCH // 4) ** 2  # the decoder's two transposed convolutions
    return side, side


class Counter:
    def __init__(self) -> None:
        self.steps = 0

    def step(self, count: int = 1) -> None:
        self.steps += count


# Postprocessing


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


# The model


@pytest.mark.parametrize("shape", [(1, NATIVE, NATIVE, 3), (2, 97, 140, 3), (1, 30, 200, 4), (1, 40, 33, 3)])
@pytest.mark.parametrize("text", ["red circle", "", "a cat, two dogs"])
def test_decode_matches_transformers(
    pair: tuple, segmenter: clipseg.Segmenter, shape: tuple[int, ...], text: str
) -> None:
    image = random_image(*shape)
    with torch.no_grad():
        activations = segmenter.encode_image(segmenter.preprocess(image, NATIVE))
        logits = segmenter.decode(activations, segmenter.encode_text(text))
    torch.testing.assert_close(logits, plain_logits(pair, image, text), atol=1e-4, rtol=0)


def test_score_matches_transformers_and_original_node(pair: tuple, segmenter: clipseg.Segmenter) -> None:
    image = random_image(3, 90, 70, 4)
    result = score(image, segmenter, Query("cat")).masks
    for each, logits in zip(result, plain_logits(pair, image, "cat")):
        p = logits.sigmoid()
        gray = Image.fromarray((((p - p.min()) / p.max()).numpy() * 255).astype(np.uint8)).resize((70, 90))
        np.testing.assert_allclose(each.numpy() * 255, np.asarray(gray), atol=2)


def test_segment_matches_transformers_and_original_node(pair: tuple, segmenter: clipseg.Segmenter) -> None:
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
def test_score_and_segment_any_image_size(segmenter: clipseg.Segmenter, size: tuple[int, int]) -> None:
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
def test_score_and_segment_batch_equals_singles(segmenter: clipseg.Segmenter, resolution: int) -> None:
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
    expected = segment(image, clipseg.Segmenter(*pair), Query("hair|face"))[:2]
    with torch.inference_mode():
        segmenter = clipseg.Segmenter(pair[0], clipseg.copy_with_dtype(pair[1], torch.float32))
        inside = segment(image, segmenter, Query("hair|face"))[:2]
    for one, other in zip(inside, expected):
        assert torch.equal(one, other)
    assert torch.equal(segment(image, segmenter, Query("hair|face"))[:2][0], expected[0])


def test_segment_ignores_alpha(segmenter: clipseg.Segmenter) -> None:
    image = random_image(1, 50, 60, 4)
    query = Query("cat")
    for rgba, opaque in zip(segment(image, segmenter, query)[:2], segment(image[..., :3], segmenter, query)[:2]):
        assert torch.equal(rgba, opaque)


# Queries


@pytest.mark.parametrize(
    ("text", "prompts"),
    [
        ("cat", ["cat"]),
        ("cat, dog", ["cat, dog"]),
        ("cat | dog|  red hat ", ["cat", "dog", "red hat"]),
        ("|cat||dog|", ["cat", "dog"]),
        ("", [""]),
        ("  ", [""]),
        (" | |", [""]),
        (None, [""]),
    ],
)
def test_split_prompts(text: str | None, prompts: list[str]) -> None:
    assert split_prompts(text) == prompts


def probabilities(segmenter: clipseg.Segmenter, image: torch.Tensor, *query: object) -> torch.Tensor:
    return score(image, segmenter, Query(*query), "none").masks


def test_score_of_several_prompts_is_their_maximum(segmenter: clipseg.Segmenter) -> None:
    image = random_image(1, *[NATIVE // 2] * 2, 3)  # the logits' size, so that nothing is resized
    cat, dog = (probabilities(segmenter, image, text) for text in ("cat", "dog"))
    both = probabilities(segmenter, image, "cat|dog")
    assert ((cat > dog).any() and (dog > cat).any()) and not torch.equal(cat, dog)
    torch.testing.assert_close(both, torch.maximum(cat, dog))
    assert not torch.allclose(probabilities(segmenter, image, "cat, dog"), both)


def test_score_subtracts_negative_text(segmenter: clipseg.Segmenter) -> None:
    image = random_image(1, *[NATIVE // 2] * 2, 3)
    cat, dog, sky = (probabilities(segmenter, image, text) for text in ("cat", "dog", "sky"))
    torch.testing.assert_close(probabilities(segmenter, image, "cat", "dog"), (cat - dog).clamp(0))
    torch.testing.assert_close(
        probabilities(segmenter, image, "cat", "dog | sky"), (cat - torch.maximum(dog, sky)).clamp(0)
    )
    assert torch.equal(probabilities(segmenter, image, "cat", " | "), cat)
    assert probabilities(segmenter, image, "cat", "cat").max() == 0
    mask, heat_map = segment(image, segmenter, Query("cat", "cat"))[:2]
    assert mask.max() == 0 and torch.equal(heat_map, image)


def test_score_without_normalization_returns_probabilities(pair: tuple, segmenter: clipseg.Segmenter) -> None:
    image = random_image(1, *[NATIVE // 2] * 2, 3)
    expected = plain_logits(pair, image, "cat").sigmoid()
    torch.testing.assert_close(probabilities(segmenter, image, "cat"), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (("cat", "", 360), "resolution is 360, which is not a multiple of 32.*Use 352"),
        (("cat", "", 320), "resolution is 320"),
        (("cat", "", 4096), "resolution is 4096"),
        (("cat", "", 400.5), r"400\.5"),
        ((3,), "text is of type int"),
        (("cat", ["dog"]), "negative_text is of type list"),
    ],
)
def test_query_rejects_invalid_values(query: tuple, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Query(*query)


def test_score_rejects_unknown_normalization(segmenter: clipseg.Segmenter) -> None:
    with pytest.raises(InputError, match=r"normalization is 'minmax'.*stretch, none"):
        score(random_image(1, 8, 8, 3), segmenter, Query("cat"), "minmax")


# Caches


@pytest.fixture
def encoded_texts(pair: tuple, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry per run of the text tower."""
    calls: list[int] = []
    text_model = pair[1].clip.text_model
    forward = text_model.forward
    monkeypatch.setattr(text_model, "forward", lambda *a, **k: (calls.append(1), forward(*a, **k))[1])
    return calls


def test_encode_text_caches_embeddings(pair: tuple, encoded_texts: list[int]) -> None:
    image = random_image(3, 20, 20, 3)
    for _ in range(2):
        score(image, clipseg.Segmenter(*pair), Query("cat | dog", "cat"))
    assert len(encoded_texts) == 2
    score(image, clipseg.Segmenter(*pair), Query("sky"))
    assert len(encoded_texts) == 3


@pytest.fixture
def tower_batches(pair: tuple, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The batch size of each run of the vision tower."""
    calls: list[int] = []
    embeddings = pair[1].clip.vision_model.embeddings
    forward = embeddings.forward
    monkeypatch.setattr(embeddings, "forward", lambda x, **k: (calls.append(len(x)), forward(x, **k))[1])
    return calls


def test_encode_image_caches_activations(
    pair: tuple, tower_batches: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clipseg, "_IMAGE_CACHE", TensorCache(1_000_000))
    image = random_image(3, 20, 20, 3)
    segmenter = clipseg.Segmenter(*pair)
    segment(image[:2], segmenter, Query("cat"))
    assert sum(tower_batches) == 2
    cached = segment(image, segmenter, Query("dog | sky", "cat"), Selection(threshold=0.1))[:2]
    assert sum(tower_batches) == 3  # the third image is new
    monkeypatch.setattr(clipseg, "_IMAGE_CACHE", TensorCache(0))
    uncached = segment(image, segmenter, Query("dog | sky", "cat"), Selection(threshold=0.1))[:2]
    assert sum(tower_batches) == 6
    for one, other in zip(cached, uncached):
        assert torch.equal(one, other)
    score(image, segmenter, Query("cat", "", 704))
    assert sum(tower_batches) == 9  # the input size differs


def test_encode_image_runs_only_new_images_of_a_batch(
    pair: tuple, tower_batches: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clipseg, "_IMAGE_CACHE", TensorCache(1_000_000))
    segmenter = clipseg.Segmenter(*pair)
    pixel_values = segmenter.preprocess(random_image(4, 20, 20, 3), NATIVE)
    with torch.no_grad():
        alone = [segmenter.encode_image(pixel_values[number : number + 1]) for number in (2, 0)]
        together = segmenter.encode_image(pixel_values)
    assert tower_batches == [1, 1, 2]
    for layer in range(len(together)):
        assert torch.equal(together[layer][2:3], alone[0][layer])
        assert torch.equal(together[layer][:1], alone[1][layer])


def test_caches_do_not_outlive_the_model(pair: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clipseg, "_IMAGE_CACHE", TensorCache(1_000_000))
    model = clipseg.copy_with_dtype(pair[1], torch.float32)
    segmenter = clipseg.Segmenter(pair[0], model)
    score(random_image(2, 20, 20, 3), segmenter, Query("cat"))
    assert len(clipseg._TEXT_CACHE) == 1 and len(clipseg._IMAGE_CACHE) == 2
    dead = weakref.ref(model)
    del model, segmenter
    gc.collect()
    assert dead() is None
    assert len(clipseg._TEXT_CACHE) == 0 and len(clipseg._IMAGE_CACHE) == 0


def test_score_encodes_each_image_once(pair: tuple, tower_batches: list[int]) -> None:
    score(random_image(2, 20, 20, 3), clipseg.Segmenter(*pair), Query("cat|dog|sky", "face"))
    assert tower_batches == [1, 1]


@pytest.mark.parametrize(("layers", "extract_layers"), [(1, (0, 1, 2)), (4, (-2, 0, 1))])
def test_segmenter_rejects_missing_layers(pair: tuple, layers: int, extract_layers: tuple[int, ...]) -> None:
    model = tiny_clipseg.model(extract_layers=extract_layers)
    model.clip.vision_model.encoder.layers = model.clip.vision_model.encoder.layers[:layers]
    with pytest.raises(InputError, match=rf"reads the vision layers .* but has only {layers}"):
        clipseg.Segmenter(pair[0], model)


def test_encode_text_truncates_long_texts_with_warning(
    segmenter: clipseg.Segmenter, caplog: pytest.LogCaptureFixture
) -> None:
    image = random_image(1, 16, 16, 3)
    fits = " ".join(["red"] * (tiny_clipseg.MAX_TOKENS - 2))
    with caplog.at_level(logging.WARNING):
        expected = probabilities(segmenter, image, fits)
        assert not caplog.records
        assert torch.equal(probabilities(segmenter, image, fits + " green circle"), expected)
    assert "'green circle'" in caplog.text and "77" in caplog.text


# Resolution and tiles


def test_input_side_is_relative_to_native_size(segmenter: clipseg.Segmenter) -> None:
    assert segmenter.native_size == NATIVE
    assert [segmenter.input_side(Query("", "", r).scale) for r in (352, 704, 1056)] == [NATIVE, 2 * NATIVE, 3 * NATIVE]
    assert segmenter.input_side(384 / 352) == 72  # 69.8 pixels are 8.7 patches, rounded to 9


def test_predict_at_higher_resolution_matches_transformers(pair: tuple, segmenter) -> None:
    image = random_image(1, 2 * NATIVE, 2 * NATIVE, 3)
    query = Query("cat", "", 704)
    inputs = pair[0](text=["cat"], images=Image.new("RGB", (8, 8)), return_tensors="pt")
    inputs["pixel_values"] = segmenter.preprocess(image, 2 * NATIVE)
    with torch.no_grad():
        expected = pair[1](**inputs, interpolate_pos_encoding=True).logits.sigmoid()
    result = TiledInference(segmenter, query).predict(image)
    torch.testing.assert_close(result.view_as(expected), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("length", "tile"), [(3, 2), (6, 4), (66, 44), (128, 44), (23, 22), (44, 22)])
def test_tile_starts_cover_and_overlap(length: int, tile: int) -> None:
    starts = _tile_starts(length, tile)
    assert starts[0] == 0 and starts[-1] == length - tile
    assert all(0 < step <= tile - tile // 4 + 1 for step in np.diff(starts))


def test_predict_tiles_without_seams(segmenter: clipseg.Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    # A model whose logits are the brightness: the blended tiles must equal the whole.
    def brightness(activations: list[torch.Tensor], embedding: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(activations[0], 2)

    monkeypatch.setattr(segmenter, "encode_image", lambda pixel_values: [pixel_values.mean(1)])
    monkeypatch.setattr(segmenter, "decode", brightness)
    inference = TiledInference(segmenter, Query("cat", "", 1408))
    image = random_image(2, 4 * NATIVE, 4 * NATIVE, 3)
    assert (inference.side, inference.tile) == (4 * NATIVE, 2 * NATIVE)
    tiled = inference.predict(image)
    while inference._shrink_tiles():
        torch.testing.assert_close(inference.predict(image), tiled)
    assert inference.tile == NATIVE
    whole = brightness([segmenter.preprocess(image, 4 * NATIVE).mean(1)], None).sigmoid()
    torch.testing.assert_close(tiled, whole)


# Chunks


def test_score_and_segment_report_progress_per_image(segmenter: clipseg.Segmenter) -> None:
    counter = Counter()
    score(random_image(5, 8, 8, 3), segmenter, Query("cat|dog"), host=FakeHost(counter))
    assert counter.steps == 5
    segment(random_image(3, 8, 8, 3), segmenter, Query("cat|dog"), host=FakeHost(counter))
    assert counter.steps == 8


@pytest.mark.parametrize("fits", [1, 2, 3])
def test_score_out_of_memory_gives_same_results(pair: tuple, monkeypatch, fits: int) -> None:
    image = random_image(7, 20, 24, 3)
    query = Query("cat")
    segmenter = clipseg.Segmenter(*pair)
    expected = score(image, segmenter, query).masks
    encode_image = segmenter.encode_image

    def encode_limited(pixel_values: torch.Tensor) -> list[torch.Tensor]:
        if len(pixel_values) > fits:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return encode_image(pixel_values)

    monkeypatch.setattr(segmenter, "encode_image", encode_limited)
    monkeypatch.setattr(segmenter, "batch_size", lambda side: 8)
    counter = Counter()
    result = score(image, segmenter, query, host=FakeHost(counter)).masks
    torch.testing.assert_close(result, expected, atol=1 / 255 + 1e-6, rtol=0)
    assert counter.steps == 7


def test_score_out_of_memory_falls_back_to_tiles(pair: tuple, monkeypatch) -> None:
    segmenter = clipseg.Segmenter(*pair)
    encode_image, sides = segmenter.encode_image, []

    def encode_limited(pixel_values: torch.Tensor) -> list[torch.Tensor]:
        sides.append(pixel_values.shape[-1])
        if sides[-1] > NATIVE:
            raise MemoryError
        return encode_image(pixel_values)

    monkeypatch.setattr(segmenter, "encode_image", encode_limited)
    result = score(random_image(2, 30, 30, 3), segmenter, Query("cat", "", 704)).masks
    assert sides[0] == 2 * NATIVE and set(sides[1:]) == {NATIVE}
    assert result.isfinite().all() and result.max() > 0


def test_score_propagates_interrupts(segmenter: clipseg.Segmenter) -> None:
    class Interrupted(BaseException):
        pass

    class Interrupting(Counter):
        def step(self, count: int = 1) -> None:
            super().step(count)
            if self.steps == 2:
                raise Interrupted

    progress = Interrupting()
    with pytest.raises(Interrupted):
        score(random_image(9, 8, 8, 3), segmenter, Query("cat"), host=FakeHost(progress))
    assert progress.steps == 2


@pytest.mark.parametrize("negative", [False, True])
def test_score_interrupted_while_encoding_prompts(pair: tuple, monkeypatch, negative: bool) -> None:
    segmenter, encoded_texts = clipseg.Segmenter(*pair), []
    encode_text = segmenter.encode_text
    monkeypatch.setattr(segmenter, "encode_text", lambda prompt: encoded_texts.append(prompt) or encode_text(prompt))

    class Interrupted(BaseException):
        pass

    class Interrupting(Counter):
        def step(self, count: int = 1) -> None:
            assert count == 0
            if len(encoded_texts) == 3:
                raise Interrupted

    texts = ("cat", "red|blue|green|sky|dog") if negative else ("red|blue|green|sky|dog", "")
    with pytest.raises(Interrupted):
        score(random_image(1, 8, 8, 3), segmenter, Query(*texts), host=FakeHost(Interrupting()))
    assert len(encoded_texts) == 3


# Input checks


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image_mean", [0.5, 0.5]),
        ("image_std", "abc"),
        ("image_mean", 0.5),
        ("image_std", [0.5, 0, 0.5]),
        ("image_mean", [0.5, 10**400, 0.5]),
        ("rescale_factor", "x"),
        ("rescale_factor", -1.0),
        ("size", {"height": 10**9, "width": 10**9}),
        ("size", {"longest_edge": 64}),
        ("resample", [2]),
    ],
)
def test_segmenter_rejects_invalid_image_settings(pair: tuple, monkeypatch, name: str, value) -> None:
    monkeypatch.setattr(pair[0].image_processor, name, value)
    with pytest.raises(InputError, match=f"the CLIPSeg processor's {name} is "):
        clipseg.Segmenter(*pair)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("CIDAS/clipseg-rd64-refined", "clipseg_model is of type str, not a pair"),
        ((1,), "clipseg_model is of type tuple of length 1, not a pair"),
        ((1, 2), "the processor in clipseg_model is of type int, not a CLIPSeg processor"),
    ],
)
def test_check_clipseg_model_rejects_other_values(value: object, message: str) -> None:
    with pytest.raises(InputError, match=f"{message}.*as loaded by transformers"):
        clipseg.check_clipseg_model(value)


def test_check_clipseg_model_rejects_swapped_pair(pair: tuple) -> None:
    with pytest.raises(InputError, match="processor in clipseg_model is of type CLIPSegForImageSegmentation"):
        clipseg.check_clipseg_model(pair[::-1])
    with pytest.raises(InputError, match="model in clipseg_model is of type CLIPSegProcessor"):
        clipseg.check_clipseg_model((pair[0], pair[0]))
    assert clipseg.check_clipseg_model(list(pair)) == pair


def test_copy_with_dtype_keeps_decoder_and_original(pair: tuple) -> None:
    original = {name: value.clone() for name, value in pair[1].state_dict().items()}
    half = clipseg.copy_with_dtype(pair[1], torch.bfloat16)
    image = random_image(2, 40, 40, 3)
    exact = score(image, clipseg.Segmenter(*pair), Query("cat"), "none").masks
    rough = score(image, clipseg.Segmenter(pair[0], half), Query("cat"), "none").masks
    assert rough.dtype == torch.float32
    assert (exact - rough).abs().max() < 0.1
    for name, value in pair[1].state_dict().items():
        assert value.dtype == original[name].dtype and torch.equal(value, original[name])


# Errors and interrupts


def test_score_and_segment_reject_nan(pair: tuple) -> None:
    processor, model = pair[0], copy.deepcopy(pair[1])
    model.clip.vision_model.embeddings.patch_embedding.weight.data.fill_(float("nan"))
    broken = clipseg.Segmenter(processor, model)
    for run in (score, segment):
        with pytest.raises(ModelError, match="NaN"):
            run(random_image(1, 40, 40, 3), broken, Query("cat"))


def test_query_rejects_lone_surrogates() -> None:
    with pytest.raises(InputError, match="not a valid character"):
        Query("a \ud800 cat")


def test_score_interrupted_between_tiles(segmenter: clipseg.Segmenter) -> None:
    class Stop(BaseException):
        pass

    class StopAtThird:
        calls = 0

        def step(self, count: int = 1) -> None:
            assert count == 0, "no image is finished yet"
            self.calls += 1
            if self.calls == 3:
                raise Stop

    progress = StopAtThird()
    with pytest.raises(Stop):
        score(random_image(1, 40, 40, 3), segmenter, Query("cat", "", 1056), host=FakeHost(progress))
    assert progress.calls == 3
