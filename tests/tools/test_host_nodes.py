"""ComfyUI's own nodes, as the built-in engine has them.

`host/test_run_workflow_host.py` compares their pixels with a real ComfyUI's, for 8-bit RGB and RGBA PNG files.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import host_nodes
import numpy as np
import pytest
import run_workflow
import torch
from PIL import Image
from workflow_cases import load


def loader(tmp_path: Path, kind: type = host_nodes.LoadImage) -> host_nodes.HostNode:
    return type("L", (kind,), {"folders": dict.fromkeys(("input", "output", "temp"), tmp_path)})()


def load_image(tmp_path: Path, image: Image.Image, name: str = "p.png", **save: object) -> tuple:
    image.save(tmp_path / name, **save)
    return loader(tmp_path).run(name)


SIXTEEN = np.arange(0, 65536, 2048, dtype=np.uint16).reshape(4, 8)
EIGHT = np.arange(0, 256, 4, dtype=np.uint8).reshape(8, 8)


@pytest.mark.parametrize(
    ("image", "name"),
    [
        (Image.fromarray(SIXTEEN), "gray.png"),
        (Image.fromarray(SIXTEEN), "gray.tiff"),
        (Image.frombytes("I;16B", (8, 4), SIXTEEN.astype(">u2").tobytes()), "swapped.tiff"),
        (Image.fromarray(SIXTEEN).convert("I"), "wide.tiff"),
        (Image.fromarray((SIXTEEN / 65535).astype(np.float32)), "float.tiff"),
    ],
)
def test_load_image_scales_more_than_eight_bits(tmp_path: Path, image: Image.Image, name: str) -> None:
    pixels, mask = load_image(tmp_path, image, name)
    expected = torch.from_numpy((SIXTEEN / 65535).astype(np.float32))
    assert torch.allclose(pixels, expected[None, ..., None].expand(1, 4, 8, 3), atol=1e-6)
    assert torch.equal(mask, torch.zeros(1, 64, 64))


def test_load_image_scales_floats_beyond_one(tmp_path: Path) -> None:
    pixels, _ = load_image(tmp_path, Image.fromarray(EIGHT.astype(np.float32)), "float.tiff")
    assert torch.allclose(pixels[0, ..., 0], torch.from_numpy(EIGHT / np.float32(252)))


def test_load_image_reads_sixteen_bit_colors(tmp_path: Path) -> None:
    """Pillow cannot write such a file, so it is built here. Pillow reads the upper eight bits."""
    values = np.random.default_rng(2).integers(0, 65536, (4, 5, 3)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 5, 4, 16, 2, 0, 0, 0))
    (tmp_path / "p.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )
    pixels, _ = loader(tmp_path).run("p.png")
    assert np.abs(pixels[0].numpy() - values.astype(np.float32) / 65535).max() < 1 / 255


ORIENTATIONS = [
    [[1, 2], [3, 4]], [[2, 1], [4, 3]], [[4, 3], [2, 1]], [[3, 4], [1, 2]],
    [[1, 3], [2, 4]], [[3, 1], [4, 2]], [[4, 2], [3, 1]], [[2, 4], [1, 3]],
]  # fmt: skip


@pytest.mark.parametrize(("orientation", "expected"), list(enumerate(ORIENTATIONS, 1)))
def test_load_image_rotates_and_mirrors_by_exif(tmp_path: Path, orientation: int, expected: list) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels, _ = load_image(tmp_path, Image.fromarray(np.array([[1, 2], [3, 4]], dtype=np.uint8)), exif=exif)
    assert (pixels[0, ..., 0] * 255).round().int().tolist() == expected


def test_load_image_turns_transparent_colors_into_alpha(tmp_path: Path) -> None:
    rgb = Image.new("RGB", (3, 2), (10, 20, 30))
    rgb.putpixel((0, 0), (1, 2, 3))
    palette = rgb.quantize(4)
    clear = {"RGB": (1, 2, 3), "P": palette.getpixel((0, 0))}
    for image in (rgb, palette):
        pixels, mask = load_image(tmp_path, image, transparency=clear[image.mode])
        assert mask.tolist() == [[[1, 0, 0], [0, 0, 0]]]
        assert (pixels[0, 1, 1] * 255).round().tolist() == [10, 20, 30]
    _, mask = load_image(tmp_path, Image.fromarray(np.full((2, 3, 2), 51, np.uint8), "LA"))
    assert torch.allclose(mask, torch.full((1, 2, 3), 0.8))


def test_load_image_converts_cmyk(tmp_path: Path) -> None:
    pixels, mask = load_image(tmp_path, Image.new("CMYK", (3, 2), (0, 255, 255, 0)), "ink.tiff")
    assert (pixels[0, 0, 0].tolist(), mask.shape) == ([1, 0, 0], (1, 64, 64))


def test_load_image_mask_has_the_size_of_load_images_mask(tmp_path: Path) -> None:
    node = loader(tmp_path, host_nodes.LoadImageMask)
    Image.new("RGB", (4, 2), (255, 51, 0)).save(tmp_path / "p.png")
    assert torch.equal(node.run("p.png", "alpha")[0], torch.zeros(1, 64, 64))
    assert torch.allclose(node.run("p.png", "green")[0], torch.full((1, 2, 4), 0.2))
    Image.new("RGBA", (4, 2), (255, 51, 0, 204)).save(tmp_path / "p.png")
    assert torch.allclose(node.run("p.png", "alpha")[0], torch.full((1, 2, 4), 0.2))


@pytest.mark.parametrize("share", [0, 0.5])
def test_load_image_names_a_file_that_pillow_cannot_read(run: Callable, photo: Path, share: float) -> None:
    raw = photo.read_bytes()
    photo.write_bytes(raw[: int(share * len(raw))] if share else b"hello")
    code, _, err = run(load("edges_api.json"), "--input", photo)
    assert code == run_workflow.FAILED and "Traceback" not in err
    reason = "OSError: image file is truncated" if share else "UnidentifiedImageError: cannot identify image file"
    assert f"node 1 (LoadImage) failed: {reason}" in err


def test_saving_nodes_pass_on_what_they_save(tmp_path: Path) -> None:
    """As ComfyUI's do since 0.33, so files may link to their outputs."""
    image, mask = torch.rand(1, 2, 3, 3), torch.rand(1, 2, 3)
    for kind, value in (
        (host_nodes.SaveImage, image),
        (host_nodes.PreviewImage, image),
        (host_nodes.MaskPreview, mask),
    ):
        assert loader(tmp_path, kind).run(value)["result"] == (value,)


