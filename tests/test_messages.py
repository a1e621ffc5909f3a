"""The sentences that users of ComfyUI read: the library's problem, with the remedy for ComfyUI."""

from __future__ import annotations

import ast
import pickle
import re
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest
import torch
from exact_diffusion import EulerSampler, KnownTarget, SpaceToDepthVae
from maskwright import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS
from maskwright.core import packages
from maskwright.core.crop.crop_frames import CropSettings
from maskwright.core.detail.detail import Backend
from maskwright.core.errors import DependencyError, InputError, ModelError, PackError
from maskwright.nodes import _messages, _widgets
from maskwright.nodes._host import detailing
from pack import ROOT

IMAGE = torch.full((1, 64, 64, 3), 0.25)
MASK = torch.zeros(1, 64, 64)
MASK[:, 20:44, 20:44] = 1
NAN = float("nan")


class NanVae(SpaceToDepthVae):
    def decode(self, samples: torch.Tensor, tiled: bool = False) -> torch.Tensor:
        return super().decode(samples, tiled) * NAN


class Hook:
    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def post_encode(self, latent: dict) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def outline(masks: Any) -> None:
    NODE_CLASS_MAPPINGS["GradientRegion"]().gradient_region(masks)


def segment(image: Any = IMAGE, model: Any = None) -> None:
    NODE_CLASS_MAPPINGS["CLIPSeg"]().segment_image(image, "sky", clipseg_model=model)


def detail(clip: Any = "clip", vae: Any = None, hook: Any = None, prompts: str = "") -> None:
    node = NODE_CLASS_MAPPINGS["MaskDetailerPipe"]
    groups = node.INPUT_TYPES()
    specs = {**groups["required"], **groups["optional"]}
    values = {name: spec[0][0] for name, spec in specs.items() if isinstance(spec[0], list)}
    values |= {name: spec[1]["default"] for name, spec in specs.items() if "default" in spec[1]}
    values |= {"steps": 1, "guide_size": 64, "region_prompts": prompts}
    pipe = (KnownTarget(0.5), clip, vae or SpaceToDepthVae(), "positive", "negative")
    node().doit(IMAGE, MASK, pipe, detailer_hook=hook, **values)


def stitch_no_crops() -> None:
    stitch = NODE_CLASS_MAPPINGS["RegionCrop"]().crop(image=IMAGE, mask=MASK, **asdict(CropSettings()))[2]
    NODE_CLASS_MAPPINGS["RegionStitch"]().stitch([stitch], [], [0.0], [-1])


