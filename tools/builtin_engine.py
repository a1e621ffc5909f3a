"""A small engine that runs mask workflows without ComfyUI: this pack's nodes and a few of ComfyUI's own.

It takes the prompts that ComfyUI takes, refuses what ComfyUI refuses, and computes the same pixels. The host's nodes
that it knows are written anew here, after their documented behaviour; they keep its arithmetic step by step, because
saved workflows are compared pixel by pixel between the two engines.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import math
import mimetypes
import operator
import os
import random
import shutil
import string
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from pack import load_pack
from workflow_files import (
    BadWorkflow,
    NodeFailed,
    Progress,
    RunResult,
    copy_into,
    explain_node_errors,
    id_order,
    links_of,
    needed_nodes,
    output_files,
)

if TYPE_CHECKING:
    import torch
    from PIL import Image
    from typing_extensions import Self

MAX_RESOLUTION = 16384  # the host's bound on sizes and positions
HOW_TO_GET_COMFYUI = "install ComfyUI with `python3 tools/dev.py run --comfyui` or set COMFYUI_PATH"


# ---------------------------------------------------------------------------------------------------------------
# The host's nodes


@dataclass(frozen=True)
class Folders:
    """Where the nodes read and write."""

    input: Path
    output: Path
    temp: Path

    def locate(self, name: str) -> Path:
        """The file that a widget's value names; a mark behind it, such as " [output]", chooses the folder."""
        for mark in ("output", "input", "temp"):
            if name.endswith(f"[{mark}]"):
                return getattr(self, mark) / name[: -len(f" [{mark}]")]
        return self.input / name


class HostNode:
    """What the host's nodes share: the folders, which the engine sets on a subclass of its own."""

    folders: Folders
    RETURN_TYPES: tuple[str, ...] = ()
    FUNCTION = "run"
    CATEGORY = "mask"


