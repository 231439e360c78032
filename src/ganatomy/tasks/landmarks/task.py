"""The task of finding named landmarks in a volume, such as the vertebrae in a CT of the spine."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ganatomy.case import Array, Better, Case, Preparation, Role, Sample, Scores, Task, Volume
from ganatomy.errors import UserError
from ganatomy.game import Method, RolesConfig, Stream
from ganatomy.images.augmentation import Augmentation, Changes, mild
from ganatomy.images.frames import Fit, Plane
from ganatomy.metrics.landmarks import LandmarkScores, Places, compare_landmarks
from ganatomy.roles.image import ImageOptions
from ganatomy.roles.options import RoleOptions
from ganatomy.roles.points import PointsRole

RANGE = (0.0, 1.0)
"""Range of the images as networks see them; 0 is the air around the body."""
RATE, ERROR, F1 = "identification rate", "error", "F1"


class LandmarkOptions(RoleOptions):
    """Options of landmarks."""

    noun = "points"


@dataclass(frozen=True)
class Embedded:
    """The embedded phantom that a system is trained on where no data are given.

    Attributes:
        name: name of the phantom, whose parts have the roles of their names or of the option ``part``.
        size: rows and columns, unless the user gives a size.
        grid: other arguments of the phantom.
        subjects: number of subjects.
    """

    name: str
    size: int = 64
    grid: Mapping[str, Any] = field(default_factory=dict)
    subjects: int = 20


class LandmarkConfig(RolesConfig):
    """Options of finding landmarks: names, and the preparation of cases."""

    role_fields: ClassVar[Mapping[str, type[RoleOptions]]] = {"image": ImageOptions, "landmarks": LandmarkOptions}

    image: str = "ct"  # name of the volume
    landmarks: str = "landmarks"  # name of the landmarks
    names: tuple[str, ...] = ()  # names of the single landmarks, in an order along the body
    parts: Mapping[str, tuple[str, ...]] = {}  # parts of the body and the landmarks in them, which are scored apart
    plane: Plane = "axial"  # plane of the slices
    spacing: tuple[float, float, float] | None = (1.0, 1.0, 1.0)  # mm between slices, rows and columns
    size: tuple[int, ...] | None = None  # slices, rows and columns to crop or pad to
    fit: Fit = "contain"  # how volumes get to this size where no spacing is given
    augmentation: Augmentation = Augmentation()  # random changes of training volumes


class Landmarks(Task):
    """Task of finding landmarks: predict the positions of those that lie in a volume.

    Args:
        config: names of the roles and landmarks, and preparation of cases.
        embedded: embedded phantom; None where no phantom has these roles.

    Raises:
        UserError: there are no landmarks, or a part of the body names one that is none.
    """

    name = "landmarks"
    predictors: ClassVar = {"locate": "ganatomy.tasks.landmarks.predictor:LandmarkPredictor"}
    judge = "ganatomy.tasks.landmarks.judge:LandmarkJudge"
    directions: ClassVar[Mapping[str, Better]] = {RATE: "higher", ERROR: "lower", F1: "higher"}

    def __init__(self, config: LandmarkConfig, embedded: Embedded | None = None):
        self.config, self.embedded = config, embedded
        if not config.names:
            raise UserError("--names: give the name of at least one landmark")
        if empty := [name for name, own in config.parts.items() if not own]:
            raise UserError(f"--parts {empty[0]}: name its landmarks, as in --parts {empty[0]}={config.names[0]}")
        if strange := [name for own in config.parts.values() for name in own if name not in config.names]:
            raise UserError(f"--parts: {strange[0]} is none of the landmarks {', '.join(config.names)}")
        options = config.roles[config.image]
        assert isinstance(options, ImageOptions)
        self.air = options.air
        image = options.role(config.image, to=RANGE, clip=True)
        self.landmarks = PointsRole(config.landmarks, points=config.names)
        self.roles: Mapping[str, Role] = {image.name: image, config.landmarks: self.landmarks}
        self.given = config.image
        self.phantom = embedded.name if embedded else "none"
        self.phantom_subjects = embedded.subjects if embedded else 1

    @property
    def preparation(self) -> Preparation:
        c = self.config
        fill = ((c.image, self.air),) if self.air else ()
        return Preparation(plane=c.plane, spacing=c.spacing, size=c.size, fit=c.fit, fill=fill)

    def frame(self, values: Mapping[str, Any], case: Case | None = None) -> Sample:
        sample = super().frame(values, case)
        name = self.landmarks.name
        if name not in sample.arrays:
            return sample
        points = np.array(sample.arrays[name], np.float64)
        inside = ((points[..., :3] > -0.5) & (points[..., :3] < np.array(sample.shape) - 0.5)).all(-1)
        lost = (points[..., 3] > 0.5) & ~inside
        if not lost.any():
            return sample
        note = f"{int(lost.sum())} of its {name} lie outside of the {' x '.join(map(str, sample.shape))} voxels seen"
        points[lost] = 0
        return replace(sample, arrays={**sample.arrays, name: points}, notes=(*sample.notes, note))

    def phantom_grid(self, size: int | None) -> dict[str, Any]:
        if self.embedded is None:
            raise UserError(f"no phantom has {self.given} and {self.landmarks.name}; give volumes with --data")
        return {"size": size or self.embedded.size, **self.embedded.grid}

    def phantom_parts(self, label: str | None) -> Mapping[str, str]:
        return {name: self.config.roles[name].part or name for name in self.roles}

    def usable(self, roles: Iterable[str]) -> bool:
        return set(self.roles) <= set(roles)

    def changes(self) -> Changes:
        """Return changes of geometry and of intensities, which move volume and landmarks alike."""
        measured = [self.given] if self.roles[self.given].measured else []
        return Changes(mild([self.given], measured, sharp=False))

    @property
    def selection(self) -> str:
        return RATE

    def scores(
        self, output: Mapping[str, Volume], sample: Mapping[str, Volume], spacing: tuple[float, float, float]
    ) -> Scores:
        """Score landmarks (landmarks, 1, 1, 4) on the working grid against the true ones."""
        name = self.landmarks.name
        found = self.compared(np.asarray(output[name]), np.asarray(sample[name]), spacing)
        return {RATE: found.rate, ERROR: found.mean_error, F1: found.f1}

    def compared(self, found: Array, true: Array, spacing: tuple[float, float, float]) -> LandmarkScores:
        """Compare landmarks on the working grid, (landmarks, 1, 1, 4) each: slice, row, column, and 1 if there.

        Args:
            found: landmarks found.
            true: true landmarks.
            spacing: mm between slices, rows and columns.
        """
        return compare_landmarks(in_mm(found, spacing), in_mm(true, spacing))


def in_mm(points: Array, spacing: tuple[float, float, float]) -> Places:
    """Return positions in mm along the axes of the working grid, (landmarks, 3); NaN for landmarks not there."""
    rows: NDArray[np.float64] = np.asarray(points, np.float64).reshape(points.shape[0], -1)
    return np.where(rows[:, 3:4] > 0.5, rows[:, :3] * np.asarray(spacing), np.nan)


class Locator(Method):
    """Base class of methods that find landmarks; their configuration is a `LandmarkConfig`."""

    dims = 3

    @property
    def embedded(self) -> Embedded | None:
        """Embedded phantom to train on where no data are given."""
        return None

    @abstractmethod
    def locate(self, image: Tensor) -> Tensor:
        """Find landmarks, (N, landmarks, 4): slice, row, column, and how certain each is, at least 0.

        Args:
            image: volumes, (N, channels, D, H, W).
        """

    def build_task(self) -> Landmarks:
        return Landmarks(self.config, self.embedded)

    def volumes(self, batch_size: int, size: tuple[int, int, int], **options: Any) -> Stream:
        """Return a stream of whole volumes with their landmarks."""
        c = self.config
        roles = (c.image, c.landmarks)
        return Stream("volumes", roles, batch_size, size, augmentation=c.augmentation, **options)
