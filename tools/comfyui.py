"""Run workflows in ComfyUI: a headless server on loopback with a scratch folder, for the length of a `with` block."""

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
from find_comfyui import ComfyUI, find_comfyui  # noqa: F401 - callers need both
from pack import ROOT
from server_process import BOOTSTRAP, end_process, free_port, has_accelerator, link_pack, remove_folder
from workflow.engine_interface import (
    BadWorkflow,
    NodeFailed,
    Progress,
    RunResult,
    WorkflowError,
    id_order,
    node_label,
    output_files,
)
from workflow.graph import prompt_label
from workflow.input_files import copy_into

if TYPE_CHECKING:
    from typing_extensions import Self

LINK_NAME = "maskwright-linked"  # a dash, so that nothing can rely on an importable folder name
LOG_LINES = 30  # in errors
# Model folders that packs add themselves: named here so that they are found in the user's models folder too.
PACK_MODEL_FOLDERS = ("clipseg", "clip_seg", "rembg", "onnx")


class ServerError(Exception):
    """ComfyUI could not be started, or stopped answering. The text says which, with the end of its log."""


class Server:
    """A headless ComfyUI in its own scratch folder, on 127.0.0.1 and a free port.

    The scratch folder holds custom_nodes (this pack, and `packs`), models, input, output, temp and user. It is removed
    at the end, and the server ended, also when this process dies in any way.
    """

    name = "ComfyUI"

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
            root: This pack's folder; None: without it.
            packs: Folders of other packs to load.
            models: A models folder to use, also for downloads; None: an empty one.
            cpu: Use the CPU even if there is an accelerator.
            time_limit: For the start, in seconds.
            keep: Leave the scratch folder.
            arguments: More of ComfyUI's own.
            progress: Called during the start.

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

    # -- life ---------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The server's address, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The server's process id, on POSIX also its process group's."""
        return self._process.pid

    @property
    def log(self) -> Path:
        """The file with everything the server printed."""
        return self.base / "comfyui.log"

    def start(self) -> None:
        """Start the server and wait until it answers. Raises: `ServerError` with its last log lines if it does not."""
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
        # as_posix: the form that SQLAlchemy takes on Windows too.
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
                # Its own group: Ctrl-C in the terminal reaches only us, and the whole group can be ended.
                start_new_session=os.name == "posix",
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )

    def _write_model_paths(self) -> Path:
        """Point ComfyUI at every folder under the given models folder, as the first place, so downloads go there."""
        models = Path(self._models).absolute()
        folders = [child.name for child in sorted(models.iterdir()) if child.is_dir()] if models.is_dir() else []
        paths = {name: name for name in dict.fromkeys([*folders, *PACK_MODEL_FOLDERS])}
        file = self.base / "model_paths.yaml"
        # JSON is YAML, and quotes any path correctly.
        file.write_text(json.dumps({"models": {"base_path": str(models), "is_default": True, **paths}}), "utf-8")
        return file

    def _wait_until_ready(self) -> None:
        began = time.monotonic()
        while True:
            if self._process.poll() is not None:
                code = self._process.returncode
                raise ServerError(f"ComfyUI ended before it answered (exit {code}).{self._log_end()}")
            with contextlib.suppress(OSError, ValueError):  # not listening yet
                self.get("/system_stats", timeout=5)
                return
            if time.monotonic() - began > self._time_limit:
                raise ServerError(f"ComfyUI did not answer within {self._time_limit:.0f} seconds.{self._log_end()}")
            self._progress("starting ComfyUI", None, None)
            time.sleep(0.2)

    def _log_end(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines() if self.log.is_file() else []
        return "\n  ".join([" The end of its log:", *lines[-LOG_LINES:]])

    # -- requests -----------------------------------------------------------------------------------------------

    def get(self, path: str, timeout: float = 60.0) -> dict:
        """The JSON at a path of the server. Raises: `OSError` or `ValueError` if there is none."""
        answer = self._session.get(self.url + path, timeout=timeout)
        answer.raise_for_status()
        return answer.json()

    @property
    def input_folder(self) -> Path:
        """The folder that LoadImage reads from."""
        return self.base / "input"

    def copy_input(self, file: Path, name: str | None = None) -> str:
        """As `copy_into`, into the input folder."""
        return copy_into(self.input_folder, file, name)

    def object_info(self) -> dict:
        """Every node this server knows: {type: schema}. Raises: `ServerError` if it does not answer."""
        with self._explain_loss():
            return self.get("/object_info")

    def model_folders(self, kind: str) -> list[Path]:
        """The folders where this server looks for models of a kind, those of `extra_model_paths.yaml` included."""
        try:  # no public route names folders; the editor uses this one
            folders = self.get("/internal/folder_paths")
        except (OSError, ValueError):
            folders = {}
        return [Path(folder) for folder in folders.get(kind, [self.comfyui.path / "models" / kind])]

    def unknown(self, node_type: str) -> str:
        """The end of the sentence "node 7 (KSampler) ..." for a type this server does not know."""
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
        """Ask the server to stop the run in progress; no error if it is gone already."""
        with contextlib.suppress(OSError):
            self._session.post(f"{self.url}/interrupt", json={}, timeout=5)

    def queue(self, prompt: dict, *, extra_pnginfo: dict | None = None, progress: Progress | None = None) -> RunResult:
        """Run an API-format prompt and wait for it. On Ctrl-C the run is interrupted first.

        Args: ``extra_pnginfo``, what SaveImage writes into its files beside the prompt.
        Returns: the results; the files are in the scratch folder.
        Raises: `BadWorkflow` if ComfyUI refuses it; `NodeFailed` if a node fails; `ServerError` if the server dies.
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
        outputs = entry.get("outputs", {})
        return RunResult(outputs, output_files(outputs, self.base))

    def _submit(self, body: dict) -> str:
        response = self._session.post(f"{self.url}/prompt", json=body, timeout=60)
        try:
            answer = response.json()
        except ValueError:
            raise WorkflowError(f"ComfyUI refuses the workflow: {response.text[:500]}{self._log_end()}") from None
        if answer.get("node_errors"):
            if "prompt_id" in answer:  # ComfyUI would run the good part and drop the rest without a word
                self._session.post(f"{self.url}/queue", json={"delete": [answer["prompt_id"]]}, timeout=60)
                self.interrupt()
            raise BadWorkflow(_explain_node_errors(answer["node_errors"], body["prompt"]))
        if "prompt_id" not in answer:
            reason = answer.get("error") or {}
            text = f"{reason.get('message', response.text)} {reason.get('details', '')}".strip()
            raise WorkflowError(f"ComfyUI refuses the workflow: {text}")
        return answer["prompt_id"]

    @contextlib.contextmanager
    def _events(self, client_id: str) -> Iterator[websocket.WebSocket | None]:
        """The server's websocket, or None: progress is a courtesy, the run itself is followed through /history."""
        try:
            url = f"ws://127.0.0.1:{self.port}/ws?clientId={client_id}"
            events = websocket.create_connection(url, timeout=0.25, http_no_proxy="127.0.0.1")
        except (websocket.WebSocketException, OSError):
            yield None
            return
        with contextlib.closing(events):
            yield events

    def _wait_for(self, prompt_id: str, prompt: dict, events: websocket.WebSocket | None, progress: Progress) -> dict:
        last, asked = ("waiting for ComfyUI", None, None), 0.0
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
            if time.monotonic() - asked > 0.2 or event.get("type") not in ("progress", "progress_state", "status"):
                entry, asked = self.get(f"/history/{prompt_id}").get(prompt_id), time.monotonic()
                if entry is not None:
                    return entry

    @contextlib.contextmanager
    def _explain_loss(self) -> Iterator[None]:
        """Turn a request that got no proper answer into a `ServerError` that says whether the server died."""
        try:
            yield
        except (OSError, ValueError) as error:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(0.5)  # a dying process closes its socket a moment before it ends
            ended = self._process.poll() is not None
            what = "ended in the middle of the run." if ended else f"does not answer at {self.url} ({error})."
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
