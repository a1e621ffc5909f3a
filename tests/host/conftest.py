"""One real ComfyUI for all tests in this folder; without one they are skipped, and say why.

A module that runs in another says in WHY_SKIPPED what is missing for that, or nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import comfyui
import pytest

FOUND = comfyui.find_comfyui()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.host)
            item.add_marker(pytest.mark.slow)
            why = getattr(item.module, "WHY_SKIPPED", "" if FOUND.usable else FOUND.why)
            if why:
                item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture(scope="session")
def found() -> comfyui.ComfyUI:
    return FOUND


@pytest.fixture(scope="session")
def server() -> Iterator[comfyui.Server]:
    """ComfyUI with the pack linked in under a folder name with a dash, and the tests' own nodes."""
    packs, previews = [Path(__file__).parent / "fixture_nodes"], ["--preview-method", "latent2rgb"]
    with comfyui.Server(FOUND, packs=packs, arguments=previews) as running_server:
        yield running_server
