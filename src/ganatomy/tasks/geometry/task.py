"""The task of vessel geometry: generate centre-lines with radii from noise, without images."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from ganatomy.case import Better, Case, Preparation, Role, Sample, Scores, Task, Volume
from ganatomy.errors import UserError
from ganatomy.game import Method, MethodConfig, Stream
from ganatomy.images.augmentation import Augmentation, Changes
from ganatomy.metrics.distribution import kernel_distance
from ganatomy.metrics.diversity import total_variance_ratio
from ganatomy.metrics.geometry import TubeShape, difference
from ganatomy.nets.aids import latents
from ganatomy.physics.centreline import CentrelineCodec, Encoding
from ganatomy.tasks.geometry.roles import CentrelineRole, LengthRole, as_centreline

VESSEL, LENGTH = "vessel", "length"
"""Names of the roles."""
PATIENTS = 120
"""Number of phantom subjects, each with ten vessels."""
NUMBERS = tuple(one.name for one in fields(TubeShape))
"""Names of the six numbers that are measured of a vessel."""
SHAPE_DISTANCE, KERNEL, VARIETY = "shape distance", "kernel distance@signal", "variety"

Signals = NDArray[np.float32]
"""Signals of vessels, (vessels, 4, samples)."""


class GeometryConfig(MethodConfig):
    """Options of methods that generate vessels: their encoding as signals, the condition, and augmentation."""

    samples: int = Field(512, ge=16, le=65536)  # number of samples of a signal
    step_mm: float = Field(0.5, gt=0)  # mm of arc length between samples
    radius_mm: float = Field(5.0, gt=0)  # radius in mm that is encoded as 1
    encoding: Encoding = "displacement"  # encoding of positions: unit vectors from sample to sample, or absolute
    extent_mm: float = Field(100.0, gt=0)  # distance from the ostium in mm that is encoded as 1 by absolute positions
    condition: Literal["none", "length"] = "none"  # condition of the generator: none, or the length of the vessel
    rotation: float = Field(0.0, ge=0, le=180)  # largest random rotation of training vessels about the z axis, degrees

    @property
    def signals(self) -> CentrelineCodec:
        """Codec between centre-lines and signals."""
        return CentrelineCodec(self.samples, self.step_mm, self.radius_mm, self.encoding, self.extent_mm)


class GeometryPreparation(Preparation):
    """Preparation that encodes centre-lines as signals."""

    samples: int  # number of samples of a signal
    step_mm: float  # mm of arc length between samples
    radius_mm: float  # radius in mm that is encoded as 1
    encoding: Encoding  # encoding of the three spatial channels
    extent_mm: float  # distance in mm that is encoded as 1 by absolute positions


class VesselGeometry(Task):
    """Task of generating vessels: centre-lines from the ostium to the distal end, with the radius of the lumen.

    Where the generator is conditioned on length, that of a training vessel is measured from its signal, and lengths in
    a manifest are not used.

    Args:
        signals: codec between centre-lines and signals.
        conditional: whether the generator is conditioned on the length of the vessel.
    """

    name = "geometry"
    predictors: ClassVar[Mapping[str, Any]] = {"sample": "ganatomy.tasks.geometry.predictor:VesselPredictor"}
    judge = "ganatomy.tasks.geometry.judge:GeometryJudge"
    fewest_validation_images = 2  # vessels, whose distributions are compared
    given = VESSEL
    phantom = "coronary-centrelines"
    phantom_subjects = PATIENTS

    directions: ClassVar[Mapping[str, Better]] = {SHAPE_DISTANCE: "lower", KERNEL: "lower", VARIETY: "target"}

    def __init__(self, signals: CentrelineCodec, conditional: bool = False):
        self.signals, self.conditional = signals, conditional
        vessel: dict[str, Role] = {VESSEL: CentrelineRole(VESSEL, signals=signals)}
        length: dict[str, Role] = {LENGTH: LengthRole(LENGTH, signals.longest_mm, optional=True)}
        self.roles: Mapping[str, Role] = {**vessel, **(length if conditional else {})}
        self.fitted: Mapping[str, Any] = {}

    def phantom_grid(self, size: int | None) -> dict[str, Any]:
        return {}

    def phantom_parts(self, label: str | None) -> Mapping[str, str]:
        return {VESSEL: "vessel"}

    @property
    def preparation(self) -> GeometryPreparation:
        s = self.signals
        return GeometryPreparation(
            samples=s.samples, step_mm=s.step_mm, radius_mm=s.radius_mm, encoding=s.encoding, extent_mm=s.extent_mm
        )

    def frame(self, values: Mapping[str, Any], case: Case | None = None) -> Sample:
        sample = super().frame(values, case)
        if VESSEL not in sample.values:
            return sample
        length, longest = as_centreline(sample.values[VESSEL]).length_mm, self.signals.longest_mm
        if length <= longest + self.signals.step_mm / 2:
            return sample
        note = f"a vessel of {length:.0f} mm is cut at {longest:g} mm, the longest that a signal holds"
        return replace(sample, notes=(*sample.notes, note))

    def changes(self) -> Changes:
        """Return no changes, which are for images."""
        return Changes(Augmentation(), "its signals are no images; --rotation turns vessels")

    def simulate(self, sample: Sample, seed: int) -> Sample:
        if not self.conditional:
            return sample
        (length,) = self.lengths(np.asarray(sample.arrays[VESSEL])[None, :, 0, 0])
        return sample.with_arrays({LENGTH: np.full((1, 1, 1, 1), length, np.float32)}, {})

    def fit(self, samples: Iterable[Sample]) -> Mapping[str, NDArray[Any]]:
        """Collect the lengths of the training vessels in mm, from which those of new vessels are drawn by default."""
        found = [float(np.asarray(sample.arrays[LENGTH]).reshape(())) for sample in samples if self.conditional]
        return {"lengths": np.array(found, np.float32)} if found else {}

    def lengths(self, signals: NDArray[Any]) -> NDArray[np.float64]:
        """Return the arc lengths in mm, (vessels,), of signals (vessels, 4, samples)."""
        return self.signals.lengths_mm(signals)

    @property
    def selection(self) -> str:
        return SHAPE_DISTANCE

    def stream(self, batch_size: int, rotation: float = 0.0) -> Stream:
        """Return a stream of signals, with lengths where the generator is conditioned on them.

        Args:
            batch_size: number of vessels in a batch.
            rotation: largest random rotation of a vessel about the z axis, the long axis of the body, in degrees.
        """
        roles = (VESSEL, LENGTH) if self.conditional else (VESSEL,)
        patch = (1, 1, self.signals.samples)

        def turned(drawn: Mapping[str, Any], rng: np.random.Generator) -> Mapping[str, Any]:
            return {**drawn, VESSEL: turn(drawn[VESSEL], float(rng.uniform(-rotation, rotation)))}

        return Stream("vessels", roles, batch_size, patch, transform=turned if rotation else None)

    def scores(
        self, output: Mapping[str, Volume], sample: Mapping[str, Volume], spacing: tuple[float, float, float]
    ) -> Scores:
        """Score the vessels of ``output`` against those of ``sample``, both (vessels, 4, samples); see `set_scores`."""
        return self.set_scores(sample[VESSEL], output[VESSEL])

    def set_scores(self, real: Signals, fake: Signals) -> Scores:
        """Score a set of generated vessels against a set of real ones.

        - ``shape distance``: Wasserstein-1 distance of each of the six numbers of `TubeShape`, divided by its standard
          deviation among the real vessels; mean of the six.
        - ``kernel distance@signal`` and ``variety``: computed from the signals as the networks see them.

        Args:
            real: real vessels, (vessels, 4, samples), two or more.
            fake: generated vessels, (vessels, 4, samples), two or more.
        """
        ours, theirs = self.shapes(fake), self.shapes(real)
        found = [_scaled_distance(theirs[name], ours[name]) for name in NUMBERS]
        rng = np.random.default_rng(0)
        return {
            SHAPE_DISTANCE: float(np.nanmean(found)),
            KERNEL: kernel_distance(_flat(real), _flat(fake), rng, subsets=1).mean,
            VARIETY: total_variance_ratio(_flat(real), _flat(fake)),
        }

    def shapes(self, signals: Signals) -> dict[str, NDArray[np.float64]]:
        """Measure the six numbers of `TubeShape` of signals (vessels, 4, samples).

        Returns:
            Name to values, (vessels,); NaN for vessels of a single point.
        """
        lines = [self.signals.decode(signal) for signal in signals]
        found = [TubeShape.of(line.points, line.radii) for line in lines]
        return {name: np.array([getattr(one, name) for one in found], np.float64) for name in NUMBERS}


class VesselSynthesiser(Method):
    """Base class of vessel generators; their configuration is a `GeometryConfig`."""

    dims = 1
    latent_size: int
    """Length of a latent vector, drawn from N(0, 1)."""

    @abstractmethod
    def sample(self, latent: Tensor, length: Tensor | None = None) -> Tensor:
        """Generate signals of vessels, (n, 4, samples), in the range of the networks.

        Args:
            latent: latent vectors, (n, latent_size).
            length: lengths in units of the longest vessel, (n, 1), where ``conditional``.
        """

    @property
    def conditional(self) -> bool:
        """Whether the generator is conditioned on the length of the vessel."""
        return bool(self.config.condition == LENGTH)

    def build_task(self) -> VesselGeometry:
        return VesselGeometry(self.config.signals, self.conditional)

    def latents(self, rows: int) -> Tensor:
        """Draw latent vectors for training, (rows, latent_size)."""
        return latents(self.noise, rows, self.latent_size)

    def draw(self, seeds: Iterable[int], truncation: float = 1.0) -> Tensor:
        """Draw latent vectors, each from a seed of its own, (n, latent_size).

        Args:
            seeds: one seed per vessel.
            truncation: factor of the vectors: 1 leaves them, 0 gives the centre of the prior.
        """
        drawn = [torch.randn(self.latent_size, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return truncation * torch.stack(drawn)


def turn(signals: NDArray[Any], degrees: float) -> NDArray[Any]:
    """Rotate signals (4, ...) about the z axis, counter-clockwise as seen from the head."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turned = np.array(signals)
    turned[0] = cosine * signals[0] - sine * signals[1]
    turned[1] = sine * signals[0] + cosine * signals[1]
    return turned


def check_length(length: float, task: VesselGeometry) -> None:
    """Refuse a length for which no vessel can be generated.

    Raises:
        UserError: the generator is not conditioned on length, or the length exceeds that of a signal.
    """
    if not task.conditional:
        raise UserError("--length: this run makes vessels of any length; train one with --condition length")
    task.roles[LENGTH].check(length)


def _scaled_distance(real: NDArray[np.float64], fake: NDArray[np.float64]) -> float:
    """Return the Wasserstein-1 distance over the standard deviation of the real numbers; NaN without finite numbers."""
    spread = float(np.std(real[np.isfinite(real)])) if np.isfinite(real).any() else 0.0
    if not spread or not np.isfinite(fake).any():
        return float("nan")
    return difference(real, fake).wasserstein / spread


def _flat(signals: Signals) -> NDArray[np.float64]:
    return np.asarray(signals, np.float64).reshape(len(signals), -1)
