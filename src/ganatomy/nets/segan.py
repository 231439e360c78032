"""Segmentors and multi-scale critics of SegAN, and the masked images that the critics compare.

Xue et al., Neuroinformatics 16:383-392, 2018, doi:10.1007/s12021-018-9377-x. There are three pairs: that of the paper,
that of the authors' release for skin lesions (ISIC 2017) and that of their release for brain tumours (BRATS 2015).
Segmentors return logits, from which sigmoid or softmax make the maps of regions. Critics return no score but the list
of the masked image and the activations of every stage, which `losses.segmentation.multi_scale_l1` compares.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ganatomy.nets.residual import Residual

SLOPE = 0.2
"""Slope of the leaky ReLUs below zero, in the encoders and the critics."""
TINY = 1e-20
"""Added to uniform draws and to their logarithm, so that a draw of 0 makes finite Gumbel noise."""


def masked_images(image: Tensor, maps: Tensor, known: Tensor | None = None) -> Tensor:
    """Multiply every image channel with every region's map, which gives the input of the critics.

    Channel ``j * R + r`` is image channel j times map r, so that a single map simply masks the image.

    Args:
        image: (N, C, H, W), in the range of the networks; the background should be 0.
        maps: (N, R, H, W), probabilities or indicators.
        known: (N, R or 1, H, W), true where the region is annotated; elsewhere the product is 0. If predicted and true
            maps are masked alike, places without annotation make no difference between them.

    Returns:
        Masked images (N, C * R, H, W).
    """
    if known is not None:
        maps = maps.masked_fill(~known, 0)
    return (image.unsqueeze(2) * maps.unsqueeze(1)).flatten(1, 2)


def gumbel_softmax(logits: Tensor, uniform: Tensor, temperature: float) -> Tensor:
    """Return nearly one-hot, differentiable maps: the softmax over classes of (logits + Gumbel noise) / temperature.

    Jang et al., arXiv 1611.01144, without the straight-through estimator.

    Args:
        logits: (N, classes, ...).
        uniform: draws from [0, 1) of the same shape; a constant 0.5 adds the same to all logits, hence no noise.
        temperature: positive; the smaller, the closer to one-hot.
    """
    noise = -(-(uniform + TINY).log() + TINY).log()
    return ((logits + noise) / temperature).softmax(1)


def init_segan(network: nn.Module) -> None:
    """Initialise weights from N(0, sqrt(2 / (kernel area x output channels))), in place.

    Gains of batch norms are drawn from N(1, 0.02), biases are zero. He et al., arXiv 1502.01852, in fan-out mode.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            area = module.kernel_size[0] * module.kernel_size[1]
            nn.init.normal_(module.weight, 0.0, (2 / (area * module.out_channels)) ** 0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight, 1.0, 0.02)


class PaperSegmentor(nn.Module):
    """Segmentor of the paper: strided convolutions down, bilinear doubling up, skips by addition.

    (N, inputs, H, W) to logits (N, outputs, H, W). The encoder halves the size four times; every decoder stage
    interpolates to the size of the encoder map that it joins (corner pixels aligned), so any H and W from 16 on fit.
    Map sizes at 160 pixels are 80, 40, 20 and 10.

    Args:
        inputs: image channels; 3 sequences in the paper.
        outputs: regions, one logit each.
        width: channels of the first stage.
    """

    def __init__(self, inputs: int, outputs: int, width: int = 64):
        super().__init__()
        widths = [width, 2 * width, 4 * width, 8 * width]
        self.encoder = _strided_stages(inputs, widths)
        self.decoder = nn.ModuleList(_convolution(before, after, 3) for before, after in pairwise(widths[::-1]))
        self.head = nn.Conv2d(width, outputs, 3, padding=1, bias=False)
        init_segan(self)

    def forward(self, image: Tensor) -> Tensor:
        """Map images (N, inputs, H, W) to logits (N, outputs, H, W)."""
        skips = _activations(self.encoder, image)
        maps = skips.pop()
        for stage in self.decoder:
            skip = skips.pop()
            maps = stage(_resized(maps, skip)) + skip
        return self.head(_resized(maps, image))  # type: ignore[no-any-return]


