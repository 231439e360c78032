"""The task of finding named landmarks in a volume or a frame, such as the vertebrae in a CT of the spine."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from ganatomy.case import Array, Better, Case, Preparation, Role, Sample, Scores, Task, Volume
from ganatomy.errors import UserError
from ganatomy.game import Method, RolesConfig, Stream
from ganatomy.images.augmentation import Augmentation, Changes, mild
from ganatomy.images.contours import FEWEST
from ganatomy.images.frames import Fit, Plane
from ganatomy.metrics.landmarks import LIMIT, LandmarkScores, Places, compare_landmarks, dice_of_contours
from ganatomy.roles.image import ImageOptions
from ganatomy.roles.options import RoleOptions
from ganatomy.roles.points import PointsRole

RANGE = (0.0, 1.0)
"""Range of the images as networks see them; 0 is the air around the body."""
RATE, ERROR, F1, DICE = "identification rate", "error", "F1", "dice"


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
    """Options of finding landmarks: names, what they mean, and the preparation of cases."""

    role_fields: ClassVar[Mapping[str, type[RoleOptions]]] = {"image": ImageOptions, "landmarks": LandmarkOptions}

    image: str = "ct"  # name of the volume
    landmarks: str = "landmarks"  # name of the landmarks
    names: tuple[str, ...] = ()  # names of the single landmarks, in an order along the body
    parts: Mapping[str, tuple[str, ...]] = {}  # parts of the body and the landmarks in them, which are scored apart
    swaps: Mapping[str, str] | None = None  # landmarks that are exchanged in mirrored images; none: left X, right X
    limit_mm: float = Field(LIMIT, gt=0)  # distance from which a landmark counts as missed
    plane: Plane = "axial"  # plane of the slices
    spacing: tuple[float, float, float] | None = (1.0, 1.0, 1.0)  # mm between slices, rows and columns
    size: tuple[int, ...] | None = None  # slices, rows and columns to crop or pad to
    fit: Fit = "contain"  # how volumes get to this size where no spacing is given
    augmentation: Augmentation = Augmentation()  # random changes of training volumes


class Landmarks(Task):
    """Task of finding landmarks: predict the positions of those that lie in a volume, or in each frame of a film.

    Args:
        config: names of the roles and landmarks, and preparation of cases.
        embedded: embedded phantom; None where no phantom has these roles.
        dims: 3 for landmarks of a volume, 2 for those of single frames.

    Raises:
        UserError: there are no landmarks, or an option names one that is none.
    """

    name = "landmarks"
    predictors: ClassVar = {"locate": "ganatomy.tasks.landmarks.predictor:LandmarkPredictor"}
    judge = "ganatomy.tasks.landmarks.judge:LandmarkJudge"
    directions: ClassVar[Mapping[str, Better]] = {RATE: "higher", ERROR: "lower", F1: "higher"}

    def __init__(self, config: LandmarkConfig, embedded: Embedded | None = None, dims: int = 3):
        self.config, self.embedded, self.dims = config, embedded, dims
        if not config.names:
            raise UserError("--names: give the name of at least one landmark")
        if empty := [name for name, own in config.parts.items() if not own]:
            raise UserError(f"--parts {empty[0]}: name its landmarks, as in --parts {empty[0]}={config.names[0]}")
        if strange := [name for own in config.parts.values() for name in own if name not in config.names]:
            raise UserError(f"--parts: {strange[0]} is none of the landmarks {', '.join(config.names)}")
        swaps = sides(config.names) if config.swaps is None else config.swaps
        if strange := [name for pair in swaps.items() for name in pair if name not in config.names]:
            raise UserError(f"--swaps: {strange[0]} is none of the landmarks {', '.join(config.names)}")
        options = config.roles[config.image]
        assert isinstance(options, ImageOptions)
        self.air = options.air
        image = options.role(config.image, to=RANGE, clip=True)
        self.landmarks = PointsRole(config.landmarks, points=config.names, swaps=swaps)
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
        if self.dims == 2 and sample.shape[0] > 1:
            raise UserError(
                f"{case.name if case else name}: {name} of {sample.shape[0]} frames together; give every frame as an "
                "image with landmarks of its own"
            )
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
        found, true = np.asarray(output[name]), np.asarray(sample[name])
        scores = self.compared(found, true, spacing)
        return {RATE: scores.rate, ERROR: scores.mean_error, F1: scores.f1}

    def compared(self, found: Array, true: Array, spacing: tuple[float, float, float]) -> LandmarkScores:
        """Compare landmarks on the working grid, (landmarks, 1, 1, 4) each: slice, row, column, and 1 if there.

        Args:
            found: landmarks found.
            true: true landmarks.
            spacing: mm between slices, rows and columns.
        """
        return compare_landmarks(in_mm(found, spacing), in_mm(true, spacing), self.config.limit_mm)


class Outline(Landmarks):
    """Task of finding landmarks around an organ, in their order, so that the closed spline through them outlines it.

    Args:
        config: names of the roles and landmarks, and preparation of cases.
        embedded: embedded phantom; None where no phantom has these roles.
        dims: 2; landmarks lie in one frame.

    Raises:
        UserError: there are too few landmarks, or an option names one that is none.
    """

    name = "landmarks of an outline"
    predictors: ClassVar = {"locate": "ganatomy.tasks.landmarks.predictor:OutlinePredictor"}
    judge = "ganatomy.tasks.landmarks.judge:OutlineJudge"
    directions: ClassVar[Mapping[str, Better]] = {DICE: "higher", **Landmarks.directions}

    def __init__(self, config: LandmarkConfig, embedded: Embedded | None = None, dims: int = 2):
        super().__init__(config, embedded, dims)
        if len(config.names) < FEWEST:
            raise UserError(f"--names: a contour needs at least {FEWEST} landmarks, not {len(config.names)}")

    @property
    def selection(self) -> str:
        return DICE

    def scores(
        self, output: Mapping[str, Volume], sample: Mapping[str, Volume], spacing: tuple[float, float, float]
    ) -> Scores:
        """Score landmarks (landmarks, 1, 1, 4) on the working grid, and the region inside of their outline."""
        name = self.landmarks.name
        dice = self.overlap(np.asarray(output[name]), np.asarray(sample[name]), spacing)
        return {DICE: dice, **super().scores(output, sample, spacing)}

    def overlap(self, found: Array, true: Array, spacing: tuple[float, float, float]) -> float:
        """Return the Dice of the regions inside of the closed splines through landmarks found and through true ones."""
        return dice_of_contours(in_mm(found, spacing)[:, 1:], in_mm(true, spacing)[:, 1:])


def sides(names: Iterable[str]) -> dict[str, str]:
    """Return the names that begin with "left" with those that begin with "right" and go on alike."""
    known = set(names)
    pairs = {name: f"right{name.removeprefix('left')}" for name in names if name.startswith("left")}
    return {left: right for left, right in pairs.items() if right in known}


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
        """Find landmarks, (N, landmarks, 1 + dims): [slice,] row, column, and how certain each is, at least 0.

        Args:
            image: volumes or frames, (N, channels, [D,] H, W).
        """

    def build_task(self) -> Landmarks:
        return Landmarks(self.config, self.embedded, self.dims)

    def images(self, batch_size: int, size: tuple[int, int, int], **options: Any) -> Stream:
        """Return a stream of whole volumes or frames with their landmarks."""
        c = self.config
        roles = (c.image, c.landmarks)
        name = "volumes" if self.dims == 3 else "frames"
        return Stream(name, roles, batch_size, size, augmentation=c.augmentation, **options)
