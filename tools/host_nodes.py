"""ComfyUI's own nodes for the built-in engine, written from their documented behavior.

They follow the host's arithmetic step by step, so that both produce the same pixels for 8-bit RGB and RGBA PNG files.
"""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from pack import load_pack
from PIL import Image, ImageOps, ImageSequence
from PIL.PngImagePlugin import PngInfo
from workflow.run_files import next_number

load_pack()
from maskwright.core import tensors  # noqa: E402 - found through the pack

HOST_NODES: dict[str, type[HostNode]] = {}


class HostNode:
    """Base class of the host's nodes. The engine sets the folders "input", "output" and "temp" on its own subclass."""

    folders: dict[str, Path]
    MODULE = "nodes"
    FUNCTION = "run"
    INPUTS: dict[str, dict] = {}

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return cls.INPUTS

    def locate(self, name: str) -> Path:
        """The file that a widget's value names. A suffix such as " [output]" selects the folder."""
        match = re.fullmatch(r"(.*) \[(input|output|temp)\]", name)
        return self.folders[match[2]] / match[1] if match else self.folders["input"] / name

    def save(self, kind: str, images: torch.Tensor, prefix: str, metadata: dict) -> dict:
        """Save images [B,H,W,C] under a prefix in a folder, and continue the numbers of existing files there."""
        codes = {"year": "%Y", "month": "%m", "day": "%d", "hour": "%H", "minute": "%M", "second": "%S"}
        values = {name: time.strftime(code) for name, code in codes.items()}
        for key, value in {**values, "width": images.shape[2], "height": images.shape[1]}.items():
            prefix = prefix.replace(f"%{key}%", str(value))
        base, (subfolder, name) = self.folders[kind], os.path.split(os.path.normpath(prefix))
        folder = base / subfolder
        if not folder.resolve().is_relative_to(base.resolve()):
            raise ValueError(f"saving outside the output folder is not allowed (filename_prefix is {prefix})")
        folder.mkdir(parents=True, exist_ok=True)
        counter, info, entries = next_number(folder, name), PngInfo(), []
        for key, value in {"prompt": metadata.get("prompt"), **(metadata.get("extra_pnginfo") or {})}.items():
            info.add_text(key, json.dumps(value))
        for number, image in enumerate(images):
            file = f"{name.replace('%batch_num%', str(number))}_{counter + number:05}_.png"
            tensors.to_pil(image).save(folder / file, pnginfo=info, compress_level=4)  # rounds down, as the host
            entries.append({"filename": file, "subfolder": subfolder, "type": kind})
        return {"images": entries}


def host_node(title: str, category: str, outputs: dict[str, str], required: dict, **more: object) -> Callable:
    """Make a node from its method. Args: the types of its `outputs` by name; `more`, other class attributes."""

    def make(run: Callable) -> type[HostNode]:
        sections = {"required": required, "optional": more.pop("optional", {}), "hidden": more.pop("hidden", {})}
        inputs = {section: entries for section, entries in sections.items() if entries}
        kinds = {"RETURN_TYPES": tuple(outputs.values()), "RETURN_NAMES": tuple(outputs)}
        body = {"TITLE": title, "CATEGORY": category, "INPUTS": inputs, "run": run, **kinds, **more}
        HOST_NODES[run.__name__] = type(run.__name__, (HostNode,), body)
        return HOST_NODES[run.__name__]

    return make


COLORS = ["red", "green", "blue"]
FILE = ([], {"image_upload": True})
IMAGE, MASK = {"image": ("IMAGE",)}, {"mask": ("MASK",)}
SIDE = ("INT", {"default": 512, "min": 0, "max": 16384, "step": 1})
POSITION = ("INT", {"default": 0, "min": 0, "max": 16384, "step": 1})
SAVES = {"hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"}, "OUTPUT_NODE": True}