class PaperCritic(nn.Module):
    """Critic of the paper: three strided stages whose feature maps are returned; receptive fields 4, 10, 22 pixels.

    Args:
        inputs: channels of the masked image.
        width: channels of the first stage.
    """

    def __init__(self, inputs: int, width: int = 64):
        super().__init__()
        self.stages = _strided_stages(inputs, [width, 2 * width, 4 * width])
        init_segan(self)

    def forward(self, masked: Tensor) -> list[Tensor]:
        """Return the masked image (N, inputs, H, W) and the activations of each stage, (N, C, H / 2, W / 2) etc."""
        return [masked, *_activations(self.stages, masked)]


class GlobalConvolution(nn.Module):
    """Large kernel made of separable ones: k x 1 then 1 x k, plus 1 x k then k x 1, without activation in between.

    Peng et al., arXiv 1703.02719. (N, before, H, W) to (N, after, H, W).

    Args:
        before: input channels.
        after: output channels.
        kernel: k, odd.
        bias: whether the four convolutions have one.
    """

    def __init__(self, before: int, after: int, kernel: int, bias: bool):
        super().__init__()

        def path(*kernels: tuple[int, int]) -> nn.Sequential:
            first, second = kernels
            return nn.Sequential(
                nn.Conv2d(before, after, first, padding="same", bias=bias),
                nn.Conv2d(after, after, second, padding="same", bias=bias),
            )

        self.columns_first, self.rows_first = path((kernel, 1), (1, kernel)), path((1, kernel), (kernel, 1))

    def forward(self, maps: Tensor) -> Tensor:
        """Map (N, before, H, W) to (N, after, H, W)."""
        return self.columns_first(maps) + self.rows_first(maps)  # type: ignore[no-any-return]


class ReleasedSegmentor(nn.Module):
    """Encoder and decoder of the authors' releases: residual units, global convolutions, skips by concatenation.

    Base of `IsicSegmentor` and `BratsSegmentor`, which differ in their deepest levels. Every decoder level concatenates
    the encoder map of its size, then interpolates (corner pixels aligned) to the size of the next shallower one, then
    convolves.

    Args:
        encoder: encoder stages, from the image down.
        bottom: bottleneck, which maps the deepest encoder map to a map of the same size.
        decoder: decoder blocks, deepest first, one for each encoder stage.
        head: last layer, which returns the logits.
    """

    def __init__(self, encoder: Sequence[nn.Module], bottom: nn.Module, decoder: Sequence[nn.Module], head: nn.Module):
        super().__init__()
        self.encoder, self.bottom = nn.ModuleList(encoder), bottom
        self.decoder, self.head = nn.ModuleList(decoder), head
        init_segan(self)

    def forward(self, image: Tensor) -> Tensor:
        """Map images (N, inputs, H, W) to logits (N, outputs, H, W)."""
        skips = _activations(self.encoder, image)
        maps = self.bottom(skips[-1])
        for block in self.decoder:
            joined = torch.cat([skips.pop(), maps], dim=1)
            maps = block(_resized(joined, skips[-1] if skips else image))
        return self.head(maps)  # type: ignore[no-any-return]


