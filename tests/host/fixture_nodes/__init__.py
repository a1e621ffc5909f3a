"""Nodes for the tests in a real ComfyUI: exact models and VAEs, a recording hook, tensors in and out of files.

Each has an input ``tag`` where an output must not come from ComfyUI's cache.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import comfy.utils
import folder_paths
import numpy as np
import torch

from . import fixture_background, fixture_instances, fixture_models, places, timing

TAG = ("INT", {"default": 0})


def node(outputs: str, required: dict, optional: dict | None = None, **attributes):
    """Makes a node class of a function."""

    def made(function):
        body = {
            "INPUT_TYPES": classmethod(lambda cls: {"required": required, "optional": optional or {}}),
            "RETURN_TYPES": tuple(outputs.split()),
            "FUNCTION": "run",
            "CATEGORY": "fixtures",
            "run": lambda self, **inputs: function(**inputs),
            **attributes,
        }
        return type(function.__name__, (), body)

    return made


@node("IMAGE MASK", {"file": ("STRING", {})})
def load_tensor(file):
    values = torch.from_numpy(np.load(Path(folder_paths.get_input_directory()) / file))
    return values, values


@node("BACKGROUND_REMOVAL", {"seed": TAG})
def make_background_removal(seed):
    return (fixture_background.make_background_removal(seed),)


@node(
    "MODEL",
    {
        "kind": (["eps", "flow", "inpaint"],),
        "channels": ("INT", {"default": 192, "max": 4096}),
        "level": ("FLOAT", {"default": 0.5}),
        "spread": ("FLOAT", {"default": 0.0}),
        "unet": ("FLOAT", {"default": 0.0}),
        "delay": ("FLOAT", {"default": 0.0}),
        "tag": TAG,
    },
    {"shape": (list(fixture_models.SHAPES),)},
)
def make_model(tag, **options):
    return (fixture_models.model(**options),)


@node(
    "VAE",
    {
        "kind": (["exact", "means", "real"],),
        "ratio": ("INT", {"default": 8}),
        "trouble": (["none", "nan", "encode", "decode", "large"],),
        "tag": TAG,
    },
)
def make_vae(tag, **options):
    return (fixture_models.vae(**options),)


PROGRESS: list[tuple] = []
TIMES: list[dict] = []  # of the last FixtureDetailWith


@node("MODEL", {"model": ("MODEL",), "tag": TAG})
def watch_progress(model, tag):
    """Notes ComfyUI's progress reports from here on: value, total, whether there is a preview."""
    PROGRESS.clear()
    original = comfy.utils.PROGRESS_BAR_HOOK

    def hook(value, total, preview, *given, **named):
        PROGRESS.append([value, total, preview is not None])
        return original(value, total, preview, *given, **named)

    hook.inner = getattr(original, "inner", original)
    comfy.utils.set_progress_bar_global_hook(hook)
    return (model,)


@node(
    "CONDITIONING",
    {"seed": ("INT", {"default": 0})},
    {
        "tokens": ("INT", {"default": 8}),
        "width": ("INT", {"default": fixture_models.CONTEXT}),
        "pooled": ("INT", {"default": 0}),
    },
)
def make_conditioning(seed, tokens=8, width=fixture_models.CONTEXT, pooled=0):
    """The placeholder for seed -1. With ``pooled`` a vector of that width for the whole text, as SDXL wants it."""
    if seed < 0:
        return ("NegativePlaceholder",)
    generator = torch.Generator().manual_seed(seed)
    text = torch.randn(1, tokens, width, generator=generator)
    return ([[text, {"pooled_output": torch.randn(1, pooled, generator=generator)} if pooled else {}]],)


@node("CONDITIONING CONDITIONING", {"positive": ("CONDITIONING",), "negative": ("CONDITIONING",), "image": ("IMAGE",)})
def apply_control_net(positive, negative, image):
    """Both prompts with one ControlNet of random weights, for the model of the tests."""
    control = fixture_models.control_net(image)
    return tuple([[text, {**details, "control": control}] for text, details in each] for each in (positive, negative))


