"""Literal values in a prompt: what ComfyUI makes of them, and which ones it refuses, as its own answers say it."""

from __future__ import annotations

_CONVERTERS = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}


def fault(kind: str, message: str, name: str, details: str = "", **extra: object) -> dict:
    """One entry of the ``errors`` of a node."""
    return {"type": kind, "message": message, "details": details or name, "extra_info": {"input_name": name, **extra}}


def convert(inputs: dict, name: str, kind: object) -> dict | None:
    """Give the value of an input its widget's type, in place: ComfyUI cuts 2.7 to 2 and takes any text for true."""
    value = inputs[name]
    if isinstance(value, dict) and "__value__" in value:
        value = inputs[name] = value["__value__"]
    make = _CONVERTERS.get(kind) if isinstance(kind, str) else None
    if make is None:
        return None
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
