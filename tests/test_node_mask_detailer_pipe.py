"""The detailer's node and those for basic pipes, without ComfyUI: what reaches core, and what comes back."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
import torch
from exact_diffusion import EulerSampler, KnownTarget, SpaceToDepthVae
from maskwright import NODE_CLASS_MAPPINGS
from maskwright.core.detail.detail import Backend
from maskwright.core.detail.settings import DetailerSettings
from maskwright.core.errors import InputError
from maskwright.nodes import mask_detailer_pipe
from maskwright.nodes._host import detailing
from maskwright.nodes._pipes import PIPE_PARTS

NODE = NODE_CLASS_MAPPINGS["MaskDetailerPipe"]
PIPE = (KnownTarget(0.8), "clip", "vae", "positive", "negative")
IMAGE = torch.full((1, 64, 64, 3), 0.25)
MASK = torch.zeros(1, 64, 64)
MASK[:, 20:44, 20:44] = 1
QUICK = {"guide_size": 64, "crop_factor": 1.5, "steps": 2, "denoise": 1.0, "feather": 0, "noise_mask_feather": 0}


def get_defaults() -> dict[str, Any]:
    """What the editor begins with."""
    groups = NODE.INPUT_TYPES()
    shown = {**groups["required"], **groups["optional"]}
    lists = {name: kind[0] for name, (kind, _) in shown.items() if isinstance(kind, list)}
    values = {name: options["default"] for name, (_, options) in shown.items() if "default" in options}
    return {**lists, **values}


def change_default(widget: str) -> Any:
    """A valid value of the widget other than its default."""
    groups = NODE.INPUT_TYPES()
    kind, options = {**groups["required"], **groups["optional"]}[widget]
    if isinstance(kind, list):
        return kind[1]
    if kind == "STRING":
        return "a hat\n\na scarf"
    if kind == "BOOLEAN":
        return not options["default"]
    return options["default"] + (1 if kind == "INT" else 0.25)


def run_node(image: torch.Tensor = IMAGE, mask: torch.Tensor = MASK, pipe: Any = PIPE, **inputs: Any) -> tuple:
    return getattr(NODE(), NODE.FUNCTION)(image, mask, pipe, **{**get_defaults(), **QUICK, **inputs})


@pytest.fixture(autouse=True)
def backend_calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """Exact models in ComfyUI's place; what the node asked for."""
    backend_calls = []

    def backend(*given: Any) -> Backend:
        backend_calls.append(given)
        return Backend(EulerSampler(), SpaceToDepthVae())

    monkeypatch.setattr(detailing, "backend", backend)
    return backend_calls


class Reached(Exception):
    """Core was called."""


@pytest.fixture
def settings_of(monkeypatch: pytest.MonkeyPatch):
    def stop(image, mask, pipe, backend, settings, refiner, on_region):
        raise Reached(settings)

    monkeypatch.setattr(mask_detailer_pipe, "detail", stop)

    def settings_of(**inputs: Any) -> DetailerSettings:
        with pytest.raises(Reached) as caught:
            getattr(NODE(), NODE.FUNCTION)(IMAGE, MASK, PIPE, **inputs)
        return caught.value.args[0]

    return settings_of


def test_widget_defaults_match_core(settings_of) -> None:
    assert settings_of(**get_defaults()) == DetailerSettings(sampler_name=get_defaults()["sampler_name"])


@pytest.mark.parametrize("widget", [*get_defaults()])
def test_widget_sets_its_own_setting(widget: str, settings_of) -> None:
    value = change_default(widget)
    before, after = asdict(settings_of(**get_defaults())), asdict(settings_of(**{**get_defaults(), widget: value}))
    expected = tuple(value.splitlines()) if widget == "region_prompts" else value
    assert {name: after[name] for name in after if after[name] != before[name]} == {widget: expected}


def test_widgets_cover_every_setting() -> None:
    assert sorted(asdict(DetailerSettings())) == sorted(get_defaults())


def test_region_prompts_from_list(settings_of) -> None:
    assert settings_of(**{**get_defaults(), "region_prompts": ["a hat", ""]}).region_prompts == ("a hat", "")
    assert settings_of(**{**get_defaults(), "region_prompts": "a hat\n"}).region_prompts == ("a hat",)


