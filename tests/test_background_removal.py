"""Background removal with fake mask sources."""

from __future__ import annotations

import pytest
import torch
from fake_host import FakeHost
from hypothesis import given
from hypothesis import strategies as st
from maskwright.core.cutout import matting


class Red:
    """Selects red: the mask is the red channel."""

    masks_per_image = 1

    def predict_masks(self, image: torch.Tensor) -> torch.Tensor:
        return image[..., 0].unsqueeze(0)  # [H,W] -> [1,H,W]


class Channels(Red):
    """One mask per color channel."""

    masks_per_image = 3

    def predict_masks(self, image: torch.Tensor) -> torch.Tensor:
        return image[..., :3].permute(2, 0, 1)  # [H,W,3] -> [3,H,W]


def random_images(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


def test_remove_background_keeps_colors_and_uses_mask_as_alpha() -> None:
    images = random_images(2, 5, 7, 3)
    images[:, 0, :, 0] = 0  # not red: removed
    original = images.clone()
    cutouts, masks = matting.remove_background(images, Red())
    assert cutouts.shape == (2, 5, 7, 4) and masks.shape == (2, 5, 7)
    assert torch.equal(masks, images[..., 0]) and torch.equal(cutouts[..., 3], masks)
    assert torch.equal(cutouts[:, 1:, :, :3], images[:, 1:])
    assert (cutouts[:, 0] == 0).all()
    assert torch.equal(images, original)


def test_remove_background_keeps_transparency() -> None:
    images = random_images(1, 4, 4, 4)
    cutouts, masks = matting.remove_background(images, Red())
    assert torch.equal(masks, images[..., 0] * images[..., 3])
    assert torch.equal(cutouts[..., 3], masks)


def test_remove_background_stacks_masks_of_an_image() -> None:
    images = random_images(2, 4, 6, 3)
    cutouts, masks = matting.remove_background(images, Channels())
    assert cutouts.shape == (2, 12, 6, 4) and masks.shape == (6, 4, 6)
    for image in range(2):
        for part in range(3):
            expected = images[image, ..., part]
            assert torch.equal(masks[3 * image + part], expected)
            assert torch.equal(cutouts[image, 4 * part : 4 * part + 4, :, 3], expected)


@given(
    batch=st.integers(1, 4),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    channels=st.sampled_from([3, 4]),
    source=st.sampled_from([Red(), Channels()]),
    clean_up=st.booleans(),
)
def test_remove_background_batch_equals_singles(
    batch: int, height: int, width: int, channels: int, source: Red, clean_up: bool
) -> None:
    images = random_images(batch, height, width, channels)
    together = matting.remove_background(images, source, clean_up=clean_up)
    alone = [matting.remove_background(each, source, clean_up=clean_up) for each in images.split(1)]
    for whole, parts in zip(together, zip(*alone)):
        assert torch.equal(whole, torch.cat(parts))
        assert whole.dtype == torch.float32 and whole.isfinite().all() and whole.min() >= 0 and whole.max() <= 1


def test_remove_background_post_processes_masks() -> None:
    images = torch.zeros(1, 20, 20, 3)
    images[:, 5:15, 5:15] = 1
    images[:, 1, 1] = 1  # a speck
    masks = matting.remove_background(images, Red(), clean_up=True)[1]
    assert torch.equal(masks, matting.post_process(images[..., 0]))
    assert masks[0, 1, 1] == 0 and masks[0, 10, 10] == 1


def test_remove_background_with_matting_matches_matte() -> None:
    pytest.importorskip("pymatting")
    images = random_images(1, 24, 24, 3) * 0.2
    images[:, 6:18, 6:18, 0] = 1
    matting_settings = matting.MattingSettings(background_threshold=60, erode_size=3)
    cutouts, masks = matting.remove_background(images, Red(), matting_settings)
    alpha, foreground = matting.matte(images[0], images[0, ..., 0], matting_settings)
    assert torch.equal(masks[0], alpha)
    assert torch.equal(cutouts[0], matting.compose_cutout(images[0], alpha, foreground))
    assert not torch.equal(masks, images[..., 0])


class Interrupt(BaseException):
    """Not an `Exception`, like the interrupt of newer hosts."""


def test_remove_background_reports_progress_per_image() -> None:
    events = []

    class Counting(Red):
        def predict_masks(self, image: torch.Tensor) -> torch.Tensor:
            events.append("image")
            return super().predict_masks(image)

    class Steps:
        def step(self, count: int = 1) -> None:
            events.append(count)
            if events.count(1) == 2:
                raise Interrupt

    host = FakeHost(Steps())
    with pytest.raises(Interrupt):
        matting.remove_background(random_images(5, 2, 2, 3), Counting(), host=host)
    assert events == ["image", 1, "image", 1]


def test_remove_background_reports_phases_and_announced_steps() -> None:
    pytest.importorskip("pymatting")
    events = []

    class Steps:
        def step(self, count: int = 1) -> None:
            events.append(count)

    images = random_images(2, 24, 24, 3)
    images[:, :8], images[:, 16:] = 0.0, 1.0  # definite background, definite foreground
    matting_settings = matting.MattingSettings(erode_size=1)
    host = FakeHost(Steps())
    matting.remove_background(images, Red(), matting_settings, host=host, on_phase=events.append)
    phases = [event for event in events if isinstance(event, str)]
    assert phases == [matting.SUBJECT, matting.EDGES] * 2
    counts = [event for event in events if isinstance(event, int)]
    assert sum(counts) == host.total and len(counts) > 8
    first = events.index(matting.EDGES)
    assert sum(count for count in events[:first] if isinstance(count, int)) < sum(counts) / 4


def test_remove_background_frees_memory_and_retries() -> None:
    failures, host = [True, False, False], FakeHost()

    class Short(Red):
        def predict_masks(self, image: torch.Tensor) -> torch.Tensor:
            if failures.pop(0):
                raise MemoryError
            return super().predict_masks(image)

    images = random_images(2, 2, 2, 3)
    assert torch.equal(matting.remove_background(images, Short(), host=host)[1], images[..., 0])
    assert host.freed == 1
