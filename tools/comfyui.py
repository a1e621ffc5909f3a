"""Run workflows in ComfyUI: a headless server on loopback with a scratch folder, for the duration of a `with` block."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import requests
import websocket
from find_comfyui import ComfyUI, find_comfyui, has_accelerator  # noqa: F401 - callers use the first two
from pack import ROOT
from workflow.engine_interface import BadWorkflow, Engine, NodeFailed, RunResult, WorkflowError
from workflow.graph import id_order, node_label, prompt_label

LINK_NAME = "maskwright-linked"  # a dash, so that nothing can rely on an importable folder name
PACK_MODEL_FOLDERS = ("clipseg", "clip_seg", "rembg", "onnx")  # which packs add; they may not exist yet
NOT_COPIED = (".git", ".venv", "venv", "__pycache__", "node_modules", "output", ".pytest_cache", ".ruff_cache")
# Runs ComfyUI's main.py and ends it when the parent process dies. The parent has the other end of stdin and never
# writes, so end of file means that it died, even by SIGKILL, on every system. Children of ComfyUI get an empty stdin:
# on Windows they would hang while a thread reads this one.
BOOTSTRAP = """
import os, runpy, shutil, signal, sys, threading
scratch, sys.argv = sys.argv[1], sys.argv[2:]
parent = os.dup(0)
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
def end_with_parent():
    while os.read(parent, 4096):
        pass
    shutil.rmtree(scratch, ignore_errors=True)
    if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(1)
