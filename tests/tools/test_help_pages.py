"""The list of models in the help page of background removal."""

from __future__ import annotations

import re

import help_pages
import pytest
from maskwright.models import catalog
from pack import ROOT

PAGES = sorted((ROOT / "web" / "docs").glob("*.md"))


def test_with_models_matches_the_committed_page() -> None:
    page = help_pages.PAGE.read_text(encoding="utf-8")
    assert page == help_pages.with_models(page), "run `python tools/help_pages.py`"


def test_model_list_names_every_model_with_its_licence_address_and_size() -> None:
    lines = help_pages.model_list().splitlines()
    assert len(lines) == len(catalog.BACKGROUND)
    for line, model in zip(lines, catalog.BACKGROUND.values()):
        assert line.startswith(f"- `{model.name}`: ")
        assert model.licence in line and model.files[0].url in line and model.source in line
        assert ("MB" in line) == (model.size is not None)
    assert "- `isnet-general-use`: any subject, finer edges. [Apache-2.0]" in help_pages.model_list()
    assert "179 MB" in help_pages.model_list()


def test_with_models_refuses_a_page_without_markers() -> None:
    with pytest.raises(ValueError, match=r"ImageSegmentation\.md lacks"):
        help_pages.with_models(f"# A page\n\n{help_pages.BEGIN}\n")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_help_pages_have_no_tables(page) -> None:
    """The editor's panel is too narrow for them."""
    assert not re.search(r"^\s*\|", page.read_text(encoding="utf-8"), re.MULTILINE)
