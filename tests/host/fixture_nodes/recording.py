"""Models of ComfyUI's own classes around a network that records what it receives, one per family of models."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import comfy.controlnet
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.supported_models
import torch
import torch.nn.functional as F

from .fixture_models import ModelPatcher

WIDTH = 16  # of text embeddings


def make_weight() -> torch.nn.Parameter:
    """A weight that does nothing: ComfyUI cannot load a network without weights onto a GPU."""
    return torch.nn.Parameter(torch.zeros(256), requires_grad=False)


class Recorder(torch.nn.Module):
    """In place of a diffusion model. Its answer depends on everything it receives.

    Attributes:
        records: What each call received, by name.
    """

    def __init__(self, channels: int, extra_channels: int, dims: int) -> None:
        super().__init__()
        self.dtype, self.channels, self.patch_size = torch.float32, channels, 2
        total = channels + extra_channels
        self.img_in = SimpleNamespace(weight=torch.zeros(8, total * 4))  # where Flux looks for its input channels
        self.patch_embedding = SimpleNamespace(weight=torch.zeros(8, total, *[1] * dims))  # and Wan
        self.parameter = make_weight()
        self.records: list[dict[str, Any]] = []

    def forward(self, x, timesteps=None, context=None, control=None, transformer_options=None, **conditions):
        patches = (transformer_options or {}).get("patches", {})
        self.records.append({"x": x.clone(), "control": control, **conditions})
        answer = 0.3 * x[:, : self.channels] + context.mean().tanh()
        for part in _tensors([x[:, self.channels :], control, list(conditions.values())]):
            answer = answer + 0.1 * part.float().mean().tanh()
        for patch in patches.get("double_block", []):
            patched = patch({"x": x, "img": x.new_zeros(len(x), 4, 8), "block_index": 0})
            answer = answer + 0.1 * patched["img"].mean().tanh()
        return answer


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return [tensor for each in value for tensor in _tensors(each)]
    return [value] if isinstance(value, torch.Tensor) and value.numel() else []


@dataclass(frozen=True)
class Family:
    """How a family of models lays out its latents and what it looks at.

    Attributes:
        config, base: Names of ComfyUI's classes.
        channels: Of its latents.
        extra_channels: Of what is concatenated to them.
        video: Whether latents have a time axis.
        carries: What its conditioning carries in these tests.
        options: Of the constructor of ``base``.
    """

    config: str
    base: str
    channels: int
    carries: tuple[str, ...]
    extra_channels: int = 0
    video: bool = False
    options: dict[str, Any] = field(default_factory=dict)


COMMON = ("area", "mask", "control")
FAMILIES = {
    "SD 1.5": Family("SD15", "BaseModel", 4, (*COMMON, "gligen")),
    "SD 1.5 inpainting": Family("SD15", "BaseModel", 4, ("concat",), 5),
    "SDXL": Family("SDXL", "SDXL", 4, COMMON),
    "SD3": Family("SD3", "SD3", 16, COMMON),
    "Flux": Family("Flux", "Flux", 16, (*COMMON, "control with VAE")),
    "Flux Fill": Family("FluxInpaint", "Flux", 16, ("concat",), 16 + 64),
    "Flux Kontext": Family("Flux", "Flux", 16, ("references",)),
    "Qwen-Image": Family("QwenImage", "QwenImage", 16, ("control", "patch"), video=True),
    "Qwen-Image-Edit": Family("QwenImage", "QwenImage", 16, ("references",), video=True),
    "Z-Image": Family("ZImage", "Lumina2", 16, (*COMMON, "patch")),
    "Wan": Family("WAN21_T2V", "WAN21", 16, ("concat", "area"), 16 + 4, True, {"image_to_video": True}),
}


def make_model(family: Family) -> tuple[Any, Recorder]:
    """A MODEL of a family, and its recorder."""
    config = getattr(comfy.supported_models, family.config)
    total = family.channels + family.extra_channels
    config = config(
        {
            "in_channels": total,
            "out_channels": family.channels,
            "disable_unet_model_creation": True,
            "adm_in_channels": 2816 if family.base == "SDXL" else None,
            "dim": 8,
        }
    )
    base = getattr(comfy.model_base, family.base)(config, **family.options)
    base.diffusion_model = Recorder(family.channels, family.extra_channels, 3 if family.video else 2)
    if family.config == "SD15" and family.extra_channels:
        base.set_inpaint()
    management = comfy.model_management
    patcher = ModelPatcher(base, management.get_torch_device(), management.unet_offload_device())
    return patcher, base.diffusion_model


class Slices(torch.nn.Module):
    """A VAE whose latent cell holds the first values of its block of 8 x 8 pixels. Counts what it encodes."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels, self.encoded = channels, []

    def encode(self, pixels):
        self.encoded.append(tuple(pixels.shape))
        frames = [frame.squeeze(2) for frame in pixels.split(1, dim=2)] if pixels.ndim == 5 else [pixels]
        latents = [F.pixel_unshuffle(frame, 8)[:, : self.channels] for frame in frames]
        return torch.stack(latents, dim=2) if pixels.ndim == 5 else latents[0]

    def decode(self, samples, **options):
        flat = samples[:, :, 0] if samples.ndim == 5 else samples
        pixels = F.pixel_shuffle(flat.repeat(1, 192 // self.channels, 1, 1), 8)
        return pixels.unsqueeze(2) if samples.ndim == 5 else pixels


def make_vae(channels: int, video: bool) -> Any:
    """A VAE of ComfyUI's class."""
    vae = comfy.sd.VAE(sd={"taesd_decoder.1.weight": torch.zeros(64, 4, 3, 3)}, dtype=torch.float32)
    vae.first_stage_model = Slices(channels)
    vae.latent_channels, vae.latent_dim = channels, 3 if video else 2
    vae.downscale_ratio = vae.upscale_ratio = 8
    vae.process_input = lambda image: image * 2 - 1
    vae.process_output = lambda image: image.add_(1).div_(2).clamp_(0, 1)
    vae.patcher = comfy.model_patcher.ModelPatcher(vae.first_stage_model, vae.device, torch.device("cpu"))
    return vae


class ControlNetwork(torch.nn.Module):
    """In place of a ControlNet's or T2I adapter's network. Records hints, and answers with their means."""

    unshuffle_amount = 8

    def __init__(self) -> None:
        super().__init__()
        self.dtype, self.hints, self.parameter = torch.float32, [], make_weight()

    def forward(self, hint_or_nothing=None, x=None, hint=None, **more):
        hint = hint_or_nothing if hint is None else hint
        self.hints.append(hint.clone())
        answer = hint.mean(dim=(1, 2, 3), keepdim=True)
        return {"input": [], "middle": [], "output": [answer]}


def make_control(hint: torch.Tensor, kind: str = "ControlNet", vae: Any = None, **options: Any) -> tuple[Any, Any]:
    """A ControlNet or a T2I adapter with a hint ``[B,H,W,C]``, and its network."""
    network, device = ControlNetwork(), comfy.model_management.get_torch_device()
    if kind == "T2I":
        control = comfy.controlnet.T2IAdapter(network, 3, 8, "nearest-exact", device=device)
    else:
        latent_format = None if vae is None else comfy.supported_models.Flux.latent_format()
        ratio = 8 if vae is None else 1
        control = comfy.controlnet.ControlNet(
            network, load_device=device, compression_ratio=ratio, latent_format=latent_format
        )
    return control.copy().set_cond_hint(hint.movedim(-1, 1), vae=vae, **options), network


class GligenModel(torch.nn.Module):
    """In place of GLIGEN's network. Records boxes, with the size of the latent."""

    def __init__(self) -> None:
        super().__init__()
        self.boxes, self.parameter = [], make_weight()

    def set_position(self, shape, boxes, device):
        self.boxes.append([*shape[2:], *[number for box in boxes for number in box[1:]]])
        return lambda x, options: x

    def set_empty(self, shape, device):
        return lambda x, options: x


def make_gligen(*boxes: tuple) -> tuple[tuple, GligenModel]:
    model = GligenModel()
    device = comfy.model_management.get_torch_device()
    patcher = comfy.model_patcher.ModelPatcher(model, device, torch.device("cpu"))
    return ("position", patcher, [(torch.zeros(1, 8), *box) for box in boxes]), model


class PatchNetwork(torch.nn.Module):
    """In place of the network of a model patch for Qwen-Image. Records encoded images."""

    additional_in_dim = 0

    def __init__(self) -> None:
        super().__init__()
        self.images, self.parameter = [], make_weight()

    def process_input_latent_image(self, latent):
        return latent

    def control_block(self, img, image, block_index):
        self.images.append(image.clone())
        return image.mean() + torch.zeros_like(img)
