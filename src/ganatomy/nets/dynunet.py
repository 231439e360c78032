"""MONAI's DynUNet, with its parts joined by a loop, so that every parameter has one name and outputs stay separate."""

from __future__ import annotations

from collections.abc import Sequence

from monai.networks.nets.dynunet import DynUNet
from torch import Tensor


class DynamicUNet(DynUNet):
    """U-Net with the strides and kernel sizes of every level as given, and an output at every level but the deepest.

    Blocks, initial weights and names of parameters are those of MONAI's DynUNet (instance norm, leaky ReLU 0.01,
    transposed convolutions, no bias before norms), whose outputs it has for the same weights. MONAI joins the blocks by
    nested modules that register them a second time, which file formats for weights refuse.

    Args:
        channels: channels of the image.
        regions: channels of the outputs.
        strides: strides of all levels, one tuple of an integer for each spatial axis; 1 at the first level.
        kernels: kernel sizes of all levels.
        widths: channels of all levels.

    Raises:
        ValueError: there are fewer than three levels.
    """

    def __init__(
        self,
        channels: int,
        regions: int,
        strides: Sequence[tuple[int, ...]],
        kernels: Sequence[tuple[int, ...]],
        widths: Sequence[int],
    ):
        super().__init__(
            len(strides[0]),
            channels,
            regions,
            list(kernels),
            list(strides),
            list(strides[1:]),
            list(widths),
            norm_name=("instance", {"affine": True}),
            deep_supervision=True,
            deep_supr_num=max(1, len(strides) - 2),
        )
        del self.skip_layers

    def levels(self, image: Tensor) -> list[Tensor]:
        """Return logits (N, regions, [D,] H, W) of all levels from the finest to the coarsest, each of its own size.

        Args:
            image: images, (N, channels, [D,] H, W), of extents that the product of the strides divides.
        """
        kept = [self.input_block(image)]
        for block in self.downsamples:
            kept.append(block(kept[-1]))
        features, found = self.bottleneck(kept[-1]), []
        for block, skip in zip(self.upsamples, reversed(kept), strict=True):
            features = block(features, skip)
            found.append(features)
        heads = [self.output_block, *self.deep_supervision_heads]
        return [head(one) for head, one in zip(heads, reversed(found), strict=False)]

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits of the finest level, (N, regions, [D,] H, W)."""
        return self.levels(image)[0]
