"""Networks of the conditional GAN for brain tumours, and the reference batches of their normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import erf
from typing import Literal, Self

import torch
from torch import Tensor, nn

from ganatomy.nets.aids import ReferenceBatchNorm, VirtualBatchNorm, WithReference, normalisation
from ganatomy.nets.layers import Convolution, Transposed
from ganatomy.nets.unet import Pix2PixUNet

WIDTH = 128
"""Channels of the first layer of both published networks."""


class WideUNet(Pix2PixUNet):
    """U-Net of pix2pix with kernels of six pixels, biases everywhere, and normalised features at the bottleneck, too.

    Rezaei et al., arXiv 1708.05227. (N, channels, H, W) to (N, outputs, H, W), without an output activation; both
    extents are multiples of 2**levels.

    Args:
        channels: input channels.
        outputs: output channels.
        width: channels of the first level; grows to eight times that.
        levels: stride-2 steps; 8 for 256 pixels.
        norm: ``virtual``, with which the network has to be inside `StoredReference`, or ``batch``.
        dropout: dropout rate in the three innermost decoder levels.
    """

    def __init__(
        self,
        channels: int,
        outputs: int,
        width: int = WIDTH,
        levels: int = 8,
        norm: Literal["virtual", "batch"] = "virtual",
        dropout: float = 0.5,
    ):
        super().__init__(channels, outputs, width, levels, norm, dropout)
        for part in (*self.down, *self.up):
            assert isinstance(part, nn.Sequential)
            for place, layer in enumerate(part):
                if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                    part[place] = type(layer)(layer.in_channels, layer.out_channels, 6, 2, 2)
        deepest = self.down[-1]
        assert isinstance(deepest, nn.Sequential)
        deepest.append(normalisation(norm, width * min(2 ** (levels - 1), 8)))
        init_truncated(self, width)


class PairDiscriminator(nn.Sequential):
    """Discriminator of images with their maps as further channels: four convolutions of side 6, three of them strided.

    Rezaei et al., arXiv 1708.05227. (N, channels, H, W) to a map of logits (N, 1, H / 8, W / 8), each of which sees 116
    pixels, or to one logit (N, 1).

    Args:
        channels: channels of images and maps together.
        width: channels of the first layer.
        norm: ``reference``, with which the network has to be inside `StoredReference`, or ``batch``.
        size: rows and columns of the images for one logit of all features; None for a map of logits.
    """

    def __init__(
        self,
        channels: int,
        width: int = WIDTH,
        norm: Literal["reference", "batch"] = "reference",
        size: Sequence[int] | None = None,
    ):
        kind = ReferenceBatchNorm if norm == "reference" else nn.BatchNorm2d
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 6, 2, 2), nn.LeakyReLU(0.2)]
        for before, after in pairwise([width, 2 * width, 4 * width]):
            layers += [nn.Conv2d(before, after, 6, 2, 2), kind(after), nn.LeakyReLU(0.2)]
        layers += [*_same(4 * width, 8 * width), kind(8 * width), nn.LeakyReLU(0.2)]
        if size is None:
            layers += _same(8 * width, 1)
        else:
            layers += [nn.Flatten(), nn.Linear(8 * width * (size[0] // 8) * (size[1] // 8), 1)]
        super().__init__(*layers)
        init_truncated(self, width)


def _same(before: int, after: int) -> list[nn.Module]:
    """Return a convolution of side 6 that keeps the extents, with one pixel more of padding behind than before."""
    return [nn.ZeroPad2d((2, 3, 2, 3)), nn.Conv2d(before, after, 6)]


@torch.no_grad()
def init_truncated(network: nn.Module, width: int = WIDTH) -> None:
    """Draw weights from N(0, 0.02), those of convolutions within two SDs, and gains of virtual norms from N(1, 0.02).

    In place; biases are zero. In networks narrower than the published ones, weights are larger by √(128 / width).
    """
    spread = 0.02 * (WIDTH / width) ** 0.5
    for layer in network.modules():
        if isinstance(layer, Convolution):
            inside = erf(2**0.5)  # share of the distribution within two SDs
            layer.weight.uniform_(-inside, inside).erfinv_().mul_(2**0.5 * spread)
        elif isinstance(layer, Transposed | nn.Linear):
            nn.init.normal_(layer.weight, 0.0, spread)
        elif isinstance(layer, VirtualBatchNorm):
            nn.init.normal_(layer.weight, 1.0, 0.02)
        if isinstance(layer, Convolution | Transposed | nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)


class StoredReference(WithReference):
    """`WithReference` that is given its batch later, and at inference shows it to the network only once.

    Without layers that need a reference, it is the network alone.

    Args:
        network: network that takes one tensor.
        shape: shape of the reference batch, (n, ...); it is 0 until `store` is called.
    """

    def __init__(self, network: nn.Module, shape: Sequence[int]):
        super().__init__(network, torch.zeros(*shape))
        self.layers = [layer for layer in network.modules() if isinstance(layer, ReferenceBatchNorm)]
        self.kept: list[tuple[int, Tensor, Tensor] | None] = []

    def store(self, reference: Tensor) -> None:
        """Replace the reference batch by another of samples of the same shape.

        Raises:
            ValueError: the shape of the samples differs.
        """
        if reference.shape[1:] != self.reference.shape[1:]:
            raise ValueError(f"samples of {tuple(self.reference.shape[1:])}, not {tuple(reference.shape[1:])}")
        self.reference = reference.detach().clone()
        self.kept = []

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all layers; statistics that were kept for inference are forgotten."""
        self.kept = []
        return super().train(mode)

    def forward(self, batch: Tensor) -> Tensor:
        """Run the network on (N, ...) with the statistics of the reference batch."""
        if not self.layers:
            return self.network(batch)  # type: ignore[no-any-return]
        if self.training or torch.is_grad_enabled():
            return super().forward(batch)
        if not self.kept or self.kept[0] is None or self.kept[0][1].device != batch.device:
            with self._prepared():
                self.kept = [layer.reference for layer in self.layers]
        try:
            for layer, statistics in zip(self.layers, self.kept, strict=True):
                layer.reference = statistics
            return self.network(batch)  # type: ignore[no-any-return]
        finally:
            for layer in self.layers:
                layer.reference = None
