"""RegionCrop and RegionStitch in a real ComfyUI, with samplers, VAEs and other nodes in between."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfyui
import numpy as np
import pytest
import run_workflow
import torch
from detailer_prompts import wave_image
from PIL import Image
from workflow.engine_interface import NodeFailed
from workflow_cases import SharedServer

HEIGHT, WIDTH = 96, 128
SQUARES = [(8, 16), (56, 40), (96, 0)]  # left and top; a square of 24 pixels each
WIDGETS = {
    "regions": "connected parts",
    "order": "left to right",
    "fill_holes": False,
    "grow": 0,
    "context_factor": 1.0,
    "context_pixels": 8,
    "size": "keep",
    "width": 64,
    "height": 64,
    "multiple_of": 8,
    "blend": 4,
    "batching": "one by one",
}
TOGETHER = "together where sizes are equal"
_numbers = itertools.count()


def make_image(count: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.rand(count, HEIGHT, WIDTH, 3, generator=generator)


def make_mask(*squares: tuple[int, int]) -> torch.Tensor:
    mask = torch.zeros(1, HEIGHT, WIDTH)
    for x, y in squares:
        mask[:, y : y + 24, x : x + 24] = 1
    return mask


@dataclass(frozen=True)
class Stitched:
    """The outputs of the last node, how often the node in between ran, and the boxes."""

    images: list[torch.Tensor]
    masks: list[torch.Tensor]
    count: int
    boxes: list


class Runner:
    def __init__(self, server: comfyui.Server) -> None:
        self.server = server

    def prompt(self, image: torch.Tensor, mask: torch.Tensor, between: dict | None = None, **widgets: Any) -> dict:
        """A prompt with ``between`` between both nodes: nodes that read ["counted", 0] and end in "work".

        By default, "work" is a node that turns its crops into their negatives. "counted" counts the batches."""
        number = next(_numbers)
        for name, values in (("crop_image", image), ("crop_mask", mask)):
            np.save(self.server.input_folder / f"{name}{number}.npy", values.numpy())
        self.name = f"stitched{number}.npz"
        negative = {"image": ["counted", 0], "name": "work", "change": "negative", "tag": number}
        return {
            "image": {"class_type": "FixtureTensor", "inputs": {"file": f"crop_image{number}.npy"}},
            "mask": {"class_type": "FixtureTensor", "inputs": {"file": f"crop_mask{number}.npy"}},
            "crop": {
                "class_type": "RegionCrop",
                "inputs": {"image": ["image", 0], "mask": ["mask", 1], **WIDGETS, **widgets},
            },
            "counted": {
                "class_type": "FixtureCount",
                "inputs": {"image": ["crop", 0], "name": self.name, "change": "nothing", "tag": number},
            },
            **(between or {"work": {"class_type": "FixtureCount", "inputs": negative}}),
            "stitch": {
                "class_type": "RegionStitch",
                "inputs": {"stitch": ["crop", 2], "crops": ["work", 0], "color_match": 0.0, "blend": -1},
            },
            "save": {
                "class_type": "FixtureSaveStitched",
                "inputs": {
                    "name": self.name,
                    "counted": self.name,
                    "image": ["stitch", 0],
                    "mask": ["stitch", 1],
                    "boxes": ["crop", 3],
                },
            },
        }

    def run(self, prompt: dict) -> Stitched:
        self.server.queue(prompt)
        with np.load(self.server.base / "output" / prompt["save"]["inputs"]["name"]) as file:
            record = json.loads(str(file["record"]))
            arrays = {name: torch.from_numpy(file[name]) for name in file.files if name != "record"}
        images = [arrays[name] for name in sorted(arrays) if name.startswith("image")]
        masks = [arrays[name] for name in sorted(arrays) if name.startswith("mask")]
        return Stitched(images, masks, record["count"], record["boxes"])

    def __call__(self, *args: Any, **widgets: Any) -> Stitched:
        return self.run(self.prompt(*args, **widgets))


@pytest.fixture(scope="module")
def runner(server: comfyui.Server) -> Runner:
    return Runner(server)


def sampler_nodes(pixels: list, noise_mask: list | None = None, channels: int = 192, vae: str = "exact") -> dict:
    """VAE, KSampler with a model whose every result is gray (0.25), and VAE again."""
    return {
        "vae": {"class_type": "FixtureVae", "inputs": {"kind": vae, "ratio": 8, "trouble": "none", "tag": 0}},
        "encode": {"class_type": "VAEEncode", "inputs": {"pixels": pixels, "vae": ["vae", 0]}},
        "noised": {
            "class_type": "SetLatentNoiseMask",
            "inputs": {"samples": ["encode", 0], "mask": noise_mask or ["crop", 1]},
        },
        "model": {
            "class_type": "FixtureModel",
            "inputs": {
                "kind": "eps", "channels": channels, "level": 0.25, "spread": 0.0, "unet": 0.0, "delay": 0.0, "tag": 0,
            },
        },
        "text": {"class_type": "FixtureConditioning", "inputs": {"seed": 0}},
        "sample": {
            "class_type": "KSampler",
            "inputs": {
                "model": ["model", 0], "positive": ["text", 0], "negative": ["text", 0], "latent_image": ["noised", 0],
                "seed": 1, "steps": 4, "cfg": 1.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0,
            },
        },
        "work": {"class_type": "VAEDecode", "inputs": {"samples": ["sample", 0], "vae": ["vae", 0]}},
    }  # fmt: skip


# -- laziness


@pytest.mark.parametrize("mask", [torch.zeros(1, HEIGHT, WIDTH), torch.zeros(0, HEIGHT, WIDTH)], ids=["black", "none"])
def test_nothing_selected_runs_nothing_in_between(runner: Runner, mask: torch.Tensor) -> None:
    image = make_image(2)
    result = runner(image, mask, sampler_nodes(["counted", 0]))
    assert result.count == 0
    assert torch.equal(result.images[0], image) and not result.masks[0].any()


@pytest.mark.parametrize(("batching", "count"), [("one by one", 3), (TOGETHER, 1)])
def test_each_crop_runs_once(runner: Runner, batching: str, count: int) -> None:
    image, mask = make_image(), make_mask(*SQUARES)
    result = runner(image, mask, batching=batching)
    assert result.count == count
    ((boxes,),) = (result.boxes,)
    assert len(boxes) == 1 and [box["width"] for box in boxes[0]] == [40, 40, 40]
    (stitched,), (weights,) = result.images, result.masks
    assert torch.equal(stitched[weights == 0], image[weights == 0])
    torch.testing.assert_close(stitched[weights == 1], 1 - image[weights == 1], atol=1e-6, rtol=0)


def test_lazy_crop_masks_are_not_computed_either(runner: Runner) -> None:
    prompt = runner.prompt(make_image(), torch.zeros(1, HEIGHT, WIDTH))
    prompt["as_mask"] = {"class_type": "ImageToMask", "inputs": {"image": ["work", 0], "channel": "red"}}
    prompt["stitch"]["inputs"]["crop_masks"] = ["as_mask", 0]
    assert runner.run(prompt).count == 0
    prompt = runner.prompt(make_image(), make_mask(*SQUARES))
    prompt["as_mask"] = {"class_type": "ImageToMask", "inputs": {"image": ["counted", 0], "channel": "red"}}
    prompt["stitch"]["inputs"]["crop_masks"] = ["as_mask", 0]
    assert 0 < runner.run(prompt).masks[0].max() < 1


# -- what may be in between


@pytest.mark.parametrize("batching", ["one by one", TOGETHER])
@pytest.mark.parametrize("channels", [3, 4])
def test_sampler_in_between(runner: Runner, batching: str, channels: int) -> None:
    image, mask = wave_image()[:, :HEIGHT, :WIDTH], make_mask(*SQUARES)
    if channels == 4:
        image = torch.cat([image, make_image()[..., :1]], dim=-1)
    nodes = sampler_nodes(["counted", 0])
    result = runner(image, mask, nodes, batching=batching)
    (stitched,), (weights,) = result.images, result.masks
    assert torch.equal(stitched[weights == 0], image[weights == 0])
    inside = weights == 1
    assert inside.sum() > 500
    torch.testing.assert_close(
        stitched[..., :3][inside], torch.full_like(stitched[..., :3][inside], 0.25), atol=2e-3, rtol=0
    )
    assert torch.equal(stitched[..., 3:], image[..., 3:])


def test_vae_round_trip(runner: Runner) -> None:
    image = make_image()
    nodes = {name: node for name, node in sampler_nodes(["counted", 0]).items() if name in ("vae", "encode")}
    nodes["work"] = {"class_type": "VAEDecode", "inputs": {"samples": ["encode", 0], "vae": ["vae", 0]}}
    result = runner(image, make_mask(*SQUARES), nodes)
    torch.testing.assert_close(result.images[0], image, atol=1e-5, rtol=0)
    outside = result.masks[0] == 0
    assert torch.equal(result.images[0][outside], image[outside])


@pytest.mark.parametrize("factor", [0.5, 1.7, 4.0])
def test_upscaler_in_between(runner: Runner, factor: float) -> None:
    image = wave_image()[:, :HEIGHT, :WIDTH]
    inputs = {"image": ["counted", 0], "upscale_method": "bicubic", "scale_by": factor}
    result = runner(image, make_mask(*SQUARES), {"work": {"class_type": "ImageScaleBy", "inputs": inputs}})
    outside = result.masks[0] == 0
    assert torch.equal(result.images[0][outside], image[outside])
    assert (result.images[0] - image).abs().mean() < 0.02


def test_rebatched_crops(runner: Runner) -> None:
    """A list of crops of one size becomes one batch, and batches become lists."""
    image, mask = make_image(), make_mask(*SQUARES)
    alone = runner(image, mask).images[0]
    rebatched = {
        "batch": {"class_type": "RebatchImages", "inputs": {"images": ["counted", 0], "batch_size": 4096}},
        "work": {
            "class_type": "FixtureCount",
            "inputs": {"image": ["batch", 0], "name": "x", "change": "negative", "tag": 1},
        },
    }
    assert torch.equal(runner(image, mask, rebatched).images[0], alone)
    rebatched["batch"]["inputs"]["batch_size"] = 1
    assert torch.equal(runner(image, mask, rebatched, batching=TOGETHER).images[0], alone)


def test_list_of_images(runner: Runner) -> None:
    """A list gives one result per image; those without a region come back unchanged."""
    images = make_image(3)
    masks = torch.cat([make_mask(*SQUARES), make_mask(), make_mask(SQUARES[1])])
    prompt = runner.prompt(images, masks)
    prompt["image_list"] = {"class_type": "RebatchImages", "inputs": {"images": ["image", 0], "batch_size": 1}}
    prompt["mask_images"] = {"class_type": "MaskToImage", "inputs": {"mask": ["mask", 1]}}
    prompt["mask_list"] = {"class_type": "RebatchImages", "inputs": {"images": ["mask_images", 0], "batch_size": 1}}
    prompt["masks"] = {"class_type": "ImageToMask", "inputs": {"image": ["mask_list", 0], "channel": "red"}}
    prompt["crop"]["inputs"] |= {"image": ["image_list", 0], "mask": ["masks", 0]}
    result = runner.run(prompt)
    whole = runner(images, masks)
    assert torch.equal(torch.cat(result.images), whole.images[0])
    assert torch.equal(torch.cat(result.masks), whole.masks[0])
    assert torch.equal(result.images[1], images[1:2])


def test_nodes_between_bypassed(runner: Runner) -> None:
    image = make_image()
    prompt = runner.prompt(image, make_mask(*SQUARES))
    del prompt["work"]
    prompt["stitch"]["inputs"]["crops"] = ["crop", 0]
    assert torch.equal(runner.run(prompt).images[0], image)


def test_saved_widgets_reach_the_nodes(runner: Runner) -> None:
    wide = runner(make_image(), make_mask(SQUARES[1]), blend=12, grow=6.5)
    narrow = runner(make_image(), make_mask(SQUARES[1]), blend=0)
    assert (wide.masks[0] > 0).sum() > 1.5 * (narrow.masks[0] > 0).sum() == 1.5 * 24 * 24


# -- template and blueprint

ROOT = Path(__file__).resolve().parents[2]


def run_workflow_file(server: comfyui.Server, workflow: dict, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run a workflow of the editor's format on shapes.png. Returns the folder with the saved images."""
    pytest.importorskip("comfy_cli")
    (folder / "workflow.json").write_text(json.dumps(workflow), encoding="utf-8")
    monkeypatch.setattr(run_workflow, "Server", lambda *_, **__: SharedServer(server))
    command = [str(folder / "workflow.json"), "--engine", "comfyui", "--output", str(folder / "out")]
    assert run_workflow.main([*command, "--input", str(ROOT / "example_workflows" / "assets" / "shapes.png")]) == 0
    return folder / "out"


