"""models/onnx_runtime.py: sessions on the GPU or the CPU, and warnings. ONNX Runtime is a fake here."""

from __future__ import annotations

import errno
import logging
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fake_host import FakeHost
from maskwright.core.errors import DependencyError, ModelError
from maskwright.models import onnx_runtime

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
GPU_THERE, NO_GPU = torch.device("cuda", 0), torch.device("cpu")


class FakeOptions(types.SimpleNamespace):
    def add_session_config_entry(self, name: str, value: str) -> None:
        setattr(self, name, value)


class FakeRuntime(types.ModuleType):
    """ONNX Runtime with the providers that it has, and those that really start."""

    def __init__(self, has: list[str], starts: list[str], version: str = "1.26.0", cuda: str = "12.9") -> None:
        super().__init__("onnxruntime")
        self.has, self.starts, self.__version__, self.cuda_version = has, starts, version, cuda
        self.asked: list[list] = []
        self.fault: Callable[[list], None] = lambda providers: None
        self.SessionOptions = FakeOptions
        runtime = self

        class InferenceSession:
            def __init__(self, path: str, options: FakeOptions, providers: list, enable_fallback: int) -> None:
                assert enable_fallback == 0, "ONNX Runtime would go on on the CPU by itself"
                runtime.asked.append(providers)
                runtime.options = vars(options)
                runtime.fault(providers)
                names = [each if isinstance(each, str) else each[0] for each in providers]
                self._providers = [name for name in names if name in runtime.starts]

            def enable_fallback(self) -> None:
                """From here on it may."""

            def get_providers(self) -> list[str]:
                return self._providers

        self.InferenceSession = InferenceSession

    def get_available_providers(self) -> list[str]:
        return self.has


@pytest.fixture
def computer(monkeypatch: pytest.MonkeyPatch) -> Callable[..., FakeRuntime]:
    """A function that sets up the installed packages with their versions, and the CUDA of PyTorch."""

    def set_up(packages: dict[str, str], torch_cuda: str | None = "12.8", **runtime: object) -> FakeRuntime:
        fake = FakeRuntime(**runtime)
        monkeypatch.setitem(sys.modules, "onnxruntime", fake)
        monkeypatch.setattr(onnx_runtime, "_version", packages.get)
        monkeypatch.setattr(torch.version, "cuda", torch_cuda)
        monkeypatch.setattr(torch.version, "hip", None)
        monkeypatch.setattr(onnx_runtime, "_warned", set())
        monkeypatch.setattr(sys, "platform", "linux")
        monkeypatch.setattr(sys, "executable", "/comfy/python")
        monkeypatch.setattr(onnx_runtime.platform, "machine", lambda: "x86_64")
        return fake

    return set_up


def open_it(device: torch.device = GPU_THERE) -> object:
    return onnx_runtime.open_session(Path("model.onnx"), device, "Get it again")


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_open_session_uses_cuda(computer: Callable, caplog: pytest.LogCaptureFixture) -> None:
    runtime = computer({"onnxruntime-gpu": "1.26.0"}, has=[CUDA, CPU], starts=[CUDA, CPU])
    assert open_it(torch.device("cuda", 1)).get_providers() == [CUDA, CPU]
    (asked,) = runtime.asked
    assert asked[0][0] == CUDA and asked[0][1]["device_id"] == "1" and asked[1] == CPU
    assert warnings(caplog) == []


def test_open_session_on_the_cpu_warns_of_nothing(computer: Callable, caplog: pytest.LogCaptureFixture) -> None:
    runtime = computer({"onnxruntime-gpu": "1.26.0"}, has=[CUDA, CPU], starts=[CUDA, CPU])
    assert open_it(NO_GPU).get_providers() == [CPU]
    assert runtime.asked == [[CPU]] and warnings(caplog) == []


