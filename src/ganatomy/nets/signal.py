"""Convolutional generator and critic of 1D signals with several channels."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn


def init_signal(network: nn.Module) -> None:
    """Draw uniform weights for all 1D convolutions and dense layers and set biases to zero, in place.

    The standard deviation is √(4 / (fan_in + fan_out)) for convolutions, with fan_out divided by the stride, and
    √(2 / (inputs + outputs)) for dense layers, as in the code of Gulrajani et al., arXiv 1704.00028, for signals.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv1d):
            (kernel,), (stride,) = module.kernel_size, module.stride
            std = math.sqrt(4 / (module.in_channels * kernel + module.out_channels * kernel / stride))
        elif isinstance(module, nn.Linear):
            std = math.sqrt(2 / (module.in_features + module.out_features))
        else:
            continue
        limit = math.sqrt(3) * std
        nn.init.uniform_(module.weight, -limit, limit)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class SignalGenerator(nn.Module):
    """Generator of 1D signals: a dense projection, then enlargements by two, each followed by a convolution.

    Hidden layers are nearest-neighbour enlargement, convolution without bias, batch norm and leaky ReLU of slope 0.2.
    The last channel passes a softplus, as a radius must not be negative; the others are linear.

    After Wolterink et al., MIDL 2018, arXiv 1804.04381, whose layers are not published; widths and kernels are our
    choice.

    Args:
        latent: size of the latent vector.
        channels: channels of the signal.
        samples: length of the signal, divisible by 2**(hidden layers).
        condition: size of the condition vector, 0 for none.
        widths: channels of the projection and of every hidden layer.
        kernel: odd width of the convolutions.

    Raises:
        ValueError: The number of samples cannot be reached by doubling.
    """

    def __init__(
        self,
        latent: int = 32,
        channels: int = 4,
        samples: int = 512,
        *,
        condition: int = 0,
        widths: Sequence[int] = (256, 256, 128, 128, 64, 64),
        kernel: int = 5,
    ):
        super().__init__()
        doublings = len(widths) - 1
        if samples % 2**doublings:
            raise ValueError(f"{samples} samples cannot be reached by {doublings} doublings")
        self.base = (widths[0], samples // 2**doublings)
        self.project = nn.Linear(latent + condition, math.prod(self.base))
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [
                nn.Upsample(scale_factor=2),
                nn.Conv1d(before, after, kernel, padding=kernel // 2, bias=False),
                nn.BatchNorm1d(after),
                nn.LeakyReLU(0.2),
            ]
        self.layers = nn.Sequential(*layers, nn.Conv1d(widths[-1], channels, kernel, padding=kernel // 2))
        init_signal(self)

    def forward(self, latent: Tensor, condition: Tensor | None = None) -> Tensor:
        """Generate signals (N, channels, samples) from (N, latent) and, in conditional networks, (N, condition)."""
        joined = latent if condition is None else torch.cat([latent, condition], dim=1)
        signal = self.layers(self.project(joined).unflatten(1, self.base))
        return torch.cat([signal[:, :-1], nn.functional.softplus(signal[:, -1:])], dim=1)


class SignalCritic(nn.Module):
    """Critic of 1D signals: convolutions with stride 2 and leaky ReLUs of slope 0.2, then one dense layer.

    Batch norm is not offered, because a gradient penalty needs every sample's score to depend on that sample alone. The
    source is that of `SignalGenerator`.

    Args:
        channels: channels of the signal.
        samples: length of the signal.
        condition: size of the condition vector, each entry of which becomes a constant channel; 0 for none.
        widths: channels of every convolution.
        kernel: odd width of the convolutions.
        norm: normalisation after every convolution but the first; ``layer`` is over channels and samples together.
    """

    def __init__(
        self,
        channels: int = 4,
        samples: int = 512,
        *,
        condition: int = 0,
        widths: Sequence[int] = (64, 64, 128, 128, 256, 256),
        kernel: int = 5,
        norm: Literal["none", "layer"] = "none",
    ):
        super().__init__()
        layers: list[nn.Module] = []
        for index, (before, after) in enumerate(pairwise([channels + condition, *widths])):
            layers.append(nn.Conv1d(before, after, kernel, 2, kernel // 2))
            if norm == "layer" and index:
                layers.append(nn.GroupNorm(1, after))
            layers.append(nn.LeakyReLU(0.2))
            samples = (samples + 1) // 2
        self.convolutions = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1] * samples, 1)
        init_signal(self)

    def features(self, signal: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the activations of the last convolution, (N, widths[-1], samples / 2 ** convolutions)."""
        if condition is not None:
            constant = condition[:, :, None].expand(-1, -1, signal.shape[2])
            signal = torch.cat([signal, constant], dim=1)
        return self.convolutions(signal)  # type: ignore[no-any-return]

    def forward(self, signal: Tensor, condition: Tensor | None = None) -> Tensor:
        """Score signals (N, channels, samples), with (N, condition) in conditional networks, as (N, 1)."""
        return self.head(self.features(signal, condition).flatten(1))  # type: ignore[no-any-return]
