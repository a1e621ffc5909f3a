"""What the editor resolves before it queues: subgraphs, reroutes, primitives, Set and Get, muted and bypassed nodes.

`browser/test_prompts.py` compares the same converter with a real editor's prompts.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import builtin_engine
import pytest
import run_workflow
from editor_graphs import (
    BYPASSED,
    INPUT,
    MUTED,
    OUTPUT,
    edges,
    getter,
    graph,
    instance,
    invert,
    load_mask,
    node,
    preview,
    primitive,
    reroute,
    setter,
    subgraph,
)
from workflow.engine_interface import BadWorkflow
from workflow.read_workflow import Workflow, check_structure
from workflow.to_prompt import to_prompt
from workflow_cases import EDITOR_FILES, editor_file

pytest.importorskip("comfy_cli")

SEED = {"control_after_generate": True, "default": 0}
SAMPLER = {
    "input": {
        "required": {
            "model": ["MODEL"],
            "seed": ["INT", SEED],
            "steps": ["INT", {"default": 20}],
            "cfg": ["FLOAT", {"default": 8.0}],
            "sampler_name": [["euler", "euler_ancestral"]],
            "scheduler": [["normal", "karras"]],
            "denoise": ["FLOAT", {"default": 1.0}],
        }
    },
    "output": ["LATENT"],
}
BOX = {"default": {"x": 0, "y": 0, "width": 512, "height": 512}}
DETECTOR = {
    "input": {
        "required": {"image": ["IMAGE"], "threshold": ["FLOAT", {"default": 0.5}], "refine": ["INT", {}]},
        "optional": {
            "bboxes": ["BOUNDING_BOX", {**BOX, "forceInput": True}],
            "individual_masks": ["BOOLEAN", {"default": False}],
        },
    },
    "output": ["MASK"],
}
CROP = {"input": {"required": {"region": ["BOUNDING_BOX", {**BOX, "socketless": True}]}}, "output": ["IMAGE"]}
NUMBER = {"input": {"required": {"value": ["INT", SEED]}}, "output": ["INT"]}
PIPE = {"input": {"optional": {"basic_pipe": ["BASIC_PIPE"]}}, "output": ["BASIC_PIPE"]}
OTHERS = {
    "KSampler": SAMPLER,
    "SAM3_Detect": DETECTOR,
    "ImageCropV2": CROP,
    "PrimitiveInt": NUMBER,
    "EditBasicPipe": PIPE,
}


@pytest.fixture(scope="module")
def info() -> Iterator[dict]:
    from maskwright import NODE_CLASS_MAPPINGS

    detailer = builtin_engine.node_info("MaskDetailerPipe", NODE_CLASS_MAPPINGS["MaskDetailerPipe"], "")
    with builtin_engine.BuiltinEngine() as engine:
        loader = {"LoadImageOutput": engine.object_info()["LoadImage"]}
        yield {**engine.object_info(), **OTHERS, **loader, "MaskDetailerPipe": detailer}


@pytest.fixture
def convert(info: dict) -> Callable:
    """A function that returns the inputs of each node in a file's prompt."""

    def convert(data: dict) -> dict[str, dict]:
        workflow = Workflow(data, is_editor=True)
        check_structure(workflow)
        prompt = to_prompt(workflow, info, lambda kind: "is unknown")
        return {key: node["inputs"] for key, node in prompt.items()}

    return convert


def number(node_id: int, value: int, mode: int = 0) -> dict:
    return node(node_id, "PrimitiveInt", [("value", "INT", True)], [("INT", "INT")], [value, "fixed"], mode)


# -- links ---------------------------------------------------------------------------------------------------------


def chain(*middle: dict, **more: object) -> dict:
    """LoadImageMask 1 -> the nodes, in a row -> MaskPreview 2."""
    ids = [1, *(each["id"] for each in middle), 2]
    links = [(source, 0, target, 0) for source, target in itertools.pairwise(ids)]
    return graph([load_mask(1), preview(2), *middle], links, **more)


