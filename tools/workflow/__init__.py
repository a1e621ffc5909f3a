"""Saved workflow files: reading and checking them, and turning them into the prompt that an engine runs.

Two formats are in use: the editor's (`nodes` and `links`, what "Save" writes) and the API format (`{id: {class_type,
inputs}}`, what "Export (API)" writes and engines take). To convert the first to the second, `flatten` reduces the graph
to plain nodes and links, and comfy-cli's converter assigns the saved values to widgets. comfy-cli validates the result.

Each module imports only those above it:

import_comfy_cli  comfy-cli, also in a read-only home
engine_interface  results and errors of an engine
graph             nodes and links of both formats: following and naming them
read_workflow     a file becomes a `Workflow`
check_workflow    whether a file is well-formed, and its links whole
widgets           inputs of a schema, and --set
check_prompt      what comfy-cli finds wrong with a prompt
editor_sockets    inputs and outputs of a file's nodes, as the editor has them
flatten           resolves subgraphs, reroutes, primitives, muted and bypassed nodes, as the editor does
converter_fixes   workarounds for what comfy-cli's converter gets wrong with widgets
to_prompt         either format becomes a prompt
models            which models a prompt needs, and whether they exist
report            all that can be said of a file without running it
input_files       the files that LoadImage and similar nodes read
results           the files that a run leaves to the user
"""
