"""The library under the nodes: tensors in, tensors out, no ComfyUI.

One topic a file. Nothing here imports ``models`` or ``nodes``; see ``CONTRIBUTING.md`` for the map.
"""