threading.Thread(target=end_with_parent, daemon=True).start()
sys.path[0] = os.path.dirname(sys.argv[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


class ServerError(Exception):
    """ComfyUI did not start, or stopped responding. The message says which, with the end of its log."""


@dataclass(eq=False)
class Server(Engine):
    """A headless ComfyUI on 127.0.0.1 and a free port, whose base directory is a scratch folder.

    At the end the server is stopped and the folder removed, even if this process is killed.
    """

    comfyui: ComfyUI
    root: Path | None = ROOT  # this pack's folder; None to leave this pack out
    packs: Iterable[Path] = ()  # folders of other packs to load
    models: Path | None = None  # the models folder, also for downloads; None for an empty one
    cpu: bool = False  # use the CPU even if there is an accelerator
    time_limit: float = 240.0  # seconds to wait for the server to start
    arguments: Iterable[str] = ()  # for ComfyUI

    def __enter__(self) -> Server:
        """Start the server and wait until it responds. Raises: `ServerError` if it does not."""
        if not self.comfyui.usable:
            raise ServerError(self.comfyui.why)
        self._session = requests.Session()
        self._session.trust_env = False  # no proxies for loopback
        with contextlib.ExitStack() as cleanup:
            # On Windows, files stay locked briefly after a process ends, so some may remain.
            scratch = tempfile.TemporaryDirectory(prefix="maskwright-comfyui-", ignore_cleanup_errors=True)
            self.base = Path(cleanup.enter_context(scratch)).resolve()
            self.log = self.base / "comfyui.log"
            for name in ("custom_nodes", "models", "input", "output", "temp", "user"):
                (self.base / name).mkdir()
            for source in self.packs:
                link_pack(Path(source).absolute(), self.base / "custom_nodes" / Path(source).name)
            if self.root is not None:
                link_pack(self.root.absolute(), self.base / "custom_nodes" / LINK_NAME)
            self._process = self._launch()
            self.pid = self._process.pid  # on POSIX also the id of its process group
            cleanup.callback(end_process, self._process)
            self._wait_until_ready()
            self._cleanup = cleanup.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def _launch(self) -> subprocess.Popen:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        # SQLAlchemy needs forward slashes on Windows too.
        database = f"sqlite:///{(self.base / 'user' / 'comfyui.db').as_posix()}"
        command = [str(self.comfyui.python), "-c", BOOTSTRAP, str(self.base), str(self.comfyui.path / "main.py")]
        command += ["--base-directory", str(self.base), "--database-url", database, "--disable-auto-launch"]
        command += ["--listen", "127.0.0.1", "--port", str(self.port), *self.arguments]
        if self.models is not None:
            command += ["--extra-model-paths-config", str(self._write_model_paths())]
        if self.cpu or not has_accelerator(self.comfyui.python):  # ComfyUI fails without one
            command.append("--cpu")
        with open(self.log, "ab") as log:
            return subprocess.Popen(
                command,
                cwd=self.comfyui.path,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"},
                # A separate group: Ctrl-C in the terminal reaches only this process, and the whole group can be killed.
                start_new_session=os.name == "posix",
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )

    def _write_model_paths(self) -> Path:
        """Make every subfolder of the models folder ComfyUI's first choice, so that downloads go there."""
        models = Path(self.models).absolute()
        names = [child.name for child in sorted(models.iterdir()) if child.is_dir()] if models.is_dir() else []
        paths = {name: name for name in [*names, *PACK_MODEL_FOLDERS]}
        file = self.base / "model_paths.yaml"
        # JSON is valid YAML, and quotes any path correctly.
        file.write_text(json.dumps({"models": {"base_path": str(models), "is_default": True, **paths}}), "utf-8")
        return file

    def _wait_until_ready(self) -> None:
        until = time.monotonic() + self.time_limit
        while time.monotonic() < until:
            if (code := self._process.poll()) is not None:
                raise ServerError(f"ComfyUI exited before it responded (exit code {code}).{self._log_end()}")
            with contextlib.suppress(OSError, ValueError):  # not listening yet
                self.get("/system_stats", timeout=5)
                return
            self.progress("starting ComfyUI", None, None)
            time.sleep(0.2)
        raise ServerError(f"ComfyUI did not respond within {self.time_limit:.0f} seconds.{self._log_end()}")

    def _log_end(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n  ".join([" The end of its log:", *lines[-30:]])

    def get(self, path: str, timeout: float = 60.0) -> dict:
        """Get JSON from a path of the server. Raises: `OSError` or `ValueError` if that fails."""
        response = self._session.get(self.url + path, timeout=timeout)
        response.raise_for_status()
        return response.json()

    def object_info(self) -> dict:
        """All nodes of this server: {type: schema}. Raises: `ServerError` if it does not respond."""
        with self._explain_loss():
            return self.get("/object_info")

    def model_folders(self, kind: str) -> list[Path]:
        """This server's folders for a kind of model, including those of `extra_model_paths.yaml`."""
        with self._explain_loss():  # no public route lists folders; the editor uses this one
            return [Path(folder) for folder in self.get("/internal/folder_paths").get(kind, [])]

    def unknown(self, node_type: str) -> str:
        """The end of the sentence "node 7 (KSampler) ..." for a node type that this server lacks."""
        log = self.log.read_text(encoding="utf-8", errors="replace")
        failed = [Path(match).name for match in re.findall(r"\(IMPORT FAILED\): (.+)", log)]
        return (
            f"is not a node of this ComfyUI; is its pack installed? Packs other than this one are loaded with "
            f"--pack DIR; those of this ComfyUI with --pack {self.comfyui.path / 'custom_nodes'}"
        ) + (f". Packs that ComfyUI could not load: {', '.join(failed)}" if failed else "")

    def interrupt(self) -> None:
        """Ask the server to stop the current run. No error if the server is gone."""
        with contextlib.suppress(OSError):
            self._session.post(f"{self.url}/interrupt", json={}, timeout=5)

    def queue(self, prompt: dict, extra_pnginfo: dict | None = None) -> RunResult:
        """Run an API-format prompt. SaveImage writes `extra_pnginfo` into its files, too.

        Raises: `BadWorkflow` if ComfyUI rejects it; `NodeFailed` if a node fails; `ServerError` if the server dies.
        """
        client_id, events = uuid.uuid4().hex, websocket.WebSocket()
        body = {"prompt": prompt, "client_id": client_id, "extra_data": {"extra_pnginfo": extra_pnginfo or {}}}
        with self._explain_loss(), contextlib.closing(events):
            with contextlib.suppress(websocket.WebSocketException, OSError):  # only progress needs it
                address = f"ws://127.0.0.1:{self.port}/ws?clientId={client_id}"
                events.connect(address, timeout=0.25, http_no_proxy=["127.0.0.1"])
            entry = self._wait_for(self._submit(body), prompt, events)
        _raise_failure(entry)
        return RunResult(entry.get("outputs", {}), self.base)

    def _submit(self, body: dict) -> str:
        response = self._session.post(f"{self.url}/prompt", json=body, timeout=60)
        try:
            reply = response.json()
        except ValueError:
            reply = {"error": {"message": response.text[:500]}}
        if reply.get("node_errors"):  # ComfyUI may run the valid part until the server stops
            raise BadWorkflow(_explain_node_errors(reply["node_errors"], body["prompt"]))
        if "prompt_id" not in reply:
            reason = f"{reply['error']['message']} {reply['error'].get('details', '')}".strip()
            raise WorkflowError(f"ComfyUI rejects the workflow: {reason}")
        return reply["prompt_id"]

    def _wait_for(self, prompt_id: str, prompt: dict, events: websocket.WebSocket) -> dict:
        step = ("waiting for ComfyUI", None, None)
        while (entry := self.get(f"/history/{prompt_id}").get(prompt_id)) is None:
            self.progress(*step)
            try:
                message = events.recv()
            except (websocket.WebSocketException, OSError):  # none for now, or no connection
                time.sleep(0.05)
                continue
            event = json.loads(message) if isinstance(message, str) and message else {}
            data = event.get("data") or {}
            if event.get("type") in ("executing", "progress") and data.get("node"):
                kind = prompt.get(str(data["node"]), {}).get("class_type", "unknown")
                step = node_label(data["node"], kind), data.get("value"), data.get("max")
        return entry

    @contextlib.contextmanager
    def _explain_loss(self) -> Iterator[None]:
        """Turn failed requests into a `ServerError` that says whether the server died."""
        try:
            yield
        except (OSError, ValueError) as error:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.5)  # a dying process closes its socket a moment before it ends
            is_running = self._process.poll() is None
            what = f"does not respond at {self.url} ({error})." if is_running else "exited during the run."
            raise ServerError(f"ComfyUI {what}{self._log_end()}") from error


def _explain_node_errors(node_errors: dict, prompt: dict) -> list[str]:
    """A sentence for each fault in the `node_errors` of ComfyUI's /prompt."""
    return [
        f"{prompt_label(node_id, prompt[node_id])}: {error['message']}: {error['details']}".removesuffix(": ")
        for node_id in sorted(node_errors, key=id_order)
        for error in node_errors[node_id]["errors"]
    ]


def _raise_failure(entry: dict) -> None:
    status = entry.get("status") or {}
    for kind, data in status.get("messages", []):
        if kind in ("execution_error", "execution_interrupted"):
            message = data.get("exception_message", "the run was interrupted").strip()
            error, trace = data.get("exception_type", ""), "".join(data.get("traceback") or [])
            raise NodeFailed(str(data.get("node_id")), data.get("node_type", "unknown"), message, error, trace)
    if status.get("status_str") == "error":
        raise ServerError(f"ComfyUI reports an error without naming a node: {status}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def end_process(process: subprocess.Popen, grace: float = 5.0) -> None:
    """Terminate a process and its group; kill them after the grace period, or on a second Ctrl-C."""
    try:
        if process.poll() is None:
            _signal_group(process, force=False)
            with contextlib.suppress(subprocess.TimeoutExpired):  # it is killed below
                process.wait(grace)
    finally:
        _signal_group(process, force=True)  # including children that the server left behind
        process.wait()
        process.stdin.close()


def _signal_group(process: subprocess.Popen, force: bool) -> None:
    if os.name == "posix":
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS raises the latter for zombies
            os.killpg(process.pid, signal.SIGKILL if force else signal.SIGTERM)
    elif process.poll() is None:  # Windows has no groups to signal; taskkill walks the tree of children
        subprocess.run(["taskkill", "/F", "/T", "/PID", str(process.pid)], check=False, capture_output=True)


def link_pack(source: Path, target: Path) -> None:
    """Link `target` to the pack in `source`, or copy it where links are not allowed (Windows)."""
    try:
        target.symlink_to(source, target_is_directory=True)
    except OSError:
        shutil.copytree(source, target, ignore=shutil.ignore_patterns(*NOT_COPIED))
