"""The list of models in the help page of background removal."""

from __future__ import annotations

import re

import pytest
import web_files
from maskwright.models import catalog
from pack import ROOT

PAGES = sorted((ROOT / "web" / "docs").glob("*.md"))


def test_with_models_matches_the_committed_page() -> None:
    page = web_files.PAGE.read_text(encoding="utf-8")
    assert page == web_files.with_models(page), "run `python tools/web_files.py`"


def test_model_list_names_every_model_with_its_license_address_and_size() -> None:
    lines = web_files.model_list().splitlines()
    assert len(lines) == len(catalog.BACKGROUND)
    for line, model in zip(lines, catalog.BACKGROUND.values()):
        assert line.startswith(f"- `{model.name}`: ")
        assert model.license in line and model.files[0].url in line and model.source in line
        assert ("MB" in line) == (model.size is not None)
    assert "- `isnet-general-use`: any subject, finer edges. [Apache-2.0]" in web_files.model_list()
    assert "179 MB" in web_files.model_list()


def test_with_models_refuses_a_page_without_markers() -> None:
    with pytest.raises(ValueError, match=r"ImageSegmentation\.md lacks"):
        web_files.with_models(f"# A page\n\n{web_files.BEGIN}\n")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_help_pages_have_no_tables(page) -> None:
    """The editor's panel is too narrow for them."""
    assert not re.search(r"^\s*\|", page.read_text(encoding="utf-8"), re.MULTILINE)


def test_color_maps_in_javascript_are_those_of_python() -> None:
    assert web_files.COLOR_MAPS.read_text(encoding="utf-8") == web_files.color_maps(), "run `python tools/web_files.py`"
    assert "export const GREYS_HEX" in web_files.color_maps()