@pytest.mark.parametrize(
    ("widget", "value", "message"),
    [
        ("region_prompts", None, "region_prompts is None"),
        ("region_prompts", 3, "region_prompts is 3"),
        ("region_prompts", ["a", None], r"region_prompts\[1\] is None"),
        ("sampler_name", 3, r"sampler \(sampler_name\) is 3"),
        ("scheduler", 3, "scheduler is 3"),
        ("steps", 10**400, "steps is 1000"),
        pytest.param("cfg", 10**5000, "cfg is an int of about 5000 digits", id="5000 digits"),
    ],
)
def test_widget_invalid_value_from_link(widget: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        run_node(**{widget: value})


def test_node_keeps_out_of_range_values_outside_regions() -> None:
    image = torch.randn(1, 64, 64, 3, generator=torch.Generator().manual_seed(0)) * 3
    result = run_node(image=image)[0]
    assert torch.equal(result[:, :8], image[:, :8])


def test_node_passes_hook_and_scheduler_to_backend(backend_calls: list) -> None:
    class Hook: ...

    hook, function = Hook(), lambda model, sampler_name, steps: None
    run_node(detailer_hook=hook, scheduler_func_opt=function)
    assert backend_calls == [("vae", hook, function)]


def test_node_outputs() -> None:
    second = (KnownTarget(0.4), "clip", None, "positive", "negative")
    image, crops, alphas, pipe, refiner = run_node(refiner_basic_pipe_opt=second, mask_mode=False)
    assert NODE.OUTPUT_IS_LIST == (False, True, True, False, False)
    assert image.shape == (1, 64, 64, 3)
    torch.testing.assert_close(image[:, 20:44, 20:44], torch.full((1, 24, 24, 3), 0.7), atol=1e-5, rtol=0)
    assert [crop.shape for crop in crops] == [(1, 36, 36, 3)]
    assert [crop.shape for crop in alphas] == [(1, 36, 36, 4)]
    assert pipe is PIPE and refiner is second
    assert run_node()[4] is None


@pytest.mark.parametrize("part", [part for part in PIPE_PARTS if part != "clip"])
def test_node_names_missing_pipe_part(part: str) -> None:
    pipe = tuple(None if name == part else value for name, value in zip(PIPE_PARTS, PIPE))
    with pytest.raises(InputError, match=f"basic_pipe is missing {part}"):
        run_node(pipe=pipe)
    if part != "vae":
        with pytest.raises(InputError, match=rf"refiner pipe \(refiner_basic_pipe_opt\) is missing {part}"):
            run_node(refiner_basic_pipe_opt=pipe)


def test_node_without_clip() -> None:
    """Pipes without one come from other packs, and the node never needed it before it had region_prompts."""
    without = (PIPE[0], None, *PIPE[2:])
    assert torch.equal(run_node(pipe=without)[0], run_node()[0])
    with pytest.raises(InputError, match="region_prompts has text, but the pipe has no CLIP.*EditBasicPipe"):
        run_node(pipe=without, region_prompts="\na hat")


@pytest.mark.parametrize(
    ("pipe", "message"),
    [
        (None, "basic_pipe is missing"),
        (PIPE[:4], "basic_pipe has 4 parts, not the 5"),
        (3, "basic_pipe is of type int, not a pipe"),
    ],
)
def test_node_refuses_invalid_pipe(pipe: Any, message: str) -> None:
    calls = [lambda: run_node(pipe=pipe)]
    calls += [lambda name=name: NODE_CLASS_MAPPINGS[name]().doit(pipe) for name in ("FromBasicPipe", "EditBasicPipe")]
    for call in calls:
        with pytest.raises(InputError, match=message):
            call()


def test_basic_pipe_nodes_build_edit_and_split() -> None:
    to, edit, from_ = (NODE_CLASS_MAPPINGS[f"{kind}BasicPipe"]() for kind in ("To", "Edit", "From"))
    (pipe,) = to.doit(model=1, clip=2, vae=3, positive=4, negative=5)
    assert pipe == (1, 2, 3, 4, 5)
    assert edit.doit(pipe) == (pipe,)
    for place, part in enumerate(PIPE_PARTS):
        (edited_pipe,) = edit.doit(pipe, **{part: "new"})
        assert edited_pipe == (*pipe[:place], "new", *pipe[place + 1 :])
    assert pipe == (1, 2, 3, 4, 5)
    assert from_.doit(pipe) == pipe
    assert edit.doit((1, None, 3, 4, 5), clip=2) == (pipe,), "a part that a pipe lacks can be given"


class Clip:
    """In ComfyUI's shape: a token a character, all of them the number of characters."""

    def __init__(self, width: int = 4, **about: torch.Tensor) -> None:
        self.width, self.about = width, about

    def tokenize(self, text: str) -> str:
        return text

    def encode_from_tokens_scheduled(self, text: str) -> list:
        return [[torch.full((1, len(text), self.width), float(len(text))), {"pooled_output": None, **self.about}]]


def test_add_text_appends_tokens() -> None:
    positive = [[torch.zeros(1, 3, 4), {"strength": 2}], [torch.zeros(2, 5, 4), {}]]
    first, second = detailing.append_text(Clip(), positive, "hat")
    assert first[0][0, :, 0].tolist() == [0, 0, 0, 3, 3, 3]
    assert first[1] == {"strength": 2}
    assert second[0].shape == (2, 8, 4)
    assert [tokens.shape[1] for tokens, _ in positive] == [3, 5], "changed in place"


@pytest.mark.parametrize(
    ("before", "added", "joined"),
    [
        ([[1, 1, 0]], None, [1, 1, 0, 1, 1]),
        (None, [[1, 0]], [1, 1, 1, 1, 0]),
        ([[1, 1, 1]], [[0, 1]], [1, 1, 1, 0, 1]),
    ],
)
def test_add_text_extends_attention_mask(before: list, added: list, joined: list) -> None:
    extras = [{} if mask is None else {"attention_mask": torch.tensor(mask)} for mask in (before, added)]
    ((_, details),) = detailing.append_text(Clip(**extras[1]), [[torch.zeros(1, 3, 4), extras[0]]], "me")
    assert details["attention_mask"].tolist() == [joined]


def test_add_text_refuses_another_clip() -> None:
    with pytest.raises(InputError, match="region_prompts cannot be added.*width is 4.*6"):
        detailing.append_text(Clip(width=6), [[torch.zeros(1, 3, 4), {}]], "hat")
