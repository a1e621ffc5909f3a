"""Saved workflow files: reads and checks them, and converts them to the prompt that an engine runs.

Two formats are in use: the editor's (`nodes` and `links`, written by "Save") and the API format (`{id: {class_type,
inputs}}`, written by "Export (API)", which engines take). To convert the first to the second, `flatten` reduces the
graph to plain nodes and links, and `widgets` assigns the saved values. comfy-cli validates the result.

Each module imports only those above it:

graph             nodes and links of both formats: following and naming them
engine_interface  scratch folder, results and errors of an engine
read_workflow     reads a file into a `Workflow`, and checks that it is well-formed
widgets           which inputs have widgets, their saved values, and --set
flatten           the editor's format as a prompt: subgraphs, reroutes, primitives, muted and bypassed nodes
to_prompt         converts either format to a prompt
report            what a file needs and what is wrong with it, without running it; a prompt's faults
run_files         the files that a run reads, and the results that it saves
"""
