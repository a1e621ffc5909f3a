"""Builds ComfyUI's INPUT_TYPES and a method's signature from one table of a node's inputs.

The table is what INPUT_TYPES returns, with one addition: any value may be a function without arguments, called whenever
ComfyUI asks. It provides what only the host or the disk knows, such as the list of samplers.

Ranges here are those of the widgets. The settings classes in `core` check values from links and scripts, with wider
ranges.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any

Entry = tuple[Any, dict[str, Any]]  # (type or choices, ComfyUI's options)
Table = dict[str, dict[str, Any]]  # "required", "optional" and "hidden", each with its inputs in order


def socket(kind: str, tooltip: str, **options: Any) -> Entry:
    return kind, {"tooltip": tooltip, **options}


def number(default: float, limits: tuple, tooltip: str, **options: Any) -> Entry:
    """``limits`` are (low, high) or (low, high, step)."""
    return "FLOAT", {"default": default, **dict(zip(("min", "max", "step"), limits)), "tooltip": tooltip, **options}


def integer(default: int, limits: tuple, tooltip: str, **options: Any) -> Entry:
    """``limits`` are (low, high) or (low, high, step)."""
    return "INT", number(default, limits, tooltip, **options)[1]


def switch(default: bool, tooltip: str, labels: tuple[str, str] = ("enabled", "disabled"), **options: Any) -> Entry:
    """``labels`` are (on, off)."""
    return "BOOLEAN", {"default": default, "label_on": labels[0], "label_off": labels[1], "tooltip": tooltip, **options}


def choice(values: Sequence[str] | Callable[[], list[str]], tooltip: str, **options: Any) -> Entry:
    """Without a ``default`` in the options, ComfyUI's default is the first of the ``values``."""
    return values if callable(values) else list(values), {"tooltip": tooltip, **options}


def text(tooltip: str, multiline: bool = False, **options: Any) -> Entry:
    # With dynamic prompts the editor would replace {a|b} by one of the two.
    common = {"default": "", "multiline": multiline, "dynamicPrompts": False, "tooltip": tooltip}
    return "STRING", {**common, **({"grows": False} if multiline else {}), **options}


class TableNode:
    """A node whose inputs are the table ``INPUTS``."""

    INPUTS: Table

    @classmethod
    def INPUT_TYPES(cls) -> dict:
        return _call_functions(cls.INPUTS)


def get_labels(inputs: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The labels that the editor shows instead of inputs' ids, by id, from a table or the result of INPUT_TYPES."""
    entries = {name: entry for group in ("required", "optional") for name, entry in inputs.get(group, {}).items()}
    return {name: entry[1]["display_name"] for name, entry in entries.items() if "display_name" in entry[1]}


def takes(inputs: Table, **defaults: Any) -> Callable[[Callable], Callable]:
    """Decorate a method that receives all inputs of a table by name; callers may also pass them by position.

    Args:
        inputs: Required inputs have no default, optional ones have the widget's, hidden ones None.
        defaults: Overrides the table's defaults for inputs that a call omits.
    """
    signature = _make_signature(inputs, defaults)

    def decorate(method: Callable) -> Callable:
        @wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            return method(**bound.arguments)

        call.__signature__ = signature  # pyright: ignore[reportAttributeAccessIssue] - typeshed omits it
        return call

    return decorate


def _make_signature(inputs: Table, defaults: dict[str, Any]) -> inspect.Signature:
    parameters = {"self": inspect.Parameter.empty, **dict.fromkeys(inputs["required"], inspect.Parameter.empty)}
    parameters |= {name: options.get("default") for name, (_, options) in inputs.get("optional", {}).items()}
    parameters |= dict.fromkeys(inputs.get("hidden", {}))
    parameters |= defaults
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Signature([inspect.Parameter(name, kind, default=value) for name, value in parameters.items()])


def _call_functions(entry: Any) -> Any:
    """Copy an entry, with each function replaced by what it returns."""
    if callable(entry):
        return entry()
    if isinstance(entry, dict):
        return {key: _call_functions(value) for key, value in entry.items()}
    return type(entry)(map(_call_functions, entry)) if isinstance(entry, (tuple, list)) else entry