@pytest.mark.parametrize(
    ("middle", "source"),
    [
        ([reroute(3)], ["1", 0]),
        ([reroute(3), reroute(4, of="Reroute (rgthree)")], ["1", 0]),
        ([reroute(3, mode=BYPASSED)], ["1", 0]),
        ([reroute(3, mode=MUTED)], None),
        ([setter(3, "m")], ["1", 0]),
        ([setter(3, "m", of="easy setNode")], ["1", 0]),
        ([invert(3, BYPASSED)], ["1", 0]),
        ([invert(3, MUTED)], None),
        ([invert(3), reroute(4), invert(5, BYPASSED)], ["3", 0]),
        ([node(3, "TheirNode", [("a", "MASK")], [("b", "MASK")], mode=BYPASSED)], ["1", 0]),
    ],
)
def test_flatten_follows_a_link(convert: Callable, middle: list, source: list | None) -> None:
    assert convert(chain(*middle))["2"] == ({"mask": source} if source else {})


def test_flatten_bypasses_a_node_only_through_an_input_of_the_same_type(convert: Callable) -> None:
    image = node(3, "ImageToMask", [("image", "IMAGE")], [("MASK", "MASK")], ["red"], BYPASSED)
    source = node(1, "LoadImage", [], [("IMAGE", "IMAGE")], ["a.png"])
    assert convert(graph([source, image, preview(2)], [(1, 0, 3, 0), (3, 0, 2, 0)]))["2"] == {}


def test_flatten_bypasses_a_node_through_the_input_of_its_definition(convert: Callable) -> None:
    """A bypassed number passes on what its widget is linked to. Without a link, the next widget keeps its own value."""
    for links, expected in (([(4, 0, 3, 0)], ["4", 0]), ([], 3)):
        data = graph([number(4, 1), number(3, 2, BYPASSED), edges(5)], [*links, (3, 0, 5, 1)])
        assert convert(data)["5"]["kernel_size"] == expected


@pytest.mark.parametrize(("setting", "getting"), [("SetNode", "GetNode"), ("easy setNode", "easy getNode")])
@pytest.mark.parametrize("mode", [0, MUTED, BYPASSED])
def test_flatten_links_get_to_set(convert: Callable, setting: str, getting: str, mode: int) -> None:
    nodes = [load_mask(1), setter(3, "m", mode=mode, of=setting), getter(4, "m", of=getting), preview(2)]
    assert convert(graph(nodes, [(1, 0, 3, 0), (4, 0, 2, 0)]))["2"] == {"mask": ["1", 0]}


@pytest.mark.parametrize("name", ["", "other"])
def test_flatten_leaves_a_get_without_a_set_empty(convert: Callable, name: str) -> None:
    nodes = [load_mask(1), setter(3, "m"), getter(4, name), edges(5), preview(2)]
    inputs = convert(graph(nodes, [(1, 0, 3, 0), (4, 0, 5, 0), (5, 0, 2, 0)]))
    assert inputs["5"] == {"kernel_size": 3, "shape": "cross", "edge": "both"}


def test_flatten_finds_the_set_node_around_a_subgraph(convert: Callable) -> None:
    inner = subgraph(0, [getter(10, "m"), edges(11)], [(10, 0, 11, 0), (11, 0, OUTPUT, 0)], [], [("MASKS", "MASK")])
    nodes = [load_mask(1), setter(3, "m"), instance(4, 0, [], []), preview(2)]
    inputs = convert(graph(nodes, [(1, 0, 3, 0), (4, 0, 2, 0)], [inner]))
    assert inputs["4:11"]["masks"] == ["1", 0] and inputs["2"] == {"mask": ["4:11", 0]}


def test_flatten_ignores_links_that_no_input_names(convert: Callable) -> None:
    data = chain(invert(3))
    data["links"] += [[90, 1, 0, 77, 0, "MASK"], [91, 1, 0, 2, 0, "MASK"], [92, 78, 0, 3, 0, "MASK"]]
    data["nodes"][0]["outputs"][0]["links"] += [90, 91]
    assert convert(data) == convert(chain(invert(3)))
    data["nodes"][2]["inputs"][0]["link"] = None
    assert convert(data)["3"] == {}


