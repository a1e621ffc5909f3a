"""Facts on the models that this pack can fetch: their files, where these are, how to tell that they are the right ones.

Nothing is taken from "the newest version": each address names one revision, each file has a size and a checksum.
"""

from __future__ import annotations

from dataclasses import dataclass

HUB = "https://huggingface.co"

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class RemoteFile:
    """One file to download.

    Args:
        name: Its name in the model's folder.
        url: Its address. `weights.address` puts the user's ``HF_ENDPOINT`` in place of `HUB`.
        size: In bytes.
        sha256: In small hexadecimal digits.
    """

    name: str
    url: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Model:
    """One published model.

    Args:
        name: What users know it by.
        page: Where people can look at it and download its files by hand.
        revision: The commit that ``files`` are taken from; None where the publisher has no such thing.
        licence: SPDX identifier, as the publisher states it.
        input_size: Side in pixels of the square that it was made for.
        mean, std: Of red, green and blue; its input is (value in 0..1 - mean) / std.
        files: In the order of downloading; the largest last, so that a folder with it is whole.
    """

    name: str
    page: str
    revision: str | None
    licence: str
    input_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    files: tuple[RemoteFile, ...]


def _hub_files(repository: str, revision: str, *files: tuple[str, int, str]) -> tuple[RemoteFile, ...]:
    base = f"{HUB}/{repository}/resolve/{revision}"
    return tuple(RemoteFile(name, f"{base}/{name}", size, sha256) for name, size, sha256 in files)


_CLIPSEG_REVISION = "999e0328d9e10b484360c477313983f9afdd7050"

CLIPSEG = Model(
    name="CIDAS/clipseg-rd64-refined",
    page=f"{HUB}/CIDAS/clipseg-rd64-refined/tree/{_CLIPSEG_REVISION}",
    revision=_CLIPSEG_REVISION,
    licence="Apache-2.0",
    input_size=352,
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    # All that the model needs. The repository's pytorch_model.bin holds the same weights as a pickle: not wanted.
    files=_hub_files(
        "CIDAS/clipseg-rd64-refined",
        _CLIPSEG_REVISION,
        ("config.json", 4_732, "c023375966d31b3b1392764f7bd91df47098ce19f62f11b0263d8eedcf708bcd"),
        ("preprocessor_config.json", 380, "4fb09ebcfd7651205ca8299b993c30088e5535ef350a72d46c5c4580eeac0440"),
        ("special_tokens_map.json", 472, "c4864a9376a8401918425bed71fc14fc0e81f9b59ec45c1cf96cccb2df508eac"),
        ("tokenizer_config.json", 974, "4c75d57fd9bd0be8478ad2d6f8b9cebdd4a45338eb108547329c2b6333476ca6"),
        ("merges.txt", 524_619, "9fd691f7c8039210e0fced15865466c65820d09b63988b0174bfe25de299051a"),
        ("vocab.json", 1_059_962, "e089ad92ba36837a0d31433e555c8f45fe601ab5c221d4f607ded32d9f7a4349"),
        ("model.safetensors", 603_049_496, "d00ca85d6b859f9d07b7cfb8ef26fe9771cb275b34c9368f2ecf603139307f55"),
    ),
)