class IsicSegmentor(ReleasedSegmentor):
    """Segmentor of the authors' release for skin lesions, without the batch norms that it declares but never applies.

    (N, inputs, H, W) to logits (N, outputs, H, W); H and W are 33 at least. Map sizes at 128 pixels are 64, 32, 16, 8,
    4, 2 and 1; at that size batch norm needs more than one image while training.

    Args:
        inputs: image channels; 3 in the release.
        outputs: regions, one logit each; 1 in the release.
        width: channels of the first stage.
    """

    def __init__(self, inputs: int = 3, outputs: int = 1, width: int = 64):
        w = width
        encoder = [
            *_shallow_encoder(inputs, w),
            nn.Sequential(_strided(8 * w, 8 * w, 5, 2), _residual_unit(8 * w, leaky=True)),
            nn.Sequential(_strided(8 * w, 16 * w, 4, 1), Residual(_convolution(16 * w, 16 * w, 1, leaky=True))),
            _strided(16 * w, 32 * w, 3, 1),
        ]
        bottom = nn.Sequential(
            _convolution(32 * w, 8 * w, 1, leaky=True),
            nn.ConvTranspose2d(8 * w, 32 * w, 1, bias=False),
            nn.BatchNorm2d(32 * w),
            nn.ReLU(),
        )
        decoder = [
            nn.Sequential(_convolution(64 * w, 16 * w, 3), Residual(_convolution(16 * w, 16 * w, 1))),
            nn.Sequential(_convolution(32 * w, 8 * w, 3), _residual_unit(8 * w, leaky=False)),
            _global_block(16 * w, 8 * w, 7, bias=True),
            *_shallow_decoder(w, bias=True),
        ]
        super().__init__(encoder, bottom, decoder, nn.Conv2d(w, outputs, 5, padding=2, bias=False))


class IsicCritic(nn.Module):
    """Critic of the authors' release for skin lesions: six strided convolutions, from 128 pixels to 2.

    The side layers that the release declares and never calls are left out.

    Args:
        inputs: channels of the masked image.
        width: channels of the first stage.
    """

    multipliers = (1, 1, 2, 2, 2, 2, 4)
    """Weights of the masked image and of each stage in the release's loss."""

    def __init__(self, inputs: int = 3, width: int = 64):
        super().__init__()
        w = width
        self.stages = nn.ModuleList(
            [
                _strided(inputs, w, 7, 3, norm=False),
                _strided(w, 2 * w, 5, 2),
                _strided(2 * w, 4 * w, 4, 1),
                _strided(4 * w, 8 * w, 4, 1),
                _strided(8 * w, 8 * w, 4, 1),
                _strided(8 * w, 8 * w, 3, 1),
            ]
        )
        init_segan(self)

    def forward(self, masked: Tensor) -> list[Tensor]:
        """Return the masked image (N, inputs, H, W) and the activations of each stage."""
        return [masked, *_activations(self.stages, masked)]


class BratsSegmentor(ReleasedSegmentor):
    """Segmentor of the authors' release for brain tumours, for four sequences and five classes.

    (N, inputs, H, W) to class logits (N, outputs, H, W); H and W are 33 at least.

    Args:
        inputs: image channels; T1c, T1, FLAIR and T2 in the release.
        outputs: classes, background included; in training `gumbel_softmax` makes their maps.
        width: channels of the first stage.
    """

    def __init__(self, inputs: int = 4, outputs: int = 5, width: int = 64):
        w = width
        encoder = [
            *_shallow_encoder(inputs, w),
            nn.Sequential(_strided(8 * w, 16 * w, 5, 2), _residual_unit(16 * w, leaky=True)),
        ]
        decoder = [_global_block(32 * w, 8 * w, 7, bias=False), *_shallow_decoder(w, bias=False)]
        super().__init__(encoder, _BratsBottom(w), decoder, nn.Conv2d(w, outputs, 5, padding=2, bias=False))


class BratsCritic(nn.Module):
    """Critic of the authors' release for brain tumours: pooled global convolutions, then strided convolutions.

    The pooling is not padded: map sizes at 192 pixels are 95, 47, 23, 11, 6 and 3.

    Args:
        inputs: channels of the masked image; 4 sequences times 5 classes in the release.
        width: channels of the first stage.
    """

    multipliers = (1, 1, 2, 2, 4, 8, 16)
    """Weights of the masked image and of each stage in the release's loss."""

    def __init__(self, inputs: int = 20, width: int = 64):
        super().__init__()
        w = width

        def pooled(before: int, after: int, kernel: int, norm: bool = True) -> nn.Sequential:
            layers: list[nn.Module] = [GlobalConvolution(before, after, kernel, bias=False)]
            layers += [nn.BatchNorm2d(after)] if norm else []
            return nn.Sequential(*layers, nn.LeakyReLU(SLOPE), nn.MaxPool2d(3, 2))

        self.stages = nn.ModuleList(
            [
                pooled(inputs, w, 13, norm=False),
                pooled(w, 2 * w, 11),
                pooled(2 * w, 4 * w, 9),
                pooled(4 * w, 8 * w, 7),
                _strided(8 * w, 8 * w, 5, 2),
                _strided(8 * w, 8 * w, 3, 1),
            ]
        )
        init_segan(self)

    def forward(self, masked: Tensor) -> list[Tensor]:
        """Return the masked image (N, inputs, H, W) and the activations of each stage."""
        return [masked, *_activations(self.stages, masked)]