class LoadImage(HostNode):
    """A picture, or every frame of an animated one, and its inverted alpha."""

    RETURN_TYPES = ("IMAGE", "MASK")
    CATEGORY = "image"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        files = [file for file in _files_in(cls.folders.input) if _is_picture(file)]
        return {"required": {"image": (files, {"image_upload": True})}}

    @classmethod
    def VALIDATE_INPUTS(cls, image: str) -> bool | str:
        return True if cls.folders.locate(image).exists() else f"Invalid image file: {image}"

    def run(self, image: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Give the frames [B,H,W,3] and the masks [B,H,W], or [1,64,64] of zeros where there is no alpha."""
        import torch

        images, masks = [], []
        for frame in _frames(_open_picture(self.folders.locate(image))):
            picture = frame.convert("RGB")
            pixels = _to_tensor(picture)
            if images and pixels.shape != images[0].shape:
                continue  # the host leaves out frames of another size
            images.append(pixels)
            masks.append(_inverted_alpha(frame))
        return torch.stack(images), torch.stack(masks)


class LoadImageMask(HostNode):
    """One channel of a picture as a mask; alpha comes inverted, the colours as they are."""

    RETURN_TYPES = ("MASK",)

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        channels = ["alpha", "red", "green", "blue"]
        return {"required": {"image": (_files_in(cls.folders.input), {"image_upload": True}), "channel": (channels,)}}

    @classmethod
    def VALIDATE_INPUTS(cls, image: str) -> bool | str:
        return LoadImage.VALIDATE_INPUTS.__func__(cls, image)

    def run(self, image: str, channel: str) -> tuple[torch.Tensor]:
        """Give the mask [1,H,W]."""
        picture = _upright(_open_picture(self.folders.locate(image)))
        if picture.getbands() != ("R", "G", "B", "A"):
            picture = _from_sixteen_bits(picture).convert("RGBA")
        letter = channel[0].upper()
        mask = _to_tensor(picture.getchannel(letter))
        return ((1.0 - mask if letter == "A" else mask)[None],)


class SaveImage(HostNode):
    """Writes a batch as PNG files, numbered on from those there are."""

    OUTPUT_NODE = True
    CATEGORY = "image"
    kind, compression = "output", 4

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {
            "required": {"images": ("IMAGE",), "filename_prefix": ("STRING", {"default": "ComfyUI"})},
            "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"},
        }

    def run(
        self,
        images: torch.Tensor,
        filename_prefix: str = "ComfyUI",
        prompt: dict | None = None,
        extra_pnginfo: dict | None = None,
    ) -> dict:
        """Write the images [B,H,W,C] and name the files."""
        return {"ui": {"images": self.write(images, filename_prefix, prompt, extra_pnginfo)}}

    def write(
        self, images: torch.Tensor, prefix: str, prompt: dict | None, extra_pnginfo: dict | None
    ) -> list[dict[str, str]]:
        """Write the images under the prefix, which may name a subfolder and hold %width%, %batch_num% and the like."""
        import numpy as np
        from PIL import Image

        base = getattr(self.folders, self.kind)
        prefix = _filled_prefix(prefix, images[0].shape[1], images[0].shape[0])
        subfolder, name = os.path.split(os.path.normpath(prefix))
        folder = base / subfolder
        if not folder.resolve().is_relative_to(base.resolve()):
            raise ValueError(f"saving outside the output folder is not allowed (filename_prefix is {prefix})")
        folder.mkdir(parents=True, exist_ok=True)
        counter = _next_counter(folder, name)
        metadata = _png_metadata(prompt, extra_pnginfo)
        saved = []
        for number, image in enumerate(images):
            # Cut off, not rounded: the host's way.
            pixels = np.clip(255.0 * image.cpu().numpy(), 0, 255).astype(np.uint8)
            file = f"{name.replace('%batch_num%', str(number))}_{counter + number:05}_.png"
            Image.fromarray(pixels).save(folder / file, pnginfo=metadata, compress_level=self.compression)
            saved.append({"filename": file, "subfolder": subfolder, "type": self.kind})
        return saved


class PreviewImage(SaveImage):
    """Writes a batch as temporary PNG files."""

    kind, compression = "temp", 1

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {
            "required": {"images": ("IMAGE",)},
            "hidden": {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"},
        }

    def run(self, images: torch.Tensor, prompt: dict | None = None, extra_pnginfo: dict | None = None) -> dict:
        """Write the images [B,H,W,C] under a name of their own and name the files."""
        prefix = "ComfyUI_temp_" + "".join(random.choice(string.ascii_lowercase) for _ in range(5))
        return {"ui": {"images": self.write(images, prefix, prompt, extra_pnginfo)}}


class MaskPreview(PreviewImage):
    """Writes masks as temporary PNG files."""

    CATEGORY = "mask"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {**super().INPUT_TYPES(), "required": {"mask": ("MASK",)}}

    def run(self, mask: torch.Tensor, prompt: dict | None = None, extra_pnginfo: dict | None = None) -> dict:
        """Write the masks as grey pictures and name the files."""
        return super().run(_mask_to_image(mask), prompt, extra_pnginfo)


class MaskToImage(HostNode):
    """A mask as a grey picture."""

    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {"required": {"mask": ("MASK",)}}

    def run(self, mask: torch.Tensor) -> tuple[torch.Tensor]:
        """Give the image [B,H,W,3]."""
        return (_mask_to_image(mask),)


class ImageToMask(HostNode):
    """One channel of a picture as a mask, as it is."""

    RETURN_TYPES = ("MASK",)
    CHANNELS = ("red", "green", "blue", "alpha")

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {"required": {"image": ("IMAGE",), "channel": (list(cls.CHANNELS),)}}

    def run(self, image: torch.Tensor, channel: str) -> tuple[torch.Tensor]:
        """Give the mask [B,H,W]."""
        return (image[:, :, :, self.CHANNELS.index(channel)],)


class InvertMask(HostNode):
    """1 minus the mask."""

    RETURN_TYPES = ("MASK",)

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return {"required": {"mask": ("MASK",)}}

    def run(self, mask: torch.Tensor) -> tuple[torch.Tensor]:
        """Give the inverted mask."""
        return (1.0 - mask,)


class ImageCompositeMasked(HostNode):
    """Pastes one picture into another, blended by a mask."""

    RETURN_TYPES = ("IMAGE",)
    CATEGORY = "image"

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        position = {"default": 0, "min": 0, "max": MAX_RESOLUTION, "step": 1}
        return {
            "required": {
                "destination": ("IMAGE",),
                "source": ("IMAGE",),
                "x": ("INT", position),
                "y": ("INT", position),
                "resize_source": ("BOOLEAN", {"default": False}),
            },
            "optional": {"mask": ("MASK",)},
        }

    def run(
        self,
        destination: torch.Tensor,
        source: torch.Tensor,
        x: int,
        y: int,
        resize_source: bool,
        mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor]:
        """Give the destination [B,H,W,C] with the source over it at (x, y); what falls outside is cut off."""
        import torch

        interpolate = torch.nn.functional.interpolate
        if destination.shape[-1] < source.shape[-1]:
            source = source[..., : destination.shape[-1]]
        elif destination.shape[-1] > source.shape[-1]:
            # Opaque. Some hosts widen the destination by mistake and then fail; those that work do this.
            source = torch.nn.functional.pad(source, (0, 1), value=1.0)
        result = destination.clone().movedim(-1, 1)  # bchw from here on
        source = source.movedim(-1, 1).to(result.device)
        count, _, height, width = result.shape
        if resize_source:
            source = interpolate(source, size=(height, width), mode="bilinear")
        source = _repeated(source, count)
        if mask is None:
            mask = torch.ones_like(source)
        else:
            mask = mask.to(result.device).reshape(-1, 1, *mask.shape[-2:])
            mask = _repeated(interpolate(mask, size=source.shape[-2:], mode="bilinear"), count)

        left, top = min(x, width), min(y, height)
        inside = (..., slice(0, height - top), slice(0, width - left))
        target = (..., slice(top, top + source.shape[-2]), slice(left, left + source.shape[-1]))
        mask = mask[inside]
        result[target] = mask * source[inside] + (torch.ones_like(mask) - mask) * result[target]
        return (result.movedim(1, -1),)


HOST_NODES: dict[str, type[HostNode]] = {
    kind.__name__: kind
    for kind in (
        LoadImage, LoadImageMask, SaveImage, PreviewImage, MaskPreview, MaskToImage, ImageToMask, InvertMask,
        ImageCompositeMasked,
    )
}  # fmt: skip
HOST_TITLES = {
    "LoadImage": "Load Image",
    "LoadImageMask": "Load Image (as Mask)",
    "SaveImage": "Save Image",
    "PreviewImage": "Preview Image",
    "MaskPreview": "Preview Mask",
    "MaskToImage": "Convert Mask to Image",
    "ImageToMask": "Convert Image to Mask",
}


def _files_in(folder: Path) -> list[str]:
    return sorted(child.name for child in folder.iterdir() if child.is_file()) if folder.is_dir() else []


def _is_picture(name: str) -> bool:
    return (mimetypes.guess_type(name, strict=False)[0] or "").startswith("image/")


def _open_picture(path: Path) -> Image.Image:
    from PIL import Image

    return _leniently(Image.open, path)


def _leniently(step: Callable, argument: Any) -> Any:
    """Do a step of Pillow's; where it fails, once more with files that are cut short allowed, as the host does."""
    from PIL import ImageFile, UnidentifiedImageError

    try:
        return step(argument)
    except (OSError, UnidentifiedImageError, ValueError):
        before = ImageFile.LOAD_TRUNCATED_IMAGES
        ImageFile.LOAD_TRUNCATED_IMAGES = True
        try:
            return step(argument)
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = before


def _frames(picture: Image.Image) -> Iterator[Image.Image]:
    """The frames, upright and with at most 8 bits; of an MPO file (a stereo photo) only the first."""
    from PIL import ImageSequence

    for frame in ImageSequence.Iterator(picture):
        yield _from_sixteen_bits(_upright(frame))
        if picture.format == "MPO":
            return


def _upright(picture: Image.Image) -> Image.Image:
    """Turned as the camera's EXIF note says."""
    from PIL import ImageOps

    return _leniently(ImageOps.exif_transpose, picture)


def _from_sixteen_bits(picture: Image.Image) -> Image.Image:
    """Mode I scaled down by 255. 65535 / 255 is 257, not 255, and Pillow bounds it: the host's arithmetic, kept."""
    return picture.point(lambda value: value * (1 / 255)) if picture.mode == "I" else picture


def _to_tensor(picture: Image.Image) -> torch.Tensor:
    import numpy as np
    import torch

    return torch.from_numpy(np.array(picture).astype(np.float32) / 255.0)


def _inverted_alpha(picture: Image.Image) -> torch.Tensor:
    import torch

    if "A" in picture.getbands():
        return 1.0 - _to_tensor(picture.getchannel("A"))
    if picture.mode == "P" and "transparency" in picture.info:
        return 1.0 - _to_tensor(picture.convert("RGBA").getchannel("A"))
    return torch.zeros((64, 64), dtype=torch.float32)


def _mask_to_image(mask: torch.Tensor) -> torch.Tensor:
    return mask.reshape(-1, *mask.shape[-2:], 1).expand(-1, -1, -1, 3)


def _repeated(batch: torch.Tensor, count: int) -> torch.Tensor:
    """A batch cut, or repeated from its beginning, to `count` entries."""
    times = math.ceil(count / batch.shape[0])
    return batch.repeat(times, *[1] * (batch.dim() - 1))[:count] if times > 1 else batch[:count]


def _filled_prefix(prefix: str, width: int, height: int) -> str:
    now = time.localtime()
    values = {"width": width, "height": height, "year": now.tm_year, "month": f"{now.tm_mon:02}"}
    values |= {"day": f"{now.tm_mday:02}", "hour": f"{now.tm_hour:02}"}
    values |= {"minute": f"{now.tm_min:02}", "second": f"{now.tm_sec:02}"}
    for key, value in values.items():
        prefix = prefix.replace(f"%{key}%", str(value))
    return prefix


def _next_counter(folder: Path, name: str) -> int:
    """One more than the highest number among the files `<name>_<number>_...` of the folder."""
    highest = 0
    for file in os.listdir(folder):
        head, mark, rest = file[: len(name)], file[len(name) : len(name) + 1], file[len(name) + 1 :]
        if mark == "_" and os.path.normcase(head) == os.path.normcase(name):
            digits = rest.split("_")[0]
            highest = max(highest, int(digits) if digits.isdecimal() else 0)
    return highest + 1


def _png_metadata(prompt: dict | None, extra_pnginfo: dict | None) -> Any:
    from PIL.PngImagePlugin import PngInfo

    metadata = PngInfo()
    if prompt is not None:
        metadata.add_text("prompt", json.dumps(prompt))
    for key, value in (extra_pnginfo or {}).items():
        metadata.add_text(key, json.dumps(value))
    return metadata


# ---------------------------------------------------------------------------------------------------------------
# The engine


class BuiltinEngine:
    """Runs API-format prompts in this process, for the length of a `with` block, in a scratch folder of its own."""

    name = "the built-in engine"

    def __init__(
        self, node_classes: dict[str, type] | None = None, display_names: dict[str, str] | None = None
    ) -> None:
        """Takes: node classes by type, and their display names; None for both: this pack's, through `load_pack`.

        Raises: what `load_pack` raises.
        """
        if node_classes is None:
            pack = load_pack()
            node_classes = pack.NODE_CLASS_MAPPINGS
            display_names = getattr(pack, "NODE_DISPLAY_NAME_MAPPINGS", {})
        self._given = node_classes
        self._titles = {**HOST_TITLES, **(display_names or {})}
        self._classes: dict[str, type] = {}
        self.base: Path | None = None

    def __enter__(self) -> Self:
        self.base = Path(tempfile.mkdtemp(prefix="maskwright-builtin-")).resolve()
        for name in ("input", "output", "temp"):
            (self.base / name).mkdir()
        folders = Folders(self.base / "input", self.base / "output", self.base / "temp")
        host = {name: type(name, (kind,), {"folders": folders}) for name, kind in HOST_NODES.items()}
        self._classes = {**self._given, **host}  # ComfyUI does not let a pack replace its own nodes either
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.base, ignore_errors=True)

    @property
    def input_folder(self) -> Path:
        """The folder that LoadImage reads from."""
        return self.base / "input"

    def copy_input(self, file: Path, name: str | None = None) -> str:
        """Copy `file` into the input folder, as `name` (default: its own), and give the name a widget holds.

        Raises: `OSError` when it cannot be read; `ValueError` when `name` leads out of the folder.
        """
        return copy_into(self.input_folder, file, name)

    def object_info(self) -> dict:
        """Every node this engine knows, in the shape of ComfyUI's /object_info: {type: schema}."""
        return {name: _node_info(name, kind, self._titles.get(name, name)) for name, kind in self._classes.items()}

    def unknown(self, node_type: str) -> str:
        """The end of the sentence "node 7 (KSampler) ..." for a type this engine cannot run."""
        return f"needs ComfyUI: the built-in engine runs only mask nodes; {HOW_TO_GET_COMFYUI}"

    def queue(self, prompt: dict, *, extra_pnginfo: dict | None = None, progress: Progress | None = None) -> RunResult:
        """Run an API-format prompt.

        Takes: `prompt`; `extra_pnginfo`, what SaveImage writes into its files beside the prompt; `progress`, told
        how far it is. Gives: a `RunResult`; its files lie in the scratch folder. Raises: `BadWorkflow` for unknown
        nodes and for every value that ComfyUI would refuse; `NodeFailed` when a node fails.
        """
        unknown = [(key, node["class_type"]) for key, node in prompt.items() if node["class_type"] not in self._classes]
        if unknown:
            raise BadWorkflow(f"node {key} ({kind}) {self.unknown(kind)}" for key, kind in unknown)
        prompt = json.loads(json.dumps(prompt))  # validation turns values into their widgets' types, in place
        info = self.object_info()
        needed = needed_nodes(prompt, info)
        errors = {key: found for key in needed if (found := _node_errors(prompt, key, self._classes, info))}
        if errors:
            raise BadWorkflow(explain_node_errors(errors, info, prompt))
        run = _Run(prompt, self._classes, extra_pnginfo)
        order = _run_order(prompt, needed)
        for number, node_id in enumerate(order):
            if progress:
                progress(f"node {node_id} ({prompt[node_id]['class_type']})", number, len(order))
            run.node(node_id)
        if progress:
            progress("done", len(order), len(order))
        return RunResult(run.shown, output_files(run.shown, self.base))


