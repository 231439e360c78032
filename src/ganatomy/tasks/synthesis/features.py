"""Feature networks by which sets of images are compared, and a cache of real features on disk.

Every result names its features; numbers from different features cannot be compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, adaptive_avg_pool3d, cross_entropy, interpolate, mse_loss
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from ganatomy.errors import UserError
from ganatomy.images.paths import replacing
from ganatomy.nets.classifier import STEPS, Classifier, Loss, fit, in_batches
from ganatomy.nets.embedding import RandomEmbedding, embed
from ganatomy.nets.features import VGG19_ADDRESS, VGG19Features, find_vgg19_weights, vgg19_file

FeatureKind = Literal["random", "in-domain", "vgg19"]

FORMAT = 1
"""Version of the cache; to be changed when cached arrays must not be used any more."""
SMALLEST_VGG = 64
"""Side in pixels to which smaller images are enlarged for VGG-19, which halves them four times."""
REACH = 3.0
"""Limit in standard deviations that standardised features approach (our choice)."""
TINY = 1e-6
"""Share of the largest standard deviation below which a feature counts as constant and is not used."""
THUMBNAIL = 8
"""Side in pixels of the small copy that an in-domain encoder without labels is trained to reconstruct."""

Array = NDArray[np.float64]


class Features:
    """Features of images, standardised on real training images so that each of them counts alike.

    Outliers are compressed to less than 3 standard deviations, since single features, such as those of the finest
    texture, would dominate otherwise.

    Args:
        name: exact description of the features.
        compute: maps images (n, channels, [slices,] rows, columns) in [-1, 1] to features (n, d).
        training: real images.
        folder: folder of the cache for features of real images; None disables it.
    """

    def __init__(self, name: str, compute: Callable[[Tensor], Array], training: Tensor, folder: Path | None = None):
        self.name, self._compute, self._folder = (
            f"{name}, standardised on real training images up to {REACH:g} SD",
            compute,
            folder,
        )
        raw = self._of_real(training)
        deviation = raw.std(axis=0)
        self._mean, self._scale = raw.mean(axis=0), np.where(deviation > TINY * deviation.max(), deviation, np.inf)

    def __call__(self, images: Tensor) -> Array:
        """Compute features (n, d) of images (n, channels, [slices,] rows, columns) in [-1, 1]."""
        return self._standardised(self._compute(images))

    def of_real(self, images: Tensor) -> Array:
        """Compute features (n, d) of real images, or read them from the cache."""
        return self._standardised(self._of_real(images))

    def _standardised(self, raw: Array) -> Array:
        z = (raw - self._mean) / self._scale
        return np.asarray(z / np.sqrt(1 + (z / REACH) ** 2))

    def _of_real(self, images: Tensor) -> Array:
        return cached(self._folder, lambda: self._compute(images), self.name, images)


def features(kind: FeatureKind, training: Tensor, labels: Tensor | None = None, folder: Path | None = None) -> Features:
    """Return the features of a kind.

    ``random`` are means and standard deviations of the feature maps of a network with fixed random weights.
    ``in-domain`` are those of a small encoder trained on the real training images: to classify them, or without labels
    to reconstruct a small copy. ``vgg19`` are those of VGG-19, trained on photographs, whose weights must be on this
    machine.

    Args:
        kind: kind of features.
        training: real images (n, channels, [slices,] rows, columns) in [-1, 1].
        labels: class indices of the images, (n,).
        folder: folder of prepared cases, where features and encoders are cached.

    Raises:
        UserError: ``vgg19`` was chosen for volumes, or its weights are not on this machine.
    """
    if kind == "random":
        return Features(RandomEmbedding.name, embed, training, folder)
    if kind == "vgg19":
        if training.dim() != 4:
            raise UserError("vgg19 features: they know no volumes; take random or in-domain ones")
        if find_vgg19_weights(None) is None:
            raise UserError(
                f"--features vgg19: no weights in {vgg19_file()}; copy {VGG19_ADDRESS} there, or choose other features"
            )
        vgg = VGG19Features(source="vgg19")
        return Features(vgg.name, partial(_vgg_features, vgg), training, folder)
    network, what = _encoder(training, labels, folder)
    return Features(
        f"in-domain encoder trained on {len(training)} real training images to {what}",
        lambda images: in_batches(network.features, images).double().numpy(),
        training,
        folder,
    )


def cached(folder: Path | None, compute: Callable[[], Array], *facts: str | Tensor) -> Array:
    """Compute an array, or read it from the cache where it has been computed before.

    Args:
        folder: folder of prepared cases; None disables the cache.
        compute: computes the array.
        facts: everything that the array depends on; tensors count by their content.
    """
    if folder is None:
        return compute()
    digest = hashlib.sha256(f"{FORMAT}".encode())
    for fact in facts:
        content = fact.encode() if isinstance(fact, str) else np.ascontiguousarray(fact.numpy()).tobytes()
        digest.update(hashlib.sha256(content).digest())
    place = folder / "features" / f"{digest.hexdigest()[:24]}.npy"
    with suppress(OSError, ValueError, EOFError):
        return np.asarray(np.load(place, allow_pickle=False), np.float64)
    found = compute()
    # An array that cannot be written to the cache is computed again next time.
    with suppress(UserError), replacing(place) as work, work.open("wb") as stream:
        np.save(stream, found)
    return found


def classifier(
    images: Tensor, labels: Tensor, classes: int, seed: int = 0, folder: Path | None = None, **how: Any
) -> Classifier:
    """Train a classifier, or read its weights from the cache.

    Args:
        images: training images, (n, channels, [slices,] rows, columns) in [-1, 1].
        labels: class indices, (n,).
        classes: number of classes.
        seed: seed of weights and batches.
        folder: folder of the cache; None disables it.
        how: further arguments of `fit`.
    """
    return _trained(images, classes, labels, cross_entropy, seed, folder, **how)


def _encoder(training: Tensor, labels: Tensor | None, folder: Path | None) -> tuple[Classifier, str]:
    """Train an encoder, whose features scores use, on real images; return it and a sentence on its training."""
    if labels is not None:
        return classifier(training, labels, int(labels.max()) + 1, folder=folder), "classify them"
    shrink = adaptive_avg_pool2d if training.dim() == 4 else adaptive_avg_pool3d
    targets = shrink(training, THUMBNAIL).flatten(1)
    network = _trained(training, targets.shape[1], targets, mse_loss, 0, folder)
    return network, f"reconstruct a copy of {THUMBNAIL} pixels a side"


def _trained(
    images: Tensor, outputs: int, targets: Tensor, loss: Loss, seed: int, folder: Path | None, **how: Any
) -> Classifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Classifier(images.shape[1], outputs, dims=images.dim() - 2)

    def weights() -> Array:
        fit(network, images, targets, loss, seed=seed, **how)
        return parameters_to_vector(network.parameters()).detach().double().numpy()

    found = cached(folder, weights, f"encoder {outputs} {seed} {STEPS} {how}", images, targets)
    vector_to_parameters(torch.from_numpy(found).float(), network.parameters())
    return network.eval().requires_grad_(False)


def _vgg_features(vgg: VGG19Features, images: Tensor) -> Array:
    """Compute the means of VGG-19's feature maps, channel by channel unless there are one or three channels."""
    if images.shape[1] not in (1, 3):
        return np.concatenate([_vgg_features(vgg, images[:, i : i + 1]) for i in range(images.shape[1])], axis=1)
    if min(images.shape[2:]) < SMALLEST_VGG:
        scale = SMALLEST_VGG / min(images.shape[2:])
        images = interpolate(images, scale_factor=scale, mode="bilinear", align_corners=False)
    found = in_batches(lambda part: vgg((part + 1) / 2).mean(dim=(2, 3)), images, batch=16)
    return found.double().numpy()
