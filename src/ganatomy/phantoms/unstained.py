"""Sections of tissue before and after they are stained: hyperspectral transmission, and colours of H&E."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ganatomy.errors import UserError
from ganatomy.images.image import Header, Image
from ganatomy.phantoms.histology import NUCLEI_WIDTH, StainedNuclei
from ganatomy.phantoms.shapes import Array, Grid, fields
from ganatomy.physics import hyperspectral as hs

NUCLEI_POWER, STROMA_POWER, PIGMENT_POWER = 1.5, 1.3, 2.2
"""Powers of the wavelength by which substances lose light (our choice)."""
GRAIN = 0.012
"""Size in mm of regions in which blood or pigment is dense."""


class UnstainedTissue(StainedNuclei):
    """A section of tissue, imaged in 31 bands without a stain, and in colours after it was stained with H&E.

    What the stains bind to also scatters light, but stained nuclei and fibres differ much and unstained ones little:
    amounts of both are bent, their spectra are similar, and bands are noisy. Blood and pigments absorb light too, and
    the stains do not show them. So neither a band nor a linear map of bands gives the colours.

    Attributes:
        images: "hyperspectral", the share of light that passes in bands from 420 to 720 nm, float32, (31, 1, size,
            size); "stained", red, green and blue from 0 to 255, float32, (3, 1, size, size).
        image: the latter.
        amounts: nuclei, stroma, haemoglobin and pigment, (4, 1, size, size).
        instances, masks, regions: as in `StainedNuclei`.
    """

    def __init__(self, seed: int, *, size: int = 128, noise: float = 3.0, dark: float = 0.08, shift: float = 0.0):
        """Draw a section.

        Args:
            seed: seed of the patient.
            size: rows and columns over 0.1 mm, at least 16.
            noise: SD of the noise of the colours.
            dark: SD of the noise of a band, as a share of the lamp's light.
            shift: largest distance in pixels, along either axis, between both images, which were registered.

        Raises:
            UserError: a number is negative or the image is too small.
        """
        if dark < 0 or shift < 0:
            raise UserError(f"tissue with noise {dark:g} of bands and a shift of {shift:g} cannot be drawn")
        super().__init__(seed, size=size, noise=noise)
        rng = np.random.default_rng((seed, 7))
        pixel = NUCLEI_WIDTH / size
        grid = Grid.centred((1, size, size), (1.0, pixel, pixel))
        bound, fibres = (np.asarray(stain, np.float64) for stain in self.stains)
        confusing = [np.maximum(fields(rng, grid.shape, GRAIN / pixel) - 0.3, 0) for _ in range(2)]
        self.amounts = np.stack(
            [
                0.28 * np.maximum(bound, 0) ** 0.5,
                0.22 * (1 - np.exp(-1.8 * np.maximum(fibres, 0))),
                0.4 * confusing[0],
                0.12 * confusing[1],
            ]
        )
        spectra = np.stack(
            [
                hs.scattering(hs.BANDS, NUCLEI_POWER),
                hs.scattering(hs.BANDS, STROMA_POWER),
                hs.haemoglobin(hs.BANDS),
                hs.scattering(hs.BANDS, PIGMENT_POWER),
            ]
        )
        thickness = rng.uniform(0.85, 1.2)
        shares = hs.transmitted(thickness * hs.absorbance(spectra, self.amounts))
        moved = rng.uniform(-1, 1, 2) * shift
        if shift:
            shares = ndimage.shift(shares, (0, 0, *moved), order=1, mode="nearest")
        shares = shares + dark * np.sqrt(shares) * rng.standard_normal(shares.shape)
        cube: Array = np.asarray(shares.clip(0, 1), np.float32)
        header = Header(modality="SM")
        self.images = {
            "hyperspectral": Image.from_array(cube, (1.0, pixel, pixel), header=header),
            "stained": self.image,
        }
