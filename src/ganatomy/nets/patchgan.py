"""Patch discriminator of pix2pix."""

from torch import Tensor, nn

from ganatomy.nets.aids import Norm, normalisation
from ganatomy.nets.layers import CONVOLUTION, INSTANCE_NORM, Convolution, Transposed, map_norms


class PatchGAN(nn.Sequential):
    """Discriminator that scores overlapping patches and returns a map of logits. Isola et al., arXiv 1611.07004.

    (N, channels, ...) to (N, 1, ...).

    Args:
        channels: input channels (condition and image together).
        width: channels of the first layer.
        strided: number of stride-2 layers; 1, 2, 3, 4 give receptive fields of 16, 34, 70, 142 pixels.
        norm: normalisation after all but the first and the last convolution.
        dims: spatial axes, 1 to 3.
        scaled: whether instance norms have a learnable gain and bias, as batch norms have.
        biased: whether convolutions have a bias before a normalisation, too.
        biased_ends: whether the first and the last convolution have one.
        flat: whether a layer of stride 1 follows the strided ones before the last; without it receptive fields are 10,
            22, 46 pixels.
    """

    def __init__(
        self,
        channels: int,
        width: int = 64,
        strided: int = 3,
        norm: Norm = "batch",
        dims: int = 2,
        scaled: bool = False,
        biased: bool = False,
        biased_ends: bool = True,
        flat: bool = True,
    ):
        convolution = CONVOLUTION[dims]
        layers: list[nn.Module] = [convolution(channels, width, 4, 2, 1, bias=biased_ends), nn.LeakyReLU(0.2)]
        before = width
        for index in range(1, strided + flat):
            after = width * min(2**index, 8)
            stride = 2 if index < strided else 1
            layers += [
                convolution(before, after, 4, stride, 1, bias=biased or norm == "none"),
                normalisation(norm, after, dims, scaled),
                nn.LeakyReLU(0.2),
            ]
            before = after
        super().__init__(*layers, convolution(before, 1, 4, 1, 1, bias=biased_ends))


def init_pix2pix(network: nn.Module, width: int = 64) -> None:
    """Draw weights from N(0, 0.02) and gains of the normalisations from N(1, 0.02); biases are zero. In place.

    In networks narrower than the published ones, ``width`` channels instead of 64, weights are larger by √(64 / width),
    which keeps the size of the activations; otherwise they would be small against the epsilon of the normalisation.
    """
    spread = 0.02 * (64 / width) ** 0.5
    norms = (*map_norms(network), *INSTANCE_NORM.values())
    for module in network.modules():
        if isinstance(module, Convolution | Transposed):
            nn.init.normal_(module.weight, 0.0, spread)
        elif isinstance(module, norms) and module.affine:
            nn.init.normal_(module.weight, 1.0, 0.02)
        bias = getattr(module, "bias", None)
        if isinstance(bias, Tensor):
            nn.init.zeros_(bias)
