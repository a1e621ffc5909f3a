"""Queries: prompts, resolutions, tiles, chunks and interrupts."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import tiny_clipseg
import torch
from clipseg_cases import Counter, probabilities, random_image
from fake_host import FakeHost
from maskwright.core.errors import InputError, ModelError
from maskwright.core.text import clipseg_engine
from maskwright.core.text.query import Query, TiledInference, _tile_starts, split_prompts
from maskwright.core.text.segment import (
    score,
    segment,
)
from PIL import Image

GOLDEN = Path(__file__).parent / "golden"
NATIVE = tiny_clipseg.IMAGE_SIZE

pytestmark = pytest.mark.usefixtures("clear_clipseg_caches")


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


def test_score_of_several_prompts_is_their_maximum(segmenter: clipseg_engine.Segmenter) -> None:
    image = random_image(1, *[NATIVE // 2] * 2, 3)  # the logits' size, so that nothing is resized
    cat, dog = (probabilities(segmenter, image, text) for text in ("cat", "dog"))
    both = probabilities(segmenter, image, "cat|dog")
    assert ((cat > dog).any() and (dog > cat).any()) and not torch.equal(cat, dog)
    torch.testing.assert_close(both, torch.maximum(cat, dog))
    assert not torch.allclose(probabilities(segmenter, image, "cat, dog"), both)


def test_score_subtracts_negative_text(segmenter: clipseg_engine.Segmenter) -> None:
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


def test_predict_tiles_without_seams(segmenter: clipseg_engine.Segmenter, monkeypatch: pytest.MonkeyPatch) -> None:
    # A model whose logits are the brightness: the blended tiles must equal the whole.
    def brightness(activations: list[torch.Tensor], embedding: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(activations[0], 2)

    monkeypatch.setattr(segmenter, "encode_image", lambda pixel_values: [pixel_values.mean(1)])
    monkeypatch.setattr(segmenter, "decode", brightness)
    inference = TiledInference(segmenter, Query("cat", "", 1408))
    image = random_image(2, 4 * NATIVE, 4 * NATIVE, 3)
    assert (inference.side, inference.tile) == (4 * NATIVE, 2 * NATIVE)
    tiled = inference.predict(image)
    while inference.shrink_tiles():
        torch.testing.assert_close(inference.predict(image), tiled)
    assert inference.tile == NATIVE
    whole = brightness([segmenter.preprocess(image, 4 * NATIVE).mean(1)], None).sigmoid()
    torch.testing.assert_close(tiled, whole)


def test_score_and_segment_report_progress_per_image(segmenter: clipseg_engine.Segmenter) -> None:
    counter = Counter()
    score(random_image(5, 8, 8, 3), segmenter, Query("cat|dog"), host=FakeHost(counter))
    assert counter.steps == 5
    segment(random_image(3, 8, 8, 3), segmenter, Query("cat|dog"), host=FakeHost(counter))
    assert counter.steps == 8


@pytest.mark.parametrize("fits", [1, 2, 3])
def test_score_out_of_memory_gives_same_results(pair: tuple, monkeypatch, fits: int) -> None:
    image = random_image(7, 20, 24, 3)
    query = Query("cat")
    segmenter = clipseg_engine.Segmenter(*pair)
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
    segmenter = clipseg_engine.Segmenter(*pair)
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


def test_score_propagates_interrupts(segmenter: clipseg_engine.Segmenter) -> None:
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
    segmenter, encoded_texts = clipseg_engine.Segmenter(*pair), []
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


def test_score_and_segment_reject_nan(pair: tuple) -> None:
    processor, model = pair[0], copy.deepcopy(pair[1])
    model.clip.vision_model.embeddings.patch_embedding.weight.data.fill_(float("nan"))
    broken = clipseg_engine.Segmenter(processor, model)
    for run in (score, segment):
        with pytest.raises(ModelError, match="NaN"):
            run(random_image(1, 40, 40, 3), broken, Query("cat"))


def test_query_rejects_lone_surrogates() -> None:
    with pytest.raises(InputError, match="not a valid character"):
        Query("a \ud800 cat")


def test_score_interrupted_between_tiles(segmenter: clipseg_engine.Segmenter) -> None:
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
