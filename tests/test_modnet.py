"""MODNet: the published parameters, the formula of each block, unusable files, and images of every size."""

from __future__ import annotations

import copy
import errno
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from maskwright.core.errors import ModelError
from maskwright.models import modnet
from maskwright.models.modnet_network import MODNet

# Names and shapes of all parameters and statistics in the published checkpoints, without their prefix "module.".
PUBLISHED = json.loads((Path(__file__).parent / "golden" / "modnet_parameters.json").read_text(encoding="utf-8"))

Weights = dict[str, torch.Tensor]


def random_weights() -> Weights:
    """Weights of the published names and shapes with which signals neither vanish nor explode."""
    generator = torch.Generator().manual_seed(0)
    weights: Weights = {}
    for name, shape in PUBLISHED.items():
        noise = torch.randn(shape, generator=generator) if shape else torch.tensor(0)
        if name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
            weights[name] = 1 + 0.2 * noise.clamp(-2, 2)
        elif len(shape) > 1:
            weights[name] = noise * (2 / noise[0].numel()) ** 0.5
        else:
            weights[name] = 0.1 * noise if shape else noise
    for name in [name for name in weights if name.startswith("lr_branch.backbone.")]:
        weights[name] = weights[name.removeprefix("lr_branch.")]  # the same layers under two names
    return weights


@pytest.fixture(scope="module")
def weights() -> Weights:
    return random_weights()