@node("CLIP", {})
def make_clip():
    return (fixture_models.Clip(),)


@node("MODEL CLIP VAE", {})
def make_checkpoint():
    """In the place of a real one: it turns all it may change to gray."""
    model = fixture_models.model("eps", channels=4, level=0.5, spread=0.0, unet=0.0, delay=0.0)
    return model, fixture_models.Clip(), fixture_models.vae("means", 8, "none")


@node("BASIC_PIPE", {"basic_pipe": ("BASIC_PIPE",), "how": ("STRING", {})})
def spoil_pipe(basic_pipe, how):
    """``short``; or the names of the parts to take out."""
    if how == "short":
        return (basic_pipe[:4],)
    names = ("model", "clip", "vae", "positive", "negative")
    return (tuple(None if name in how.split() else part for name, part in zip(names, basic_pipe)),)


@node("DETAILER_HOOK", {"changes": ("STRING", {}), "tag": TAG})
def make_hook(changes, tag):
    return (fixture_models.RecordingHook(changes.split()),)


@node("SCHEDULER_FUNC", {"kind": (["straight", "nothing"],)})
def make_scheduler(kind):
    straight = lambda model, sampler_name, steps: torch.linspace(10, 0, steps + 1)  # noqa: E731
    return (straight if kind == "straight" else lambda model, sampler_name, steps: None,)


@node(
    "IMAGE IMAGE IMAGE BASIC_PIPE BASIC_PIPE",
    {
        "whose": (["Impact", "Maskwright"],),
        "basic_pipe": ("BASIC_PIPE",),
        "inputs": ("STRING", {}),
        "image": ("IMAGE",),
    },
    {
        "mask": ("MASK",),
        "refiner_basic_pipe_opt": ("BASIC_PIPE",),
        "scheduler_func_opt": ("SCHEDULER_FUNC",),
        "memory": ("BOOLEAN", {"default": False}),
    },
    OUTPUT_IS_LIST=(False, True, True, False, False),
)
def detail_with(whose, inputs, memory=False, **linked):
    """MaskDetailerPipe of one of two packs that use the same id; ``memory`` is also recorded if requested."""
    for name, module in list(sys.modules.items()):
        mappings = vars(module).get("NODE_CLASS_MAPPINGS") or {}
        kind = mappings.get("MaskDetailerPipe" if whose == "Impact" else "MaskDetailerPipe (Maskwright)")
        if kind is not None and name != "nodes" and ("impact" in name.lower()) == (whose == "Impact"):
            with timing.Watch(memory) as watch:
                outputs = kind().doit(**json.loads(inputs), **linked)
            TIMES[:] = [watch.results()]
            return outputs
    raise ValueError(f"{whose} is not loaded")


@node(
    "",
    {"name": ("STRING", {})},
    {kind.lower(): (kind,) for kind in ("IMAGE", "MODEL", "DETAILER_HOOK", "BASIC_PIPE")}
    | {"crops": ("IMAGE",), "alpha_crops": ("IMAGE",), "refiner": ("BASIC_PIPE",)},
    INPUT_IS_LIST=True,
    OUTPUT_NODE=True,
)
def save_all(name, image=(), crops=(), alpha_crops=(), model=(), detailer_hook=(), basic_pipe=(), refiner=()):
    """Into one file: the tensors, the calls of model and hook, what kinds of things pipes hold."""
    arrays = {}
    for key, tensors in (("image", image), ("crop", crops), ("alpha", alpha_crops)):
        arrays |= {f"{key}{i}": tensor.cpu().numpy() for i, tensor in enumerate(tensors)}
    hook = comfy.utils.PROGRESS_BAR_HOOK
    comfy.utils.set_progress_bar_global_hook(getattr(hook, "inner", hook))
    record = {"calls": [], "hook": [], "progress": list(PROGRESS), "times": list(TIMES)}
    for each in model:
        record["calls"] = each.model_options["model_function_wrapper"].calls
    for each in detailer_hook:
        record["hook"] = each.calls
    record["pipe"] = [[type(part).__name__ for part in pipe] for pipe in basic_pipe]
    record["refiner"] = [pipe is None for pipe in refiner]
    np.savez(Path(folder_paths.get_output_directory()) / name[0], record=json.dumps(record), **arrays)
    return {"ui": {}}


