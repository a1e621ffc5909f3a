"""The table of a node's inputs: what ComfyUI gets from it, and how a method is called with it."""

from __future__ import annotations

import inspect

import pytest
from maskwright import NODE_CLASS_MAPPINGS
from maskwright.nodes._widgets import TableNode, choice, integer, number, socket, switch, takes, text

MODELS = ["small", "large"]


class Node(TableNode):
    INPUTS = {
        "required": {
            "image": socket("IMAGE", "An image."),
            "model": choice(lambda: MODELS, "A model.", option_labels=lambda: {"small": f"1 of {len(MODELS)}"}),
            "size": number(1.5, (0, lambda: 10 * len(MODELS), 0.5), "A size.", advanced=True),
        },
        "optional": {
            "mask": socket("MASK", "A mask."),
            "count": integer(3, (1, 9), "A count."),
            "fill": switch(True, "Whether to fill.", labels=("fill", "keep")),
            "words": text("Some words.", multiline=True),
        },
        "hidden": {"unique_id": "UNIQUE_ID"},
    }

    @takes(INPUTS, size=2.5, count=0)
    def run(self, image, mask, unique_id, **widgets):
        return image, mask, unique_id, widgets


def test_input_types_entries_are_comfyuis() -> None:
    assert Node.INPUT_TYPES() == {
        "required": {
            "image": ("IMAGE", {"tooltip": "An image."}),
            "model": (["small", "large"], {"tooltip": "A model.", "option_labels": {"small": "1 of 2"}}),
            "size": (
                "FLOAT",
                {"default": 1.5, "min": 0, "max": 20, "step": 0.5, "tooltip": "A size.", "advanced": True},
            ),
        },
        "optional": {
            "mask": ("MASK", {"tooltip": "A mask."}),
            "count": ("INT", {"default": 3, "min": 1, "max": 9, "tooltip": "A count."}),
            "fill": (
                "BOOLEAN",
                {"default": True, "label_on": "fill", "label_off": "keep", "tooltip": "Whether to fill."},
            ),
            "words": (
                "STRING",
                {
                    "default": "",
                    "multiline": True,
                    "dynamicPrompts": False,
                    "tooltip": "Some words.",
                    "grows": False,
                },
            ),
        },
        "hidden": {"unique_id": "UNIQUE_ID"},
    }


def test_input_types_functions_are_called_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    Node.INPUT_TYPES()
    monkeypatch.setattr(f"{__name__}.MODELS", ["one", "two", "three"])
    required = Node.INPUT_TYPES()["required"]
    assert required["model"][0] == ["one", "two", "three"]
    assert required["model"][1]["option_labels"] == {"small": "1 of 3"}
    assert required["size"][1]["max"] == 30


@pytest.mark.parametrize("name", sorted(NODE_CLASS_MAPPINGS))
def test_input_types_can_be_changed_by_callers(name: str) -> None:
    """Other packs add samplers to lists and options to entries; the next caller must not see that."""
    node = NODE_CLASS_MAPPINGS[name]
    before = repr(node.INPUT_TYPES())
    groups = node.INPUT_TYPES()
    for kind, options in [*groups["required"].values(), *groups.get("optional", {}).values()]:
        options["tooltip"] = "changed"
        if isinstance(kind, list):
            kind.append("changed")
    groups["required"].clear()
    assert repr(node.INPUT_TYPES()) == before


def test_takes_signature_is_the_tables_order_and_defaults() -> None:
    parameters = inspect.signature(Node().run).parameters
    assert list(parameters) == ["image", "model", "size", "mask", "count", "fill", "words", "unique_id"]
    empty = inspect.Parameter.empty
    assert [each.default for each in parameters.values()] == [empty, empty, 2.5, None, 0, True, "", None]


def test_takes_positions_and_names_reach_the_same_parameters() -> None:
    by_position = Node().run("image", "small", 4, None, 5, False, "hat", "7")
    by_name = Node().run(
        words="hat", unique_id="7", fill=False, count=5, size=4, model="small", image="image", mask=None
    )
    widgets = {"model": "small", "size": 4, "count": 5, "fill": False, "words": "hat"}
    assert by_position == by_name == ("image", None, "7", widgets)


def test_takes_missing_optional_inputs_get_their_defaults() -> None:
    widgets = {"model": "small", "size": 2.5, "count": 0, "fill": True, "words": ""}
    assert Node().run("image", model="small") == ("image", None, None, widgets)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "missing a required argument: 'image'"),
        ({"image": 1, "model": 2, "other": 3}, "unexpected keyword argument 'other'"),
    ],
)
def test_takes_wrong_inputs_are_named(inputs: dict, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Node().run(**inputs)