# Code -> what raises the error at a node, and the whole message.
SENTENCES: dict[str, tuple[Callable[[], None], str]] = {
    "not a mask": (lambda: outline(None), "masks is missing. Connect an output of type MASK."),
    "not an image": (
        lambda: segment("sky"),
        "image is of type str, not an image. Connect an output of type IMAGE.",
    ),
    "mask shape": (
        lambda: outline(torch.zeros(1, 3, 4, 5)),
        "masks has shape [1, 3, 4, 5], which is not a mask. It must be [height, width], [batch, height, width] or "
        "[batch, 1, height, width]; to turn an image into a mask use 'Convert Image to Mask'.",
    ),
    "image shape": (
        lambda: segment(torch.zeros(1, 4, 6, 2)),
        "image has shape [1, 4, 6, 2], which is not an image. It must be [batch, height, width, channels] with 1, 3 or "
        "4 channels; to turn a mask into an image use 'Convert Mask to Image'.",
    ),
    "image sizes": (
        lambda: NODE_CLASS_MAPPINGS["CLIPSeg Batch Masking"]().CLIPSeg_images(
            image_a=IMAGE, image_b=IMAGE[:, :32], text_a="a", text_b="b"
        ),
        "the images have different sizes: [[1, 64, 64, 3], [1, 32, 64, 3]]. Resize them to the same size, for example "
        "with 'Upscale Image'.",
    ),
    "empty input": (
        lambda: outline(torch.zeros(1, 0, 4)),
        "masks is empty: its shape is [1, 0, 4]. It needs at least one image with at least one pixel; the node before "
        "it may have selected nothing.",
    ),
    "input not finite": (
        lambda: outline(torch.full((1, 4, 4), NAN)),
        "masks contains NaN or infinity in 16 of 16 values. Check the node before it: the usual causes are a VAE in "
        "half precision and a division by zero.",
    ),
    "CLIPSeg model": (
        lambda: segment(model=3),
        "clipseg_model is of type int, not a pair (processor, model). Connect the output of 'CLIPSeg Model Loader'.",
    ),
    "no CLIP": (
        lambda: detail(clip=None, prompts="a hat"),
        "region_prompts has text, but the pipe has no CLIP to encode it. Put one into the pipe with 'EditBasicPipe', "
        "or leave region_prompts empty.",
    ),
    "VAE not finite": (
        lambda: detail(vae=NanVae()),
        "The VAE returned NaN or infinite values when it decoded a crop. Start ComfyUI with --fp32-vae to run the VAE "
        "in full precision, or use another VAE.",
    ),
    "crops": (
        stitch_no_crops,
        "the number of crops is 0, but stitch needs 1. Use all crops of this stitch, in their order: connect 'crops' "
        "of Region Crop through nodes that keep them all.",
    ),
    "hook failed": (
        lambda: detail(hook=Hook(KeyError("x"))),
        "The detailer hook Hook.post_encode failed: KeyError: 'x'. Disconnect the hook, or check the settings of the "
        "node that creates it.",
    ),
    "hook result": (
        lambda: detail(hook=Hook(5)),
        "The detailer hook Hook.post_encode returned 5, not a latent. Disconnect the hook, or ask its author.",
    ),
}


@pytest.mark.parametrize("code", SENTENCES)
def test_nodes_raise_errors_with_remedies_for_comfyui(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detailing, "backend", lambda vae, hook, _: Backend(EulerSampler(), vae, hook))
    call, message = SENTENCES[code]
    with pytest.raises(PackError) as caught:
        call()
    assert str(caught.value) == message
    assert caught.value.remedy in message


