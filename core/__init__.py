"""The library behind the nodes: tensors in, tensors out, no ComfyUI.

One topic per file. Nothing here imports ``models`` or ``nodes``. ``CONTRIBUTING.md`` has an overview.
"""
