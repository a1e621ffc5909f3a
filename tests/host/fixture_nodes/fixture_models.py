"""Models whose right answers are known, made of ComfyUI's own classes."""

from __future__ import annotations

import contextlib
import time
import unittest.mock

import comfy.cldm.cldm
import comfy.controlnet
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.model_sampling
import comfy.ops
import comfy.sd
import comfy.supported_models
import torch
import torch.nn.functional as F

CONTEXT = 16  # width of the text embeddings
# The class that ComfyUI's own loaders use: in newer hosts, the one that streams weights to a GPU.
ModelPatcher = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)


class Denoiser:
    """The posterior mean of x0 for x0 ~ N(level, spread^2), given what ComfyUI calls x, and the UNet's answer on top.

    The spread tells how much of the image stays: 0 makes everything the level, as in `exact_diffusion.KnownTarget`.
    """

    def __init__(self, model, level: float, spread: float, unet: float, delay: float) -> None:
        self.model, self.level, self.spread, self.unet, self.delay = model, level * 2 - 1, spread, unet, delay
        self.flow = isinstance(model.model_sampling, comfy.model_sampling.CONST)
        self.calls = []

    def __deepcopy__(self, memo):
        return self  # clones of a MODEL share it, and so the list of its calls

    def __call__(self, apply_model, given):
        x, sigma = given["input"], given["timestep"]
        context = given["c"]["c_crossattn"]
        self.calls.append([len(x), float(sigma[0]), context.shape[1], "c_concat" in given["c"]])
        time.sleep(self.delay)
        sigma = sigma.view(-1, *[1] * (x.ndim - 1))
        # x has this share of x0 and sigma of noise.
        share = 1 - sigma if self.flow else torch.ones_like(sigma)
        target = self.model.process_latent_in(torch.full_like(x, self.level))
        gain = self.spread**2 * share / (self.spread**2 * share**2 + sigma**2)
        x0 = target + gain * (x - share * target)
        if self.unet:
            x0 = x0 + self.unet * torch.tanh(apply_model(x, given["timestep"], **given["c"]) - x)
        return x0


# Of the UNet: small, as most tests have it, and as ComfyUI finds it in the checkpoints of these models.
SHAPES = {
    "tiny": {
        "model_channels": 32,
        "num_res_blocks": [1, 1, 1, 1],
        "channel_mult": [1, 2, 2, 2],
        "transformer_depth": [1, 1, 1, 0],
        "transformer_depth_middle": 1,
        "transformer_depth_output": [1, 1, 1, 1, 1, 1, 0, 0],
        "context_dim": CONTEXT,
        "num_heads": 4,
    },
    "sd15": {
        "model_channels": 320,
        "num_res_blocks": [2, 2, 2, 2],
        "channel_mult": [1, 2, 4, 4],
        "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
        "transformer_depth_middle": 1,
        "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
        "use_linear_in_transformer": False,
        "context_dim": 768,
        "num_heads": 8,
    },
    "sdxl": {
        "model_channels": 320,
        "num_res_blocks": [2, 2, 2],
        "channel_mult": [1, 2, 4],
        "transformer_depth": [0, 0, 2, 2, 10, 10],
        "transformer_depth_middle": 10,
        "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
        "use_linear_in_transformer": True,
        "context_dim": 2048,
        "num_head_channels": 64,
        "num_classes": "sequential",
        "adm_in_channels": 2816,
    },
}


