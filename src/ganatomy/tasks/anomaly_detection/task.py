"""The task of anomaly detection: find abnormal regions after learning from healthy images."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from ganatomy.case import Better, Case, Preparation, Role, Sample, Scores, Task, Volume, slab
from ganatomy.game import Method, MethodConfig, Stream, Triple
from ganatomy.images.augmentation import Changes, mild
from ganatomy.images.codecs import Codec, PercentileWindow, Window, ZScore
from ganatomy.images.frames import Fit, Frame
from ganatomy.images.image import ComputedArray, Image, LazyArray
from ganatomy.metrics.detection import auc, normalised_cross_correlation
from ganatomy.roles.image import ImageRole
from ganatomy.roles.labels import LabelRole, share_of
from ganatomy.tasks.anomaly_detection.refinement import Mask, Refinement

Scale = Literal["window", "zscore", "percentiles"]
"""Intensity scale of the networks: one window for all images, or the z-score or percentiles of each case."""
Sign = Literal["absolute", "bright", "dark"]
"""Sign of the differences from the healthy image that count as abnormal."""

IMAGE, MASK, HEALTHY, TISSUE = "image", "mask", "healthy", "tissue"
BASELINE, EFFECT = "baseline", "effect"

EFFECTS = {"squares": "effect"}
"""Phantom to the name of its abnormal part, where that is not ``lesion``."""

CONTENT = 0.02
"""Share of a slice that must be tissue for the slice to be learned from."""
DUST = 1e-3
"""Share of the displayed range up to which values above that of air are air (our choice).

Interpolation leaves such values where there was nothing: that of other tools in the files that they write, and our own
by rounding."""


class Detection(NamedTuple):
    """Result of a detector for images (n, channels, [slices,] rows, columns), in the range of the networks."""

    map: Tensor
    """Anomaly map, nonnegative, (n, 1, [slices,] rows, columns)."""
    score: Tensor
    """Anomaly score of every image, (n,)."""
    healthy: Tensor
    """Healthy images, the inputs without their anomalies, of the inputs' shape."""


class AnomalyConfig(MethodConfig):
    """Options of detectors that learn from healthy images: size, intensity scale, training data and refinement."""

    size: tuple[int, ...] = (64, 64)  # rows and columns of the images the networks see
    fit: Fit = "contain"  # how images get to this size: fit inside it, fill it, or be cut into patches
    square: bool = True  # make pixels square where images are resized
    overlap: float = 0.5  # share of a patch that the next one overlaps, where images are cut (our choice)
    scale: Scale = "window"  # intensity scale: a window for all images, or each case's z-score or percentiles
    window: tuple[float, float] = (0.0, 1200.0)  # values mapped to the range of the networks with --scale window
    window_unit: str | None = "a.u."  # unit of the image values, such as HU
    percentiles: tuple[float, float] = (0.0, 99.8)  # percentiles mapped to this range with --scale percentiles
    tissue_above: float = 0.0  # value above which voxels are tissue, in the unit of the image, for z-scores
    background: float = Field(-3.5, lt=0)  # z-score that voxels outside of tissue are set to
    residual: Sign = "absolute"  # sign of the differences from the healthy image that count as abnormal
    normal: tuple[str, ...] = ("healthy",)  # class labels of healthy images, which are learned from
    lesion_free: bool = False  # learn also from lesion-free slices of patients with other labels
    phantom: str = "brain-mr"  # embedded phantom to learn from where no data are given
    phantom_image: str = "flair"  # image of the phantom in which anomalies are detected
    erosion: float = 0.0  # mm by which tissue is eroded in maps, to suppress false positives at its edge
    brightest: float = 0.0  # quantile of the tissue's values below which maps are set to 0
    median: int = 1  # side of the median filter of maps, in voxels
    smallest: int = 1  # smallest component of a thresholded map that is kept, in voxels


class DetectionPreparation(Preparation):
    """Preparation that brings images to the size of the networks."""

    square: bool = True  # make pixels square where images are resized
    lowest: tuple[str, ...] = ()  # roles whose images are padded with their own lowest value, not with a fixed one

    def frame(self, image: Image, role: str) -> Frame:
        """Return the frame that brings an image of a role to the working grid."""
        fill = dict(self.fill).get(role, 0.0)
        frame = Frame.plan(image, self.plane, self.spacing, self.size, self.fit, fill, self.square)
        if role not in self.lowest or frame.size == frame.scaled:
            return frame
        return replace(frame, fill=min(float(part.min()) for part in image.slabs()))