def assert_only_the_star_changed(path: Path) -> None:
    before = np.array(Image.open(ROOT / "example_workflows" / "assets" / "shapes.png").convert("RGB")).astype(int)
    after = np.array(Image.open(path)).astype(int)
    changed = np.abs(after - before).max(axis=-1) > 1
    assert 0.002 < changed.mean() < 0.2
    assert before[changed].std() > 20 + after[changed].std(), "it was colored, and is nearly gray"


def use_test_models(nodes: list[dict]) -> dict[str, dict]:
    """Replace the checkpoint and CLIPSeg by models that need no download. Returns the nodes by type."""
    by_type = {node["type"]: node for node in nodes}
    by_type["CheckpointLoaderSimple"].update(type="FixtureCheckpoint", widgets_values=[])
    by_type["LoadImage"]["widgets_values"] = ["shapes.png", "image"]
    by_type["CLIPSegModelLoader"]["widgets_values"] = ["demo: coloured shapes (bundled)"]
    by_type["CLIPSeg"]["widgets_values"][0] = "red star"
    return by_type


def test_template(server: comfyui.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workflow = json.loads((ROOT / "example_workflows" / "crop_sample_stitch.json").read_text(encoding="utf-8"))
    use_test_models(workflow["nodes"])
    out = run_workflow_file(server, workflow, tmp_path, monkeypatch)
    assert_only_the_star_changed(out / "crop_sample_stitch_00001_.png")
    assert (out / "crop_sample_stitch_crop_00001_.png").exists()


def test_blueprint(server: comfyui.Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ComfyUI lists it, and the template runs with it in the place of the nodes that it holds."""
    listed = server.get("/global_subgraphs")
    ((key, entry),) = [(key, each) for key, each in listed.items() if each["name"] == "Crop, sample, stitch"]
    assert entry["source"] == "custom_node"
    blueprint = json.loads(server.get(f"/global_subgraphs/{key}")["data"])
    assert blueprint == json.loads((ROOT / "subgraphs" / f"{entry['name']}.json").read_text(encoding="utf-8"))

    workflow = json.loads((ROOT / "example_workflows" / "crop_sample_stitch.json").read_text(encoding="utf-8"))
    by_type = use_test_models(workflow["nodes"])
    inside = {"RegionCrop", "VAEEncode", "SetLatentNoiseMask", "KSampler", "VAEDecode", "RegionStitch"}
    inner = {by_type[name]["id"]: name for name in inside}
    (node,) = blueprint["nodes"]
    node |= {"id": 100}
    sockets = {each["name"]: i for i, each in enumerate(node["inputs"])}
    links = [link for link in workflow["links"] if link[1] not in inner and link[3] not in inner]
    sources = {  # what feeds each input of the blueprint
        "image": (1, 0), "mask": (4, 0), "model": (3, 0), "vae": (3, 2), "positive": (5, 0), "negative": (6, 0),
    }  # fmt: skip
    for i, (name, (source, slot)) in enumerate(sources.items(), 100):
        links.append([i, source, slot, 100, sockets[name], node["inputs"][sockets[name]]["type"]])
        node["inputs"][sockets[name]]["link"] = i
    links.append([200, 100, 0, 13, 0, "IMAGE"])
    nodes = [each for each in workflow["nodes"] if each["id"] not in inner and each["id"] != 14]
    next(each for each in nodes if each["id"] == 13)["inputs"][0]["link"] = 200
    workflow |= {"nodes": [*nodes, node], "links": [each for each in links if each[3] != 14]}
    workflow["definitions"] = blueprint["definitions"]
    out = run_workflow_file(server, workflow, tmp_path, monkeypatch)
    assert_only_the_star_changed(out / "crop_sample_stitch_00001_.png")


# -- errors


@pytest.mark.parametrize(
    ("node", "inputs", "message"),
    [
        (
            "ImageScale",
            {"upscale_method": "area", "width": 64, "height": 32, "crop": "disabled"},
            "is 64 x 32, but was 40 x 40",
        ),
        ("ImageFromBatch", {"batch_index": 0, "length": 1}, "the number of crops is 1, but stitch needs 3"),
    ],
)
def test_crops_that_do_not_match(runner: Runner, node: str, inputs: dict, message: str) -> None:
    work = {"work": {"class_type": node, "inputs": {"image": ["counted", 0], **inputs}}}
    with pytest.raises(NodeFailed, match=message) as caught:
        runner(make_image(), make_mask(*SQUARES), work, batching=TOGETHER)
    assert "RegionStitch" in str(caught.value) or "Region Stitch" in str(caught.value)


def test_neither_mask_nor_boxes(runner: Runner) -> None:
    prompt = runner.prompt(make_image(), make_mask(*SQUARES))
    del prompt["crop"]["inputs"]["mask"]
    with pytest.raises(NodeFailed, match="neither mask nor bounding_boxes is connected"):
        runner.run(prompt)
    prompt["boxes"] = {"class_type": "PrimitiveBoundingBox", "inputs": {"x": 10, "y": 12, "width": 20, "height": 30}}
    prompt["crop"]["inputs"]["bounding_boxes"] = ["boxes", 0]
    result = runner.run(prompt)
    assert result.masks[0][0, 20:35, 18:22].min() == 1 and result.count == 1
