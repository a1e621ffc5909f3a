"""Facts about the models that this pack can download. Labels, help pages and reports are generated from them.

Nothing is downloaded as "the newest version": each address names one revision, and each file has a checksum stated by
its publisher or by many independent projects. Unknown facts are None.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

HUB = "https://huggingface.co"

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class RemoteFile:
    """One file to download.

    Args:
        name: Its name in the model's folder.
        url: Its address. `download.resolve_url` replaces `HUB` by the user's ``HF_ENDPOINT``.
        size: In bytes; None if unknown.
        sha256, md5: In lower-case hexadecimal digits; None if unknown. One of them is required.

    Raises:
        ValueError: No checksum, so the download could not be verified.
    """

    name: str
    url: str
    size: int | None
    sha256: str | None = None
    md5: str | None = None

    def __post_init__(self) -> None:
        if not (self.sha256 or self.md5):
            raise ValueError(f"{self.name} has no checksum")

    @property
    def checksum(self) -> str:
        """The best known checksum as pooch takes it: ``algorithm:digest``."""
        return f"sha256:{self.sha256}" if self.sha256 else f"md5:{self.md5}"


@dataclass(frozen=True)
class Model:
    """One published model.

    Args:
        name: Its name in lists and saved workflows.
        page: Its web page, for downloading its files by hand.
        revision: The commit of ``files``; None if the publisher has no commits.
        license: SPDX identifier, as the publisher states it.
        input_size: Side in pixels of the square image it was trained for.
        mean, std: Per channel (RGB); the model's input is (value in 0..1 - mean) / std.
        files: In download order. The largest is last: a folder that has it is complete.
        note: What it is good for, in a few words.
        source: Where its authors publish it and its license, if that is not ``page``.
    """

    name: str
    page: str
    revision: str | None
    license: str
    input_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    files: tuple[RemoteFile, ...]
    note: str = ""
    source: str = ""

    @property
    def size(self) -> int | None:
        """Bytes of all files; None if one is unknown."""
        sizes = [file.size for file in self.files if file.size is not None]
        return sum(sizes) if len(sizes) == len(self.files) else None


def download_size(model: Model) -> str:
    """The size of a download of ``model``, such as "179 MB"; empty if unknown."""
    return "" if model.size is None else f"{round(model.size / 1e6)} MB"


def download_label(model: Model) -> str:
    """The model's short name for a list, with a down arrow and the download size."""
    return f"{model.name.rpartition('/')[2]} \u2193 {download_size(model)}".rstrip()


def _hub_files(repository: str, revision: str, *files: tuple[str, int, str]) -> tuple[RemoteFile, ...]:
    base = f"{HUB}/{repository}/resolve/{revision}"
    return tuple(RemoteFile(name, f"{base}/{name}", size, sha256) for name, size, sha256 in files)


_CLIPSEG_REVISION = "999e0328d9e10b484360c477313983f9afdd7050"

