"""Prompts that refer to places in the image, in a real ComfyUI, with models that record what they receive.

The cases are in `fixture_nodes/places.py`, the families of models in `fixture_nodes/recording.py`.
"""

from __future__ import annotations

import random
from typing import Any

import comfyui
import pytest

FAMILIES = (
    "SD 1.5", "SD 1.5 inpainting", "SDXL", "SD3", "Flux", "Flux Fill", "Flux Kontext", "Qwen-Image",
    "Qwen-Image-Edit", "Z-Image", "Wan",
)  # fmt: skip


def find_differences(server: comfyui.Server, case: str, family: str = "") -> dict[str, Any]:
    """The differences between what models received and what is right, by what they are."""
    inputs = {"case": case, "family": family, "tag": random.randrange(2**31)}
    return server.queue({"1": {"class_type": "FixturePlaces", "inputs": inputs}}).outputs["1"]["differences"][0]


@pytest.mark.parametrize("family", FAMILIES)
def test_detailer_gives_models_the_crop_bit_for_bit(server: comfyui.Server, family: str) -> None:
    differences = find_differences(server, "crop", family)
    assert len(differences) > 2 and set(differences.values()) == {0.0}, differences


@pytest.mark.parametrize("family", FAMILIES)
def test_detailer_of_whole_image_matches_ksampler(server: comfyui.Server, family: str) -> None:
    differences = find_differences(server, "whole", family)
    assert len(differences) == 3 and all(value < 1e-5 for value in differences.values()), differences


@pytest.mark.parametrize("case", ["scaled hint", "counts", "refiner", "inpainting", "image batch", "memory"])
def test_detailer_with_places(server: comfyui.Server, case: str) -> None:
    differences = find_differences(server, case)
    assert differences and set(differences.values()) == {0.0}, differences
