"""CLIPSegMasking beside the earlier way, with a model of the published one's size and random weights.

On the CPU the node runs as it is; half precisions run as on a GPU, on a copy of the model. What the vision tower saw
in the last pictures is kept on a CPU: here every picture counts as new, but for the rows that say otherwise.

    python3 tools/dev.py bench clipseg [--quick]
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import torch
from _clipseg_model import (
    TEXT,
    TEXT_BYTES,
    TOWER,
    VOCABULARY,
    decoder_operations,
    tiles,
    tower_operations,
    write_model,
)
from _clipseg_runs import (
    PRECISIONS,
    PROMPTS,
    SIDE,
    Runner,
    Work,
    earlier,
    masking,
    name_of,
    pictures,
    reason,
    so_many,
    taken_apart,
    wasted,
)
from _measuring import Spread, Watched, Way, devices, floor, peak_memory, process_memory, seconds
from _measuring import side_by_side as in_turns
from _rows import Figure, Report, Timing, add_growth
from maskwright.core.text import clipseg, packed_layers
from maskwright.core.text.tensor_cache import TensorCache
from maskwright.models import clipseg_loader as models
from maskwright.nodes import _host as host

# What the pack keeps of the last pictures. For most rows it keeps nothing, so that every picture counts as new.
KEPT = clipseg._IMAGE_CACHE

ABOUT = f"""Pictures of {SIDE} x {SIDE}; the model looks at 352 x 352 where nothing else is said. The earlier way:
processor and model are loaded anew for every picture, one picture a pass, and for several prompts once more for each.
The floor: the matrix products and convolutions of the ten vision layers that the decoder reads, and of the decoder,
counted, at the rate of products of large matrices in the same precision; on CUDA, where pictures and masks lie in main
memory, at least the time of copying them there and back. For a new process the floor is that of its first picture and
text, or of reading the weights once from memory, and its start up to the end of the imports, as measured."""


def add_agreement(report: Report, run: Runner, precisions: Sequence[torch.dtype], count: int) -> None:
    images, device = pictures(count), run.device
    old_masks, old_logits = earlier(images, PROMPTS[:1], run.folder, device)
    masks = masking(images, PROMPTS[0], run.pair)
    ours = {dtype: run.logits(images, dtype) for dtype in precisions}

    def add(what: str, difference: torch.Tensor, unit: str = "", at_most: float | None = None) -> None:
        most = float(f"{difference.abs().max():.4g}")  # the earlier way's levels are not quite whole
        report.add(Figure(f"largest difference of {what}", most, unit, device, at_most))

    # On a GPU the pictures are resized in float, so that a level may differ here and there before the model sees them.
    targets = (1e-4, 2) if device == "cpu" else (None, None)
    add(f"logits to the earlier way's, {count} pictures", ours[torch.float32] - old_logits, "", targets[0])
    add(f"masks to the earlier way's, {count} pictures", 255 * (masks - old_masks), "/255", targets[1])
    report.add(Figure("standard deviation of these logits", old_logits.std().item(), "", device))
    for dtype in precisions[1:]:
        add(f"logits in {name_of(dtype)} to those in float32", ours[dtype] - ours[torch.float32])


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
    ways = {name_of(each.dtype): run.now(each) for each in works}
    if against:
        ways["earlier"] = run.earlier(works[0])
    taken = in_turns(ways, rounds, device)
    peaks = {name: peak_memory(way, device) for name, way in ways.items()}
    rows = []
    for each in works:
        name = name_of(each.dtype)
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
    if device == "cuda":
        held = [row.peak, peaks["now"]]
    else:
        held = [_in_a_process(run, "--held", str(work.pictures))["held"] for work in (some, many)]
    if None not in held:
        what = f"memory that {many.pictures} pictures take, to that of {some.pictures}"
        report.add(Figure(what, held[1] / held[0], "x", device, 1.2))


def held(count: int, folder: Path) -> None:
    """In a process of its own: prints the most bytes that all of it holds at a time, less the pictures and masks."""
    pair, images = models.load(folder.name, [folder.parent]), pictures(count)
    masking(images[:2], PROMPTS[0], pair)  # what is made once
    before = process_memory()
    peak = peak_memory(lambda: masking(images, PROMPTS[0], pair))
    of_its_own = images.nbytes + 4 * count * SIDE**2
    print(json.dumps({"held": before + peak - of_its_own if before and peak else None}))


def _in_a_process(run: Runner, *arguments: str) -> dict[str, float]:
    """What this file prints with these arguments, run on the model and the device of ``run``."""
    command = [sys.executable, __file__, *arguments, "--model", str(run.folder), "--device", run.device]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(done.splitlines()[-1])


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
    rows = {}
    for count in counts:
        work = Work(prompts=count, device=device)
        works = [work, *(replace(work, dtype=dtype) for dtype in precisions[1:] if device == "cuda")]
        turns = min(rounds, 2) if count > 8 else rounds  # the earlier way takes long
        rows[count] = add_warm(report, run, works, turns, headline=count == 4)
    ways = {"one": run.now(Work(device=device)), "four": run.now(Work(prompts=4, device=device))}
    taken = in_turns(ways, 3 * rounds, device)
    growth = taken["four"].median / taken["one"].median
    report.add(Figure("time of four prompts on one picture to that of one", growth, "x", device, 1.3, rows[4].note))

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
    with patch.object(clipseg, "_IMAGE_CACHE", KEPT):
        taken = in_turns(ways, rounds, device)
        earlier_peak = peak_memory(ways["earlier"], device)
        for name, beyond in (("another", text_floor), ("same", 0.0)):
            report.add(
                Timing(
                    f"{so_many(count, 'picture')} seen before, {name} prompt",
                    now=taken[name],
                    device=device,
                    earlier=taken["earlier"],
                    floor=work.decoder_floor + beyond,
                    peak=peak_memory(ways[name], device),
                    earlier_peak=earlier_peak,
                    note=reason(work, taken_apart(ways[name], device)),
                    headline=name == "another",
                )
            )


def add_cold(report: Report, run: Runner, rounds: int) -> None:
    """The first picture of a new process: from its start, and from when all is imported that both ways need."""
    device = run.device

    def told(way: str) -> dict[str, float]:
        start = time.time()
        cold = _in_a_process(run, "--cold", way)
        return cold | {"total": cold["end"] - start}

    if rounds > 1:
        told("now")  # brings the files into memory
    ways = ["now", "earlier"]
    runs = [{way: told(way) for way in (ways if number % 2 else ways[::-1])} for number in range(rounds)]

    def spread(key: str, way: str) -> Spread:
        return Spread.of([each[way][key] for each in runs])

    def median(key: str) -> float:
        return spread(key, "now").median

    tokens = len(run.pair[0].tokenizer(PROMPTS[0])["input_ids"])
    size = sum(file.stat().st_size for file in run.folder.glob("*.safetensors"))
    computing = floor(device, tower_operations() + decoder_operations(1) + TEXT.operations(tokens))
    lowest = max(computing, floor(device, moved=size))
    imports = min(each[way]["total"] - each[way]["first"] for each in runs for way in each)
    loading, weights, packing = (median(key) / median("first") for key in ("loading", "weights", "packing"))
    why = (
        f"After the imports, loading takes {loading:.0%} of the time, {weights:.0%} for building the model and reading "
        f"its weights, the rest of it mostly for the tokenizer's {VOCABULARY} tokens; laying out the vision tower's "
        f"weights for the CPU, once, {packing:.0%}; the first text and picture {1 - loading - packing:.0%}. The floor "
        "counts nothing of what a warm run finds done."
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
                at_least=1,
                note=why,
            )
        )


def cold(way: str, folder: Path, device: str) -> None:
    """In a process of its own: prints what its first picture takes."""
    from transformers import CLIPSegForImageSegmentation, CLIPSegProcessor  # noqa: F401 - what both ways need

    images, loading, weights, packing = pictures(1), Watched(), Watched(), Watched()
    load, read = loading.watch(models.load), weights.watch(CLIPSegForImageSegmentation.from_pretrained)
    ways = {
        "now": lambda: masking(images, PROMPTS[0], load(folder.name, [folder.parent])),
        "earlier": lambda: earlier(images, PROMPTS[:1], folder, device),
    }
    pack = packing.watch(packed_layers.PackedLayer)
    with (
        patch.object(CLIPSegForImageSegmentation, "from_pretrained", read),
        patch.object(packed_layers, "PackedLayer", pack),
    ):
        first, peak = timed_once(ways[way], device)
    end = time.time()
    facts = {"first": first, "end": end, "peak": peak, "loading": loading.spent, "weights": weights.spent}
    print(json.dumps(facts | {"packing": packing.spent}))


def add_all_growth(report: Report, run: Runner, quick: bool) -> None:
    def compare(what: str, few: Work, many: Work, note: str = "") -> None:
        few, many = (replace(work, device=run.device) for work in (few, many))
        add_growth(report, what, run.now(few), run.now(many), run.device, note, 1 if quick else 2)

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
    report = Report("CLIPSegMasking", ABOUT)
    rounds = 1 if quick else 3
    with tempfile.TemporaryDirectory() as scratch:
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
    arguments.add_argument("--held", type=int)
    arguments.add_argument("--model", type=Path)
    arguments.add_argument("--device", default="cpu")
    options = arguments.parse_args()
    quiet()
    with (
        patch.object(clipseg, "_IMAGE_CACHE", TensorCache(0)),
        patch.object(host, "device", lambda: torch.device(options.device)),
    ):
        if options.cold:
            cold(options.cold, options.model, options.device)
        elif options.held:
            held(options.held, options.model)
        else:
            main(options.quick)