def _node_info(name: str, kind: type, title: str) -> dict:
    """A node class as /object_info shows it. JSON and back, so that both engines hand out the very same types."""
    inputs = kind.INPUT_TYPES()
    outputs = list(kind.RETURN_TYPES)
    info = {
        "input": inputs,
        "input_order": {section: list(found) for section, found in inputs.items()},
        "output": outputs,
        "output_is_list": list(getattr(kind, "OUTPUT_IS_LIST", [False] * len(outputs))),
        "output_name": list(getattr(kind, "RETURN_NAMES", outputs)),
        "name": name,
        "display_name": title,
        "description": getattr(kind, "DESCRIPTION", ""),
        "python_module": "nodes" if issubclass(kind, HostNode) else "custom_nodes.maskwright",
        "category": getattr(kind, "CATEGORY", "sd"),
        "output_node": bool(getattr(kind, "OUTPUT_NODE", False)),
    }
    if hasattr(kind, "OUTPUT_TOOLTIPS"):
        info["output_tooltips"] = list(kind.OUTPUT_TOOLTIPS)
    for key in ("DEPRECATED", "EXPERIMENTAL"):
        if getattr(kind, key, False):
            info[key.lower()] = True
    return json.loads(json.dumps(info))


def _run_order(prompt: dict, needed: set[str]) -> list[str]:
    """The needed nodes, each after all it draws on, by id where that leaves a choice."""
    order: list[str] = []
    placed: set[str] = set()
    for start in sorted(needed, key=id_order):
        stack = [(start, False)]
        while stack:
            node_id, ready = stack.pop()
            if ready:
                order.append(node_id)
            elif node_id not in placed:
                placed.add(node_id)
                stack.append((node_id, True))
                stack += [(source, False) for _name, (source, _slot) in links_of(prompt[node_id])]
    return order


