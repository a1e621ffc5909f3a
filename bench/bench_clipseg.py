"""CLIPSegMasking beside the earlier way, with a model of the published one's size and random weights.

On the CPU the node runs as it is; half precisions run as on a GPU, on a copy of the model. What the vision tower saw
in the last pictures is kept on a CPU: here every picture counts as new, but for the rows that say otherwise.

    python3 tools/dev.py bench clipseg [--quick]
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from _clipseg_model import (
    DECODER,
    TEXT,
    TEXT_BYTES,
    TOWER,
    VOCABULARY,
    decoder_operations,
    products_alone,
    tiles,
    tower_operations,
    write_model,
)
from _measuring import Spread, Watched, Way, devices, floor, operations_per_second, peak_memory, seconds
from _measuring import side_by_side as in_turns
from _rows import Figure, Report, Timing, add_growth
from maskwright import NODE_CLASS_MAPPINGS
from maskwright.core import clipseg
from maskwright.core.last_tensors import LastTensors
from maskwright.models import clipseg as models
from maskwright.nodes import _host as host
from PIL import Image

# What the pack keeps of the last pictures. For most rows it keeps nothing, so that every picture counts as new.
KEPT = clipseg._PICTURES

SIDE = 1024
PROMPTS = """red circle|blue square|sky|hair|a face|green leaf|the left hand|dog|cat|a wooden table|water|window
|black shoes|street lamp|white shirt|grass""".replace("\n", "").split("|")
PRECISIONS = (torch.float32, torch.float16, torch.bfloat16)

ABOUT = f"""Pictures of {SIDE} x {SIDE}; the model looks at 352 x 352 where nothing else is said. The earlier way:
processor and model are loaded anew for every picture, one picture a pass, and for several prompts once more for each.
The floor: the matrix products and convolutions of the ten vision layers that the decoder reads, and of the decoder,
counted, at the rate of products of large matrices in the same precision; on CUDA, where pictures and masks lie in main
memory, at least the time of copying them there and back. For a new process the floor is that of its first picture and
text, or of reading the weights once from memory, and its start up to the end of the imports, as measured."""


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
    resolution: int = clipseg.RESOLUTION
    device: str = "cpu"
    dtype: torch.dtype = torch.float32

    def __str__(self) -> str:
        parts = [_so_many(self.pictures, "picture"), _so_many(self.prompts, "prompt")]
        if self.resolution != clipseg.RESOLUTION:
            parts.append(f"resolution {self.resolution}")
        if self.dtype != torch.float32:
            parts.append(_name(self.dtype))
        return ", ".join(parts)

    @property
    def asked(self) -> list[str]:
        return PROMPTS[: self.prompts]

    @property
    def tower_floor(self) -> float:
        return floor(self.device, self.pictures * tower_operations(self.resolution), dtype=self.dtype)

    @property
    def decoder_floor(self) -> float:
        """The decoder computes in float32 at all times."""
        return floor(self.device, self.pictures * decoder_operations(self.prompts, self.resolution))

    @property
    def floor(self) -> float:
        computing = self.tower_floor + self.decoder_floor
        return max(computing, _copying(self.pictures)) if self.device == "cuda" else computing


def _so_many(number: int, name: str) -> str:
    return f"{number} {name}{'s' if number > 1 else ''}"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _copying(count: int) -> float:
    """What it takes to bring pictures to the GPU and masks back."""
    images, masks = pictures(count), torch.rand(count, SIDE, SIDE, device="cuda")
    return min(seconds(lambda: (images.to("cuda"), masks.to("cpu")), "cuda") for _ in range(3))


def masking(images: torch.Tensor, text: str, pair: tuple, resolution: int = clipseg.RESOLUTION) -> torch.Tensor:
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
        segmenter, query = self.segmenter(work.dtype), clipseg.Query(text, "", work.resolution)
        return lambda: clipseg.masking(images, segmenter, query)

    def earlier(self, work: Work) -> Way:
        images = pictures(work.pictures)
        return lambda: earlier(images, work.asked, self.folder, self.device)

    def segmenter(self, dtype: torch.dtype) -> clipseg.Segmenter:
        if dtype not in self._copies:
            processor, model = self.pair
            self._copies[dtype] = clipseg.Segmenter(processor, clipseg.copy_as(model, dtype).to(self.device))
        return self._copies[dtype]

    def logits(self, images: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """Of one prompt, picture by picture: ``[B,352,352]`` on the CPU."""
        segmenter = self.segmenter(dtype)
        with torch.no_grad():
            embedding = segmenter.text_embedding(PROMPTS[0])
            rows = [segmenter.activations(segmenter.pixel_values(image, 352)) for image in images.split(1)]
            return torch.cat([segmenter.logits(row, embedding).cpu() for row in rows])

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
        (clipseg.Segmenter, "_look"),
        (clipseg.Segmenter, "logits"),
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
        best = operations_per_second(work.device, work.dtype)
        told.append(
            f"The vision tower is at work for {parts.tower / parts.total:.0%} of the time, "
            f"{parts.tower / work.tower_floor:.2f} times its floor: its matrix products and attention alone, in the "
            f"shapes that they have ({patches + 1} tokens, width {TOWER.width}), take {best / tower:.2f} times that "
            "floor, and GELU and normalisation the rest"
        )
    best = operations_per_second(work.device)
    told.append(
        f"The decoder is at work for {parts.decoder / parts.total:.0%}, {parts.decoder / work.decoder_floor:.1f} times "
        f"its floor: it is {DECODER.width} wide, and products so narrow alone take {best / decoder:.1f} times that"
    )
    if parts.text:
        told.append(f"The text takes {parts.text / parts.total:.0%}")
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
    told = (
        f"Of the earlier way's time {', '.join(f'{share:.0%} goes into {name}' for name, share in zip(names, shares))}: "
        f"whoever leaves out all of that is {1 / (1 - sum(shares)):.2f} times as fast, and any more has to come from "
        "the same products, in the same precision, done faster."
    )
    return figures, told


# Rows


def add_agreement(report: Report, run: Runner, precisions: Sequence[torch.dtype], count: int) -> None:
    images, device = pictures(count), run.device
    old_masks, old_logits = earlier(images, PROMPTS[:1], run.folder, device)
    masks = masking(images, PROMPTS[0], run.pair)
    ours = {dtype: run.logits(images, dtype) for dtype in precisions}

    def add(what: str, difference: torch.Tensor, unit: str = "", at_most: float | None = None) -> None:
        report.add(Figure(f"largest difference of {what}", difference.abs().max().item(), unit, device, at_most))

    # On a GPU the pictures are resized in float, so that a level may differ here and there before the model sees them.
    most = (1e-4, 2) if device == "cpu" else (None, None)
    add(f"logits to the earlier way's, {count} pictures", ours[torch.float32] - old_logits, "", most[0])
    add(f"masks to the earlier way's, {count} pictures", 255 * (masks - old_masks), "/255", most[1])
    report.add(Figure("standard deviation of these logits", old_logits.std().item(), "", device))
    for dtype in precisions[1:]:
        add(f"logits in {_name(dtype)} to those in float32", ours[dtype] - ours[torch.float32])


def add_warm(
    report: Report,
    run: Runner,
    works: Sequence[Work],
    rounds: int,
    against: bool = True,
    waste: str = "",
    at_least: float | None = None,
    headline: bool = False,
) -> Timing:
    """A row for each of the works, which differ in precision only; the first of them comes back.

    Args:
        against: Whether the earlier way can do the same.
        waste: What the reason says besides.
    """
    device = run.device
    ways = {_name(each.dtype): run.now(each) for each in works}
    if against:
        ways["earlier"] = run.earlier(works[0])
    taken = in_turns(ways, rounds, device)
    peaks = {name: peak_memory(way, device) for name, way in ways.items()}
    rows = []
    for each in works:
        name = _name(each.dtype)
        parts = taken_apart(ways[name], device)
        first = each == works[0]
        rows.append(
            Timing(
                str(each),
                now=taken[name],
                device=device,
                earlier=taken.get("earlier"),
                floor=each.floor,
                peak=peaks[name],
                earlier_peak=peaks.get("earlier"),
                at_least=at_least if first else None,
                note=f"{reason(each, parts)} {waste if first else ''}".strip(),
                headline=headline and first,
            )
        )
        report.add(rows[-1])
        if first:
            report.add(Figure(f"time outside the model, {each}", 100 * (1 - parts.model / parts.total), " %", device))
    return rows[0]


def add_pictures(
    report: Report, run: Runner, counts: Sequence[int], precisions: Sequence[torch.dtype], rounds: int
) -> None:
    """One prompt on one, some, and many pictures; on a CPU half precisions on one picture only."""
    device = run.device
    one, some, many = (Work(count, device=device) for count in counts)
    figures, waste = wasted(run.folder, device, min(2, some.pictures))
    for figure in figures:
        report.add(figure)
    others = precisions[1:]
    add_warm(report, run, [one, *(replace(one, dtype=dtype) for dtype in others)], rounds)
    works = [some, *(replace(some, dtype=dtype) for dtype in others if device == "cuda")]
    row = add_warm(report, run, works, rounds, waste=waste, at_least=2, headline=True)

    # What takes minutes: time and memory in the same rounds, and none before them, since all has run already.
    ways = {"now": run.now(many), "earlier": run.earlier(many)}
    runs = [{name: timed_once(way, device) for name, way in ways.items()} for _ in range(2 if rounds > 1 else 1)]
    taken = {name: Spread.of([each[name][0] for each in runs]) for name in ways}
    peaks = {name: runs[-1][name][1] for name in ways}
    report.add(
        Timing(
            str(many),
            **taken,
            device=device,
            floor=many.floor,
            peak=peaks["now"],
            earlier_peak=peaks["earlier"],
            note=row.note,
        )
    )
    if peaks["now"] is not None:
        beyond = [peak - 4 * work.pictures * SIDE**2 for work, peak in ((some, row.peak), (many, peaks["now"]))]
        what = f"memory of {many.pictures} pictures to that of {some.pictures}, less the masks"
        report.add(Figure(what, beyond[1] / beyond[0], "x", device, 1.2))


def timed_once(way: Way, device: str) -> tuple[float, float | None]:
    """Seconds and memory of one call."""
    taken: list[float] = []
    peak = peak_memory(lambda: taken.append(seconds(way, device)), device)
    return (taken[0] if taken else seconds(way, device)), peak


def add_prompts(
    report: Report, run: Runner, counts: Sequence[int], precisions: Sequence[torch.dtype], rounds: int
) -> None:
    from transformers import CLIPSegForImageSegmentation

    device = run.device
    for count in counts:
        work = Work(prompts=count, device=device)
        works = [work, *(replace(work, dtype=dtype) for dtype in precisions[1:] if device == "cuda")]
        add_warm(report, run, works, min(rounds, 2) if count > 8 else rounds, headline=count == counts[0])
    ways = {"one": run.now(Work(device=device)), "four": run.now(Work(prompts=4, device=device))}
    taken = in_turns(ways, 3 * rounds, device)
    growth = taken["four"].median / taken["one"].median
    report.add(Figure("time of four prompts on one picture to that of one", growth, "x", device, 1.3, why))

    embed, calls = CLIPSegForImageSegmentation.get_conditional_embeddings, []

    def counted(*given: object, **named: object) -> object:
        calls.append(1)
        return embed(*given, **named)

    with patch.object(CLIPSegForImageSegmentation, "get_conditional_embeddings", counted):
        ways["four"]()
    report.add(Figure("texts encoded by a second run of the same text", len(calls), "", device, 0))


def add_resolution(report: Report, run: Runner, precisions: Sequence[torch.dtype], rounds: int) -> None:
    """Twice the model's own size, which the earlier way cannot look at."""
    for prompts in (1, 4):
        work = Work(8 if run.device == "cuda" else 1, prompts, 704, run.device)
        works = [work, *(replace(work, dtype=dtype) for dtype in precisions[1:] if run.device == "cuda")]
        add_warm(report, run, works, rounds, against=False)


