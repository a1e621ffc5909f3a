"""The languages that ComfyUI's editor shows the pack in."""

from __future__ import annotations

import re

import translations
from pack import ROOT


def test_every_language_has_all_that_the_nodes_and_settings_say() -> None:
    assert translations.faults() == []


def test_settings_are_those_of_the_editor_s_code() -> None:
    code = (ROOT / "web" / "js" / "maskwright.js").read_text(encoding="utf-8")
    english = translations.read("en", "settings")
    assert sorted(re.findall(r'id: "([\w.]+)"', code)) == sorted(key.replace("_", ".") for key in english)
    for setting in english.values():
        for text in (setting["name"], setting["tooltip"], *setting.get("options", {})):
            assert f'"{text}"' in code


def test_no_translation_is_left_in_english() -> None:
    for kind in ("main", "nodeDefs", "settings"):
        english = translations.read("en", kind)
        long = [key for key in translations.keys(english) if len(at(english, key)) > 24]
        for language in translations.LANGUAGES[1:]:
            other = translations.read(language, kind)
            assert [key for key in long if at(english, key) == at(other, key)] == [], language


def at(tree: dict, key: str) -> str:
    for part in key.split("."):
        tree = tree[part]
    return tree


def test_no_text_is_taken_for_the_editor_s_own_syntax() -> None:
    """The editor shows one side of a bare | only, and an @ or a brace not at all."""
    assert translations.as_message("a | b") == "a {'|'} b"
    for language in translations.LANGUAGES:
        for kind in ("nodeDefs", "settings"):
            said = translations.read(language, kind)
            for key in translations.keys(said):
                assert not re.search(r"[|@{}]", re.sub(r"\{'.'\}", "", at(said, key))), f"{language}: {key}"


def test_a_node_beside_another_pack_s_is_translated_too() -> None:
    for language in translations.LANGUAGES[1:]:
        said = translations.read(language, "nodeDefs")
        second = said["MaskDetailerPipe (Maskwright)"]
        assert second["inputs"] == said["MaskDetailerPipe"]["inputs"]
        assert second["display_name"] == f"{said['MaskDetailerPipe']['display_name']} (Maskwright)"


def test_ids_of_other_packs_are_theirs_to_name() -> None:
    from maskwright.nodes import _compat

    for language in translations.LANGUAGES:
        assert not set(_compat.OLD_IDS) & set(translations.read(language, "nodeDefs"))
