"""A simple model of pulse-echo ultrasound: speckle, attenuation, log compression and scan conversion of a sector.

Echoes are arrays (depths, beams, planes) in the coordinates of the transducer, which is a point: the distance from it,
and the angles of a beam in the plane and across it; or (depths, beams) in those of a curved array. Amplitudes are
relative.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Array = NDArray[np.float32]

SPEED = 1540.0
"""Speed of sound in soft tissue in m/s."""
FWHM = 2.355
"""Full width at half maximum of a Gaussian, in its standard deviations."""


@dataclass(frozen=True)
class Sector:
    """A pyramid of beams from one point.

    Attributes:
        depth_mm: length of the beams.
        step_mm: distance between samples along a beam.
        half_angle: largest angle of a beam to the axis, in radians, in the plane and across it.
        beams: number of beams along both angles.
    """

    depth_mm: float
    step_mm: float
    half_angle: float
    beams: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of depths, beams and planes."""
        return int(self.depth_mm / self.step_mm) + 1, self.beams, self.beams

    def positions(self) -> tuple[Array, Array, Array, Array]:
        """Return the distance from the transducer and the position (across, deep, aside) in mm of every sample."""
        radius = (np.arange(self.shape[0]) * self.step_mm).astype(np.float32)[:, None, None]
        slope = np.tan(np.linspace(-self.half_angle, self.half_angle, self.beams)).astype(np.float32)
        across, aside = slope[None, :, None], slope[None, None, :]
        deep = radius / np.sqrt(1 + across**2 + aside**2)
        return np.broadcast_to(radius, self.shape), deep * across, np.asarray(deep, np.float32), deep * aside

    def converted(self, values: Array, across: Array, deep: Array, aside: Array) -> Array:
        """Return values at positions in mm, interpolated linearly, and 0 outside of the pyramid.

        Args:
            values: values of the samples, (depths, beams, planes).
            across: positions across the axis in the plane of the first angle; all positions broadcast.
            deep: positions along the axis, positive in front of the transducer.
            aside: positions across the axis in the plane of the second angle.
        """
        radius = np.sqrt(across**2 + deep**2 + aside**2)
        angles = np.arctan2(across, deep), np.arctan2(aside, deep)
        places = [(angle / self.half_angle + 1) * (self.beams - 1) / 2 for angle in angles]
        where = np.broadcast_arrays(radius / self.step_mm, *places)
        return np.asarray(ndimage.map_coordinates(values, where, np.float32, order=1, cval=0.0), np.float32)


@dataclass(frozen=True)
class Fan:
    """The plane of beams of a curved array; they run away from the axis of the array.

    Attributes:
        radius_mm: radius of the array, at which beams begin.
        depth_mm: length of the beams.
        step_mm: distance between samples along a beam.
        half_angle: largest angle of a beam to the axis of the plane, in radians.
        beams: number of beams.
    """

    radius_mm: float
    depth_mm: float
    step_mm: float
    half_angle: float
    beams: int

    @property
    def shape(self) -> tuple[int, int]:
        """Number of depths and beams."""
        return int(self.depth_mm / self.step_mm) + 1, self.beams

    def positions(self) -> tuple[Array, Array]:
        """Return the position (across, deep) of every sample in mm from the axis of the array."""
        reach = self.radius_mm + np.arange(self.shape[0])[:, None] * self.step_mm
        angle = np.linspace(-self.half_angle, self.half_angle, self.beams)[None]
        return np.asarray(reach * np.sin(angle), np.float32), np.asarray(reach * np.cos(angle), np.float32)

    def converted(self, values: Array, across: Array, deep: Array) -> Array:
        """Return values at positions in mm, interpolated linearly, and 0 outside of the fan.

        Args:
            values: values of the samples, (depths, beams).
            across: positions across the axis of the plane; both broadcast.
            deep: positions along that axis from the centre of the array.
        """
        depth = (np.hypot(across, deep) - self.radius_mm) / self.step_mm
        beam = (np.arctan2(across, deep) / self.half_angle + 1) * (self.beams - 1) / 2
        where = np.broadcast_arrays(depth, beam)
        return np.asarray(ndimage.map_coordinates(values, where, np.float32, order=1, cval=0.0), np.float32)


def speckled(amplitude: Array, rng: np.random.Generator, spread: Sequence[float]) -> Array:
    """Return the envelope of the echoes of many scatterers in every cell: fully developed speckle.

    Args:
        amplitude: root mean square of the echoes of a cell, which the envelope keeps where it is constant.
        rng: source of random numbers.
        spread: SD of pulse and beam along every axis, in cells.
    """
    scattered = amplitude * (rng.standard_normal((2, *amplitude.shape), np.float32) / np.float32(np.sqrt(2)))
    return envelope_of(scattered, spread)


def envelope_of(scattered: Array, spread: Sequence[float]) -> Array:
    """Return the envelope of the echoes of given scatterers, in the baseband, where a pulse has no carrier.

    Args:
        scattered: real and imaginary part of the scatterers of every cell, (2, ...).
        spread: SD of pulse and beam along every axis of a part, in cells.
    """
    power = 1.0
    for sd in spread:
        pulse = np.zeros(1 + 2 * int(4 * sd + 0.5))
        pulse[len(pulse) // 2] = 1
        power *= float(np.square(ndimage.gaussian_filter1d(pulse, sd)).sum())
    real, imaginary = (ndimage.gaussian_filter(part, spread) for part in scattered)
    return np.asarray(np.hypot(real, imaginary) / np.sqrt(power), np.float32)


def pulse_sd(megahertz: float, cycles: float = 2.5) -> float:
    """Return the SD along the beam in mm of a pulse of some cycles (full width at half maximum) at a frequency."""
    return cycles * SPEED / (2 * megahertz * 1e6) / FWHM * 1e3


def reflected(before: float, after: float) -> float:
    """Return the share of the amplitude that the border of two acoustic impedances (in one unit) reflects."""
    return (after - before) / (after + before)


def transmitted(before: float, after: float) -> float:
    """Return the share of the amplitude that is left after passing the border of two impedances to and fro."""
    return 4 * before * after / (before + after) ** 2


def attenuated(amplitude: Array, loss: Array | float, step_mm: float, compensated: float) -> Array:
    """Return amplitudes after the way to a sample and back, with the gain that compensates for a mean loss.

    Args:
        amplitude: amplitudes, depths first.
        loss: loss one way in dB per cm, for every sample or all.
        step_mm: distance between samples along a beam.
        compensated: loss one way in dB per cm that the gain compensates for.
    """
    excess = np.broadcast_to(np.asarray(loss, np.float32) - np.float32(compensated), amplitude.shape)
    decibels = 2 * np.cumsum(excess, axis=0) * np.float32(step_mm / 10)
    return np.asarray(amplitude * 10 ** (-decibels / 20), np.float32)


def compressed(envelope: Array, dynamic_range: float) -> Array:
    """Return grey levels from 0 to 255 that are linear in decibels: 255 is amplitude 1, and 0 the range below it.

    Args:
        envelope: amplitudes, not negative.
        dynamic_range: range of the grey levels in dB.
    """
    decibels = 20 * np.log10(np.maximum(envelope, np.float32(1e-6)))
    return np.asarray(255 * np.clip(1 + decibels / np.float32(dynamic_range), 0, 1), np.float32)