def add_again(report: Report, run: Runner, count: int, rounds: int) -> None:
    """Pictures that the vision tower saw in the last run: the very same again, and another prompt each time."""
    device, images, numbers = run.device, pictures(count), itertools.count()
    work = Work(count, device=device)
    ways = {
        "same": run.now(work),
        "another": lambda: masking(images, f"circle number {next(numbers)}", run.pair),
        "earlier": run.earlier(work),
    }
    tokens = len(run.pair[0].tokenizer("circle number 10")["input_ids"])
    text_floor = floor(device, TEXT.operations(tokens), TEXT_BYTES)
    with patch.object(clipseg, "_PICTURES", KEPT):
        taken = in_turns(ways, rounds, device)
        for name, beyond in (("another", text_floor), ("same", 0.0)):
            report.add(
                Timing(
                    f"{_so_many(count, 'picture')} seen before, {name} prompt",
                    now=taken[name],
                    device=device,
                    earlier=taken["earlier"],
                    floor=work.decoder_floor + beyond,
                    peak=peak_memory(ways[name], device),
                    note=reason(work, taken_apart(ways[name], device)),
                    headline=name == "another",
                )
            )


def add_cold(report: Report, run: Runner, rounds: int) -> None:
    """The first picture of a new process: from its start, and from when all is imported that both ways need."""
    device = run.device

    def told(way: str) -> dict[str, float]:
        command = [sys.executable, __file__, "--cold", way, "--model", str(run.folder), "--device", device]
        start = time.time()
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        cold = json.loads(done.splitlines()[-1])
        return cold | {"total": cold["end"] - start}

    runs = [{way: told(way) for way in ("now", "earlier")} for _ in range(rounds + 1)][1 if rounds > 1 else 0 :]

    def spread(key: str, way: str) -> Spread:
        return Spread.of([each[way][key] for each in runs])

    def median(key: str) -> float:
        return spread(key, "now").median

    tokens = len(run.pair[0].tokenizer(PROMPTS[0])["input_ids"])
    weights = sum(file.stat().st_size for file in run.folder.glob("*.safetensors"))
    computing = floor(device, tower_operations() + decoder_operations(1) + TEXT.operations(tokens))
    lowest = max(computing, floor(device, moved=weights))
    imports = min(each[way]["total"] - each[way]["first"] for each in runs for way in each)
    why = (
        f"After the imports, loading takes {median('loading') / median('first'):.0%} of the time, "
        f"{median('weights') / median('first'):.0%} for building the model and reading its weights, and the rest of "
        f"it for the tokenizer's {VOCABULARY} tokens and what else transformers imports for them; the first picture "
        f"takes {1 - median('loading') / median('first'):.0%}, and the floor counts neither loading nor what a "
        "warm run has made already."
    )
    peaks = {way: max(each[way]["peak"] or 0 for each in runs) or None for way in ("now", "earlier")}
    for what, key, beyond in (
        ("1 picture in a new process, from its start", "total", imports),
        ("1 picture in a new process, after the imports", "first", 0.0),
    ):
        report.add(
            Timing(
                what,
                now=spread(key, "now"),
                device=device,
                earlier=spread(key, "earlier"),
                floor=lowest + beyond,
                peak=peaks["now"],
                earlier_peak=peaks["earlier"],
                note=why,
            )
        )


