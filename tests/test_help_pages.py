"""What the help pages quote exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from pack import ROOT

PAGES = sorted((ROOT / "web" / "docs").glob("*.md"))
FEWEST_LETTERS = 7  # of fixed text in a message; less would match anything


def quoted_messages(page: Path) -> list[str]:
    """The error messages that a page lists, in italics at the start of a line."""
    _, _, section = page.read_text(encoding="utf-8").partition("## Error messages\n")
    return re.findall(r"^- \*([^*]+)\*", section, re.MULTILINE)


def patterns() -> list[str]:
    """A regular expression for each text in core/, models/ and nodes/, with anything where a value is filled in."""
    files = [file for folder in ("core", "models", "nodes") for file in (ROOT / folder).rglob("*.py")]
    found = []
    for node in (node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))):
        values = node.values if isinstance(node, ast.JoinedStr) else [node]
        fixed = [value.value if isinstance(value, ast.Constant) else None for value in values]
        if sum(len(re.sub(r"\W", "", text)) for text in fixed if isinstance(text, str)) >= FEWEST_LETTERS:
            found.append("".join(re.escape(text) if isinstance(text, str) else ".+" for text in fixed))
    return found


@pytest.mark.parametrize("page", [page for page in PAGES if quoted_messages(page)], ids=lambda page: page.stem)
def test_error_message_on_a_page_is_one_of_the_code(page: Path) -> None:
    messages = patterns()
    unknown = [said for said in quoted_messages(page) if not any(re.fullmatch(each, said) for each in messages)]
    assert unknown == []
