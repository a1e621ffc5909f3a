"""Metadata for ComfyUI's registry and ComfyUI-Manager."""

from __future__ import annotations

import re
import sys

import pytest
from pack import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def read_requirements() -> list[str]:
    lines = (
        line.split("#")[0].strip() for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    )
    return [line for line in lines if line]


def test_pyproject_meets_registry_rules() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", PROJECT["project"]["version"])
    assert re.fullmatch(r"[a-z][a-z0-9_-]*", PROJECT["project"]["name"])
    assert "comfyui" not in PROJECT["project"]["name"].lower()
    assert re.fullmatch(r">=\d+\.\d+\.\d+", PROJECT["tool"]["comfy"]["requires-comfyui"])
    assert PROJECT["project"]["license"] == {"file": "LICENSE"}


def test_requirements_match_pyproject() -> None:
    assert read_requirements() == PROJECT["project"]["dependencies"]


def test_requirements_omit_packages_of_comfyui() -> None:
    names = {re.split(r"[\s<>=!~;\[]", line)[0].lower() for line in read_requirements()}
    assert not names & {"torch", "torchvision", "torchaudio", "numpy", "pillow", "scipy", "safetensors", "transformers"}


def test_pyproject_has_no_build_system() -> None:
    """Otherwise pip could install a top-level package ``nodes``."""
    assert "build-system" not in PROJECT
    assert "web" not in PROJECT["tool"]["comfy"], "WEB_DIRECTORY sets it"


def test_changelog_contains_version() -> None:
    assert f"## {PROJECT['project']['version']}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_readme_names_oldest_comfyui() -> None:
    floor = PROJECT["tool"]["comfy"]["requires-comfyui"].removeprefix(">=")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    badge = re.search(r"badge/ComfyUI-([\d.]+)%20to%20([\d.]+)-", readme)
    assert badge and badge.group(1) == floor
    tested = re.search(r"The tests run in ComfyUI (.*?) on the CPU", readme, re.DOTALL)
    assert tested and floor in tested.group(1) and badge.group(2) in tested.group(1)
