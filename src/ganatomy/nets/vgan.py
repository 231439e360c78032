"""Segmentor and discriminators of V-GAN, with the layers of Keras that differ from those of torch.

Son et al., arXiv 1706.09318, after the authors' release. All networks return logits.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from ganatomy.nets.layers import SameConvolution, init_glorot
from ganatomy.nets.unet import UNet

View = Literal["pixel", "patch1", "patch2", "image"]
"""Part of an image that a discriminator scores: every pixel, patches (of 61 or of 537 pixels), or the image."""
BLOCKS: dict[View, tuple[tuple[bool, bool, int], ...]] = {
    "patch1": ((True, True, 1), (False, True, 2), (False, False, 4)),
    "patch2": ((True, True, 1), (True, True, 2), (False, True, 4), (False, True, 8), (False, False, 16)),
}
"""Blocks of two convolutions: whether the first has a stride of 2, whether a pooling follows, multiple of the width."""
SLOPE = 0.2
"""Slope of the leaky ReLUs of the pixel discriminator below zero."""


class ShiftBatchNorm(nn.BatchNorm2d):
    """Batch normalisation that adds a learned number to each channel and multiplies by none, as in Keras.

    The running variance is the mean of the batches' variances with division by n, not by n - 1.

    Args:
        channels: number of channels.
        eps: number added to the variance.
        momentum: weight of a new batch in the running averages.
    """

    def __init__(self, channels: int, eps: float = 1e-3, momentum: float = 0.01):
        super().__init__(channels, eps, momentum, affine=False)
        self.shift = nn.Parameter(torch.zeros(channels))

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (N, C, H, W); the shape stays."""
        before = self.running_var
        assert before is not None and self.momentum is not None
        kept = (1 - self.momentum) * before
        normalised = super().forward(input)
        if self.training:
            count = input.numel() // input.shape[1]
            # A new tensor: backward passes of earlier batches still hold the old one.
            self.running_var = kept + (before - kept) * ((count - 1) / count)
        return normalised + self.shift[:, None, None]


class VesselUNet(UNet):
    """U-Net of V-GAN: ReLUs, `ShiftBatchNorm`, enlargement by nearest neighbours. (N, inputs, H, W) to (N, 1, H, W).

    Args:
        inputs: input channels.
        width: channels of the first of the five levels, which double from level to level.
        momentum: weight of a new batch in the running averages of the batch norms.
    """

    def __init__(self, inputs: int, width: int = 32, momentum: float = 0.01):
        widths = [width * 2**level for level in range(5)]
        super().__init__(inputs, 1, widths, widths[-2::-1], biased=True, slope=0.0)
        for parent in list(self.modules()):
            for name, layer in list(parent.named_children()):
                if isinstance(layer, nn.BatchNorm2d):
                    parent.add_module(name, ShiftBatchNorm(layer.num_features, momentum=momentum))
        init_glorot(self)


class VesselDiscriminator(nn.Module):
    """Discriminator of V-GAN, which scores images beside their vessels. (N, inputs, H, W) to (N, 1, h, w).

    Args:
        inputs: channels of image and vessels together.
        view: part of the image that a score is for. Maps of ``patch1`` have an eighth of the extents, those of
            ``patch2`` one 64th; ``image`` gives a single score, (N, 1, 1, 1).
        width: channels of the first layers.
    """

    def __init__(self, inputs: int, view: View, width: int = 32):
        super().__init__()
        layers: list[nn.Module] = []
        before = inputs
        if view == "pixel":
            for multiple in (1, 2, 4):
                layers += [nn.Conv2d(before, width * multiple, 3, padding=1), nn.LeakyReLU(SLOPE)]
                before = width * multiple
        for halving, pooled, multiple in BLOCKS.get("patch2" if view == "image" else view, ()):
            after = width * multiple
            first = SameConvolution(before, after, 3, 2) if halving else nn.Conv2d(before, after, 3, padding=1)
            layers += [first, ShiftBatchNorm(after), nn.ReLU()]
            layers += [nn.Conv2d(after, after, 3, padding=1), ShiftBatchNorm(after), nn.ReLU()]
            layers += [nn.MaxPool2d(2)] if pooled else []
            before = after
        layers += [nn.AdaptiveAvgPool2d(1)] if view == "image" else []
        self.layers = nn.Sequential(*layers, nn.Conv2d(before, 1, 1))
        init_glorot(self)

    def forward(self, pair: Tensor) -> Tensor:
        """Score images concatenated with maps of vessels."""
        return self.layers(pair)  # type: ignore[no-any-return]


def standardised(image: Tensor, above: float) -> Tensor:
    """Subtract the mean of each channel and divide by its standard deviation, over a field of view.

    Args:
        image: (N, C, H, W); a picture without a field of view is standardised as a whole.
        above: value of the first channel, which is red in photographs, that the field of view exceeds. The field is
            not grown over dark places within it.
    """
    inside = image[:, :1] > above
    inside = inside | ~inside.flatten(1).any(1)[:, None, None, None]
    count = inside.sum((2, 3), keepdim=True)
    mean = (image * inside).sum((2, 3), keepdim=True) / count
    variance = ((image - mean).square() * inside).sum((2, 3), keepdim=True) / count
    return (image - mean) / variance.sqrt().clamp_min(1e-3)
