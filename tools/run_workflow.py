"""Run a saved ComfyUI workflow file from the shell: in ComfyUI if one is found, else in a small built-in engine.

WORKFLOW is a file saved by the editor, an export in the API format, or a PNG saved by ComfyUI. Prints the paths of the
images to stdout, everything else to stderr.

--input: each FILE is copied to LoadImage's input folder. A node whose saved file name matches a FILE uses that FILE.
The other FILEs go to the other loading nodes in the order of their ids: one per node, or one per distinct saved name,
if the numbers match. Other files that the workflow names are searched next to the workflow file, in the folder assets
there, and in ComfyUI's own input folder.

--set: NODE is a node's id, or its type or title if only one node has it. VALUE is read as JSON if it is JSON, and must
be of the widget's type.

--engine auto uses ComfyUI if it finds it: COMFYUI_PATH, the folder above custom_nodes, comfy-cli's default workspace.
COMFYUI_PYTHON names the Python to run it with.

Saved images keep their names and continue the numbers of those in DIR; previews are named preview-<node id>.

Exit codes: 0 success; 1 the run failed; 2 the workflow or the command line is wrong; 130 stopped by Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

from builtin_engine import BuiltinEngine
from comfyui import ComfyUI, Server, ServerError, find_comfyui
from pack import ROOT
from tqdm import tqdm
from workflow.engine_interface import NodeFailed, WorkflowError
from workflow.graph import schema_of
from workflow.read_workflow import check_structure, read_workflow
from workflow.report import report
from workflow.run_files import assign_inputs, provide_files, save_results
from workflow.to_prompt import to_prompt
from workflow.widgets import apply_settings, expand_prefixes, parse_settings

OK, FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class ProgressBar(tqdm):
    """A line with the current step, on a terminal only."""

    monitor_interval = 0  # no thread: a signal delivered to it would not wake the main thread

    def show(self, text: str, done: int | None = None, total: int | None = None) -> None:
        self.total, self.n = total, done or 0
        self.set_description_str(text)

    def say(self, text: str) -> None:
        self.write(text, file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (None: this process's) and return the exit code. Prints errors to stderr.

    Raises: `SystemExit` from argparse, for --help and for invalid arguments (code 2).
    """
    options = _read_arguments(argv)
    style = {"leave": False, "delay": 1, "bar_format": "{desc} {bar:20} {n_fmt}/{total_fmt} {elapsed}"}
    try:
        with ProgressBar(disable=None, **style) as progress:
            code, lines = (_check if options.check else _run)(options, progress)
    except (WorkflowError, NodeFailed, ServerError, OSError) as error:
        return _fail(options, error)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return INTERRUPTED
    for line in lines:
        print(line)
    return code


def _read_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    style = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="run_workflow.py", description=__doc__, formatter_class=style)
    add = parser.add_argument
    add("workflow", type=Path, metavar="WORKFLOW", help="the workflow file")
    many = {"type": Path, "action": "extend", "nargs": "+", "default": []}
    add("--input", **many, metavar="FILE", help="files for LoadImage nodes; put WORKFLOW before them")
    add("--set", action="append", default=[], metavar="NODE.WIDGET=VALUE", help="change a widget's value; repeatable")
    add("--output", type=Path, default=Path("output"), metavar="DIR", help="where images go (default: ./output)")
    add("--check", action="store_true", help="report what the file needs and what is wrong with it; run nothing")
    add("--engine", choices=("auto", "comfyui", "builtin"), default="auto", help="the engine (default: auto)")
    add("--pack", **many, metavar="DIR", help="other node packs to load into ComfyUI, or a folder of packs")
    add("--cpu", action="store_true", help="run ComfyUI on the CPU")
    add("--debug", action="store_true", help="show tracebacks")
    return parser.parse_args(argv)


def _fail(options: argparse.Namespace, error: Exception) -> int:
    if options.debug:
        traceback.print_exception(error)
        print(getattr(error, "trace", ""), file=sys.stderr)
    print(f"error: {error}", file=sys.stderr)
    if isinstance(error, ServerError) and options.engine == "auto":
        print("note: --engine builtin runs mask workflows without ComfyUI", file=sys.stderr)
    return WRONG if isinstance(error, WorkflowError) else FAILED