class _BratsBottom(nn.Module):
    """Bottleneck of `BratsSegmentor`: one more halving and the way back, each with a 1x1 residual unit."""

    def __init__(self, width: int):
        super().__init__()
        w = width
        self.down = nn.Sequential(_strided(16 * w, 32 * w, 4, 1), Residual(_convolution(32 * w, 32 * w, 1, leaky=True)))
        self.up = nn.Sequential(_convolution(32 * w, 16 * w, 3), Residual(_convolution(16 * w, 16 * w, 1)))

    def forward(self, maps: Tensor) -> Tensor:
        return self.up(_resized(self.down(maps), maps))  # type: ignore[no-any-return]


def _activations(stages: nn.ModuleList, image: Tensor) -> list[Tensor]:
    activations = []
    for stage in stages:
        image = stage(image)
        activations.append(image)
    return activations


def _resized(maps: Tensor, like: Tensor) -> Tensor:
    """Interpolate to another map's size bilinearly, corners aligned as in the authors' version of PyTorch."""
    return interpolate(maps, size=like.shape[2:], mode="bilinear", align_corners=True)


def _strided(before: int, after: int, kernel: int, padding: int, norm: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(before, after, kernel, 2, padding, bias=False)]
    layers += [nn.BatchNorm2d(after)] if norm else []
    return nn.Sequential(*layers, nn.LeakyReLU(SLOPE))


def _strided_stages(inputs: int, widths: Sequence[int]) -> nn.ModuleList:
    steps = enumerate(pairwise([inputs, *widths]))
    return nn.ModuleList(_strided(before, after, 4, 1, norm=index > 0) for index, (before, after) in steps)


def _convolution(before: int, after: int, kernel: int, leaky: bool = False) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, kernel, padding="same", bias=False),
        nn.BatchNorm2d(after),
        nn.LeakyReLU(SLOPE if leaky else 0.0),
    )


def _residual_unit(width: int, leaky: bool) -> Residual:
    """Build an inverted bottleneck: inner layers twice as wide, without normalisation."""

    def layer(before: int, after: int, kernel: int) -> list[nn.Module]:
        convolution = nn.Conv2d(before, after, kernel, padding="same", bias=False)
        return [convolution, nn.LeakyReLU(SLOPE if leaky else 0.0)]

    wide = 2 * width
    return Residual(nn.Sequential(*layer(width, wide, 1), *layer(wide, wide, 3), *layer(wide, width, 1)))


def _global_block(before: int, after: int, kernel: int, bias: bool) -> nn.Sequential:
    return nn.Sequential(
        GlobalConvolution(before, after, kernel, bias),
        nn.BatchNorm2d(after),
        nn.ReLU(),
        _residual_unit(after, leaky=False),
    )


def _shallow_encoder(inputs: int, width: int) -> list[nn.Module]:
    """Build the four encoder stages that both releases share."""
    w = width
    return [
        nn.Sequential(_strided(inputs, w, 7, 3, norm=False), _residual_unit(w, leaky=True)),
        *(
            nn.Sequential(_strided(before, 2 * before, 5, 2), _residual_unit(2 * before, leaky=True))
            for before in (w, 2 * w, 4 * w)
        ),
    ]


def _shallow_decoder(width: int, bias: bool) -> list[nn.Module]:
    """Build the four decoder blocks that both releases share."""
    w = width
    return [
        _global_block(16 * w, 4 * w, 7, bias),
        _global_block(8 * w, 2 * w, 9, bias),
        _global_block(4 * w, w, 9, bias),
        _global_block(2 * w, w, 11, bias),
    ]
