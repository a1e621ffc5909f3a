"""Pictures and masks that lie on a GPU: what every operation makes of them lies there too, and is what a CPU makes."""

from __future__ import annotations

from collections.abc import Callable

import maskwright
import pytest
import torch
from maskwright.core import colors, geometry, masks, morphology, previews, tensors
from maskwright.core.cutout import matting, remove, trimap
from maskwright.core.text.selection import Selection, render_selection, select, stretch


def random_values(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def shapes() -> torch.Tensor:
    """Soft discs ``[2,60,80]``."""
    y, x = torch.meshgrid(torch.arange(60.0), torch.arange(80.0), indexing="ij")
    return torch.stack([((radius - (y - 30).hypot(x - 40)) / 6).clamp(0, 1) for radius in (18.0, 25.0)])


class Discs:
    masks_per_image = 1

    def predict_masks(self, picture: torch.Tensor) -> torch.Tensor:
        return shapes()[:1]


IMAGE, MASK = random_values(2, 60, 80, 3), shapes()
OPERATIONS: dict[str, Callable[[torch.Tensor, torch.Tensor], object]] = {
    "dilate": lambda image, mask: morphology.dilate(mask, 6, "ellipse"),
    "erode": lambda image, mask: morphology.erode(mask, 5, "cross"),
    "gradient": lambda image, mask: morphology.gradient(mask, [3, 7]),
    "threshold": lambda image, mask: masks.threshold(mask, 0.4),
    "gaussian blur": lambda image, mask: masks.gaussian_blur(mask, 2.5),
    "combine": lambda image, mask: masks.combine(mask, mask.flip(1), "difference"),
    "feather": lambda image, mask: masks.feather(mask, 9, geometry.Sides(True, False, True, True)),
    "resize": lambda image, mask: (tensors.resize_image(image, 33, 99), tensors.resize_mask(mask, 33, 99)),
    "resize in 8 bits": lambda image, mask: tensors.resize_8bit(mask, 33, 99, "nearest"),
    "resize with Lanczos": lambda image, mask: tensors.resize_lanczos(image, 33, 99),
    "colour map": lambda image, mask: previews.apply_color_map(mask),
    "heat map": lambda image, mask: previews.draw_heat_map(image, tensors.resize_mask(mask, 30, 40)),
    "match colours": lambda image, mask: colors.match_colors(image, mask, image.flip(3), 1 - mask, 0.7),
    "selection": lambda image, mask: select(mask, Selection()),
    "stretch": lambda image, mask: stretch(mask / 2, 33, 99),
    "pictures of a selection": lambda image, mask: render_selection(image, mask),
    "trimap": lambda image, mask: trimap.make_trimap(mask[0]),
    "post-process": lambda image, mask: matting.post_process(mask),
    "cutout": lambda image, mask: matting.compose_cutout(image, mask),
    "remove the background": lambda image, mask: remove.remove_background(image, Discs()),
    "matting": lambda image, mask: remove.remove_background(image, Discs(), trimap.MattingSettings(erode_size=3), True),
    "GradientRegion": lambda image, mask: node("GradientRegion").gradient_region(mask, 5),
    "CombineSegMasks": lambda image, mask: node("CombineSegMasks").combine_masks(image, mask, mask.flip(2)),
    "CombineSegMasks, a mask on the CPU": lambda image, mask: node("CombineSegMasks").combine_masks(
        image, mask.cpu(), mask.flip(2)
    ),
}


def node(name: str) -> object:
    return maskwright.NODE_CLASS_MAPPINGS[name]()


@pytest.mark.parametrize("operation", OPERATIONS.values(), ids=OPERATIONS)
def test_results_lie_where_the_inputs_do(
    cuda: torch.device, operation: Callable[[torch.Tensor, torch.Tensor], object]
) -> None:
    there, here = operation(IMAGE.to(cuda), MASK.to(cuda)), operation(IMAGE, MASK)
    for one, other in zip(*(each if isinstance(each, tuple) else (each,) for each in (there, here))):
        assert one.device == cuda
        # A step of a colour map or of 8 bits here and there, where the last bit of a sum differs.
        difference = (one.cpu() - other).abs()
        assert difference.max() <= 1.01 / 255 and difference.mean() < 1e-4


@pytest.mark.parametrize(
    "mixed",
    [
        lambda here, there: there + here,
        lambda here, there: torch.cat([here, there]),
        lambda here, there: here[there > 0.5],
        lambda here, there: torch.where(there > 0.5, there, here),
        lambda here, there: there.lerp(there, here),
        lambda here, there: there.index_select(0, torch.tensor([0])),
        lambda here, there: torch.nn.functional.linear(there, here),
        lambda here, there: there.numpy(),
        lambda here, there: torch.maximum(there, there, out=torch.empty_like(here)),
    ],
)
def test_whoever_mixes_devices_gets_an_error(cuda: torch.device, mixed: Callable) -> None:
    """Also on the device that is only pretended: otherwise the tests above could not fail."""
    here = random_values(4, 4)
    with pytest.raises((RuntimeError, TypeError)):
        mixed(here, here.to(cuda))


def test_what_may_be_mixed_is_not_refused(cuda: torch.device) -> None:
    here = random_values(4, 4)
    there = here.to(cuda)
    assert torch.equal((there * torch.tensor(2.0)).cpu(), here * 2)
    assert torch.equal(there[torch.tensor([2, 0])].cpu(), here[[2, 0]])
    there[:2] = torch.zeros(2, 4)
    there.copy_(there.clone().add_(1))
    assert there.device == cuda and there[0].eq(1).all() and here[0].ne(0).any()
    assert torch.zeros(2, device=cuda).device == there.new_ones(2).device == torch.rand_like(there).device == cuda
