"""Saved workflow files: reading and checking them, and turning them into the prompt that an engine runs.

Two formats are in use: the editor's (`nodes` and `links`, what "Save" writes) and the API format (`{id: {class_type,
inputs}}`, what "Export (API)" writes and engines take). To convert the first to the second, `flatten` reduces
the graph to plain nodes and links, and comfy-cli's converter assigns the saved values to widgets. It drops what it does
not understand, so the file is checked before it, and its result after it.

Each module imports only those above it:

engine_interface  what an engine is told and gives back, and the errors
graph             nodes and links of both formats: following and naming them
read_workflow     a file becomes a `Workflow`
check_workflow    links and loops: what can be checked without an engine
widgets           what a schema says of widgets, and --set
editor_sockets    inputs and outputs of a file's nodes, as the editor has them
flatten           resolves subgraphs, reroutes, primitives, muted and bypassed nodes, as the editor does
converter_fixes   workarounds for what comfy-cli's converter gets wrong with widgets
values            what ComfyUI makes of a value or a link, and refuses
to_prompt         either format becomes a prompt
models            which models a prompt needs, and whether they are there
report            all that can be told of a file without running it
input_files       the files that LoadImage and its like read
results           the files that a run leaves to the user
"""