CLIPSEG = Model(
    name="CIDAS/clipseg-rd64-refined",
    page=f"{HUB}/CIDAS/clipseg-rd64-refined/tree/{_CLIPSEG_REVISION}",
    revision=_CLIPSEG_REVISION,
    license="Apache-2.0",
    input_size=352,
    mean=IMAGENET_MEAN,
    std=IMAGENET_STD,
    # All files that the model needs. The repository's pytorch_model.bin has the same weights as a pickle: not used.
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

_VITMATTE_REVISION = "6a58ad7646403c1df626fbd746900aec7361ea1d"

VITMATTE = Model(
    name="hustvl/vitmatte-small-composition-1k",
    page=f"{HUB}/hustvl/vitmatte-small-composition-1k/tree/{_VITMATTE_REVISION}",
    revision=_VITMATTE_REVISION,
    license="Apache-2.0",
    input_size=512,
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    # The preprocessor's settings are `mean`, `std` and the padding in `vitmatte`.
    files=_hub_files(
        "hustvl/vitmatte-small-composition-1k",
        _VITMATTE_REVISION,
        ("config.json", 837, "ae1006f5a83227048b563b2e60709d4203e432b2276949ebef41a8cfeeeaf45f"),
        ("model.safetensors", 103_294_572, "bda9289db1bb6762d978b42d1c62ae3f34daf7497171a347a1d09657efd788cb"),
    ),
    note="alpha from a trimap",
)


# Background removal. rembg's names, addresses and MD5 come from its source (rembg/sessions); it renames downloads to
# <name>.onnx. Sizes and SHA-256 come from many independent projects that state them for these addresses; those stated
# by only one or two projects are omitted.

_REMBG = "https://github.com/danielgatis/rembg/releases/download/v0.0.0"
_OPENVINO = "https://storage.openvinotoolkit.org/repositories/open_model_zoo/public/2022.2"

_U2NET = "https://github.com/xuebinqin/U-2-Net"
_BIREFNET = "https://github.com/ZhengPeng7/BiRefNet"

_PLAIN_STD = (1.0, 1.0, 1.0)


def _rembg(
    name: str,
    size: int,
    *,
    sha256: str | None = None,
    md5: str | None = None,
    note: str,
    license: str = "Apache-2.0",
    source: str = _U2NET,
    input_size: int = 320,
    mean: tuple[float, float, float] = IMAGENET_MEAN,
    std: tuple[float, float, float] = IMAGENET_STD,
    session: str | None = None,
    asset: str | None = None,
) -> Model:
    """One model of rembg. ``session``: rembg's name for it; ``asset``: the name of the published file."""
    session = session or name
    url = f"{_REMBG}/{asset or session}.onnx"
    file = RemoteFile(f"{session}.onnx", url, size, sha256, md5)
    return Model(name, url, None, license, input_size, mean, std, (file,), note, source)


def _birefnet(name: str, asset: str, md5: str, note: str, size: int = 972_666_916, sha256: str | None = None) -> Model:
    return _rembg(
        name, size, sha256=sha256, md5=md5, note=note, license="MIT", source=_BIREFNET, input_size=1024, asset=asset
    )


def _modnet(name: str, model: str, size: int | None, sha256: str, note: str) -> Model:
    file = model.replace("-", "_") + ".ckpt"
    url = f"{_OPENVINO}/{model}/{file}"
    half = (0.5, 0.5, 0.5)
    source = "https://github.com/ZHKKKe/MODNet"
    return Model(name, url, None, "Apache-2.0", 512, half, half, (RemoteFile(file, url, size, sha256),), note, source)


_REMBG_MODELS = (
    _rembg(
        "u2net",
        175_997_641,
        sha256="8d10d2f3bb75ae3b6d527c77944fc5e7dcd94b29809d47a739a7a728a912b491",
        md5="60024c5c889badc19c04ad937298a77b",
        note="any subject",
    ),
    _rembg(
        "u2netp",
        4_574_861,
        sha256="309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8",
        md5="8e83ca70e441ab06c318d82300c84806",
        note="a very small u2net",
    ),
    _rembg(
        "u2net_human_seg",
        175_997_641,
        sha256="01eb6a29a5c4d8edb30b56adad9bb3a2a0535338e480724a213e0acfd2d1c73c",
        md5="c09ddc2e0104f800e3e1bb4652583d1f",
        note="people",
    ),
    _rembg(
        "u2net_cloth_seg",
        176_194_565,
        sha256="6d2cbc27bfbdc989e1fd325656d65902ecc6a3ccbe94b2d3655ec114efcb128e",
        md5="2434d1f3cb744e0e49386c906e5a08bb",
        note="clothes: three results, for upper body, lower body and whole body",
        license="MIT",
        source="https://github.com/levindabhi/cloth-segmentation",
        input_size=768,
    ),
    _rembg(
        "silueta",
        44_173_029,
        sha256="75da6c8d2f8096ec743d071951be73b4a8bc7b3e51d9a6625d63644f90ffeedb",
        md5="55e59e0d8062d2f5d013f4725ee84782",
        note="a smaller u2net, under the license of u2net",
    ),
    _rembg(
        "isnet-general-use",
        178_648_008,
        sha256="60920e99c45464f2ba57bee2ad08c919a52bbf852739e96947fbb4358c0d964a",
        md5="fc16ebd8b0c10d971d3513d564d01e29",
        note="any subject, finer edges",
        source="https://github.com/xuebinqin/DIS",
        input_size=1024,
        mean=(0.5, 0.5, 0.5),
        std=_PLAIN_STD,
    ),
    _rembg(
        "isnetis",
        176_069_933,
        sha256="f15622d853e8260172812b657053460e20806f04b9e05147d49af7bed31a6e99",
        md5="6f184e756bb3bd901c8849220a83e38e",
        note="anime characters (rembg's isnet-anime)",
        source="https://github.com/SkyTNT/anime-segmentation",
        input_size=1024,
        std=_PLAIN_STD,
        session="isnet-anime",
    ),
)

_NEWER_REMBG_MODELS = (
    _birefnet(
        "birefnet-general",
        "BiRefNet-general-epoch_244",
        md5="7a35a0141cbbc80de11d9c9a28f52697",
        sha256="58f621f00f5d756097615970a88a791584600dcf7c45b18a0a6267535a1ebd3c",
        note="any subject, the finest edges; large and slow without a GPU",
    ),
    _birefnet(
        "birefnet-general-lite",
        "BiRefNet-general-bb_swin_v1_tiny-epoch_232",
        md5="4fab47adc4ff364be1713e97b7e66334",
        size=224_005_088,
        sha256="5600024376f572a557870a5eb0afb1e5961636bef4e1e22132025467d0f03333",
        note="a smaller birefnet-general",
    ),
    _birefnet(
        "birefnet-portrait",
        "BiRefNet-portrait-epoch_150",
        md5="c3a64a6abf20250d090cd055f12a3b67",
        sha256="1ba1c8ff5a7bbfadc8d8d13fb11d7be793f91f23d9d466549e37a854f6668f99",
        note="people",
    ),
    _birefnet(
        "birefnet-dis",
        "BiRefNet-DIS-epoch_590",
        md5="2d4d44102b446f33a4ebb2e56c051f2b",
        note="thin and detailed objects",
    ),
    _birefnet(
        "birefnet-hrsod",
        "BiRefNet-HRSOD_DHU-epoch_115",
        md5="c017ade5de8a50ff0fd74d790d268dda",
        note="the main subject of high-resolution images",
    ),
    _birefnet(
        "birefnet-cod",
        "BiRefNet-COD-epoch_125",
        md5="f6d0d21ca89d287f17e7afe9f5fd3b45",
        note="objects that blend into their background",
    ),
    _birefnet(
        "birefnet-massive",
        "BiRefNet-massive-TR_DIS5K_TR_TEs-epoch_420",
        md5="33e726a2136a3d59eb0fdf613e31e3e9",
        note="any subject, trained on more images",
    ),
    _rembg(
        "bria-rmbg",
        1_024_331_469,
        sha256="5b486f08200f513f460da46dd701db5fbb47d79b4be4b708a19444bcd4e79958",
        note="any subject; NOT free for commercial use, which needs an agreement with BRIA",
        license="CC-BY-NC-4.0",
        source="https://huggingface.co/briaai/RMBG-2.0",
        input_size=1024,
        asset="bria-rmbg-2.0",
    ),
)

REMBG = {model.name: model for model in (*_REMBG_MODELS, *_NEWER_REMBG_MODELS)}
"""Models that rembg runs, by name."""

MODNET = {
    model.name: model
    for model in (
        _modnet(
            "modnet-p",
            "modnet-photographic-portrait-matting",
            26_255_603,
            "7c22235f0925deba15d4d63e53afcb654c47055bbcd98f56e393ab2584007ed8",
            note="portraits, soft edges without alpha matting",
        ),
        _modnet(
            "modnet-w",
            "modnet-webcam-portrait-matting",
            None,
            "913b82b66558db39b6286c150f809017d7528c872b156eb14333c9c6cb52108b",
            note="people in front of a webcam, soft edges without alpha matting",
        ),
    )
}
"""Models that this pack runs itself, by name."""

BACKGROUND = {model.name: model for model in (*_REMBG_MODELS, *MODNET.values(), *_NEWER_REMBG_MODELS)}
"""All models for background removal, in the order of the widget: earlier packs had the first nine."""


def rembg_name(model: Model) -> str:
    """rembg's name of a model in `REMBG`."""
    return PurePosixPath(model.files[0].name).stem


BACKGROUND_DEMO = "demo: salient object (bundled)"  # the name of the model that comes with the pack
