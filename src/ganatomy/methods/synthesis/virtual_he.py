"""Virtual H&E: colours of a stained section from a hyperspectral image of the unstained one, by pix2pix."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from ganatomy.case import Sample, slab
from ganatomy.errors import UserError
from ganatomy.game import Stream, Tiling
from ganatomy.images.frames import Fit
from ganatomy.methods.frameworks.pix2pix import Pix2Pix
from ganatomy.phantoms.embedded import Embedded
from ganatomy.physics import hyperspectral as hs
from ganatomy.tasks.segmentation.kinds import PHOTOGRAPH

MOST_CASES, MOST_PIXELS = 100, 2_000_000
"""Largest number of training cases, and about that of all their pixels, to which components are fitted (our choice)."""
CLIPPED = 3.0
"""Standard deviations of a component's scores at which the range of the networks ends."""


class VirtualHE(Pix2Pix):
    """Virtual staining with H&E: colours of a stained section from a hyperspectral image of the unstained one.

    Bayramoglu, Kaakinen, Eklund & Heikkila, Towards Virtual H&E Staining of Hyperspectral Lung Histology Images Using
    Conditional Generative Adversarial Networks, ICCV Workshops 2017, 64-71. doi:10.1109/ICCVW.2017.15.

    It is pix2pix on patches of 64 pixels, which sees the first principal components of the spectra. Shares of light
    become absorbances, each band is standardised, and scores of the components are clipped at three SDs. Mean, spread
    and components are those of the training images, and are saved with the weights.

    A hyperspectral image has a channel for each band, and the upper end of its window is the light of a blank field.
    Pairs must be in register. Only abstract and survey of the paper were at hand: numbers are those of pix2pix.
    """

    stated_augmentation = "mirrored and turned by right angles"
    revision = 1

    class Config(Pix2Pix.Config):
        """Numbers of pix2pix; those of the paper are not known."""

        role_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "source": {"channels": len(hs.BANDS), "window": (0.0, 1.0), "unit": None},
            "target": PHOTOGRAPH,
        }

        source: str = "hyperspectral"  # name of the images of unstained tissue, with a channel for each band
        target: str = "stained"  # name of the pictures of the same tissue after staining
        size: tuple[int, ...] = (64, 64)  # rows and columns of patches and tiles
        fit: Fit = "patches"  # how images get to this size: fit inside it, fill it, or be cut into patches
        flips: tuple[int, ...] = (1, 2)  # axes along which images are flipped at random: 1 rows, 2 columns
        quarter_turns: bool = True  # whether pairs are turned by right angles at random
        phantom: str = "unstained-tissue"  # embedded phantom to learn from where no data are given
        components: int = Field(3, ge=1)  # principal components of the spectra that networks see
        jitter: int = Field(0, ge=0)  # pixels by which images are enlarged before a random part is cut out; 0 never
        levels: int = Field(6, ge=1)  # stride-2 steps of the U-Net; sizes are multiples of 2**levels

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "small": {
                "game_rounds": 600,
                "batch_size": 4,
                "learning_rate": 1e-3,
                "levels": 5,
                "width": 16,
                "dropout": 0.0,
                "discriminator_width": 16,
                "discriminator_strided": 1,
                "ema_halflife": 200.0,
            },
        }

    config: Config
    mean: Tensor
    spread: Tensor
    axes: Tensor
    deviations: Tensor

    def __init__(self, config: Config):
        super().__init__(config)
        bands, count = self.task.in_channels, self.config.components
        self.register_buffer("mean", torch.zeros(bands))
        self.register_buffer("spread", torch.ones(bands))
        self.register_buffer("axes", torch.eye(count, bands))
        self.register_buffer("deviations", torch.ones(count))

    @property
    def seen_channels(self) -> int:
        """Number of principal components."""
        bands = self.task.in_channels
        if self.config.components > bands:
            raise UserError(f"--components {self.config.components}: {self.config.source} has only {bands} bands")
        return self.config.components

    @property
    def embedded(self) -> Embedded | None:
        tissue = Embedded("unstained-tissue", max(128, *self.config.size), subjects=40)
        return tissue if self.config.phantom == tissue.name else None

    @property
    def tiling(self) -> Tiling:
        rows, columns = self.config.size
        return Tiling(multiple=2**self.config.levels, tile=(1, rows, columns), overlap=0.5, blend="hann")

    def streams(self, batch_size: int) -> tuple[Stream, ...]:
        return tuple(replace(one, quarter_turns=self.config.quarter_turns) for one in super().streams(batch_size))

    def fit(self, samples: Iterable[Sample]) -> None:
        """Fit the statistics of the images, and the principal components of the training spectra."""
        cases = list(samples)
        super().fit(cases)
        chosen = cases[:MOST_CASES]
        name, found = self.config.source, []
        for case in chosen:
            array = case.arrays[name]
            slices, pixels = int(array.shape[1]), int(np.prod(array.shape[1:]))
            step = max(1, pixels * len(chosen) // MOST_PIXELS)
            for place in range(slices):
                spectra = case.role(name).encoded(slab(array, place, place + 1)).reshape(array.shape[0], -1)[:, ::step]
                found.append(self.absorbances(torch.from_numpy(spectra[None])).numpy()[0])
        numbers = hs.principal_components(np.concatenate(found, axis=1), self.config.components)
        for buffer, values in zip((self.mean, self.spread, self.axes, self.deviations), numbers, strict=True):
            buffer.copy_(torch.from_numpy(values))

    def absorbances(self, input: Tensor) -> Tensor:
        """Return absorbances (N, bands, ...) of shares of light in the range of the networks, −1 dark to 1 blank."""
        return -((input + 1) / 2).clamp_min(hs.LEAST).log10()

    def seen(self, input: Tensor) -> Tensor:
        """Return scores of the principal components (N, components, H, W), from −1 to 1 at three SDs."""
        values = self.absorbances(input)
        standard = (values - self.mean[:, None, None]) / self.spread[:, None, None]
        scores = torch.einsum("kb,nbhw->nkhw", self.axes, standard)
        return (scores / (CLIPPED * self.deviations[:, None, None])).clamp(-1, 1)