# -- checking values, with ComfyUI's own words for the faults ------------------------------------------------------

_CONVERTERS = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}


def _node_errors(prompt: dict, node_id: str, classes: dict[str, type], info: dict) -> dict | None:
    """A node's faults in the shape of /prompt's `node_errors`, or None. Converts literal values in place."""
    node = prompt[node_id]
    kind = classes[node["class_type"]]
    validate = getattr(kind, "VALIDATE_INPUTS", None)
    spec = inspect.getfullargspec(validate) if validate else None
    own = set(spec.args) if spec else set()  # what the node checks itself is not checked here
    errors, received = [], {}
    for section in ("required", "optional"):
        for name, declared in (kind.INPUT_TYPES().get(section) or {}).items():
            if name not in node["inputs"]:
                if section == "required":
                    errors.append(_error("required_input_missing", "Required input is missing", name))
                continue
            options = declared[1] if len(declared) > 1 else {}
            value = node["inputs"][name]
            if isinstance(value, list):
                error = _link_error(name, declared[0], value, prompt, info, received, skip="input_types" in own)
            else:
                unchecked = name in own or bool(spec and spec.varkw)
                error = _convert(node["inputs"], name, declared[0])
                error = error or (None if unchecked else _range_error(node["inputs"], name, declared[0], options))
            if error:
                errors.append(error)
    if not errors and validate:
        errors = _custom_errors(kind, node["inputs"], spec, received)
    return {"class_type": node["class_type"], "errors": errors} if errors else None


