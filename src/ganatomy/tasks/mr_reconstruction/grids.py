"""Raw data of any size: k-space is padded or cropped to the size that a network takes, and its image taken back."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Literal

import torch
from torch import Tensor

from ganatomy.images.kspace import shared_samples
from ganatomy.physics.fourier import fft, ifft
from ganatomy.physics.sampling import Shape

Change = Literal["kept", "padded with zeros", "cropped"]


@dataclass(frozen=True)
class Grids:
    """The grid of a file's k-space, and that of the k-space that a network is given.

    Zeros are added around the k-space of a file, or its outermost samples are taken away. Both keep the field of view,
    the frequency of every sample, and so the sampling mask and the fully measured centre; only the pixels become
    smaller or larger. Adding or removing pixels of the image would change the distance between samples of k-space, so
    that an undersampled scan would have no mask on the new grid. Intensities of images are kept, for which samples are
    multiplied by the root of the ratio of both numbers of samples.

    Attributes:
        own: rows and columns of the file.
        taken: rows and columns that the network takes.
    """

    own: Shape
    taken: Shape

    @property
    def equal(self) -> bool:
        """Whether the network takes the file's k-space as it is."""
        return self.own == self.taken

    @property
    def crops(self) -> bool:
        """Whether the network is not given the outermost samples of the file."""
        return any(own > taken for own, taken in zip(self.own, self.taken, strict=True))

    @property
    def changes(self) -> dict[str, Change]:
        """Axis to its change, for rows and columns."""
        names = {1: "padded with zeros", 0: "kept", -1: "cropped"}
        pairs = zip(("rows", "columns"), self.own, self.taken, strict=True)
        return {axis: names[(own < taken) - (own > taken)] for axis, own, taken in pairs}  # type: ignore[misc]

    @property
    def loss(self) -> str:
        """Sentence on the detail that a network does not see of a cropped file, and on the remedy."""
        own, taken = ("x".join(map(str, shape)) for shape in (self.own, self.taken))
        larger = " ".join(str(max(pair)) for pair in zip(self.own, self.taken, strict=True))
        return (
            f"k-space of {own} samples is cropped to the {taken} that this system takes, so the networks do not see "
            f"the finest detail; train with --size {larger} to include it"
        )

    def kspace(self, values: Tensor) -> Tensor:
        """Return k-space of the network, complex (..., taken), from that of the file, (..., own)."""
        return values if self.equal else _moved(values, self.taken) * self._gain

    def mask(self, mask: Tensor) -> Tensor:
        """Return a sampling mask of the network, bool (..., taken); what is added counts as not measured."""
        return mask if self.equal else _moved(mask, self.taken)

    def image(self, image: Tensor) -> Tensor:
        """Return an image of the network's grid, complex (..., taken), by Fourier interpolation of the file's."""
        return image if self.equal else ifft(self.kspace(fft(image)))

    def back(self, image: Tensor) -> Tensor:
        """Return an image on the file's grid, complex (..., own); frequencies that the network lacks are 0."""
        return image if self.equal else ifft(_moved(fft(image), self.own) / self._gain)

    def outside(self) -> Tensor:
        """Return which samples of the file the network is not given, bool (own)."""
        return ~_moved(torch.ones(self.taken, dtype=torch.bool), self.own)

    @property
    def _gain(self) -> float:
        return float((prod(self.taken) / prod(self.own)) ** 0.5)


def _moved(values: Tensor, shape: Shape) -> Tensor:
    """Return values, (..., rows, columns), on a grid of another shape, 0 where there are none."""
    pairs = [shared_samples(old, new) for old, new in zip(values.shape[-2:], shape, strict=True)]
    moved = values.new_zeros(*values.shape[:-2], *shape)
    moved[..., pairs[0][1], pairs[1][1]] = values[..., pairs[0][0], pairs[1][0]]
    return moved
