"""Run a saved ComfyUI workflow file from the shell: in ComfyUI where there is one, else in a small built-in engine.

    python3 tools/run_workflow.py WORKFLOW.json [--input FILE ...] [--set NODE.WIDGET=VALUE ...] [--output DIR]

Exit codes: 0 it ran; 1 the run failed; 2 the workflow or the command line is wrong; 130 stopped with Ctrl-C.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if __name__ == "__main__":
    # The modules beside this file are found from any working directory, and under `python -P` too.
    sys.path.insert(0, str(Path(__file__).absolute().parent))

from builtin_engine import BuiltinEngine
from comfyui import ComfyUI, Server, ServerError, find_comfyui
from pack import ROOT
from workflow_files import (
    CONVERTER_MISSING,
    NodeFailed,
    OutputFile,
    WorkflowError,
    apply_settings,
    assign_inputs,
    check_structure,
    expand_prefixes,
    provide_files,
    read_workflow,
    to_prompt,
)

if TYPE_CHECKING:
    from typing_extensions import Self

OK, FAILED, WRONG, INTERRUPTED = 0, 1, 2, 130

HELP = """\
WORKFLOW is a file saved by the editor, or exported in the API format, or a PNG that ComfyUI saved.

--input: each FILE is copied to where LoadImage looks. A node whose saved file name is that of a FILE takes that FILE.
The other FILEs go to the other loading nodes in the order of their ids: one for each node when there are as many, or
one for each distinct saved name when there are as many of those. Files that the workflow names and that are not given
are looked for beside the workflow file, in the folder assets there, and then in ComfyUI's own input folder.

--set: NODE is a node's id, or its type or title where only one node has it. VALUE is read as JSON where it is JSON.

--engine auto takes ComfyUI where it finds it: COMFYUI_PATH, the folder above custom_nodes, comfy-cli's default
workspace. COMFYUI_PYTHON names the Python to run it with.

Saved pictures keep their names and count on from those in DIR; previews are named preview-<node id>.

