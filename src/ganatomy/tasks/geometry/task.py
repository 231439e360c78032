"""Geometry of vessels from noise: centre-lines with radii, no pixels."""

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
from ganatomy.metrics.distribution import kernel_distance
from ganatomy.metrics.diversity import total_variance_ratio
from ganatomy.metrics.geometry import TubeShape, difference
from ganatomy.nets.aids import latents
from ganatomy.physics.centreline import CentrelineCodec, Encoding
from ganatomy.tasks.geometry.roles import CentrelineRole, LengthRole, as_centreline

VESSEL, LENGTH = "vessel", "length"
"""Roles."""
PATIENTS = 120
"""Patients of the embedded phantom, each with ten vessels."""
NUMBERS = tuple(one.name for one in fields(TubeShape))
"""Names of what is measured of a vessel."""
SHAPE_DISTANCE, KERNEL, VARIETY = "shape distance", "kernel distance@signal", "variety"

Signals = NDArray[np.float32]
"""(vessels, 4, samples)."""


class GeometryConfig(MethodConfig):
    """Numbers that decide how vessels become signals, for methods that make vessels."""

    samples: int = Field(512, ge=16)  # of a signal
    step_mm: float = Field(0.5, gt=0)  # mm of arc length between samples
    radius_mm: float = Field(5.0, gt=0)  # mm, radius that is encoded as 1
    encoding: Encoding = "displacement"  # of places: unit vectors from sample to sample, or absolute positions
    extent_mm: float = Field(100.0, gt=0)  # mm, distance from the ostium that absolute positions have as 1
    condition: Literal["none", "length"] = "none"  # what vessels are made for: nothing, or a length in mm
    rotation: float = Field(0.0, ge=0, le=180)  # degrees, largest random turn of training vessels about the long axis

    @property
    def signals(self) -> CentrelineCodec:
        """Conversion between centre-lines and signals."""
        return CentrelineCodec(self.samples, self.step_mm, self.radius_mm, self.encoding, self.extent_mm)


class GeometryPreparation(Preparation):
    """Numbers that decide how centre-lines become the signals that are kept."""

    samples: int  # of a signal
    step_mm: float  # mm of arc length between samples
    radius_mm: float  # mm, radius that is encoded as 1
    encoding: Encoding  # of the three spatial channels
    extent_mm: float  # mm, distance that the absolute encoding has as 1


