"""Networks of the context-aware GAN: a generator without pooling, and a discriminator of small patches.

Nie et al., arXiv 1612.05362.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

from ganatomy.errors import UserError
from ganatomy.nets.layers import BATCH_NORM, CONVOLUTION, MAX_POOL, Convolution

EPSILON = 1e-3
"""Number added to the variance in batch norms, as in the authors' program."""


class ContextGenerator(nn.Sequential):
    """Convolutions of stride 1, of which some are not padded: the output is smaller than the input. Linear output.

    (N, inputs, ...) to (N, outputs, ...), smaller by `lost` voxels per side. Every convolution but the last is followed
    by batch norm without gain and shift, and a ReLU.

    Args:
        inputs: input channels.
        kernels: sides of the kernels, all odd.
        widths: channels behind every convolution; the last number is that of the output.
        unpadded: places of the convolutions without padding, from 0.
        momentum: share of a batch in the running averages of batch norms.
        dims: spatial axes, 1 to 3.

    Raises:
        UserError: the numbers of kernels and of widths differ, a kernel is even, or an unpadded one does not exist.
    """

    def __init__(
        self,
        inputs: int,
        kernels: Sequence[int],
        widths: Sequence[int],
        unpadded: Sequence[int],
        momentum: float = 1e-3,
        dims: int = 3,
    ):
        if len(kernels) != len(widths):
            raise UserError(
                f"--kernels has {len(kernels)} numbers and --widths {len(widths)}: give one of each per layer"
            )
        if any(kernel % 2 == 0 for kernel in kernels):
            raise UserError(f"--kernels {' '.join(map(str, kernels))}: the sides of kernels must be odd")
        if set(unpadded) - set(range(len(kernels))):
            raise UserError(
                f"--unpadded {' '.join(map(str, unpadded))}: layers are counted from 0 to {len(kernels) - 1}"
            )
        self.lost = sum(kernels[place] // 2 for place in set(unpadded))
        self.reach = sum(kernel // 2 for kernel in kernels)
        layers: list[nn.Module] = []
        for place, ((before, after), kernel) in enumerate(zip(pairwise((inputs, *widths)), kernels, strict=True)):
            padding = 0 if place in unpadded else kernel // 2
            convolution = CONVOLUTION[dims](before, after, kernel, padding=padding)
            nn.init.xavier_uniform_(convolution.weight)
            assert convolution.bias is not None
            nn.init.zeros_(convolution.bias)
            layers.append(convolution)
            if place < len(kernels) - 1:
                layers += [BATCH_NORM[dims](after, EPSILON, momentum, affine=False), nn.ReLU()]
        super().__init__(*layers)

    lost: int
    """Voxels per side by which the output is smaller than the input."""
    reach: int
    """Voxels per side that an output voxel depends on: half of the receptive field."""


class ContextDiscriminator(nn.Sequential):
    """Convolutions with pooling and dense layers; (N, inputs, *size) to logits (N, 1).

    All convolutions are padded and followed by batch norm without gain and shift and a ReLU, all but the last of them
    by max pooling.

    Args:
        inputs: input channels.
        size: extents of the patch.
        widths: channels behind every convolution.
        hidden: units of the dense layers before the score.
        kernel: side of the kernels.
        momentum: share of a batch in the running averages of batch norms.
    """

    def __init__(
        self,
        inputs: int,
        size: Sequence[int],
        widths: Sequence[int] = (32, 64, 128, 256),
        hidden: Sequence[int] = (512, 128),
        kernel: int = 5,
        momentum: float = 1e-3,
    ):
        dims, halvings = len(size), len(widths) - 1
        layers: list[nn.Module] = []
        for place, (before, after) in enumerate(pairwise((inputs, *widths))):
            layers += [
                CONVOLUTION[dims](before, after, kernel, padding=kernel // 2),
                BATCH_NORM[dims](after, EPSILON, momentum, affine=False),
                nn.ReLU(),
                *([MAX_POOL[dims](2)] if place < halvings else []),
            ]
        layers.append(nn.Flatten())
        positions = torch.Size([extent // 2**halvings for extent in size]).numel()
        for before, after in pairwise((widths[-1] * positions, *hidden)):
            layers += [nn.Linear(before, after), nn.ReLU()]
        layers.append(nn.Linear(hidden[-1] if hidden else widths[-1] * positions, 1))
        for layer in layers:
            if isinstance(layer, Convolution | nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)
        super().__init__(*layers)
