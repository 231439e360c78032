"""Positron emission tomography: decay, standardised uptake, and the simulation and reconstruction of 2D scans.

Activity concentrations are in kBq/mL, doses in MBq, weights in kg, times in seconds and lengths in mm. Images have
shape (rows, columns), sinograms (views, elements); both are float32.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from ganatomy.errors import UserError
from ganatomy.physics.ct import ParallelBeam
from ganatomy.physics.projectors import Projector, ProjectorName, Views, projector

Array = NDArray[np.float32]

FLUORINE_18 = 6586.2
"""Half-life of fluorine-18 in seconds, 109.77 min."""
FWHM = 2.354820
"""Full width at half maximum of a Gaussian in units of its SD."""
LEAST = 1e-8
"""Smallest expected count, which keeps ratios of counts finite."""


def decayed(activity: ArrayLike, seconds: float, half_life: float = FLUORINE_18) -> NDArray[np.float64]:
    """Return the activity that is left after some time; negative times give that of before."""
    return np.asarray(np.asarray(activity, np.float64) * 2.0 ** (-seconds / half_life))


def standardised_uptake(activity: ArrayLike, weight: float, dose: float) -> Array:
    """Return the standardised uptake value by body weight (SUVbw, g/mL).

    It is 1 everywhere if the dose is spread evenly over a body of 1 g/mL.

    Args:
        activity: kBq/mL at some time.
        weight: of the patient, in kg.
        dose: injected MBq that are left at that time.
    """
    return np.asarray(np.asarray(activity, np.float64) * weight / dose, np.float32)


def blurred(values: ArrayLike, spacing: tuple[float, ...], fwhm: float) -> Array:
    """Return values spread by a Gaussian point spread, which keeps their sum.

    Args:
        values: of any number of axes.
        spacing: distance of voxels along each axis.
        fwhm: full width at half maximum in mm; 0 changes nothing.
    """
    sigma = [fwhm / FWHM / step for step in spacing]
    return np.asarray(ndimage.gaussian_filter(np.asarray(values, np.float32), sigma, mode="reflect"), np.float32)


@dataclass(frozen=True)
class Acquisition:
    """A 2D scan: numbers of coincidences, and what is known about how they came about.

    Attributes:
        counts: coincidences along each ray, (views, elements).
        efficiency: expected coincidences per line integral of kBq/mL times mm, with the attenuation of the patient.
        background: expected random and scattered coincidences along each ray.
    """

    counts: Array
    efficiency: Array
    background: Array


@dataclass(frozen=True)
class PetScanner:
    """A ring of detectors around one slice, whose parallel rays are computed by the projector of CT.

    Attributes:
        shape: rows and columns of the image.
        pixel_mm: edge of a square pixel.
        views: number of directions over 180°.
        fwhm: full width of the point spread in mm; 4 to 6 in clinical scanners.
        projector: method by which line integrals are computed.
    """

    shape: tuple[int, int]
    pixel_mm: float
    views: int = 120
    fwhm: float = 5.0
    projector: ProjectorName = "joseph"

    @cached_property
    def beam(self) -> ParallelBeam:
        """The rays of the scanner."""
        return ParallelBeam(self.shape, self.pixel_mm, self.views, projector=self.projector)

    def survival(self, attenuation: ArrayLike) -> Array:
        """Return the share of coincidences along each ray that the patient does not attenuate.

        Args:
            attenuation: at 511 keV in mm⁻¹, as of `ganatomy.physics.ct_numbers.attenuation_at_511`.
        """
        return np.exp(-self.beam.project(attenuation))

    def acquire(
        self,
        activity: ArrayLike,
        counts: float,
        rng: np.random.Generator,
        *,
        attenuation: ArrayLike | None = None,
        background: float = 0.0,
    ) -> Acquisition:
        """Simulate a scan: point spread, attenuation, a uniform background, and Poisson-distributed counts.

        Args:
            activity: true activity in kBq/mL.
            counts: expected number of all coincidences.
            rng: source of random numbers.
            attenuation: at 511 keV in mm⁻¹; None for a patient that attenuates nothing.
            background: share of the counts that are random or scattered.

        Raises:
            UserError: there is no activity, or an activity or share is negative.
        """
        true = self._forward(np.asarray(activity, np.float32))
        if true.min() < -LEAST or not true.sum() > 0 or not 0 <= background < 1:
            raise UserError(
                "a PET scan needs an activity that is nowhere negative and somewhere positive, and a background of 0 "
                f"to less than 1 of the counts, not {background:g}"
            )
        passed = np.ones_like(true) if attenuation is None else self.survival(attenuation)
        scale = np.float32((1 - background) * counts / float((passed * true).sum()))
        efficiency, uniform = scale * passed, np.full(true.shape, background * counts / true.size, np.float32)
        expected = efficiency * np.maximum(true, 0) + uniform
        return Acquisition(rng.poisson(expected.astype(np.float64)).astype(np.float32), efficiency, uniform)

    def reconstruct(
        self, scan: Acquisition, iterations: int = 4, subsets: int = 1, *, point_spread: bool = False
    ) -> Array:
        """Reconstruct the activity in kBq/mL by expectation maximisation (MLEM), or by ordered subsets of views (OSEM).

        Sources: Shepp and Vardi, IEEE Trans. Med. Imaging 1(2):113-122, 1982; Hudson and Larkin, IEEE Trans. Med.
        Imaging 13(4):601-609, 1994.

        Args:
            scan: the acquisition.
            iterations: number of passes over all views.
            subsets: number of subsets, each of every n-th view; 1 is MLEM, whose likelihood never falls.
            point_spread: whether the point spread is part of the model, which sharpens the image.

        Raises:
            UserError: there are more subsets than views, or no iteration.
        """
        if not 1 <= subsets <= self.views or iterations < 1:
            raise UserError(f"{iterations} iterations over {subsets} subsets of {self.views} views cannot be computed")
        parts = [slice(first, None, subsets) for first in range(subsets)]
        projectors = [self._part(part) for part in parts]
        spread = self.fwhm if point_spread else 0.0
        image: Array = np.ones(self.shape, np.float32)
        sensitivities = [
            self._spread(rays.backproject(scan.efficiency[part]), spread)
            for rays, part in zip(projectors, parts, strict=True)
        ]
        for _ in range(iterations):
            for rays, part, sensitivity in zip(projectors, parts, sensitivities, strict=True):
                expected = scan.efficiency[part] * rays.project(self._spread(image, spread)) * np.float32(self.pixel_mm)
                ratio = scan.counts[part] / np.maximum(expected + scan.background[part], LEAST)
                back = self._spread(rays.backproject(scan.efficiency[part] * ratio), spread)
                image = np.asarray(image * back / np.maximum(sensitivity, LEAST), np.float32)
        return image

    def expected(self, activity: ArrayLike, scan: Acquisition, *, point_spread: bool = False) -> Array:
        """Return the counts that an image would lead to in the model of `reconstruct`."""
        image = self._spread(np.asarray(activity, np.float32), self.fwhm if point_spread else 0.0)
        return scan.efficiency * self.beam.project(image) + scan.background

    def log_likelihood(self, activity: ArrayLike, scan: Acquisition, *, point_spread: bool = False) -> float:
        """Return the Poisson log-likelihood of an image, but for a constant of the counts."""
        mean = np.maximum(self.expected(activity, scan, point_spread=point_spread).astype(np.float64), LEAST)
        return float((scan.counts * np.log(mean) - mean).sum())

    def _forward(self, activity: Array) -> Array:
        return self.beam.project(self._spread(activity, self.fwhm))

    def _spread(self, image: Array, fwhm: float) -> Array:
        return blurred(image, (self.pixel_mm, self.pixel_mm), fwhm)

    def _part(self, part: slice) -> Projector:
        """Return the projector of some views, in pixels."""
        sideways = np.stack([np.cos(self.beam.angles), np.sin(self.beam.angles)], 1)[part]
        forward = np.stack([-sideways[:, 1], sideways[:, 0]], 1)
        views = Views(forward, np.zeros_like(forward), sideways, self.beam.elements, parallel=True)
        return projector(self.projector, self.shape, views)
