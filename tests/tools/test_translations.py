"""The languages that ComfyUI's editor shows the pack in."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import translations
from pack import ROOT


def test_faults_finds_none_in_the_committed_files() -> None:
    assert translations.faults() == []


def test_settings_match_the_editor_s_code() -> None:
    code = (ROOT / "web" / "js" / "maskwright.js").read_text(encoding="utf-8")
    english = translations.read("en", "settings")
    assert sorted(re.findall(r'id: "([\w.]+)"', code)) == sorted(key.replace("_", ".") for key in english)
    for setting in english.values():
        for text in (setting["name"], setting["tooltip"], *setting.get("options", {})):
            assert f'"{text}"' in code


def test_translations_differ_from_english() -> None:
    for kind in ("main", "nodeDefs", "settings"):
        english = translations.texts_of(translations.read("en", kind))
        for language in translations.LANGUAGES[1:]:
            other = translations.texts_of(translations.read(language, kind))
            same = [key for key, text in english.items() if len(text) > 24 and other[key] == text]
            assert same == [], language


def test_syntax_faults_names_texts_that_the_editor_would_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some editors show one side of a bare vertical bar only; others show an escaped one with its escape."""
    assert translations.syntax_faults() == []
    monkeypatch.setattr(translations, "LOCALES", tmp_path)
    translations.write("zh", {"A": {"tooltip": "one | two"}, "B": {"tooltip": "{'|'}"}, "C": {"name": "plain"}})
    assert [fault.split(" ")[1] for fault in translations.syntax_faults()] == ["A.tooltip", "B.tooltip"]


def test_with_second_ids_repeats_the_texts() -> None:
    for language in translations.LANGUAGES[1:]:
        texts = translations.read(language, "nodeDefs")
        second = texts["MaskDetailerPipe (Maskwright)"]
        assert second["inputs"] == texts["MaskDetailerPipe"]["inputs"]
        assert second["display_name"] == f"{texts['MaskDetailerPipe']['display_name']} (Maskwright)"


def test_node_definitions_omit_ids_of_other_packs() -> None:
    from maskwright.nodes import _compat

    for language in translations.LANGUAGES:
        assert not set(_compat.OLD_IDS) & set(translations.read(language, "nodeDefs"))