def find_codes() -> set[str]:
    """The codes of errors in the library's sources."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "core").rglob("*.py")]
    keywords = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.keyword)]
    return {node.value.value for node in keywords if node.arg == "code" and isinstance(node.value, ast.Constant)}


def test_every_code_has_a_remedy_and_every_remedy_a_code() -> None:
    from_packages = {code for code in _messages.REMEDIES if code.startswith("install ")}
    assert find_codes() == set(_messages.REMEDIES) - from_packages
    # A model that gives NaN needs transformers; see `test_query`.
    assert set(SENTENCES) == set(_messages.REMEDIES) - from_packages - {"CLIPSeg not finite"}


def test_missing_scipy_is_to_be_installed_for_comfyui(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(packages.importlib, "import_module", fail)
    message = "scipy is missing .*Install it into ComfyUI's Python: python -m pip"
    with pytest.raises(DependencyError) as caught:
        packages.import_scipy("ndimage")
    _messages.replace_remedy(caught.value)
    assert re.search(message, str(caught.value))


@pytest.mark.parametrize("name", ["pymatting", "numba"])
def test_missing_pymatting_names_what_works_without(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(packages.importlib, "import_module", fail)
    with pytest.raises(DependencyError) as caught:
        packages.import_pymatting(name)
    _messages.replace_remedy(caught.value)
    assert "matting off in 'Remove Background (rembg)', or choose the guided filter in 'Refine Mask'" in str(
        caught.value
    )


def test_core_names_no_node_and_no_option_of_comfyui() -> None:
    """That is for `nodes._messages`: the library also runs elsewhere."""
    names = {*NODE_CLASS_MAPPINGS, *NODE_DISPLAY_NAME_MAPPINGS.values(), "Convert", "Upscale Image", "ThresholdMask"}
    pattern = re.compile(rf"'({'|'.join(map(re.escape, names))})|--\w+-(vae|fp32)|--(force|fp32)|ComfyUI")
    found = []
    for path in sorted((ROOT / "core").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docstrings = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                found += [f"{path.name}:{node.lineno} {node.value}"] if pattern.search(node.value) else []
    assert found == []


@pytest.mark.parametrize("kind", [PackError, InputError, ModelError])
def test_replace_remedy_adds_once(kind: type[PackError]) -> None:
    raised = kind("the image is odd", "Give it channels", code="image shape")
    _messages.replace_remedy(raised)
    _messages.replace_remedy(raised)
    assert str(raised).count("Convert Mask to Image") == 1
    assert str(raised).startswith("the image is odd. Give it channels; to turn")


@pytest.mark.parametrize("code", ["", "unknown"])
def test_replace_remedy_keeps_other_remedies(code: str) -> None:
    error = PackError("a", "b", code)
    _messages.replace_remedy(error)
    assert str(error) == "a. b."


def test_pack_error_can_be_sent_to_another_process() -> None:
    copy = pickle.loads(pickle.dumps(InputError("a is 3", "Give 4", code="c")))
    assert (str(copy), copy.problem, copy.remedy, copy.code) == ("a is 3. Give 4.", "a is 3", "Give 4", "c")


def fail_with(node: str, values: dict[str, Any]) -> str:
    """The error of a node with these values."""
    cls = NODE_CLASS_MAPPINGS[node]
    with pytest.raises(PackError) as caught:
        getattr(cls(), cls.FUNCTION)(**values)
    return str(caught.value)


def test_errors_name_inputs_by_their_labels() -> None:
    """With the id in parentheses, which scripts and saved prompts use."""
    assert fail_with("EditMask", {"mask": MASK, "remove_specks": -1}).startswith(
        "specks (remove_specks) is -1, which is out of range. Use a whole number"
    )
    assert "feather in (feather_inside) is -2" in fail_with("EditMask", {"mask": MASK, "feather_inside": -2})
    assert fail_with("EditMask", {"mask": MASK, "grow": "x"}).startswith("grow is 'x'")
    thin = {"image": IMAGE, "mask": MASK, "keep_thin_parts": 2}
    assert fail_with("RefineMask", thin).startswith("thin parts (keep_thin_parts) is 2")
    normalize = {"images": IMAGE, "text": "a", "normalization": "odd"}
    assert fail_with("CLIPSegMasking", normalize).startswith("normalize (normalization) is 'odd'")


def labels_of(node: str) -> dict[str, str]:
    return _widgets.get_labels(NODE_CLASS_MAPPINGS[node].INPUT_TYPES())


@pytest.mark.parametrize("node", [name for name in NODE_DISPLAY_NAME_MAPPINGS if labels_of(name)])
def test_add_labels_names_every_input_once(node: str) -> None:
    labels = labels_of(node)
    for name, label in labels.items():
        raised = InputError(f"{name} is 3", f"Lower {name}; {name}_2 is another input")
        _messages.add_labels(raised, labels)
        _messages.add_labels(raised, labels)
        assert str(raised) == f"{label} ({name}) is 3. Lower {label} ({name}); {name}_2 is another input."


def test_logged_sentences_contain_no_id_of_an_input_with_a_label() -> None:
    """The user sees only the label."""
    ids = {name for node in NODE_DISPLAY_NAME_MAPPINGS for name in labels_of(node)}
    pattern = re.compile(rf"\b({'|'.join(ids)})\b")
    logged = []
    for path in [*(ROOT / "core").rglob("*.py"), *(ROOT / "nodes").rglob("*.py")]:
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            is_log = isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)
            if is_log and getattr(call.func.value, "id", "") == "logger":
                texts = [each.value for each in ast.walk(call) if isinstance(each, ast.Constant)]
                logged += [f"{path.name}: {text}" for text in texts if isinstance(text, str) and pattern.search(text)]
    assert logged == []
