"""Layers that stabilise adversarial training, and helpers shared by the networks of this package."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from ganatomy.game import Noise
from ganatomy.nets.layers import BATCH_NORM, CONVOLVE, INSTANCE_NORM

Norm = Literal["batch", "instance", "layer", "virtual", "none"]
Activation = Literal["relu", "leaky", "tanh", "sigmoid", "linear"]
Prior = Literal["normal", "uniform"]

Network = TypeVar("Network", bound=nn.Module)


def normalisation(kind: Norm, channels: int, dims: int = 2, scaled: bool = False) -> nn.Module:
    """Build a normalisation layer for feature maps with ``dims`` spatial axes, 1 to 3.

    ``layer`` is over channels and space together, ``virtual`` needs the network to be inside `WithReference`. Instance
    norms have a learnable gain and bias only if they are ``scaled``; all others always have.

    Raises:
        ValueError: The kind is unknown.
    """
    match kind:
        case "batch":
            return BATCH_NORM[dims](channels)
        case "instance":
            return INSTANCE_NORM[dims](channels, affine=scaled)
        case "layer":
            return nn.GroupNorm(1, channels)
        case "virtual":
            return VirtualBatchNorm(channels)
        case "none":
            return nn.Identity()
    raise ValueError(f"unknown normalisation {kind!r}")


def activation_layer(kind: Activation, slope: float = 0.2) -> nn.Module:
    """Build the activation called ``kind``; ``slope`` is the slope of ``leaky`` below zero.

    Raises:
        ValueError: The kind is unknown.
    """
    match kind:
        case "relu":
            return nn.ReLU()
        case "leaky":
            return nn.LeakyReLU(slope)
        case "tanh":
            return nn.Tanh()
        case "sigmoid":
            return nn.Sigmoid()
        case "linear":
            return nn.Identity()
    raise ValueError(f"unknown activation {kind!r}")


def base_size(size: Sequence[int], doublings: int) -> tuple[int, ...]:
    """Return the smallest size that reaches ``size`` on every axis after ``doublings`` doublings."""
    return tuple(-(-length // 2**doublings) for length in size)


def centre_crop(image: Tensor, size: Sequence[int]) -> Tensor:
    """Crop the centre of (N, C, ...) to the given spatial size; the result is a view."""
    for axis, length in enumerate(size, start=2):
        image = image.narrow(axis, (image.shape[axis] - length) // 2, length)
    return image


def latents(noise: Noise, rows: int, size: int, prior: Prior = "normal", limit: float = 1.0) -> Tensor:
    """Draw latent vectors from N(0, 1) or U(-limit, limit), shape (rows, size)."""
    return noise.normal(rows, size) if prior == "normal" else limit * (2 * noise.uniform(rows, size) - 1)


class GaussianNoise(nn.Module):
    """Layer that adds noise from N(0, std²) while training and nothing at inference."""

    def __init__(self, std: float):
        super().__init__()
        self.std = std

    def forward(self, image: Tensor, draws: Tensor | None = None) -> Tensor:
        """Add noise to a tensor of any shape; ``draws`` from N(0, 1) replace torch's random numbers."""
        if not self.training or not self.std:
            return image
        return image + self.std * (torch.randn_like(image) if draws is None else draws)


class MinibatchDiscrimination(nn.Module):
    """Minibatch discrimination: appends each sample's closeness to the rest of the batch to its features.

    Salimans et al., arXiv 1606.03498. (N, features) to (N, features + kernels); needs memory for N²·kernels·dims
    numbers.

    Args:
        features: size of a sample's feature vector.
        kernels: number of closeness values appended.
        dims: dimensions of the space in which each of them is measured.
    """

    def __init__(self, features: int, kernels: int = 100, dims: int = 5):
        super().__init__()
        self.kernels = kernels
        self.project = nn.Linear(features, kernels * dims, bias=False)
        nn.init.normal_(self.project.weight, 0.0, 0.05)
        self.bias = nn.Parameter(torch.full((kernels,), -1.0))

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, features) to (N, features + kernels)."""
        points = self.project(features).unflatten(1, (self.kernels, -1))
        distances = (points.unsqueeze(0) - points.unsqueeze(1)).abs().sum(-1)
        itself = torch.eye(len(points), dtype=torch.bool, device=points.device).unsqueeze(-1)
        closeness = torch.exp(-distances).masked_fill(itself, 0.0).sum(1)
        return torch.cat([features, closeness + self.bias], dim=1)


@contextmanager
def evaluated(network: nn.Module) -> Iterator[None]:
    """Set a network to its inference mode meanwhile, in which batch norms use their running averages."""
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)


@contextmanager
def averages_kept(network: nn.Module) -> Iterator[None]:
    """Leave the running averages of a network's batch norms as they are meanwhile, also while it is trained."""
    momenta = {norm: norm.momentum for norm in network.modules() if isinstance(norm, _BatchNorm)}
    for norm in momenta:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in momenta.items():
            norm.momentum = momentum


