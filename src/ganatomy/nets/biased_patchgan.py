"""Patch discriminator whose convolutions all have a bias, as in the released code of several systems."""

import torch
from torch import nn

from ganatomy.nets.aids import Norm
from ganatomy.nets.layers import Convolution
from ganatomy.nets.patchgan import PatchGAN


class BiasedPatchGAN(PatchGAN):
    """`PatchGAN` with a bias in every convolution, also where a normalisation follows. Isola et al., arXiv 1611.07004.

    (N, channels, H, W) to (N, 1, ...).

    Args:
        channels: input channels.
        width: channels of the first layer.
        norm: normalisation after all but the first and the last convolution.
        padding: zeros added per side of every layer.
    """

    def __init__(self, channels: int, width: int = 64, norm: Norm = "batch", padding: int = 1):
        super().__init__(channels, width, norm=norm)
        for layer in self:
            if isinstance(layer, Convolution):
                layer.padding = (padding, padding)
                if layer.bias is None:
                    layer.bias = nn.Parameter(torch.zeros(layer.out_channels))