@host_node("Load Image", "image", {"IMAGE": "IMAGE", "MASK": "MASK"}, {"image": FILE})
def LoadImage(self: HostNode, image: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the frames [B,H,W,3] and the masks, 1 minus alpha, [B,H,W]; zeros [B,64,64] without alpha."""
    return read_images(self.locate(image))


@host_node("Load Image (as Mask)", "mask", {"MASK": "MASK"}, {"image": FILE, "channel": (["alpha", *COLORS],)})
def LoadImageMask(self: HostNode, image: str, channel: str) -> tuple[torch.Tensor]:
    """Return one channel as a mask [B,H,W], in the size of LoadImage's; alpha is inverted, colors are not."""
    images, masks = read_images(self.locate(image))
    return (masks if channel == "alpha" else images[..., COLORS.index(channel)],)


SAVED = {"images": ("IMAGE",), "filename_prefix": ("STRING", {"default": "ComfyUI"})}


@host_node("Save Image", "image", {"images": "IMAGE"}, SAVED, **SAVES)
def SaveImage(self: HostNode, images: torch.Tensor, filename_prefix: str = "ComfyUI", **metadata: dict | None) -> dict:
    """Write the images [B,H,W,C] as PNG files. The prefix may contain a subfolder, and placeholders such as %width%."""
    return {"ui": self.save("output", images, filename_prefix, metadata), "result": (images,)}


@host_node("Preview Image", "image", {"images": "IMAGE"}, {"images": ("IMAGE",)}, **SAVES)
def PreviewImage(self: HostNode, images: torch.Tensor, **metadata: dict | None) -> dict:
    """Write the images [B,H,W,C] as temporary PNG files."""
    return {"ui": self.save("temp", images, "ComfyUI_temp", metadata), "result": (images,)}


@host_node("Preview Mask", "mask", {"mask": "MASK"}, MASK, **SAVES)
def MaskPreview(self: HostNode, mask: torch.Tensor, **metadata: dict | None) -> dict:
    """Write the masks as temporary gray PNG files."""
    return {"ui": self.save("temp", _mask_to_image(mask), "ComfyUI_temp", metadata), "result": (mask,)}


@host_node("Convert Mask to Image", "mask", {"IMAGE": "IMAGE"}, MASK)
def MaskToImage(self: HostNode, mask: torch.Tensor) -> tuple[torch.Tensor]:
    return (_mask_to_image(mask),)


@host_node("Convert Image to Mask", "mask", {"MASK": "MASK"}, {**IMAGE, "channel": ([*COLORS, "alpha"],)})
def ImageToMask(self: HostNode, image: torch.Tensor, channel: str) -> tuple[torch.Tensor]:
    return (image[:, :, :, [*COLORS, "alpha"].index(channel)],)  # the error for a missing channel is the host's


@host_node("InvertMask", "mask", {"MASK": "MASK"}, MASK)
def InvertMask(self: HostNode, mask: torch.Tensor) -> tuple[torch.Tensor]:
    return (1.0 - mask,)


SIZES = {"width": "INT", "height": "INT", "batch_size": "INT"}


@host_node("Get Image Size", "image", SIZES, IMAGE, hidden={"unique_id": "UNIQUE_ID"})
def GetImageSize(self: HostNode, image: torch.Tensor, unique_id: str | None = None) -> tuple[int, int, int]:
    return image.shape[2], image.shape[1], image.shape[0]


PASTED = {"destination": ("IMAGE",), "source": ("IMAGE",), "x": POSITION, "y": POSITION}
PASTED["resize_source"] = ("BOOLEAN", {"default": False})


@host_node("ImageCompositeMasked", "image", {"IMAGE": "IMAGE"}, PASTED, optional={"mask": ("MASK",)})
def ImageCompositeMasked(self: HostNode, destination, source, x: int, y: int, resize_source: bool, mask=None) -> tuple:
    """Return the destination [B,H,W,C] with the source over it at (x, y), blended by the mask and clipped."""
    if destination.shape[-1] < source.shape[-1]:
        source = source[..., : destination.shape[-1]]
    elif destination.shape[-1] > source.shape[-1]:
        # Opaque. Some host versions pad the destination by mistake and then fail; the others do this.
        source = torch.nn.functional.pad(source, (0, 1), value=1.0)
    result = destination.clone()
    count, height, width = result.shape[:3]
    if resize_source:
        source = _resize(source, height, width, "bilinear")
    mask = source.new_ones(1, *source.shape[1:3], 1) if mask is None else mask.reshape(-1, *mask.shape[-2:], 1)
    mask = _resize(mask, *source.shape[1:3], "bilinear")  # [B,h,w,1]
    covered = result[:, y:, x:][:, : source.shape[1], : source.shape[2]]
    inside = (slice(None), slice(covered.shape[1]), slice(covered.shape[2]))
    source, mask = _fit_batch(source, count)[inside], _fit_batch(mask, count)[inside]
    covered.copy_(mask * source + (1.0 - mask) * covered)
    return (result,)


METHODS = ["nearest-exact", "bilinear", "area", "bicubic", "lanczos"]
SCALED = {"image": ("IMAGE",), "upscale_method": (METHODS,), "width": SIDE, "height": SIDE}
SCALED["crop"] = (["disabled", "center"],)


@host_node("Upscale Image", "image/upscaling", {"IMAGE": "IMAGE"}, SCALED)
def ImageScale(self: HostNode, image: torch.Tensor, upscale_method: str, width: int, height: int, crop: str) -> tuple:
    """Return the images [B,height,width,C]. A side of 0 is computed from the other; two keep the size."""
    old_height, old_width = image.shape[1:3]
    if width == 0 and height == 0:
        return (image,)
    width = width or max(1, round(old_width * height / old_height))
    height = height or max(1, round(old_height * width / old_width))
    if crop == "center":
        old_aspect, aspect = old_width / old_height, width / height
        x = round((old_width - old_width * min(1, aspect / old_aspect)) / 2)
        y = round((old_height - old_height * min(1, old_aspect / aspect)) / 2)
        image = image[:, y : old_height - y, x : old_width - x]
    if upscale_method == "lanczos":  # with Pillow in 8 bits, as the host does
        pixels = [tensors.to_pil(each).resize((width, height), Image.Resampling.LANCZOS) for each in image]
        return (torch.stack([tensors.from_pil(each) for each in pixels]),)
    return (_resize(image, height, width, upscale_method),)


def _resize(image: torch.Tensor, height: int, width: int, mode: str) -> torch.Tensor:
    """Resize [B,H,W,C] without antialiasing and clamping, as the host does."""
    return torch.nn.functional.interpolate(image.movedim(-1, 1), (height, width), mode=mode).movedim(1, -1)


def _mask_to_image(mask: torch.Tensor) -> torch.Tensor:
    return tensors.mask_to_image(mask.reshape(-1, *mask.shape[-2:]))


def _fit_batch(batch: torch.Tensor, count: int) -> torch.Tensor:
    """Truncate a batch, or repeat it from its start, to `count` entries."""
    times = math.ceil(count / batch.shape[0])
    return batch.repeat(times, *[1] * (batch.dim() - 1))[:count]


def read_images(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Read every frame of an image file, in any format of Pillow's, rotated by its EXIF orientation.

    Returns: the images, float32 ``[B,H,W,3]``, scaled to 0..1 without clipping, and the masks, 1 minus alpha,
    ``[B,H,W]``, or zeros ``[B,64,64]`` if no frame has alpha. Frames whose size differs from the first are skipped.
    Raises: Pillow's errors for a file that it cannot read.
    """
    frames = list(_frames(path))
    frames = [frame for frame in frames if frame.shape[:2] == frames[0].shape[:2]]
    size = frames[0].shape[:2] if any(frame.shape[-1] == 4 for frame in frames) else (64, 64)
    masks = [1.0 - frame[..., 3] if frame.shape[-1] == 4 else torch.zeros(size) for frame in frames]
    return torch.stack([frame[..., :3] for frame in frames]), torch.stack(masks)


def _frames(path: Path) -> Iterator[torch.Tensor]:
    """The frames of a file, upright, ``[H,W,3 or 4]``; of a stereo photo (MPO) only the first."""
    with Image.open(path) as file:
        for frame in ImageSequence.Iterator(file):
            frame = ImageOps.exif_transpose(frame)
            if frame.mode == "F" or frame.mode.startswith("I"):  # more than 8 bits
                values = np.nan_to_num(np.asarray(frame, dtype=np.float32), posinf=1.0, neginf=0.0)
                largest = np.maximum(values.max(), np.float32(1 if frame.mode == "F" else 65535))  # white, mostly
                yield torch.from_numpy((values / largest).clip(0, 1))[..., None].expand(-1, -1, 3)
            else:
                has_alpha = frame.mode.lower().endswith("a") or "transparency" in frame.info
                yield tensors.from_pil(frame.convert("RGBA" if has_alpha else "RGB"))
            if file.format == "MPO":
                return
