"""Intensity codecs: invertible maps from physical values to the range of a network.

A codec is saved with the weights that it was used for. It takes NumPy arrays and torch tensors alike and returns the
type that it was given; integers become float32.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from ganatomy.errors import UserError
from ganatomy.images.image import Image

# An array or a torch tensor; the latter is not named, so that reading a file does not import torch.
Values = Any

Over = Literal["all", "body"]
"""Voxels over which the statistics of an image are computed: all, or those of the body without the air."""

AIR = 0.05
"""Smallest share of voxels with exactly the lowest value at which it counts as that of a mask or of padding."""

# Percentiles sort: beyond this many values an evenly strided subset stands for the image.
_MOST_VALUES = 2**24


class IntensityCodec(BaseModel):
    """A map from physical values to the range of a network, and back.

    Attributes:
        unit: Unit of the physical values; None when it is not known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    unit: str | None = None

    @property
    def adaptive(self) -> bool:
        """Whether `bind` sets numbers of the codec for each image."""
        return False

    @abstractmethod
    def encode(self, values: Values) -> Values:
        """Map physical values to the network's range, any shape."""

    @abstractmethod
    def decode(self, values: Values) -> Values:
        """Map network values to physical values, any shape."""

    def bind(self, image: Image | Any, mask: Any = None) -> IntensityCodec:
        """Return the codec with the numbers of one image; a codec with fixed numbers returns itself.

        Args:
            image: An `Image`, NumPy array or tensor.
            mask: Region in which the numbers are computed: true inside, spatially shaped like the image.

        Raises:
            UserError: The image has NaN or only one value, so that it has no range.
        """
        return self

    def check(self, image: Image) -> None:
        """Refuse an image whose unit or values do not fit this codec.

        Refused are: another unit; no unit where HU are needed and values that cannot be HU (nothing below -200); NaN or
        infinite values; a constant image. Integer images are only read until the answer is known.

        Raises:
            UserError: The image does not fit; the message names its file.
        """
        label = image.header.label
        if self.unit and image.unit and image.unit != self.unit:
            raise UserError(f"{label} is in {image.unit}, but the model works in {self.unit}: give it matching images")
        low, high = _range(image, enough=-200.0 if self.unit == "HU" and image.unit is None else math.inf)
        if low == high:
            raise UserError(f"{label} has the same value {low:g} everywhere: it holds no picture; check the file")
        if self.unit == "HU" and image.unit is None and low >= -200:
            if not may_be_ct(image):
                raise UserError(f"{label} is no CT, but the model works in HU: give it CT images in HU")
            raise UserError(
                f"{label} names no unit, and its values, {low:g} to {high:g}, cannot be HU (air is -1000): "
                "say how they map to HU (by --intercept -1024, or the column intercept), or use a file that is in HU"
                if image.header.kind in ("raster", "npy", "array")
                else f"{label} names no unit, and its values, {low:g} to {high:g}, cannot be HU with air (-1000): "
                "where they are HU of an organ alone, say so (by --unit HU, or the column unit), else convert them"
            )


def may_be_ct(image: Image) -> bool:
    """Return whether an image without a unit may hold CT numbers, with some intercept.

    Colour pictures, images of another modality, and grey levels of 8 bits, which are too few for air to bone, do not.
    """
    return image.channels == 1 and image.dtype != np.uint8 and image.header.modality in (None, "CT")


class Window(IntensityCodec):
    """Linear map from [low, high] to the range `to`; values outside are mapped outside, unless `clip` is set.

    Attributes:
        low: Physical value that becomes `to[0]`.
        high: Physical value that becomes `to[1]`.
        to: Range of the network.
        clip: Whether values outside the window are clipped when encoding, which cannot be undone.
    """

    kind: Literal["window"] = "window"
    low: float
    high: float
    to: tuple[float, float] = (-1.0, 1.0)
    clip: bool = False
    unit: str | None = "HU"

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not (self.low < self.high and self.to[0] < self.to[1]):
            raise ValueError(f"a window goes from low to high, not {self.low} to {self.high} onto {self.to}")
        return self

    def encode(self, values: Values) -> Values:
        """Map physical values to the range `to`."""
        numbers = _real(values)
        if self.clip:
            numbers = numbers.clip(self.low, self.high)
        return self._onto(numbers, (self.low, self.high), self.to)

    def decode(self, values: Values) -> Values:
        """Map values in the range `to` to physical values."""
        return self._onto(_real(values), self.to, (self.low, self.high))

    @staticmethod
    def _onto(numbers: Any, source: tuple[float, float], target: tuple[float, float]) -> Any:
        scale = (target[1] - target[0]) / (source[1] - source[0])
        return (numbers - source[0]) * scale + target[0]


