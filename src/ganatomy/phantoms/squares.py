"""The synthetic benchmark of visual feature attribution: bright squares in smooth noise."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from scipy import ndimage

from ganatomy.errors import UserError
from ganatomy.images.image import Image
from ganatomy.phantoms.shapes import Array, Mask, label_of

GRAIN = 2.5  # SD in pixels of the Gaussian that smooths the noise
NOISE = 50.0  # SD of the smoothed noise
EFFECT = 100.0  # value that a square adds
PUBLISHED_SIZE = 112
HALF_EDGE = 10  # half the edge of a square, in an image of the published size
JITTER = 5  # largest displacement of a square, in an image of the published size


class Squares:
    """Images with and without an effect, after Baumgartner et al. (CVPR 2018, arXiv 1711.08998).

    The baseline is white noise smoothed with a Gaussian of SD 2.5 pixels and scaled to SD 50 in each image. The effect
    adds 100 in two squares of 20 x 20 pixels, one at the centre and one up and to the left or down and to the right of
    it, by a (1 / 3.5)th of the image and a jitter of -5 to 4 pixels along each axis. These two kinds alternate. In
    other sizes than 112, squares, offset and jitter scale in proportion, the noise does not. An effect and a baseline
    with equal seeds share their noise.

    The values are those before scaling. The published networks take [-1, 1], to which each image is mapped from its own
    minimum and maximum.

    Attributes:
        LABELS: the classes, in the order in which seeds alternate between them.
        image: float32 without unit, (1, slices, size, size); every slice is an independent image.
        images: `image` by its name, "image".
        masks: "effect", both squares; empty in a baseline.
        regions: empty, since nothing is uniform.
        label: "baseline" or "effect".
    """

    LABELS: ClassVar[tuple[str, ...]] = ("baseline", "effect")

    def __init__(
        self, seed: int, *, size: int = PUBLISHED_SIZE, slices: int = 1, noise: float = NOISE, label: str | None = None
    ) -> None:
        """Draw the images of one class.

        Args:
            seed: seed of noise and jitter; even ones are baselines.
            size: rows and columns, at least 16.
            slices: number of images.
            noise: SD of the noise.
            label: class of the images; None selects it by the seed.

        Raises:
            UserError: the label does not exist, or the image is too small for two squares.
        """
        if size < 16 or slices < 1:
            raise UserError(f"{slices} images of {size} pixels cannot hold the squares: ask for 1 of 16 or more")
        noise_rng, effect_rng = np.random.default_rng(seed).spawn(2)
        self.label = label_of(seed, self.LABELS, label)
        squares = np.zeros((slices, size, size), bool)
        if self.label == "effect":
            squares = _squares(effect_rng, size, slices, first=seed // 2)
        values = noise * _noise(noise_rng, squares.shape) + np.float32(EFFECT) * squares
        self.image = Image.from_array(values.astype(np.float32))
        self.images = {"image": self.image}
        self.masks = {"effect": squares}
        self.regions: dict[str, Mask] = {}


def _noise(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    white = rng.standard_normal(shape, np.float32)
    smooth = ndimage.gaussian_filter(white, (0, GRAIN, GRAIN), mode="nearest")
    return np.asarray(smooth / smooth.std((1, 2), keepdims=True), np.float32)


def _squares(rng: np.random.Generator, size: int, slices: int, first: int) -> Mask:
    """Return both squares of each image; the parity of `first` determines the kind of the first image."""
    scale = size / PUBLISHED_SIZE
    half, jitter = round(HALF_EDGE * scale), round(JITTER * scale)
    offset = int(size / 3.5 + 0.5)
    mask = np.zeros((slices, size, size), bool)
    for image, shift in enumerate(rng.integers(-jitter, max(jitter, 1), (slices, 2))):
        side = 1 if (first + image) % 2 else -1
        for row, column in ((size // 2, size // 2), size // 2 + side * offset + shift):
            mask[image, row - half : row + half, column - half : column + half] = True
    return mask
