"""Computed tomography: CT numbers, projection, filtered back-projection, and simulation of low-dose scans.

Lengths are in mm and attenuation coefficients μ in mm⁻¹. Images have shape (rows, columns) with row 0 at the
top; sinograms hold line integrals ∫μ dl and have shape (views, detectors).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field

from ganatomy.errors import UserError
from ganatomy.physics.projectors import Projector, ProjectorName, Views, projector

Array = NDArray[np.float32]
Filter = Literal["ramp", "shepp-logan", "cosine", "hann"]

WATER = 0.0192
"""Attenuation of water in mm⁻¹ near 70 keV, the usual effective energy of a 120 kVp beam."""

HU_RANGE = (-1024.0, 3071.0)
"""Range of CT numbers that a 12-bit scanner stores."""

SAMPLES_PER_PITCH = 8
"""Samples per detector element to which views are interpolated, so that back-projection can take the nearest."""

FEW_COUNTS = 20.0
"""Detected photons below which the logarithm of a Poisson count is no longer close to normal."""


def hu_to_attenuation(hu: ArrayLike, water: float = WATER) -> Array:
    """Convert CT numbers in HU to attenuation in mm⁻¹; values below that of air (padding, noise) count as air."""
    return np.asarray(water * (1 + np.maximum(np.asarray(hu, np.float64), -1000) / 1000), np.float32)


def attenuation_to_hu(mu: ArrayLike, water: float = WATER) -> Array:
    """Convert attenuation in mm⁻¹ to CT numbers in HU, the inverse of `hu_to_attenuation` above −1000 HU."""
    return np.asarray(1000 * (np.asarray(mu, np.float64) / water - 1), np.float32)


@dataclass(frozen=True)
class Beam(ABC):
    """Acquisition geometry in 2D with a projector, its exact adjoint, and filtered back-projection.

    The detector covers the image to its corners unless `detectors` says otherwise, so objects need not fit
    into the inscribed circle. Kak and Slaney, Principles of Computerized Tomographic Imaging, chapter 3.

    Attributes:
        shape: rows and columns of the image.
        pixel_mm: edge of a square pixel.
        views: number of projections, evenly spaced over the scan.
        detectors: number of detector elements; by default enough to cover the whole image.
        pitch_mm: distance between elements; by default the pixel size, magnified to the detector.
        projector: method by which line integrals are computed; "astra" needs the ASTRA toolbox.
    """

    shape: tuple[int, int]
    pixel_mm: float
    views: int
    detectors: int | None = None
    pitch_mm: float | None = None
    projector: ProjectorName = "joseph"

    arc: ClassVar[float]

    @property
    def angles(self) -> NDArray[np.float64]:
        """View angles in radians, counter-clockwise."""
        return np.linspace(0, self.arc, self.views, endpoint=False)

    @property
    def magnification(self) -> float:
        """Size on the detector of a unit length at the rotation centre."""
        return 1.0

    @property
    def pitch(self) -> float:
        """Distance between detector elements in mm."""
        return self.pitch_mm or self.pixel_mm * self.magnification

    @property
    def elements(self) -> int:
        """Number of detector elements."""
        return self.detectors or int(np.ceil(2 * self._reach / self.pitch)) + 1

    @property
    def _radius(self) -> float:
        """Distance in mm from the rotation centre to the corner of the image."""
        return float(np.hypot(*self.shape)) * self.pixel_mm / 2

    @property
    @abstractmethod
    def _reach(self) -> float:
        """Distance in mm from the middle of the detector to the farthest projection of the image."""

    @abstractmethod
    def _views(self, forward: NDArray[np.float64], steps: NDArray[np.float64]) -> Views:
        """Return the geometry in pixels.

        Args:
            forward: direction of the central rays, a unit vector as (x to the right, y upwards), (views, 2).
            steps: way in pixels from one detector element to the next, (views, 2).
        """

    @abstractmethod
    def _fan_weights(self, position: Array) -> Array | np.float32:
        """Return the weights of the line integrals before filtering; `position` in mm at the rotation centre."""

    @abstractmethod
    def _locate(self, x: Array, y: Array, angle: float) -> tuple[Array, Array | np.float32]:
        """Return the detector positions of pixels (mm at the rotation centre), and their weights in back-projection."""

    def _projector(self) -> Projector:
        sideways = np.stack([np.cos(self.angles), np.sin(self.angles)], 1)
        forward = np.stack([-sideways[:, 1], sideways[:, 0]], 1)
        return projector(self.projector, self.shape, self._views(forward, sideways * self.pitch / self.pixel_mm))

    def project(self, mu: ArrayLike) -> Array:
        """Project an attenuation image in mm⁻¹ to line integrals, shape (views, detectors)."""
        line_integrals = self._projector().project(_plane(mu, self.shape, "image"))
        return line_integrals * np.float32(self.pixel_mm)

    def backproject(self, sinogram: ArrayLike) -> Array:
        """Apply the exact adjoint of `project`, shape (rows, columns): ⟨project(x), y⟩ = ⟨x, backproject(y)⟩."""
        image = self._projector().backproject(_plane(sinogram, (self.views, self.elements), "sinogram"))
        return image * np.float32(self.pixel_mm)

    def fbp(self, sinogram: ArrayLike, filter: Filter = "ramp") -> Array:
        """Reconstruct an attenuation image in mm⁻¹ by filtered back-projection with linear interpolation.

        The back-projection is pixel-driven, because the ray-driven adjoint `backproject` leaves a moiré of several HU.
        """
        rays = _plane(sinogram, (self.views, self.elements), "sinogram")
        pitch = self.pitch / self.magnification
        offsets = (np.arange(self.elements, dtype=np.float32) - (self.elements - 1) / 2) * np.float32(pitch)
        samples = _interpolate(_filter(rays * self._fan_weights(offsets), pitch, filter))

        rows, columns = self.shape
        x = (np.arange(columns, dtype=np.float32) - (columns - 1) / 2) * np.float32(self.pixel_mm)
        y = ((rows - 1) / 2 - np.arange(rows, dtype=np.float32)[:, None]) * np.float32(self.pixel_mm)
        image = np.zeros(self.shape, np.float32)
        for view, angle in zip(samples, self.angles, strict=True):
            position, weight = self._locate(x, y, float(angle))
            position *= np.float32(SAMPLES_PER_PITCH / pitch)
            # The middle of the view, (size - 1) / 2, plus a half that makes truncation round.
            position += np.float32(view.size / 2)
            image += weight * view.take(position.astype(np.intp), mode="clip")
        return image * np.float32(np.pi / self.views)


@dataclass(frozen=True)
class ParallelBeam(Beam):
    """Parallel-beam geometry over 180°."""

    arc: ClassVar[float] = np.pi

    @property
    def _reach(self) -> float:
        return self._radius

    def _views(self, forward: NDArray[np.float64], steps: NDArray[np.float64]) -> Views:
        return Views(forward, np.zeros_like(forward), steps, self.elements, parallel=True)

    def _fan_weights(self, position: Array) -> np.float32:
        return np.float32(1)

    def _locate(self, x: Array, y: Array, angle: float) -> tuple[Array, np.float32]:
        return _rotate(x, y, angle), np.float32(1)


@dataclass(frozen=True)
class FanBeam(Beam):
    """Fan-beam geometry: a point source and a flat detector that rotate over 360°.

    Attributes:
        source_mm: distance from source to rotation centre; must exceed half the diagonal of the image.
        detector_mm: distance from rotation centre to detector.
    """

    source_mm: float = 595.0
    detector_mm: float = 490.6

    arc: ClassVar[float] = 2 * np.pi

    def __post_init__(self) -> None:
        if self.source_mm <= self._radius:
            raise UserError(
                f"source_mm={self.source_mm:g} puts the X-ray source inside the image, "
                f"whose corners lie {self._radius:.0f} mm from the centre: use a larger distance"
            )

    @property
    def magnification(self) -> float:
        """Size on the detector of a unit length at the rotation centre."""
        return (self.source_mm + self.detector_mm) / self.source_mm

    @property
    def _reach(self) -> float:
        tangent = self._radius / np.sqrt(self.source_mm**2 - self._radius**2)
        return float((self.source_mm + self.detector_mm) * tangent)

    def _views(self, forward: NDArray[np.float64], steps: NDArray[np.float64]) -> Views:
        source, detector = self.source_mm / self.pixel_mm, self.detector_mm / self.pixel_mm
        return Views(-source * forward, detector * forward, steps, self.elements, parallel=False)

    def _fan_weights(self, position: Array) -> Array:
        return np.asarray(1 / np.hypot(1, position / np.float32(self.source_mm)), np.float32)

    def _locate(self, x: Array, y: Array, angle: float) -> tuple[Array, Array]:
        along = _rotate(x, y, angle + np.pi / 2)
        closeness = np.float32(self.source_mm) / (np.float32(self.source_mm) + along)
        return _rotate(x, y, angle) * closeness, closeness**2


def _rotate(x: Array, y: Array, angle: float) -> Array:
    """Return the coordinate of each pixel along an axis at this angle."""
    return x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle))


def _plane(values: ArrayLike, shape: tuple[int, int], what: str) -> Array:
    array = np.ascontiguousarray(values, np.float32)
    if array.shape != shape:
        raise UserError(f"the {what} has shape {array.shape}; this geometry needs {shape}")
    return array


_WINDOWS: dict[Filter, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "ramp": np.ones_like,
    "shepp-logan": lambda f: np.sinc(f / 2),
    "cosine": lambda f: np.cos(np.pi * f / 2),
    "hann": lambda f: (1 + np.cos(np.pi * f)) / 2,
}


def _filter(rays: Array, pitch: float, name: Filter) -> Array:
    """Convolve each view with the band-limited ramp (Kak and Slaney, eq. 3.61), apodised by a window."""
    length = 1 << (2 * rays.shape[1] - 1).bit_length()
    tap = np.fft.fftfreq(length, 1 / length)
    odd = tap % 2 != 0
    kernel = np.zeros(length)
    kernel[0] = 1 / 4
    kernel[odd] = -1 / (np.pi * tap[odd]) ** 2
    response = np.fft.rfft(kernel).real / pitch
    response *= _WINDOWS[name](np.linspace(0, 1, len(response)))
    filtered = np.fft.irfft(np.fft.rfft(rays, length) * response.astype(np.float32), length)
    return np.asarray(filtered[:, : rays.shape[1]], np.float32)


def _interpolate(rays: Array) -> Array:
    """Sample views `SAMPLES_PER_PITCH` times as densely, falling to zero beyond the detector's ends."""
    padded = np.pad(rays, ((0, 0), (1, 1)))
    t = np.arange(SAMPLES_PER_PITCH, dtype=np.float32) / SAMPLES_PER_PITCH
    between = padded[:, :-1, None] * (1 - t) + padded[:, 1:, None] * t
    return np.pad(between.reshape(len(rays), -1), ((0, 0), (0, 1)))