def _error(fault: str, message: str, name: str, details: str = "", **extra: object) -> dict:
    return {"type": fault, "message": message, "details": details or name, "extra_info": {"input_name": name, **extra}}


def _link_error(
    name: str, wanted: object, value: list, prompt: dict, info: dict, received: dict, skip: bool
) -> dict | None:
    if len(value) != 2 or str(value[0]) not in prompt or not isinstance(value[1], int):
        return _error("bad_linked_input", "Bad linked input, it must be [node id, slot]", name, received_value=value)
    given = info[prompt[str(value[0])]["class_type"]]["output"][value[1]]
    received[name] = given
    if skip or _types_fit(given, wanted):
        return None
    return _error("return_type_mismatch", "Linked types differ", name, received_type=given, linked_node=value)


def _types_fit(given: object, wanted: object) -> bool:
    if not operator.ne(given, wanted):  # not "==": the any-type of many packs is a str that answers False to != only
        return True
    if isinstance(given, list):
        return wanted == "COMBO"
    if not isinstance(given, str) or not isinstance(wanted, str):
        return False
    offers, takes = ({part.strip() for part in text.split(",")} for text in (given, wanted))
    return bool(offers & takes) or "*" in offers or "*" in takes


def _convert(inputs: dict, name: str, kind: object) -> dict | None:
    value = inputs[name]
    if isinstance(value, dict) and "__value__" in value:
        value = inputs[name] = value["__value__"]
    convert = _CONVERTERS.get(kind) if isinstance(kind, str) else None
    if convert is None:
        return None
    try:
        inputs[name] = convert(value)
    except (TypeError, ValueError, OverflowError) as error:
        return _error("invalid_input_type", f"Not a value of type {kind}", name, str(error), received_value=value)
    return None


