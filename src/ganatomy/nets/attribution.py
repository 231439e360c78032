"""Maps of what in an image makes a classifier choose a class: class activation, gradients, integrated gradients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ganatomy.nets.classifier import Classifier

INTERPOLATION = {1: "linear", 2: "bilinear", 3: "trilinear"}


@torch.no_grad()
def class_activation(network: Classifier, images: Tensor, label: int) -> Tensor:
    """Return the class activation maps of images, enlarged to their size; positive where the class is supported.

    Source: Zhou et al., Learning Deep Features for Discriminative Localization, CVPR 2016, arXiv:1512.04150.

    Args:
        network: classifier whose features are means over positions alone.
        images: (n, channels, ...).
        label: class index.

    Returns:
        Maps (n, 1, ...).

    Raises:
        ValueError: the features of the network are also maxima, of which there is no such map.
    """
    if network.maxima:
        raise ValueError("class activation maps need a classifier with means over positions alone")
    weights = network.head.weight[label]
    maps = torch.einsum("nc...,c->n...", network.trunk(images), weights)[:, None]
    mode = INTERPOLATION[images.dim() - 2]
    return interpolate(maps, images.shape[2:], mode=mode, align_corners=False)


def gradients(network: nn.Module, images: Tensor, label: int, *, guided: bool = False) -> Tensor:
    """Return the gradient of the logit of a class with respect to images, of their shape.

    Sources: Simonyan et al., Deep Inside Convolutional Networks, 2013, arXiv:1312.6034; guided: Springenberg et al.,
    Striving for Simplicity, 2014, arXiv:1412.6806.

    Args:
        network: maps images (n, channels, ...) to logits (n, classes), every image by itself.
        images: (n, channels, ...).
        label: class index.
        guided: whether ReLUs pass positive gradients only.
    """
    shown = images.detach().requires_grad_()
    with torch.enable_grad(), _guided(network) if guided else nullcontext():
        (slope,) = torch.autograd.grad(network(shown)[:, label].sum(), shown)
    return slope


def integrated_gradients(
    network: nn.Module, images: Tensor, label: int, start: float | Tensor = 0.0, steps: int = 32
) -> Tensor:
    """Return gradients along the line from a starting image, times the change; they add up to the change of the logit.

    Source: Sundararajan et al., Axiomatic Attribution for Deep Networks, ICML 2017, arXiv:1703.01365.

    Args:
        network: maps images (n, channels, ...) to logits (n, classes), every image by itself.
        images: (n, channels, ...).
        label: class index.
        start: the starting image, (channels, ...), or its value everywhere.
        steps: number of points on the line, the middles of equal parts.
    """
    change = images - start
    total = torch.zeros_like(images)
    for step in range(steps):
        total += gradients(network, start + (step + 0.5) / steps * change, label)
    return total / steps * change


@contextmanager
def _guided(network: nn.Module) -> Iterator[None]:
    """Let the ReLUs of a network pass positive gradients only."""

    def positive(_: nn.Module, inner: tuple[Tensor, ...], outer: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (inner[0].clamp_min(0),)

    handles = [part.register_full_backward_hook(positive) for part in network.modules() if isinstance(part, nn.ReLU)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
