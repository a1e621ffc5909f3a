"""Ways of running CLIPSegMasking, the earlier one and this pack's, with floors; and where their time goes."""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from _clipseg_model import DECODER, TOWER, decoder_operations, products_alone, tiles, tower_operations
from _measuring import Watched, Way, floor, operations_per_second, seconds
from _rows import Figure
from maskwright import NODE_CLASS_MAPPINGS
from maskwright.core.text import clipseg
from maskwright.core.text.query import RESOLUTION, Query
from maskwright.core.text.segment import score
from maskwright.models import clipseg_loader as models
from PIL import Image

SIDE = 1024
PROMPTS = """red circle|blue square|sky|hair|a face|green leaf|the left hand|dog|cat|a wooden table|water|window
|black shoes|street lamp|white shirt|grass""".replace("\n", "").split("|")
PRECISIONS = (torch.float32, torch.float16, torch.bfloat16)


def earlier(images: torch.Tensor, prompts: list[str], folder: Path, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Masks and logits as the earlier node made them: everything anew for every picture; those of the last prompt."""
    from transformers import CLIPSegForImageSegmentation, CLIPSegProcessor

    for prompt in prompts:
        masks, rows, size = [], [], None
        for image in images:
            picture = Image.fromarray(np.clip(255.0 * image.numpy(), 0, 255).astype(np.uint8))
            size = size or picture.size
            processor = CLIPSegProcessor.from_pretrained(folder)
            model = CLIPSegForImageSegmentation.from_pretrained(folder).to(device)
            with torch.no_grad():
                inputs = processor(text=prompt, images=picture, padding=True, return_tensors="pt").to(device)
                logits = model(**inputs).logits.reshape(352, 352)
            p = logits.sigmoid()
            levels = (((p - p.min()) / p.max()).cpu().numpy() * 255).astype(np.uint8)
            grey = Image.fromarray(levels).resize(size).convert("RGB")
            colours = torch.from_numpy(np.asarray(grey).astype(np.float32) / 255)
            masks.append((colours * torch.tensor([0.299, 0.587, 0.114])).sum(-1))
            rows.append(logits.cpu())
        result = torch.stack(masks), torch.stack(rows)
    return result


def pictures(count: int) -> torch.Tensor:
    """``[count,SIDE,SIDE,3]`` contiguous, as ComfyUI loads them: smooth, with some noise."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 16, 16, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (SIDE, SIDE), mode="bicubic", align_corners=False)
    smooth.add_(torch.rand(1, 1, SIDE, SIDE, generator=generator), alpha=0.1).clamp_(0, 1)
    return smooth.permute(0, 2, 3, 1).contiguous()  # [B,C,H,W] -> [B,H,W,C]


@dataclass(frozen=True)
class Work:
    """So many pictures, so many prompts for each, at one resolution, in one precision, on one device."""

    pictures: int = 1
    prompts: int = 1
    resolution: int = RESOLUTION
    device: str = "cpu"
    dtype: torch.dtype = torch.float32

    def __str__(self) -> str:
        parts = [so_many(self.pictures, "picture"), so_many(self.prompts, "prompt")]
        if self.resolution != RESOLUTION:
            parts.append(f"resolution {self.resolution}")
        if self.dtype != torch.float32:
            parts.append(name_of(self.dtype))
        return ", ".join(parts)

    @property
    def asked(self) -> list[str]:
        return PROMPTS[: self.prompts]

    @property
    def counted_as(self) -> torch.dtype:
        """What the vision tower's floor is counted in. Most CPUs compute float16 in float32, and PyTorch's products of
        large matrices in float16 are slower there than anything else, which makes no floor."""
        return torch.float32 if (self.device, self.dtype) == ("cpu", torch.float16) else self.dtype

    @property
    def tower_floor(self) -> float:
        return floor(self.device, self.pictures * tower_operations(self.resolution), dtype=self.counted_as)

    @property
    def decoder_floor(self) -> float:
        """The decoder computes in float32 at all times."""
        return floor(self.device, self.pictures * decoder_operations(self.prompts, self.resolution))

    @property
    def floor(self) -> float:
        computing = self.tower_floor + self.decoder_floor
        return max(computing, _copying(self.pictures)) if self.device == "cuda" else computing


def so_many(number: int, name: str) -> str:
    return f"{number} {name}{'s' if number > 1 else ''}"


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


@functools.cache
def _copying(count: int) -> float:
    """What it takes to bring pictures to the GPU and masks back."""
    images, masks = pictures(count), torch.rand(count, SIDE, SIDE, device="cuda")
    return min(seconds(lambda: (images.to(device="cuda"), masks.to("cpu")), "cuda") for _ in range(3))


def masking(images: torch.Tensor, text: str, pair: tuple, resolution: int = RESOLUTION) -> torch.Tensor:
    """By the node, where `host.device` says."""
    return NODE_CLASS_MAPPINGS["CLIPSegMasking"]().CLIPSeg_image(images, text, pair, "", resolution)[0]


class Runner:
    """The ways of doing a `Work`, with the model in ``folder``."""

    def __init__(self, folder: Path, device: str) -> None:
        self.folder, self.device = folder, device
        self.pair = models.load(folder.name, [folder.parent])
        self._copies: dict[torch.dtype, clipseg.Segmenter] = {}

    def now(self, work: Work) -> Way:
        images, text = pictures(work.pictures), " | ".join(work.asked)
        if work.dtype == torch.float32:
            return lambda: masking(images, text, self.pair, work.resolution)
        segmenter, query = self.segmenter(work.dtype), Query(text, "", work.resolution)
        return lambda: score(images, segmenter, query).masks

    def earlier(self, work: Work) -> Way:
        images = pictures(work.pictures)
        return lambda: earlier(images, work.asked, self.folder, self.device)

    def segmenter(self, dtype: torch.dtype) -> clipseg.Segmenter:
        if dtype not in self._copies:
            processor, model = self.pair
            if self.device != "cpu" or dtype != torch.float32:
                model = clipseg.copy_with_dtype(model, dtype).to(self.device)
            self._copies[dtype] = clipseg.Segmenter(processor, model)
        return self._copies[dtype]

    def logits(self, images: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Of one prompt, picture by picture: ``[B,352,352]`` on the CPU."""
        segmenter = self.segmenter(dtype)
        with torch.no_grad():
            embedding = segmenter.encode_text(PROMPTS[0])
            rows = [
                segmenter.encode_image(segmenter.preprocess(image.to(segmenter.device), 352))
                for image in images.split(1)
            ]
            return torch.cat([segmenter.decode(row, embedding).cpu() for row in rows])

    def can(self, dtype: torch.dtype) -> bool:
        """Whether all that is needed is there in this precision; says so where it is not."""
        try:
            self.logits(pictures(1), dtype)
        except (RuntimeError, NotImplementedError) as error:
            print(f"{dtype} is left out on {self.device}: {error}")
            return False
        return True


# Where the time goes


@dataclass(frozen=True)
class Parts:
    """Seconds of one run: all of them, and those in which parts of the model run. Where pictures are worked on side by
    side, parts run at the same time."""

    total: float
    tower: float
    decoder: float
    text: float
    model: float


def taken_apart(way: Way, device: str) -> Parts:
    from transformers import CLIPSegForImageSegmentation

    names = (
        (clipseg.Segmenter, "_run_tower"),
        (clipseg.Segmenter, "decode"),
        (CLIPSegForImageSegmentation, "get_conditional_embeddings"),
    )
    model, parts = Watched(device), [Watched(device) for _ in names]
    with contextlib.ExitStack() as stack:
        for (owner, name), part in zip(names, parts):
            stack.enter_context(patch.object(owner, name, model.watch(part.watch(getattr(owner, name)))))
        total = seconds(way, device)
    return Parts(total, *(part.spent for part in parts), model.spent)


def reason(work: Work, parts: Parts) -> str:
    """Why a run takes longer than its floor: what parts of it take, and what their bare matrix products would."""
    _, patches = tiles(work.resolution)
    together = min(work.pictures, 8 if work.device == "cuda" else torch.get_num_threads())
    tower = products_alone(TOWER, patches, together, work.device, work.dtype)
    decoder = products_alone(DECODER, patches, together, work.device)
    told = []
    if parts.tower:
        best = operations_per_second(work.device, work.counted_as)
        told.append(
            f"The vision tower is at work for {parts.tower / parts.total:.0%} of the time, "
            f"{parts.tower / work.tower_floor:.2f} times its floor: its matrix products and attention alone, in the "
            f"shapes that they have ({patches + 1} tokens, width {TOWER.width}), take {best / tower:.2f} times that "
            "floor, and what lies between them the rest"
        )
    best = operations_per_second(work.device)
    told.append(
        f"The decoder is at work for {parts.decoder / parts.total:.0%}, {parts.decoder / work.decoder_floor:.1f} times "
        f"its floor: it is {DECODER.width} wide, and products so narrow alone take {best / decoder:.1f} times that"
    )
    if parts.text:
        told.append(f"The text takes {parts.text / parts.total:.0%}")
    if work.dtype == torch.float16 and work.device == "cpu":
        told.append("The node never runs in float16 on a CPU")
    outside = 1 - parts.model / parts.total
    told.append(
        f"Outside the model are {outside:.0%}: resizing pictures and masks, in 8 bits as Pillow does, so that masks "
        "are the earlier ones"
    )
    return ". ".join(told) + "."


def wasted(folder: Path, device: str, count: int) -> tuple[list[Figure], str]:
    """What the earlier way does for nothing, as parts of its time, and what could be gained by that alone."""
    from transformers import CLIPSegForImageSegmentation, CLIPSegProcessor

    loading, text, unread = (Watched(device) for _ in range(3))
    read = CLIPSegForImageSegmentation.from_pretrained

    def from_pretrained(*given: object, **named: object) -> torch.nn.Module:
        model = read(*given, **named)
        for layer in model.clip.vision_model.encoder.layers[TOWER.layers :]:
            layer.forward = unread.watch(layer.forward)
        return model

    embed = CLIPSegForImageSegmentation.get_conditional_embeddings
    images = pictures(count)
    with (
        patch.object(CLIPSegProcessor, "from_pretrained", loading.watch(CLIPSegProcessor.from_pretrained)),
        patch.object(CLIPSegForImageSegmentation, "from_pretrained", loading.watch(from_pretrained)),
        patch.object(CLIPSegForImageSegmentation, "get_conditional_embeddings", text.watch(embed)),
    ):
        total = seconds(lambda: earlier(images, PROMPTS[:1], folder, device), device)
    names = ("loading processor and model", "encoding the text", "two vision layers that nobody reads")
    shares = [part.spent / total for part in (loading, text, unread)]
    figures = [Figure(f"the earlier way: {name}", 100 * share, " %", device) for name, share in zip(names, shares)]
    parts = ", ".join(f"{share:.0%} goes into {name}" for name, share in zip(names, shares))
    told = (
        f"Of the earlier way's time {parts}: whoever leaves out all of that is {1 / (1 - sum(shares)):.2f} times as "
        "fast, and any more has to come from the same products, in the same precision, done faster."
    )
    return figures, told
