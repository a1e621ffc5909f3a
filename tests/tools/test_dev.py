"""What `tools/dev.py` starts: the examples with the available weights, or the named workflow."""

from __future__ import annotations

import dev
import pytest


class Tools:
    """Records the tools that dev.py starts, by name and arguments, and ends each with a chosen exit code."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.codes: dict[str, int] = {}

    def __call__(self, *arguments: str) -> int:
        names = [argument.replace("\\", "/").rpartition("/")[2] for argument in arguments]
        self.calls.append(names)
        return next((code for name, code in self.codes.items() if name in names), 0)


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch) -> Tools:
    tools = Tools()
    monkeypatch.setattr(dev, "set_up", lambda: None)
    monkeypatch.setattr(dev, "install_comfyui", lambda python: True)
    monkeypatch.setattr(dev, "_python", tools)
    monkeypatch.setattr(dev, "_become", tools)
    monkeypatch.chdir(dev.ROOT)  # `test` and `lint` change the working directory
    return tools


BUILTIN = ["--engine", "builtin"]
U2NETP = ["--set", "ImageSegmentation.model=u2netp"]


@pytest.mark.parametrize("options", [[], ["--output", "results", "--debug"], ["--engine=comfyui", "--cpu"]])
def test_run_without_a_workflow_runs_both_examples(tools: Tools, options: list[str]) -> None:
    assert dev.main(["run", *options]) == 0
    assert tools.calls == [
        ["fetch_weights.py"],
        ["run_workflow.py", "text_to_mask.json", *BUILTIN, *options],
        ["run_workflow.py", "remove_background.json", *U2NETP, *BUILTIN, *options],
    ]


def test_run_uses_the_demo_model_without_the_weights(tools: Tools) -> None:
    tools.codes["fetch_weights.py"] = 1
    assert dev.main(["run"]) == 0
    assert tools.calls[1:] == [
        ["run_workflow.py", "text_to_mask.json", *BUILTIN],
        ["run_workflow.py", "remove_background.json", *BUILTIN],
    ]


@pytest.mark.parametrize(("name", "code", "count"), [("fetch_weights.py", 130, 1), ("text_to_mask.json", 1, 2)])
def test_run_stops_after_an_interrupt_or_a_failure(tools: Tools, name: str, code: int, count: int) -> None:
    tools.codes[name] = code
    assert dev.main(["run"]) == code
    assert len(tools.calls) == count


@pytest.mark.parametrize("arguments", [["w.json"], ["w.json", "--check"], ["--output", "o", "w.png"], ["--help"]])
def test_run_passes_a_workflow_on_and_fetches_no_weights(tools: Tools, arguments: list[str]) -> None:
    assert dev.main(["run", *arguments]) == 0
    assert tools.calls == [["run_workflow.py", *arguments]]


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (1, 0), (130, 130)])
def test_setup_succeeds_without_the_weights(tools: Tools, code: int, expected: int) -> None:
    tools.codes["fetch_weights.py"] = code
    assert dev.main(["setup"]) == expected
    assert tools.calls == [["fetch_weights.py"]]


@pytest.mark.parametrize("code", [0, 1])
def test_lint_checks_types(tools: Tools, code: int) -> None:
    tools.codes["basedpyright"] = code
    assert dev.main(["lint"]) == code
    assert ["-m", "basedpyright"] in tools.calls


@pytest.mark.parametrize(
    ("arguments", "expected"), [([], ["tests", "-n", "2", "--dist", "loadfile"]), (["-k", "edit"], ["-k", "edit"])]
)
def test_test_runs_all_tests_in_two_processes(tools: Tools, arguments: list[str], expected: list[str]) -> None:
    assert dev.main(["test", *arguments]) == 0
    assert tools.calls[0][-len(expected) - 2 :] == ["--rootdir", ".", *expected]


def test_deep_runs_only_properties(tools: Tools) -> None:
    assert dev.main(["test", "--deep", "-k", "edit"]) == 0
    (command,) = tools.calls
    assert command[-6:] == ["tests", "--hypothesis-profile=deep", "-m", "hypothesis", "-k", "edit"]


@pytest.mark.parametrize("arguments", [["test"], ["test", "--no-comfyui"], ["lint"], ["bench"]])
def test_tests_and_lint_fetch_no_weights(tools: Tools, arguments: list[str]) -> None:
    assert dev.main(arguments) == 0
    assert tools.calls and ["fetch_weights.py"] not in tools.calls