BOTH = {"onnxruntime": "1.25.0", "onnxruntime-gpu": "1.26.0"}
GPU_ONLY = {"onnxruntime-gpu": "1.26.0"}
UNINSTALL = "/comfy/python -m pip uninstall -y onnxruntime onnxruntime-gpu, then /comfy/python -m pip install "
FOR_12, FOR_13 = '"onnxruntime-gpu>=1.19.2,<1.27"', '"onnxruntime-gpu>=1.27"'
CAUSES: dict[str, tuple[dict, dict, list[str]]] = {
    "both installed": (
        BOTH,
        {"has": [CPU], "starts": [CPU]},
        ["onnxruntime 1.25.0 and onnxruntime-gpu 1.26.0 are both installed", UNINSTALL + FOR_12],
    ),
    "only the one for CPUs": (
        {"onnxruntime": "1.26.0"},
        {"has": [CPU], "starts": [CPU]},
        ["onnxruntime 1.26.0 is the CPU version", UNINSTALL + FOR_12],
    ),
    "from elsewhere than pip": (
        {},
        {"has": [CPU], "starts": [CPU], "version": "1.26.0"},
        ["onnxruntime 1.26.0 is the CPU version"],
    ),
    "built for a newer CUDA": (
        {"onnxruntime-gpu": "1.30.0"},
        {"has": [CUDA, CPU], "starts": [CPU], "version": "1.30.0", "cuda": "13.0"},
        ["built for CUDA 13, but PyTorch includes CUDA 12.8", UNINSTALL + FOR_12],
    ),
    "built for an older CUDA": (
        GPU_ONLY,
        {"has": [CUDA, CPU], "starts": [CPU], "torch_cuda": "13.0"},
        ["built for CUDA 12, but PyTorch includes CUDA 13.0", UNINSTALL + FOR_13],
    ),
    "an old one that does not tell its CUDA": (
        {"onnxruntime-gpu": "1.18.1"},
        {"has": [CUDA, CPU], "starts": [CPU], "version": "1.18.1", "cuda": ""},
        ["built for CUDA 11", FOR_12],
    ),
    "a library is missing": (
        GPU_ONLY,
        {"has": [CUDA, CPU], "starts": [CPU]},
        ["could not start it", "cuDNN", "--force-reinstall"],
    ),
    "files of the GPU's package are gone": (
        GPU_ONLY,
        {"has": [CPU], "starts": [CPU]},
        ["onnxruntime-gpu 1.26.0 is installed, but", "--force-reinstall"],
    ),
}


@pytest.mark.parametrize(("packages", "runtime", "expected"), CAUSES.values(), ids=CAUSES)
def test_open_session_warns_once_why_the_gpu_is_unused(
    computer: Callable, caplog: pytest.LogCaptureFixture, packages: dict, runtime: dict, expected: list[str]
) -> None:
    computer(packages, **runtime)
    assert open_it().get_providers() == [CPU]
    open_it()
    (warning,) = warnings(caplog)
    for words in expected:
        assert words in warning


def test_open_session_warns_of_another_cause(computer: Callable, caplog: pytest.LogCaptureFixture) -> None:
    runtime = computer(GPU_ONLY, has=[CPU], starts=[CPU])
    open_it()
    runtime.has = [CUDA, CPU]
    open_it()
    assert len(warnings(caplog)) == 2


def test_open_session_falls_back_if_cuda_raises(computer: Callable, caplog: pytest.LogCaptureFixture) -> None:
    runtime = computer(GPU_ONLY, has=[CUDA, CPU], starts=[CPU])

    def fault(providers: list) -> None:
        if providers != [CPU]:
            raise RuntimeError("CUDA_PATH is set but CUDA wasn't able to be loaded")

    runtime.fault = fault
    assert open_it().get_providers() == [CPU]
    assert len(warnings(caplog)) == 1


NO_MEMORY = "Failed to allocate memory for requested buffer of size 9437184"


@pytest.mark.parametrize(
    "said", [NO_MEMORY, "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED", "CUDA failure 2: out of memory"]
)
def test_open_session_frees_memory_of_a_full_gpu(
    computer: Callable, caplog: pytest.LogCaptureFixture, said: str
) -> None:
    runtime = computer(GPU_ONLY, has=[CUDA, CPU], starts=[CUDA, CPU])
    host = FakeHost()

    def fault(providers: list) -> None:
        if providers != [CPU] and not host.freed:
            raise RuntimeError(said)

    runtime.fault = fault
    session = onnx_runtime.open_session(Path("big.onnx"), GPU_THERE, "Get it again", host)
    assert session.get_providers() == [CUDA, CPU]
    assert host.freed == 1 and warnings(caplog) == []