def test_flatten_follows_thousands_of_reroutes(convert: Callable) -> None:
    assert convert(chain(*(reroute(number) for number in range(3, 3000))))["2"] == {"mask": ["1", 0]}


# -- values of primitives and subgraphs ----------------------------------------------------------------------------

WIDGET = [("masks", "MASK"), ("kernel_size", "INT", True)]
DECLARED = [("masks", "MASK"), ("kernel_size", "INT")]
EDGES = subgraph(0, [edges(10)], [(INPUT, 0, 10, 0), (INPUT, 1, 10, 1), (10, 0, OUTPUT, 0)], DECLARED, [("M", "MASK")])
NESTED = subgraph(
    1,
    [instance(12, 0, [7], WIDGET)],
    [(INPUT, 0, 12, 0), (INPUT, 1, 12, 1), (12, 0, OUTPUT, 0)],
    DECLARED,
    [("M", "MASK")],
)


@pytest.mark.parametrize("mode", [0, MUTED, BYPASSED])
def test_flatten_gives_a_widget_the_value_of_its_primitive(convert: Callable, mode: int) -> None:
    assert convert(graph([edges(5), primitive(4, 21, mode)], [(4, 0, 5, 1)]))["5"]["kernel_size"] == 21


def test_flatten_ignores_the_value_of_a_primitive_before_a_reroute(convert: Callable) -> None:
    """The editor writes it into the linked widget, and a reroute has none."""
    data = graph([edges(5), reroute(3, "INT"), primitive(4, 21)], [(4, 0, 3, 0), (3, 0, 5, 1)])
    assert convert(data)["5"]["kernel_size"] == 3


@pytest.mark.parametrize(
    ("number", "values", "key", "expected"),
    [
        (0, [15], "5:10", 15),
        (0, [], "5:10", 3),
        (1, [15], "5:12:10", 15),
        (1, [], "5:12:10", 7),
    ],
)
def test_flatten_gives_inner_widgets_the_values_of_the_subgraph_node(
    convert: Callable, number: int, values: list, key: str, expected: int
) -> None:
    data = graph([load_mask(1), instance(5, number, values, WIDGET)], [(1, 0, 5, 0)], [EDGES, NESTED])
    assert convert(data)[key] == {"kernel_size": expected, "shape": "cross", "edge": "both", "masks": ["1", 0]}


@pytest.mark.parametrize("between", [[], [reroute(6, "INT")], [setter(6, "n", "INT")]])
@pytest.mark.parametrize(("number", "key"), [(0, "5:10"), (1, "5:12:10")])
def test_flatten_gives_inner_widgets_the_value_of_a_primitive_outside(
    convert: Callable, between: list, number: int, key: str
) -> None:
    ids = [4, *(each["id"] for each in between), 5]
    links = [(source, 0, target, int(target == 5)) for source, target in itertools.pairwise(ids)]
    data = graph([instance(5, number, [15], WIDGET), primitive(4, 21), *between], links, [EDGES, NESTED])
    assert convert(data)[key]["kernel_size"] == 21


def test_flatten_gives_the_value_of_a_primitive_through_get_and_set(convert: Callable) -> None:
    nodes = [instance(5, 0, [15], WIDGET), primitive(4, 21), setter(6, "n", "INT"), getter(7, "n", "INT")]
    assert convert(graph(nodes, [(4, 0, 6, 0), (7, 0, 5, 1)], [EDGES]))["5:10"]["kernel_size"] == 21


