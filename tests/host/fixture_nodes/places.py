"""Runs MaskDetailerPipe with prompts that refer to places, and compares with arithmetic and with ComfyUI's KSampler.

Each case returns triples: what it is, the value that a model received, and the value that is right.
"""

from __future__ import annotations

import gc
import sys
from typing import Any

import comfy.controlnet
import comfy_extras.nodes_model_patch
import torch
from comfy.model_patcher import ModelPatcher

import nodes

from .recording import FAMILIES, WIDTH, Family, PatchNetwork, make_control, make_gligen, make_model, make_vae

SIZE = (128, 192)  # of the image
REGION = (64, 32)  # x and y; 64 x 64 pixels, or 8 x 8 latent cells
PLAIN = {
    "guide_size": 64, "guide_size_for": True, "max_size": 1024, "mask_mode": False, "seed": 7, "steps": 2, "cfg": 2.0,
    "sampler_name": "euler", "scheduler": "normal", "denoise": 0.5, "feather": 0, "crop_factor": 1.0, "drop_size": 10,
    "refiner_ratio": 0.5, "batch_size": 1,
}  # fmt: skip
Triples = list[tuple[str, Any, Any]]


def draw(channels: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.rand(1, *SIZE, channels, generator=torch.Generator().manual_seed(seed))


def mask_region(*corners: tuple[int, int], side: int = 64) -> torch.Tensor:
    mask = torch.zeros(1, *SIZE)
    for x, y in corners:
        mask[:, y : y + side, x : x + side] = 1
    return mask


def crop_hint(image: torch.Tensor) -> torch.Tensor:
    """The region of an image ``[B,H,W,C]``, as ControlNets hold it: ``[B,C,64,64]``."""
    return crop_image(image).movedim(-1, 1)


def crop_image(image: torch.Tensor) -> torch.Tensor:
    return image[:, 32:96, 64:128]


def crop_cells(latent: torch.Tensor) -> torch.Tensor:
    return latent[..., 4:12, 8:16]


def prompt(family: Family, **details: Any) -> list:
    pooled = {"pooled_output": torch.ones(1, 1280)} if family.base in ("SDXL", "SD3", "Flux") else {}
    return [[torch.ones(1, 4, WIDTH), {**pooled, **details}]]


def detail(model: Any, positive: Any, negative: Any, vae: Any, image: Any, mask: Any, **widgets: Any) -> Any:
    node = nodes.NODE_CLASS_MAPPINGS["MaskDetailerPipe"]()
    refiner = widgets.pop("refiner", None)
    result = node.doit(
        image, mask, (model, None, vae, positive, negative), **{**PLAIN, **widgets}, refiner_basic_pipe_opt=refiner
    )
    return result["result"] if isinstance(result, dict) else result


class Carried:
    """Everything a family's conditioning carries, for an image, and what its parts recorded."""

    def __init__(self, family: Family, image: torch.Tensor, vae: Any) -> None:
        self.details: dict[str, Any] = {}
        self.hint, self.image = draw(seed=1), image
        carries = family.carries
        if "mask" in carries:
            self.details["mask"] = draw(1, seed=2)[..., 0]
        if "gligen" in carries:
            self.details["gligen"], self.gligen = make_gligen((8, 8, 0, 4), (2, 2, 0, 0))
        if "control" in carries:
            used = {"vae": vae} if "control with VAE" in carries else {}
            self.details["control"], self.network = make_control(self.hint, **used)
        if "concat" in carries:
            self.latent, self.concat_mask = vae.encode(draw(seed=3)), mask_region((80, 0))[:, None]
            self.details |= {"concat_latent_image": self.latent, "concat_mask": self.concat_mask}
            if family.video:
                self.details["concat_mask"] = self.concat_mask.unsqueeze(2)
        if "references" in carries:
            other, small = vae.encode(draw(seed=4)), vae.encode(draw(seed=5)[:, :40, :40])
            references = [vae.encode(image), other, small]
            self.details |= {"reference_latents": references, "reference_latents_method": "offset"}
        self.positive, self.negative = prompt(family, **self.details), prompt(family)
        if "area" in carries:  # of another prompt: ComfyUI fits hints and boxes of a prompt to its area
            self.positive += prompt(family, area=(16, 12, 0, 0))  # the left half

    def patch(self, model: Any, vae: Any) -> Any:
        """The model with a patch made for the whole image."""
        self.patch_network = PatchNetwork()
        patcher = ModelPatcher(self.patch_network, model.load_device, torch.device("cpu"))
        patched = model.clone()
        patch = comfy_extras.nodes_model_patch.DiffSynthCnetPatch(patcher, vae, self.hint, 1.0)
        patched.set_model_double_block_patch(patch)
        return patched


def compare_crop(name: str) -> Triples:
    """Everything a family looks at is the crop's, bit for bit, where the crop is not scaled."""
    family, image = FAMILIES[name], draw()
    (model, recorder), vae = make_model(family), make_vae(family.channels, family.video)
    carried = Carried(family, image, vae)
    if "patch" in family.carries:
        model = carried.patch(model, vae)
    details, scale = carried.details, model.model.process_latent_in
    image_before = image.clone()
    detail(model, carried.positive, carried.negative, vae, image, mask_region(REGION))

    triples: Triples = [("the image itself", image, image_before)]
    shapes = {tuple(record["x"].shape[-2:]) for record in recorder.records}
    triples.append(("shapes", sorted(shapes), [(8, 4), (8, 8)] if "area" in family.carries else [(8, 8)]))
    records = [record for record in recorder.records if record["x"].shape[-1] == 8]
    if "gligen" in details:
        triples.append(("GLIGEN boxes", carried.gligen.boxes[0], [8, 8, 4, 4, 0, 0]))
    if "control" in details:
        expected = crop_hint(carried.hint)
        if "control with VAE" in family.carries:
            expected = details["control"].latent_format.process_in(vae.encode(crop_image(carried.hint)))
        triples.append(("hint", carried.network.hints[0][:1], expected))
        triples.append(("the user's hint", details["control"].cond_hint_original, carried.hint.movedim(-1, 1)))
    if "patch" in family.carries:
        triples.append(("image of the patch", carried.patch_network.images[0], vae.encode(crop_image(carried.hint))))
    if "concat" in details or "concat_mask" in details:
        triples += compare_concat(family, carried, records, scale)
    if "reference_latents" in details:
        whole, other, small = details["reference_latents"]
        expected = [crop_cells(whole), crop_cells(other), small]
        record = next(record for record in records if "ref_latents" in record)
        for i, (latent, right) in enumerate(zip(record["ref_latents"], expected, strict=True)):
            triples.append((f"reference {i}", latent[:1], scale(right)))
        if "ref_latents_method" in record:
            triples.append(("method", record["ref_latents_method"], "offset"))
    return triples


def compare_concat(family: Family, carried: Carried, records: list, scale: Any) -> Triples:
    latent, mask = scale(crop_cells(carried.latent).clone()), carried.concat_mask[..., 32:96, 64:128]
    cells = torch.nn.functional.interpolate(mask, (8, 8), mode="bilinear")
    extra = records[0]["x"][:1, family.channels :]
    if "inpainting" in family.config or family.config == "SD15":
        expected = torch.cat([cells.round(), latent], dim=1)
    elif family.video:
        expected = torch.cat([(1 - cells)[:, :, None].repeat(1, 4, 1, 1, 1), latent], dim=1)
    else:
        unshuffled = mask.view(1, 8, 8, 8, 8).permute(0, 2, 4, 1, 3).reshape(1, 64, 8, 8)
        expected = torch.cat([latent, unshuffled], dim=1)
    with_concat = [record["x"][:, family.channels :] for record in records]
    equal = [part for part in with_concat for part in part.cpu().split(1) if torch.equal(part, expected.cpu())]
    return [("concatenated latents and mask", equal[0] if equal else extra, expected)]


def compare_whole(name: str) -> Triples:
    """With a crop that is the whole image, the result is KSampler's."""
    family, image = FAMILIES[name], draw()
    (model, recorder), vae = make_model(family), make_vae(family.channels, family.video)
    carried = Carried(family, image, vae)
    if "patch" in family.carries:
        model = carried.patch(model, vae)
    mask = torch.ones(1, *SIZE)
    refined, *_ = detail(model, carried.positive, carried.negative, vae, image, mask)
    recorded, recorder.records = recorder.records, []
    (latent,) = nodes.common_ksampler(
        model, 7, 2, 2.0, "euler", "normal", carried.positive, carried.negative, {"samples": vae.encode(image)},
        denoise=0.5,
    )  # fmt: skip
    right = vae.decode(latent["samples"])
    return [
        ("result", refined, right.reshape(refined.shape)),
        ("number of calls", len(recorded), len(recorder.records)),
        ("first input", recorded[0]["x"], recorder.records[0]["x"]),
    ]


def compare_scaled_hint(_: str) -> Triples:
    """A chain of a ControlNet and a T2I adapter in a crop that is enlarged: hints equal the crops of an image bit for
    bit, each is scaled once, and strengths, ranges and the user's objects are kept."""
    family, image = FAMILIES["SD 1.5"], draw()
    (model, recorder), vae = make_model(family), make_vae(4, False)
    first, adapter = make_control(image, "T2I", strength=0.5, timestep_percent_range=(0.0, 0.9))
    second, network = make_control(image, strength=0.25)
    second.set_previous_controlnet(first)
    positive, negative = prompt(family, control=second), prompt(family, control=second)
    controls = []
    call = comfy.controlnet.ControlBase.pre_run

    def pre_run(control, *options):
        controls.append(control)
        return call(control, *options)

    comfy.controlnet.ControlBase.pre_run = pre_run
    try:
        mask, more = mask_region(REGION), {"guide_size": 128, "cycle": 2, "denoise": 1.0}
        detail(model, positive, negative, vae, image, mask, **more)
    finally:
        comfy.controlnet.ControlBase.pre_run = call
    filters = next(module for name, module in sys.modules.items() if name.endswith(".core.filters"))
    expected = filters.resize_lanczos(crop_image(image), 128, 128).movedim(-1, 1)
    return [
        ("ControlNet's hint", network.hints[0][:1], expected),
        ("adapter's hint", adapter.hints[0][:1], expected),
        ("adapter runs once in each cycle", len(adapter.hints), 2),
        ("strengths", sorted({control.strength for control in controls}), [0.25, 0.5]),
        ("ranges", sorted({control.timestep_percent_range for control in controls}), [(0.0, 0.9), (0.0, 1.0)]),
        ("copies", len({id(control) for control in controls}), 2),
        ("the user's are not used", {id(first), id(second)} & {id(control) for control in controls}, set()),
        ("the user's chain", second.previous_controlnet is first, True),
        ("the user's hint", first.cond_hint_original, image.movedim(-1, 1)),
        ("sampled size", tuple(recorder.records[0]["x"].shape[-2:]), (16, 16)),
    ]


def compare_counts(_: str) -> Triples:
    """The hint of a ControlNet that works in latents is encoded once for a region and cycle, not for each step or
    prompt, and a reference that is the image is recognized with one encoding."""
    family, image = FAMILIES["Flux"], draw()
    (model, recorder), vae, hints_vae = make_model(family), make_vae(16, False), make_vae(16, False)
    control, network = make_control(draw(seed=1), vae=hints_vae)
    references = [vae.encode(image), vae.encode(draw(seed=2))]
    positive = prompt(family, control=control, reference_latents=references)
    negative = prompt(family, control=control, reference_latents=references)
    vae.first_stage_model.encoded.clear()
    detail(model, positive, negative, vae, image, mask_region((0, 0), (128, 64)), steps=3, cycle=2)
    sizes = vae.first_stage_model.encoded
    return [
        ("hints are encoded", len(hints_vae.first_stage_model.encoded), 4),
        ("steps", len(network.hints) >= 12, True),
        ("encoded", sorted(sizes), sorted([(1, 3, 128, 192)] + 2 * [(1, 3, 64, 64)])),
        ("rows", {len(record["ref_latents"]) for record in recorder.records}, {2}),
    ]


def compare_refiner(_: str) -> Triples:
    """The refiner's prompts move, too; without an inpainting switch and with it."""
    family, image = FAMILIES["SD 1.5"], draw()
    (model, _), (second, recorder), vae = make_model(family), make_model(family), make_vae(4, False)
    control, network = make_control(draw(seed=1))
    refiner = (second, None, vae, prompt(family, control=control), prompt(family, area=(16, 12, 0, 0)) + prompt(family))
    detail(model, prompt(family), prompt(family), vae, image, mask_region(REGION), refiner=refiner)
    shapes = sorted({tuple(record["x"].shape[-2:]) for record in recorder.records})
    return [
        ("hint", network.hints[0][:1], crop_hint(draw(seed=1))),
        ("shapes", shapes, [(8, 4), (8, 8)]),
    ]


def compare_inpainting(_: str) -> Triples:
    """With the inpainting switch, the node's own masked crop replaces the one of the prompt."""
    triples: Triples = []
    for name in ("SD 1.5 inpainting", "Flux Fill"):
        family, image = FAMILIES[name], draw()
        (model, recorder), vae = make_model(family), make_vae(family.channels, False)
        carried = Carried(family, image, vae)
        detail(
            model, carried.positive, carried.negative, vae, image, mask_region(REGION), mask_mode=True,
            inpaint_model=True, noise_mask_feather=0,
        )  # fmt: skip
        gray = model.model.process_latent_in(vae.encode(torch.full((1, 64, 64, 3), 0.5)))
        extra = recorder.records[0]["x"][:1, family.channels :]
        masked = extra[:, 1:] if name.startswith("SD") else extra[:, :16]
        mask = extra[:, :1] if name.startswith("SD") else extra[:, 16:]
        triples += [(f"{name}: masked image", masked, gray), (f"{name}: mask", mask, torch.ones_like(mask))]
    return triples


def compare_image_batch(_: str) -> Triples:
    """In a batch of images, each gets its own row of hints, masks and latents."""
    family, images = FAMILIES["SD 1.5"], torch.cat([draw(), draw(seed=6)])
    (model, _), vae = make_model(family), make_vae(4, False)
    hints, mask = torch.cat([draw(seed=1), draw(seed=2)]), mask_region(REGION)
    control, network = make_control(hints)
    detail(model, prompt(family, control=control), prompt(family), vae, images, mask)
    recorded = [hint for hint in network.hints if len(hint) == 1]
    return [(f"hint {i}", recorded[2 * i], crop_hint(hints[i : i + 1])) for i in range(2)]


def compare_memory(_: str) -> Triples:
    """Copies of ControlNets and crops of hints are freed: 50 runs leave what one leaves."""
    family, image = FAMILIES["SD 1.5"], draw()
    (model, recorder), vae = make_model(family), make_vae(4, False)
    control, network = make_control(draw(seed=1))
    carried = Carried(family, image, vae)
    patched = carried.patch(model, vae)
    positive = prompt(family, control=control, area=(16, 12, 0, 0)) + prompt(family)

    def count() -> tuple[int, int]:
        recorder.records.clear()
        network.hints.clear()
        carried.patch_network.images.clear()
        gc.collect()
        objects = gc.get_objects()
        controls = sum(isinstance(each, comfy.controlnet.ControlBase) for each in objects)
        tensors = sum(type(each) is torch.Tensor for each in objects)
        return controls, tensors

    counts = []
    for _number in range(51):
        detail(patched, positive, prompt(family), vae, image, mask_region(REGION), steps=1)
        counts.append(count())
    return [("objects after 50 more runs", counts[-1], counts[0])]


CASES = {
    "crop": compare_crop,
    "whole": compare_whole,
    "scaled hint": compare_scaled_hint,
    "counts": compare_counts,
    "refiner": compare_refiner,
    "inpainting": compare_inpainting,
    "image batch": compare_image_batch,
    "memory": compare_memory,
}


def run(case: str, family: str) -> dict[str, Any]:
    """The differences of a case, by what they are; values that are not tensors as text."""
    results = {}
    with torch.inference_mode():
        for what, value, right in CASES[case](family):
            if isinstance(value, torch.Tensor):
                value, right = value.cpu(), right.cpu()
                same = value.shape == right.shape
                results[what] = float((value - right).abs().max()) if same else f"{value.shape} is not {right.shape}"
            else:
                results[what] = 0.0 if value == right else f"{value} is not {right}"
    return results