class _OverBody(IntensityCodec):
    """Base class of codecs whose numbers may be computed over the body alone.

    Attributes:
        over: Voxels over which the numbers are computed.
        above: Value in physical units that the body lies above; None finds one in each image, see `body_above`.
    """

    over: Over = "all"
    above: float | None = None

    @model_validator(mode="after")
    def _of_the_body(self) -> Self:
        if self.above is not None and self.over != "body":
            raise ValueError('above separates the body from the air: it needs over="body"')
        return self

    def _threshold(self, image: Image | Any) -> float | None:
        """Return the value that the body of an image lies above; None where all voxels count."""
        if self.over == "all":
            return None
        return body_above(image) if self.above is None else self.above


class ZScore(_OverBody):
    """Standardisation to mean 0 and standard deviation 1; without fixed numbers, those of each image (see `bind`).

    Attributes:
        mean: Mean in physical units; None until bound.
        std: Standard deviation in physical units; None until bound.
        background: Value, in standard deviations, that voxels outside the body are set to when encoding, which cannot
            be undone; None leaves them. It needs ``over="body"``.
    """

    kind: Literal["zscore"] = "zscore"
    mean: float | None = None
    std: float | None = Field(default=None, gt=0)
    background: float | None = None

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.mean is None) != (self.std is None):
            raise ValueError("give both mean and std, or neither to take them from each image")
        if self.background is not None and self.over != "body":
            raise ValueError('background is the value outside of the body: it needs over="body"')
        if self.background is not None and self.mean is not None and self.above is None:
            raise ValueError("with mean and std given, background needs above, the value that the body lies above")
        return self

    @property
    def adaptive(self) -> bool:
        """Whether the numbers are those of each image, since none are fixed."""
        return self.mean is None

    def encode(self, values: Values) -> Values:
        """Map physical values to standard deviations from the mean."""
        mean, std = self._numbers()
        numbers = _real(values)
        scores = (numbers - mean) / std
        if self.background is None:
            return scores
        inside = numbers > self.above
        if isinstance(scores, np.ndarray | np.generic):
            return np.where(inside, scores, self.background)
        return scores.where(inside, self.background)

    def decode(self, values: Values) -> Values:
        """Map standard deviations from the mean to physical values."""
        mean, std = self._numbers()
        return _real(values) * std + mean

    def bind(self, image: Image | Any, mask: Any = None) -> ZScore:
        """Return this codec with the image's (masked) mean and standard deviation, unless its numbers are fixed.

        Over the body, the codec also keeps the value that the body lies above.
        """
        if self.mean is not None:
            return self
        above = self._threshold(image)
        count, total, squares, shift = 0, 0.0, 0.0, None
        for values in _pieces(image, mask, above):
            # Sums of squares about a value near the mean do not lose digits to cancellation.
            shift = float(values[0]) if shift is None and len(values) else shift
            moved = values.astype(np.float64) - (shift or 0.0)
            count, total, squares = (
                count + len(moved),
                total + float(moved.sum()),
                squares + float(moved @ moved),
            )
        mean = total / max(count, 1)
        std = math.sqrt(max(squares / max(count, 1) - mean**2, 0.0))
        if not count or std <= 0:
            raise UserError(
                f"{_label(image)} has the same value everywhere{_beyond(above)}: it has no z-score; check the file"
            )
        return self.model_copy(update={"mean": mean + (shift or 0.0), "std": std, "above": above})

    def _numbers(self) -> tuple[float, float]:
        if self.mean is None or self.std is None:
            raise ValueError("this z-score has no numbers yet: bind it to an image first")
        return self.mean, self.std


