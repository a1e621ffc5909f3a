"""What saved workflows and prompts rely on in every node: its inputs' names, types, defaults, ranges and order."""

from __future__ import annotations

import json

import pytest
from maskwright import NODE_CLASS_MAPPINGS
from pack import ROOT

GOLDEN = json.loads((ROOT / "tests" / "golden" / "input_types.json").read_text(encoding="utf-8"))
# Only how an input looks: these may change.
DISPLAY_OPTIONS = {
    "advanced",
    "display_name",
    "dynamicPrompts",
    "grows",
    "multiline",
    "option_labels",
    "placeholder",
    "tooltip",
}


def contract(node: type) -> dict[str, list]:
    """By group, every input in order: its name, its type or its values, and the options that decide its value."""
    groups = json.loads(json.dumps(node.INPUT_TYPES()))
    return {
        group: [
            [name, spec[0], {key: value for key, value in spec[1].items() if key not in DISPLAY_OPTIONS}]
            if isinstance(spec, list)
            else [name, spec]
            for name, spec in inputs.items()
        ]
        for group, inputs in groups.items()
    }


@pytest.mark.parametrize("name", sorted(NODE_CLASS_MAPPINGS))
def test_input_types_stay_as_saved_workflows_know_them(name: str) -> None:
    assert contract(NODE_CLASS_MAPPINGS[name]) == GOLDEN[name.removesuffix(" (Maskwright)")]


def test_every_node_of_the_golden_file_is_registered() -> None:
    assert set(GOLDEN) == {name.removesuffix(" (Maskwright)") for name in NODE_CLASS_MAPPINGS}