class OwnBatchNorm(_BatchNorm):
    """Batch normalisation that, at inference, takes mean and variance over space from each sample alone.

    Inference then equals batch statistics in a batch of one, does not depend on the other samples of the batch, and
    uses no running average. Training is unchanged. With a single value per channel the normalised value is 0 and the
    result is the layer's bias; torch itself raises an error for such batches.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (N, C, ...); the shape stays."""
        self._check_input_dim(input)  # type: ignore[no-untyped-call]
        values = input.shape[2:].numel() * (len(input) if self.training else 1)
        if values == 1:
            zeros = torch.zeros_like(input)
            shape = (-1, *[1] * (input.dim() - 2))
            return zeros if self.bias is None else zeros + self.bias.to(zeros.dtype).reshape(shape)
        if self.training:
            return super().forward(input)
        return nn.functional.instance_norm(input, weight=self.weight, bias=self.bias, eps=self.eps)


class OwnBatchNorm1d(OwnBatchNorm, nn.BatchNorm1d):
    """`OwnBatchNorm` for signals (N, C, L); for vectors (N, C) the result at inference is the bias."""


class OwnBatchNorm2d(OwnBatchNorm, nn.BatchNorm2d):
    """`OwnBatchNorm` for images (N, C, H, W)."""


class OwnBatchNorm3d(OwnBatchNorm, nn.BatchNorm3d):
    """`OwnBatchNorm` for volumes (N, C, D, H, W)."""


OWN_BATCH_NORM: Mapping[type[nn.Module], type[OwnBatchNorm]] = {
    nn.BatchNorm1d: OwnBatchNorm1d,
    nn.BatchNorm2d: OwnBatchNorm2d,
    nn.BatchNorm3d: OwnBatchNorm3d,
}


def keep_dropout(network: nn.Module) -> None:
    """Let the dropout of single values go on at inference, in a network that is evaluated, as pix2pix does."""
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.train()


def own_statistics(network: Network) -> Network:
    """Turn every batch normalisation of a network into an `OwnBatchNorm`, in place, and return the network.

    For systems whose papers keep batch statistics at inference. Parameters, buffers, their names and the mode of the
    layers stay, and a second call changes nothing, so a method may call it in its ``inference_mode``::

        def inference_mode(self) -> Self:
            self.eval()
            own_statistics(self.generator)
            return self
    """
    for layer in network.modules():
        if type(layer) in OWN_BATCH_NORM:
            # The class of the object is exchanged, so that optimisers, averages and players keep their references.
            layer.__class__ = OWN_BATCH_NORM[type(layer)]
    return network


