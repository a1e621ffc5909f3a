"""The other ids of saved workflows: which are added, which give way, and what the nodes behind them do."""

from __future__ import annotations

import inspect
import sys
import types

import maskwright
import pytest
import torch
from maskwright.core.errors import InputError
from maskwright.models import clipseg_loader
from maskwright.models.clipseg_store import DEMO, ClipsegStore
from maskwright.nodes import _compat, _text
from maskwright.nodes import _host as host
from maskwright.nodes._host import registry

CLASSES = maskwright.NODE_CLASS_MAPPINGS
OLD = (
    "SaltMaskGradientRegion",
    "SaltCLIPSegMasking",
    "SaltCLIPSegLoader",
    "CLIPSeg_",
    "CLIPSeg Masking",
    "CLIPSeg Batch Masking",
    "CLIPSeg Model Loader",
    "CombineSegMasks",
    "FromBasicPipe_v2",
)
SHARED = ("CLIPSeg", "ImageSegmentation", "MaskDetailerPipe", "ToBasicPipe", "FromBasicPipe", "EditBasicPipe")


def list_own_nodes() -> tuple[dict[str, type], dict[str, str]]:
    """What the pack registers before `register`."""
    names = [name for name, node in CLASSES.items() if not getattr(node, "DEPRECATED", False)]
    return {name: CLASSES[name] for name in names}, {
        name: maskwright.NODE_DISPLAY_NAME_MAPPINGS[name] for name in names
    }


class Foreign:
    """A node of another pack."""


@pytest.fixture
def comfyui(monkeypatch: pytest.MonkeyPatch) -> dict[str, type]:
    """What a running ComfyUI holds already; tests put foreign nodes in."""
    nodes: dict[str, type] = {}
    module = types.ModuleType("nodes")
    module.NODE_CLASS_MAPPINGS = nodes
    monkeypatch.setitem(sys.modules, "nodes", module)
    monkeypatch.setattr(registry, "running", lambda: True)
    return nodes


@pytest.mark.parametrize("name", OLD)
def test_old_ids_are_hidden(name: str) -> None:
    assert CLASSES[name].DEPRECATED
    assert maskwright.NODE_DISPLAY_NAME_MAPPINGS[name]


@pytest.mark.parametrize("name", SHARED)
def test_long_id_is_hidden(name: str) -> None:
    assert issubclass(CLASSES[f"{name} (Maskwright)"], CLASSES[name])
    assert CLASSES[f"{name} (Maskwright)"].DEPRECATED


@pytest.mark.parametrize("name", SHARED)
def test_long_id_is_visible_if_later_pack_takes_id(comfyui: dict[str, type], name: str) -> None:
    classes, titles = list_own_nodes()
    _compat.register(classes, titles)
    comfyui.update(classes)
    ours = f"{name} (Maskwright)"
    assert getattr(classes[ours], "DEPRECATED", False)
    comfyui[name] = Foreign
    assert not getattr(classes[ours], "DEPRECATED", False)
    assert titles[ours].endswith(" (Maskwright)")
    hidden = [other for other in SHARED if getattr(classes[f"{other} (Maskwright)"], "DEPRECATED", False)]
    assert hidden == [other for other in SHARED if other != name]


@pytest.mark.parametrize("name", SHARED)
def test_register_leaves_id_of_another_pack(comfyui: dict[str, type], name: str) -> None:
    comfyui[name] = Foreign
    classes, titles = list_own_nodes()
    ours = classes[name]
    _compat.register(classes, titles)
    assert name not in classes and name not in titles
    assert classes[f"{name} (Maskwright)"] is ours
    assert titles[f"{name} (Maskwright)"].endswith(" (Maskwright)")
    assert set(classes) == set(titles)


@pytest.mark.parametrize("name", OLD)
def test_register_leaves_old_id_of_another_pack(comfyui: dict[str, type], name: str) -> None:
    comfyui[name] = Foreign
    classes, titles = list_own_nodes()
    _compat.register(classes, titles)
    assert name not in classes
    assert set(OLD) - {name} <= set(classes)


def test_register_on_reload_keeps_own_ids(comfyui: dict[str, type]) -> None:
    """ComfyUI-Manager loads a pack again in the same process."""
    comfyui.update(CLASSES)
    classes, titles = list_own_nodes()
    _compat.register(classes, titles)
    assert set(classes) == set(CLASSES)


def test_register_old_id_follows_long_id(comfyui: dict[str, type]) -> None:
    comfyui["CLIPSeg"] = Foreign
    classes, titles = list_own_nodes()
    _compat.register(classes, titles)
    assert issubclass(classes["CLIPSeg_"], classes["CLIPSeg (Maskwright)"])


