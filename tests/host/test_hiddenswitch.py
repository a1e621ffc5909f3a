"""The pack in the pip-installable ComfyUI (hiddenswitch): its embedded client, and a worker over RabbitMQ.

MASKWRIGHT_HIDDENSWITCH_PYTHON names a Python that has it, and MASKWRIGHT_AMQP_URI a broker, such as
``amqp://guest:guest@127.0.0.1``.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import comfyui
import numpy as np
import pytest
import torch
from builtin_engine import BuiltinEngine
from maskwright.nodes import _host as host
from PIL import Image
from workflow.read_workflow import read_workflow
from workflow.to_prompt import to_prompt

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "example_workflows"
PYTHON, BROKER = os.environ.get("MASKWRIGHT_HIDDENSWITCH_PYTHON"), os.environ.get("MASKWRIGHT_AMQP_URI")
WHY_SKIPPED = "" if PYTHON else "MASKWRIGHT_HIDDENSWITCH_PYTHON names no Python with the pip-installable ComfyUI"
TIME_LIMIT = 180  # seconds; its first import takes a while

# Two clients one after the other: the second loads all nodes again in the same process.
CLIENT = """
import asyncio, json, sys
from comfy.client.embedded_comfy_client import Comfy

async def main():
    first, *others = json.load(open(sys.argv[1]))
    for prompts in ([first], others):
        async with Comfy() as client:
            for prompt in prompts:
                try:
                    answer = {"outputs": await client.queue_prompt(prompt)}
                except Exception as error:
                    answer = {"error": str(error)}
                print("ANSWER", json.dumps(answer), flush=True)

asyncio.run(main())
"""
START = "from comfy.{} import entrypoint; entrypoint()"


@pytest.fixture(scope="module")
def expected() -> Iterator[tuple[list[dict], dict[str, np.ndarray]]]:
    """The examples as prompts, and the images that the built-in engine makes of them, by name."""
    prompts, images = [], {}
    with pytest.MonkeyPatch.context() as patch, BuiltinEngine() as engine:
        patch.setattr(host, "device", lambda: torch.device("cpu"))
        for file in _assets():
            engine.copy_input(file)
        for name in ("mask_edges", "text_to_mask", "remove_background"):
            workflow = read_workflow(EXAMPLES / f"{name}.json")
            prompts.append(to_prompt(workflow, engine.object_info(), lambda kind: f"is unknown: {kind}"))
            for file in engine.queue(prompts[-1]).files:
                images[file.path.name] = np.array(Image.open(file.path))
    yield prompts, images


def _assets() -> list[Path]:
    return [file for file in (EXAMPLES / "assets").iterdir() if file.suffix in {".png", ".jpg"}]


def make_invalid_prompt() -> dict:
    """Refused by the node alone: a value that comes through a link is not checked by ComfyUI."""
    return {
        "1": {"class_type": "SolidMask", "inputs": {"value": 1.0, "width": 32, "height": 24}},
        "2": {"class_type": "PrimitiveInt", "inputs": {"value": -7}},
        "3": {"class_type": "GradientRegion", "inputs": {"masks": ["1", 0], "kernel_size": ["2", 0]}},
        "4": {"class_type": "MaskToImage", "inputs": {"mask": ["3", 0]}},
        "5": {"class_type": "PreviewImage", "inputs": {"images": ["4", 0]}},
    }


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    for name in ("custom_nodes", "models", "input", "output"):
        (tmp_path / name).mkdir()
    comfyui.link_pack(ROOT, tmp_path / "custom_nodes" / comfyui.LINK_NAME)
    for file in _assets():
        shutil.copy(file, tmp_path / "input")
    return tmp_path


@pytest.fixture
def start_python(workspace: Path) -> Iterator[Callable[..., Path]]:
    """Starts Python code there, and gives its log; all ends with the test."""
    running = []

    def begin(code: str, *arguments: str) -> Path:
        log = workspace / f"log{len(running)}.txt"
        with open(log, "wb") as file:
            process = subprocess.Popen(
                [PYTHON, "-c", code, *arguments],
                cwd=workspace,
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, "CUDA_VISIBLE_DEVICES": "", "PYTHONIOENCODING": "utf-8"},
                start_new_session=os.name == "posix",
            )
        running.append(process)
        return log

    yield begin
    for process in running:
        comfyui.end_process(process)


def wait_for(what: Callable[[], object], log: Path) -> object:
    began = time.monotonic()
    while time.monotonic() - began < TIME_LIMIT:
        try:
            result = what()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            result = None
        if result:
            return result
        time.sleep(0.3)
    pytest.fail(f"nothing within {TIME_LIMIT} seconds; the log ends:\n{log.read_text('utf-8', 'replace')[-3000:]}")


def check_images(workspace: Path, images: dict[str, np.ndarray]) -> None:
    written = {path.name: np.array(Image.open(path)) for path in (workspace / "output").glob("*.png")}
    assert {*written} == {*images}
    for name, pixels in images.items():
        np.testing.assert_array_equal(written[name], pixels, err_msg=name)


def test_embedded_client_images_and_error(expected, workspace, start_python) -> None:
    prompts, images = expected
    file = workspace / "prompts.json"
    file.write_text(json.dumps([*prompts, make_invalid_prompt()]), encoding="utf-8")
    log = start_python(CLIENT, str(file))

    def answers() -> list[dict]:
        lines = log.read_text("utf-8", "replace").splitlines()
        messages = [json.loads(line.removeprefix("ANSWER ")) for line in lines if line.startswith("ANSWER ")]
        return messages if len(messages) > len(prompts) else []

    *results, wrong = wait_for(answers, log)
    assert [each.get("error") for each in results] == [None] * len(prompts)
    check_images(workspace, images)
    assert wrong == {"error": "kernel_size is -7, which is out of range. Use a whole number from 1 to 65535."}


@pytest.mark.skipif(not BROKER, reason="MASKWRIGHT_AMQP_URI names no RabbitMQ")
def test_rabbitmq_worker_images_and_error(expected, workspace, start_python) -> None:
    prompts, images = expected
    port = comfyui.free_port()
    queue = f"maskwright-{uuid.uuid4().hex}"
    common = [f"--distributed-queue-connection-uri={BROKER}", f"--distributed-queue-name={queue}"]
    start_python(START.format("entrypoints.worker"), "--cwd", str(workspace), *common)
    frontend = ["--cwd", str(workspace), "--port", str(port), "--distributed-queue-frontend"]
    log = start_python(START.format("cmd.main"), *frontend, *common)

    def ask(path: str, body: dict | None = None) -> dict:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    wait_for(lambda: ask("/system_stats"), log)

    def run(prompt: dict) -> dict:
        number = ask("/prompt", {"prompt": prompt})["prompt_id"]
        return wait_for(lambda: ask(f"/history/{number}").get(number, {}).get("status"), log)

    for prompt in prompts:
        status = run(prompt)
        assert status["status_str"] == "success", status
    check_images(workspace, images)
    assert "kernel_size is -7, which is out of range" in str(run(make_invalid_prompt())["messages"])