def cold(way: str, folder: Path, device: str) -> None:
    """In a process of its own: prints what its first picture takes."""
    from transformers import CLIPSegForImageSegmentation, CLIPSegProcessor  # noqa: F401 - what both ways need

    images, loading, weights = pictures(1), Watched(), Watched()
    load, read = loading.watch(models.load), weights.watch(CLIPSegForImageSegmentation.from_pretrained)
    ways = {
        "now": lambda: masking(images, PROMPTS[0], load(folder.name, [folder.parent])),
        "earlier": lambda: earlier(images, PROMPTS[:1], folder, device),
    }
    with (
        patch.object(host, "device", lambda: torch.device(device)),
        patch.object(CLIPSegForImageSegmentation, "from_pretrained", read),
    ):
        first, peak = timed_once(ways[way], device)
    end = time.time()
    facts = {"first": first, "end": end, "peak": peak, "loading": loading.spent, "weights": weights.spent}
    print(json.dumps(facts))


def add_all_growth(report: Report, run: Runner, quick: bool) -> None:
    def compare(what: str, few: Work, many: Work, note: str = "") -> None:
        few, many = (replace(work, device=run.device) for work in (few, many))
        add_growth(report, what, run.now(few), run.now(many), run.device, note, 1 if quick else 3)

    if quick:
        compare("prompts, 1 and 10", Work(), Work(prompts=10))
        return
    compare("pictures, 2 and 20", Work(2), Work(20))
    compare("prompts, 1 and 10", Work(), Work(prompts=10))
    count, patches = tiles(1120)
    more = tower_operations(1120) / tower_operations()
    why = (
        f"Above 704 the picture is looked at in tiles that overlap: {count} of {patches} patches each, "
        f"{count * patches / 22**2:.1f} times the 22 x 22 of 352, for ten times the pixels. And within a tile the "
        f"attention grows with the square of its patches. Counted, the operations grow {more:.1f} times, "
        f"{more / 10:.2f} times as fast as the pixels; the whole picture in one piece would take "
        f"{TOWER.operations(70**2 + 1) / TOWER.operations(22**2 + 1):.1f} times."
    )
    compare("the pixels seen, 352 and 1120", Work(), Work(resolution=1120), why)


