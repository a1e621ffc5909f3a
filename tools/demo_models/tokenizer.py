"""The tokenizer of a small CLIP: a byte-level vocabulary with a token for each of a few words, in CLIP's files."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

START, END = "<|startoftext|>", "<|endoftext|>"


def byte_symbols() -> list[str]:
    """The 256 characters that stand for the bytes in a byte-level vocabulary, by byte.

    Printable characters of Latin-1 stand for themselves, the others are moved up to 256 and beyond: the convention of
    byte-level BPE tokenizers, which their loaders have built in.
    """
    plain = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    moved = iter(range(256, 512))
    return [chr(byte if byte in plain else next(moved)) for byte in range(256)]


def learn_merges(words: Iterable[str]) -> list[tuple[str, str]]:
    """Byte-pair encoding: the pairs to merge, in order, until each of the words is one token."""
    splits = [[*word[:-1], word[-1] + "</w>"] for word in sorted(set(words))]
    merges = []
    while pairs := Counter(pair for split in splits for pair in pairwise(split)):
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        for split in splits:
            at = 0
            while at < len(split) - 1:
                if (split[at], split[at + 1]) == best:
                    split[at : at + 2] = ["".join(best)]
                at += 1
    return merges


def vocabulary_of(words: Iterable[str]) -> tuple[dict[str, int], list[str]]:
    """A vocabulary and its merges, of a tokenizer that knows `words` and spells out the rest.

    The end token has the highest number, as in CLIP: its position is where the text's embedding is read.
    """
    pairs = learn_merges(words)
    symbols = sorted(byte_symbols())
    tokens = [*symbols, *(symbol + "</w>" for symbol in symbols), *("".join(pair) for pair in pairs), START, END]
    return {token: index for index, token in enumerate(tokens)}, [" ".join(pair) for pair in pairs]


def write(folder: Path, vocabulary: dict[str, int], merges: list[str]) -> None:
    """Writes the files of such a tokenizer."""
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    write_json(folder / "vocab.json", vocabulary)
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8")
    write_json(folder / "special_tokens_map.json", special)
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "CLIPTokenizer",
            "processor_class": "CLIPSegProcessor",
            "model_max_length": 77,
            "do_lower_case": True,
            "add_prefix_space": False,
            "errors": "replace",
            **special,
        },
    )


def write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