def test_flatten_gives_the_value_of_a_primitive_inside_a_subgraph(convert: Callable) -> None:
    inside = subgraph(2, [edges(10), primitive(11, 9)], [(11, 0, 10, 1), (10, 0, OUTPUT, 0)], [], [("M", "MASK")])
    nested = [instance(12, 0, [7], WIDGET), primitive(13, 19)]
    around = subgraph(3, nested, [(13, 0, 12, 1), (12, 0, OUTPUT, 0)], [], [("M", "MASK")])
    inputs = convert(graph([instance(5, 2, [], []), instance(6, 3, [], [])], [], [EDGES, inside, around]))
    assert (inputs["5:10"]["kernel_size"], inputs["6:12:10"]["kernel_size"]) == (9, 19)


def test_flatten_links_an_inner_widget_to_a_node_outside(convert: Callable) -> None:
    nodes = [instance(5, 1, [15], WIDGET), number(4, 21), reroute(3, "INT")]
    inputs = convert(graph(nodes, [(4, 0, 3, 0), (3, 0, 5, 1)], [EDGES, NESTED]))
    assert inputs["5:12:10"]["kernel_size"] == ["4", 0]


@pytest.mark.parametrize("values", [None, [], [15], [15, "shown"]])
def test_flatten_reads_the_values_of_older_subgraph_nodes(convert: Callable, values: list | None) -> None:
    """They list inner widgets without links under ``proxyWidgets``."""
    older = subgraph(4, [edges(10)], [(INPUT, 0, 10, 0), (10, 0, OUTPUT, 0)], DECLARED[:1], [("M", "MASK")])
    outer = instance(5, 4, values, WIDGET[:1])
    outer["properties"] = {"proxyWidgets": [["10", "kernel_size"], ["10", "$$canvas-image-preview"]]}
    expected = {"kernel_size": 15 if values else 3, "shape": "cross", "edge": "both"}
    assert convert(graph([outer], [], [older]))["5:10"] == expected


SAMPLER_INPUTS = [("seed", "INT", True), ("cfg", "FLOAT", True)]
SAMPLER_SUB = subgraph(
    5,
    [node(20, "KSampler", [("model", "MODEL"), *SAMPLER_INPUTS], [("LATENT", "LATENT")], [1, "fixed", 20, 8])],
    [(INPUT, 0, 20, 1), (INPUT, 1, 20, 2)],
    [("seed", "INT"), ("cfg", "FLOAT")],
    [],
)


@pytest.mark.parametrize(
    ("values", "expected"),
    [([], (1, 8)), ([5], (5, 8)), ([5, 3.5], (5, 3.5)), ([5, "fixed", 3.5], (5, 3.5)), ([5, "randomize"], (5, 8))],
)
def test_flatten_reads_a_seed_of_a_subgraph_node(convert: Callable, values: list, expected: tuple) -> None:
    inputs = convert(graph([instance(5, 5, values, SAMPLER_INPUTS)], [], [SAMPLER_SUB]))["5:20"]
    assert (inputs["seed"], inputs["cfg"]) == expected


def test_flatten_gives_a_seed_of_a_subgraph_node_the_value_of_a_primitive(convert: Callable) -> None:
    data = graph([instance(5, 5, [5, 3.5], SAMPLER_INPUTS), primitive(4, 77)], [(4, 0, 5, 0)], [SAMPLER_SUB])
    assert convert(data)["5:20"] == {**convert(data)["5:20"], "seed": 77, "cfg": 3.5}


@pytest.mark.parametrize(("mode", "source"), [(MUTED, None), (BYPASSED, ["1", 0])])
def test_flatten_leaves_out_a_subgraph_that_is_off(convert: Callable, mode: int, source: list | None) -> None:
    nodes = [load_mask(1), instance(5, 0, [15], WIDGET, mode), preview(2)]
    inputs = convert(graph(nodes, [(1, 0, 5, 0), (5, 0, 2, 0)], [EDGES]))
    assert inputs == {"1": inputs["1"], "2": {"mask": source} if source else {}}