def test_register_offers_node_replacements(comfyui: dict[str, type], monkeypatch: pytest.MonkeyPatch) -> None:
    replacements: dict[tuple[str, str], dict] = {}
    latest, server = types.ModuleType("comfy_api.latest"), types.ModuleType("server")
    latest.io = types.SimpleNamespace(NodeReplace=lambda **facts: facts)
    manager = types.SimpleNamespace(
        register=lambda facts: replacements.__setitem__((facts["old_node_id"], facts["new_node_id"]), facts)
    )
    server.PromptServer = types.SimpleNamespace(instance=types.SimpleNamespace(node_replace_manager=manager))
    for name, module in (
        ("comfy_api", types.ModuleType("comfy_api")),
        ("comfy_api.latest", latest),
        ("server", server),
    ):
        monkeypatch.setitem(sys.modules, name, module)
    classes, titles = list_own_nodes()
    _compat.register(classes, titles)

    was = replacements["CLIPSeg Masking", "CLIPSegMasking"]
    assert was["input_mapping"] == [{"new_id": "images", "old_id": "image"}, {"new_id": "text", "old_id": "text"}]
    assert was["old_widget_ids"] == ["text"]
    for (old, new), facts in replacements.items():
        required = classes[new].INPUT_TYPES()["required"]
        assert {each["new_id"] for each in facts["input_mapping"]} == set(required), old  # None would empty the inputs
    assert ("CLIPSeg (Maskwright)", "CLIPSeg") in replacements
    assert ("SaltMaskGradientRegion", "GradientRegion") in replacements


def test_register_on_older_comfyui(comfyui: dict[str, type], monkeypatch: pytest.MonkeyPatch) -> None:
    server = types.ModuleType("server")
    server.PromptServer = types.SimpleNamespace(instance=object())
    monkeypatch.setitem(sys.modules, "server", server)
    monkeypatch.setitem(sys.modules, "comfy_api", None)
    classes, titles = list_own_nodes()
    _compat.register(classes, titles)
    assert set(OLD) <= set(classes)


# Unknown inputs


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_nodes_name_unknown_links(name: str) -> None:
    """As ComfyUI calls it, with keyword arguments. Other inputs are checked only after that."""
    node = CLASSES[name]()
    with pytest.raises(InputError, match="no input called image_zz, later"):
        getattr(node, node.FUNCTION)(image_zz=make_image(1), later=None)


def test_register_keeps_method_signatures() -> None:
    parameters = inspect.signature(CLASSES["CLIPSeg"].segment_image).parameters
    assert list(parameters)[:6] == ["self", "image", "text", "blur", "threshold", "dilation_factor"]
    assert parameters["blur"].default == 3.0
    assert CLASSES["CLIPSeg"].segment_image.__name__ == "segment_image"
    with pytest.raises(TypeError, match="missing"):
        CLASSES["CLIPSeg"]().segment_image()


# What the nodes behind old ids do


def test_from_basic_pipe_v2_outputs() -> None:
    node = CLASSES["FromBasicPipe_v2"]()
    assert node.RETURN_NAMES == ("basic_pipe", "model", "clip", "vae", "positive", "negative")
    assert node.RETURN_TYPES == ("BASIC_PIPE", "MODEL", "CLIP", "VAE", "CONDITIONING", "CONDITIONING")
    pipe = ("model", None, "vae", "positive", "negative")
    assert node.doit(pipe) == (pipe, *pipe) and node.doit(pipe)[0] is pipe
    with pytest.raises(InputError, match="basic_pipe"):
        node.doit(None)


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> tuple:
    """The bundled model where the published one is the default."""
    pytest.importorskip("transformers")
    monkeypatch.setattr(host, "device", lambda: torch.device("cpu"))
    pair = clipseg_loader.load(DEMO, ClipsegStore())
    monkeypatch.setattr(_text, "load", lambda name, *_: pair)
    return pair


def make_image(seed: int, height: int = 40, width: int = 50) -> torch.Tensor:
    return torch.rand(1, height, width, 3, generator=torch.Generator().manual_seed(seed))


def test_was_masking_matches_clipseg_masking(demo: tuple) -> None:
    node = CLASSES["CLIPSeg Masking"]()
    assert node.RETURN_NAMES == ("MASK", "MASK_IMAGE")
    mask, mask_image = node.CLIPSeg_image(make_image(1), "red star", demo)
    expected = CLASSES["CLIPSegMasking"]().CLIPSeg_image(make_image(1), "red star", demo)
    assert torch.equal(mask, expected[0]) and torch.equal(mask_image, expected[1])


def test_was_batch_uses_text_of_each_image(demo: tuple) -> None:
    node = CLASSES["CLIPSeg Batch Masking"]()
    images, masks, mask_images, count = node.CLIPSeg_images(
        make_image(1), make_image(2), "red star", "circle", image_d=make_image(3), text_c="unused", text_d="blue ring"
    )
    assert images.shape == (3, 40, 50, 3) and mask_images.shape == (3, 40, 50, 3) and count == 3
    single = CLASSES["CLIPSegMasking"]()
    for row, (seed, text) in enumerate(((1, "red star"), (2, "circle"), (3, "blue ring"))):
        assert torch.equal(images[row : row + 1], make_image(seed))
        assert torch.equal(masks[row : row + 1], single.CLIPSeg_image(make_image(seed), text, demo)[0])


