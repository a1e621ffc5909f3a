"""What holds for every node of the pack: what the editor needs is there, and agrees with the method that is called."""

from __future__ import annotations

import ast
import inspect

import pytest
from maskwright import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS, WEB_DIRECTORY
from maskwright.nodes.clipseg import CLIPSeg
from maskwright.nodes.clipseg_masking import CLIPSegMasking
from maskwright.nodes.edit_mask import EditMask
from maskwright.nodes.gradient_region import GradientRegion
from maskwright.nodes.image_segmentation import ImageSegmentation
from maskwright.nodes.mask_instances import MaskInstances
from maskwright.nodes.refine_mask import RefineMask
from pack import ROOT

# Without the second ids that every node has.
NODES = sorted((name, node) for name, node in NODE_CLASS_MAPPINGS.items() if not name.endswith(" (Maskwright)"))
SHOWN = [(name, node) for name, node in NODES if not getattr(node, "DEPRECATED", False)]  # in the menu
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN"}
# Prompts of the earlier node that leave these out mean something else than what the editor begins with.
LEFT_OUT = {("MaskDetailerPipe", "noise_mask_feather"): 0}


def list_inputs(node: type) -> dict[str, tuple]:
    groups = node.INPUT_TYPES()
    return {**groups.get("required", {}), **groups.get("optional", {})}


@pytest.mark.parametrize(("name", "node"), NODES)
def test_node_inputs_match_method_parameters(name: str, node: type) -> None:
    """In the same order: other packs call nodes by position."""
    groups = node.INPUT_TYPES()
    parameters = inspect.signature(getattr(node(), node.FUNCTION)).parameters
    assert [*parameters] == [*list_inputs(node), *groups.get("hidden", {})]
    for optional in [*groups.get("optional", {}), *groups.get("hidden", {})]:
        assert parameters[optional].default is not inspect.Parameter.empty, f"{optional} needs a default"


@pytest.mark.parametrize(("name", "node"), NODES)
def test_node_has_description_and_tooltips(name: str, node: type) -> None:
    assert NODE_DISPLAY_NAME_MAPPINGS[name]
    assert len(node.DESCRIPTION) > 40
    assert node.CATEGORY
    assert len(node.SEARCH_ALIASES) >= 2
    for input_name, spec in list_inputs(node).items():
        assert len(spec) == 2 and len(spec[1]["tooltip"]) > 10, f"{input_name} has no tooltip"
    assert len(node.OUTPUT_TOOLTIPS) == len(node.RETURN_NAMES) == len(node.RETURN_TYPES)
    assert all(len(tooltip) > 10 for tooltip in node.OUTPUT_TOOLTIPS)


@pytest.mark.parametrize(("name", "node"), SHOWN)
def test_help_page_names_inputs(name: str, node: type) -> None:
    page = (ROOT / "web" / "docs" / f"{name}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {NODE_DISPLAY_NAME_MAPPINGS[name]}\n")
    for input_name in list_inputs(node):
        assert input_name in page, f"{input_name} is not explained"


@pytest.mark.parametrize(("name", "node"), NODES)
def test_widget_defaults_are_valid(name: str, node: type) -> None:
    for input_name, (kind, options) in list_inputs(node).items():
        if isinstance(kind, list):
            assert options.get("default", kind[0]) in kind, input_name
        elif kind in ("INT", "FLOAT"):
            assert options["min"] <= options["default"] <= options["max"], input_name


@pytest.mark.parametrize(("name", "node"), NODES)
def test_widget_defaults_match_method(name: str, node: type) -> None:
    """Other packs call nodes by hand, and prompts leave optional inputs out: both must get what the editor shows."""
    parameters = inspect.signature(getattr(node(), node.FUNCTION)).parameters
    for input_name, (kind, options) in node.INPUT_TYPES().get("optional", {}).items():
        if isinstance(kind, list) or kind in WIDGETS:
            default = options.get("default", kind[0] if isinstance(kind, list) else None)
            assert parameters[input_name].default == LEFT_OUT.get((name, input_name), default), input_name


# Their view shows the result that a run gives without further nodes.
RUN_ALONE = (CLIPSeg, CLIPSegMasking, EditMask, GradientRegion, ImageSegmentation, MaskInstances, RefineMask)


@pytest.mark.parametrize(("name", "node"), sorted(NODE_CLASS_MAPPINGS.items()))
def test_nodes_with_mask_view_are_output_nodes(name: str, node: type) -> None:
    """Under every id: the editor gives output nodes a play button."""
    assert getattr(node, "OUTPUT_NODE", False) == issubclass(node, RUN_ALONE)


@pytest.mark.parametrize(("name", "node"), NODES)
def test_search_aliases_include_pack_name(name: str, node: type) -> None:
    assert "maskwright" in node.SEARCH_ALIASES


@pytest.mark.parametrize(("name", "node"), NODES)
def test_text_inputs_disable_dynamic_prompts(name: str, node: type) -> None:
    """With dynamic prompts the editor would replace {a|b} by one of the two."""
    for input_name, (kind, options) in list_inputs(node).items():
        if kind == "STRING":
            assert options["dynamicPrompts"] is False, input_name


def test_display_names_match_nodes() -> None:
    assert set(NODE_DISPLAY_NAME_MAPPINGS) == set(NODE_CLASS_MAPPINGS)


def test_node_mappings_are_literals() -> None:
    tree = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    literals = {
        target.id: statement.value
        for statement in tree.body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
        if isinstance(target, ast.Name)
    }
    keys = [key.value for key in literals["NODE_CLASS_MAPPINGS"].keys]
    assert sorted(keys) == [name for name, _ in SHOWN]
    assert sorted(ast.literal_eval(literals["NODE_DISPLAY_NAME_MAPPINGS"])) == sorted(keys)


def test_web_directory_exists() -> None:
    assert (ROOT / WEB_DIRECTORY).is_dir()