def test_open_session_warns_of_a_gpu_that_is_too_small(computer: Callable, caplog: pytest.LogCaptureFixture) -> None:
    runtime = computer(GPU_ONLY, has=[CUDA, CPU], starts=[CUDA, CPU])

    def fault(providers: list) -> None:
        if providers != [CPU]:
            raise RuntimeError(NO_MEMORY)

    runtime.fault = fault
    host = FakeHost()
    session = onnx_runtime.open_session(Path("big.onnx"), GPU_THERE, "Get it again", host)
    assert session.get_providers() == [CPU] and host.freed == 1
    (warning,) = warnings(caplog)
    assert "big.onnx needs more GPU memory than is available" in warning and "pip" not in warning


def test_open_session_warns_of_an_amd_gpu(
    computer: Callable, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    computer({"onnxruntime": "1.26.0"}, torch_cuda=None, has=[CPU], starts=[CPU])
    monkeypatch.setattr(torch.version, "hip", "6.4")
    open_it()
    (warning,) = warnings(caplog)
    assert "AMD" in warning and "onnxruntime-rocm" in warning


def test_open_session_stops_spinning_threads(computer: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    runtime = computer({}, has=[CPU], starts=[CPU])
    open_it(NO_GPU)
    assert runtime.options["session.force_spinning_stop"] == "1"
    assert runtime.options["intra_op_num_threads"] == 3


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("No Op registered for NewOp", "it needs a newer ONNX Runtime than 1.26.0"),
        ("opset_model.onnx failed: external data is missing", "cannot be loaded by ONNX Runtime 1.26.0"),
        ("INVALID_PROTOBUF: opset_model.onnx", "it is not an ONNX model, or is incomplete"),
    ],
)
def test_open_session_explains_errors_of_onnxruntime(computer: Callable, said: str, expected: str) -> None:
    runtime = computer({}, has=[CPU], starts=[CPU])

    def fault(providers: list) -> None:
        raise RuntimeError(said + " " + "x" * 1000 + " the end")

    runtime.fault = fault
    with pytest.raises(ModelError) as caught:
        onnx_runtime.open_session(Path("opset_model.onnx"), NO_GPU, "Get it again")
    assert expected in caught.value.problem and "the end)" in caught.value.problem and len(caught.value.problem) < 600


NO_MEMORY_ON_THE_CPU = [
    RuntimeError("std::bad_alloc"),
    MemoryError("Unable to allocate 4.47 GiB for an array"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    RuntimeError("[ONNXRuntimeError] : 1 : FAIL : Load model from model.onnx failed:system error number 12"),
]


@pytest.mark.parametrize("error", NO_MEMORY_ON_THE_CPU, ids=str)
def test_open_session_retries_after_freeing_memory(computer: Callable, error: Exception) -> None:
    """If the retry fails too, the file is not blamed."""
    runtime = computer({}, has=[CPU], starts=[CPU])
    failures = [error, None]

    def fault(providers: list) -> None:
        if failure := failures.pop(0):
            raise failure

    runtime.fault = fault
    host = FakeHost()
    session = onnx_runtime.open_session(Path("model.onnx"), NO_GPU, "Get it again", host)
    assert session.get_providers() == [CPU] and host.freed == 1

    failures = [error, error]
    with pytest.raises(MemoryError, match=r"not enough memory to load .*model\.onnx"):
        open_it(NO_GPU)


@pytest.mark.parametrize("says", ["the system", "ONNX Runtime"])
def test_open_session_of_an_unreadable_file(
    computer: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, says: str
) -> None:
    runtime = computer({}, has=[CPU], starts=[CPU])
    path = tmp_path / "model.onnx"
    path.write_bytes(b"whole")
    refusal = PermissionError(errno.EACCES, "Permission denied")

    def fault(providers: list) -> None:
        if says == "the system":
            raise refusal
        raise RuntimeError(f"[ONNXRuntimeError] : 1 : FAIL : Load model from {path} failed:system error number 13")

    def refuse(*_: object, **__: object) -> None:
        raise refusal

    runtime.fault = fault
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ModelError) as caught:
        onnx_runtime.open_session(path, NO_GPU, "Delete it")
    assert str(path) in caught.value.problem and "is not readable" in caught.value.problem
    assert "permission to read" in caught.value.remedy and "Delete" not in str(caught.value)