def _range_error(inputs: dict, name: str, kind: object, options: dict) -> dict | None:
    value = inputs[name]
    if "min" in options and value < options["min"]:
        return _error("value_smaller_than_min", f"smaller than {options['min']}", name, received_value=value)
    if "max" in options and value > options["max"]:
        return _error("value_bigger_than_max", f"bigger than {options['max']}", name, received_value=value)
    choices = kind if isinstance(kind, (list, tuple)) else options.get("options", []) if kind == "COMBO" else None
    if choices is not None and value not in choices:
        return _error("value_not_in_list", "Value not in list", name, received_value=value)
    return None


def _custom_errors(kind: type, inputs: dict, spec: inspect.FullArgSpec, received: dict) -> list[dict]:
    """What the node's own VALIDATE_INPUTS says. It sees literal values only; links come as None."""
    wanted = {name for name in inputs if name in spec.args or spec.varkw}
    values = {name: None if isinstance(inputs[name], list) else inputs[name] for name in wanted}
    if "input_types" in spec.args:
        values["input_types"] = received
    if not values:
        return []
    answer = kind.VALIDATE_INPUTS(**values)
    if answer is True:
        return []
    first = next((name for name in spec.args if name in wanted), "")
    reason = "" if answer is False else f" - {answer}"
    return [_error("custom_validation_failed", "The node refuses this value", first, f"{first}{reason}")]


