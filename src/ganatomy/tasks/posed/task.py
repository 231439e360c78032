"""The task of simulating the frame that a probe would see from a pose."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganatomy.case import Better, Case, Preparation, Role, Sample, Scores, Volume, intensity_statistics
from ganatomy.errors import UserError
from ganatomy.game import Method, RolesConfig, Stream
from ganatomy.images.augmentation import Augmentation, Changes
from ganatomy.images.frames import Fit
from ganatomy.phantoms.embedded import Embedded
from ganatomy.roles.image import ImageOptions
from ganatomy.roles.labels import LabelRole, MaskOptions
from ganatomy.roles.options import RoleOptions
from ganatomy.roles.pose import PoseRole
from ganatomy.tasks.restoration.likeness import BEST, EDGES, MAE, PSNR, SSIM, likeness
from ganatomy.tasks.restoration.task import Restoration

REACH = 100.0
"""Distance in mm that is mapped to 1 where no training frames are known."""
SAME = 0.01
"""Relative difference up to which sizes of pixels count as equal."""


class PoseOptions(RoleOptions):
    """Options of poses."""

    noun = "pose"


class PosedConfig(RolesConfig):
    """Options of simulating frames from poses: names of the roles, and the size of the frames."""

    role_fields: ClassVar[Mapping[str, type[RoleOptions]]] = {
        "source": PoseOptions,
        "target": ImageOptions,
        "labels": MaskOptions,
    }
    role_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "source": {"part": "poses:pose"},
        "target": {"window": (0.0, 255.0), "unit": None},
        "labels": {"part": "labels:landmarks"},
    }

    source: str = "pose"  # name of the poses of the frames
    target: str = "image"  # name of the frames
    labels: str | None = "landmarks"  # name of the maps of landmarks, which only the judge sees; none for no such map
    structures: tuple[str, ...] = ("stomach", "heart", "bladder", "cavum", "ventricle", "femur")  # labels 1, 2, ...
    size: tuple[int, int] = (120, 160)  # rows and columns
    fit: Fit = "contain"  # how frames get to this size: fit inside it, or fill it
    phantom: str = "fetus-us"  # embedded phantom to learn from where no data are given


class PosedFrames(Restoration):
    """Task of simulating the frames that a probe sees from given poses.

    A case is a sweep: frames as slices of an image, with a pose for each. A pose maps coordinates of the frame in mm to
    those of the patient or phantom. The former begin at the centre of the frame: x along its columns, y along its rows
    downwards, and z across it. All frames have pixels of one size, which is learned from the training cases together
    with the box in which their pixels lie.

    Args:
        config: names and options of the roles, and the size of the frames.
        selection: score that selects the best weights.
        embedded: embedded phantom that is learned from where no data are given.
    """

    name = "frames from poses"
    predictors: ClassVar = {"simulate": "ganatomy.tasks.posed.predictor:PosedPredictor"}
    judge = "ganatomy.tasks.posed.judge:PosedJudge"
    directions: ClassVar[Mapping[str, Better]] = {
        PSNR: "higher",
        SSIM: "higher",
        MAE: "lower",
        EDGES: "target",
        BEST: "lower",
    }

    def __init__(self, config: PosedConfig, selection: str, embedded: Embedded):
        self.config, self._selection, self.embedded = config, selection, embedded
        options = config.roles[config.target]
        assert isinstance(options, ImageOptions)
        self.roles: Mapping[str, Role] = {
            config.target: options.role(config.target, clip=True, limited=True),
            config.source: PoseRole(config.source),
        }
        if config.labels:
            if not config.structures:
                raise UserError("--structures: give the names of the labels 1, 2, ..., or --labels none for no map")
            regions = {name: (label,) for label, name in enumerate(config.structures, 1)}
            self.roles |= {config.labels: LabelRole(config.labels, regions, optional=True)}
        self.given, self.input, self.output = config.target, config.source, config.target
        self.inputs, self.outputs = (self.input,), (self.output,)
        self.phantom, self.phantom_subjects = embedded.name, embedded.subjects

    @property
    def preparation(self) -> Preparation:
        c = self.config
        options = c.roles[c.target]
        assert isinstance(options, ImageOptions)
        return Preparation(size=c.size, fit=c.fit, fill=((c.target, options.air),))

    @property
    def selection(self) -> str:
        return self._selection

    def phantom_grid(self, size: int | None) -> dict[str, Any]:
        return {"size": size or self.embedded.size, **self.embedded.grid}

    def phantom_parts(self, label: str | None) -> Mapping[str, str]:
        return {name: self.config.roles[name].part or name for name in self.roles}

    def usable(self, roles: Iterable[str]) -> bool:
        return {self.output, self.input} <= set(roles)

    def frame(self, values: Mapping[str, Any], case: Case | None = None) -> Sample:
        sample = super().frame(values, case)
        if {self.input, self.output} <= set(sample.arrays):
            poses, frames = (sample.arrays[name].shape[1] for name in (self.input, self.output))
            if poses != frames:
                raise UserError(f"{sample.case.name}: {poses} poses for {frames} frames; give one for each")
        return sample

    def same_contrast(self, output: str) -> str | None:
        return None

    def changes(self) -> Changes:
        return Changes(Augmentation(), "a pose fixes the position of every pixel of a frame")

    def trainable(self, label: str | None, arrays: Mapping[str, Any]) -> NDArray[np.bool_] | None:
        return None

    def fit(self, samples: Iterable[Sample]) -> Mapping[str, NDArray[Any]]:
        """Learn the size of pixels, and the centre and half the longest edge of the box of all pixels, in mm.

        Raises:
            UserError: the pixels of two cases differ in size.
        """
        samples = list(samples)
        sizes = {sample.case.name: sample.spacing_of(self.output)[1:] for sample in samples}
        first, spacing = next(iter(sizes.items()))
        for name, other in sizes.items():
            if not np.allclose(other, spacing, rtol=SAME):
                told = [" x ".join(f"{step:.4g}" for step in one) for one in (spacing, other)]
                raise UserError(
                    f"{first} has pixels of {told[0]} mm and {name} of {told[1]} mm once they have "
                    f"{self.config.size[0]} x {self.config.size[1]} pixels; give frames of one probe and depth"
                )
        corners = frame_coordinates((2, 2), [step * (n - 1) for step, n in zip(spacing, self.config.size, strict=True)])
        ends = []
        for sample in samples:
            matrices = np.asarray(sample.arrays[self.input])[:, :, 0, 0].T.reshape(-1, 3, 4)
            ends.append(np.einsum("nij,hwj->nhwi", matrices, corners.numpy()).reshape(-1, 3))
        points = np.concatenate(ends)
        low, high = points.min(axis=0), points.max(axis=0)
        return {
            **intensity_statistics(samples),
            "spacing": np.array(spacing, np.float32),
            "centre": np.asarray((low + high) / 2, np.float32),
            "reach": np.array([(high - low).max() / 2], np.float32),
        }

    @property
    def pixel_mm(self) -> tuple[float, float]:
        """Distance of rows and of columns of frames in mm; 1 before training."""
        rows, columns = self.fitted.get("spacing", (1.0, 1.0))
        return float(rows), float(columns)

    def coordinates(self, pose: Tensor) -> Tensor:
        """Return the coordinates of all pixels of frames, (N, 3, rows, columns), in the box of the training frames.

        The box has one scale along all axes, so that no shape is distorted; its longest edge goes from -1 to 1.

        Args:
            pose: the first three rows of poses, (N, 12, ...), of which the first element along further axes counts.
        """
        matrices = pose.flatten(2)[..., 0].reshape(-1, 3, 4) if pose.dim() > 2 else pose.reshape(-1, 3, 4)
        places = frame_coordinates(self.config.size, self.pixel_mm).to(matrices)
        points = torch.einsum("nij,hwj->nihw", matrices, places)
        centre = torch.as_tensor(np.asarray(self.fitted.get("centre", np.zeros(3)), np.float32)).to(points)
        (reach,) = np.asarray(self.fitted.get("reach", [REACH]), np.float64)
        return (points - centre.view(1, 3, 1, 1)) / float(reach)

    def scores(
        self, output: Mapping[str, Volume], sample: Mapping[str, Volume], spacing: tuple[float, float, float]
    ) -> Scores:
        """Score fidelity to the true frame, and sharpness."""
        return likeness(output[self.output], sample[self.output], self.window(self.output), spacing)


def frame_coordinates(size: Sequence[int], spacing: Sequence[float]) -> Tensor:
    """Return homogeneous coordinates in mm of the pixels of a frame, (rows, columns, 4): x, y, 0, 1 from its centre."""
    rows, columns = size
    y = (torch.arange(rows) - (rows - 1) / 2) * spacing[0]
    x = (torch.arange(columns) - (columns - 1) / 2) * spacing[1]
    places = torch.zeros(rows, columns, 4)
    places[..., 0], places[..., 1], places[..., 3] = x, y[:, None], 1.0
    return places


class FrameSimulator(Method):
    """Base class of methods that simulate frames from poses; their configuration is a `PosedConfig`."""

    latent_size: int
    """Length of a noise vector."""

    @abstractmethod
    def simulate(self, pose: Tensor, latent: Tensor | None = None) -> Tensor:
        """Simulate frames (N, channels, rows, columns) in the range of the networks.

        Args:
            pose: the first three rows of poses, (N, 12, ...), in mm.
            latent: noise vectors (N, latent) from N(0, 1); None means zeros, the centre of the distribution.
        """

    @property
    def embedded(self) -> Embedded:
        """Embedded phantom that is learned from where no data are given."""
        return Embedded(self.config.phantom, self.config.size[0], subjects=40)

    def build_task(self) -> PosedFrames:
        return PosedFrames(self.config, BEST if self.adversarial else MAE, self.embedded)

    def stream(self, batch_size: int) -> Stream:
        """Return a stream of frames with their poses."""
        c = self.config
        return Stream("frames", (c.target, c.source), batch_size, (1, *c.size))

    def draw(self, seed: int, truncation: float = 1.0) -> Tensor:
        """Return the noise of a seed, (1, latent); a truncation below 1 moves it to the centre of the distribution."""
        return truncation * torch.randn(1, self.latent_size, generator=torch.Generator().manual_seed(seed))