class ReferenceBatchNorm(nn.Module):
    """Batch normalisation with the statistics of a fixed reference batch, so that samples are independent.

    Salimans et al., arXiv 1606.03498. Works inside `WithReference` only, which passes the reference batch first.
    The shape (N, C, ...) stays.
    """

    def __init__(self, channels: int, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.recording = False
        self.reference: tuple[int, Tensor, Tensor] | None = None

    def moments(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and mean square with which these samples are normalised, each (1 or N, C)."""
        if self.reference is None:
            raise RuntimeError("a reference batch has to come first; wrap the network in WithReference")
        return self.reference[1:]

    def forward(self, features: Tensor) -> Tensor:
        """Normalise (N, C, ...); the shape stays."""
        # Variances are differences of large numbers here, which half precision cannot represent.
        wide = features.to(torch.promote_types(features.dtype, torch.float32))
        if self.recording:
            axes = [0, *range(2, wide.dim())]
            mean, square = wide.mean(axes).unsqueeze(0), wide.square().mean(axes).unsqueeze(0)
            self.reference = (len(wide), mean, square)
        else:
            mean, square = self.moments(wide)
        scale = self.weight * torch.rsqrt((square - mean.square()).clamp_min(0) + self.eps)
        shape = (-1, wide.shape[1], *[1] * (wide.dim() - 2))
        return (wide * scale.reshape(shape) + (self.bias - mean * scale).reshape(shape)).to(features.dtype)


class VirtualBatchNorm(ReferenceBatchNorm):
    """Batch normalisation of each sample together with a fixed reference batch. Salimans et al., arXiv 1606.03498.

    The statistics of a sample are those of the n reference samples and itself, so it is normalised even if it lies far
    from the reference.
    """

    def moments(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and mean square of the reference batch together with each sample, each (N, C)."""
        mean, square = super().moments(features)
        assert self.reference is not None
        share = 1 / (self.reference[0] + 1)
        flat = features.flatten(2) if features.dim() > 2 else features.unsqueeze(2)
        return torch.lerp(mean, flat.mean(2), share), torch.lerp(square, flat.square().mean(2), share)


class WithReference(nn.Module):
    """Network whose `ReferenceBatchNorm` and `VirtualBatchNorm` layers use one fixed reference batch.

    The batch is a buffer, saved with the weights. It passes through the network before every call, with gradient, so
    its statistics are always those of the present weights; every call costs two passes.

    Args:
        network: network with these layers that takes one tensor.
        reference: input batch, (n, ...).
    """

    reference: Tensor

    def __init__(self, network: nn.Module, reference: Tensor):
        super().__init__()
        self.network = network
        self.register_buffer("reference", reference.detach().clone())

    @contextmanager
    def _prepared(self) -> Iterator[None]:
        layers = [layer for layer in self.network.modules() if isinstance(layer, ReferenceBatchNorm)]
        try:
            for layer in layers:
                layer.recording = True
            self.network(self.reference)
            for layer in layers:
                layer.recording = False
            yield
        finally:
            for layer in layers:
                layer.recording, layer.reference = False, None

    def forward(self, batch: Tensor) -> Tensor:
        """Run the network on (N, ...) after it has seen the reference batch."""
        with self._prepared():
            return self.network(batch)  # type: ignore[no-any-return]


class ImagePool(nn.Module):
    """History buffer of generated images, so that a discriminator is also shown older ones.

    Shrivastava et al., arXiv 1612.07828. The buffer is saved and resumed with the method that owns it.

    Args:
        shape: shape of one image, without the batch axis.
        capacity: images kept; 0 switches the buffer off.
    """

    images: Tensor
    filled: Tensor

    def __init__(self, shape: Sequence[int], capacity: int = 50):
        super().__init__()
        self.register_buffer("images", torch.zeros(capacity, *shape))
        self.register_buffer("filled", torch.zeros((), dtype=torch.long))

    @torch.no_grad()
    def forward(self, fakes: Tensor, draws: Tensor) -> Tensor:
        """Return generated images, each exchanged for a stored one with probability ½ once the buffer is full.

        Args:
            fakes: generated images (N, ...), taken one after the other and stored; no gradient passes.
            draws: (N, 2) numbers from U[0, 1): whether to exchange, and with which stored image.

        Returns:
            New tensor (N, ...).
        """
        capacity, filled = len(self.images), int(self.filled)
        shown = fakes.detach().clone()
        if not capacity:
            return shown
        for index, (exchange, place) in enumerate(draws.tolist()):
            if filled < capacity:
                self.images[filled] = fakes[index]
                filled += 1
            elif exchange >= 0.5:
                slot = int(place * capacity)
                shown[index] = self.images[slot]
                self.images[slot] = fakes[index]
        self.filled.fill_(filled)
        return shown


class EqualisedConv(_ConvNd):
    """Convolution with equalised learning rate: weights are drawn from N(0, 1) and scaled in the forward pass.

    Karras et al., arXiv 1710.10196.

    Args:
        inputs: input channels.
        outputs: output channels.
        kernel: side of the kernel.
        padding: zeros added per side.
        gain: the weights are multiplied by gain / √fan-in.
        dims: spatial axes, 1 to 3.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int, padding: int = 0, gain: float = math.sqrt(2), dims: int = 2
    ):
        ones = (1,) * dims
        super().__init__(
            inputs, outputs, (kernel,) * dims, ones, (padding,) * dims, ones, False, (0,) * dims, 1, True, "zeros"
        )
        self.scale = gain / math.sqrt(inputs * kernel**dims)
        self.convolve = CONVOLVE[dims]
        nn.init.normal_(self.weight)
        nn.init.zeros_(self.bias)  # type: ignore[arg-type]

    def forward(self, input: Tensor) -> Tensor:
        """Convolve (N, inputs, ...) to (N, outputs, ...)."""
        return self.convolve(input, self.weight * self.scale, self.bias, padding=self.padding)


class EqualisedLinear(nn.Linear):
    """Dense layer with equalised learning rate, see `EqualisedConv`."""

    def __init__(self, inputs: int, outputs: int, gain: float = math.sqrt(2)):
        super().__init__(inputs, outputs)
        self.scale = gain / math.sqrt(inputs)
        nn.init.normal_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, input: Tensor) -> Tensor:
        """Map (N, inputs) to (N, outputs)."""
        return nn.functional.linear(input, self.weight * self.scale, self.bias)
