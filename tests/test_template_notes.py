"""What the templates' notes say to somebody who sees them in the editor."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from pack import ROOT

TEMPLATES = sorted((ROOT / "example_workflows").glob("*.json"))


def notes(template: Path) -> str:
    nodes = json.loads(template.read_text(encoding="utf-8"))["nodes"]
    return "\n".join(node["widgets_values"][0] for node in nodes if node["type"] == "MarkdownNote")


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_note_names_widgets_by_their_labels(template: Path) -> None:
    nodes = json.loads((ROOT / "locales" / "en" / "nodeDefs.json").read_text(encoding="utf-8"))
    labels = {name: each["name"] for node in nodes.values() for name, each in node["inputs"].items()}
    words = re.findall(r"\*\*(\w+)\*\*", notes(template))
    assert {word: labels[word] for word in words if labels.get(word, word) != word} == {}


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.stem)
def test_note_has_no_inline_code(template: Path) -> None:
    """Some editors show it dark on dark in Vue nodes."""
    assert notes(template) and "`" not in notes(template)