@dataclass(frozen=True)
class CaseScale:
    """The scale of one case, on which maps, scores and differences are reported.

    With a window for all cases this is the unit of the image. With z-scores it is in standard deviations from the mean,
    and with percentiles 0 is the lower and 1 the upper percentile.

    Attributes:
        codec: codec bound to the case.
        ends: values in the range of the networks that are 0 and 1 on the scale; None where it is the image's unit.
    """

    codec: Any
    ends: tuple[float, float] | None

    @property
    def own(self) -> bool:
        """Whether every case has a scale of its own."""
        return self.ends is not None

    @property
    def step(self) -> float:
        """Difference on the scale that corresponds to a difference of 1 in the range of the networks."""
        if self.ends is not None:
            return 1 / (self.ends[1] - self.ends[0])
        return float(self.codec.decode(np.float64(1)) - self.codec.decode(np.float64(0)))

    def of_image(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Convert values of an image in physical units to the scale; a case's own scale also clips and masks them.

        Args:
            values: image values of any shape.
        """
        if self.ends is None:
            return np.asarray(values, np.float32)
        low, high = self.ends
        encoded = np.asarray(self.codec.encode(np.asarray(values, np.float32)), np.float32)
        return np.asarray((encoded - low) / (high - low), np.float32)

    def of_output(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Convert values predicted by a network, in physical units and of any shape, to the scale."""
        if self.ends is None:
            return np.asarray(values, np.float32)
        low, high = (float(self.codec.decode(np.float64(end))) for end in self.ends)
        return np.asarray((values - low) / (high - low), np.float32)


@dataclass(frozen=True)
class ExaminedRole(ImageRole):
    """Role of an image in which anomalies are detected; dust in the air is no tissue for its z-score."""

    def bind(self, value: Any) -> Self:
        """Bind the codec to a case, and where it is a z-score over tissue, raise the value of air by `DUST`."""
        bound = super().bind(value)
        match bound.scale:
            case ZScore(above=float(above), std=float(std), background=float(background)) if self.adaptive:
                clean = above + 2 * abs(background) * DUST * std
                again = replace(self, scale=self.scale.model_copy(update={"above": clean}))  # type: ignore[union-attr]
                return super(ExaminedRole, again).bind(value)
        return bound


class AnomalyDetection(Task):
    """Task of anomaly detection: healthy images are learned from, others, with or without masks, are tested.

    Which voxels are tissue is decided on the grid of the source, and carried to the working grid as a label map, so
    that interpolation makes no tissue of air. The role ``tissue`` of a case, such as a mask of the brain, takes its
    place.

    Args:
        scale: codec between physical values and the range of the networks: a window, percentiles, or a z-score over
            the body with the value above which voxels are body and a background.
        size: rows and columns, for volumes preceded by slices.
        fit: how images get to this size.
        normal: class labels of healthy images. Images without a label are healthy unless a mask says otherwise.
        lesion_free: whether slices outside of the mask are learned from in patients with other labels.
        phantom: name of the embedded phantom.
        parts: role to part of the phantom.
        subjects: number of phantom subjects.
        overlap: share of a patch that the next one overlaps.
        square: whether pixels are made square where images are resized.
        refinement: post-processing of maps of whole volumes.
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
    constant_scores: Mapping[str, float] = {"pixel auc": 0.5}

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
            TISSUE: LabelRole(TISSUE, {"tissue": (1,)}, optional=True, any_two=True),
        }

    def images(self) -> dict[str, Role]:
        """Return the roles of the images in which anomalies may be detected."""
        return {IMAGE: ExaminedRole(IMAGE, self.scale)}

    def seen(self, roles: Mapping[str, Any]) -> str:
        """Return the role of the image in which anomalies are detected.

        Args:
            roles: mapping whose keys are the roles of the case.
        """
        return IMAGE

    @property
    def patches(self) -> bool:
        """Whether images keep their size and are processed in patches."""
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
        # Patches are cut from images that are larger than they are.
        return {"size": size or max(self.size) * (2 if self.patches else 1)}

    def phantom_parts(self, label: str | None) -> Mapping[str, str]:
        return self.parts

    @property
    def selection(self) -> str:
        return "residual"

    def changes(self) -> Changes:
        """Return changes of geometry, and of contrast and evenness, as other scanners make them in healthy images.

        Networks learn to draw healthy images, so that blur and noise would be drawn as well.
        """
        images = self.images()
        measured = [name for name, role in images.items() if role.measured]
        free = tuple(name for name in images if name not in measured)
        return Changes(mild(free, smeared=False, sharp=len(self.size) == 2))

    @property
    def shown(self) -> tuple[float, float]:
        """Values on the scale of a case that are displayed black and white; tissue is above the first."""
        match self.scale:
            case Window(low=low, high=high):
                return low, high
            case ZScore(background=float(background)):
                return background, -background
        return 0.0, 1.0

    def scale_of(self, sample: Sample) -> CaseScale:
        """Return the scale of a case.

        Raises:
            UserError: the image has no tissue, or only one value.
        """
        codec: Any = sample.role(self.seen(sample.arrays)).codec
        match self.scale:
            case Window():
                return CaseScale(codec, None)
            case ZScore():
                return CaseScale(codec, (0.0, 1.0))
        return CaseScale(codec, codec.to)

    def frame(self, values: Mapping[str, Any], case: Case | None = None) -> Sample:
        """Return a sample made from values, with the mask of tissue on the working grid.

        Raises:
            UserError: a value does not fit its role, or two of them do not lie on one grid.
        """
        sample = super().frame(values, case)
        name = self.seen(sample.arrays)
        if TISSUE in sample.arrays or name not in sample.frames:
            return sample
        given, frame = sample.values[name], replace(sample.frames[name], fill=0.0)
        inside = self.tissue_reader(sample)
        thickness = given.array.thickness if isinstance(given.array, LazyArray) else 1
        labels = ComputedArray(
            (1, *given.shape), np.uint8, lambda start, stop: inside(start, stop)[None].astype(np.uint8), thickness
        )
        return replace(
            sample,
            arrays={**sample.arrays, TISSUE: frame.into(given.with_array(labels), "labels").array},
            affines={**sample.affines, TISSUE: frame.working_affine},
            frames={**sample.frames, TISSUE: frame},
        )

    def tissue_reader(self, sample: Sample) -> Callable[[int, int], Mask]:
        """Return a function of a range of slices that reads the mask of tissue on the grid of the source.

        The function returns (slices, rows, columns), from the case's role ``tissue`` where it has one.
        """
        if TISSUE in sample.values:
            labels: Image = sample.values[TISSUE]
            return lambda start, stop: np.asarray(labels.slab(start, stop)[0] > 0)
        image: Image = sample.values[self.seen(sample.arrays)]

        def inside(start: int, stop: int) -> Mask:
            return self._inside(sample, image.slab(start, stop)[0])

        return inside

    def _inside(self, sample: Sample, values: NDArray[Any]) -> Mask:
        """Return which values of the examined image of a case, in physical units, are those of tissue."""
        scale = self.scale_of(sample)
        match scale.codec:
            case ZScore(above=float(above)):
                return np.asarray(values > above)
        low, high = self.shown
        return np.asarray(scale.of_image(values) > low + DUST * (high - low))

    def tissue_in(self, sample: Sample, start: int, stop: int) -> Mask:
        """Return the mask of tissue of slices ``start`` to ``stop`` on the working grid, (slices, rows, columns)."""
        if TISSUE in sample.arrays:
            return np.asarray(slab(sample.arrays[TISSUE], start, stop)[0] > 0)
        return self._inside(sample, slab(sample.arrays[self.seen(sample.arrays)], start, stop)[0])

    def scaled(self, sample: Sample, start: int, stop: int) -> dict[str, Volume]:
        """Return slices ``start`` to ``stop`` of the image, its tissue, the healthy image and the mask.

        Images are on the scale of the case.

        Returns:
            Role to (slices, rows, columns). The image in which anomalies are detected is ``image``, whatever its role.
        """
        scale, image = self.scale_of(sample), self.seen(sample.arrays)
        found = {IMAGE: scale.of_image(slab(sample.arrays[image], start, stop)[0])}
        found[TISSUE] = self.tissue_in(sample, start, stop).astype(np.float32)
        if HEALTHY in sample.arrays:
            found[HEALTHY] = scale.of_image(slab(sample.arrays[HEALTHY], start, stop)[0])
        if MASK in sample.arrays:
            found[MASK] = slab(sample.arrays[MASK], start, stop)[0]
        return found

    def tissue_shares(self, sample: Sample) -> NDArray[np.float64]:
        """Return the share of tissue in every slice, (slices,)."""
        return np.array(
            [self.tissue_in(sample, number, number + 1).mean() for number in range(sample.shape[0])], np.float64
        )

    def healthy(self, label: str | None) -> bool:
        """Whether a class label marks healthy cases, so that they are learned from without a mask."""
        return label is None or not self.normal or label in self.normal

    def only_tested(self, label: str | None) -> bool:
        return not self.healthy(label) and not self.lesion_free

    def abnormal_slices(self, sample: Sample) -> NDArray[np.bool_]:
        """Return which slices of a case are abnormal, (slices,).

        These are the slices with lesions in the mask; without a mask, all slices of a case that is not known to be
        healthy.
        """
        if MASK in sample.arrays:
            return share_of(sample.arrays[MASK], lambda labels: labels > 0) > 0
        return np.full(sample.shape[0], not self.known_healthy(sample))

    def known_healthy(self, sample: Sample) -> bool:
        """Whether a case without a mask counts as healthy, by its class label."""
        return self.healthy(sample.case.label)

    def truth_is_known(self, sample: Sample) -> bool:
        """Whether a mask, or the class label of a healthy case, says which voxels of a case are abnormal.

        Without both, a case may be learned from as a healthy one, since its user says so, but nothing can be counted as
        right or wrong in it.
        """
        return MASK in sample.arrays or (sample.case.label is not None and self.known_healthy(sample))

    def image_truth(self, sample: Sample, volumes: bool) -> NDArray[np.bool_] | None:
        """Return which images of a case are abnormal, (slices,) or (1,); None where nobody knows.

        A class label tells it of a volume, and of the slices of a healthy case, but not which slices of an abnormal
        case show something.

        Args:
            sample: prepared case.
            volumes: whether an image is the whole volume, not a slice.
        """
        abnormal = self.abnormal_slices(sample)
        if self.truth_is_known(sample) or (sample.case.label is not None and (volumes or len(abnormal) == 1)):
            return np.array([abnormal.any()]) if volumes else abnormal
        return None

    def trainable_slices(self, sample: Sample) -> NDArray[np.bool_] | None:
        label = sample.case.label
        if self.only_tested(label) or (not self.healthy(label) and MASK not in sample.arrays):
            return np.zeros(sample.shape[0], bool)
        shown = self.tissue_shares(sample) >= CONTENT
        return shown & ~self.abnormal_slices(sample) if MASK in sample.arrays else shown

    def scores(
        self, output: Mapping[str, Volume], sample: Mapping[str, Volume], spacing: tuple[float, float, float]
    ) -> Scores:
        """Score slices of one case: residual, mean anomaly score, and with a mask also pixel AUC and correlation.

        The AUC is over the pixels of tissue. The cross-correlation with the mask is a mean over slices with lesions.

        Args:
            output: ``map``, ``healthy`` and ``score``, on the scale of the case.
            sample: ``image``, ``tissue`` and perhaps ``mask``, as from `scaled`.
            spacing: mm between slices, rows and columns.
        """
        image, map, tissue = sample[IMAGE], output["map"], sample[TISSUE] > 0
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
"""Number of images in a case of the phantom ``squares``, which makes its few cases enough to learn from."""


class FeatureAttribution(AnomalyDetection):
    """Task of visual feature attribution: find an effect after learning from unpaired images with and without it.

    A training case has either the role ``effect`` or the role ``baseline``. A trained method is applied to the role
    ``image``, for which this is not known.
    """

    judge = "ganatomy.tasks.anomaly_detection.attribution:AttributionJudge"
    groups = ((BASELINE,), (EFFECT,))
    given = EFFECT

    def images(self) -> dict[str, Role]:
        roles = {name: ExaminedRole(name, self.scale) for name in (BASELINE, EFFECT)}
        return {**roles, IMAGE: ExaminedRole(IMAGE, self.scale, optional=True)}

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

    def truth_is_known(self, sample: Sample) -> bool:
        return super().truth_is_known(sample) or (sample.case.label is None and BASELINE in sample.arrays)

    def image_truth(self, sample: Sample, volumes: bool) -> NDArray[np.bool_] | None:
        found = super().image_truth(sample, volumes)
        if found is None and EFFECT in sample.arrays and sample.case.label is None:
            abnormal = self.abnormal_slices(sample)  # all of them, since the role says so
            return np.array([abnormal.any()]) if volumes else abnormal
        return found

    def trainable_slices(self, sample: Sample) -> NDArray[np.bool_] | None:
        return self.tissue_shares(sample) >= CONTENT


class Detector(Method):
    """Base class of anomaly detectors; their configuration is an `AnomalyConfig`, or they build the task themselves."""

    network_range: tuple[float, float] = (-1.0, 1.0)
    """Values that the ends of a window or of percentiles are mapped to."""
    task_class: ClassVar[type[AnomalyDetection]] = AnomalyDetection
    """Class of the task, which decides whether healthy images alone or two groups are learned from."""

    @abstractmethod
    def detect(self, image: Tensor) -> Detection:
        """Detect anomalies in images (n, channels, [slices,] rows, columns) in the range of the networks."""

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
        """Return the codec between physical values and the range of the networks."""
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
        """Return the differences that count as abnormal, nonnegative and of the images' shape."""
        match self.config.residual:
            case "bright":
                return (image - healthy).clamp_min(0)
            case "dark":
                return (healthy - image).clamp_min(0)
        return (image - healthy).abs()

    def streams(self, batch_size: int, roles: Sequence[str] = (IMAGE,)) -> list[Stream]:
        """Return a stream for each role, with patches of the size of the networks."""
        size = self.task.size
        patch: Triple = (1, *size) if len(size) == 2 else size
        return [Stream(role, (role,), batch_size, patch) for role in roles]
