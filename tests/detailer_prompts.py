"""Runs MaskDetailerPipe in ComfyUI with the fixture models, and returns the results in full precision."""

from __future__ import annotations

import itertools
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfyui
import numpy as np
import torch

LATENT_SCALE = 0.18215  # SD 1.5 multiplies the VAE's latents by this

# As in the editor, but small and fast, and without blurring.
WIDGETS = {
    "guide_size": 64,
    "guide_size_for": True,
    "max_size": 1024,
    "mask_mode": True,
    "seed": 7,
    "steps": 4,
    "cfg": 1.0,
    "sampler_name": "euler",
    "scheduler": "normal",
    "denoise": 0.5,
    "feather": 0,
    "crop_factor": 1.0,
    "drop_size": 10,
    "refiner_ratio": 0.5,
    "batch_size": 1,
    "cycle": 1,
}
_numbers = itertools.count()


@dataclass(frozen=True)
class Detailed:
    """The results of one run.

    Attributes:
        image: ``[B,H,W,C]``.
        crops, alphas: One per region.
        calls: Calls of the model: rows, sigma, tokens, and whether there is an image for inpainting.
        hook: Calls of the hook: name and values, with tensors as their shapes.
        progress: Updates of ComfyUI's progress bar: value, total, and whether there was a preview.
        pipe, refiner: The types of the parts of the returned pipe; whether there was no refiner.
        times: With FixtureDetailWith: seconds in total, of sampling and of the VAE, and MB of memory.
    """

    image: torch.Tensor
    crops: list[torch.Tensor]
    alphas: list[torch.Tensor]
    calls: list
    hook: list
    progress: list
    pipe: list
    refiner: list
    times: list


class Detailer:
    """Builds and runs prompts on a server with the fixture nodes."""

    def __init__(self, server: comfyui.Server) -> None:
        self.server = server

    def prompt(
        self,
        image: torch.Tensor,
        mask: torch.Tensor,
        *,
        model: dict | None = None,
        refiner: dict | None = None,
        vae: dict | None = None,
        hook: str | None = None,
        negative: int = 1,
        spoil: str = "",
        spoil_refiner: str = "",
        levels: str | None = None,
        soften: bool = False,
        whose: str | None = None,
        node: str = "MaskDetailerPipe",
        width: int = 16,
        **widgets: Any,
    ) -> tuple[dict, str]:
        """Build a prompt. Returns it and the name of the file that it writes.

        ``levels`` selects the sigmas of FixtureScheduler, ``whose`` the detailer that FixtureDetailWith runs, and
        ``node`` the id of the detailer node."""
        number = next(_numbers)
        for name, values in (("image", image), ("mask", mask)):
            np.save(self.server.input_folder / f"{name}{number}.npy", values.numpy())

        def model_node(options: dict | None) -> dict:
            defaults = {"kind": "eps", "channels": 192, "level": 0.5, "spread": 0.0, "unet": 0.0, "delay": 0.0}
            return {"class_type": "FixtureModel", "inputs": {**defaults, **(options or {}), "tag": number}}

        def pipe(model: str) -> dict:
            parts = {"model": [model, 0], "clip": ["clip", 0], "vae": ["vae", 0]}
            parts |= {"positive": ["positive", 0], "negative": ["negative", 0]}
            return {"class_type": "ToBasicPipe", "inputs": parts}

        prompt = {
            "image": {"class_type": "FixtureTensor", "inputs": {"file": f"image{number}.npy"}},
            "mask": {"class_type": "FixtureTensor", "inputs": {"file": f"mask{number}.npy"}},
            "made": model_node(model),
            "model": {"class_type": "FixtureWatch", "inputs": {"model": ["made", 0], "tag": number}},
            "vae": {
                "class_type": "FixtureVae",
                "inputs": {"kind": "exact", "ratio": 8, "trouble": "none", "tag": number, **(vae or {})},
            },
            "clip": {"class_type": "FixtureClip", "inputs": {}},
            "positive": {"class_type": "FixtureConditioning", "inputs": {"seed": 0, "width": width}},
            "negative": {"class_type": "FixtureConditioning", "inputs": {"seed": negative, "width": width}},
            "pipe": pipe("model"),
        }
        linked = {"image": ["image", 0], "mask": ["mask", 1], "basic_pipe": ["pipe", 0]}
        if soften:
            prompt["soft"] = {"class_type": "DifferentialDiffusion", "inputs": {"model": ["model", 0]}}
            prompt["pipe"]["inputs"]["model"] = ["soft", 0]
        if spoil:
            prompt["spoiled"] = {"class_type": "FixtureSpoilPipe", "inputs": {"basic_pipe": ["pipe", 0], "how": spoil}}
            linked["basic_pipe"] = ["spoiled", 0]
        if refiner is not None:
            prompt["second"], prompt["refiner"] = model_node(refiner), pipe("second")
            prompt["refiner2"] = {
                "class_type": "FixtureSpoilPipe",
                "inputs": {"basic_pipe": ["refiner", 0], "how": spoil_refiner},
            }
            linked["refiner_basic_pipe_opt"] = ["refiner2", 0]
        if hook is not None:
            prompt["hook"] = {"class_type": "FixtureHook", "inputs": {"changes": hook, "tag": number}}
            linked["detailer_hook"] = ["hook", 0]
        if levels is not None:
            prompt["scheduler"] = {"class_type": "FixtureScheduler", "inputs": {"kind": levels}}
            linked["scheduler_func_opt"] = ["scheduler", 0]
        inputs = {**WIDGETS, **widgets}
        if whose is None:
            prompt["detail"] = {"class_type": node, "inputs": {**inputs, **linked}}
        else:
            node_inputs = {"whose": whose, "inputs": json.dumps(inputs), **linked}
            prompt["detail"] = {"class_type": "FixtureDetailWith", "inputs": node_inputs}
        out = {"image": ["detail", 0], "crops": ["detail", 1], "alpha_crops": ["detail", 2], "model": ["model", 0]}
        out |= {"basic_pipe": ["detail", 3], "refiner": ["detail", 4]}
        if hook is not None:
            out["detailer_hook"] = ["hook", 0]
        name = f"detailed{number}.npz"
        prompt["save"] = {"class_type": "FixtureSave", "inputs": {"name": name, **out}}
        return prompt, name

    def __call__(self, image: torch.Tensor, mask: torch.Tensor, **options: Any) -> Detailed:
        prompt, name = self.prompt(image, mask, **options)
        self.server.queue(prompt)
        with np.load(self.server.base / "output" / name) as saved:
            records = json.loads(str(saved["record"]))
            return Detailed(*_numbered(saved, "image"), _numbered(saved, "crop"), _numbered(saved, "alpha"), **records)


