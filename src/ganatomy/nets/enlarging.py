"""Additions to the network of an adversary that change its shapes: packs of samples, and closeness within the batch.

Both replace one layer by a module that holds it, so that all other weights keep their names.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ganatomy.nets.aids import MinibatchDiscrimination
from ganatomy.nets.layers import CONVOLUTION, Convolution

PACKED, COMPARED = ".samples", ".closeness.bias"
"""Ends of the names of tensors that tell which layers were enlarged."""


class Packed(nn.Module):
    """First layer of a discriminator that judges several samples together. Lin et al., arXiv 1712.04086.

    Samples that follow each other in the batch are joined along their channels, so that everything behind the layer
    has as many rows as there are packs. New weights have the SD of the layer's own.

    Args:
        layer: convolution or dense layer for one sample.
        samples: samples in a pack.
    """

    samples: Tensor

    def __init__(self, layer: Convolution | nn.Linear, samples: int):
        super().__init__()
        self.register_buffer("samples", torch.tensor(samples))
        self.size = samples
        bias = layer.bias is not None
        if isinstance(layer, nn.Linear):
            self.layer: Convolution | nn.Linear = nn.Linear(samples * layer.in_features, layer.out_features, bias)
        else:
            kind = CONVOLUTION[layer.weight.dim() - 2]
            self.layer = kind(
                samples * layer.in_channels,
                layer.out_channels,
                layer.kernel_size,  # type: ignore[arg-type]
                layer.stride,  # type: ignore[arg-type]
                layer.padding,  # type: ignore[arg-type]
                layer.dilation,  # type: ignore[arg-type]
                bias=bias,
                padding_mode=layer.padding_mode,
            )
        with torch.no_grad():
            self.layer.weight.normal_(0.0, float(layer.weight.std()) or math.sqrt(1 / layer.weight[0].numel()))
            if layer.bias is not None and self.layer.bias is not None:
                self.layer.bias.copy_(layer.bias)

    def forward(self, batch: Tensor) -> Tensor:
        """Map samples (N, C, ...) to what the layer makes of their packs, (N / samples, ...).

        Raises:
            ValueError: the batch cannot be divided into packs.
        """
        if len(batch) % self.size:
            raise ValueError(f"a batch of {len(batch)} samples cannot be divided into packs of {self.size}")
        return self.layer(batch.reshape(-1, self.size * batch.shape[1], *batch.shape[2:]))  # type: ignore[no-any-return]


class Compared(nn.Module):
    """Last dense layer of a discriminator, which is also told how close every sample is to the rest of the batch.

    Args:
        layer: dense layer; its weights are kept, and those of the closeness begin small.
        kernels: values of closeness, see `MinibatchDiscrimination`.
    """

    def __init__(self, layer: nn.Linear, kernels: int):
        super().__init__()
        self.closeness = MinibatchDiscrimination(layer.in_features, kernels)
        self.layer = nn.Linear(layer.in_features + kernels, layer.out_features, layer.bias is not None)
        with torch.no_grad():
            nn.init.normal_(self.layer.weight, 0.0, 0.02)
            self.layer.weight[:, : layer.in_features].copy_(layer.weight)
            if layer.bias is not None:
                self.layer.bias.copy_(layer.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, features) to (N, outputs)."""
        return self.layer(self.closeness(features))  # type: ignore[no-any-return]


def pack(network: nn.Module, samples: int) -> bool:
    """Let the first layer of a network take packs of samples, in place.

    Returns:
        Whether it was possible: the layer has to be a convolution or dense layer without a scale at run time.
    """
    weighted = (one for one in network.named_modules() if isinstance(getattr(one[1], "weight", None), Tensor))
    name, layer = next(weighted, ("", network))
    plain = type(layer) in (*CONVOLUTION.values(), nn.Linear) and getattr(layer, "groups", 1) == 1
    return plain and _replace(network, name, Packed(layer, samples))  # type: ignore[arg-type]


def compare(network: nn.Module, kernels: int) -> bool:
    """Tell the last dense layer of a network the closeness of samples, in place.

    Where several heads have the same features, it is the one with a single score.

    Returns:
        Whether it was possible: there has to be a dense layer without a scale at run time.
    """
    found = [(name, layer) for name, layer in network.named_modules() if isinstance(layer, nn.Linear)]
    if not found:
        return False
    name, layer = next(((name, one) for name, one in reversed(found) if one.out_features == 1), found[-1])
    return type(layer) is nn.Linear and _replace(network, name, Compared(layer, kernels))


def restore_enlarged(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Prepare an untrained network for weights whose names tell which of its layers were enlarged.

    Args:
        network: network, or a whole method.
        tensors: name to tensor, as in a file of weights.
    """
    layers = dict(network.named_modules())
    for name, value in tensors.items():
        packed, compared = (layers.get(name[: -len(end)]) if name.endswith(end) else None for end in (PACKED, COMPARED))
        if isinstance(packed, Convolution | nn.Linear):
            _replace(network, name.removesuffix(PACKED), Packed(packed, int(value)))
        if isinstance(compared, nn.Linear):
            _replace(network, name.removesuffix(COMPARED), Compared(compared, len(value)))


def _replace(network: nn.Module, name: str, module: nn.Module) -> bool:
    if not name:
        return False
    parent, _, last = name.rpartition(".")
    own = network.get_submodule(name)
    module.to(device=next(own.parameters()).device)
    setattr(network.get_submodule(parent), last, module)
    return True