class VesselGeometry(Task):
    """Real vessels show what to make: centre-lines from the ostium to the distal end, with the radius of the lumen.

    Where vessels are made for a length, that of a training vessel is measured from its signal, whatever a manifest
    says.

    Args:
        signals: conversion between centre-lines and signals.
        conditional: whether vessels are made for a length.
    """

    name = "geometry"
    predictors: ClassVar[Mapping[str, Any]] = {"sample": "ganatomy.tasks.geometry.predictor:VesselPredictor"}
    judge = "ganatomy.tasks.geometry.judge:GeometryJudge"
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

    def simulate(self, sample: Sample, seed: int) -> Sample:
        if not self.conditional:
            return sample
        (length,) = self.lengths(np.asarray(sample.arrays[VESSEL])[None, :, 0, 0])
        return sample.with_arrays({LENGTH: np.full((1, 1, 1, 1), length, np.float32)}, {})

    def fit(self, samples: Iterable[Sample]) -> Mapping[str, NDArray[Any]]:
        """Lengths of the training vessels in mm, from which those of new vessels are drawn where nobody says."""
        found = [float(np.asarray(sample.arrays[LENGTH]).reshape(())) for sample in samples if self.conditional]
        return {"lengths": np.array(found, np.float32)} if found else {}

    def lengths(self, signals: NDArray[Any]) -> NDArray[np.float64]:
        """Arc lengths in mm of vessels (vessels, 4, samples), as their centre-lines have them; (vessels,)."""
        return self.signals.lengths_mm(signals)

    @property
    def selection(self) -> str:
        return SHAPE_DISTANCE

    def stream(self, batch_size: int, rotation: float = 0.0) -> Stream:
        """Batches of signals, with lengths where vessels are made for one.

        Args:
            batch_size: vessels in a batch.
            rotation: largest random turn of a vessel about the long axis of the body, in degrees.
        """
        roles = (VESSEL, LENGTH) if self.conditional else (VESSEL,)
        patch = (1, 1, self.signals.samples)

        def turned(drawn: Mapping[str, Any], rng: np.random.Generator) -> Mapping[str, Any]:
            return {**drawn, VESSEL: turn(drawn[VESSEL], float(rng.uniform(-rotation, rotation)))}

        return Stream("vessels", roles, batch_size, patch, transform=turned if rotation else None)

    def scores(
        self, output: Mapping[str, Volume], sample: Mapping[str, Volume], spacing: tuple[float, float, float]
    ) -> Scores:
        """Vessels of ``output`` and of ``sample`` as two sets of signals (vessels, 4, samples); see `set_scores`."""
        return self.set_scores(sample[VESSEL], output[VESSEL])

    def set_scores(self, real: Signals, fake: Signals) -> Scores:
        """A set of generated vessels against a set of real ones.

        - ``shape distance``: Wasserstein-1 distance of each of the six numbers of `TubeShape`, over its standard
          deviation among the real vessels; mean of the six.
        - ``kernel distance@signal`` and ``variety``: of the signals as the networks see them.

        Args:
            real: (vessels, 4, samples), two or more.
            fake: (vessels, 4, samples), two or more.
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
        """The six numbers of `TubeShape` of vessels (vessels, 4, samples), (vessels,) each; NaN for mere points."""
        lines = [self.signals.decode(signal) for signal in signals]
        found = [TubeShape.of(line.points, line.radii) for line in lines]
        return {name: np.array([getattr(one, name) for one in found], np.float64) for name in NUMBERS}


class VesselSynthesiser(Method):
    """A method that makes signals of vessels from latent noise; its config is a `GeometryConfig`."""

    dims = 1
    latent_size: int
    """Numbers that decide a vessel, drawn from N(0, 1)."""

    @abstractmethod
    def sample(self, latent: Tensor, length: Tensor | None = None) -> Tensor:
        """Signals of vessels, (n, 4, samples), in the range of the networks.

        Args:
            latent: (n, latent_size).
            length: (n, 1) in units of the longest vessel, where vessels are made for one.
        """

    @property
    def conditional(self) -> bool:
        """Whether vessels are made for a length."""
        return bool(self.config.condition == LENGTH)

    def build_task(self) -> VesselGeometry:
        return VesselGeometry(self.config.signals, self.conditional)

    def latents(self, rows: int) -> Tensor:
        """Latent numbers to train with, (rows, latent_size)."""
        return latents(self.noise, rows, self.latent_size)

    def draw(self, seeds: Iterable[int], truncation: float = 1.0) -> Tensor:
        """Latent numbers that depend on each vessel's own seed alone, (n, latent_size).

        Args:
            seeds: one per vessel.
            truncation: pulls them towards the centre of the prior: 1 leaves them, 0 gives the centre.
        """
        drawn = [torch.randn(self.latent_size, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return truncation * torch.stack(drawn)


def turn(signals: NDArray[Any], degrees: float) -> NDArray[Any]:
    """Signals (4, ...) turned about the z axis, counter-clockwise as seen from the head."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turned = np.array(signals)
    turned[0] = cosine * signals[0] - sine * signals[1]
    turned[1] = sine * signals[0] + cosine * signals[1]
    return turned


def check_length(length: float, task: VesselGeometry) -> None:
    """Refuse a length that cannot be asked for.

    Raises:
        UserError: the method is not asked for lengths, or signals do not hold so long a vessel.
    """
    if not task.conditional:
        raise UserError("--length: this run makes vessels of any length; train one with --condition length")
    task.roles[LENGTH].check(length)


def _scaled_distance(real: NDArray[np.float64], fake: NDArray[np.float64]) -> float:
    """Wasserstein-1 distance over the standard deviation of the real numbers; NaN where there is nothing to compare."""
    spread = float(np.std(real[np.isfinite(real)])) if np.isfinite(real).any() else 0.0
    if not spread or not np.isfinite(fake).any():
        return float("nan")
    return difference(real, fake).wasserstein / spread


def _flat(signals: Signals) -> NDArray[np.float64]:
    return np.asarray(signals, np.float64).reshape(len(signals), -1)
