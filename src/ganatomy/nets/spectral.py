"""Spectral normalisation of the weights of a network, which keeps the shapes of all of them."""

from collections.abc import Iterable, Iterator

from torch import nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import is_parametrized

from ganatomy.nets.aids import EqualisedConv, EqualisedLinear
from ganatomy.nets.layers import Convolution, Transposed

ORIGINAL = "parametrizations.weight.original"
"""End of the name of a weight that is divided by its spectral norm wherever it is used."""


def reachable(network: nn.Module) -> bool:
    """Whether all weights of a network are those of convolutions and dense layers without a scale at run time."""
    if any(isinstance(layer, EqualisedConv | EqualisedLinear) for layer in network.modules()):
        return False
    own = {id(layer.weight) for layer in _layers(network)}
    return bool(own) and all(id(weight) in own for weight in network.parameters() if weight.dim() > 1)


def normalise_weights(network: nn.Module) -> None:
    """Divide the weights of all convolutions and dense layers by an estimate of their spectral norm, in place.

    Miyato et al., arXiv 1802.05957. The largest singular value is estimated by one step of power iteration whenever a
    weight is used in training mode.
    """
    for layer in list(_layers(network)):
        if not is_parametrized(layer, "weight"):
            spectral_norm(layer)


def restore_norms(network: nn.Module, names: Iterable[str]) -> None:
    """Prepare an untrained network for weights whose names tell which of its layers were normalised."""
    for name in names:
        if name.endswith(f".{ORIGINAL}"):
            layer = network.get_submodule(name.removesuffix(f".{ORIGINAL}"))
            if not is_parametrized(layer, "weight"):
                spectral_norm(layer)


def _layers(network: nn.Module) -> Iterator[nn.Module]:
    kinds = (Convolution, Transposed, nn.Linear)
    yield from (layer for layer in network.modules() if isinstance(layer, kinds))