@pytest.mark.parametrize("mode", [MUTED, BYPASSED])
def test_flatten_keeps_the_nodes_of_a_subgraph_that_is_off_inside_another(convert: Callable, mode: int) -> None:
    """The editor queues them without links to the rest: it mutes inner nodes one by one, with the subgraph node."""
    around = subgraph(2, [instance(12, 0, [], WIDGET, mode)], [(12, 0, OUTPUT, 0)], [], [("M", "MASK")])
    inputs = convert(graph([instance(5, 2, [], []), preview(2)], [(5, 0, 2, 0)], [EDGES, around]))
    assert inputs.keys() == {"2", "5:12:10"} and inputs["2"] == {}


def test_flatten_refuses_subgraphs_that_unfold_to_too_many_nodes(convert: Callable) -> None:
    """Twelve levels, each with ten of the next: 10^12 nodes."""
    subs = [subgraph(0, [edges(10)], [], [], [])]
    for depth in range(1, 13):
        subs.append(subgraph(depth, [instance(at, depth - 1, [], []) for at in range(10)], [], [], []))
    with pytest.raises(BadWorkflow, match="its subgraphs unfold to more than"):
        convert(graph([instance(5, 12, [], [])], [], subs))


# -- values of widgets -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("switch", [True, False, "fixed"])
def test_convert_reads_a_seed_followed_by_a_switch(convert: Callable, switch: object) -> None:
    """Early packs saved true or false where the editor saves a word."""
    values = [845, switch, 20, 7, "euler_ancestral", "karras", 0.8]
    names = ("seed", "steps", "cfg", "sampler_name", "scheduler", "denoise")
    expected = dict(zip(names, [845, 20, 7, "euler_ancestral", "karras", 0.8]))
    assert convert(graph([node(1, "KSampler", values=values)], []))["1"] == expected


@pytest.mark.parametrize(
    ("inputs", "values", "expected"),
    [
        (
            {"file": [["a", "b"], {"control_after_generate": True}], "n": ["INT"]},
            ["b", "fixed", 3],
            {"file": "b", "n": 3},
        ),
        ({"text": ["STRING", {"dynamicPrompts": True}]}, ["a {red|red} hat"], {"text": "a red hat"}),
        (
            {"size": ["COMFY_DYNAMICCOMBO_V3", {"options": [{"key": "k", "inputs": {"required": {"w": ["INT"]}}}]}]},
            ["k", 5],
            {"size": "k", "size.w": 5},
        ),
        ({"model": ["MODEL"]}, [{}, {"lora": "a", "on": True}, ""], {"lora_1": {"lora": "a", "on": True}}),
        ({"rate": ["FLOAT", {"min": 2}]}, {"rate": 8, "crf": 19, "videopreview": {}}, {"rate": 8, "crf": 19}),
    ],
)
def test_convert_reads_widgets_of_every_kind(info: dict, inputs: dict, values: object, expected: dict) -> None:
    """Combos with a control word, dynamic prompts and combos, rows of LoRAs, and values saved by name."""
    schema = {"input": {"required": inputs}, "output": []}
    workflow = Workflow(graph([node(1, "Other", values=values)], []), is_editor=True)
    assert to_prompt(workflow, {**info, "Other": schema}, str)["1"]["inputs"] == expected


def test_convert_gives_no_default_to_an_input_without_a_widget(convert: Callable) -> None:
    data = graph([node(1, "SAM3_Detect", [("image", "IMAGE"), ("bboxes", "BOUNDING_BOX")], [], [0.4, 2, True])], [])
    assert convert(data)["1"] == {"threshold": 0.4, "refine": 2, "individual_masks": True}


def test_convert_gives_a_widget_without_a_default_what_the_editor_gives_it(convert: Callable) -> None:
    assert convert(graph([node(1, "SAM3_Detect")], []))["1"]["refine"] == 0


def test_convert_reads_a_value_that_is_an_object(convert: Callable) -> None:
    box = {"x": 1, "y": 2, "width": 33, "height": 44}
    assert convert(graph([node(1, "ImageCropV2", values=[box])], []))["1"] == {"region": box}


