"""Conditional GAN: generator and discriminator are conditioned on a label."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ganatomy.game import Batch
from ganatomy.methods.frameworks.gan import OriginalConfig, OriginalGame
from ganatomy.methods.frameworks.pair import check_classes
from ganatomy.nets.aids import base_size, centre_crop, normalisation
from ganatomy.nets.dcgan import DOUBLING, Kernel, init_dcgan
from ganatomy.nets.layers import BATCH_NORM, CONVOLUTION, TRANSPOSED
from ganatomy.nets.mlp import MLP, Maxout, MaxoutDiscriminator, init_uniform

VectorNorm = Literal["batch", "layer", "none"]


class CGAN(OriginalGame):
    """Class-conditional GAN: the label is an input of generator and discriminator.

    Mirza & Osindero, Conditional Generative Adversarial Nets, 2014. arXiv 1411.1784. The dense networks are the
    paper's, with the game of the GAN that they extend; the convolutional ones are those that Radford et al., arXiv
    1511.06434, published for labelled digits: batch norm has no scale and shift, and no layer has a bias. They end with
    a tanh instead of a sigmoid, since images lie in [-1, 1] here.
    """

    stated_augmentation = None
    revision = 2

    class Config(OriginalConfig):
        """Dense networks for digits of 28 pixels."""

        latent: int = 100  # size of the latent vector, U(-1, 1)
        networks: Literal["mlp", "dcgan"] = "mlp"  # dense, or convolutional with the label before every layer
        classes: tuple[str, ...] = ("naevus", "melanoma")  # labels made; those of the embedded phantom
        rate_divisor: float = Field(1.00004, ge=1)  # divisor of the SGD learning rate, every round
        latent_units: int = 200  # units of the generator's dense layer on the latent vector
        label_units: int = 1000  # units of the generator's dense layer on the label
        hidden: tuple[int, ...] = (1200,)  # units of the generator's hidden layers on latent vector and label
        image_maxout: tuple[int, int] = (240, 5)  # units and pieces of the discriminator's maxout on the image
        label_maxout: tuple[int, int] = (50, 5)  # units and pieces of the discriminator's maxout on the label
        units: tuple[int, ...] = (240,)  # maxout units of the discriminator's hidden layers on image and label
        pieces: int = 4  # linear functions per maxout unit of these hidden layers
        input_dropout: float = 0.0  # dropout rate of the discriminator's input (our choice)
        widths: tuple[int, ...] = (64, 128)  # convolutional: channels from the image to the smallest maps
        dense: int = 1024  # convolutional: units of the dense layer of each player
        kernel: Kernel = 5  # side of the convolutions
        discriminator_norm: VectorNorm = "batch"  # convolutional: norm of the discriminator's layers but first and last

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "convolutional": {
                "networks": "dcgan",
                "optimizer": "adam",
                "learning_rate": 2e-4,
                "weight_decay": 2.5e-5,
                "game_rounds": 39_000,
                "batch_size": 128,
                "decay_start": 0.5,
            },
            "small": {
                "size": (32, 32),
                "networks": "dcgan",
                "optimizer": "adam",
                "learning_rate": 5e-4,
                "game_rounds": 1000,
                "batch_size": 16,
                "widths": (32, 64, 128),
                "dense": 128,
                "kernel": 4,
                "discriminator_norm": "layer",
                "ema_halflife": 1000.0,
            },
        }

    config: Config
    labelled = True

    def build(self) -> None:
        c = self.config
        check_classes(c.classes)
        classes, pixels = len(c.classes), torch.Size((c.channels, *c.size))
        if c.networks == "mlp":
            sizes = (c.latent_units + c.label_units, *c.hidden, pixels.numel())
            self.generator = DenseGenerator(c.latent, classes, c.latent_units, sizes, pixels)
            init_uniform(self.generator, c.generator_limit)
            rest = MaxoutDiscriminator(c.image_maxout[0] + c.label_maxout[0], c.units, c.pieces, 0.0, c.dropout)
            self.discriminator = DenseDiscriminator(
                Branch(pixels.numel(), *c.image_maxout, c.input_dropout, c.dropout),
                Branch(classes, *c.label_maxout, 0.0, c.dropout),
                rest,
            )
            init_uniform(self.discriminator, c.discriminator_limit)
        else:
            self.generator = TiledGenerator(c.latent, classes, c.channels, c.size, c.dense, c.widths[::-1], c.kernel)
            self.discriminator = TiledDiscriminator(
                c.channels, classes, c.size, c.widths, c.dense, c.kernel, c.discriminator_norm
            )

    def sample(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        assert label is not None
        return self.generator(latent, self.condition(label))  # type: ignore[no-any-return]

    def told(self, batch: Batch) -> tuple[Tensor, ...]:
        return (self.condition(batch["label"]),)


def tiled(maps: Tensor, condition: Tensor) -> Tensor:
    """Append the condition (N, K) to maps (N, C, ...) as K constant channels."""
    planes = condition.reshape(*condition.shape, *[1] * (maps.dim() - 2))
    return torch.cat([maps, planes.expand(-1, -1, *maps.shape[2:])], dim=1)


class DenseGenerator(nn.Module):
    """Dense generator that joins latent vector and condition after one layer each. Mirza & Osindero, arXiv 1411.1784.

    Args:
        latent: size of the latent vector.
        classes: size of the condition vector.
        latent_units: units of the layer on the latent vector; that on the condition has the rest of ``sizes[0]``.
        sizes: numbers of units of the joint vector, of every hidden layer and of the image.
        shape: shape of the image, with channels.
    """

    def __init__(self, latent: int, classes: int, latent_units: int, sizes: Sequence[int], shape: torch.Size):
        super().__init__()
        self.of_latent = nn.Sequential(nn.Linear(latent, latent_units), nn.ReLU())
        self.of_condition = nn.Sequential(nn.Linear(classes, sizes[0] - latent_units), nn.ReLU())
        self.joint = nn.Sequential(MLP(sizes, output="tanh"), nn.Unflatten(1, shape))

    def forward(self, latent: Tensor, condition: Tensor) -> Tensor:
        """Generate images (N, *shape) from (N, latent) and (N, classes)."""
        return self.joint(torch.cat([self.of_latent(latent), self.of_condition(condition)], dim=1))  # type: ignore[no-any-return]


class Branch(nn.Sequential):
    """Maxout layer on samples of any shape, with dropout before and behind it. (N, ...) to (N, units)."""

    def __init__(self, inputs: int, units: int, pieces: int, input_dropout: float, dropout: float):
        super().__init__(nn.Flatten(), nn.Dropout(input_dropout), Maxout(inputs, units, pieces), nn.Dropout(dropout))


class DenseDiscriminator(nn.Module):
    """Maxout discriminator that joins image and condition after one layer each. Mirza & Osindero, arXiv 1411.1784."""

    def __init__(self, of_image: nn.Module, of_condition: nn.Module, joint: nn.Module):
        super().__init__()
        self.of_image, self.of_condition, self.joint = of_image, of_condition, joint

    def forward(self, image: Tensor, condition: Tensor) -> Tensor:
        """Score images (N, C, ...) with conditions (N, classes), (N, 1)."""
        return self.joint(torch.cat([self.of_image(image), self.of_condition(condition)], dim=1))  # type: ignore[no-any-return]


def dense_layer(before: int, after: int, activation: nn.Module, norm: VectorNorm = "batch") -> nn.Module:
    """Build a dense layer with normalisation and activation; it has a bias only without normalisation."""
    normed = nn.BatchNorm1d(after, affine=False) if norm == "batch" else normalisation(norm, after)
    return nn.Sequential(nn.Linear(before, after, bias=norm == "none"), normed, activation)


class TiledGenerator(nn.Module):
    """Generator of two dense layers and transposed convolutions, with the condition as an input of every layer.

    Args:
        latent: size of the latent vector.
        classes: size of the condition vector.
        outputs: image channels.
        size: extents of the image along its axes, one to three.
        dense: units of the first layer.
        channels: channels of the second dense layer's maps and behind every doubling but the last.
        kernel: side of the transposed convolutions.
    """

    def __init__(
        self,
        latent: int,
        classes: int,
        outputs: int,
        size: Sequence[int],
        dense: int,
        channels: Sequence[int],
        kernel: Kernel,
    ):
        super().__init__()
        dims = len(size)
        self.size = tuple(size)
        self.base = (channels[0], *base_size(size, len(channels)))
        padding, extra = DOUBLING[kernel]
        self.dense = nn.ModuleList(
            dense_layer(before + classes, after, nn.ReLU())
            for before, after in pairwise([latent, dense, torch.Size(self.base).numel()])
        )
        self.doublings = nn.ModuleList()
        for before, after in pairwise([*channels, outputs]):
            last = len(self.doublings) == len(channels) - 1
            layer = TRANSPOSED[dims](before + classes, after, kernel, 2, padding, extra, bias=False)
            ending = [nn.Tanh()] if last else [BATCH_NORM[dims](after, affine=False), nn.ReLU()]
            self.doublings.append(nn.Sequential(layer, *ending))
        init_dcgan(self)

    def forward(self, latent: Tensor, condition: Tensor) -> Tensor:
        """Generate images (N, outputs, *size) from (N, latent) and (N, classes)."""
        vector = latent
        for layer in self.dense:
            vector = layer(torch.cat([vector, condition], dim=1))
        maps = vector.reshape(-1, *self.base)
        for layer in self.doublings:
            maps = layer(tiled(maps, condition))
        return centre_crop(maps, self.size)


class TiledDiscriminator(nn.Module):
    """Discriminator of strided convolutions and two dense layers, with the condition as an input of every layer.

    Args:
        inputs: image channels.
        classes: size of the condition vector.
        size: extents of the image along its axes, one to three.
        channels: channels of every convolution.
        dense: units of the dense layer.
        kernel: side of the convolutions.
        norm: normalisation of all layers but the first convolution and the last dense layer.
    """

    def __init__(
        self,
        inputs: int,
        classes: int,
        size: Sequence[int],
        channels: Sequence[int],
        dense: int,
        kernel: Kernel,
        norm: VectorNorm = "batch",
    ):
        super().__init__()
        dims, side, padding = len(size), tuple(size), (kernel - 1) // 2
        self.convolutions = nn.ModuleList()
        for before, after in pairwise([inputs, *channels]):
            kind = norm if self.convolutions else "none"
            normed = BATCH_NORM[dims](after, affine=False) if kind == "batch" else normalisation(kind, after, dims)
            bias = bool(self.convolutions) and norm == "none"
            layer = CONVOLUTION[dims](before + classes, after, kernel, 2, padding, bias=bias)
            self.convolutions.append(nn.Sequential(layer, normed, nn.LeakyReLU(0.2)))
            side = tuple((length + 2 * padding - kernel) // 2 + 1 for length in side)
        self.dense = dense_layer(channels[-1] * torch.Size(side).numel() + classes, dense, nn.LeakyReLU(0.2), norm)
        self.head = nn.Linear(dense + classes, 1, bias=False)
        init_dcgan(self)

    def forward(self, image: Tensor, condition: Tensor) -> Tensor:
        """Score images (N, inputs, *size) with conditions (N, classes), (N, 1)."""
        for layer in self.convolutions:
            image = layer(tiled(image, condition))
        vector = self.dense(torch.cat([image.flatten(1), condition], dim=1))
        return self.head(torch.cat([vector, condition], dim=1))  # type: ignore[no-any-return]