def test_load_image_reads_alpha_turns_by_exif_and_stacks_frames(tmp_path: Path) -> None:
    image, mask = load_image(tmp_path, Image.new("RGBA", (4, 2), (255, 0, 51, 204)))
    assert image.shape == (1, 2, 4, 3)
    assert torch.equal(image[0, 0, 0], torch.tensor([255.0, 0.0, 51.0]) / 255)
    assert torch.allclose(mask, torch.full((1, 2, 4), 0.2))
    image, mask = load_image(tmp_path, Image.new("RGB", (4, 2)))
    assert torch.equal(mask, torch.zeros(1, 64, 64))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    assert load_image(tmp_path, Image.new("RGB", (4, 2)), "p.jpg", exif=exif)[0].shape == (1, 4, 2, 3)
    frames = [Image.new("RGB", (5, 3), color) for color in ("red", "lime", "blue")]
    image, mask = load_image(tmp_path, frames[0], "p.gif", save_all=True, append_images=frames[1:])
    assert image.shape == (3, 3, 5, 3)
    assert mask.shape == (3, 64, 64)


def test_saving_cannot_leave_the_output_folder(run: Callable, photo: Path) -> None:
    code, _, err = run(load("edges_api.json"), "--input", photo, "--set", "8.filename_prefix=../../x")
    assert code == run_workflow.FAILED
    assert "outside the output folder is not allowed" in err


def test_composite_repeats_the_batch_and_cuts_what_falls_outside() -> None:
    node = host_nodes.ImageCompositeMasked()
    destination, source = torch.zeros(3, 4, 4, 3), torch.ones(2, 3, 3, 3)
    (result,) = node.run(destination, source, 2, 1, False)
    expected = torch.zeros(3, 4, 4, 3)
    expected[:, 1:4, 2:4] = 1
    assert torch.equal(result, expected)
    assert not destination.any()
    (result,) = node.run(torch.zeros(1, 4, 4, 4), source, 9, 0, False, torch.ones(1, 2, 2))
    assert torch.equal(result, torch.zeros(1, 4, 4, 4))