# -- running -------------------------------------------------------------------------------------------------------


class _Run:
    """One run of a prompt: every node's outputs, each a list as ComfyUI keeps them, and what the nodes showed."""

    def __init__(self, prompt: dict, classes: dict[str, type], extra_pnginfo: dict | None) -> None:
        self._prompt, self._classes, self._extra_pnginfo = prompt, classes, extra_pnginfo
        self._outputs: dict[str, list[list]] = {}
        self.shown: dict[str, dict] = {}

    def node(self, node_id: str) -> None:
        """Run one node whose sources have run. Raises: `NodeFailed`."""
        kind = self._classes[self._prompt[node_id]["class_type"]]
        try:
            results = _call(kind(), kind, self._arguments(node_id, kind))
            shown, tuples = _take_apart(results)
            self._outputs[node_id] = _merge(tuples, kind)
        except Exception as error:  # whatever a node raises is reported with the node's name
            node_type = self._prompt[node_id]["class_type"]
            name = f"{type(error).__module__}.{type(error).__qualname__}"
            raise NodeFailed(node_id, node_type, str(error), name, traceback.format_exc()) from error
        if shown:
            self.shown[node_id] = shown

    def _arguments(self, node_id: str, kind: type) -> dict[str, list]:
        declared = kind.INPUT_TYPES()
        known = {*declared.get("required", {}), *declared.get("optional", {})}
        inputs = self._prompt[node_id]["inputs"]
        links = dict(links_of(self._prompt[node_id]))
        # Literal values that the node does not declare are dropped; unknown links are passed on: the host's way.
        arguments = {name: [value] for name, value in inputs.items() if name in known and name not in links}
        for name, (source, slot) in links.items():
            outputs = self._outputs[source]
            arguments[name] = outputs[slot] if slot < len(outputs) else [None]
        for name, wanted in declared.get("hidden", {}).items():
            values = {"UNIQUE_ID": node_id, "PROMPT": self._prompt, "EXTRA_PNGINFO": self._extra_pnginfo}
            wanted = wanted[0] if isinstance(wanted, (list, tuple)) else wanted
            if wanted in values:
                arguments[name] = [values[wanted]]
        return arguments


def _call(node: object, kind: type, arguments: dict[str, list]) -> list:
    """Call a node once for each entry of its longest list; shorter lists repeat their last entry."""
    method = getattr(node, kind.FUNCTION)
    if getattr(kind, "INPUT_IS_LIST", False):
        return [_finished(method(**arguments))]
    longest = max((len(values) for values in arguments.values()), default=0)
    if longest == 0:
        return [_finished(method())]
    return [
        _finished(method(**{name: values[min(index, len(values) - 1)] for name, values in arguments.items()}))
        for index in range(longest)
    ]


def _finished(result: Any) -> Any:
    return asyncio.run(result) if inspect.iscoroutine(result) else result


def _take_apart(results: list) -> tuple[dict, list[tuple]]:
    """Split what a node returned into what it shows and its output tuples."""
    shown: dict[str, list] = {}
    tuples = []
    for result in results:
        if not isinstance(result, dict):
            tuples.append(result)
            continue
        if "expand" in result:
            raise NotImplementedError("the node builds more nodes while it runs, which only ComfyUI can do")
        for key, values in result.get("ui", {}).items():
            shown.setdefault(key, []).extend(values)
        if "result" in result:
            tuples.append(result["result"])
    return shown, tuples


def _merge(tuples: list[tuple], kind: type) -> list[list]:
    """One list for each output: the entries of every call, or all their entries where the output is itself a list."""
    if not tuples or tuples[0] is None:
        return []
    is_list = getattr(kind, "OUTPUT_IS_LIST", [False] * len(tuples[0]))
    return [
        [entry for result in tuples for entry in result[slot]] if listed else [result[slot] for result in tuples]
        for slot, listed in zip(range(len(tuples[0])), is_list, strict=False)
    ]
