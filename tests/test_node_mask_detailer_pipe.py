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


def defaults() -> dict[str, Any]:
    """What the editor begins with."""
    groups = NODE.INPUT_TYPES()
    shown = {**groups["required"], **groups["optional"]}
    lists = {name: kind[0] for name, (kind, _) in shown.items() if isinstance(kind, list)}
    values = {name: options["default"] for name, (_, options) in shown.items() if "default" in options}
    return {**lists, **values}


def change(widget: str) -> Any:
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


def detailed(image: torch.Tensor = IMAGE, mask: torch.Tensor = MASK, pipe: Any = PIPE, **inputs: Any) -> tuple:
    return getattr(NODE(), NODE.FUNCTION)(image, mask, pipe, **{**defaults(), **QUICK, **inputs})


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """Exact models in ComfyUI's place; what the node asked for."""
    asked = []

    def backend(*given: Any) -> Backend:
        asked.append(given)
        return Backend(EulerSampler(), SpaceToDepthVae())

    monkeypatch.setattr(detailing, "backend", backend)
    return asked


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


def test_the_editor_begins_with_the_defaults_of_core(settings_of) -> None:
    assert settings_of(**defaults()) == DetailerSettings(sampler_name=defaults()["sampler_name"])


@pytest.mark.parametrize("widget", [*defaults()])
def test_every_widget_reaches_the_setting_of_its_name_and_no_other(widget: str, settings_of) -> None:
    value = change(widget)
    before, after = asdict(settings_of(**defaults())), asdict(settings_of(**{**defaults(), widget: value}))
    expected = tuple(value.splitlines()) if widget == "region_prompts" else value
    assert {name: after[name] for name in after if after[name] != before[name]} == {widget: expected}


def test_every_setting_has_a_widget() -> None:
    assert sorted(asdict(DetailerSettings())) == sorted(defaults())


def test_region_prompts_may_be_a_list_from_a_link(settings_of) -> None:
    assert settings_of(**{**defaults(), "region_prompts": ["a hat", ""]}).region_prompts == ("a hat", "")
    assert settings_of(**{**defaults(), "region_prompts": "a hat\n"}).region_prompts == ("a hat",)


@pytest.mark.parametrize(
    ("widget", "value", "message"),
    [
        ("region_prompts", None, "region_prompts is None"),
        ("region_prompts", 3, "region_prompts is 3"),
        ("region_prompts", ["a", None], r"region_prompts\[1\] is None"),
        ("sampler_name", 3, "sampler_name is 3"),
        ("scheduler", 3, "scheduler is 3"),
        ("steps", 10**400, "steps is 1000"),
        pytest.param("cfg", 10**5000, "cfg is an int of about 5000 digits", id="5000 digits"),
    ],
)
def test_widget_with_an_unusable_value_from_a_link_is_named(widget: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        detailed(**{widget: value})


def test_values_beyond_0_to_1_are_kept_outside_refined_regions() -> None:
    image = torch.randn(1, 64, 64, 3, generator=torch.Generator().manual_seed(0)) * 3
    result = detailed(image=image)[0]
    assert torch.equal(result[:, :8], image[:, :8])


def test_what_is_linked_reaches_the_host(asked: list) -> None:
    class Hook: ...

    hook, function = Hook(), lambda model, sampler_name, steps: None
    detailed(detailer_hook=hook, scheduler_func_opt=function)
    assert asked == [("vae", hook, function)]


def test_outputs_are_pictures_lists_of_crops_and_the_pipes() -> None:
    second = (KnownTarget(0.4), "clip", None, "positive", "negative")
    image, crops, alphas, pipe, refiner = detailed(refiner_basic_pipe_opt=second, mask_mode=False)
    assert NODE.OUTPUT_IS_LIST == (False, True, True, False, False)
    assert image.shape == (1, 64, 64, 3)
    torch.testing.assert_close(image[:, 20:44, 20:44], torch.full((1, 24, 24, 3), 0.7), atol=1e-5, rtol=0)
    assert [crop.shape for crop in crops] == [(1, 36, 36, 3)]
    assert [crop.shape for crop in alphas] == [(1, 36, 36, 4)]
    assert pipe is PIPE and refiner is second
    assert detailed()[4] is None


@pytest.mark.parametrize("part", [part for part in PIPE_PARTS if part != "clip"])
def test_a_part_that_a_pipe_lacks_is_named(part: str) -> None:
    pipe = tuple(None if name == part else held for name, held in zip(PIPE_PARTS, PIPE))
    with pytest.raises(InputError, match=f"basic_pipe is missing {part}"):
        detailed(pipe=pipe)
    if part != "vae":
        with pytest.raises(InputError, match=f"refiner_basic_pipe_opt is missing {part}"):
            detailed(refiner_basic_pipe_opt=pipe)


def test_a_clip_is_needed_for_text_alone() -> None:
    """Pipes without one come from other packs, and the node never needed it before it had region_prompts."""
    without = (PIPE[0], None, *PIPE[2:])
    assert torch.equal(detailed(pipe=without)[0], detailed()[0])
    with pytest.raises(InputError, match="region_prompts has text, but the pipe has no CLIP.*EditBasicPipe"):
        detailed(pipe=without, region_prompts="\na hat")


@pytest.mark.parametrize(
    ("pipe", "told"),
    [
        (None, "basic_pipe is missing"),
        (PIPE[:4], "basic_pipe has 4 parts, not the 5"),
        (3, "basic_pipe is of type int, not a pipe"),
    ],
)
def test_what_is_no_pipe_is_refused(pipe: Any, told: str) -> None:
    calls = [lambda: detailed(pipe=pipe)]
    calls += [lambda name=name: NODE_CLASS_MAPPINGS[name]().doit(pipe) for name in ("FromBasicPipe", "EditBasicPipe")]
    for call in calls:
        with pytest.raises(InputError, match=told):
            call()


def test_parts_go_into_a_pipe_are_exchanged_and_come_out() -> None:
    to, edit, from_ = (NODE_CLASS_MAPPINGS[f"{kind}BasicPipe"]() for kind in ("To", "Edit", "From"))
    (pipe,) = to.doit(model=1, clip=2, vae=3, positive=4, negative=5)
    assert pipe == (1, 2, 3, 4, 5)
    assert edit.doit(pipe) == (pipe,)
    for place, part in enumerate(PIPE_PARTS):
        (changed,) = edit.doit(pipe, **{part: "new"})
        assert changed == (*pipe[:place], "new", *pipe[place + 1 :])
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


def test_text_is_added_after_the_tokens_that_are_there() -> None:
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
def test_added_tokens_count_where_models_are_told_which_do(before: list, added: list, joined: list) -> None:
    told = [{} if mask is None else {"attention_mask": torch.tensor(mask)} for mask in (before, added)]
    ((_, details),) = detailing.append_text(Clip(**told[1]), [[torch.zeros(1, 3, 4), told[0]]], "me")
    assert details["attention_mask"].tolist() == [joined]


def test_text_of_another_clip_is_refused() -> None:
    with pytest.raises(InputError, match="region_prompts cannot be added.*width is 4.*6"):
        detailing.append_text(Clip(width=6), [[torch.zeros(1, 3, 4), {}]], "hat")
