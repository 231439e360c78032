"""What is not healthy, learned from what is."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from ganatomy.case import Task, Volume
from ganatomy.errors import UserError
from ganatomy.game import Method, MethodConfig, Stream
from ganatomy.images.codecs import Codec, PercentileWindow, Window, ZScore
from ganatomy.images.framing import Fit, Framing
from ganatomy.images.image import ComputedArray, Image
from ganatomy.metrics.detection import auc, normalised_cross_correlation
from ganatomy.tasks.anomaly_detection.refinement import Mask, Refinement

Scale = Literal["window", "zscore", "percentiles"]
"""Where the values that the networks see come from: a window for all images, or the numbers of each case."""
Sign = Literal["absolute", "bright", "dark"]
"""Which differences from the healthy image are abnormal."""

EFFECTS = {"squares": "effect"}
"""Mask of what is to be found in a phantom, where it is not called a lesion."""

CONTENT = 0.02
"""Share of a slice that must be tissue for the slice to be worth learning from."""


class Detection(NamedTuple):
    """What a detector finds in images (n, channels, [slices,] rows, columns), in the range of the networks."""

    map: Tensor
    """How abnormal every pixel is, at least 0, (n, 1, [slices,] rows, columns)."""
    score: Tensor
    """How abnormal every image is, (n,)."""
    healthy: Tensor
    """The image as it would be without the anomaly, of its shape."""


class Found(NamedTuple):
    """The same for slices of one case, in the unit of prepared cases."""

    map: Volume
    score: NDArray[np.float32]
    healthy: Volume


class AnomalyConfig(MethodConfig):
    """What is looked at, for detectors that learn from healthy images."""

    size: tuple[int, ...] = (64, 64)  # rows and columns seen
    fit: Fit = "contain"  # of images: lie inside the size whole, fill it, or be cut into patches of it
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


class AnomalyDetection(Task):
    """Healthy images to learn from; others, perhaps with masks, to be tested on.

    Cases on a scale of their own are prepared in that scale: their unit is then the standard deviation, or the width
    between the percentiles.

    Args:
        codec: prepared values to the range of the networks.
        size: rows and columns, for volumes preceded by slices.
        fit: how images get to this size.
        normal: labels of healthy images. Images without label are healthy where no mask says otherwise.
        lesion_free: whether slices without mask count as healthy in patients with another label.
        phantom: name of the embedded one.
        parts: of the phantom, by role.
        subjects: patients of the phantom.
        overlap: share of a patch that the next one sees too.
        scale: of each case, which its prepared values are on; none means that they are physical ones.
        tissue_above: values that z-scores are taken of, in the unit of the image; others become the codec's lower end.
        refinement: of maps of whole volumes.
    """

    name = "anomaly-detection"
    ability = "detect"
    roles: tuple[str, ...] = ("image",)
    optional: tuple[str, ...] = ("mask", "healthy")
    given = "image"

    directions: ClassVar[Mapping[str, str]] = {
        "residual": "lower",
        "score": "target",
        "pixel auc": "higher",
        "ncc": "higher",
    }

    def __init__(
        self,
        codec: Window,
        size: tuple[int, ...],
        fit: Fit,
        normal: tuple[str, ...],
        lesion_free: bool,
        phantom: str,
        parts: Mapping[str, str],
        subjects: int = 40,
        overlap: float = 0.5,
        scale: PercentileWindow | ZScore | None = None,
        tissue_above: float = 0.0,
        refinement: Refinement | None = None,
    ):
        self.codec, self.scale, self.tissue_above = codec, scale, tissue_above
        self.size, self.fit, self.overlap = size, fit, overlap
        self.phantom, self.parts, self.phantom_subjects = phantom, dict(parts), subjects
        self.normal, self.lesion_free = normal, lesion_free
        self.refinement = refinement or Refinement()

    def phantom_grid(self, size: int | None) -> dict[str, Any]:
        # Patches are cut from something larger than they are.
        return {"size": size or max(self.size) * (2 if self.fit == "patches" else 1)}

    def phantom_parts(self, label: str | None) -> Mapping[str, str]:
        return self.parts

    @property
    def codecs(self) -> Mapping[str, Codec]:
        return {"image": self.codec, "healthy": self.codec}

    @property
    def fingerprint(self) -> str:
        return f"{self.size} {self.fit} {self.codec!r} {self.scale!r} {self.tissue_above}"

    @property
    def selection(self) -> str:
        return "residual"

    @property
    def framing(self) -> Framing:
        """How images are brought to the size that is seen."""
        return Framing(self.size, self.fit, self.codec.low)

    def healthy(self, label: str | None) -> bool:
        """Whether a case with this label may be learned from without asking its mask."""
        return label is None or not self.normal or label in self.normal

    def only_tested(self, label: str | None) -> bool:
        return not self.healthy(label) and not self.lesion_free

    def trainable(self, label: str | None, arrays: Mapping[str, NDArray[np.float32]]) -> NDArray[np.bool_] | None:
        image = arrays["image"]
        if self.only_tested(label) or (not self.healthy(label) and "mask" not in arrays):
            return np.zeros(image.shape[1], bool)
        seen = self.tissue(image).mean(axis=(0, 2, 3)) >= CONTENT
        if "mask" in arrays:
            seen &= ~(arrays["mask"] > 0.5).any(axis=(0, 2, 3))
        return np.asarray(seen)

    def check(self, image: Image) -> None:
        if image.channels != 1:
            raise UserError(f"{image.header.label}: {image.channels} channels, but the system works with one")
        (self.scale or self.codec).check(image)

    def bound(self, image: Image) -> Codec | None:
        """The scale with the numbers of a case; none where all cases share a window.

        Raises:
            UserError: the image has no tissue, or one value only.
        """
        if self.scale is None:
            return None
        return self.scale.bind(image, image.numpy() > self.tissue_above if self._masked else None)

    def scaled(self, image: Image, own: Codec | None) -> Image:
        """The image in the unit of prepared cases, float32, lazily.

        Args:
            image: in physical units.
            own: what `bound` returned for it, or for the image that it goes with.
        """
        if own is None:
            return image

        def slab(start: int, stop: int) -> NDArray[np.float32]:
            values = image.slab(start, stop).astype(np.float32)
            encoded = np.asarray(own.encode(values), np.float32)
            return np.where(values > self.tissue_above, encoded, self.codec.low) if self._masked else encoded

        return image.with_array(ComputedArray(image.array.shape, np.float32, slab), unit=None)

    @property
    def _masked(self) -> bool:
        return isinstance(self.scale, ZScore)

    def prepare(self, given: Mapping[str, Image], seed: int) -> dict[str, Image]:
        self.check(given["image"])
        own = self.bound(given["image"])
        masks = Framing(self.size, self.fit, 0.0)
        return {
            role: masks(image) if role == "mask" else self.framing(self.scaled(image, own))
            for role, image in given.items()
        }

    def tissue(self, image: NDArray[np.float32]) -> Mask:
        """Where a prepared image shows something, of its shape: what maps are judged on."""
        return np.asarray(image > self.codec.low)

    def postprocess(self, map: Volume, image: Volume, spacing: tuple[float, float, float]) -> Volume:
        """The map of a whole volume, refined before it is thresholded.

        Args:
            map: (slices, rows, columns), in the unit of prepared cases.
            image: that was looked at, likewise.
            spacing: mm between slices, rows and columns.
        """
        return self.refinement.refine(map, image, self.tissue(image), spacing[2])

    def scores(
        self, found: Found, sample: Mapping[str, Volume], spacing: tuple[float, float, float]
    ) -> dict[str, float]:
        """Of slices of one case: how far the healthy images are from what was seen, and the AUC where masks are.

        The AUC is over the pixels of tissue, the cross-correlation with the mask over each slice that has one.
        """
        image, tissue = sample["image"], self.tissue(sample["image"])
        scores = {"residual": float(np.abs(found.healthy - image).mean()), "score": float(found.score.mean())}
        if "mask" in sample:
            truth = sample["mask"] > 0.5
            if 0 < truth[tissue].sum() < tissue.sum():
                scores["pixel auc"] = auc(found.map[tissue], truth[tissue])
            correlations = [
                normalised_cross_correlation(one, mask)
                for one, mask in zip(found.map, truth, strict=True)
                if mask.any() and np.ptp(one) > 0
            ]
            if correlations:
                scores["ncc"] = float(np.mean(correlations))
        return scores


SQUARES = 64
"""Images that a case of the phantom of squares holds; only then are its few cases enough to learn from."""


class FeatureAttribution(AnomalyDetection):
    """Images with an effect and, unpaired, images without it; what is to be found is the effect.

    Every case is one of the two, and whichever it is, also the ``image`` that a trained method is shown.
    """

    roles = ("baseline", "effect")
    optional = ("mask", "healthy")
    streams = (("baseline",), ("effect",))
    given = "effect"

    @property
    def codecs(self) -> Mapping[str, Codec]:
        return dict.fromkeys(("image", "healthy", *self.roles), self.codec)

    @property
    def selection(self) -> str:
        return "ncc"

    def phantom_grid(self, size: int | None) -> dict[str, Any]:
        return super().phantom_grid(size) | ({"slices": SQUARES} if self.phantom == "squares" else {})

    def phantom_parts(self, label: str | None) -> Mapping[str, str]:
        if label in self.normal:
            return {"baseline": self.parts["image"]}
        return {"effect": self.parts["image"], "mask": self.parts["mask"]}

    def only_tested(self, label: str | None) -> bool:
        return False

    def trainable(self, label: str | None, arrays: Mapping[str, NDArray[np.float32]]) -> NDArray[np.bool_] | None:
        return np.asarray(self.tissue(arrays["image"]).mean(axis=(0, 2, 3)) >= CONTENT)

    def prepare(self, given: Mapping[str, Image], seed: int) -> dict[str, Image]:
        role = "effect" if "effect" in given else "baseline"
        others = {name: image for name, image in given.items() if name not in self.roles}
        prepared = super().prepare({"image": given[role], **others}, seed)
        return {**prepared, role: prepared["image"]}


class Detector(Method):
    """A method that finds what is not healthy; its config is an `AnomalyConfig` or has a task of its own."""

    network_range: tuple[float, float] = (-1.0, 1.0)
    """What the window's ends are mapped to."""
    task_class: ClassVar[type[AnomalyDetection]] = AnomalyDetection
    """Of healthy images alone, or of two groups."""

    @abstractmethod
    def detect(self, image: Tensor) -> Detection:
        """Images (n, channels, [slices,] rows, columns) to what is abnormal in them."""

    def build_task(self) -> AnomalyDetection:
        c = self.config
        codec, scale = self.codecs()
        return self.task_class(
            codec,
            c.size,
            c.fit,
            c.normal,
            c.lesion_free,
            c.phantom,
            {
                "image": c.phantom_image,
                "mask": f"mask:{EFFECTS.get(c.phantom, 'lesion')}",
                "healthy": f"healthy:{c.phantom_image}",
            },
            overlap=c.overlap,
            scale=scale,
            tissue_above=c.tissue_above,
            refinement=Refinement(c.erosion, c.brightest, c.median, c.smallest),
        )

    def codecs(self) -> tuple[Window, PercentileWindow | ZScore | None]:
        """Prepared values to the range of the networks, and the scale that each case is prepared on."""
        c = self.config
        match c.scale:
            case "zscore":
                ends = (c.background, -c.background)
                return Window(low=ends[0], high=ends[1], to=ends, unit=None), ZScore(unit=c.window_unit)
            case "percentiles":
                low, high = c.percentiles
                own = PercentileWindow(p_low=low, p_high=high, to=(0.0, 1.0), clip=True, unit=c.window_unit)
                return Window(low=0.0, high=1.0, to=self.network_range, unit=None), own
        low, high = c.window
        return Window(low=low, high=high, to=self.network_range, clip=True, unit=c.window_unit), None

    def residual(self, image: Tensor, healthy: Tensor) -> Tensor:
        """Differences that count as abnormal, at least 0, of the images' shape."""
        match self.config.residual:
            case "bright":
                return (image - healthy).clamp_min(0)
            case "dark":
                return (healthy - image).clamp_min(0)
        return (image - healthy).abs()

    def stream(self, batch_size: int, flips: Sequence[int] = ()) -> Stream:
        """Batches of images of the size that is seen."""
        task = self.task
        patch = (1, *task.size) if len(task.size) == 2 else task.size
        return Stream("samples", None, batch_size, patch, streams=task.streams, flips=tuple(flips))  # type: ignore[arg-type]
