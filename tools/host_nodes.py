"""ComfyUI's own nodes for the built-in engine, written from their documented behavior.

They follow the host's arithmetic step by step, so that both produce the same pixels for 8-bit RGB and RGBA PNG files.
"""

from __future__ import annotations

import importlib
import json
import math
import mimetypes
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from image_files import read_images
from pack import load_pack
from workflow.files import next_number

if TYPE_CHECKING:
    import torch

MAX_RESOLUTION = 16384  # the host's limit of sizes and positions


@dataclass(frozen=True)
class Folders:
    """The folders that the nodes read and write."""

    input: Path
    output: Path
    temp: Path

    def files(self) -> list[Path]:
        """The files in the input folder."""
        return [child for child in self.input.iterdir() if child.is_file()] if self.input.is_dir() else []

    def locate(self, name: str) -> Path:
        """The file that a widget's value names. A suffix such as " [output]" selects the folder."""
        for folder in ("output", "input", "temp"):
            if name.endswith(f"[{folder}]"):
                return getattr(self, folder) / name[: -len(f" [{folder}]")]
        return self.input / name


class HostNode:
    """Base class of the host's nodes. The engine sets the folders on its own subclass."""

    folders: Folders
    TITLE = ""
    REQUIRED: dict = {}
    OPTIONAL: dict = {}
    HIDDEN: dict = {}
    RETURN_TYPES: tuple[str, ...] = ()
    FUNCTION = "run"
    CATEGORY = "mask"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        sections = {"required": cls.REQUIRED, "optional": cls.OPTIONAL, "hidden": cls.HIDDEN}
        return {name: inputs for name, inputs in sections.items() if inputs}


