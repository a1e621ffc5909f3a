#!/usr/bin/env python3
"""Writes the list of models in web/docs/ImageSegmentation.md from models/catalog.py.

    python tools/help_pages.py

The list is what lies between the two comments `BEGIN` and `END`. It is a list and no table, since the editor's panel is
narrow.
"""

from __future__ import annotations

import sys

from pack import ROOT, load_pack

PAGE = ROOT / "web" / "docs" / "ImageSegmentation.md"
BEGIN = "<!-- models: written by tools/help_pages.py -->"
END = "<!-- /models -->"


def model_list() -> str:
    """One line for each model of the catalogue: name, use, licence and download."""
    catalog = load_pack().models.catalog
    lines = []
    for model in catalog.BACKGROUND.values():
        size = f", {catalog.download_size(model)}" if model.size else ""
        licence = f"[{model.licence}]({model.source})"
        lines.append(f"- `{model.name}`: {model.note}. {licence}, [download]({model.files[0].url}){size}")
    return "\n".join(lines)


def with_models(page: str) -> str:
    """The page with its list of models replaced.

    Raises:
        ValueError: The page lacks one of the two comments.
    """
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE.name} lacks {BEGIN} or {END}")
    return f"{before}{BEGIN}\n\n{model_list()}\n\n{END}{after}"


def main() -> int:
    PAGE.write_text(with_models(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