def _run(options: argparse.Namespace, progress: ProgressBar) -> tuple[int, list[Path]]:
    """Run a file. Return the exit code and the saved images."""
    # Check everything that needs no engine first: ComfyUI is slow to start.
    settings = parse_settings(options.set)
    workflow = read_workflow(options.workflow)
    check_structure(workflow)
    for file in options.input:
        if not file.is_file():
            raise WorkflowError(f"--input: there is no file {file}")
    comfyui, engine = _choose_engine(options, progress)
    try:
        options.output.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=options.output).close()
    except OSError as error:
        raise WorkflowError(f"--output: cannot write to {options.output}: {error.strerror}") from None
    with engine:
        info = engine.object_info()
        prompt = to_prompt(workflow, info, engine.unknown, lambda text: progress.say(f"note: {text}"))
        apply_settings(prompt, settings, info)
        names = []
        for file in options.input:
            name = file.name if file.name not in names else f"{len(names)}-{file.name}"
            names.append(engine.copy_input(file, name))
        assign_inputs(prompt, names, info)
        folder = options.workflow.absolute().parent
        own_folder = [comfyui.path / "input"] if comfyui is not None and comfyui.path is not None else []
        provide_files(prompt, info, engine, [folder, folder / "assets", *own_folder])
        expand_prefixes(prompt)
        extra = {"workflow": workflow.data} if workflow.is_editor else None
        result = engine.queue(prompt, extra)
        # Saved files and previews of preview nodes, but not thumbnails of other nodes.
        output_nodes = [key for key, node in prompt.items() if schema_of(info, node).get("output_node")]
        results = [file for file in result.files if file.kind == "output" or file.node_id in output_nodes]
        files = save_results(results, options.output)
    if not files:
        progress.say("note: the run saved no files")
    return OK, files


def _check(options: argparse.Namespace, progress: ProgressBar) -> tuple[int, list[str]]:
    """Return the exit code, and sentences on what a file needs and what is wrong with it."""
    workflow = read_workflow(options.workflow)
    check_structure(workflow)
    _, engine = _choose_engine(options, progress)
    with engine:
        notes, problems = report(workflow, engine.object_info(), engine.unknown, engine.model_folders)
    progress.say(f"{len(problems)} problems" if problems else "no problems")
    return WRONG if problems else OK, notes + [f"problem: {problem}" for problem in problems]


def _choose_engine(options: argparse.Namespace, progress: ProgressBar) -> tuple[ComfyUI | None, Server | BuiltinEngine]:
    folders = [[pack] if (pack / "__init__.py").is_file() else sorted(pack.iterdir()) for pack in options.pack]
    packs = [pack for each in folders for pack in each if (pack / "__init__.py").is_file() and not pack.samefile(ROOT)]
    comfyui = find_comfyui() if options.engine != "builtin" else None
    if comfyui is not None and comfyui.usable:
        why = "requested" if options.engine == "comfyui" else "found"
        progress.say(f"engine: {comfyui} ({why})")
        engine = Server(comfyui, packs=packs, models=comfyui.path / "models", cpu=options.cpu)
    elif options.engine == "comfyui":
        raise WorkflowError(f"--engine comfyui: {comfyui.why}")
    else:
        progress.say("engine: built-in (requested)" if comfyui is None else f"engine: built-in; {comfyui.why}")
        engine = BuiltinEngine()
    engine.progress = progress.show
    return comfyui, engine


def _stop(_number: int, _frame: object) -> None:
    """Stop ComfyUI and remove the scratch folder. A terminal and a parent process may both send a signal."""
    for number in STOP_SIGNALS:
        signal.signal(number, lambda *_: None)  # SIG_IGN would warn about a signal that has just arrived
    raise KeyboardInterrupt


if __name__ == "__main__":
    for number in STOP_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)
    sys.stdout.reconfigure(errors="backslashreplace")  # as on stderr: titles may contain unprintable characters
    sys.exit(main())
