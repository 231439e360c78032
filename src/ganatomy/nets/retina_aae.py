"""Encoder and decoder of the adversarial autoencoder of vessel maps in end-to-end retinal synthesis.

Costa et al., IEEE TMI 37(3):781-791, 2018, doi:10.1109/TMI.2017.2759102, after the authors' release.
"""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from ganatomy.nets.layers import init_glorot
from ganatomy.nets.strided_unet import SLOPE, Statistics, keras_norm, widths_of


def convolved(before: int, after: int, stride: int, statistics: Statistics, kernel: int = 3) -> list[nn.Module]:
    """Return a convolution with its norm and leaky ReLU; one of side 3 has padding."""
    convolution = nn.Conv2d(before, after, kernel, stride, int(kernel == 3))
    return [convolution, keras_norm(statistics, after), nn.LeakyReLU(SLOPE)]


class MapEncoder(nn.Module):
    """Encoder of maps (N, 1, H, W) to mean and logarithm of the variance of a code, each (N, latent).

    As in the release, the first level does not halve the map, so that the last one has 4 pixels a side, from which a
    convolution of side 2 makes 3 x 3. In the release, a strided convolution of the first level is left unused.

    Args:
        width: channels of the first level.
        levels: number of levels; the map has 2**(levels + 1) rows and columns.
        latent: size of a code.
        halving: whether the first level halves the map, too. The last convolution then sees one pixel a map, and has
            no norm, which would make the same of all maps.
        statistics: statistics of the norms.
        dropout: dropout rate after every convolution of the last three levels.
    """

    def __init__(
        self,
        width: int,
        levels: int,
        latent: int,
        *,
        halving: bool = False,
        statistics: Statistics = "image",
        dropout: float = 0.5,
    ):
        super().__init__()
        layers: list[nn.Module] = []
        widths = widths_of(width, levels)
        for level, (before, after) in enumerate(pairwise([1, *widths])):
            steps = [(before, 2), (after, 1)] if level or halving else [(before, 1)]
            for inputs, stride in steps:
                layers += convolved(inputs, after, stride, statistics)
                if level >= levels - 3 and dropout:
                    layers.append(nn.Dropout(dropout))
        last = widths[-1]
        layers += (
            [nn.Conv2d(last, last, 2), nn.LeakyReLU(SLOPE)] if halving else convolved(last, last, 1, statistics, 2)
        )
        self.layers = nn.Sequential(*layers, nn.Flatten())
        side = 1 if halving else 3
        self.mean, self.log_variance = (nn.Linear(last * side**2, latent) for _ in range(2))
        init_glorot(self)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and logarithm of the variance of the codes of maps."""
        features = self.layers(image)
        return self.mean(features), self.log_variance(features)


class MapDecoder(nn.Module):
    """Decoder of codes (N, latent) to logits of maps (N, 1, H, W), which begins at one pixel.

    Each doubling is followed by one convolution, and each of the last four by two.

    Args:
        latent: size of a code.
        width: channels of the last levels; the first have eight times as many.
        doublings: number of doublings, at least 4; maps have 2**doublings rows and columns.
        statistics: statistics of the norms.
        dropout: dropout rate after the single convolutions but the first one.
    """

    def __init__(
        self, latent: int, width: int, doublings: int, *, statistics: Statistics = "image", dropout: float = 0.5
    ):
        super().__init__()
        widest = 8 * width
        self.project = nn.Linear(latent, widest)
        layers: list[nn.Module] = []
        for level in range(doublings - 4):
            layers += [nn.Upsample(None, 2.0), *convolved(widest, widest, 1, statistics)]
            if level and dropout:
                layers.append(nn.Dropout(dropout))
        steps: Sequence[int] = [widest, 4 * width, 2 * width, width, width]
        for before, after in pairwise(steps):
            layers += [nn.Upsample(None, 2.0), *convolved(before, after, 1, statistics)]
            layers += convolved(after, after, 1, statistics)
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, 1, 1))
        init_glorot(self)

    def forward(self, code: Tensor) -> Tensor:
        """Return logits of the maps of codes."""
        return self.layers(self.project(code)[:, :, None, None])  # type: ignore[no-any-return]