def quiet() -> None:
    """No warnings and no bars of transformers, which would only slow the earlier way."""
    import transformers

    transformers.logging.set_verbosity_error()
    getattr(transformers.logging, "disable_progress_bar", lambda: None)()


def main(quick: bool) -> None:
    quiet()
    report = Report("CLIPSegMasking", ABOUT)
    rounds = 1 if quick else 3
    with tempfile.TemporaryDirectory() as scratch, patch.object(clipseg, "_PICTURES", LastTensors(0)):
        folder = write_model(Path(scratch) / "real size")
        for device in devices():
            with patch.object(host, "device", lambda: torch.device(device)):
                run = Runner(folder, device)
                precisions = [dtype for dtype in PRECISIONS if dtype == torch.float32 or run.can(dtype)]
                add_agreement(report, run, precisions, 2 if quick else 8)
                add_pictures(report, run, (1, 2, 3) if quick else (1, 8, 64), precisions, rounds)
                add_prompts(report, run, (4,) if quick else (4, 16), precisions, rounds)
                if device == "cpu":
                    add_again(report, run, 1 if quick else 4, rounds)
                if not quick:
                    add_resolution(report, run, precisions, rounds)
                add_cold(report, run, rounds)
                add_all_growth(report, run, quick)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--quick", action="store_true")
    arguments.add_argument("--cold", choices=("now", "earlier"))
    arguments.add_argument("--model", type=Path)
    arguments.add_argument("--device", default="cpu")
    options = arguments.parse_args()
    if options.cold:
        quiet()
        cold(options.cold, options.model, options.device)
    else:
        main(options.quick)
