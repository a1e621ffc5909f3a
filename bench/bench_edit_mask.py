"""EditMask compared with other nodes that grow or blur masks, in ComfyUI's Python, on the CPU."""

from __future__ import annotations

from functools import partial

import hosted
import torch
from hosted import call_node
from maskwright.nodes.edit_mask import EditMask
from rows import Figure, Report, Row

SIZES = [(1, 1024), (16, 1024), (1, 4096), (16, 4096)]  # masks and their side
MAX_PIXELS, LARGE = 1 << 27, ("grow 4", "grow 64", "feather 32")  # larger batches run only these
MAX_GROWTH_WITH_DISTANCE = 1.3  # of the time, from a growth of 4 pixels to one of 64
IN_COMFYUI = True

NOTE_BLUR = """KJNodes and LayerStyle blur with Pillow: 8 bits, with boxes in place of a Gaussian. For essentials and
inpaint-nodes, 32 is the width of the window, and sigma is smaller."""
NOTE_FILL = "KJNodes makes soft masks binary before it fills them; this pack keeps their softness."
NOTE_GROW = """Growing by a few single pixels is cheaper than exact distances, which cost the same for 4 pixels as for
64."""

KJ = {"tapered_corners": True, "flip_input": False, "incremental_expandrate": 0.0, "lerp_alpha": 1.0}
KJ |= {"decay_factor": 1.0}
BLUR = {
    "KJNodes": ("GrowMaskWithBlur", {"expand": 0, "blur_radius": 32.0, **KJ}),
    "essentials": ("MaskBlur+", {"amount": 32, "device": "cpu"}),
    "LayerStyle": ("LayerMask: MaskGrow", {"invert_mask": False, "grow": 0, "blur": 32}),
    "inpaint-nodes": ("INPAINT_ExpandMask", {"grow": 0, "blur": 32, "blur_type": "gaussian"}),
}
FILL = {"KJNodes": ("GrowMaskWithBlur", {"expand": 0, "blur_radius": 0.0, "fill_holes": True, **KJ})}


def grow(pixels: int) -> dict[str, tuple[str, dict]]:
    return {
        "ComfyUI": ("GrowMask", {"expand": pixels, "tapered_corners": True}),
        "KJNodes": ("GrowMaskWithBlur", {"expand": pixels, "blur_radius": 0.0, **KJ}),
        "LayerStyle": ("LayerMask: MaskGrow", {"invert_mask": False, "grow": pixels, "blur": 0}),
        "inpaint-nodes": ("INPAINT_ExpandMask", {"grow": pixels, "blur": 0, "blur_type": "gaussian"}),
    }


WORK = {  # the settings of EditMask, other nodes with their inputs, and the note
    "grow 4": ({"grow": 4.0}, grow(4), NOTE_GROW),
    "grow 64": ({"grow": 64.0}, grow(64), NOTE_GROW),
    "blur 32": ({"blur": 32.0}, BLUR, NOTE_BLUR),
    "feather 32": ({"feather_inside": 16.0, "feather_outside": 16.0}, BLUR, NOTE_BLUR),
    "fill holes": ({"fill_holes": True}, FILL, NOTE_FILL),
    "smooth 8": ({"smooth": 8.0}, {}, ""),
}


def draw_disc(count: int, side: int, soft: bool = False) -> torch.Tensor:
    """A disc with a wavy outline, ``[count,side,side]``."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, side), torch.linspace(-1, 1, side), indexing="ij")
    depth = 0.6 + 0.06 * torch.sin(12 * torch.atan2(y, x)) - torch.hypot(x, y)
    mask = (depth * side / 60 + 0.5).clamp(0, 1) if soft else (depth > 0).float()
    return mask.repeat(count, 1, 1)


def measure(report: Report, masks: torch.Tensor, what: str, ones: dict[str, Row]) -> dict[str, Row]:
    """Add a row for each piece of work; with rows of one mask (``ones``), the others' times are scaled up from them."""
    rows: dict[str, Row] = {}
    for work, (settings, nodes, note) in WORK.items():
        if masks.numel() > MAX_PIXELS and work not in LARGE:
            continue
        if ones:
            others = {name: cell.scale(len(masks), "1 mask") for name, cell in ones[work].others.items()}
        elif work == "feather 32":
            others = rows["blur 32"].others
        else:
            calls = {name: partial(call_node, node, mask=masks, **inputs) for name, (node, inputs) in nodes.items()}
            others = hosted.select_available(calls)
        ours = partial(EditMask().edit, masks, **settings)
        headline = masks.shape == (1, 1024, 1024) and work != "smooth 8"
        rows[work] = report.add(f"{what}, {work}", ours, others, note=note, headline=headline)
    return rows


def main(quick: bool) -> None:
    report, ones = hosted.make_report("Edit a mask", *BLUR), {}
    for count, side in [(1, 256), (4, 256)] if quick else SIZES:
        what = f"{count} mask{'s' * (count > 1)} of {side} x {side}"
        rows = measure(report, draw_disc(count, side), what, ones if count > 1 and side > 1024 else {})
        ones = rows
        growth = rows["grow 64"].ours.time.median / rows["grow 4"].ours.time.median
        report.store(Figure(f"{what}: time of grow 64 / grow 4", growth, "x", at_most=MAX_GROWTH_WITH_DISTANCE))
    side = 256 if quick else 1024
    measure(report, draw_disc(1, side, soft=True), f"1 soft mask of {side} x {side}", {})