COUNTS: dict[str, int] = {}  # by name


@node("IMAGE", {"image": ("IMAGE",), "name": ("STRING", {}), "change": (["nothing", "negative"],), "tag": TAG})
def count_images(image, name, change, tag):
    """Passes images on, or their negatives, and counts how many batches there were."""
    COUNTS[name] = COUNTS.get(name, 0) + 1
    return (image if change == "nothing" else 1 - image,)


@node(
    "",
    {"name": ("STRING", {}), "counted": ("STRING", {})},
    {"image": ("IMAGE",), "mask": ("MASK",), "boxes": ("BOUNDING_BOX",)},
    INPUT_IS_LIST=True,
    OUTPUT_NODE=True,
)
def save_stitched(name, counted, image=(), mask=(), boxes=()):
    """Into one file: images and masks in full precision, boxes, and how often FixtureCount ran."""
    arrays = {f"image{i}": tensor.cpu().numpy() for i, tensor in enumerate(image)}
    arrays |= {f"mask{i}": tensor.cpu().numpy() for i, tensor in enumerate(mask)}
    record = {"count": COUNTS.pop(counted[0], 0), "boxes": list(boxes)}
    np.savez(Path(folder_paths.get_output_directory()) / name[0], record=json.dumps(record), **arrays)
    return {"ui": {}}


@node("", {"tag": TAG}, OUTPUT_NODE=True)
def count_kept_models(tag):
    """How many models each of the pack's caches holds, by module."""
    kept = {}
    for name, module in list(sys.modules.items()):
        for value in list(vars(module).values()) if ".models." in name else ():
            if type(value).__name__ == "ModelCache":
                kept[name.rpartition(".")[2]] = len(value)
    return {"ui": {"kept": [kept]}}


@node("MODEL CONDITIONING", {})
def make_sam3():
    return fixture_instances.make_sam3(), fixture_instances.make_text()


RECORDED = {
    "masks": ("MASK",),
    "bounding_boxes": ("BOUNDING_BOX", {"forceInput": True}),
    "image": ("IMAGE",),
    "count": ("INT", {"forceInput": True}),
}


@node("", {}, RECORDED, OUTPUT_NODE=True)
def record(**values):
    """Into the results: shapes and sums of masks, the boxes, the shape of the image, the number."""
    return {"ui": {"recorded": [fixture_instances.describe(**values)]}}


@node("CLIPSEGMODEL", {"clipseg_model": ("CLIPSEG_MODEL",)})
def make_kjnodes_model(clipseg_model):
    """As KJNodes' loader outputs it."""
    processor, model = clipseg_model
    return ({"model": model, "processor": processor},)


@node("", {"case": ("STRING", {}), "family": ("STRING", {"default": ""}), "tag": TAG}, OUTPUT_NODE=True)
def compare_places(case, family, tag):
    """What `places` finds: the differences of a case, by what they are."""
    return {"ui": {"differences": [places.run(case, family)]}}


NODE_CLASS_MAPPINGS = {
    "FixtureKjnodesModel": make_kjnodes_model,
    "FixtureBackgroundRemoval": make_background_removal,
    "FixtureSam3": make_sam3,
    "FixtureRecord": record,
    "FixtureKeptModels": count_kept_models,
    "FixtureTensor": load_tensor,
    "FixtureModel": make_model,
    "FixtureWatch": watch_progress,
    "FixtureVae": make_vae,
    "FixtureConditioning": make_conditioning,
    "FixtureControlNet": apply_control_net,
    "FixtureClip": make_clip,
    "FixtureCheckpoint": make_checkpoint,
    "FixtureSpoilPipe": spoil_pipe,
    "FixtureHook": make_hook,
    "FixtureScheduler": make_scheduler,
    "FixtureDetailWith": detail_with,
    "FixtureSave": save_all,
    "FixtureCount": count_images,
    "FixtureSaveStitched": save_stitched,
    "FixturePlaces": compare_places,
}
