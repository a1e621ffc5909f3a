"""The CLIPSeg engine against plain transformers, and its caches.

The model is tiny and random: its selections are meaningless, but its numbers must match those of transformers.
"""

from __future__ import annotations

import gc
import logging
import weakref
from pathlib import Path

import pytest
import tiny_clipseg
import torch
from clipseg_cases import plain_logits, probabilities, random_image
from maskwright.core.errors import InputError
from maskwright.core.text import clipseg_engine
from maskwright.core.text.clipseg_engine import TensorCache
from maskwright.core.text.query import Query
from maskwright.core.text.segment import (
    Selection,
    score,
    segment,
)

GOLDEN = Path(__file__).parent / "golden"
NATIVE = tiny_clipseg.IMAGE_SIZE

pytestmark = pytest.mark.usefixtures("clear_clipseg_caches")


@pytest.mark.parametrize("shape", [(1, NATIVE, NATIVE, 3), (2, 97, 140, 3), (1, 30, 200, 4), (1, 40, 33, 3)])
@pytest.mark.parametrize("text", ["red circle", "", "a cat, two dogs"])
def test_decode_matches_transformers(
    pair: tuple, segmenter: clipseg_engine.Segmenter, shape: tuple[int, ...], text: str
) -> None:
    image = random_image(*shape)
    with torch.no_grad():
        activations = segmenter.encode_image(segmenter.preprocess(image, NATIVE))
        logits = segmenter.decode(activations, segmenter.encode_text(text))
    torch.testing.assert_close(logits, plain_logits(pair, image, text), atol=1e-4, rtol=0)


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
        score(image, clipseg_engine.Segmenter(*pair), Query("cat | dog", "cat"))
    assert len(encoded_texts) == 2
    score(image, clipseg_engine.Segmenter(*pair), Query("sky"))
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
    monkeypatch.setattr(clipseg_engine, "_IMAGE_CACHE", TensorCache(1_000_000))
    image = random_image(3, 20, 20, 3)
    segmenter = clipseg_engine.Segmenter(*pair)
    segment(image[:2], segmenter, Query("cat"))
    assert sum(tower_batches) == 2
    cached = segment(image, segmenter, Query("dog | sky", "cat"), Selection(threshold=0.1))[:2]
    assert sum(tower_batches) == 3  # the third image is new
    monkeypatch.setattr(clipseg_engine, "_IMAGE_CACHE", TensorCache(0))
    uncached = segment(image, segmenter, Query("dog | sky", "cat"), Selection(threshold=0.1))[:2]
    assert sum(tower_batches) == 6
    for one, other in zip(cached, uncached):
        assert torch.equal(one, other)
    score(image, segmenter, Query("cat", "", 704))
    assert sum(tower_batches) == 9  # the input size differs


def test_encode_image_runs_only_new_images_of_a_batch(
    pair: tuple, tower_batches: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clipseg_engine, "_IMAGE_CACHE", TensorCache(1_000_000))
    segmenter = clipseg_engine.Segmenter(*pair)
    pixel_values = segmenter.preprocess(random_image(4, 20, 20, 3), NATIVE)
    with torch.no_grad():
        alone = [segmenter.encode_image(pixel_values[number : number + 1]) for number in (2, 0)]
        together = segmenter.encode_image(pixel_values)
    assert tower_batches == [1, 1, 2]
    for layer in range(len(together)):
        assert torch.equal(together[layer][2:3], alone[0][layer])
        assert torch.equal(together[layer][:1], alone[1][layer])


def test_caches_do_not_outlive_the_model(pair: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clipseg_engine, "_IMAGE_CACHE", TensorCache(1_000_000))
    model = clipseg_engine.copy_with_dtype(pair[1], torch.float32)
    segmenter = clipseg_engine.Segmenter(pair[0], model)
    score(random_image(2, 20, 20, 3), segmenter, Query("cat"))
    assert len(clipseg_engine._TEXT_CACHE) == 1 and len(clipseg_engine._IMAGE_CACHE) == 2
    dead = weakref.ref(model)
    del model, segmenter
    gc.collect()
    assert dead() is None
    assert len(clipseg_engine._TEXT_CACHE) == 0 and len(clipseg_engine._IMAGE_CACHE) == 0


def test_score_encodes_each_image_once(pair: tuple, tower_batches: list[int]) -> None:
    score(random_image(2, 20, 20, 3), clipseg_engine.Segmenter(*pair), Query("cat|dog|sky", "face"))
    assert tower_batches == [1, 1]