class LowDoseScan(BaseModel):
    """Simulated CT acquisitions: routine-dose scans of phantoms, and low-dose versions of routine-dose scans.

    Detected counts are Poisson(I₀·e⁻ᵖ) plus normal electronic noise. A routine-dose image already carries its
    own noise, so its version at dose fraction α receives only the difference (Yu et al., Development and
    validation of a practical lower-dose-simulation tool for optimizing computed tomography scan protocols,
    J. Comput. Assist. Tomogr. 36(4):477-487, 2012). Reconstruction is linear, so by default only the noise is
    reconstructed and added: both images then share resolution and registration exactly.

    Rays are one pixel wide. Every slice is an independent axial acquisition, seeded by (seed, slice number):
    any subset in any order gives the same slices.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dose_fraction: float = Field(0.25, gt=0, le=1)  # dose of the low-dose scan over that of the normal scan
    photons: float = Field(1e5, gt=0)  # counts per ray of the normal scan with nothing in the beam
    electronic_noise: float = Field(10.0, ge=0)  # variance of the read-out, counts²
    min_counts: float = Field(1.0, gt=0)  # measured counts are raised to this before the logarithm
    views: int = Field(720, gt=0)  # projections per rotation (per half rotation for parallel rays)
    geometry: Literal["parallel", "fan"] = "parallel"  # fan: flat detector, full rotation
    source_mm: float = Field(595.0, gt=0)  # source to rotation centre, fan only
    detector_mm: float = Field(490.6, ge=0)  # rotation centre to detector, fan only
    filter: Filter = "hann"  # apodisation of the ramp; hann resembles a soft-tissue kernel
    projector: ProjectorName = "joseph"  # computes line integrals; astra needs the extra ganatomy[astra]
    water: float = Field(WATER, gt=0)  # attenuation of water, mm⁻¹
    scheme: Literal["additive", "full"] = "additive"  # add reconstructed noise, or reconstruct everything
    clip: bool = True  # keep within the scanner's range of -1024..3071 HU

    def low_dose(self, hu: ArrayLike, pixel_mm: tuple[float, float], seed: int, first: int = 0) -> Array:
        """Simulate the scan at `dose_fraction` from a routine-dose scan.

        Args:
            hu: routine-dose slices in HU, shape (slices, rows, columns). Padding below −1024 stays as it is.
            pixel_mm: row and column spacing, which must agree.
            seed: seed of the noise.
            first: number of the first slice given, when `hu` is a part of a larger scan.

        Returns:
            Low-dose slices in HU, float32, shaped as `hu`.

        Raises:
            UserError: The pixels are not square or `hu` is not a stack of slices.
        """
        return self._scan(hu, pixel_mm, self._lowered, stream=(1, seed), first=first)

    def acquire(self, hu_clean: ArrayLike, pixel_mm: tuple[float, float], seed: int, first: int = 0) -> Array:
        """Simulate a routine-dose scan of a noise-free object; arguments and result as in `low_dose`."""
        return self._scan(hu_clean, pixel_mm, self._routine, stream=(0, seed), first=first)

    def beam(self, shape: tuple[int, int], pixel_mm: float) -> Beam:
        """Return the acquisition geometry for an image of this shape and pixel size."""
        if self.geometry == "parallel":
            return ParallelBeam(shape, pixel_mm, self.views, projector=self.projector)
        return FanBeam(
            shape,
            pixel_mm,
            self.views,
            projector=self.projector,
            source_mm=self.source_mm,
            detector_mm=self.detector_mm,
        )

    def _scan(
        self,
        hu: ArrayLike,
        pixel_mm: tuple[float, float],
        noisy: _Noisy,
        stream: tuple[int, int],
        first: int,
    ) -> Array:
        stack = np.asarray(hu, np.float32)
        if stack.ndim != 3:
            raise UserError(f"a CT scan is (slices, rows, columns), not an array of shape {stack.shape}")
        if not np.isclose(*pixel_mm, rtol=1e-3):
            raise UserError(f"pixels of {pixel_mm[0]:g} x {pixel_mm[1]:g} mm: resample to square pixels first")
        beam = self.beam((stack.shape[1], stack.shape[2]), float(pixel_mm[0]))
        padding = stack < HU_RANGE[0]
        scanned = np.empty_like(stack)
        for number, plane in enumerate(stack):
            rng = np.random.default_rng([*stream, first + number])
            scanned[number] = self._scan_slice(plane, beam, noisy, rng)
        if self.clip:
            scanned = scanned.clip(*HU_RANGE)
        scanned[padding] = stack[padding]
        return scanned

    def _scan_slice(self, hu: Array, beam: Beam, noisy: _Noisy, rng: np.random.Generator) -> Array:
        mu = hu_to_attenuation(hu, self.water)
        if self.scheme == "full":
            return attenuation_to_hu(beam.fbp(noisy(beam.project(mu), rng), self.filter), self.water)
        measurable = np.float32(np.log(self.photons / self.min_counts))
        line_integrals = np.minimum(_project_coarsely(beam, mu), measurable)
        change = beam.fbp(noisy(line_integrals, rng) - line_integrals, self.filter)
        noisy_hu: Array = np.maximum(hu, HU_RANGE[0]) + change * np.float32(1000 / self.water)
        return noisy_hu

    def _routine(self, line_integrals: Array, rng: np.random.Generator) -> Array:
        return self._measured(line_integrals, self.photons, rng)

    def _lowered(self, line_integrals: Array, rng: np.random.Generator) -> Array:
        """Add the noise by which a low-dose scan exceeds a routine one, Var(low) − Var(normal), to line integrals."""
        dose = self.dose_fraction
        counts: Array = np.exp(-line_integrals) * np.float32(self.photons)
        variance = (1 - dose) / dose / counts * (1 + (1 + dose) / dose * self.electronic_noise / counts)
        missing: Array = np.sqrt(variance) * rng.standard_normal(counts.shape, np.float32)
        # At few photons the logarithm is no longer normally distributed, so the ray's counts are drawn anew.
        starved = dose * counts < FEW_COUNTS
        few = line_integrals[starved]
        missing[starved] = np.sqrt(1 - dose) * (self._measured(few, dose * self.photons, rng) - few)
        return line_integrals + missing

    def _measured(self, line_integrals: Array, blank: float, rng: np.random.Generator) -> Array:
        """Return line integrals with the noise of `blank` photons per unattenuated ray."""
        counts = rng.poisson(blank * np.exp(-line_integrals.astype(np.float64)))
        noisy = counts + rng.normal(0, np.sqrt(self.electronic_noise), counts.shape)
        return np.asarray(-np.log(np.maximum(noisy, self.min_counts) / blank), np.float32)


_Noisy = Callable[[Array, np.random.Generator], Array]


def _project_coarsely(beam: Beam, mu: Array) -> Array:
    """Return line integrals computed at half the image's resolution, which suffices for the variance of the noise."""
    rows, columns = beam.shape
    if rows % 2 or columns % 2 or min(rows, columns) < 128:
        return beam.project(mu)
    halved = mu.reshape(rows // 2, 2, columns // 2, 2).mean((1, 3))
    coarse = replace(
        beam,
        shape=halved.shape,
        pixel_mm=2 * beam.pixel_mm,
        detectors=beam.elements,
        pitch_mm=beam.pitch,
    )
    return coarse.project(halved)
