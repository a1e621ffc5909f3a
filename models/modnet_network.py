"""The network of MODNet: portraits cut out without a trimap (Ke, Sun, Li, Yan and Lau, *MODNet: Real-Time Trimap-Free
Portrait Matting via Objective Decomposition*, AAAI 2022).

Three branches share the work. The low-resolution branch (``lr_branch``) finds the subject, from the deepest features of
a MobileNetV2; the high-resolution branch (``hr_branch``) finds fine edges, from its shallowest ones; the fusion branch
(``f_branch``) joins both into the matte. Modules are named as in the published checkpoints, so that these load
unchanged. Two layers, ``lr_branch.conv_lr`` and ``hr_branch.conv_hr``, are for training only: they exist because the
checkpoints contain them, but never run.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn import Conv2d, Linear

# MobileNetV2 (Sandler et al., 2018, table 2): expansion, channels out, blocks, stride of the first block.
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
# Channels of the backbone's features at 1/2, 1/4, 1/8, 1/16 and 1/32 of the size; the numbers of the layers whose
# output is read (1/2, 1/4 and 1/32); channels of the high-resolution branch.
_ENCODED = (16, 24, 32, 96, 1280)
_AFTER_LAYER = (1, 3, 18)
_DETAIL = 32


class MODNet(nn.Module):
    """Images ``[B,3,H,W]`` in -1..1, sides multiples of 32, to mattes ``[B,1,H,W]`` in 0..1."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = _Backbone()
        self.lr_branch = _LowResolutionBranch(self.backbone)
        self.hr_branch = _HighResolutionBranch()
        self.f_branch = _FusionBranch()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.logits(image).sigmoid()

    def logits(self, image: torch.Tensor) -> torch.Tensor:
        """The mattes before the sigmoid."""
        half, quarter, semantic = self.lr_branch(image)
        detail = self.hr_branch(image, half, quarter, semantic)
        return self.f_branch(image, semantic, detail)


