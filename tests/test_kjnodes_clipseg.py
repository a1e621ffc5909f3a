"""The text nodes take KJNodes' CLIPSEGMODEL: a dict of a processor and a model, whose dtype KJNodes changes."""

from __future__ import annotations

import copy

import pytest
import tiny_clipseg
import torch
from maskwright import NODE_CLASS_MAPPINGS
from maskwright.core.errors import InputError
from maskwright.nodes.clipseg import CLIPSeg

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple:
    return tiny_clipseg.make(tmp_path_factory.mktemp("clipseg"))


def find_cat(clipseg_model: object) -> torch.Tensor:
    image = torch.rand(1, 40, 48, 3, generator=torch.Generator().manual_seed(0))
    return CLIPSeg().segment_image(image, "cat", threshold=0.0, clipseg_model=clipseg_model)[0]


def test_clipseg_accepts_kjnodes_dict(pair: tuple) -> None:
    processor, model = pair
    assert torch.equal(find_cat({"model": model, "processor": processor}), find_cat(pair))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_clipseg_accepts_kjnodes_model_in_half_precision(pair: tuple, dtype: torch.dtype) -> None:
    processor, model = pair
    half = copy.deepcopy(model).to(dtype).requires_grad_(True)  # as transformers loads it
    mask = find_cat({"model": half, "processor": processor})
    assert mask.isfinite().all() and not mask.requires_grad
    assert {weight.dtype for weight in half.parameters()} == {dtype}, "the other pack's model is not changed"


@pytest.mark.parametrize("missing", ["model", "processor"])
def test_clipseg_rejects_incomplete_dict(pair: tuple, missing: str) -> None:
    parts = dict(zip(("processor", "model"), pair))
    del parts[missing]
    with pytest.raises(InputError, match="clipseg_model is of type dict"):
        find_cat(parts)


def test_text_nodes_have_inputs_of_both_types() -> None:
    nodes = [node for node in NODE_CLASS_MAPPINGS.values() if "clipseg_model" in node.INPUT_TYPES().get("optional", {})]
    assert len(nodes) > 2
    for node in nodes:
        assert node.INPUT_TYPES()["optional"]["clipseg_model"][0] == "CLIPSEG_MODEL,CLIPSEGMODEL"