class LoadImage(HostNode):
    """Loads an image, or all frames of an animated one, and its inverted alpha."""

    TITLE = "Load Image"
    RETURN_TYPES = ("IMAGE", "MASK")
    CATEGORY = "image"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        kinds = {file.name: mimetypes.guess_type(file.name, strict=False)[0] or "" for file in cls.folders.files()}
        images = sorted(name for name, kind in kinds.items() if kind.startswith("image/"))
        return {"required": {"image": (images, {"image_upload": True})}}

    @classmethod
    def VALIDATE_INPUTS(cls, image: str) -> bool | str:
        exists = isinstance(image, str) and cls.folders.locate(image).exists()
        return True if exists else f"Invalid image file: {image}"

    def run(self, image: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the frames [B,H,W,3] and the masks [B,H,W]; zeros [B,64,64] without alpha."""
        return read_images(self.folders.locate(image))


class LoadImageMask(LoadImage):
    """Loads one channel of an image as a mask; alpha is inverted, colors are not."""

    TITLE = "Load Image (as Mask)"
    RETURN_TYPES = ("MASK",)

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {"required": {**super().INPUT_TYPES()["required"], "channel": (["alpha", "red", "green", "blue"],)}}

    def run(self, image: str, channel: str) -> tuple[torch.Tensor]:
        """Return the mask [B,H,W], in the size of LoadImage's."""
        images, masks = super().run(image)
        return (masks if channel == "alpha" else images[..., ["red", "green", "blue"].index(channel)],)


class SaveImage(HostNode):
    """Writes a batch as PNG files, continues the numbers of existing files, and passes the batch on."""

    TITLE = "Save Image"
    RETURN_TYPES, RETURN_NAMES = ("IMAGE",), ("images",)
    OUTPUT_NODE = True
    CATEGORY = "image"
    REQUIRED = {"images": ("IMAGE",), "filename_prefix": ("STRING", {"default": "ComfyUI"})}
    HIDDEN = {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"}
    kind, compression = "output", 4

    def run(self, images: torch.Tensor, filename_prefix: str = "ComfyUI", **metadata: dict | None) -> dict:
        """Write the images [B,H,W,C] and return the file names. The prefix may contain a subfolder, and placeholders
        such as %width% and %batch_num%."""
        base, prefix = getattr(self.folders, self.kind), filename_prefix
        if "\0" in prefix or prefix.encode("utf-8", "ignore").decode("utf-8") != prefix:
            raise ValueError(f"filename_prefix {prefix!r} contains a character that no file name can contain")
        prefix = _fill_prefix(prefix, images[0].shape[1], images[0].shape[0])
        subfolder, name = os.path.split(os.path.normpath(prefix))
        folder = base / subfolder
        if not folder.resolve().is_relative_to(base.resolve()):
            raise ValueError(f"saving outside the output folder is not allowed (filename_prefix is {prefix})")
        folder.mkdir(parents=True, exist_ok=True)
        counter = next_number(folder, name)
        info = _png_info(**metadata)
        entries = []
        for number, image in enumerate(images):
            file = f"{name.replace('%batch_num%', str(number))}_{counter + number:05}_.png"
            # Rounded down to 8 bits, as in the host.
            _tensors().to_pil(image).save(folder / file, pnginfo=info, compress_level=self.compression)
            entries.append({"filename": file, "subfolder": subfolder, "type": self.kind})
        return {"ui": {"images": entries}, "result": (images,)}


class PreviewImage(SaveImage):
    """Writes a batch as temporary PNG files."""

    TITLE = "Preview Image"
    REQUIRED = {"images": ("IMAGE",)}
    kind, compression = "temp", 1

    def run(self, images: torch.Tensor, **metadata: dict | None) -> dict:
        """Write the images [B,H,W,C] under a random prefix and return the file names."""
        return super().run(images, f"ComfyUI_temp_{secrets.token_hex(3)}", **metadata)


class MaskPreview(PreviewImage):
    """Writes masks as temporary PNG files."""

    TITLE = "Preview Mask"
    RETURN_TYPES, RETURN_NAMES = ("MASK",), ("mask",)
    CATEGORY = "mask"
    REQUIRED = {"mask": ("MASK",)}

    def run(self, mask: torch.Tensor, **metadata: dict | None) -> dict:
        """Write the masks as gray images and return the file names."""
        return {**super().run(_mask_to_image(mask), **metadata), "result": (mask,)}


class ImageCompositeMasked(HostNode):
    """Pastes one image into another, blended by a mask."""

    TITLE = "ImageCompositeMasked"
    RETURN_TYPES = ("IMAGE",)
    CATEGORY = "image"
    POSITION = ("INT", {"default": 0, "min": 0, "max": MAX_RESOLUTION, "step": 1})
    REQUIRED = {"destination": ("IMAGE",), "source": ("IMAGE",), "x": POSITION, "y": POSITION}
    REQUIRED["resize_source"] = ("BOOLEAN", {"default": False})
    OPTIONAL = {"mask": ("MASK",)}

    def run(self, destination, source, x: int, y: int, resize_source: bool, mask=None) -> tuple[torch.Tensor]:
        """Return the destination [B,H,W,C] with the source over it at (x, y), clipped to the destination."""
        import torch

        interpolate = torch.nn.functional.interpolate
        if destination.shape[-1] < source.shape[-1]:
            source = source[..., : destination.shape[-1]]
        elif destination.shape[-1] > source.shape[-1]:
            # Opaque. Some host versions pad the destination by mistake and then fail; the others do this.
            source = torch.nn.functional.pad(source, (0, 1), value=1.0)
        result = destination.clone().movedim(-1, 1)  # bchw from here on
        source = source.movedim(-1, 1).to(result.device)
        count, _, height, width = result.shape
        if resize_source:
            source = interpolate(source, size=(height, width), mode="bilinear")
        source = _fit_batch(source, count)
        mask = source.new_ones(1, *source.shape[-2:]) if mask is None else mask.to(result.device)
        mask = mask.reshape(-1, 1, *mask.shape[-2:])
        mask = _fit_batch(interpolate(mask, size=source.shape[-2:], mode="bilinear"), count)
        left, top = min(x, width), min(y, height)
        inside = (..., slice(0, height - top), slice(0, width - left))
        target = (..., slice(top, top + source.shape[-2]), slice(left, left + source.shape[-1]))
        mask = mask[inside]
        result[target] = mask * source[inside] + (torch.ones_like(mask) - mask) * result[target]
        return (result.movedim(1, -1),)


class ImageScale(HostNode):
    """Scales images to a size, optionally cropped to its aspect ratio first."""

    TITLE = "Upscale Image"
    RETURN_TYPES = ("IMAGE",)
    CATEGORY = "image/upscaling"
    SIZE = ("INT", {"default": 512, "min": 0, "max": MAX_RESOLUTION, "step": 1})
    REQUIRED = {
        "image": ("IMAGE",),
        "upscale_method": (["nearest-exact", "bilinear", "area", "bicubic", "lanczos"],),
        "width": SIZE,
        "height": SIZE,
        "crop": (["disabled", "center"],),
    }

    def run(self, image: torch.Tensor, upscale_method: str, width: int, height: int, crop: str) -> tuple[torch.Tensor]:
        """Return the images [B,height,width,C]. A side of 0 is computed from the other; two keep the size."""
        import torch

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
        if upscale_method == "lanczos":
            return (_scale_by_lanczos(image, width, height),)
        bchw = torch.nn.functional.interpolate(image.movedim(-1, 1), size=(height, width), mode=upscale_method)
        return (bchw.movedim(1, -1),)


CHANNELS = ["red", "green", "blue", "alpha"]


def _node(
    name: str, title: str, category: str, required: dict, outputs: dict[str, str], run: Callable, **more: dict
) -> type:
    """The class of a node without state: `run` takes its inputs, and returns the values of `outputs` (name: type)."""
    kinds = {"RETURN_TYPES": tuple(outputs.values()), "RETURN_NAMES": tuple(outputs)}
    body = {"TITLE": title, "CATEGORY": category, "REQUIRED": required, "run": lambda self, **inputs: run(**inputs)}
    return type(name, (HostNode,), body | kinds | more)


_SIMPLE = (
    _node("MaskToImage", "Convert Mask to Image", "mask", {"mask": ("MASK",)}, {"IMAGE": "IMAGE"},
          lambda mask: (_mask_to_image(mask),)),
    _node("ImageToMask", "Convert Image to Mask", "mask", {"image": ("IMAGE",), "channel": (CHANNELS,)},
          {"MASK": "MASK"}, lambda image, channel: (image[:, :, :, CHANNELS.index(channel)],)),
    _node("InvertMask", "InvertMask", "mask", {"mask": ("MASK",)}, {"MASK": "MASK"}, lambda mask: (1.0 - mask,)),
    _node("GetImageSize", "Get Image Size", "image", {"image": ("IMAGE",)},
          {"width": "INT", "height": "INT", "batch_size": "INT"},
          lambda image, unique_id=None: (image.shape[2], image.shape[1], image.shape[0]),
          HIDDEN={"unique_id": "UNIQUE_ID"}),
)  # fmt: skip
_OTHERS = (LoadImage, LoadImageMask, SaveImage, PreviewImage, MaskPreview, ImageCompositeMasked, ImageScale)
HOST_NODES: dict[str, type[HostNode]] = {kind.__name__: kind for kind in (*_OTHERS, *_SIMPLE)}


def _tensors() -> ModuleType:
    """The pack's core/tensors.py, which defines 8-bit rounding and layouts."""
    return importlib.import_module(f"{load_pack().__name__}.core.tensors")


def _mask_to_image(mask: torch.Tensor) -> torch.Tensor:
    return _tensors().mask_to_image(mask.reshape(-1, *mask.shape[-2:]))


def _scale_by_lanczos(images: torch.Tensor, width: int, height: int) -> torch.Tensor:
    """Scale images [B,H,W,C] with Pillow in 8 bits, as the host does."""
    import numpy as np
    import torch
    from PIL import Image

    pixels = [np.clip(255.0 * image.cpu().numpy(), 0, 255).astype(np.uint8) for image in images]
    scaled = [Image.fromarray(each).resize((width, height), Image.Resampling.LANCZOS) for each in pixels]
    return torch.stack([torch.from_numpy(np.array(each).astype(np.float32) / 255.0) for each in scaled])


def _fit_batch(batch: torch.Tensor, count: int) -> torch.Tensor:
    """Truncate a batch, or repeat it from its start, to `count` entries."""
    times = math.ceil(count / batch.shape[0])
    return batch.repeat(times, *[1] * (batch.dim() - 1))[:count] if times > 1 else batch[:count]


def _fill_prefix(prefix: str, width: int, height: int) -> str:
    codes = {"year": "%Y", "month": "%m", "day": "%d", "hour": "%H", "minute": "%M", "second": "%S"}
    values = {"width": width, "height": height} | {name: time.strftime(code) for name, code in codes.items()}
    for key, value in values.items():
        prefix = prefix.replace(f"%{key}%", str(value))
    return prefix


def _png_info(prompt: dict | None = None, extra_pnginfo: dict | None = None) -> Any:
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    texts = ({"prompt": prompt} if prompt is not None else {}) | (extra_pnginfo or {})
    for key, value in texts.items():
        info.add_text(key, json.dumps(value))
    return info
