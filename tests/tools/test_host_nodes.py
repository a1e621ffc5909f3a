"""ComfyUI's own nodes, written anew: each fact that its users rely on.

`host/test_run_workflow_host.py` holds them to the same pixels as a real ComfyUI's.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import host_nodes
import run_workflow
import torch
from PIL import Image
from workflow_cases import load


def load_image(tmp_path: Path, picture: Image.Image, name: str = "p.png", **save: object) -> tuple:
    node = type("L", (host_nodes.LoadImage,), {"folders": host_nodes.Folders(tmp_path, tmp_path, tmp_path)})
    picture.save(tmp_path / name, **save)
    return node().run(name)


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
    frames = [Image.new("RGB", (5, 3), colour) for colour in ("red", "lime", "blue")]
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
