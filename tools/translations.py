#!/usr/bin/env python3
"""Writes locales/en/nodeDefs.json from the nodes, and lists what the other languages lack.

    python tools/translations.py           write English, list what is missing or left over elsewhere (exit status 1)
    python tools/translations.py --check   only look

The editor shows `locales/<language>/nodeDefs.json` in place of a node's own words: names and tooltips of the node, its
inputs and its outputs ("0", "1", ...). Some editors compile these texts and take the characters of `SYNTAX` for a
syntax of their own; others show them raw, escapes included. So no text has one of these characters.

Where another pack holds a node's id, the node is called "<id> (Maskwright)". The other languages repeat the node's
texts for it; this program writes that, too. In English the editor then shows the node's own words. The ids of other
packs' old files have no entries: these would speak for the other pack's nodes where it is installed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

from pack import ROOT, load_pack

LOCALES = ROOT / "locales"
LANGUAGES = ("en", "zh", "ja", "de")
SYNTAX = "|@{}"  # alternatives (of which only one is shown), links, names to fill in


def with_second_ids(definitions: dict) -> dict:
    """The same, with an entry for each node under the id that it has beside another pack."""
    second = load_pack().nodes._compat.FALLBACK_ID
    own = {name: said for name, said in definitions.items() if name in node_definitions()}
    others = {
        second.format(name): {**said, "display_name": second.format(said["display_name"])} for name, said in own.items()
    }
    return {**own, **others}


def node_definitions() -> dict:
    """What the nodes say of themselves, as the editor's nodeDefs.json has it.

    Those with a help page: the others are the same nodes under ids of other packs' saved files.
    """
    pack = load_pack()
    found = {}
    for name, node in sorted(pack.NODE_CLASS_MAPPINGS.items()):
        if not (ROOT / "web" / "docs" / f"{name}.md").exists():
            continue
        groups = node.INPUT_TYPES()
        inputs = {**groups.get("required", {}), **groups.get("optional", {})}
        outputs = zip(node.RETURN_NAMES, node.OUTPUT_TOOLTIPS)
        found[name] = {
            "display_name": pack.NODE_DISPLAY_NAME_MAPPINGS[name],
            "description": node.DESCRIPTION,
            "inputs": {
                key: {"name": spec[1].get("display_name", key), "tooltip": spec[1]["tooltip"]}
                for key, spec in inputs.items()
            },
            "outputs": {str(slot): {"name": n, "tooltip": tip} for slot, (n, tip) in enumerate(outputs)},
        }
    return found


def read(language: str, kind: str) -> dict:
    """A file of a language; empty where there is none."""
    path = LOCALES / language / f"{kind}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def write(language: str, definitions: dict) -> None:
    path = LOCALES / language / "nodeDefs.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(definitions, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def keys(tree: dict, before: str = "") -> Iterator[str]:
    """The path of every text, as ``CLIPSeg.inputs.text.tooltip``."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from keys(value, f"{before}{key}.")
        else:
            yield f"{before}{key}"


def at(tree: dict, key: str) -> str:
    """The text that `keys` names."""
    for part in key.split("."):
        tree = tree[part]
    return tree


def syntax_faults() -> list[str]:
    """The texts that the editor would not show as they are written."""
    told = []
    for language in LANGUAGES:
        for kind in ("nodeDefs", "settings", "commands"):
            texts = read(language, kind)
            bad = [key for key in keys(texts) if any(character in at(texts, key) for character in SYNTAX)]
            told += [f"{language}/{kind}.json: {key} has one of {' '.join(SYNTAX)}" for key in bad]
    return told


def faults() -> list[str]:
    """What the languages have too little or too much of, against English, and what the editor would not show."""
    told = []
    for kind in ("main", "nodeDefs", "settings", "commands"):
        english = set(keys(read("en", kind)))
        for language in LANGUAGES[1:]:
            said = read(language, kind)
            if kind == "nodeDefs" and said != with_second_ids(said):
                told.append(f"{language}/nodeDefs.json is out of date: run `python tools/translations.py`")
            there = {key for key in keys(said) if " (Maskwright)." not in key}
            told += [f"{language}/{kind}.json lacks {key}" for key in sorted(english - there)]
            told += [f"{language}/{kind}.json has {key}, which English has not" for key in sorted(there - english)]
    if read("en", "nodeDefs") != node_definitions():
        told.append("en/nodeDefs.json is not what the nodes say: run `python tools/translations.py`")
    return told + syntax_faults()


def main(arguments: list[str]) -> int:
    if "--check" not in arguments:
        write("en", node_definitions())
        for language in LANGUAGES[1:]:
            write(language, with_second_ids(read(language, "nodeDefs")))
    told = faults()
    for line in told:
        print(line)
    return 1 if told else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
