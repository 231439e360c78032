"""CT numbers of tissues, and what follows from them: densities, attenuation at 511 keV, water-equivalent paths."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ganatomy.physics.ct import ParallelBeam

Array = NDArray[np.float32]


class CtNumber(NamedTuple):
    """Usual CT number of a tissue in HU without contrast medium, and the range in which it lies in most adults."""

    usual: float
    low: float
    high: float


CT_NUMBERS: Mapping[str, CtNumber] = {
    "air": CtNumber(-1000, -1005, -970),
    "lung": CtNumber(-860, -910, -700),
    "fat": CtNumber(-100, -120, -50),
    "fluid": CtNumber(5, 0, 20),
    "csf": CtNumber(8, 0, 15),
    "plaque": CtNumber(22, 12, 30),
    "white": CtNumber(26, 20, 30),
    "skin": CtNumber(30, 0, 60),
    "kidney": CtNumber(31, 20, 40),
    "grey": CtNumber(39, 37, 45),
    "pancreas": CtNumber(42, 30, 50),
    "blood": CtNumber(45, 40, 65),
    "spleen": CtNumber(48, 35, 55),
    "myocardium": CtNumber(48, 40, 60),
    "muscle": CtNumber(54, 35, 65),
    "liver": CtNumber(58, 45, 65),
    "cartilage": CtNumber(95, 60, 150),
    "marrow": CtNumber(190, 50, 400),
    "bone": CtNumber(900, 700, 3000),
}
"""Tissue, by the names of `ganatomy.physics.mr_contrast.MEASURED`, to its CT number near 120 kVp.

Ranges of air, lung, fat, brain, blood, kidney, spleen, liver and bone are those of textbooks (Buzug, Computed
Tomography, 2008, page 475; Prokop and Galanski, Spiral and Multislice Computed Tomography of the Body, 2003); the
others, and the usual number within each range, are our choice. "marrow" is trabecular bone with the marrow in it."""

SCHNEIDER = ((-98, 0.0010297, 1.0309), (15, 0.000893, 1.018), (23, 0.0, 1.03), (101, 0.001169, 1.003))
"""Upper limit in HU, slope and intercept in g/cm³ of the lines of mass density below bone, whose line is the last."""
CARNEY: Mapping[int, tuple[float, float, float]] = {
    80: (50, 3.64e-5, 6.26e-2),
    100: (52, 4.43e-5, 5.44e-2),
    110: (43, 4.92e-5, 4.88e-2),
    120: (47, 5.10e-5, 4.71e-2),
    130: (37, 5.51e-5, 4.24e-2),
    140: (30, 5.64e-5, 4.08e-2),
}
"""Tube voltage in kV to the CT number at which bone begins, slope per HU and intercept, both in cm⁻¹."""
BONE_HU = 100.0
"""CT number from which on `relative_electron_density` takes tissue for bone."""


def mass_density(hu: ArrayLike) -> Array:
    """Return the mass density in g/cm³ of human tissue of a CT number, 0.0012 at and below that of air.

    The curve is piecewise linear and falls by 0.04 at 101 HU, where bone begins.

    Source: Schneider, Bortfeld and Schlegel, Phys. Med. Biol. 45:459-478, 2000, doi 10.1088/0031-9155/45/2/314.
    """
    values = np.maximum(np.asarray(hu, np.float64), -1000)
    density = 1.017 + 0.000592 * values
    for limit, slope, intercept in reversed(SCHNEIDER):
        density = np.where(values < limit, intercept + slope * values, density)
    return np.asarray(density, np.float32)


def relative_electron_density(hu: ArrayLike) -> Array:
    """Return the electron density of tissue of a CT number relative to water, 0 at and below the number of air.

    These are the two lines recommended where a scanner has not been calibrated: 1 + HU/1000, and 1 + HU/1950 from 100
    HU on, where bone begins and the curve falls by 0.05.

    Source: Thomas, Br. J. Radiol. 72:781-786, 1999, doi 10.1259/bjr.72.860.10624344.
    """
    values = np.maximum(np.asarray(hu, np.float64), -1000)
    return np.asarray(1 + values / np.where(values < BONE_HU, 1000, 1950), np.float32)


def attenuation_at_511(hu: ArrayLike, kilovolts: int = 120) -> Array:
    """Return the attenuation in mm⁻¹ of photons of 511 keV, by which PET is corrected; 0 at and below that of air.

    Source: Carney, Townsend, Rappoport and Bendriem, Med. Phys. 33:976-983, 2006, doi 10.1118/1.2174132.

    Args:
        hu: CT numbers.
        kilovolts: tube voltage of the CT, one of `CARNEY`.

    Raises:
        KeyError: there is no calibration at this voltage.
    """
    limit, slope, intercept = CARNEY[kilovolts]
    values = np.maximum(np.asarray(hu, np.float64), -1000) + 1000
    per_cm = np.where(values < limit + 1000, 9.6e-5 * values, slope * values + intercept)
    return np.asarray(per_cm / 10, np.float32)


def water_equivalent_paths(hu: ArrayLike, pixel_mm: float, angles: int = 36) -> Array:
    """Return the thickness of water that stops photon beams as much as what lies in their way, for parallel beams.

    This is the integral of the relative electron density along each ray, by Joseph's method. Where it differs between a
    synthetic and a true CT, doses behind it differ, too.

    Args:
        hu: axial slices, (slices, rows, columns) or (rows, columns), of square pixels.
        pixel_mm: edge of a pixel.
        angles: number of directions, evenly spaced over 180°; the first looks along the columns.

    Returns:
        Paths in mm, (slices, angles, rays); rays are a pixel apart and cover the whole slice.
    """
    slices = np.asarray(hu, np.float32)
    planes = slices.reshape(-1, *slices.shape[-2:])
    beam = ParallelBeam((planes.shape[1], planes.shape[2]), pixel_mm, angles)
    return np.stack([beam.project(relative_electron_density(plane)) for plane in planes])