def test_open_session_names_a_broken_file_with_its_size(computer: Callable, tmp_path: Path) -> None:
    runtime = computer(GPU_ONLY, has=[CUDA, CPU], starts=[CPU])

    def fault(providers: list) -> None:
        raise RuntimeError("[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Protobuf parsing failed.\nsecond line")

    runtime.fault = fault
    path = tmp_path / "model.onnx"
    path.write_bytes(b"<html>")
    with pytest.raises(ModelError) as caught:
        onnx_runtime.open_session(path, GPU_THERE, "Get it again")
    assert f"{path} (6 bytes)" in caught.value.problem and "INVALID_PROTOBUF" in caught.value.problem
    assert "second line" not in caught.value.problem
    assert caught.value.remedy == "Get it again"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A function that installs an onnxruntime with the given source before the real one."""

    def install(source: str) -> None:
        for name in [name for name in sys.modules if name.split(".")[0] == "onnxruntime"]:
            monkeypatch.delitem(sys.modules, name)
        (tmp_path / "onnxruntime").mkdir()
        (tmp_path / "onnxruntime" / "__init__.py").write_text(source, encoding="utf-8")
        monkeypatch.syspath_prepend(tmp_path)

    return install


@pytest.mark.parametrize(
    "source",
    [
        "import sys; sys.exit(1)",
        "import no_such_package",
        "raise OSError('libcudart.so.12: cannot open shared object file')",
        "raise RuntimeError('module compiled against another ABI')",
        "raise AttributeError('_ARRAY_API not found')",
    ],
)
def test_onnxruntime_import_that_fails_is_named(computer: Callable, installed: Callable, source: str) -> None:
    computer({}, has=[CPU], starts=[CPU])
    installed(source)
    with pytest.raises(DependencyError, match="onnxruntime is missing or does not work") as caught:
        open_it()
    assert f"/comfy/python -m pip install rembg {FOR_12}" in caught.value.remedy


@pytest.mark.parametrize("kind", ["KeyboardInterrupt", "GeneratorExit"])
def test_onnxruntime_passes_on_interrupts(installed: Callable, kind: str) -> None:
    installed(f"raise {kind}")
    with pytest.raises(BaseException) as caught:
        onnx_runtime.onnxruntime()
    assert type(caught.value).__name__ == kind


@pytest.mark.parametrize(
    ("platform", "machine", "cuda", "package"),
    [
        ("darwin", "arm64", None, "onnxruntime"),
        ("linux", "aarch64", "12.8", "onnxruntime"),
        ("linux", "x86_64", None, "onnxruntime"),
        ("win32", "AMD64", "13.0", "onnxruntime-gpu>=1.27"),
        ("linux", "x86_64", "14.0", "onnxruntime-gpu"),
    ],
)
def test_best_package(
    computer: Callable, monkeypatch: pytest.MonkeyPatch, platform: str, machine: str, cuda: str | None, package: str
) -> None:
    computer({}, torch_cuda=cuda, has=[CPU], starts=[CPU])
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(onnx_runtime.platform, "machine", lambda: machine)
    assert onnx_runtime.best_package() == package


def test_open_session_names_the_empty_folder_of_an_uninstall(
    computer: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    computer({}, has=[CPU], starts=[CPU])
    monkeypatch.setitem(sys.modules, "onnxruntime", types.ModuleType("onnxruntime"))
    with pytest.raises(DependencyError, match="broken.*--force-reinstall"):
        open_it()
