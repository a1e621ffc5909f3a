"""Find a ComfyUI on this machine and run workflows in it: a headless server on loopback with a scratch folder.

`find_comfyui` looks for an installation and for the Python that can run it. `Server` starts it, waits until it
answers, queues prompts, and makes sure that it is gone afterwards, whatever happened in between.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from pack import ROOT
from workflow.engine_interface import (
    BadWorkflow,
    NodeFailed,
    Progress,
    RunResult,
    WorkflowError,
    node_label,
    output_files,
)
from workflow.input_files import copy_into
from workflow.widgets import explain_node_errors

if TYPE_CHECKING:
    from typing_extensions import Self

NEEDED_MODULES = ("torch", "torchvision", "aiohttp", "yaml", "safetensors", "transformers")
LINK_NAME = "maskwright-linked"  # a dash, so that nothing can come to rely on an importable folder name
LOG_LINES_SHOWN = 30
# Weights folders that packs add themselves: named here so that they are found in the user's models folder too.
PACK_MODEL_FOLDERS = ("clipseg", "clip_seg", "rembg", "onnx")
NOT_COPIED = (".git", ".venv", "venv", "__pycache__", "node_modules", "output", ".pytest_cache", ".ruff_cache")


class ServerError(Exception):
    """ComfyUI could not be started, or stopped answering. The text says which, with the end of its log."""


# ---------------------------------------------------------------------------------------------------------------
# Finding an installation


@dataclass(frozen=True)
class ComfyUI:
    """What `find_comfyui` found. `usable` is True when it can be run; otherwise `why` says what is missing."""

    path: Path | None
    python: Path | None
    version: str
    why: str

    @property
    def usable(self) -> bool:
        """True when both the folder and a Python that can run it are known."""
        return self.path is not None and self.python is not None

    def __str__(self) -> str:
        return f"ComfyUI {self.version} in {self.path}" if self.usable else self.why


def find_comfyui(root: Path = ROOT) -> ComfyUI:
    """Look for ComfyUI: COMFYUI_PATH, the folder above `custom_nodes`, then comfy-cli's default workspace.

    Takes: `root`, the pack's folder. Gives: a `ComfyUI`, whose `usable` is False and whose `why` is a readable
    reason when none was found, or none that can run. Raises nothing.
    """
    named = os.environ.get("COMFYUI_PATH")
    if named:
        path = Path(named).expanduser().absolute()
        if not _is_comfyui(path):
            why = f"COMFYUI_PATH is {named}, which is not a ComfyUI folder: there is no main.py in it"
            return ComfyUI(None, None, "", why)
        return _with_python(path)
    places = _usual_places(root)
    for path in places:
        if _is_comfyui(path):
            return _with_python(path)
    looked = " or ".join(str(path) for path in places)
    return ComfyUI(None, None, "", f"no ComfyUI found: COMFYUI_PATH is not set, and there is none in {looked}")


def _usual_places(root: Path) -> list[Path]:
    places = []
    for folder in dict.fromkeys((Path(root).absolute(), Path(root).resolve())):
        if folder.parent.name == "custom_nodes":
            places.append(folder.parent.parent)
    # comfy-cli's default workspace lies under Documents on Windows and macOS.
    under = Path.home() if sys.platform.startswith("linux") else Path.home() / "Documents"
    return [*places, under / "comfy" / "ComfyUI"]


def _is_comfyui(path: Path) -> bool:
    return (path / "main.py").is_file() and (path / "folder_paths.py").is_file()


def _version(path: Path) -> str:
    try:
        text = (path / "comfyui_version.py").read_text(encoding="utf-8")
    except OSError:
        return "of unknown version"
    match = re.search(r"__version__\s*=\s*[\"']([^\"']+)", text)
    return match.group(1) if match else "of unknown version"


def _with_python(path: Path) -> ComfyUI:
    version = _version(path)
    tried = []
    for python in _pythons(path):
        problem = _python_problem(python)
        if not problem:
            return ComfyUI(path, python, version, "")
        tried.append(f"{python} {problem}")
    problem, remedy = "no Python found can run it", "into one of them, or set COMFYUI_PYTHON"
    if os.environ.get("COMFYUI_PYTHON"):
        problem, remedy = "COMFYUI_PYTHON cannot run it", "there, or let COMFYUI_PYTHON name another Python"
    why = f"{problem}: {'; '.join(tried) or 'none was found'}. Install ComfyUI's requirements.txt {remedy}"
    return ComfyUI(path, None, version, f"ComfyUI {version} is in {path}, but {why}")


def _pythons(path: Path) -> list[Path]:
    """The Pythons that may run the ComfyUI in `path`, best first, only those that exist."""
    if os.environ.get("COMFYUI_PYTHON"):
        return [Path(os.environ["COMFYUI_PYTHON"]).expanduser().absolute()]
    folders = [path / ".venv", path / "venv", path.parent / ".venv"]
    found = [_venv_python(folder) for folder in folders]
    found.append(path.parent / "python_embeded" / "python.exe")  # sic: the Windows portable build spells it so
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        if os.environ.get(name):
            found.append(_venv_python(Path(os.environ[name])))
    if sys.executable:
        found.append(Path(sys.executable))
    # Not resolved: a venv's python is a link to the base Python, and only the link's place makes it the venv's.
    return [python for python in dict.fromkeys(found) if python.is_file()]


def _venv_python(folder: Path) -> Path:
    if os.name != "nt":
        return folder / "bin" / "python"
    in_venv = folder / "Scripts" / "python.exe"
    return in_venv if in_venv.is_file() else folder / "python.exe"  # conda keeps it at the top


def _python_problem(python: Path) -> str:
    """What keeps `python` from running ComfyUI, or "" when nothing does. Looks for the modules, imports none."""
    code = (
        "import importlib.util as u, json, sys\nprint(json.dumps([m for m in sys.argv[1:] if u.find_spec(m) is None]))"
    )
    try:
        done = subprocess.run(
            [str(python), "-c", code, *NEEDED_MODULES],
            check=False,
            capture_output=True,
            text=True,
            timeout=30,
            stdin=subprocess.DEVNULL,
            cwd=tempfile.gettempdir(),
        )
        missing = json.loads(done.stdout) if done.returncode == 0 else None
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return f"does not run ({error})"
    if missing is None:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit {done.returncode}"]
        return f"does not run ({last[0]})"
    return f"lacks {', '.join(missing)}" if missing else ""


# ---------------------------------------------------------------------------------------------------------------
# Running it

# Runs ComfyUI's main.py, and ends it when the process that started it is gone: that one holds the other end of
# stdin and never writes, so end of file means that it died, even by SIGKILL, on every operating system. Children
# of ComfyUI get an empty stdin instead, or they would hang on Windows while a thread reads this one.
_BOOTSTRAP = """
import os, runpy, shutil, signal, sys, threading
scratch, sys.argv = sys.argv[1], sys.argv[2:]
parent = os.dup(0)
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
def end_with_parent():
    while os.read(parent, 4096):
        pass
    if scratch:
        shutil.rmtree(scratch, ignore_errors=True)
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(1)
threading.Thread(target=end_with_parent, daemon=True).start()
sys.path[0] = os.path.dirname(sys.argv[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""

_DEVICE_PROBE = """
import torch
kinds = [getattr(torch, name, None) for name in ("cuda", "xpu", "npu", "mlu")] + [torch.backends.mps]
print(any(kind is not None and kind.is_available() for kind in kinds))
"""


class Server:
    """A headless ComfyUI for the length of a `with` block, in a scratch folder of its own.

    The scratch folder holds custom_nodes (this pack, and `packs`), models, input, output, temp and user; it is
    removed at the end, unless `keep` is True. The server listens on 127.0.0.1 only, on a free port, and is ended
    with the block, and also when this process dies in any way.
    """

    name = "ComfyUI"

    def __init__(
        self,
        comfyui: ComfyUI,
        *,
        root: Path | None = ROOT,
        packs: Iterable[Path] = (),
        models: Path | None = None,
        cpu: bool | None = None,
        time_limit: float = 240.0,
        keep: bool = False,
        arguments: Iterable[str] = (),
        progress: Progress | None = None,
    ) -> None:
        """Prepare a server; nothing starts before `with` or `start`.

        Takes: `comfyui` from `find_comfyui`; `root`, this pack's folder (None: without it); `packs`, folders of
        other packs to load as well; `models`, a models folder whose files are to be seen and where downloads go
        (the user's own, as a rule; None: empty); `cpu`, True or False to decide, None to ask torch; `time_limit`
        for the start, in seconds; `keep`, leave the scratch folder; `arguments`, more of ComfyUI's own;
        `progress`, told about the start. Raises: `ServerError` when `comfyui` is not usable.
        """
        if not comfyui.usable:
            raise ServerError(comfyui.why)
        self.comfyui = comfyui
        self._packs = ([(Path(root), LINK_NAME)] if root else []) + [(Path(p), Path(p).name) for p in packs]
        self._models = models
        self._cpu = cpu
        self._time_limit = time_limit
        self._keep = keep
        self._arguments = list(arguments)
        self._progress = progress or (lambda text, done, total: None)
        self._process: subprocess.Popen | None = None
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback, whatever the proxies
        self._folders: dict[str, list[str]] | None = None  # as the running server tells them
        self.base: Path | None = None
        self.port = 0

    # -- life ---------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The server's address, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The server's process id (and on POSIX its process group's)."""
        return self._process.pid

    @property
    def log(self) -> Path:
        """The file that holds everything the server printed."""
        return self.base / "comfyui.log"

    def start(self) -> None:
        """Start the server and wait until it answers.

        Raises: `ServerError` when it ends early or does not answer within the time limit, with its last log lines.
        """
        try:
            self.base = Path(tempfile.mkdtemp(prefix="maskwright-comfyui-"))
            self.base = self.base.resolve()
            self._fill_scratch()
            if self._cpu is None:
                self._cpu = not _has_accelerator(self.comfyui.python)
            for attempts_left in (2, 1, 0):
                self._launch()
                if self._wait_until_ready(attempts_left):
                    return
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server and its children, and remove the scratch folder. Safe to call twice."""
        try:
            if self._process is not None:
                _end(self._process)
                self._process = None
        finally:  # a second Ctrl-C must not leave the folder behind
            if self.base is not None and not self._keep:
                _remove(self.base)

    def _fill_scratch(self) -> None:
        for name in ("custom_nodes", "models", "input", "output", "temp", "user"):
            (self.base / name).mkdir()
        for source, name in self._packs:
            _link(source.absolute(), self.base / "custom_nodes" / name)

    def _command(self) -> list[str]:
        # as_posix: the form that SQLAlchemy takes on Windows too.
        database = f"sqlite:///{(self.base / 'user' / 'comfyui.db').as_posix()}"
        command = [str(self.comfyui.python), "-c", _BOOTSTRAP, "" if self._keep else str(self.base)]
        command += [str(self.comfyui.path / "main.py"), "--base-directory", str(self.base)]
        command += ["--listen", "127.0.0.1", "--port", str(self.port), "--disable-auto-launch"]
        command += ["--database-url", database]
        if self._models is not None:
            command += ["--extra-model-paths-config", str(self._write_model_paths())]
        if self._cpu:
            command.append("--cpu")
        return command + self._arguments

    def _write_model_paths(self) -> Path:
        """Point ComfyUI at every folder under the given models folder, as the first place, so downloads land there."""
        models = Path(self._models).absolute()
        here = [child.name for child in sorted(models.iterdir()) if child.is_dir()] if models.is_dir() else []
        paths = {name: name for name in dict.fromkeys([*here, *PACK_MODEL_FOLDERS])}
        file = self.base / "model_paths.yaml"
        # JSON is YAML, and quotes any path correctly.
        file.write_text(json.dumps({"models": {"base_path": str(models), "is_default": True, **paths}}), "utf-8")
        return file

    def _launch(self) -> None:
        self.port = _free_port()
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                self._command(),
                cwd=self.comfyui.path,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"},
                # Its own group: Ctrl-C in the terminal reaches only us, and the whole group can be ended.
                start_new_session=os.name == "posix",
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )

    def _wait_until_ready(self, attempts_left: int) -> bool:
        began = time.monotonic()
        while True:
            if self._process.poll() is not None:
                if attempts_left and re.search(r"address already in use|10048", self._log_end(), re.IGNORECASE):
                    return False  # somebody took the port between our looking and the server's binding
                raise ServerError(f"ComfyUI ended before it answered (exit {self._process.returncode}).{self._shown()}")
            try:
                # Any program may have taken the port: only our own server was started with our scratch folder.
                if str(self.base) in self._get("/system_stats", timeout=5)["system"].get("argv", [str(self.base)]):
                    return True
            except (OSError, ValueError, KeyError):
                pass  # not listening yet
            waited = time.monotonic() - began
            if waited > self._time_limit:
                raise ServerError(f"ComfyUI did not answer within {self._time_limit:.0f} seconds.{self._shown()}")
            self._progress("starting ComfyUI", None, None)
            time.sleep(0.2)

    def _log_end(self) -> str:
        try:
            lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join("  " + line for line in lines[-LOG_LINES_SHOWN:])

    def _shown(self) -> str:
        return f" The end of its log:\n{self._log_end()}"

    # -- talking to it ------------------------------------------------------------------------------------------

    @property
    def input_folder(self) -> Path:
        """The folder that LoadImage reads from."""
        return self.base / "input"

    def copy_input(self, file: Path, name: str | None = None) -> str:
        """Copy `file` into the input folder, as `name` (default: its own), and give the name a widget holds.

        Raises: `OSError` when it cannot be read; `ValueError` when `name` leads out of the folder.
        """
        return copy_into(self.input_folder, file, name)

    def object_info(self) -> dict:
        """Every node this server knows: {type: schema}. Raises: `ServerError` when it does not answer."""
        return self._ask("/object_info")

    def model_folders(self, kind: str) -> list[Path]:
        """The folders where this server looks for models of a kind, those of `extra_model_paths.yaml` included."""
        if self._folders is None:
            try:  # no public route tells folders; the editor asks this one
                self._folders = self._get("/internal/folder_paths", timeout=60)
            except urllib.error.HTTPError:
                self._folders = {}
        usual = [self.comfyui.path / "models" / kind]
        return [Path(folder) for folder in self._folders.get(kind, usual)]

    def unknown(self, node_type: str) -> str:
        """The end of the sentence "node 7 (KSampler) ..." for a type this server does not know."""
        text = (
            f"is not a node of this ComfyUI; is its pack installed? Packs other than this one are loaded with "
            f"--pack DIR, or --pack all for those in {self.comfyui.path / 'custom_nodes'}"
        )
        failed = self.packs_that_failed()
        return f"{text}. Packs that ComfyUI could not load: {', '.join(failed)}" if failed else text

    def packs_that_failed(self) -> list[str]:
        """The folder names of the packs that ComfyUI could not load, from its log; the log says why."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return [Path(match).name for match in re.findall(r"\(IMPORT FAILED\): (.+)", text)]

    def queue(self, prompt: dict, *, extra_pnginfo: dict | None = None, progress: Progress | None = None) -> RunResult:
        """Run an API-format prompt and wait for it.

        Takes: `prompt`; `extra_pnginfo`, what SaveImage writes into its files beside the prompt; `progress`, told
        how far it is. Gives: a `RunResult`; its files lie in the scratch folder. Raises: `BadWorkflow` when
        ComfyUI refuses it, listing every bad value; `NodeFailed` when a node fails; `ServerError` when the server
        goes away. On Ctrl-C the run is interrupted first.
        """
        progress = progress or (lambda text, done, total: None)
        client_id = uuid.uuid4().hex
        body = {"prompt": prompt, "client_id": client_id, "extra_data": {"extra_pnginfo": extra_pnginfo or {}}}
        with _Events(self.port, client_id) as events:
            prompt_id = self._submit(body)
            try:
                entry = self._wait_for(prompt_id, prompt, events, progress)
            except KeyboardInterrupt:
                self.interrupt()
                raise
        _raise_failure(entry, prompt)
        outputs = entry.get("outputs", {})
        return RunResult(outputs, output_files(outputs, self.base))

    def interrupt(self) -> None:
        """Ask the server to stop the run in progress; no error when it is gone already."""
        try:
            self._post("/interrupt", {}, timeout=5)
        except (OSError, ValueError):
            return

    def _submit(self, body: dict) -> str:
        try:
            answer = self._post("/prompt", body)
        except urllib.error.HTTPError as error:
            raise self._refusal(error, body["prompt"]) from None
        except (OSError, ValueError) as error:
            raise self._lost(error) from error
        if answer.get("node_errors"):
            # ComfyUI would run the good part and drop the rest without a word to the caller.
            self._post("/queue", {"delete": [answer["prompt_id"]]})
            self.interrupt()
            raise BadWorkflow(explain_node_errors(answer["node_errors"], self.object_info(), body["prompt"]))
        return answer["prompt_id"]

    def _refusal(self, error: urllib.error.HTTPError, prompt: dict) -> WorkflowError:
        text = error.read().decode("utf-8", "replace")
        try:
            answer = json.loads(text)
            if answer.get("node_errors"):
                return BadWorkflow(explain_node_errors(answer["node_errors"], self.object_info(), prompt))
            reason = answer["error"]
            return WorkflowError(
                f"ComfyUI refuses the workflow: {reason['message']} {reason.get('details', '')}".strip()
            )
        except (ValueError, KeyError, TypeError, AttributeError):
            return WorkflowError(f"ComfyUI refuses the workflow (HTTP {error.code}): {text[:500]}{self._shown()}")

    def _wait_for(self, prompt_id: str, prompt: dict, events: _Events, progress: Progress) -> dict:
        last = ("waiting for ComfyUI", None, None)
        while True:
            event = events.next(timeout=0.25)
            if event is not None:
                last = _progress_of(event, prompt) or last
            progress(*last)
            if event is not None and event.get("type") in ("progress", "progress_state", "status"):
                continue  # plenty of these come by; none of them ends a run
            entry = self._ask(f"/history/{prompt_id}").get(prompt_id)
            if entry is not None:
                return entry

    def _ask(self, path: str) -> dict:
        try:
            return self._get(path, timeout=60)
        except (OSError, ValueError) as error:
            raise self._lost(error) from error

    def _lost(self, error: Exception) -> ServerError:
        """The error to raise when a call got no proper answer."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0.5)  # a dying process closes its socket a moment before it ends
        if self._process.poll() is not None:
            return ServerError(f"ComfyUI ended in the middle of the run.{self._shown()}")
        return ServerError(f"ComfyUI does not answer at {self.url} ({error}).{self._shown()}")

    def _get(self, path: str, timeout: float) -> dict:
        with self._opener.open(self.url + path, timeout=timeout) as answer:
            return json.load(answer)

    def _post(self, path: str, body: dict, timeout: float = 60) -> dict:
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, json.dumps(body).encode("utf-8"), headers)
        with self._opener.open(request, timeout=timeout) as answer:
            text = answer.read()
        return json.loads(text) if text else {}


class _Events:
    """What ComfyUI tells over its websocket, or just the passing of time where no websocket library is installed."""

    def __init__(self, port: int, client_id: str) -> None:
        self._socket = None
        if importlib.util.find_spec("websocket") is None:
            return
        import websocket

        if not hasattr(websocket, "create_connection"):
            return  # another library of the same name
        self._timeout_error = websocket.WebSocketTimeoutException
        self._errors = (websocket.WebSocketException, OSError)
        try:
            self._socket = websocket.create_connection(f"ws://127.0.0.1:{port}/ws?clientId={client_id}", timeout=5)
        except self._errors:
            return  # progress is a courtesy: the run itself is followed through /history

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._socket is not None:
            self._socket.close()

    def next(self, timeout: float) -> dict | None:
        """The next event within `timeout` seconds, or None."""
        if self._socket is None:
            time.sleep(timeout)
            return None
        self._socket.settimeout(timeout)
        try:
            message = self._socket.recv()
        except self._timeout_error:
            return None
        except self._errors:
            self._socket = None
            return None
        return json.loads(message) if isinstance(message, str) and message else None


def _progress_of(event: dict, prompt: dict) -> tuple[str, int | None, int | None] | None:
    data = event.get("data") or {}
    if event.get("type") == "executing" and data.get("node"):
        return _label(data["node"], prompt), None, None
    if event.get("type") == "progress":
        return _label(data.get("node"), prompt), data.get("value"), data.get("max")
    return None


def _label(node_id: object, prompt: dict) -> str:
    return node_label(node_id, prompt.get(str(node_id), {}).get("class_type", "unknown"))


def _raise_failure(entry: dict, prompt: dict) -> None:
    status = entry.get("status") or {}
    for kind, data in status.get("messages", []):
        if kind == "execution_error":
            node_id = str(data.get("node_id"))
            raise NodeFailed(
                node_id,
                data.get("node_type") or prompt.get(node_id, {}).get("class_type", "unknown"),
                data.get("exception_message", "").strip(),
                data.get("exception_type", ""),
                "".join(data.get("traceback") or []),
            )
        if kind == "execution_interrupted":
            raise NodeFailed(str(data.get("node_id")), data.get("node_type", "unknown"), "the run was interrupted")
    if status.get("status_str") == "error":
        raise ServerError(f"ComfyUI reports an error without naming a node: {status}")


# ---------------------------------------------------------------------------------------------------------------
# Processes, ports and folders


def _has_accelerator(python: Path) -> bool:
    """Whether torch in `python` sees a device other than the CPU. On a Linux without device files: no question."""
    devices = ("nvidia*", "kfd", "dxg", "dri/render*", "accel*", "davinci*")
    if sys.platform.startswith("linux") and not any(any(Path("/dev").glob(name)) for name in devices):
        return False
    try:
        done = subprocess.run(
            [str(python), "-c", _DEVICE_PROBE],
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.stdout.strip().endswith("True")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _end(process: subprocess.Popen, grace: float = 5.0) -> None:
    """End a process and the group it leads: politely, then for good. A second Ctrl-C skips the politeness."""
    try:
        if process.poll() is None:
            _signal_group(process, force=False)
            with contextlib.suppress(subprocess.TimeoutExpired):  # asked and not gone: the next lines do not ask
                process.wait(grace)
    finally:
        _signal_group(process, force=True)  # also for what the server started and left behind
        process.wait()
        process.stdin.close()


def _signal_group(process: subprocess.Popen, force: bool) -> None:
    if os.name == "posix":
        try:
            os.killpg(process.pid, signal.SIGKILL if force else signal.SIGTERM)
        except (ProcessLookupError, PermissionError):  # macOS says the latter of a group of zombies
            return
    elif process.poll() is None:
        # Windows has no groups to signal; taskkill walks the tree of children.
        subprocess.run(["taskkill", "/F", "/T", "/PID", str(process.pid)], check=False, capture_output=True)


def _link(source: Path, target: Path) -> None:
    """Make the pack in `source` appear as `target`: a link, or a copy where links are not allowed (Windows)."""
    try:
        target.symlink_to(source, target_is_directory=True)
    except OSError:
        shutil.copytree(source, target, ignore=shutil.ignore_patterns(*NOT_COPIED))


def _remove(folder: Path) -> None:
    for _ in range(5):
        shutil.rmtree(folder, ignore_errors=True)  # removes links, never what they point at
        if not folder.exists():
            return
        time.sleep(0.3)  # Windows keeps files of a process that has just ended for a moment