Exit codes: 0 it ran; 1 the run failed; 2 the workflow or the command line is wrong; 130 stopped with Ctrl-C.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (None: this process's) and give the exit code; errors go to stderr in words.

    Raises: `SystemExit` from argparse, for --help and for arguments it cannot read (code 2).
    """
    options = _read_arguments(argv)
    with ProgressLine(sys.stderr) as progress:
        return _report(options, progress)


def _report(options: argparse.Namespace, progress: ProgressLine) -> int:
    try:
        files = _run(options, progress)
        progress.end()
        for file in files:
            print(file)
        if not files:
            print("note: the run saved no files", file=sys.stderr)
        return OK
    except WorkflowError as error:
        return _fail(progress, options, error, WRONG)
    except (NodeFailed, ServerError, OSError) as error:
        return _fail(progress, options, error, FAILED)
    except KeyboardInterrupt:
        progress.end()
        print("stopped", file=sys.stderr)
        return INTERRUPTED


def _read_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="run_workflow.py",
        description="Run a saved ComfyUI workflow file, in ComfyUI or in a small built-in engine.",
        epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("workflow", type=Path, metavar="WORKFLOW", help="the workflow file")
    # append and nargs: `--input a b` and `--input a --input b` both work.
    add("--input", type=Path, action="append", nargs="+", default=[], metavar="FILE", help="files for LoadImage nodes")
    add("--set", action="append", default=[], metavar="NODE.WIDGET=VALUE", help="change a widget's value; repeatable")
    add("--output", type=Path, default=Path("output"), metavar="DIR", help="where pictures go (default: ./output)")
    add("--engine", choices=("auto", "comfyui", "builtin"), default="auto", help="what runs it (default: auto)")
    add(
        "--pack",
        action="append",
        default=[],
        metavar="DIR",
        help='another node pack to load into ComfyUI; "all": every pack in its custom_nodes',
    )
    add("--cpu", action="store_true", help="have ComfyUI use the processor only")
    add("--debug", action="store_true", help="show tracebacks, and keep ComfyUI's scratch folder with its log")
    options = parser.parse_args(argv)
    options.input = [file for group in options.input for file in group]
    return options


def _fail(progress: ProgressLine, options: argparse.Namespace, error: Exception, code: int) -> int:
    progress.end()
    if options.debug:
        traceback.print_exception(error)
        if isinstance(error, NodeFailed) and error.trace:
            print(error.trace, file=sys.stderr)
    print(f"error: {error}", file=sys.stderr)
    if isinstance(error, ServerError) and options.engine == "auto":
        print("note: --engine builtin runs mask workflows without ComfyUI", file=sys.stderr)
    return code


# ---------------------------------------------------------------------------------------------------------------
# The run


def _run(options: argparse.Namespace, progress: ProgressLine) -> list[Path]:
    workflow = read_workflow(options.workflow)
    check_structure(workflow)
    for file in options.input:
        if not file.is_file():
            raise WorkflowError(f"--input: there is no file {file}")
    if workflow.is_editor and importlib.util.find_spec("comfy_cli") is None:
        raise WorkflowError(CONVERTER_MISSING.format(path=workflow.path, python=sys.executable))

    comfyui = find_comfyui() if options.engine != "builtin" else None
    engine = _choose_engine(options, comfyui, progress)
    with engine:
        if options.debug and isinstance(engine, Server):
            print(f"ComfyUI's scratch folder is kept: {engine.base}", file=sys.stderr)
        info = engine.object_info()
        prompt = to_prompt(workflow, info, engine.unknown, lambda text: _note(progress, text))
        apply_settings(prompt, options.set, info)
        _bring_files(prompt, options, engine, info, comfyui)
        expand_prefixes(prompt)
        extra = {"workflow": workflow.data} if workflow.is_editor else None
        result = engine.queue(prompt, extra_pnginfo=extra, progress=progress.show)
        shown = [file for file in result.files if _is_result(file, prompt, info)]
        return save_results(shown, options.output)


def _choose_engine(
    options: argparse.Namespace, comfyui: ComfyUI | None, progress: ProgressLine
) -> Server | BuiltinEngine:
    if comfyui is not None and comfyui.usable:
        why = "asked for" if options.engine == "comfyui" else "found"
        print(f"engine: {comfyui} ({why})", flush=True)
        packs = _other_packs(options.pack, comfyui.path)
        models = comfyui.path / "models"
        return Server(
            comfyui, packs=packs, models=models, cpu=options.cpu or None, keep=options.debug, progress=progress.show
        )
    if options.engine == "comfyui":
        raise WorkflowError(f"--engine comfyui: {comfyui.why}")
    why = "asked for" if comfyui is None else comfyui.why
    print(f"engine: built-in ({why})", flush=True)
    try:
        return BuiltinEngine()
    except ImportError as error:
        raise WorkflowError(
            f"the built-in engine cannot load this pack with {sys.executable}: {error}. `python3 tools/dev.py run` "
            f"sets up an environment that has all it needs"
        ) from error


def _other_packs(wanted: list[str], comfyui: Path) -> list[Path]:
    packs = []
    for name in wanted:
        if name == "all":
            installed = sorted((comfyui / "custom_nodes").iterdir())
            packs += [
                path for path in installed if (path / "__init__.py").is_file() and path.resolve() != ROOT.resolve()
            ]
        elif (Path(name) / "__init__.py").is_file():
            packs.append(Path(name).absolute())
        else:
            raise WorkflowError(f"--pack: {name} is not a node pack (a folder with an __init__.py)")
    return list({path.name: path for path in packs}.values())


def _bring_files(
    prompt: dict, options: argparse.Namespace, engine: Server | BuiltinEngine, info: dict, comfyui: ComfyUI | None
) -> None:
    names = []
    for file in options.input:
        name, number = file.name, 1
        while (engine.input_folder / name).exists():  # two files of one name, from two folders
            number += 1
            name = f"{file.stem}-{number}{file.suffix}"
        names.append(engine.copy_input(file, name))
    assign_inputs(prompt, options.input, names, info)
    beside = options.workflow.absolute().parent
    places = [beside, beside / "assets"]
    if comfyui is not None and comfyui.path is not None:
        places.append(comfyui.path / "input")
    provide_files(prompt, info, engine.input_folder, places)


def _note(progress: ProgressLine, text: str) -> None:
    progress.end()
    print(f"note: {text}", file=sys.stderr)


# ---------------------------------------------------------------------------------------------------------------
# Results


def _is_result(file: OutputFile, prompt: dict, info: dict) -> bool:
    """Saved files, and previews of preview nodes; not the thumbnails that other nodes show on themselves."""
    kind = prompt.get(file.node_id, {}).get("class_type")
    return file.kind == "output" or bool((info.get(kind) or {}).get("output_node"))


def save_results(files: Sequence[OutputFile], folder: Path) -> list[Path]:
    """Copy a run's files into `folder` under names that are free there, and give the paths.

    `<prefix>_00001_.png` counts on from the highest number that the prefix has there; previews become
    `preview-<node id>_00001_.png`. Raises: `OSError` when the folder cannot be written.
    """
    saved = []
    for file in files:
        target = folder / file.subfolder if file.kind == "output" else folder
        target.mkdir(parents=True, exist_ok=True)
        match = re.fullmatch(r"(.*)_(\d+)_?", file.path.stem)
        prefix = match.group(1) if match else file.path.stem
        if file.kind != "output":
            prefix = "preview-" + re.sub(r"[^\w.-]", "-", file.node_id)
        saved.append(_copy_numbered(file.path, target, prefix))
    return saved


def _copy_numbered(source: Path, folder: Path, prefix: str) -> Path:
    taken = [re.fullmatch(re.escape(prefix) + r"_(\d+)_?", path.stem) for path in folder.iterdir()]
    number = max((int(match.group(1)) for match in taken if match), default=0)
    while True:
        number += 1
        target = folder / f"{prefix}_{number:05}_{source.suffix}"
        try:
            with open(target, "xb") as out, open(source, "rb") as data:  # x: never over a file that is there
                shutil.copyfileobj(data, out)
            return target
        except FileExistsError:
            continue  # another run took the number


# ---------------------------------------------------------------------------------------------------------------
# Progress


class ProgressLine:
    """One line about what goes on, for anything that takes more than a second.

    On a terminal the line is redrawn in place (by tqdm where it is installed and there is a count); elsewhere, such
    as in a log file, a line is written for a step that takes more than a second, and then every ten seconds. Within
    a `with` block the line keeps ticking by itself, also while nothing is reported.
    """

    PATIENCE = 1.0
    REPEAT = 10.0

    def __init__(self, stream: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream, self._clock = stream, clock
        self._terminal = stream.isatty()
        self._lock = threading.Lock()
        self._finished = threading.Event()
        self._began = self._since = clock()
        self._step: tuple[str, int | None, int | None] | None = None
        self._written = ("", 0.0)
        self._drawn = 0
        self._bar = None

    def __enter__(self) -> Self:
        threading.Thread(target=self._keep_ticking, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
        self._finished.set()

    def show(self, text: str, done: int | None = None, total: int | None = None) -> None:
        """Tell what goes on now: a text, and `done` of `total` where there is a count."""
        with self._lock:
            if self._step is None or self._step[0] != text:
                self._close_bar()
                self._since = self._clock()
            self._step = (text, done, total)
        self.tick()

    def tick(self) -> None:
        """Bring the line up to date, once it is time to show one."""
        with self._lock:
            now = self._clock()
            if self._step is None or now - (self._began if self._terminal else self._since) < self.PATIENCE:
                return
            text, done, total = self._step
            if not self._terminal:
                self._write_line(text, done, total, now)
            elif total and _tqdm() is not None:
                self._draw_bar(text, done or 0, total)
            else:
                self._draw(self._sentence(text, done, total, now))

    def end(self) -> None:
        """Leave a clean line behind, until something is shown again. Safe to call twice."""
        with self._lock:
            self._step = None
            self._close_bar()
            self._wipe()

    def _keep_ticking(self) -> None:
        while not self._finished.wait(0.25):
            self.tick()

    def _sentence(self, text: str, done: int | None, total: int | None, now: float) -> str:
        count = f" {done or 0}/{total}" if total else ""
        return f"{text}{count} ({now - self._since:.0f} s)"

    def _write_line(self, text: str, done: int | None, total: int | None, now: float) -> None:
        if self._written[0] == text and now - self._written[1] < self.REPEAT:
            return
        self._written = (text, now)
        self._stream.write(self._sentence(text, done, total, now) + "\n")
        self._stream.flush()

    def _draw(self, line: str) -> None:
        line = line[: shutil.get_terminal_size().columns - 1]
        self._stream.write("\r" + line.ljust(self._drawn))
        self._stream.flush()
        self._drawn = len(line)

    def _wipe(self) -> None:
        if self._drawn:
            self._stream.write("\r" + " " * self._drawn + "\r")
            self._stream.flush()
            self._drawn = 0

    def _draw_bar(self, text: str, done: int, total: int) -> None:
        if self._bar is None or self._bar.total != total:
            self._close_bar()
            self._wipe()
            self._bar = _tqdm()(total=total, desc=text, file=self._stream, leave=False)
        self._bar.n = done
        self._bar.refresh()

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _tqdm() -> type | None:
    if importlib.util.find_spec("tqdm") is None:
        return None
    from tqdm import tqdm

    return tqdm


def _stop_on_sigterm() -> None:
    """Turn SIGTERM into the same orderly end as Ctrl-C, so that ComfyUI and the scratch folder go with us."""

    def stop(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, stop)


if __name__ == "__main__":
    _stop_on_sigterm()
    code = main()
    sys.stdout.flush()
    sys.exit(code)