def test_was_batch_keeps_parameter_order(demo: tuple) -> None:
    """Positional calls and the widget values of saved files depend on it."""
    node = CLASSES["CLIPSeg Batch Masking"]()
    groups = node.INPUT_TYPES()
    texts = [name for group in groups.values() for name in group if name.startswith("text_")]
    assert texts == [f"text_{letter}" for letter in "abcdefghijklmnopqrstuvwx"]
    parameters = list(inspect.signature(node.CLIPSeg_images).parameters)
    first = ["image_a", "image_b", "text_a", "text_b"]
    assert parameters[:12] == [*first, *(f"{kind}_{letter}" for kind in ("image", "text") for letter in "cdef")]
    by_position = node.CLIPSeg_images(
        make_image(1), make_image(2), "red star", "circle", make_image(3), None, None, None, "blue ring"
    )
    by_name = node.CLIPSeg_images(
        image_a=make_image(1), image_b=make_image(2), text_a="red star", text_b="circle", image_c=make_image(3),
        text_c="blue ring",
    )  # fmt: skip
    assert torch.equal(by_position[1], by_name[1])


def test_was_batch_with_24_images_and_linked_model(demo: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_text, "load", lambda name, *_: pytest.fail("the linked model was not used"))
    node = CLASSES["CLIPSeg Batch Masking"]()
    two = torch.cat([make_image(2), make_image(3)])
    inputs = {"image_a": make_image(1), "text_a": "red star", "image_b": two, "text_b": "circle", "clipseg_model": demo}
    images, masks, _, count = node.CLIPSeg_images(**inputs, image_x=make_image(4), text_x="blue ring")
    assert len(images) == len(masks) == count == 4
    single = CLASSES["CLIPSegMasking"]().CLIPSeg_image(make_image(4), "blue ring", demo)[0]
    assert torch.equal(masks[3:], single)


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ({"image_a": None, "image_b": None}, "no image is connected"),
        ({"image_b": "a name"}, "image_b is of type str"),
        ({"text_x": 7, "image_x": True}, "image_x"),
        ({"text_a": 7}, "text_a is of type int"),
    ],
)
def test_was_batch_names_invalid_input(demo: tuple, inputs: dict, expected: str) -> None:
    values = {"image_a": make_image(1), "image_b": make_image(2), "text_a": "a", "text_b": "b", **inputs}
    with pytest.raises(InputError, match=expected):
        CLASSES["CLIPSeg Batch Masking"]().CLIPSeg_images(**values)


def test_was_batch_refuses_different_sizes(demo: tuple) -> None:
    with pytest.raises(InputError, match="different sizes"):
        CLASSES["CLIPSeg Batch Masking"]().CLIPSeg_images(make_image(1), make_image(2, 30, 30), "a", "b")


def test_combine_masks_adds_masks() -> None:
    one, two = torch.zeros(2, 8, 8)
    (
        one[:4],
        two[2:6],
    ) = 0.6, 0.7
    combined, heat_map, gray = CLASSES["CombineSegMasks"]().combine_masks(make_image(1, 8, 8), one, two)
    assert combined.shape == (1, 8, 8) and heat_map.shape == gray.shape == (1, 8, 8, 3)
    torch.testing.assert_close(combined[0, :, 0], torch.tensor([0.6, 0.6, 1.0, 1.0, 0.7, 0.7, 0.0, 0.0]))
    assert gray[0, 2, 0, 0] == 1 and gray[0, 7, 0, 0] == 0
    three = CLASSES["CombineSegMasks"]().combine_masks(make_image(1, 8, 8), one, two, torch.full((1, 8, 8), 0.25))[0]
    assert three[0, 7, 0] == 0.25


def test_combine_masks_keeps_mask_size() -> None:
    half = torch.zeros(1, 8, 8)
    half[:, :4] = 1
    combined, heat_map, gray = CLASSES["CombineSegMasks"]().combine_masks(make_image(1, 16, 24), half, half * 0)
    assert torch.equal(combined, half)
    assert heat_map.shape == gray.shape == (1, 16, 24, 3)
    assert gray[:, :6].min() == 1 and gray[:, 10:].max() == 0


def test_combine_masks_with_empty_batch() -> None:
    image, half = make_image(2, 8, 8).repeat(2, 1, 1, 1), torch.full((2, 8, 8), 0.5)
    node, none = CLASSES["CombineSegMasks"](), torch.zeros(0, 8, 8)
    assert torch.equal(node.combine_masks(image, none, half)[0], half)
    combined, heat_map, gray = node.combine_masks(image, none, none)
    assert combined.shape == (2, 8, 8) and not combined.any() and not gray.any()
    assert torch.equal(heat_map, image[..., :3])


def test_combine_masks_refuses_different_sizes() -> None:
    with pytest.raises(InputError, match=r"\[1, 8, 8\] and \[1, 8, 9\]"):
        CLASSES["CombineSegMasks"]().combine_masks(make_image(1), torch.zeros(1, 8, 8), torch.zeros(1, 8, 9))


def test_combine_masks_refuses_mask_batch_of_another_length() -> None:
    with pytest.raises(InputError, match="a batch of 2, and the masks are batches of 3"):
        CLASSES["CombineSegMasks"]().combine_masks(torch.zeros(2, 8, 8, 3), torch.zeros(3, 8, 8), torch.zeros(3, 8, 8))