def _numbered(saved: Any, key: str) -> list[torch.Tensor]:
    names = itertools.takewhile(lambda name: name in saved, (f"{key}{i}" for i in itertools.count()))
    return [torch.from_numpy(saved[name]) for name in names]


def impact_pack(comfyui_install: comfyui.ComfyUI) -> Path | None:
    """The folder of the Impact Pack: ``IMPACT_PACK_PATH``, or in ComfyUI's custom nodes; None if not installed."""
    folders = [Path(os.environ["IMPACT_PACK_PATH"])] if os.environ.get("IMPACT_PACK_PATH") else []
    if comfyui_install.path is not None and (comfyui_install.path / "custom_nodes").is_dir():
        folders += sorted((comfyui_install.path / "custom_nodes").iterdir())
    return next((folder for folder in folders if (folder / "modules" / "impact" / "impact_pack.py").is_file()), None)


def wave_image(height: int = 128, width: int = 192, count: int = 1) -> torch.Tensor:
    """Soft colored shapes, ``[B,H,W,3]`` in 0.2..0.8."""
    y, x = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    waves = [torch.sin(9 * x + 4 * y), torch.cos(7 * y - 5 * x), torch.sin(11 * x * y)]
    return (0.5 + 0.3 * torch.stack(waves, dim=-1)).expand(count, height, width, 3).clone()


def squares(image: torch.Tensor, *corners: tuple[int, int], side: int = 64) -> torch.Tensor:
    """A mask ``[1,H,W]`` of squares with these top left corners (x, y)."""
    mask = torch.zeros(1, *image.shape[1:3])
    for x, y in corners:
        mask[:, y : y + side, x : x + side] = 1
    return mask