def test_convert_reads_values_saved_by_name(convert: Callable) -> None:
    named = edges(1)
    del named["widgets_values"]
    named["widgets_values_named"] = {"edge": "inner", "kernel_size": 9, "gone": 1}
    assert convert(graph([named], []))["1"] == {"kernel_size": 9, "shape": "rectangle", "edge": "inner"}


def test_convert_reads_the_widgets_of_the_node_s_own_type(convert: Callable) -> None:
    renamed = edges(1, 9)
    renamed["properties"] = {"Node name for S&R": "ImageToMask"}
    other = node(2, "ImageToMask", values=["red"])
    assert convert(graph([renamed, other], []))["1"] == {"kernel_size": 9, "shape": "cross", "edge": "both"}


def test_convert_keeps_the_loader_of_the_output_folder(info: dict) -> None:
    data = graph([node(1, "LoadImageOutput", [], [("IMAGE", "IMAGE")], ["a.png [output]"])], [])
    prompt = to_prompt(Workflow(data, is_editor=True), info, str)
    inputs = prompt["1"]
    assert (inputs["class_type"], inputs["inputs"]) == ("LoadImageOutput", {"image": "a.png [output]"})


# -- files ---------------------------------------------------------------------------------------------------------

DETAILED = {"refiner_basic_pipe_opt": ["7", 0], "guide_size": 512, "seed": 1003, "cycle": 1}
QUEUED = {
    "leftover_link": {"1": {"image": "shapes.png"}, "2": {"images": ["1", 0]}},
    "link_from_a_set_node": {"1": {"image": "shapes.png"}, "2": {"images": ["1", 0]}},
    "optional_link_from_a_set_node": {"1": DETAILED, "7": {}},
    "unknown_and_unused": {"1": {"image": "shapes.png"}, "2": {"images": ["1", 0]}},
    "seed_followed_by_a_switch": {"1": {"steps": 20, "cfg": 7, "sampler_name": "euler_ancestral", "denoise": 0.8}},
    "link_only_input_with_a_default": {"1": {"image": "shapes.png"}, "2": {"image": ["1", 0], "threshold": 0.5}},
}


@pytest.mark.parametrize("name", sorted(file.stem for file in EDITOR_FILES.glob("*.json")))
def test_convert_gives_what_the_editor_queues_for_files_that_people_saved(convert: Callable, name: str) -> None:
    """The relevant parts, recorded from an editor with the packs that these files need."""
    inputs = convert(editor_file(name))
    assert inputs.keys() == QUEUED[name].keys()
    for key, expected in QUEUED[name].items():
        assert {each: inputs[key].get(each) for each in expected} == expected
    assert "bboxes" not in inputs.get("2", {})


def test_check_notes_unknown_nodes_that_a_run_does_not_need(run: Callable) -> None:
    code, out, err = run(EDITOR_FILES / "unknown_and_unused.json", "--check")
    assert (code, "no problems" in err) == (run_workflow.OK, True)
    assert "node 3 (Fast Groups Bypasser (rgthree)) is left out: it works only in the editor" in out
    assert "node 4 (SomeStranger) is left out: it is bypassed, and needs ComfyUI" in out


def test_check_reports_unknown_nodes_that_a_run_needs(run: Callable) -> None:
    data = editor_file("unknown_and_unused")
    data["nodes"][2]["mode"] = 0
    code, out, _ = run(json.dumps(data), "--check")
    assert (code, "problem: node 4 (SomeStranger) needs ComfyUI" in out) == (run_workflow.WRONG, True)


def test_to_prompt_leaves_out_add_ons_wired_to_nodes(run: Callable, photo: Path) -> None:
    muter = node(9, "Fast Muter (rgthree)", [("", "*")], [("OPT_CONNECTION", "*")])
    data = graph([load_mask(1), preview(2), muter], [(1, 0, 2, 0), (1, 0, 9, 0)])
    code, out, err = run(data, "--input", photo)
    assert code == run_workflow.OK and len(out.splitlines()) == 1
    assert "note: node 9 (Fast Muter (rgthree)) is left out" in err