class _LowResolutionBranch(nn.Module):
    def __init__(self, backbone: _Backbone) -> None:
        super().__init__()
        self.backbone = backbone  # the checkpoints contain its weights under both names
        self.se_block = _SqueezeExcitation(_ENCODED[4], reduction=4)
        self.conv_lr16x = _ConvNormReLU(_ENCODED[4], _ENCODED[3], 5)
        self.conv_lr8x = _ConvNormReLU(_ENCODED[3], _ENCODED[2], 5)
        self.conv_lr = _LastConv(_ENCODED[2], 3, stride=2)  # training only

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Backbone features at 1/2 and 1/4, semantics at 1/8 of the size."""
        half, quarter, deepest = self.backbone(image)
        x = self.conv_lr16x(_rescale(self.se_block(deepest), 2))
        return half, quarter, self.conv_lr8x(_rescale(x, 2))


class _HighResolutionBranch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        n = _DETAIL
        self.tohr_enc2x = _ConvNormReLU(_ENCODED[0], n, 1)
        self.conv_enc2x = _ConvNormReLU(n + 3, n, 3, stride=2)
        self.tohr_enc4x = _ConvNormReLU(_ENCODED[1], n, 1)
        self.conv_enc4x = _ConvNormReLU(2 * n, 2 * n, 3)
        self.conv_hr4x = _chain(2 * n + _ENCODED[2] + 3, 2 * n, 2 * n, n)
        self.conv_hr2x = _chain(2 * n, 2 * n, n, n, n)
        self.conv_hr = nn.Sequential(_ConvNormReLU(n + 3, n, 3), _LastConv(n, 1))  # training only

    def forward(
        self, image: torch.Tensor, half: torch.Tensor, quarter: torch.Tensor, semantic: torch.Tensor
    ) -> torch.Tensor:
        """Details at 1/2 of the size."""
        half = self.tohr_enc2x(half)
        x = self.conv_enc2x(torch.cat((_rescale(image, 1 / 2), half), dim=1))
        x = self.conv_enc4x(torch.cat((x, self.tohr_enc4x(quarter)), dim=1))
        x = self.conv_hr4x(torch.cat((x, _rescale(semantic, 2), _rescale(image, 1 / 4)), dim=1))
        return self.conv_hr2x(torch.cat((_rescale(x, 2), half), dim=1))


class _FusionBranch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        n = _DETAIL
        self.conv_lr4x = _ConvNormReLU(_ENCODED[2], n, 5)
        self.conv_f2x = _ConvNormReLU(2 * n, n, 3)
        self.conv_f = nn.Sequential(_ConvNormReLU(n + 3, n // 2, 3), _LastConv(n // 2, 1))

    def forward(self, image: torch.Tensor, semantic: torch.Tensor, detail: torch.Tensor) -> torch.Tensor:
        x = self.conv_lr4x(_rescale(semantic, 2))
        x = self.conv_f2x(torch.cat((_rescale(x, 2), detail), dim=1))
        return self.conv_f(torch.cat((_rescale(x, 2), image), dim=1))


class _ConvNormReLU(nn.Module):
    """Convolution that keeps the size (divided by the stride), `_HalfInstanceNorm`, ReLU."""

    def __init__(self, channels_in: int, channels_out: int, size: int, stride: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            Conv2d(channels_in, channels_out, size, stride, padding=size // 2),
            _HalfInstanceNorm(channels_out),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class _LastConv(nn.Module):
    """The last layer of a branch: a convolution to one channel, without normalization."""

    def __init__(self, channels_in: int, size: int, stride: int = 1) -> None:
        super().__init__()
        self.layers = nn.Sequential(Conv2d(channels_in, 1, size, stride, padding=size // 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def _chain(*channels: int) -> nn.Sequential:
    return nn.Sequential(*(_ConvNormReLU(a, b, 3) for a, b in itertools.pairwise(channels)))


class _HalfInstanceNorm(nn.Module):
    """The first half of the channels goes through batch normalization, the rest through instance normalization.

    Written out, for inference only: `nn.InstanceNorm2d` changes the memory layout to channels first, where convolutions
    of few channels take up to three times as long on a CPU. Both halves are a product and a sum, so one pass does both.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bnorm = nn.BatchNorm2d(channels // 2)
        self.inorm = nn.InstanceNorm2d(channels - channels // 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, half = self.bnorm, self.bnorm.num_features
        gain = batch.weight * (batch.get_buffer("running_var") + batch.eps).rsqrt()  # [C/2]
        shift = batch.bias - batch.get_buffer("running_mean") * gain

        own = x[:, half:]
        mean = own.mean(dim=(2, 3), keepdim=True)  # [B,C/2,1,1]
        own_gain = ((own - mean).square_().mean(dim=(2, 3), keepdim=True) + self.inorm.eps).rsqrt()

        gain = torch.cat((gain.view(1, -1, 1, 1).expand(len(x), -1, -1, -1), own_gain), dim=1)  # [B,C,1,1]
        shift = torch.cat((shift.view(1, -1, 1, 1).expand(len(x), -1, -1, -1), -mean * own_gain), dim=1)
        return torch.addcmul(shift, x, gain)


class _SqueezeExcitation(nn.Module):
    """Weights each channel by a function of the means of all channels (Hu, Shen and Sun, 2018)."""

    def __init__(self, channels: int, reduction: int) -> None:
        super().__init__()
        self.fc = nn.Sequential(
            Linear(channels, channels // reduction, bias=False),
            nn.ReLU(inplace=True),
            Linear(channels // reduction, channels, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights = self.fc(x.mean(dim=(2, 3)))
        return x * weights[:, :, None, None]  # [B,C] -> [B,C,1,1]


class _MobileNetV2(nn.Module):
    """The layers of MobileNetV2 without its classifier, under their names in the checkpoints."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(*_mobilenet_layers())


class _Backbone(nn.Module):
    """MobileNetV2; returns its features at 1/2, 1/4 and 1/32 of the size."""

    def __init__(self) -> None:
        super().__init__()
        self.model = _MobileNetV2()

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        features = []
        for number, layer in enumerate(self.model.features):
            x = layer(x)
            if number in _AFTER_LAYER:
                features.append(x)
        return features


def _mobilenet_layers() -> Iterator[nn.Module]:
    channels = 32
    yield nn.Sequential(*_conv_batch_norm(3, channels, 3, stride=2), nn.ReLU6(inplace=True))
    for expansion, channels_out, blocks, stride in _STAGES:
        for block in range(blocks):
            yield _InvertedResidual(channels, channels_out, stride if block == 0 else 1, expansion)
            channels = channels_out
    yield nn.Sequential(*_conv_batch_norm(channels, _ENCODED[4], 1), nn.ReLU6(inplace=True))


class _InvertedResidual(nn.Module):
    """Widen by a 1 x 1 convolution, filter each channel by itself, narrow again, and add the input if it fits."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = channels_in * expansion
        widen = (*_conv_batch_norm(channels_in, wide, 1), nn.ReLU6(inplace=True)) if expansion > 1 else ()
        self.conv = nn.Sequential(
            *widen,
            *_conv_batch_norm(wide, wide, 3, stride, groups=wide),
            nn.ReLU6(inplace=True),
            *_conv_batch_norm(wide, channels_out, 1),
        )
        self.residual = stride == 1 and channels_in == channels_out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv(x) if self.residual else self.conv(x)


def _conv_batch_norm(
    channels_in: int, channels_out: int, size: int, stride: int = 1, groups: int = 1
) -> tuple[nn.Module, nn.Module]:
    conv = Conv2d(channels_in, channels_out, size, stride, padding=size // 2, groups=groups, bias=False)
    return conv, nn.BatchNorm2d(channels_out)


def _rescale(x: torch.Tensor, factor: float) -> torch.Tensor:
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)