class _FoundWindow(_OverBody):
    """Base class of windows whose ends are found in each image by `bind`, and that cannot encode before.

    Attributes:
        to: Range of the network.
        clip: Whether values outside the window are clipped.
    """

    to: tuple[float, float] = (-1.0, 1.0)
    clip: bool = False

    @property
    def adaptive(self) -> bool:
        """Whether `bind` sets numbers for each image, which is always so."""
        return True

    def encode(self, values: Values) -> Values:
        """Raise `ValueError`: only the bound codec can encode."""
        raise ValueError("the ends of this window are found in each image: bind it to one first")

    def decode(self, values: Values) -> Values:
        """Raise `ValueError`: only the bound codec can decode."""
        raise ValueError("the ends of this window are found in each image: bind it to one first")


class PercentileWindow(_FoundWindow):
    """A `Window` between two percentiles of each image, which `bind` computes.

    Attributes:
        p_low: Percentile that becomes `to[0]`.
        p_high: Percentile that becomes `to[1]`.
        low_over: Voxels over which the lower percentile is taken; None means those of `over`. With ``all`` beside a
            percentile of the body, dark tissue keeps its contrast although the body's threshold excludes it.
    """

    kind: Literal["percentile"] = "percentile"
    p_low: float = Field(default=0.5, ge=0, le=100)
    p_high: float = Field(default=99.5, ge=0, le=100)
    low_over: Over | None = None

    def bind(self, image: Image | Any, mask: Any = None) -> Window:
        """Return the window between this image's (masked) percentiles, of at most 2^24 evenly strided values."""
        size = math.prod(image.array.shape if isinstance(image, Image) else image.shape)
        stride = math.ceil(size / _MOST_VALUES)
        above = self._threshold(image)
        # A copy, since views would keep the whole image in memory.
        values = np.concatenate([np.ascontiguousarray(values[::stride]) for values in _pieces(image, mask)])
        inside = values if above is None else values[values > above]
        if not len(inside):
            where = "inside its mask: check the mask" if above is None else f"above {above:g}: check the file"
            raise UserError(f"{_label(image)} has nothing {where}")
        below = values if self.low_over == "all" else inside
        low, high = float(np.percentile(below, self.p_low)), float(np.percentile(inside, self.p_high))
        if not low < high:
            raise UserError(
                f"{_label(image)} has the value {low:g} at percentiles {self.p_low:g} and {self.p_high:g}: "
                "it is (almost) constant; check the file"
            )
        return Window(low=low, high=high, to=self.to, clip=self.clip, unit=self.unit)


class DeviationWindow(_FoundWindow):
    """A `Window` of some standard deviations around the mean of each image, which `bind` computes.

    It is for networks whose output has a limited range, which a z-score would exceed.

    Attributes:
        deviations: Standard deviations below and above the mean that become the ends of `to`.
    """

    kind: Literal["deviations"] = "deviations"
    deviations: float = Field(default=3.0, gt=0)

    def bind(self, image: Image | Any, mask: Any = None) -> Window:
        """Return the window around this image's (masked) mean."""
        score = ZScore(unit=self.unit, over=self.over, above=self.above).bind(image, mask)
        low, high = (float(score.decode(np.float64(side * self.deviations))) for side in (-1, 1))
        return Window(low=low, high=high, to=self.to, clip=self.clip, unit=self.unit)


class OpticalDensity(IntensityCodec):
    """Optical density of transmitted light, -log10((I + 1) / (white + 1)): 0 for white, more for stain.

    The added 1 keeps black finite and the map invertible on [0, white] (Ruifrok and Johnston, Anal Quant
    Cytol Histol 23:291-299, 2001, for densities as such).

    Attributes:
        white: Intensity of unstained background, in the image's grey levels.
    """

    kind: Literal["optical_density"] = "optical_density"
    white: float = Field(default=255.0, gt=0)

    def encode(self, values: Values) -> Values:
        """Map intensities above -1 to optical density."""
        ratio = (_real(values) + 1) / (self.white + 1)
        return -(ratio.log10() if hasattr(ratio, "log10") else np.log10(ratio))

    def decode(self, values: Values) -> Values:
        """Map optical density to intensities."""
        return 10.0 ** (-_real(values)) * (self.white + 1) - 1

    def check(self, image: Image) -> None:
        """Refuse images that no codec takes, and negative values, which are no light intensities."""
        super().check(image)
        low, _ = _range(image, enough=0.0)
        if low < 0:
            raise UserError(f"{image.header.label} has values down to {low:g}, which are no light intensities")


