"""docs/quality.md: what it is computed with, and that it is whole."""

from __future__ import annotations

import re

import measure_quality
import numpy as np
import photographs
import pytest
from maskwright.core.errors import ModelError
from maskwright.models import catalog


def test_sad_mse_by_hand() -> None:
    alpha, true = np.array([[0, 255, 51], [0, 0, 255]]), np.array([[0, 255, 0], [255, 0, 255]], np.uint8)
    sad, mse = photographs.sad_mse(alpha, true)
    assert sad == pytest.approx(1.2 / 1000)
    assert mse == pytest.approx((0.04 + 1) / 6 * 1000)


def test_main_without_weights_says_so_and_writes_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def fail(name: str) -> None:
        raise ModelError(f"{name} cannot be downloaded", "Connect to a network")

    monkeypatch.setattr(measure_quality.fetch_weights, "fetch", fail)
    before = measure_quality.PAGE.read_bytes()
    assert measure_quality.main() == 1
    assert capsys.readouterr().err == "nothing was measured: u2netp cannot be downloaded\n"
    assert measure_quality.PAGE.read_bytes() == before


def test_page_names_the_weights_and_its_images_exist() -> None:
    page = measure_quality.PAGE.read_text(encoding="utf-8")
    for name in measure_quality.WEIGHTS:
        assert catalog.BACKGROUND[name].files[0].sha256 in page
    images = set(re.findall(r"\((quality/[^)]+)\)", page))
    assert images == {f"quality/{path.name}" for path in measure_quality.IMAGES.iterdir()}
    assert sum(path.stat().st_size for path in measure_quality.IMAGES.iterdir()) < 1_500_000


def test_page_has_the_words_of_its_template() -> None:
    page = measure_quality.PAGE.read_text(encoding="utf-8")
    for words in re.split(r"\{\w+\}", measure_quality.TEMPLATE.read_text(encoding="utf-8")):
        assert words in page
