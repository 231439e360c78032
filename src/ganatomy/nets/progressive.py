"""Progressively growing generator and discriminator of PGAN. Karras et al., arXiv 1710.10196.

Level 0 has 4 pixels a side, every level doubles it. Both networks hold the layers of all levels from the beginning and
are given the present ``level`` and ``alpha``, the weight of that level while it fades in; layers above are not used.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ganatomy.nets.aids import EqualisedConv, EqualisedLinear
from ganatomy.nets.layers import AVERAGE_POOL


class PixelNorm(nn.Module):
    """Pixel normalisation: divides (N, C, ...) at each position by the root mean square over its channels."""

    def forward(self, features: Tensor) -> Tensor:
        """Normalise (N, C, ...); the shape stays."""
        return features * torch.rsqrt(features.square().mean(1, keepdim=True) + 1e-8)


def minibatch_stddev(features: Tensor, group: int = 4) -> Tensor:
    """Append one constant map to the features: the standard deviation in the group, averaged over channels and space.

    Groups are ``group`` consecutive samples; a batch that does not divide into such groups is one group.
    (N, C, ...) to (N, C + 1, ...).
    """
    rows = len(features)
    size = group if rows % group == 0 else rows
    variance = features.reshape(-1, size, *features.shape[1:]).var(1, correction=0)
    spread = (variance + 1e-8).sqrt().flatten(1).mean(1)
    shape = features.shape[2:]
    plane = spread.repeat_interleave(size).reshape(rows, 1, *[1] * len(shape)).expand(-1, -1, *shape)
    return torch.cat([features, plane], dim=1)


def stage_channels(stage: int, base: int = 8192, maximum: int = 512) -> int:
    """Return the number of channels of a stage, min(base / 2**stage, maximum), at least one."""
    return max(1, min(base >> stage, maximum))


SIDES = tuple(4 << level for level in range(9))
"""Pixels a side of the images that progressive growing makes."""


def level_of(size: int) -> int:
    """Return the level of images of ``size`` pixels a side.

    Raises:
        ValueError: The size is no power of two between 4 and 1024.
    """
    if size not in SIDES:
        raise ValueError(f"progressive growing makes 4, 8, 16 ... 1024 pixels a side, not {size}")
    return size.bit_length() - 3


def faded(image: Tensor, alpha: float) -> Tensor:
    """Blend real images (N, C, ...) with their half-resolution version, which has the weight ``1 - alpha``.

    Real images are blended like the generator's output while a level fades in.
    """
    if alpha >= 1:
        return image
    return torch.lerp(interpolate(AVERAGE_POOL[image.dim() - 2](2)(image), scale_factor=2.0), image, alpha)


def _layer(before: int, after: int, kernel: int, padding: int, dims: int) -> list[nn.Module]:
    return [EqualisedConv(before, after, kernel, padding, dims=dims), nn.LeakyReLU(0.2)]


class ProgressiveGenerator(nn.Module):
    """Generator that grows level by level: latent vector to an image of equal sides, linear output.

    Args:
        latent: size of the latent vector, including the condition if there is one.
        outputs: image channels.
        size: side of the image when fully grown, in pixels, 4 to 1024.
        base: level l has ``stage_channels(l + 1, base, maximum)`` channels.
        maximum: see ``base``.
        dims: spatial axes, 1 to 3.
    """

    def __init__(
        self,
        latent: int = 512,
        outputs: int = 3,
        size: int = 1024,
        base: int = 8192,
        maximum: int = 512,
        dims: int = 2,
    ):
        super().__init__()
        self.dims = dims
        widths = [stage_channels(level + 1, base, maximum) for level in range(level_of(size) + 1)]

        def block(*layers: nn.Module, width: int) -> nn.Sequential:
            return nn.Sequential(*layers, PixelNorm(), *_layer(width, width, 3, 1, dims), PixelNorm())

        # A kernel of side 4 on one padded pixel is the dense first layer, with its scaling.
        self.blocks = nn.ModuleList([block(PixelNorm(), *_layer(latent, widths[0], 4, 3, dims), width=widths[0])])
        for before, after in pairwise(widths):
            self.blocks.append(block(nn.Upsample(scale_factor=2), *_layer(before, after, 3, 1, dims), width=after))
        self.to_image = nn.ModuleList(EqualisedConv(width, outputs, 1, gain=1.0, dims=dims) for width in widths)

    def forward(self, latent: Tensor, level: int | None = None, alpha: float = 1.0) -> Tensor:
        """Generate images (N, outputs, ...) of 4·2**level pixels a side from (N, latent); the last level by default.

        The image is a blend: ``alpha`` of this level, ``1 - alpha`` of the enlarged output of the level before.
        """
        level = len(self.blocks) - 1 if level is None else level
        before = features = latent.reshape(*latent.shape, *[1] * self.dims)
        for block in self.blocks[: level + 1]:
            before, features = features, block(features)
        image: Tensor = self.to_image[level](features)
        if level and alpha < 1:
            coarse = interpolate(self.to_image[level - 1](before), scale_factor=2.0)
            image = torch.lerp(coarse, image, alpha)
        return image


class ProgressiveDiscriminator(nn.Module):
    """Discriminator that grows level by level: image of equal sides to raw score, without normalisation.

    The samples of a group share the map of `minibatch_stddev`.

    Args:
        inputs: image channels.
        size: side of the image when fully grown, in pixels, 4 to 1024.
        base: determines the channels of the levels, as in `ProgressiveGenerator`.
        maximum: largest number of channels, as in `ProgressiveGenerator`.
        group: samples per group of `minibatch_stddev`.
        dims: spatial axes, 1 to 3.
        classes: number of classes that the last layer also has logits of.
    """

    def __init__(
        self,
        inputs: int = 3,
        size: int = 1024,
        base: int = 8192,
        maximum: int = 512,
        group: int = 4,
        dims: int = 2,
        classes: int = 0,
    ):
        super().__init__()
        self.group = group
        self.halve = AVERAGE_POOL[dims](2)
        dense, *widths = [stage_channels(stage, base, maximum) for stage in range(level_of(size) + 2)]
        self.from_image = nn.ModuleList(nn.Sequential(*_layer(inputs, width, 1, 0, dims)) for width in widths)
        self.blocks = nn.ModuleList(
            nn.Sequential(*_layer(width, width, 3, 1, dims), *_layer(width, below, 3, 1, dims), AVERAGE_POOL[dims](2))
            for below, width in pairwise(widths)
        )
        self.last = nn.Sequential(
            *_layer(widths[0] + 1, widths[0], 3, 1, dims),
            nn.Flatten(),
            EqualisedLinear(4**dims * widths[0], dense),
            nn.LeakyReLU(0.2),
        )
        self.head = EqualisedLinear(dense, 1 + classes, gain=1.0)

    def features(self, image: Tensor, level: int | None = None, alpha: float = 1.0) -> Tensor:
        """Map images (N, inputs, ...) of 4·2**level pixels a side to features (N, width of the dense layer).

        ``level`` and ``alpha`` have the meaning that they have in the generator.
        """
        level = len(self.blocks) if level is None else level
        features: Tensor = self.from_image[level](image)
        if level:
            features = self.blocks[level - 1](features)
            if alpha < 1:
                features = torch.lerp(self.from_image[level - 1](self.halve(image)), features, alpha)
        for index in reversed(range(level - 1)):
            features = self.blocks[index](features)
        return self.last(minibatch_stddev(features, self.group))  # type: ignore[no-any-return]

    def forward(self, image: Tensor, level: int | None = None, alpha: float = 1.0) -> Tensor:
        """Score images (N, inputs, ...) of 4·2**level pixels a side, (N, 1); the last level by default."""
        return self.judged(self.features(image, level, alpha))[0]

    def judged(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scores (N, 1) and the logits of the classes (N, classes) of `features`."""
        found: Tensor = self.head(features)
        return found[:, :1], found[:, 1:]