def model(kind: str, channels: int, level: float, spread: float, unet: float, delay: float, shape: str = "tiny"):
    """A MODEL shaped as Stable Diffusion 1.5 or SDXL, with random weights, under a `Denoiser`."""
    management = comfy.model_management
    half = shape != "tiny" and management.should_use_fp16()
    sdxl = shape == "sdxl"
    config = (comfy.supported_models.SDXL if sdxl else comfy.supported_models.SD15)(
        {
            "image_size": 32,
            "use_checkpoint": False,
            "use_spatial_transformer": True,
            "legacy": False,
            "in_channels": channels + (5 if kind == "inpaint" else 0),
            "out_channels": channels,
            "dtype": torch.float16 if half else torch.float32,
            **SHAPES[shape],
        }
    )
    config.latent_format.latent_channels = channels
    if channels != 4:
        config.latent_format.latent_rgb_factors = None  # no preview without a color for each channel
    types = comfy.model_base.ModelType
    made = comfy.model_base.SDXL if sdxl else comfy.model_base.BaseModel
    with allocate_weights():
        base = made(config, types.FLOW if kind == "flow" else types.EPS)
    if kind == "inpaint":
        base.set_inpaint()
    with_random_weights(base.diffusion_model)
    base.requires_grad_(False)
    patcher = ModelPatcher(base, management.get_torch_device(), management.unet_offload_device())
    patcher.set_model_unet_function_wrapper(Denoiser(base, level, spread, unet, delay))
    return patcher


def control_net(image: torch.Tensor, shape: str = "tiny"):
    """A CONTROL_NET with ComfyUI's own network and random weights, and the hint ``image`` ``[B,H,W,3]``."""
    management, options = comfy.model_management, dict(SHAPES[shape])
    options.pop("transformer_depth_output")
    with allocate_weights():
        network = comfy.cldm.cldm.ControlNet(
            image_size=32,
            in_channels=4,
            hint_channels=3,
            use_checkpoint=False,
            use_spatial_transformer=True,
            legacy=False,
            dtype=torch.float32,
            operations=comfy.ops.disable_weight_init,
            **options,
        )
    with_random_weights(network)
    network.requires_grad_(False)
    control = comfy.controlnet.ControlNet(network, load_device=management.get_torch_device())
    return control.set_cond_hint(image.movedim(-1, 1), 0.1)


def allocate_weights() -> contextlib.AbstractContextManager:
    """Within this block, networks allocate their weights. On a GPU, newer hosts otherwise wait for those of a file."""
    if hasattr(comfy, "memory_management"):
        return unittest.mock.patch.object(comfy.memory_management, "aimdo_enabled", False)
    return contextlib.nullcontext()


def with_random_weights(module: torch.nn.Module) -> None:
    """Such that what passes through keeps its size, and the same ones each time."""
    generator = torch.Generator().manual_seed(1)
    for name, values in module.named_parameters():
        if values.ndim > 1:
            noise = torch.randn(values.shape, generator=generator) / values[0].numel() ** 0.5
            values.data = noise.to(values.dtype)
        else:
            values.data = torch.full_like(values, float("weight" in name))