@pytest.mark.parametrize(("layers", "extract_layers"), [(1, (0, 1, 2)), (4, (-2, 0, 1))])
def test_segmenter_rejects_missing_layers(pair: tuple, layers: int, extract_layers: tuple[int, ...]) -> None:
    model = tiny_clipseg.model(extract_layers=extract_layers)
    model.clip.vision_model.encoder.layers = model.clip.vision_model.encoder.layers[:layers]
    with pytest.raises(InputError, match=rf"reads the vision layers .* but has only {layers}"):
        clipseg_engine.Segmenter(pair[0], model)


def test_encode_text_truncates_long_texts_with_warning(
    segmenter: clipseg_engine.Segmenter, caplog: pytest.LogCaptureFixture
) -> None:
    image = random_image(1, 16, 16, 3)
    fits = " ".join(["red"] * (tiny_clipseg.MAX_TOKENS - 2))
    with caplog.at_level(logging.WARNING):
        expected = probabilities(segmenter, image, fits)
        assert not caplog.records
        assert torch.equal(probabilities(segmenter, image, fits + " green circle"), expected)
    assert "'green circle'" in caplog.text and "77" in caplog.text


def test_input_side_is_relative_to_native_size(segmenter: clipseg_engine.Segmenter) -> None:
    assert segmenter.native_size == NATIVE
    assert [segmenter.input_side(Query("", "", r).scale) for r in (352, 704, 1056)] == [NATIVE, 2 * NATIVE, 3 * NATIVE]
    assert segmenter.input_side(384 / 352) == 72  # 69.8 pixels are 8.7 patches, rounded to 9


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
        clipseg_engine.Segmenter(*pair)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("CIDAS/clipseg-rd64-refined", "clipseg_model is of type str, not a pair"),
        ((1,), "clipseg_model is of type tuple of length 1, not a pair"),
        ((1, 2), "the processor in clipseg_model is of type int, not a CLIPSeg processor"),
    ],
)
def test_make_segmenter_rejects_other_values(value: object, message: str) -> None:
    with pytest.raises(InputError, match=f"{message}.*as loaded by transformers"):
        clipseg_engine.make_segmenter(value)


def test_make_segmenter_rejects_swapped_pair(pair: tuple) -> None:
    with pytest.raises(InputError, match="processor in clipseg_model is of type CLIPSegForImageSegmentation"):
        clipseg_engine.make_segmenter(pair[::-1])
    with pytest.raises(InputError, match="model in clipseg_model is of type CLIPSegProcessor"):
        clipseg_engine.make_segmenter((pair[0], pair[0]))
    assert clipseg_engine.make_segmenter(list(pair)).native_size == NATIVE


def test_copy_with_dtype_keeps_decoder_and_original(pair: tuple) -> None:
    original = {name: value.clone() for name, value in pair[1].state_dict().items()}
    half = clipseg_engine.copy_with_dtype(pair[1], torch.bfloat16)
    image = random_image(2, 40, 40, 3)
    exact = score(image, clipseg_engine.Segmenter(*pair), Query("cat"), "none").masks
    rough = score(image, clipseg_engine.Segmenter(pair[0], half), Query("cat"), "none").masks
    assert rough.dtype == torch.float32
    assert (exact - rough).abs().max() < 0.1
    for name, value in pair[1].state_dict().items():
        assert value.dtype == original[name].dtype and torch.equal(value, original[name])


# The cache of tensors: least recently used, bounded, and tied to the model's life


def test_tensor_cache_evicts_least_recently_used() -> None:
    model, cache = torch.nn.Identity(), TensorCache(80)
    tensors = {key: torch.full((10,), float(ord(key))) for key in "ab"}  # 40 bytes each
    for key, tensor in tensors.items():
        cache.put(model, key, tensor)
    assert cache.get(model, "a") is tensors["a"]  # so "b" is the least recently used
    cache.put(model, "c", torch.zeros(10))
    assert cache.get(model, "b") is None
    assert cache.get(model, "a") is tensors["a"] and cache.get(model, "c") is not None


def test_tensor_cache_drops_tensors_above_limit() -> None:
    model, cache = torch.nn.Identity(), TensorCache(10)
    cache.put(model, 1, torch.zeros(100))
    assert cache.get(model, 1) is None and len(cache) == 0


def test_tensor_cache_entries_belong_to_one_model() -> None:
    one, other, cache = torch.nn.Identity(), torch.nn.Identity(), TensorCache(1000)
    cache.put(one, 1, torch.zeros(3))
    assert cache.get(other, 1) is None
    cache.put(other, 1, torch.ones(3))
    del one
    gc.collect()
    assert len(cache) == 1
    assert torch.equal(cache.get(other, 1), torch.ones(3))