@pytest.fixture(scope="module")
def checkpoint(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("modnet") / "modnet_photographic_portrait_matting.ckpt"
    torch.save({f"module.{name}": weight for name, weight in weights.items()}, path)
    return path


@pytest.fixture(scope="module")
def model(checkpoint: Path) -> MODNet:
    return modnet.load_modnet(checkpoint)


def random_image(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


# --- names and shapes -------------------------------------------------------------------------------------------------


def test_modnet_has_the_published_parameters() -> None:
    assert {name: list(weight.shape) for name, weight in MODNet().state_dict().items()} == PUBLISHED


# --- formulas, written on the weights of the table --------------------------------------------------------------------


def convolution(x: torch.Tensor, w: Weights, name: str, stride: int = 1, groups: int = 1) -> torch.Tensor:
    kernel = w[f"{name}.weight"]
    return F.conv2d(x, kernel, w.get(f"{name}.bias"), stride, padding=kernel.shape[-1] // 2, groups=groups)


def batch_norm(x: torch.Tensor, w: Weights, name: str) -> torch.Tensor:
    mean, var, gain, shift = (
        w[f"{name}.{part}"][:, None, None] for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (var + 1e-5).sqrt() * gain + shift


def instance_norm(x: torch.Tensor) -> torch.Tensor:
    mean, var = x.mean(dim=(2, 3), keepdim=True), x.var(dim=(2, 3), keepdim=True, unbiased=False)
    return (x - mean) / (var + 1e-5).sqrt()


def conv_norm_relu(x: torch.Tensor, w: Weights, name: str, stride: int = 1) -> torch.Tensor:
    """Convolution; batch norm on the first half of the channels, instance norm on the others; ReLU."""
    x = convolution(x, w, f"{name}.layers.0", stride)
    first, second = x.chunk(2, dim=1)
    return torch.cat((batch_norm(first, w, f"{name}.layers.1.bnorm"), instance_norm(second)), 1).clamp(min=0)


def inverted_residual(x: torch.Tensor, w: Weights, name: str, stride: int) -> torch.Tensor:
    y, at = x, 0
    wide = w[f"{name}.conv.3.weight"].shape[0] if f"{name}.conv.7.weight" in w else x.shape[1]
    if wide != x.shape[1]:
        y = batch_norm(convolution(y, w, f"{name}.conv.0"), w, f"{name}.conv.1").clamp(0, 6)
        at = 3
    y = convolution(y, w, f"{name}.conv.{at}", stride, groups=wide)
    y = batch_norm(y, w, f"{name}.conv.{at + 1}").clamp(0, 6)
    y = batch_norm(convolution(y, w, f"{name}.conv.{at + 3}"), w, f"{name}.conv.{at + 4}")
    return x + y if stride == 1 and y.shape[1] == x.shape[1] else y


STRIDES = [1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1]  # of the 17 inverted residuals


def backbone(x: torch.Tensor, w: Weights) -> list[torch.Tensor]:
    name = "backbone.model.features"
    x = batch_norm(convolution(x, w, f"{name}.0.0", stride=2), w, f"{name}.0.1").clamp(0, 6)
    seen = []
    for number, stride in enumerate(STRIDES, start=1):
        x = inverted_residual(x, w, f"{name}.{number}", stride)
        seen.append(x)
    x = batch_norm(convolution(x, w, f"{name}.18.0"), w, f"{name}.18.1").clamp(0, 6)
    return [seen[0], seen[2], x]


def squeeze_excitation(x: torch.Tensor, w: Weights, name: str) -> torch.Tensor:
    means = x.mean(dim=(2, 3))
    hidden = (means @ w[f"{name}.fc.0.weight"].T).clamp(min=0)
    return x * (hidden @ w[f"{name}.fc.2.weight"].T).sigmoid()[:, :, None, None]


def scaled(x: torch.Tensor, factor: float) -> torch.Tensor:
    size = [round(side * factor) for side in x.shape[2:]]
    return F.interpolate(x, size, mode="bilinear", align_corners=False)


def low_resolution(image: torch.Tensor, w: Weights) -> list[torch.Tensor]:
    half, quarter, deepest = backbone(image, w)
    x = squeeze_excitation(deepest, w, "lr_branch.se_block")
    x = conv_norm_relu(scaled(x, 2), w, "lr_branch.conv_lr16x")
    return [half, quarter, conv_norm_relu(scaled(x, 2), w, "lr_branch.conv_lr8x")]


def high_resolution(
    image: torch.Tensor, half: torch.Tensor, quarter: torch.Tensor, semantic: torch.Tensor, w: Weights
) -> torch.Tensor:
    half = conv_norm_relu(half, w, "hr_branch.tohr_enc2x")
    quarter = conv_norm_relu(quarter, w, "hr_branch.tohr_enc4x")
    x = conv_norm_relu(torch.cat((scaled(image, 0.5), half), 1), w, "hr_branch.conv_enc2x", stride=2)
    x = conv_norm_relu(torch.cat((x, quarter), 1), w, "hr_branch.conv_enc4x")
    x = torch.cat((x, scaled(semantic, 2), scaled(image, 0.25)), 1)
    for number in range(3):
        x = conv_norm_relu(x, w, f"hr_branch.conv_hr4x.{number}")
    x = torch.cat((scaled(x, 2), half), 1)
    for number in range(4):
        x = conv_norm_relu(x, w, f"hr_branch.conv_hr2x.{number}")
    return x


def fusion(image: torch.Tensor, semantic: torch.Tensor, detail: torch.Tensor, w: Weights) -> torch.Tensor:
    x = conv_norm_relu(scaled(semantic, 2), w, "f_branch.conv_lr4x")
    x = conv_norm_relu(torch.cat((scaled(x, 2), detail), 1), w, "f_branch.conv_f2x")
    x = conv_norm_relu(torch.cat((scaled(x, 2), image), 1), w, "f_branch.conv_f.0")
    return convolution(x, w, "f_branch.conv_f.1.layers.0").sigmoid()


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_half_instance_norm(model: MODNet, weights: Weights) -> None:
    x = random_image(2, 64, 6, 5)
    expected = torch.cat(
        (batch_norm(x[:, :32], weights, "hr_branch.conv_enc4x.layers.1.bnorm"), instance_norm(x[:, 32:])), dim=1
    )
    close(model.hr_branch.conv_enc4x.layers[1](x), expected)


def test_half_instance_norm_of_values_far_from_0(model: MODNet) -> None:
    x = 100 + random_image(1, 64, 40, 30)
    close(model.hr_branch.conv_enc4x.layers[1](x)[:, 32:], instance_norm(x[:, 32:].double()).float())


@pytest.mark.parametrize("size", [(64, 64), (40, 50), (200, 90)])
def test_predict_keeps_channels_last(model: MODNet, size: tuple[int, int], small_reference: None) -> None:
    """Where a layer lays channels out one after the other, the convolutions after it take up to three times as long."""
    given: list[torch.Tensor] = []
    convolutions = [part for part in model.modules() if isinstance(part, torch.nn.Conv2d)]
    hooks = [part.register_forward_pre_hook(lambda _, inputs: given.extend(inputs)) for part in convolutions]
    modnet.predict(model, random_image(2, *size, 3))
    for hook in hooks:
        hook.remove()
    assert len(given) > 60
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in given)


def test_convolution_norm_relu(model: MODNet, weights: Weights) -> None:
    x = random_image(2, 35, 8, 6) * 2 - 1
    close(model.hr_branch.conv_enc2x(x), conv_norm_relu(x, weights, "hr_branch.conv_enc2x", stride=2))


def test_squeeze_excitation(model: MODNet, weights: Weights) -> None:
    x = random_image(2, 1280, 3, 2)
    close(model.lr_branch.se_block(x), squeeze_excitation(x, weights, "lr_branch.se_block"))


@pytest.mark.parametrize("number", range(1, 18))
def test_inverted_residuals(model: MODNet, weights: Weights, number: int) -> None:
    name = f"backbone.model.features.{number}"
    channels = PUBLISHED[f"{name}.conv.0.weight"][0 if number == 1 else 1]
    x = random_image(2, channels, 8, 6) * 2 - 1
    close(model.backbone.model.features[number](x), inverted_residual(x, weights, name, STRIDES[number - 1]))


def test_modnet_branches(model: MODNet, weights: Weights) -> None:
    image = random_image(2, 3, 64, 96) * 2 - 1
    with torch.no_grad():
        half, quarter, semantic = model.lr_branch(image)
        for found, expected in zip((half, quarter, semantic), low_resolution(image, weights)):
            close(found, expected)
        detail = model.hr_branch(image, half, quarter, semantic)
        close(detail, high_resolution(image, half, quarter, semantic, weights))
        matte = model(image)
        close(matte, fusion(image, semantic, detail, weights))
    assert matte.shape == (2, 1, 64, 96)
    assert matte.std() > 0.05, "these weights say the same everywhere"


# --- checkpoints ------------------------------------------------------------------------------------------------------


def test_load_modnet_with_and_without_prefix(checkpoint: Path, weights: Weights, tmp_path: Path, model: MODNet) -> None:
    torch.save(weights, tmp_path / "plain.ckpt")
    torch.save(weights, tmp_path / "old.ckpt", _use_new_zipfile_serialization=False)  # as the published ones may be
    for name in ("plain.ckpt", "old.ckpt"):
        loaded = modnet.load_modnet(tmp_path / name)
        assert all(torch.equal(value, weights[key]) for key, value in loaded.state_dict().items())
        assert not loaded.training
        assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_load_modnet_names_missing_and_unexpected_weights(weights: Weights, tmp_path: Path) -> None:
    path = tmp_path / "other.ckpt"
    wrong = dict(weights)
    del wrong["f_branch.conv_f2x.layers.0.bias"]
    wrong["head.weight"] = torch.zeros(1)
    torch.save(wrong, path)
    with pytest.raises(ModelError, match=r"missing: f_branch.conv_f2x.layers.0.bias; unexpected: head.weight"):
        modnet.load_modnet(path)
    torch.save({"conv.weight": torch.zeros(1)}, path)
    with pytest.raises(ModelError, match=r"other\.ckpt.*missing: backbone.*and 748 more"):
        modnet.load_modnet(path)


def test_load_modnet_names_a_weight_of_another_shape(weights: Weights, tmp_path: Path) -> None:
    path = tmp_path / "other.ckpt"
    torch.save({**weights, "lr_branch.se_block.fc.0.weight": torch.zeros(320, 640)}, path)
    with pytest.raises(ModelError, match=r"se_block.fc.0.weight is \[320, 640\] instead of \[320, 1280\]"):
        modnet.load_modnet(path)


@pytest.mark.parametrize("content", [[1, 2], torch.zeros(3), {0: torch.zeros(1)}, {"a": "b"}])
def test_load_modnet_rejects_other_content(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(ModelError, match=r"other\.ckpt is not a MODNet checkpoint"):
        modnet.load_modnet(tmp_path / "other.ckpt")


@pytest.mark.parametrize("old_format", [False, True])
@pytest.mark.parametrize("share", [0, 1e-7, 1e-5, 0.01, 0.5, 0.99, 0.9999])
def test_load_modnet_rejects_a_truncated_file(share: float, old_format: bool, weights: Weights, tmp_path: Path) -> None:
    path = tmp_path / "short.ckpt"
    torch.save(weights, path, _use_new_zipfile_serialization=not old_format)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ModelError, match=r"short\.ckpt cannot be read.*download it again"):
        modnet.load_modnet(path)


def test_load_modnet_rejects_missing_files_other_files_and_code(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nowhere"):
        modnet.load_modnet(tmp_path / "nowhere.ckpt")
    (tmp_path / "page.ckpt").write_text("<html>404 Not Found</html>", encoding="utf-8")
    with pytest.raises(ModelError, match=r"page\.ckpt cannot be read"):
        modnet.load_modnet(tmp_path / "page.ckpt")
    torch.save({"module.code": pytest.raises}, tmp_path / "code.ckpt")
    with pytest.raises(ModelError, match=r"code\.ckpt cannot be read"):
        modnet.load_modnet(tmp_path / "code.ckpt")


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), ModelError, "not readable.*permission to read"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), MemoryError, "not enough memory to read"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), MemoryError, "not enough memory to read"),
        (MemoryError("Unable to allocate 9 bytes"), MemoryError, "not enough memory to read"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_load_modnet_does_not_blame_the_file_for_the_machine(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, kind: type[Exception], message: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(torch, "load", fail)
    with pytest.raises(kind, match=message) as caught:
        modnet.load_modnet(checkpoint)
    assert str(checkpoint) in str(caught.value) and "delete" not in str(caught.value)


# --- images -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "shown"),
    [  # height, width
        ((512, 512), (512, 512)),
        ((300, 400), (512, 672)),  # smaller than 512: enlarged; 682 cut down to a multiple of 32
        ((400, 300), (672, 512)),
        ((1024, 1536), (512, 768)),  # larger on both sides: shorter side 512
        ((2160, 3840), (512, 896)),
        ((700, 400), (672, 384)),  # 512 is between both sides: unchanged
        ((512, 2000), (512, 1984)),
        ((513, 513), (512, 512)),
        ((1, 1), (512, 512)),
        ((600, 1), (576, 32)),  # never less than 32
    ],
)
def test_network_size(size: tuple[int, int], shown: tuple[int, int]) -> None:
    assert modnet.network_size(*size) == shown


def test_network_size_of_a_very_long_image() -> None:
    height, width = modnet.network_size(1, 511)
    assert height * width <= 1 << 22
    assert height % 32 == width % 32 == 0


@pytest.fixture
def small_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network is shown an eighth of the size in each direction, to be quick."""
    monkeypatch.setattr(modnet, "_REFERENCE_SIZE", 64)


@pytest.mark.slow
def test_predict_follows_the_reference_steps(model: MODNet, small_reference: None) -> None:
    image = random_image(1, 80, 110, 3)
    with torch.no_grad():
        matte = model(F.interpolate((image.permute(0, 3, 1, 2) - 0.5) / 0.5, (64, 64), mode="area"))
    expected = F.interpolate(matte, (80, 110), mode="bilinear", align_corners=False)[:, 0]
    close(modnet.predict(model, image), expected)
    image = image[:, :40, :50]
    with torch.no_grad():
        matte = model(F.interpolate((image.permute(0, 3, 1, 2) - 0.5) / 0.5, (64, 64), mode="area"))
    close(modnet.predict(model, image), F.interpolate(matte, (40, 50), mode="area")[:, 0])


@pytest.mark.parametrize("size", [(1, 1), (1, 80), (80, 2), (33, 70)])
def test_predict_with_odd_sizes(model: MODNet, size: tuple[int, int], small_reference: None) -> None:
    image = random_image(1, *size, 3)
    before = image.clone()
    mask = modnet.predict(model, image)
    assert mask.shape == (1, *size)
    assert mask.dtype == torch.float32
    assert torch.isfinite(mask).all() and mask.min() >= 0 and mask.max() <= 1
    assert torch.equal(image, before)


@pytest.mark.parametrize(("value", "kind"), [(torch.nan, "NaN"), (torch.inf, "infinity"), (-torch.inf, "infinity")])
def test_predict_rejects_nan_and_infinity(model: MODNet, small_reference: None, value: float, kind: str) -> None:
    broken = copy.deepcopy(model)
    broken.f_branch.conv_f[-1].layers[0].bias.fill_(value)
    with pytest.raises(ModelError, match=f"MODNet returned {kind}"):
        modnet.predict(broken, torch.rand(1, 40, 40, 3))


def test_predict_of_a_batch_equals_singles_and_ignores_alpha(model: MODNet, small_reference: None) -> None:
    images = random_image(2, 70, 90, 4)
    masks = modnet.predict(model, images)
    for image, mask in zip(images, masks):
        torch.testing.assert_close(modnet.predict(model, image[None, ..., :3])[0], mask, atol=1e-5, rtol=0)
    assert not torch.allclose(masks[0], masks[1], atol=1e-3)


@pytest.mark.slow
def test_predict_on_cuda(cuda: torch.device, checkpoint: Path, model: MODNet) -> None:
    image = random_image(1, 96, 520, 3)
    there = modnet.predict(modnet.load_modnet(checkpoint, cuda), image)
    assert there.device == cuda
    torch.testing.assert_close(there.cpu(), modnet.predict(model, image), atol=0.02, rtol=0)


@pytest.mark.slow
def test_predict_resizes_on_the_cpu_for_other_accelerators(model: MODNet, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Apple's cannot, for most sizes. Then only the network runs there."""
    import fake_cuda  # skips on unknown versions of torch

    image, interpolate = random_image(1, 96, 520, 3), F.interpolate
    expected = modnet.predict(model, image)
    by_area = []

    def watched(values: torch.Tensor, *args: object, **options: object) -> torch.Tensor:
        if options.get("mode") == "area":
            by_area.append(values.device.type)
        return interpolate(values, *args, **options)

    monkeypatch.setattr(F, "interpolate", watched)
    with fake_cuda.fake_device("mps") as device:
        masks = modnet.predict(copy.deepcopy(model).to(device), image)
    torch.testing.assert_close(masks, expected)
    assert by_area and set(by_area) == {"cpu"}
