"""Detection of what is abnormal, learned from healthy images."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from ganatomy.case import Better, Preparation, Role, Sample, Scores, Task, Volume, slab
from ganatomy.game import Method, MethodConfig, Stream, Triple
from ganatomy.images.codecs import Codec, PercentileWindow, Window, ZScore
from ganatomy.images.frames import Fit, Frame
from ganatomy.images.image import Image
from ganatomy.metrics.detection import auc, normalised_cross_correlation
from ganatomy.roles.image import ImageRole
from ganatomy.roles.labels import LabelRole, share_of
from ganatomy.tasks.anomaly_detection.refinement import Mask, Refinement

Scale = Literal["window", "zscore", "percentiles"]
"""Where the values that the networks see come from: a window for all images, or the numbers of each case."""
Sign = Literal["absolute", "bright", "dark"]
"""Which differences from the healthy image are abnormal."""

IMAGE, MASK, HEALTHY = "image", "mask", "healthy"
BASELINE, EFFECT = "baseline", "effect"

EFFECTS = {"squares": "effect"}
"""Mask of what is to be found in a phantom, where it is not called a lesion."""

CONTENT = 0.02
"""Share of a slice that must be tissue for the slice to be worth learning from."""
ROUNDING = 1e-5
"""Share of the values shown by which air may rise above its value where images are resized."""


class Detection(NamedTuple):
    """Result of a detector for images (n, channels, [slices,] rows, columns), in the range of the networks."""

    map: Tensor
    """How abnormal every pixel is, at least 0, (n, 1, [slices,] rows, columns)."""
    score: Tensor
    """How abnormal every image is, (n,)."""
    healthy: Tensor
    """The image as it would be without the anomaly, of its shape."""


class AnomalyConfig(MethodConfig):
    """Which images a detector that learns from healthy ones sees, and on which scale."""

    size: tuple[int, ...] = (64, 64)  # rows and columns seen
    fit: Fit = "contain"  # of images: lie inside the size whole, fill it, or be cut into patches of it
    square: bool = True  # pixels that are not square become square where images are resized
    overlap: float = 0.5  # share of a patch that the next one sees too, where images are cut (our choice)
    scale: Scale = "window"  # of values: a window, or each case's z-score or percentiles
    window: tuple[float, float] = (0.0, 1200.0)  # values mapped to the range of the networks, without other scale
    window_unit: str | None = "a.u."  # of these values, such as HU
    percentiles: tuple[float, float] = (0.0, 99.8)  # % of a case's voxels, mapped to that range by this scale
    tissue_above: float = 0.0  # in the unit of the image; voxels that z-scores are taken of
    background: float = Field(-3.5, lt=0)  # standard deviations; what other voxels are set to
    residual: Sign = "absolute"  # differences from the healthy image that count
    normal: tuple[str, ...] = ("healthy",)  # labels of the images learned from
    lesion_free: bool = False  # learn from slices without lesion mask of other patients, too
    phantom: str = "brain-mr"  # learned from where no data are given
    phantom_image: str = "flair"  # the one of its images that is looked at
    erosion: float = 0.0  # mm; whole volumes: nothing is abnormal this close to the edge of the tissue
    brightest: float = 0.0  # quantile; whole volumes: nothing is abnormal below it
    median: int = 1  # voxels; whole volumes: side of the median filter of maps
    smallest: int = 1  # voxels; whole volumes: smallest finding that is kept


class DetectionPreparation(Preparation):
    """How images get to the size that is seen."""

    square: bool = True  # pixels that are not square become square where images are resized
    lowest: tuple[str, ...] = ()  # roles whose images are padded with their own lowest value, in place of a number

    def frame(self, image: Image, role: str) -> Frame:
        """The frame of an image that plays a role."""
        fill = dict(self.fill).get(role, 0.0)
        frame = Frame.plan(image, self.plane, self.spacing, self.size, self.fit, fill, self.square)
        if role not in self.lowest or frame.size == frame.scaled:
            return frame
        return replace(frame, fill=min(float(part.min()) for part in image.slabs()))


@dataclass(frozen=True)
class CaseScale:
    """The scale of one case, on which maps, scores and differences are reported.

    With a window for all cases it is the unit of the image. With numbers of each case, it counts standard deviations
    from the mean, or widths between the percentiles from the lower one.

    Attributes:
        codec: with the numbers of the case.
        ends: values in the range of the networks that are 0 and 1 on the scale; None where it is the image's unit.
    """

    codec: Any
    ends: tuple[float, float] | None

    @property
    def own(self) -> bool:
        """Whether the scale is one of the case."""
        return self.ends is not None

    @property
    def step(self) -> float:
        """How much a difference of 1 in the range of the networks is on the scale."""
        if self.ends is not None:
            return 1 / (self.ends[1] - self.ends[0])
        return float(self.codec.decode(np.float64(1)) - self.codec.decode(np.float64(0)))

    def of_image(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Values of an image in physical units, on the scale; of an own scale, clipped and masked as networks see them.

        Args:
            values: of any shape.
        """
        if self.ends is None:
            return np.asarray(values, np.float32)
        low, high = self.ends
        encoded = np.asarray(self.codec.encode(np.asarray(values, np.float32)), np.float32)
        return np.asarray((encoded - low) / (high - low), np.float32)

    def of_output(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Values made by a network, in physical units, on the scale; of any shape."""
        if self.ends is None:
            return np.asarray(values, np.float32)
        low, high = (float(self.codec.decode(np.float64(end))) for end in self.ends)
        return np.asarray((values - low) / (high - low), np.float32)


class AnomalyDetection(Task):
    """Healthy images to learn from; others, perhaps with masks, to be tested on.

    Args:
        scale: physical values to the range of the networks; a z-score over the body, with the value that the body
            lies above and a background, or a window, or percentiles.
        size: rows and columns, for volumes preceded by slices.
        fit: how images get to this size.
        normal: labels of healthy images. Images without label are healthy where no mask says otherwise.
        lesion_free: whether slices without mask count as healthy in patients with another label.
        phantom: name of the embedded one.
        parts: of the phantom, by role.
        subjects: patients of the phantom.
        overlap: share of a patch that the next one sees too.
        square: whether pixels that are not square become square where images are resized.
        refinement: of maps of whole volumes.
    """

    name = "anomaly-detection"
    predictors: ClassVar = {"detect": "ganatomy.tasks.anomaly_detection.predictor:DetectionPredictor"}
    judge = "ganatomy.tasks.anomaly_detection.judge:DetectionJudge"
    given = IMAGE

    directions: ClassVar[Mapping[str, Better]] = {
        "residual": "lower",
        "score": "target",
        "pixel auc": "higher",
        "ncc": "higher",
    }

    def __init__(
        self,
        scale: Codec,
        size: tuple[int, ...],
        fit: Fit,
        normal: tuple[str, ...],
        lesion_free: bool,
        phantom: str,
        parts: Mapping[str, str],
        subjects: int = 40,
        overlap: float = 0.5,
        square: bool = True,
        refinement: Refinement | None = None,
    ):
        self.scale, self.square = scale, square
        self.size, self.fitting, self.overlap = size, fit, overlap
        self.phantom, self.parts, self.phantom_subjects = phantom, dict(parts), subjects
        self.normal, self.lesion_free = normal, lesion_free
        self.refinement = refinement or Refinement()
        self.roles: Mapping[str, Role] = {
            **self.images(),
            MASK: LabelRole(MASK, {"lesion": (1,)}, optional=True, any_two=True),
            HEALTHY: ImageRole(HEALTHY, optional=True, checked=False),
        }

    def images(self) -> dict[str, Role]:
        """Roles of the images that are looked at."""
        return {IMAGE: ImageRole(IMAGE, self.scale)}

    def seen(self, roles: Mapping[str, Any]) -> str:
        """The role of the image in a case that is looked at.

        Args:
            roles: of the case, by name.
        """
        return IMAGE

    @property
    def patches(self) -> bool:
        """Whether images keep their size and are seen patch by patch."""
        return self.fitting == "patches"

    @property
    def preparation(self) -> DetectionPreparation:
        size, padded = None if self.patches else self.size, (*self.images(), HEALTHY)
        match self.scale:
            case Window(low=air) | ZScore(above=float(air)):
                fill = tuple((role, air) for role in padded)
                return DetectionPreparation(size=size, fit=self.fitting, fill=fill, square=self.square)
        return DetectionPreparation(size=size, fit=self.fitting, lowest=padded, square=self.square)

    def phantom_grid(self, size: int | None) -> dict[str, Any]:
        # Patches are cut from something larger than they are.
        return {"size": size or max(self.size) * (2 if self.patches else 1)}

    def phantom_parts(self, label: str | None) -> Mapping[str, str]:
        return self.parts

    @property
    def selection(self) -> str:
        return "residual"

    @property
    def shown(self) -> tuple[float, float]:
        """Values on the scale of a case to show black and white; tissue is above the first."""
        match self.scale:
            case Window(low=low, high=high):
                return low, high
            case ZScore(background=float(background)):
                return background, -background
        return 0.0, 1.0

    def scale_of(self, sample: Sample) -> CaseScale:
        """The scale of a case.

        Raises:
            UserError: the image has no tissue, or one value only.
        """
        codec: Any = sample.role(self.seen(sample.arrays)).codec
        match self.scale:
            case Window():
                return CaseScale(codec, None)
            case ZScore():
                return CaseScale(codec, (0.0, 1.0))
        return CaseScale(codec, codec.to)

    def scaled(self, sample: Sample, start: int, stop: int) -> dict[str, Volume]:
        """Slices ``start`` to ``stop`` of image, mask and healthy image, on the scale of the case.

        Returns:
            (slices, rows, columns) by role; the image that is looked at is called ``image``, whatever its role.
        """
        scale, image = self.scale_of(sample), self.seen(sample.arrays)
        found = {IMAGE: scale.of_image(slab(sample.arrays[image], start, stop)[0])}
        if HEALTHY in sample.arrays:
            found[HEALTHY] = scale.of_image(slab(sample.arrays[HEALTHY], start, stop)[0])
        if MASK in sample.arrays:
            found[MASK] = slab(sample.arrays[MASK], start, stop)[0]
        return found

    def tissue(self, scaled: NDArray[np.float32]) -> Mask:
        """Where an image on the scale of its case shows something, of its shape: what maps are judged on."""
        low, high = self.shown
        return np.asarray(scaled > low + ROUNDING * (high - low))

    def tissue_shares(self, sample: Sample) -> NDArray[np.float64]:
        """Share of each slice that is tissue, (slices,)."""
        scale = self.scale_of(sample)
        return share_of(sample.arrays[self.seen(sample.arrays)], lambda values: self.tissue(scale.of_image(values)))

    def healthy(self, label: str | None) -> bool:
        """Whether a case with this label may be learned from without asking its mask."""
        return label is None or not self.normal or label in self.normal

    def only_tested(self, label: str | None) -> bool:
        return not self.healthy(label) and not self.lesion_free

    def abnormal_slices(self, sample: Sample) -> NDArray[np.bool_]:
        """Which slices of a case show something abnormal, (slices,): those with a mask; without masks all whose label
        is not normal.
        """
        if MASK in sample.arrays:
            return share_of(sample.arrays[MASK], lambda labels: labels > 0) > 0
        return np.full(sample.shape[0], not self.known_healthy(sample))

    def known_healthy(self, sample: Sample) -> bool:
        """Whether a case without mask is healthy as far as anybody says."""
        return self.healthy(sample.case.label)

    def trainable_slices(self, sample: Sample) -> NDArray[np.bool_] | None:
        label = sample.case.label
        if self.only_tested(label) or (not self.healthy(label) and MASK not in sample.arrays):
            return np.zeros(sample.shape[0], bool)
        shown = self.tissue_shares(sample) >= CONTENT
        return shown & ~self.abnormal_slices(sample) if MASK in sample.arrays else shown

    def scores(
        self, output: Mapping[str, Volume], sample: Mapping[str, Volume], spacing: tuple[float, float, float]
    ) -> Scores:
        """Distance of healthy images from what was seen, in slices of one case, and the AUC of maps where masks are.

        The AUC is over the pixels of tissue, the cross-correlation with the mask over each slice that has one.

        Args:
            output: ``map``, ``healthy`` and ``score``, on the scale of the case.
            sample: ``image`` and perhaps ``mask``, as `scaled` gives them.
            spacing: mm between slices, rows and columns.
        """
        image, map, tissue = sample[IMAGE], output["map"], self.tissue(sample[IMAGE])
        scores = {
            "residual": float(np.abs(output[HEALTHY] - image).mean()),
            "score": float(output["score"].mean()),
        }
        if MASK in sample:
            truth = sample[MASK] > 0
            if 0 < truth[tissue].sum() < tissue.sum():
                scores["pixel auc"] = auc(map[tissue], truth[tissue])
            correlations = [
                normalised_cross_correlation(one, mask)
                for one, mask in zip(map, truth, strict=True)
                if mask.any() and np.ptp(one) > 0
            ]
            if correlations:
                scores["ncc"] = float(np.mean(correlations))
        return scores


SQUARES = 64
"""Images that a case of the phantom of squares holds; only then are its few cases enough to learn from."""


class FeatureAttribution(AnomalyDetection):
    """Images with an effect and, unpaired, images without it; what is to be found is the effect.

    A case is one of the two. A trained method is shown an ``image``, of which nobody knows.
    """

    groups = ((BASELINE,), (EFFECT,))
    given = EFFECT

    def images(self) -> dict[str, Role]:
        roles = {name: ImageRole(name, self.scale) for name in (BASELINE, EFFECT)}
        return {**roles, IMAGE: ImageRole(IMAGE, self.scale, optional=True)}

    def seen(self, roles: Mapping[str, Any]) -> str:
        return next(name for name in (IMAGE, EFFECT, BASELINE) if name in roles)

    @property
    def selection(self) -> str:
        return "ncc"

    def phantom_grid(self, size: int | None) -> dict[str, Any]:
        return super().phantom_grid(size) | ({"slices": SQUARES} if self.phantom == "squares" else {})

    def phantom_parts(self, label: str | None) -> Mapping[str, str]:
        if label in self.normal:
            return {BASELINE: self.parts[IMAGE]}
        return {EFFECT: self.parts[IMAGE], MASK: self.parts[MASK]}

    def only_tested(self, label: str | None) -> bool:
        return False

    def known_healthy(self, sample: Sample) -> bool:
        return super().known_healthy(sample) if sample.case.label is not None else EFFECT not in sample.arrays

    def trainable_slices(self, sample: Sample) -> NDArray[np.bool_] | None:
        return self.tissue_shares(sample) >= CONTENT


class Detector(Method):
    """A method that finds what is not healthy; its config is an `AnomalyConfig` or has a task of its own."""

    network_range: tuple[float, float] = (-1.0, 1.0)
    """Values that the ends of a window or of percentiles are mapped to."""
    task_class: ClassVar[type[AnomalyDetection]] = AnomalyDetection
    """Class of the task: it learns from healthy images alone, or from two groups."""

    @abstractmethod
    def detect(self, image: Tensor) -> Detection:
        """Images (n, channels, [slices,] rows, columns) to what is abnormal in them."""

    def build_task(self) -> AnomalyDetection:
        c = self.config
        return self.task_class(
            self.scale(),
            c.size,
            c.fit,
            c.normal,
            c.lesion_free,
            c.phantom,
            {
                IMAGE: c.phantom_image,
                MASK: f"mask:{EFFECTS.get(c.phantom, 'lesion')}",
                HEALTHY: f"healthy:{c.phantom_image}",
            },
            overlap=c.overlap,
            square=c.square,
            refinement=Refinement(c.erosion, c.brightest, c.median, c.smallest),
        )

    def scale(self) -> Codec:
        """Physical values to the range of the networks."""
        c = self.config
        match c.scale:
            case "zscore":
                return ZScore(unit=c.window_unit, over="body", above=c.tissue_above, background=c.background)
            case "percentiles":
                low, high = c.percentiles
                return PercentileWindow(p_low=low, p_high=high, to=self.network_range, clip=True, unit=c.window_unit)
        low, high = c.window
        return Window(low=low, high=high, to=self.network_range, clip=True, unit=c.window_unit)

    def residual(self, image: Tensor, healthy: Tensor) -> Tensor:
        """Differences that count as abnormal, at least 0, of the images' shape."""
        match self.config.residual:
            case "bright":
                return (image - healthy).clamp_min(0)
            case "dark":
                return (healthy - image).clamp_min(0)
        return (image - healthy).abs()

    def streams(self, batch_size: int, roles: Sequence[str] = (IMAGE,)) -> list[Stream]:
        """A stream for each role, of images of the size that is seen."""
        size = self.task.size
        patch: Triple = (1, *size) if len(size) == 2 else size
        return [Stream(role, (role,), batch_size, patch) for role in roles]
