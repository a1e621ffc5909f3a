"""Node ids: which ones other packs hold, and which old ones ComfyUI may put ours in place of."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence

from . import running

_OUR_MODULES = __package__.rpartition(".nodes.")[0] + "."


def is_foreign(node_id: str) -> bool:
    """Whether ComfyUI or another pack that is loaded holds the id. What this pack registered when it was loaded an
    earlier time is not foreign."""
    if not running() or "nodes" not in sys.modules:
        return False
    held: Mapping[str, type] = getattr(sys.modules["nodes"], "NODE_CLASS_MAPPINGS", {})
    return node_id in held and not str(getattr(held[node_id], "__module__", "")).startswith(_OUR_MODULES)


def offer_replacement(old_id: str, new_id: str, sockets: Callable[[], tuple[Mapping[str, str], Sequence[str]]]) -> None:
    """Tell ComfyUI that a node ``new_id`` can stand for one ``old_id``, should nobody hold that id. Older ones cannot.

    Args:
        sockets: Asked only where ComfyUI wants to know. For each required input of the new node the name of the old
            one's (optional ones are left out: where a prompt does not hold one, ComfyUI would fail); and the names of
            the old node's widgets, in the order in which files hold their values.
    """
    if not running():
        return
    try:
        from comfy_api.latest import io
        from server import PromptServer

        make, register = io.NodeReplace, PromptServer.instance.node_replace_manager.register
    except (ImportError, AttributeError):
        return
    inputs, widgets = sockets()
    replacement = make(
        new_node_id=new_id,
        old_node_id=old_id,
        old_widget_ids=list(widgets),
        input_mapping=[{"new_id": new, "old_id": old} for new, old in inputs.items()],
        output_mapping=[],
    )
    register(replacement)
