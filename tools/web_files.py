#!/usr/bin/env python3
"""Generates the parts of the web folder that repeat Python code: the list of models in a help page, the color maps.

    python tools/web_files.py

The list of models is between the comments `BEGIN` and `END` in web/docs/ImageSegmentation.md. It is not a table because
the editor's panel is narrow.
"""

from __future__ import annotations

from pack import ROOT, load_pack

PAGE = ROOT / "web" / "docs" / "ImageSegmentation.md"
BEGIN = "<!-- models: written by tools/web_files.py -->"
END = "<!-- /models -->"
COLOR_MAPS = ROOT / "web" / "js" / "color_maps.mjs"
DIGITS_PER_LINE = 96


def model_list() -> str:
    """One line for each model of the catalog: name, use, license and download."""
    catalog = load_pack().models.catalog
    lines = []
    for model in catalog.BACKGROUND.values():
        size = f", {catalog.download_size(model)}" if model.size else ""
        license_link = f"[{model.license}]({model.source})"
        lines.append(f"- `{model.name}`: {model.note}. {license_link}, [download]({model.files[0].url}){size}")
    return "\n".join(lines)


def with_models(page: str) -> str:
    """Replace the list of models in the page. Raises: `ValueError` if the page lacks one of the two comments."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{PAGE.name} lacks {BEGIN} or {END}")
    return f"{before}{BEGIN}\n\n{model_list()}\n\n{END}{after}"


def color_maps() -> str:
    """A JavaScript module with the RGB of each color map's 256 steps in hexadecimal."""
    previews = load_pack().core.text.segment
    parts = ["// Written by tools/web_files.py from core/text/segment.py: RGB of 256 steps in hexadecimal.\n"]
    for name in previews.COLOR_MAPS:
        digits = bytes((previews.color_table(name) * 255).round().int().flatten().tolist()).hex()
        lines = [digits[i : i + DIGITS_PER_LINE] for i in range(0, len(digits), DIGITS_PER_LINE)]
        text = " +\n".join(f'  "{line}"' for line in lines)
        parts.append(f"\nexport const {name.upper()}_HEX =\n{text};\n")
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(with_models(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    COLOR_MAPS.write_text(color_maps(), encoding="utf-8")