def real_vae():
    """As large as that of Stable Diffusion 1.5 and SDXL, with random weights."""
    layers = {"z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 128, "ch_mult": [1, 2, 4, 4]}
    layers |= {"double_z": True, "num_res_blocks": 2, "attn_resolutions": [], "dropout": 0.0}
    with allocate_weights():
        made = comfy.sd.VAE(sd={}, config={"params": {"ddconfig": layers, "embed_dim": 4}})
    with_random_weights(made.first_stage_model)
    return made


class SpaceToDepth(torch.nn.Module):
    """Moves pixels into channels and back, and loses nothing."""

    def __init__(self, ratio: int, trouble: str) -> None:
        super().__init__()
        self.ratio, self.trouble = ratio, trouble

    def encode(self, pixels):
        self.make_trouble("encode", pixels)
        return F.pixel_unshuffle(pixels, self.ratio)

    def decode(self, samples):
        self.make_trouble("decode", samples)
        pixels = F.pixel_shuffle(samples, self.ratio)
        return pixels * float("nan") if self.trouble == "nan" else pixels

    def make_trouble(self, work: str, values) -> None:
        pixels = values.shape[-2] * values.shape[-1] * (self.ratio**2 if work == "decode" else 1)
        if self.trouble == work or (self.trouble == "large" and pixels > 512 * 512):
            raise comfy.model_management.OOM_EXCEPTION("made up: out of memory")


class BlockMeans(SpaceToDepth):
    """Four channels, as SD 1.5 has them: the mean color of each block, and its mean brightness. Amplifies nothing."""

    def encode(self, pixels):
        means = F.avg_pool2d(pixels, self.ratio)
        return torch.cat([means, means.mean(1, keepdim=True)], dim=1)

    def decode(self, samples):
        return F.interpolate(samples[:, :3], scale_factor=self.ratio, mode="bilinear")


def vae(kind: str, ratio: int, trouble: str):
    """A VAE of ComfyUI's own class around one of the above."""
    if kind == "real":
        return real_vae()
    made = comfy.sd.VAE(sd={"taesd_decoder.1.weight": torch.zeros(64, 4, 3, 3)}, dtype=torch.float32)
    made.first_stage_model = (BlockMeans if kind == "means" else SpaceToDepth)(ratio, trouble)
    made.latent_channels = 4 if kind == "means" else 3 * ratio**2
    made.downscale_ratio = made.upscale_ratio = ratio
    made.process_input = lambda image: image * 2 - 1
    made.process_output = lambda image: image.add_(1).div_(2).clamp_(0, 1)  # in place: newer hosts drop the result
    made.patcher = comfy.model_patcher.ModelPatcher(made.first_stage_model, made.device, torch.device("cpu"))
    return made


class Clip:
    """Text encoders in the shape the rest of ComfyUI calls them. A token a character."""

    def tokenize(self, text):
        return text

    def encode_from_tokens_scheduled(self, text):
        codes = torch.tensor([ord(character) for character in text or " "], dtype=torch.float32)
        return [[torch.sin(codes[None, :, None] * torch.arange(1, CONTEXT + 1)), {"pooled_output": None}]]


class RecordingHook:
    """A detailer hook that notes its calls, and changes what its settings name."""

    def __init__(self, changes: list[str]) -> None:
        self.calls, self.changes = [], changes

    def _note(self, name, *values):
        self.calls.append([name, *(list(v.shape) if isinstance(v, torch.Tensor) else v for v in values)])

    def touch_scaled_size(self, w, h):
        self._note("touch_scaled_size", w, h)
        return (w + 3, h + 17) if "size" in self.changes else (w, h)

    def post_upscale(self, pixels, mask):
        self._note("post_upscale", pixels, mask)
        return pixels

    def get_skip_sampling(self):
        self._note("get_skip_sampling")
        return "skip" in self.changes

    def post_encode(self, latent):
        self._note("post_encode", latent["samples"])
        return latent

    def get_custom_sampler(self):
        self._note("get_custom_sampler")
        if "sampler" in self.changes:
            import comfy.samplers

            return comfy.samplers.ksampler("heun")
        return None

    def set_steps(self, info):
        self._note("set_steps", list(info))

    def cycle_latent(self, latent):
        self._note("cycle_latent", latent["samples"])
        return latent

    def pre_ksample(self, model, seed, steps, cfg, sampler_name, scheduler, positive, negative, latent, denoise):
        self._note("pre_ksample", seed, steps, cfg, sampler_name, scheduler, latent["samples"], denoise)
        if "sampler_name" in self.changes:
            sampler_name = "unknown"
        if "fails" in self.changes:
            raise ValueError("on purpose")
        return model, seed, steps, cfg, sampler_name, scheduler, positive, negative, latent, denoise

    def get_custom_noise(self, seed, noise, is_touched=False):
        self._note("get_custom_noise", seed, noise, is_touched)
        if "noise" in self.changes:
            return torch.zeros_like(noise) + 1e-3, True
        return noise, is_touched

    def pre_decode(self, latent):
        self._note("pre_decode", latent["samples"])
        return latent

    def post_decode(self, pixels):
        self._note("post_decode", pixels)
        return pixels

    def post_paste(self, image):
        self._note("post_paste", image)
        return image
