#!/usr/bin/env python3
"""Writes locales/en/nodeDefs.json from the nodes, and lists what the other languages lack (exit status 1).

    python tools/translations.py

The editor shows `locales/<language>/nodeDefs.json` instead of a node's own texts: names and tooltips of the node, its
inputs and its outputs ("0", "1", ...). Some editors compile these texts and read the characters of `SYNTAX` as syntax;
others show them raw, escapes included. So texts must not contain them.

If another pack has a node's id, the node is called "<id> (Maskwright)", and the other languages repeat its texts for
that id. Ids of other packs' old files have no entries, which would rename the other pack's nodes.
"""

from __future__ import annotations

import json
import sys

from pack import ROOT, load_pack

LOCALES = ROOT / "locales"
LANGUAGES = ("en", "zh", "ja", "de")
KINDS = ("main", "nodeDefs", "settings", "commands")
SYNTAX = "|@{}"  # alternatives (of which one is displayed), links, placeholders


def node_definitions() -> dict:
    """The texts of the nodes that have a help page, as in the editor's nodeDefs.json. The others are the same
    nodes under legacy ids."""
    pack, definitions = load_pack(), {}
    pages = {page.stem for page in (ROOT / "web" / "docs").glob("*.md")}
    for name in sorted(pages & pack.NODE_CLASS_MAPPINGS.keys()):
        node = pack.NODE_CLASS_MAPPINGS[name]
        groups = node.INPUT_TYPES()
        inputs = {**groups.get("required", {}), **groups.get("optional", {})}
        outputs = enumerate(zip(node.RETURN_NAMES, node.OUTPUT_TOOLTIPS))
        definitions[name] = {
            "display_name": pack.NODE_DISPLAY_NAME_MAPPINGS[name],
            "description": node.DESCRIPTION,
            "inputs": {
                key: {"name": options.get("display_name", key), "tooltip": options["tooltip"]}
                for key, (_, options) in inputs.items()
            },
            "outputs": {str(slot): {"name": title, "tooltip": tip} for slot, (title, tip) in outputs},
        }
    return definitions


def all_definitions() -> dict[str, dict]:
    """What nodeDefs.json should contain, by language: other languages repeat the texts under second ids."""
    second = load_pack().nodes._compat.FALLBACK_ID
    definitions = {"en": node_definitions()}
    for language in LANGUAGES[1:]:
        own = {name: texts for name, texts in read(language, "nodeDefs").items() if name in definitions["en"]}
        repeated = {
            second.format(name): {**texts, "display_name": second.format(texts["display_name"])}
            for name, texts in own.items()
        }
        definitions[language] = own | repeated
    return definitions


def read(language: str, kind: str) -> dict:
    """A file of a language; empty if it does not exist."""
    path = LOCALES / language / f"{kind}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def write(language: str, definitions: dict) -> None:
    path = LOCALES / language / "nodeDefs.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(definitions, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def texts_of(tree: dict, before: str = "") -> dict[str, str]:
    """Every text by its path, such as ``CLIPSeg.inputs.text.tooltip``."""
    texts = {}
    for key, value in tree.items():
        texts |= texts_of(value, f"{before}{key}.") if isinstance(value, dict) else {f"{before}{key}": value}
    return texts


def syntax_faults() -> list[str]:
    """The texts that the editor would change."""
    return [
        f"{language}/{kind}.json: {key} has one of {' '.join(SYNTAX)}"
        for language in LANGUAGES
        for kind in KINDS[1:]
        for key, text in texts_of(read(language, kind)).items()
        if set(SYNTAX) & set(text)
    ]


def faults() -> list[str]:
    """What the languages lack or have beyond English, and the texts that the editor would change."""
    problems = []
    for kind in KINDS:
        english = texts_of(read("en", kind)).keys()
        for language in LANGUAGES[1:]:
            present = {key for key in texts_of(read(language, kind)) if " (Maskwright)." not in key}
            problems += [f"{language}/{kind}.json lacks {key}" for key in sorted(english - present)]
            problems += [f"{language}/{kind}.json has {key}, which English lacks" for key in sorted(present - english)]
    for language, definitions in all_definitions().items():
        if read(language, "nodeDefs") != definitions:
            problems.append(f"{language}/nodeDefs.json is out of date: run `python tools/translations.py`")
    return problems + syntax_faults()


if __name__ == "__main__":
    for language, definitions in all_definitions().items():
        write(language, definitions)
    problems = faults()
    print("\n".join(problems))
    sys.exit(1 if problems else 0)
