"""Other packs in the process of a benchmark, without a ComfyUI."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

import hosted

PACK = """
class Double:
    FUNCTION = "run"

    def run(self, value):
        print("a message")
        return (2 * value,)

NODE_CLASS_MAPPINGS = {"Double": Double}
"""


@pytest.fixture
def pack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in hosted.PACKS.values():
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(hosted, "_nodes", {})
    monkeypatch.setattr(hosted, "_loaded", set())
    folder = tmp_path / "some-pack"
    folder.mkdir()
    (folder / "__init__.py").write_text(PACK, "utf-8")
    monkeypatch.setenv("KJNODES_PATH", str(folder))
    monkeypatch.setitem(sys.modules, "pack_some-pack", None)  # restored afterwards
    return folder


def test_import_packs_makes_nodes_callable(pack: Path, capsys: pytest.CaptureFixture) -> None:
    hosted.import_packs("KJNodes", "LayerStyle")
    assert hosted.select_available({"KJNodes": len, "LayerStyle": len}) == {"KJNodes": len}
    assert hosted.call_node("Double", value=3) == (6,) and capsys.readouterr().out == ""


def test_import_packs_leaves_out_a_pack_that_does_not_load(pack: Path, capsys: pytest.CaptureFixture) -> None:
    (pack / "__init__.py").write_text("import missing_module_of_a_pack", "utf-8")
    hosted.import_packs("KJNodes")
    assert "KJNodes does not load: ModuleNotFoundError" in capsys.readouterr().out and hosted._nodes == {}


def test_describe_packs_names_versions(pack: Path) -> None:
    assert hosted.describe_packs("LayerStyle") == ""
    assert hosted.describe_packs("KJNodes", "LayerStyle") == "Measured with KJNodes of unknown version."
    (pack / "pyproject.toml").write_text('[project]\nversion = "1.5.0"\n', "utf-8")
    assert hosted.describe_packs("KJNodes") == "Measured with KJNodes 1.5.0."
