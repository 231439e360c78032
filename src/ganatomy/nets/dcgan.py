"""Convolutional generator and discriminator of DCGAN, in one to three dimensions and at any size."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ganatomy.nets.aids import (
    Activation,
    GaussianNoise,
    MinibatchDiscrimination,
    Norm,
    activation_layer,
    base_size,
    centre_crop,
    normalisation,
)
from ganatomy.nets.layers import (
    CONVOLUTION,
    TRANSPOSED,
    Convolution,
    SameConvolution,
    SameTransposed,
    Transposed,
    map_norms,
)

Kernel = Literal[3, 4, 5]

# Kernel to (padding, output padding) of a transposed convolution that doubles the size.
DOUBLING = {3: (1, 1), 4: (1, 0), 5: (2, 1)}


def init_dcgan(network: nn.Module, std: float = 0.02) -> None:
    """Draw weights from N(0, std) and the gains of the maps' batch norms from N(1, 0.02); biases are zero. In place.

    Radford et al., arXiv 1511.06434.
    """
    norms = map_norms(network)
    for module in network.modules():
        if isinstance(module, Convolution | Transposed | nn.Linear):
            nn.init.normal_(module.weight, 0.0, std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, norms) and module.affine:
            nn.init.normal_(module.weight, 1.0, 0.02)


class DCGenerator(nn.Module):
    """Latent vector to image: a dense projection, then transposed convolutions that double the size.

    Radford et al., arXiv 1511.06434. The projection makes ``channels[0]`` maps of the smallest size that doubles up to
    ``size`` or beyond; the centre is cropped from larger images. Layers have a bias where no normalisation follows,
    unless they are ``biased``; that of the last one can be left out.

    Args:
        latent: size of the latent vector, including the condition if there is one.
        outputs: image channels.
        size: extents of the image along its axes, one to three.
        channels: channels of the projection and of every hidden layer.
        kernel: side of the transposed convolutions.
        strides: strides of the hidden layers; 2 everywhere unless given. A stride of 1 needs an odd kernel.
        norm: normalisation of the hidden layers.
        unit_norm: whether ``batch`` and ``virtual`` normalise every value of the projection instead of every channel.
        activation: activation of the hidden layers; ``leaky`` has slope 0.2.
        output: activation of the image.
        refine: the image comes from a convolution at full size instead of from one more doubling.
        refine_kernel: side of that convolution.
        end_bias: whether the last convolution has a bias.
        biased: whether layers have a bias before a normalisation, too.
        same: whether images are enlarged as in TensorFlow, whose kernels of side 5 lie one pixel further to the end.
        std: standard deviation of the initial weights.
    """

    def __init__(
        self,
        latent: int,
        outputs: int,
        size: Sequence[int],
        channels: Sequence[int] = (1024, 512, 256, 128),
        *,
        kernel: Kernel = 5,
        strides: Sequence[int] | None = None,
        norm: Norm = "batch",
        unit_norm: bool = False,
        activation: Activation = "relu",
        output: Activation = "tanh",
        refine: bool = False,
        refine_kernel: Kernel = 3,
        end_bias: bool = True,
        biased: bool = False,
        same: bool = False,
        std: float = 0.02,
    ):
        super().__init__()
        dims = len(size)
        self.size = tuple(size)
        strides = strides or [2] * (len(channels) - 1)
        self.base = (channels[0], *base_size(size, sum(stride == 2 for stride in strides) + (not refine)))
        plain = norm == "none" or biased

        def hidden(width: int) -> list[nn.Module]:
            return [normalisation(norm, width, dims), activation_layer(activation)]

        def transposed(before: int, after: int, stride: int, bias: bool) -> nn.Module:
            if same and stride == 2:
                return SameTransposed(before, after, kernel, bias=bias)
            padding, extra = DOUBLING[kernel] if stride == 2 else (kernel // 2, 0)
            return TRANSPOSED[dims](before, after, kernel, stride, padding, extra, bias=bias)

        values = torch.Size(self.base).numel()
        self.project = nn.Linear(latent, values, bias=plain)
        layers = hidden(channels[0])
        units: Any = normalisation(norm, values, 1) if unit_norm and norm in ("batch", "virtual") else None
        if units:
            layers[0] = nn.Sequential(nn.Flatten(), units, nn.Unflatten(1, self.base))
        for (before, after), stride in zip(pairwise(channels), strides, strict=True):
            layers += [transposed(before, after, stride, plain), *hidden(after)]
        if refine:
            padding = refine_kernel // 2
            layers.append(CONVOLUTION[dims](channels[-1], outputs, refine_kernel, padding=padding, bias=end_bias))
        else:
            layers.append(transposed(channels[-1], outputs, 2, end_bias))
        self.layers = nn.Sequential(*layers, activation_layer(output))
        init_dcgan(self, std)
        if units:
            nn.init.normal_(units.weight, 1.0, 0.02)

    def forward(self, latent: Tensor) -> Tensor:
        """Generate images (N, outputs, *size) from latent vectors (N, latent)."""
        image = self.layers(self.project(latent).unflatten(1, self.base))
        return centre_crop(image, self.size)


class DCDiscriminator(nn.Module):
    """Discriminator of strided convolutions with leaky ReLUs and one dense layer. Radford et al., arXiv 1511.06434.

    The score is a raw logit. Convolutions have a bias where no normalisation follows, unless they are ``biased``. The
    first is never normalised; its bias and that of the score can be left out.

    Args:
        inputs: image channels, including the condition if there is one.
        size: extents of the image along its axes, one to three.
        channels: channels of every convolution.
        kernel: side of the convolutions.
        strides: strides of the convolutions; 2 everywhere unless given.
        norm: normalisation after all convolutions but the first; ``batch`` forbids gradient penalties.
        slope: slope of the leaky ReLUs below zero.
        dropout: dropout rate after every convolution.
        noise: standard deviation of noise added after all convolutions but the last, while training.
        pooling: whether the head receives all positions or their mean.
        head_dropout: dropout rate before the head.
        outputs: scores per image; more than one are class logits.
        classes: size of a second, classifying head, as in AC-GAN (Odena et al., arXiv 1610.09585); 0 for none.
        discrimination: kernels of minibatch discrimination before the score; 0 for none.
        end_bias: whether the first convolution and the score have a bias.
        biased: whether convolutions have a bias before a normalisation, too.
        same: whether images are padded as in TensorFlow, by one pixel more at the end of an axis than at its begin.
        std: standard deviation of the initial weights.
    """

    def __init__(
        self,
        inputs: int,
        size: Sequence[int],
        channels: Sequence[int] = (128, 256, 512, 1024),
        *,
        kernel: Kernel = 5,
        strides: Sequence[int] | None = None,
        norm: Norm = "batch",
        slope: float = 0.2,
        dropout: float = 0.0,
        noise: float = 0.0,
        pooling: Literal["flatten", "mean"] = "flatten",
        head_dropout: float = 0.0,
        outputs: int = 1,
        classes: int = 0,
        discrimination: int = 0,
        end_bias: bool = True,
        biased: bool = False,
        same: bool = False,
        std: float = 0.02,
    ):
        super().__init__()
        dims, padding = len(size), (kernel - 1) // 2
        side = tuple(size)
        layers: list[nn.Module] = []
        steps = zip(pairwise([inputs, *channels]), strides or [2] * len(channels), strict=True)
        for index, ((before, after), stride) in enumerate(steps):
            kind: Norm = norm if index else "none"
            bias = (norm == "none" or biased) if index else end_bias
            convolution = (
                SameConvolution(before, after, kernel, stride, bias=bias)
                if same
                else CONVOLUTION[dims](before, after, kernel, stride, padding, bias=bias)
            )
            layers += [
                convolution,
                normalisation(kind, after, dims),
                nn.LeakyReLU(slope),
                nn.Dropout(dropout),
            ]
            if noise and index < len(channels) - 1:
                layers.append(GaussianNoise(noise))
            side = tuple(
                -(-length // stride) if same else (length + 2 * padding - kernel) // stride + 1 for length in side
            )
        self.convolutions = nn.Sequential(*layers)
        self.pooling = pooling
        self.dropout = nn.Dropout(head_dropout)
        width = channels[-1] * (torch.Size(side).numel() if pooling == "flatten" else 1)
        self.head = nn.Linear(width + discrimination, outputs, bias=end_bias)
        self.classifier = nn.Linear(width, classes) if classes else None
        init_dcgan(self, std)
        # Created after the initialisation above, which would otherwise shrink its projection.
        self.discrimination = MinibatchDiscrimination(width, discrimination) if discrimination else nn.Identity()

    def features(self, image: Tensor) -> Tensor:
        """Map images (N, inputs, *size) to the activations of the last convolution, (N, channels[-1], ...)."""
        return self.convolutions(image)  # type: ignore[no-any-return]

    def score(self, features: Tensor) -> Tensor:
        """Map the output of `features` to raw scores (N, outputs)."""
        return self.head(self.discrimination(self._vector(features)))  # type: ignore[no-any-return]

    def classify(self, features: Tensor) -> Tensor:
        """Map the output of `features` to class logits (N, classes).

        Raises:
            ValueError: The network has no classifying head.
        """
        if self.classifier is None:
            raise ValueError("this discriminator was built with classes=0")
        return self.classifier(self._vector(features))  # type: ignore[no-any-return]

    def forward(self, image: Tensor) -> Tensor:
        """Score images (N, inputs, *size), (N, outputs)."""
        return self.score(self.features(image))

    def _vector(self, features: Tensor) -> Tensor:
        vector = features.flatten(1) if self.pooling == "flatten" else features.flatten(2).mean(2)
        return self.dropout(vector)  # type: ignore[no-any-return]
