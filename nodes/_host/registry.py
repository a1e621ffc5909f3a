"""Node ids: detects those registered by other packs, and lets ComfyUI replace missing nodes with ours."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence

from . import running

_OUR_MODULES = __name__.rpartition(".nodes.")[0] + "."


def is_foreign(node_id: str) -> bool:
    """Whether ComfyUI or another loaded pack has registered the id. Ids from an earlier load of this pack are not
    foreign."""
    if not running() or "nodes" not in sys.modules:
        return False
    registered: Mapping[str, type] = getattr(sys.modules["nodes"], "NODE_CLASS_MAPPINGS", {})
    if node_id not in registered:
        return False
    return not str(getattr(registered[node_id], "__module__", "")).startswith(_OUR_MODULES)


def register_replacement(
    old_id: str, new_id: str, map_inputs: Callable[[], tuple[Mapping[str, str], Sequence[str]]]
) -> None:
    """Let ComfyUI replace a missing node ``old_id`` with ``new_id``. No-op on ComfyUI without node replacement.

    Args:
        map_inputs: Returns ``{new input: old input}`` for the required inputs (ComfyUI fails on an optional one that
            a prompt lacks), and the old node's widget names in the order of their saved values. Called only if ComfyUI
            supports replacement.
    """
    if not running():
        return
    try:
        from comfy_api.latest import io
        from server import PromptServer

        make_replacement, register = io.NodeReplace, PromptServer.instance.node_replace_manager.register
    except (ImportError, AttributeError):
        return
    inputs, widgets = map_inputs()
    replacement = make_replacement(
        new_node_id=new_id,
        old_node_id=old_id,
        old_widget_ids=list(widgets),
        input_mapping=[{"new_id": new, "old_id": old} for new, old in inputs.items()],
        output_mapping=[],
    )
    register(replacement)
