"""Run workflows in ComfyUI: a headless server on loopback with a scratch folder, for the duration of a `with` block."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import requests
import websocket
from find_comfyui import ComfyUI, find_comfyui  # noqa: F401 - callers use both
from pack import ROOT
from server_process import BOOTSTRAP, end_process, free_port, has_accelerator, link_pack, remove_folder
from workflow.engine_interface import (
    BadWorkflow,
    Engine,
    NodeFailed,
    Progress,
    RunResult,
    WorkflowError,
    id_order,
    node_label,
)
from workflow.graph import prompt_label

if TYPE_CHECKING:
    from typing_extensions import Self

LINK_NAME = "maskwright-linked"  # a dash, so that nothing can rely on an importable folder name
LOG_LINES = 30  # in errors
# Model folders that packs add themselves. Listed here so that they are also found in the user's models folder.
PACK_MODEL_FOLDERS = ("clipseg", "clip_seg", "rembg", "onnx")


class ServerError(Exception):
    """ComfyUI did not start, or stopped responding. The message says which, with the end of its log."""


class Server(Engine):
    """A headless ComfyUI in its own scratch folder, on 127.0.0.1 and a free port.

    The scratch folder contains custom_nodes (this pack, and `packs`), models, input, output, temp and user. At the end
    the server is stopped and the folder removed, even if this process is killed.
    """

    def __init__(
        self,
        comfyui: ComfyUI,
        *,
        root: Path | None = ROOT,
        packs: Iterable[Path] = (),
        models: Path | None = None,
        cpu: bool = False,
        time_limit: float = 240.0,
        keep: bool = False,
        arguments: Iterable[str] = (),
        progress: Progress | None = None,
    ) -> None:
        """Prepare a server; `with` or `start` starts it.

        Args:
            root: This pack's folder; None to leave this pack out.
            packs: Folders of other packs to load.
            models: The models folder, also for downloads; None for an empty one.
            cpu: Use the CPU even if there is an accelerator.
            time_limit: Seconds to wait for the server to start.
            keep: Keep the scratch folder.
            arguments: Additional arguments for ComfyUI.
            progress: Called while the server starts.

        Raises: `ServerError` if `comfyui` is not usable.
        """
        if not comfyui.usable:
            raise ServerError(comfyui.why)
        self.comfyui = comfyui
        self._packs = ([(Path(root), LINK_NAME)] if root else []) + [(Path(p), Path(p).name) for p in packs]
        self._models, self._keep, self._time_limit = models, keep, time_limit
        self._arguments, self._cpu = list(arguments), cpu
        self._progress = progress or (lambda text, done, total: None)
        self._process: subprocess.Popen | None = None
        self._session = requests.Session()
        self._session.trust_env = False  # no proxies for loopback
        self.base: Path | None = None
        self.port = 0

    # -- starting and stopping ----------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The server's address, without a trailing slash."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The server's process id; on POSIX also the id of its process group."""
        return self._process.pid

    @property
    def log(self) -> Path:
        """The file with the server's output."""
        return self.base / "comfyui.log"

    def start(self) -> None:
        """Start the server and wait until it responds. Raises: `ServerError` with its last log lines if it does not."""
        try:
            self.base = Path(tempfile.mkdtemp(prefix="maskwright-comfyui-")).resolve()
            for name in ("custom_nodes", "models", "input", "output", "temp", "user"):
                (self.base / name).mkdir()
            for source, name in self._packs:
                link_pack(source.absolute(), self.base / "custom_nodes" / name)
            self._launch()
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server and its children, and remove the scratch folder. Safe to call twice."""
        try:
            if self._process is not None:
                end_process(self._process)
                self._process = None
        finally:  # a second Ctrl-C must not leave the folder behind
            if self.base is not None and not self._keep:
                remove_folder(self.base)

    def _launch(self) -> None:
        self.port = free_port()
        # SQLAlchemy needs forward slashes on Windows too.
        database = f"sqlite:///{(self.base / 'user' / 'comfyui.db').as_posix()}"
        command = [str(self.comfyui.python), "-c", BOOTSTRAP, "" if self._keep else str(self.base)]
        command += [str(self.comfyui.path / "main.py"), "--base-directory", str(self.base), "--database-url", database]
        command += ["--listen", "127.0.0.1", "--port", str(self.port), "--disable-auto-launch"]
        if self._models is not None:
            command += ["--extra-model-paths-config", str(self._write_model_paths())]
        if self._cpu or not has_accelerator(self.comfyui.python):  # ComfyUI fails without one
            command.append("--cpu")
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                command + self._arguments,
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
        models = Path(self._models).absolute()
        folders = [child.name for child in sorted(models.iterdir()) if child.is_dir()] if models.is_dir() else []
        paths = {name: name for name in dict.fromkeys([*folders, *PACK_MODEL_FOLDERS])}
        file = self.base / "model_paths.yaml"
        # JSON is valid YAML, and quotes any path correctly.
        file.write_text(json.dumps({"models": {"base_path": str(models), "is_default": True, **paths}}), "utf-8")
        return file

    def _wait_until_ready(self) -> None:
        start = time.monotonic()
        while True:
            if self._process.poll() is not None:
                code = self._process.returncode
                raise ServerError(f"ComfyUI exited before it responded (exit code {code}).{self._log_end()}")
            with contextlib.suppress(OSError, ValueError):  # not listening yet
                self.get("/system_stats", timeout=5)
                return
            if time.monotonic() - start > self._time_limit:
                raise ServerError(f"ComfyUI did not respond within {self._time_limit:.0f} seconds.{self._log_end()}")
            self._progress("starting ComfyUI", None, None)
            time.sleep(0.2)

    def _log_end(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines() if self.log.is_file() else []
        return "\n  ".join([" The end of its log:", *lines[-LOG_LINES:]])

    # -- requests -----------------------------------------------------------------------------------------------

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
        try:  # no public route lists folders; the editor uses this one
            folders = self.get("/internal/folder_paths")
        except (OSError, ValueError):
            folders = {}
        return [Path(folder) for folder in folders.get(kind, [self.comfyui.path / "models" / kind])]

    def unknown(self, node_type: str) -> str:
        """The end of the sentence "node 7 (KSampler) ..." for a node type that this server lacks."""
        failed = self.packs_that_failed()
        return (
            f"is not a node of this ComfyUI; is its pack installed? Packs other than this one are loaded with "
            f"--pack DIR, or --pack all for those in {self.comfyui.path / 'custom_nodes'}"
        ) + (f". Packs that ComfyUI could not load: {', '.join(failed)}" if failed else "")

    def packs_that_failed(self) -> list[str]:
        """The folder names of the packs that ComfyUI could not load, from its log."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return [Path(match).name for match in re.findall(r"\(IMPORT FAILED\): (.+)", text)]

    def interrupt(self) -> None:
        """Ask the server to stop the current run. No error if the server is gone."""
        with contextlib.suppress(OSError):
            self._session.post(f"{self.url}/interrupt", json={}, timeout=5)

    def queue(self, prompt: dict, *, extra_pnginfo: dict | None = None, progress: Progress | None = None) -> RunResult:
        """Run an API-format prompt and wait for it. Ctrl-C interrupts the run first.

        Args: ``extra_pnginfo``, metadata that SaveImage writes into its files along with the prompt.
        Returns: the results; the files are in the scratch folder.
        Raises: `BadWorkflow` if ComfyUI rejects it; `NodeFailed` if a node fails; `ServerError` if the server dies.
        """
        client_id = uuid.uuid4().hex
        body = {"prompt": prompt, "client_id": client_id, "extra_data": {"extra_pnginfo": extra_pnginfo or {}}}
        with self._explain_loss(), self._events(client_id) as events:
            prompt_id = self._submit(body)
            try:
                entry = self._wait_for(prompt_id, prompt, events, progress or (lambda text, done, total: None))
            except KeyboardInterrupt:
                self.interrupt()
                raise
        _raise_failure(entry, prompt)
        return RunResult(entry.get("outputs", {}), self.base)

    def _submit(self, body: dict) -> str:
        response = self._session.post(f"{self.url}/prompt", json=body, timeout=60)
        try:
            reply = response.json()
        except ValueError:
            raise WorkflowError(f"ComfyUI rejects the workflow: {response.text[:500]}{self._log_end()}") from None
        if reply.get("node_errors"):
            if "prompt_id" in reply:  # ComfyUI would silently run only the valid part
                self._session.post(f"{self.url}/queue", json={"delete": [reply["prompt_id"]]}, timeout=60)
                self.interrupt()
            raise BadWorkflow(_explain_node_errors(reply["node_errors"], body["prompt"]))
        if "prompt_id" not in reply:
            reason = reply.get("error") or {}
            text = f"{reason.get('message', response.text)} {reason.get('details', '')}".strip()
            raise WorkflowError(f"ComfyUI rejects the workflow: {text}")
        return reply["prompt_id"]

    @contextlib.contextmanager
    def _events(self, client_id: str) -> Iterator[websocket.WebSocket | None]:
        """The server's websocket; None if it cannot connect: only progress needs it, results come from /history."""
        try:
            url = f"ws://127.0.0.1:{self.port}/ws?clientId={client_id}"
            events = websocket.create_connection(url, timeout=0.25, http_no_proxy=["127.0.0.1"])
        except (websocket.WebSocketException, OSError):
            yield None
            return
        with contextlib.closing(events):
            yield events

    def _wait_for(self, prompt_id: str, prompt: dict, events: websocket.WebSocket | None, progress: Progress) -> dict:
        last, polled_at = ("waiting for ComfyUI", None, None), 0.0
        while True:
            event = {}
            try:
                message = events.recv() if events else time.sleep(0.25)
                event = json.loads(message) if isinstance(message, str) and message else {}
            except websocket.WebSocketTimeoutException:
                pass
            except (websocket.WebSocketException, OSError):
                events = None
            data = event.get("data") or {}
            if event.get("type") in ("executing", "progress") and data.get("node"):
                kind = prompt.get(str(data["node"]), {}).get("class_type", "unknown")
                last = node_label(data["node"], kind), data.get("value"), data.get("max")
            progress(*last)
            if time.monotonic() - polled_at > 0.2 or event.get("type") not in ("progress", "progress_state", "status"):
                entry, polled_at = self.get(f"/history/{prompt_id}").get(prompt_id), time.monotonic()
                if entry is not None:
                    return entry

    @contextlib.contextmanager
    def _explain_loss(self) -> Iterator[None]:
        """Turn failed requests into a `ServerError` that says whether the server died."""
        try:
            yield
        except (OSError, ValueError) as error:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.5)  # a dying process closes its socket a moment before it ends
            died = self._process.poll() is not None
            what = "exited during the run." if died else f"does not respond at {self.url} ({error})."
            raise ServerError(f"ComfyUI {what}{self._log_end()}") from error


def _explain_node_errors(node_errors: dict, prompt: dict) -> list[str]:
    """A sentence for each fault in the `node_errors` of ComfyUI's /prompt."""
    sentences = []
    for node_id in sorted(node_errors, key=id_order):
        label = prompt_label(node_id, prompt.get(node_id) or node_errors[node_id])
        for error in node_errors[node_id].get("errors", []):
            parts = (error.get("message"), error.get("details"))
            sentences.append(f"{label}: {': '.join(dict.fromkeys(part for part in parts if part))}")
    return sentences


def _raise_failure(entry: dict, prompt: dict) -> None:
    status = entry.get("status") or {}
    for kind, data in status.get("messages", []):
        node_id = str(data.get("node_id"))
        node_type = data.get("node_type") or prompt.get(node_id, {}).get("class_type", "unknown")
        if kind == "execution_error":
            message, trace = data.get("exception_message", "").strip(), "".join(data.get("traceback") or [])
            raise NodeFailed(node_id, node_type, message, data.get("exception_type", ""), trace)
        if kind == "execution_interrupted":
            raise NodeFailed(node_id, node_type, "the run was interrupted")
    if status.get("status_str") == "error":
        raise ServerError(f"ComfyUI reports an error without naming a node: {status}")
