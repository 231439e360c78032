"""FusionNet: a residual U-Net whose skip connections average features instead of joining them."""

from __future__ import annotations

from torch import Tensor, nn

from ganatomy.nets.dcgan import init_dcgan


def normalised(before: int, after: int, activation: nn.Module) -> list[nn.Module]:
    """Return a convolution of kernel 3 with bias, batch normalisation and an activation."""
    return [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), activation]


class FusionBlock(nn.Module):
    """A convolution, a residual block of three convolutions without an activation after the sum, and a convolution.

    Args:
        before: channels of the input.
        after: channels of the output.
        activation: activation behind all normalised convolutions but the last one within the residual block.
    """

    def __init__(self, before: int, after: int, activation: nn.Module):
        super().__init__()
        self.first = nn.Sequential(*normalised(before, after, activation))
        self.residual = nn.Sequential(
            *normalised(after, after, activation),
            *normalised(after, after, activation),
            *normalised(after, after, nn.Identity()),
        )
        self.last = nn.Sequential(*normalised(after, after, activation))

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, before, H, W) to (N, after, H, W)."""
        features = self.first(features)
        return self.last(features + self.residual(features))  # type: ignore[no-any-return]


class FusionNet(nn.Module):
    """Residual encoder and decoder, whose features of equal size are averaged. Quan et al., arXiv 1612.05360.

    Weights of convolutions are drawn as for DCGAN; those of transposed convolutions keep PyTorch's defaults, as in the
    release that uses it for stains (hw-liang/DSCSI-GAN).

    Args:
        inputs: channels of the images.
        outputs: channels of the result, which has no activation.
        width: channels at full size; doubled at every halving.
        halvings: number of halvings; sizes are multiples of 2**halvings.
    """

    def __init__(self, inputs: int, outputs: int, width: int = 16, halvings: int = 4):
        super().__init__()
        widths = [width * 2**level for level in range(halvings + 1)]
        leaky, relu = nn.LeakyReLU(0.2), nn.ReLU()
        self.encoder = nn.ModuleList(
            FusionBlock(before, after, leaky) for before, after in zip([inputs, *widths[:-1]], widths, strict=True)
        )
        self.pool = nn.MaxPool2d(2)
        self.decoder = nn.ModuleList(FusionBlock(after, after, relu) for after in reversed(widths[:-1]))
        self.last = nn.Conv2d(width, outputs, 3, padding=1)
        init_dcgan(self)
        self.enlarge = nn.ModuleList(
            nn.Sequential(
                nn.ConvTranspose2d(2 * after, after, 3, 2, padding=1, output_padding=1), nn.BatchNorm2d(after), relu
            )
            for after in reversed(widths[:-1])
        )
        for norm in self.enlarge.modules():
            if isinstance(norm, nn.BatchNorm2d):
                nn.init.normal_(norm.weight, 1.0, 0.02)

    def forward(self, image: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H, W)."""
        kept = []
        for level, block in enumerate(self.encoder):
            image = block(self.pool(image) if level else image)
            kept.append(image)
        for enlarge, block, beside in zip(self.enlarge, self.decoder, reversed(kept[:-1]), strict=True):
            image = block((enlarge(image) + beside) / 2)
        return self.last(image)  # type: ignore[no-any-return]
