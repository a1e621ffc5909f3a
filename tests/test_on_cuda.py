"""Operations on images and masks on a GPU: results stay on the GPU and match the CPU's."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import maskwright
import pytest
import torch
from maskwright.core import colors, filters, geometry, masks, morphology, tensors
from maskwright.core.crop import crop_frames, crop_regions, crop_stitch, stitch
from maskwright.core.cutout import matting
from maskwright.core.text import segment
from maskwright.core.text.segment import Selection, render_selection, select, stretch


def random_values(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def make_discs() -> torch.Tensor:
    """Soft discs ``[2,60,80]``."""
    y, x = torch.meshgrid(torch.arange(60.0), torch.arange(80.0), indexing="ij")
    return torch.stack([((radius - (y - 30).hypot(x - 40)) / 6).clamp(0, 1) for radius in (18.0, 25.0)])


class Discs:
    masks_per_image = 1

    def predict_masks(self, image: torch.Tensor) -> torch.Tensor:
        return make_discs()[:1]


def _crop_and_stitch(image: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
    crop_settings = crop_frames.CropSettings(size="exact", width=40, height=48, blend=3, grow=2.5)
    instances = crop_regions.choose_regions(mask, ((),), image, crop_settings)
    crops = crop_stitch.crop_regions(image, instances, crop_settings)
    ((result, weights),) = stitch.stitch_crops(
        [crops.stitch], [1 - each.cpu() for each in crops.images], color_match=0.5
    )
    return crops.images[0], crops.masks[0], result, weights


IMAGE, MASK = random_values(2, 60, 80, 3), make_discs()
OPERATIONS: dict[str, Callable[[torch.Tensor, torch.Tensor], object]] = {
    "crop and stitch": lambda image, mask: _crop_and_stitch(image, mask),
    "dilate": lambda image, mask: morphology.dilate(mask, 6, "ellipse"),
    "erode": lambda image, mask: morphology.erode(mask, 5, "cross"),
    "gradient": lambda image, mask: morphology.gradient(mask, [3, 7]),
    "gaussian blur": lambda image, mask: filters.gaussian_blur(mask, 2.5),
    "gaussian blur of samples": lambda image, mask: filters.gaussian_blur(mask, 12),
    "combine": lambda image, mask: masks.combine(mask, mask.flip(1), "difference"),
    "feather": lambda image, mask: masks.feather(mask, 9, geometry.Sides(True, False, True, True)),
    "resize": lambda image, mask: (tensors.resize_image(image, 33, 99), tensors.resize_mask(mask, 33, 99)),
    "resize in 8 bits": lambda image, mask: tensors.resize_8bit(mask, 33, 99, "nearest"),
    "resize with Lanczos": lambda image, mask: filters.resize_lanczos(image, 33, 99),
    "color map": lambda image, mask: segment.apply_color_map(mask, "viridis"),
    "match colors": lambda image, mask: colors.match_colors(image, mask, image.flip(3), 1 - mask, 0.7),
    "selection": lambda image, mask: select(mask, Selection()),
    "stretch": lambda image, mask: stretch(mask / 2, 33, 99),
    "render selection": lambda image, mask: render_selection(image, tensors.resize_mask(mask, 30, 40)),
    "trimap": lambda image, mask: matting.make_trimap(mask[0]),
    "post-process": lambda image, mask: matting.post_process(mask),
    "cutout": lambda image, mask: matting.compose_cutout(image, mask),
    "remove background": lambda image, mask: matting.remove_background(image, Discs()),
    "matting": lambda image, mask: matting.remove_background(
        image, Discs(), matting.MattingSettings(erode_size=3), True
    ),
    "EditMask": lambda image, mask: make_node("EditMask").edit(mask, image, False, 0.1, True, 3, 4, 2, 3, 3, 1),
    "EditMask of hard masks": lambda image, mask: make_node("EditMask").edit(mask.round(), grow=-4, feather_inside=3),
    "RefineMask, guided filter": lambda image, mask: make_node("RefineMask").refine(image, mask, "guided filter", 6),
    "RefineMask, closed form": lambda image, mask: make_node("RefineMask").refine(image, mask, edge_width=6),
    "GradientRegion": lambda image, mask: make_node("GradientRegion").gradient_region(mask, 5),
    "MaskInstances": lambda image, mask: make_node("MaskInstances").split_masks(mask, None, image)[:2],
    "CombineSegMasks": lambda image, mask: make_node("CombineSegMasks").combine_masks(image, mask, mask.flip(2)),
    "CombineSegMasks, a mask on the CPU": lambda image, mask: make_node("CombineSegMasks").combine_masks(
        image, mask.cpu(), mask.flip(2)
    ),
}


NEED_PYMATTING = ("matting", "RefineMask")  # prefixes


def make_node(name: str) -> object:
    return maskwright.NODE_CLASS_MAPPINGS[name]()


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_stays_on_device_and_matches_cpu(cuda: torch.device, name: str) -> None:
    if name.startswith(NEED_PYMATTING):
        pytest.importorskip("pymatting")
    operation = OPERATIONS[name]
    on_device, on_cpu = operation(IMAGE.to(cuda), MASK.to(cuda)), operation(IMAGE, MASK)
    for one, other in zip(*(each if isinstance(each, tuple) else (each,) for each in (on_device, on_cpu))):
        assert one.device == cuda
        # A few values differ by one 8-bit step, because sums differ in the last bit.
        difference = (one.cpu() - other).abs()
        assert difference.max() <= 1.01 / 255 and difference.mean() < 1e-4


@pytest.mark.parametrize(
    "operation",
    [
        lambda on_cpu, on_device: on_device + on_cpu,
        lambda on_cpu, on_device: torch.cat([on_cpu, on_device]),
        lambda on_cpu, on_device: on_cpu[on_device > 0.5],
        lambda on_cpu, on_device: torch.where(on_device > 0.5, on_device, on_cpu),
        lambda on_cpu, on_device: on_device.lerp(on_device, on_cpu),
        lambda on_cpu, on_device: on_device.index_select(0, torch.tensor([0])),
        lambda on_cpu, on_device: torch.nn.functional.linear(on_device, on_cpu),
        lambda on_cpu, on_device: on_device.numpy(),
        lambda on_cpu, on_device: torch.maximum(on_device, on_device, out=torch.empty_like(on_cpu)),
    ],
)
def test_device_rejects_mixed_tensors(cuda: torch.device, operation: Callable) -> None:
    """Also on the fake device: otherwise the tests above could not fail."""
    on_cpu = random_values(4, 4)
    with pytest.raises((RuntimeError, TypeError)):
        operation(on_cpu, on_cpu.to(cuda))


def test_fake_cuda_skips_unknown_torch_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "fake_cuda", raising=False)
    monkeypatch.setattr(torch, "__version__", "2.99.0+cpu")
    with pytest.raises(pytest.skip.Exception, match=r"knows torch 2\.11 to .*, not 2\.99"):
        importlib.import_module("fake_cuda")


def test_device_allows_valid_mixes(cuda: torch.device) -> None:
    on_cpu = random_values(4, 4)
    on_device = on_cpu.to(cuda)
    assert torch.equal((on_device * torch.tensor(2.0)).cpu(), on_cpu * 2)
    assert torch.equal(on_device[torch.tensor([2, 0])].cpu(), on_cpu[[2, 0]])
    assert torch.equal((~(on_device > 0.5)).cpu(), on_cpu <= 0.5)
    assert on_cpu.to(cuda.type).device == torch.rand(2, device=torch.device("cuda")).device == cuda
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: torch.tensor([2, 0], device=cuda) + on_device[:, 0].sum()).result().device == cuda
    on_device[:2] = torch.zeros(2, 4)
    on_device.copy_(on_device.clone().add_(1))
    assert on_device.device == cuda and on_device[0].eq(1).all() and on_cpu[0].ne(0).any()
    assert (
        torch.zeros(2, device=cuda).device == on_device.new_ones(2).device == torch.rand_like(on_device).device == cuda
    )
