"""Prompts and editor files that run each of the original nodes with the bundled models."""

from __future__ import annotations

from maskwright import NODE_CLASS_MAPPINGS
from maskwright.models import background_models
from maskwright.models.clipseg_store import DEMO
from maskwright.nodes._text import CLIPSEG_MODEL
from saved_layouts import LAYOUTS

# Nodes that the built-in engine can also run.
RUNNABLE = [each for each in LAYOUTS if not getattr(NODE_CLASS_MAPPINGS[each[0]], "NEEDS_COMFYUI", False)]
RUNNABLE.append(("CombineSegMasks", [], ()))  # has no widgets
# Node and input that preview each output type; numbers have none.
PREVIEWS = {"IMAGE": ("PreviewImage", "images"), "MASK": ("MaskPreview", "mask")}


def wired(node: str, values: list, names: tuple[str, ...], photo: str) -> dict:
    """A prompt with the node, sources for its inputs, and previews of its outputs."""
    groups = NODE_CLASS_MAPPINGS[node].INPUT_TYPES()
    sources = {"IMAGE": ["1", 0], "MASK": ["2", 0], CLIPSEG_MODEL[0]: ["3", 0]}
    inputs = {**groups["required"], **{k: v for k, v in groups.get("optional", {}).items() if k not in names}}
    links = {k: sources[v[0]] for k, v in inputs.items() if isinstance(v[0], str) and v[0] in sources}
    widgets = dict(zip(names, values))
    if "model" in widgets:
        widgets["model"] = background_models.DEMO if node == "ImageSegmentation" else DEMO
    prompt = {
        "1": {"class_type": "LoadImage", "inputs": {"image": photo}},
        "2": {"class_type": "ImageToMask", "inputs": {"image": ["1", 0], "channel": "red"}},
        "3": {"class_type": "CLIPSegModelLoader", "inputs": {"model": DEMO}},
        "7": {"class_type": node, "inputs": {**links, **widgets}},
    }
    for slot, kind in enumerate(NODE_CLASS_MAPPINGS[node].RETURN_TYPES):
        if kind == "CLIPSEG_MODEL":
            used = {"image": ["1", 0], "text": "red star", "clipseg_model": ["7", slot]}
            prompt["20"] = {"class_type": "CLIPSeg Masking", "inputs": used}
            prompt["21"] = {"class_type": "MaskPreview", "inputs": {"mask": ["20", 0]}}
        elif kind in PREVIEWS:
            preview = PREVIEWS[kind]
            prompt[f"3{slot}"] = {"class_type": preview[0], "inputs": {preview[1]: ["7", slot]}}
    return prompt


def as_editor(prompt: dict, info: dict) -> dict:
    """The prompt as an editor file: values by position, links by slot."""
    nodes, links = {}, []
    for key, node in prompt.items():
        schema = info[node["class_type"]]
        outputs = [
            {"name": name, "type": kind, "links": []} for name, kind in zip(schema["output_name"], schema["output"])
        ]
        nodes[key] = {"id": int(key), "type": node["class_type"], "mode": 0, "inputs": [], "outputs": outputs}
        nodes[key]["widgets_values"] = [value for value in node["inputs"].values() if not isinstance(value, list)]
    for key, node in prompt.items():
        for name, value in node["inputs"].items():
            if isinstance(value, list):
                output = nodes[value[0]]["outputs"][value[1]]
                output["links"].append(len(links) + 1)
                socket = {"name": name, "type": output["type"], "link": len(links) + 1}
                links.append(
                    [len(links) + 1, int(value[0]), value[1], int(key), len(nodes[key]["inputs"]), output["type"]]
                )
                nodes[key]["inputs"].append(socket)
    return {"nodes": [*nodes.values()], "links": links, "version": 0.4}
