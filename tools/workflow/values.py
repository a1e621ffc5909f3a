"""Values and links in a prompt: what ComfyUI makes of them, and which ones it refuses, as its own answers say it."""

from __future__ import annotations

import operator

_CONVERTERS = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}


def fault(kind: str, message: str, name: str, details: str = "", **extra: object) -> dict:
    """One entry of the ``errors`` of a node."""
    return {"type": kind, "message": message, "details": details or name, "extra_info": {"input_name": name, **extra}}


def convert(inputs: dict, name: str, kind: object) -> dict | None:
    """Give the value of an input its widget's type, in place: ComfyUI cuts 2.7 to 2."""
    value = inputs[name]
    if isinstance(value, dict) and "__value__" in value:
        value = inputs[name] = value["__value__"]
    make = _CONVERTERS.get(kind) if isinstance(kind, str) else None
    if make is None:
        return None
    if kind == "BOOLEAN" and isinstance(value, str):
        # ComfyUI takes "false" for true without a word, which nobody who saved it can have meant.
        return fault("invalid_input_type", "Not a value of type BOOLEAN", name, received_value=value)
    try:
        inputs[name] = make(value)
    except (TypeError, ValueError, OverflowError) as error:
        return fault("invalid_input_type", f"Not a value of type {kind}", name, str(error), received_value=value)
    return None


def range_fault(inputs: dict, name: str, kind: object, options: dict) -> dict | None:
    """The fault of a value that is out of its widget's range, or not in its list."""
    value = inputs[name]
    if "min" in options and value < options["min"]:
        return fault("value_smaller_than_min", f"smaller than {options['min']}", name, received_value=value)
    if "max" in options and value > options["max"]:
        return fault("value_bigger_than_max", f"bigger than {options['max']}", name, received_value=value)
    choices = kind if isinstance(kind, (list, tuple)) else options.get("options", []) if kind == "COMBO" else None
    if choices is not None and value not in choices:
        return fault("value_not_in_list", "Value not in list", name, received_value=value)
    return None


def link_fault(name: str, wanted: object, value: list, prompt: dict, info: dict, any_type: bool = False) -> dict | None:
    """The fault of a link that is none, or that carries something else than the input takes; `any_type`: it takes
    whatever comes. Nodes and slots that do not exist are told of elsewhere."""
    if len(value) != 2 or str(value[0]) not in prompt or not is_slot(value[1]):
        return fault("bad_linked_input", "Bad linked input, it must be [node id, slot]", name, received_value=value)
    given = type_given(value, prompt, info)
    if any_type or given is None or types_fit(given, wanted):
        return None
    return fault("return_type_mismatch", "Linked types differ", name, received_type=given, linked_node=value)


def is_slot(value: object) -> bool:
    """Whether ``value`` can number a slot: true and false are whole numbers to Python alone."""
    return isinstance(value, int) and not isinstance(value, bool)


def type_given(link: list, prompt: dict, info: dict) -> object:
    """What a link carries, or None where the engine does not know."""
    outputs = (info.get(prompt[str(link[0])]["class_type"]) or {}).get("output") or []
    return outputs[link[1]] if 0 <= link[1] < len(outputs) else None


def types_fit(given: object, wanted: object) -> bool:
    """Whether an input of type ``wanted`` takes an output of type ``given``."""
    if not operator.ne(given, wanted):  # not "==": the any-type of many packs is a str that answers False to != only
        return True
    if isinstance(given, list):
        return wanted == "COMBO"
    if not isinstance(given, str) or not isinstance(wanted, str):
        return False
    if any(kind.startswith("COMFY_") for kind in (given, wanted)):  # ComfyUI's newer kinds, which it looks at itself
        return True
    offers, takes = ({part.strip() for part in text.split(",")} for text in (given, wanted))
    return bool(offers & takes) or "*" in offers or "*" in takes