Codec = Annotated[Window | ZScore | PercentileWindow | DeviationWindow | OpticalDensity, Field(discriminator="kind")]


def described(codec: IntensityCodec | None) -> str:
    """Describe in words which physical values of an image become the ends of the range of the networks."""
    match codec:
        case Window(low=low, high=high):
            return f"from {low:g} to {high:g} {codec.unit or ''}".rstrip()
        case PercentileWindow(p_low=first, p_high=last, over=over, low_over=low_over):
            part = {"all": "all its voxels", "body": "its body"}
            start = f"percentile {first:g} of {part[low_over or over]}"
            return f"from {start} to percentile {last:g} of {part[over]}"
        case DeviationWindow(deviations=deviations):
            return f"{deviations:g} standard deviations to either side of its mean"
        case ZScore():
            return "3 standard deviations to either side of its mean"
    return "as it is"


def body_above(image: Image | Any) -> float:
    """Return the value that the body of an image lies above, found slab by slab.

    Where at least 5 % of the voxels share the lowest value exactly, they have been masked out or padded, as in
    brain-extracted or cropped images, and all voxels above it are body; elsewhere the threshold is the mean.

    Args:
        image: An `Image`, NumPy array or tensor.

    Raises:
        UserError: The image has NaN or infinite values.
    """
    low, lowest, count, total = math.inf, 0, 0, 0.0
    for values in _pieces(image):
        if (least := float(values.min())) < low:
            low, lowest = least, 0
        lowest += int(np.count_nonzero(values == low))
        count, total = count + len(values), total + float(values.sum(dtype=np.float64))
    return low if lowest >= AIR * count else total / count


def _beyond(above: float | None) -> str:
    return "" if above is None else f" above {above:g}"


def _real(values: Any) -> Any:
    """Return `values` as real numbers: integers become float32."""
    if isinstance(values, np.ndarray | np.generic):
        return values if values.dtype.kind == "f" else values.astype(np.float32)
    return values if values.is_floating_point() else values.float()


def _label(image: Image | Any) -> str:
    return image.header.label if isinstance(image, Image) else "the array"


def _pieces(image: Image | Any, mask: Any = None, above: float | None = None) -> Iterator[NDArray[Any]]:
    """Yield the (masked) values of an image above a threshold as flat arrays, slab by slab.

    Raises:
        UserError: There are NaN or infinite values.
    """
    if isinstance(image, Image):
        shape, slabs = image.array.shape, image.slabs()
    else:
        array = np.asarray(image.detach().cpu() if hasattr(image, "detach") else image)
        shape, slabs = (1, 1, 1, array.size), iter([array.reshape(1, 1, 1, -1)])
        mask = None if mask is None else np.broadcast_to(mask, array.shape).reshape(shape)
    inside = None if mask is None else np.broadcast_to(np.asarray(mask, dtype=bool), shape)
    start = 0
    for slab in slabs:
        stop = start + slab.shape[1]
        values = slab.reshape(-1) if inside is None else slab[inside[:, start:stop]]
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise UserError(f"{_label(image)} holds NaN or infinite values: replace them before use, NaN with --nan")
        yield values if above is None else values[values > above]
        start = stop


def _range(image: Image, enough: float) -> tuple[float, float]:
    """Return the lowest and highest value; in an integer image, those until it varies and falls below `enough`."""
    low, high = math.inf, -math.inf
    for values in _pieces(image):
        low, high = min(low, float(values.min())), max(high, float(values.max()))
        if image.dtype.kind != "f" and low < high and low < enough:
            break
    return low, high
