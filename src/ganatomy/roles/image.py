"""Intensity images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from ganatomy.case import Array, Openable, Preparation
from ganatomy.errors import UserError
from ganatomy.images.augmentation import Movement
from ganatomy.images.codecs import Codec, DeviationWindow, Over, PercentileWindow, Window, ZScore, may_be_ct
from ganatomy.images.files import Source
from ganatomy.images.frames import Frame
from ganatomy.images.image import Image
from ganatomy.roles.options import RoleOptions
from ganatomy.roles.scaled import ScaledRole

AIR_HU = -1000.0
"""CT number of air."""
USUAL_WINDOWS: Mapping[str, tuple[float, float]] = {"HU": (AIR_HU, 1000.0), "SUV": (0.0, 20.0)}
"""Unit with a physical meaning to the window of its images where none is given (our choice)."""
FILLED = 0.2
"""Share of a window, from its lower end, that the values of an image must exceed (our choice)."""


@dataclass(frozen=True)
class ImageRole(ScaledRole):
    """An intensity image or volume in physical units.

    Attributes:
        width: number of channels; 3 for colour images.
        modality: DICOM code, such as ``MR``, that a file must have if it states its modality.
        checked: whether an image is checked for the unit and the range of values that the codec needs.
        option: option that sets the window of the codec, which is named where values without a unit do not fit the
            window; None where there is no such option, and such values are not checked.
        widened_by: option that sets the number of channels; None where there is none.
    """

    width: int = field(default=1, kw_only=True)
    modality: str | None = field(default=None, kw_only=True)
    checked: bool = field(default=True, kw_only=True)
    option: str | None = field(default="--window", kw_only=True)
    widened_by: str | None = field(default=None, kw_only=True)

    kind: ClassVar[str] = "image"

    @property
    def channels(self) -> int:
        """Number of channels of the image."""
        return self.width

    def source(self, text: str, folder: Path, read: Callable[[Path], Openable]) -> Openable:
        """Return the source of the image file or DICOM series ``text``; PET is opened in the unit of the codec."""
        found = read(folder / text)
        return found.in_uptake() if self._in_uptake and isinstance(found, Source) else found

    @property
    def _in_uptake(self) -> bool:
        return self.scale is not None and self.scale.unit == "SUV"

    @property
    def prepared_as(self) -> str:
        """Text with the number of channels, which an empty image in place of a missing one has, too."""
        return f"{super().prepared_as} {self.width}{' SUV' * self._in_uptake}"

    @property
    def checked_as(self) -> str:
        """Text with all attributes, but without the numbers of a scale of each image, which refuse none."""
        scale = self.scale
        if isinstance(scale, ZScore | PercentileWindow | DeviationWindow):
            return repr(replace(self, scale=type(scale)(unit=scale.unit)))
        return repr(self)

    def check(self, value: Any) -> None:
        """Refuse images whose modality, channels, unit or range of values does not fit the role."""
        label = value.header.label
        if value.header.kind == "kspace":
            raise UserError(f"{label}: raw MR data, which only systems that reconstruct MR take")
        if self.modality and value.header.modality not in (None, self.modality):
            raise UserError(
                f"{label}: modality {value.header.modality}, but this system takes {self.modality} as {self.name}"
            )
        if value.channels != self.width:
            told = f"train with {self.widened_by} {value.channels}, or give" if self.widened_by else "give"
            if value.header.colours and value.channels in (2, 4):
                told = f"lay transparent pictures over a grey with --backdrop, or {told}"
            elif value.header.kind in ("nifti", "itk", "mgh", "npy", "raster") and not value.header.colours:
                told = f"choose with --frames where these are time frames, or {told}"
            its = "1 channel" if value.channels == 1 else f"{value.channels} channels"
            raise UserError(
                f"{label}: {its}, but the system works with {self.width} for {self.name}; {told} other images"
            )
        if self.scale is None or not self.checked:
            return
        unit = self.scale.unit
        # An image in arbitrary units may be one without a unit.
        if self.widened_by and self.option and value.unit not in (None, unit, None if unit else "a.u."):
            other, own = self.option.replace("window", "unit"), f"in {unit}" if unit else "has no unit"
            raise UserError(
                f"{label} is in {value.unit}, but {self.name} {own}: give matching images, or train with "
                f"{other} {value.unit} and a {self.option} that suits it"
            )
        if self.widened_by and self.option and unit == "HU" and value.unit is None and not may_be_ct(value):
            other = self.option.replace("window", "unit")
            window = "0 255" if value.dtype == np.uint8 else "LOW HIGH"
            raise UserError(
                f"{label} is no CT, but {self.name} is in HU: train with {other} None and {self.option} {window}"
            )
        self.scale.check(value)
        # Windows in HU are left out: CT numbers may lie far outside of a narrow window, such as one of soft tissue.
        if self.option and unit != "HU" and isinstance(self.scale, Window) and value.unit in (None, "a.u."):
            check_window(value, self.scale, self.option)

    def plan(self, value: Any, preparation: Preparation) -> Frame | None:
        """Return the frame to the working grid."""
        return preparation.frame(value, self.name)

    def array(self, value: Any, frame: Frame | None) -> Array:
        """Return the image on the working grid."""
        array: Array = frame.into(value).array if frame else value.array
        return array

    def value(self, array: Array, frame: Frame | None, like: Any) -> Image:
        """Return an array as an image on the grid of its source, in the unit of the codec."""
        outside = self.scale.low if isinstance(self.scale, Window) else 0.0
        placed = frame.back(array, outside) if frame else array
        unit = self.scale.unit if self.scale else like.unit if like else None
        if like is None or frame is None:
            made = Image(placed, frame.affine if frame else np.eye(4), unit)
            return made if like is None else replace(made, header=like.header)
        image: Image = replace(like, unit=unit).with_geometry(placed, frame.affine)
        return image

    def move(self, patch: NDArray[Any], movement: Movement) -> NDArray[Any]:
        """Return the moved patch, interpolated as the movement says."""
        return movement.resample(patch, movement.interpolation)


class ImageOptions(RoleOptions):
    """Options of an image role whose scale the user chooses."""

    by_name: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "ct": {"unit": "HU", "window": (-1000.0, 1000.0)},
        "pet": {"unit": "SUV", "window": USUAL_WINDOWS["SUV"]},
    }

    window: tuple[float, float] | None = None  # values mapped to the ends of the range of the networks, in all images
    scale: Literal["window", "percentile", "zscore"] | None = None  # none: window if given or for HU, else percentile
    percentiles: tuple[float, float] = (0.5, 99.9)  # percentile: those mapped to the ends of the range (our choice)
    deviations: float = Field(3.0, gt=0)  # zscore: SDs from the mean to the ends of a limited range (our choice)
    over: Over = "body"  # percentile, zscore: voxels that the statistics are taken over, all or those of the body only
    unit: str | None = "a.u."  # unit of the values, such as HU
    channels: int = Field(1, ge=1)  # number of channels, 3 for colour images

    def role(
        self,
        name: str,
        *,
        to: tuple[float, float] = (-1.0, 1.0),
        clip: bool = False,
        limited: bool = False,
        optional: bool = False,
        modality: str | None = None,
    ) -> ImageRole:
        """Return an image role with these options.

        Args:
            name: name of the role, which the user chose.
            to: range of the networks.
            clip: whether values outside of the window are clipped.
            limited: whether the outputs of the networks are limited to the range, as by a tanh; a z-score is then
                replaced by a window around the mean.
            optional: whether a case may lack this role.
            modality: DICOM code that a file must have if it states its modality.
        """
        return ImageRole(
            name,
            self.codec(to, clip=clip, limited=limited),
            width=self.channels,
            modality=modality,
            option=f"--{name.replace('_', '-')}.window",
            widened_by=f"--{name.replace('_', '-')}.channels",
            optional=optional,
        )

    def codec(self, to: tuple[float, float] = (-1.0, 1.0), *, clip: bool = False, limited: bool = False) -> Codec:
        """Return the codec from physical values to the range ``to`` of the networks; see `role` for the arguments."""
        if self.fixed is not None:
            return Window(low=self.fixed[0], high=self.fixed[1], to=to, clip=clip, unit=self.unit)
        if self.scale == "zscore" and limited:
            return DeviationWindow(deviations=self.deviations, to=to, clip=clip, unit=self.unit, over=self.over)
        if self.scale == "zscore":
            return ZScore(unit=self.unit, over=self.over)
        low, high = self.percentiles
        return PercentileWindow(
            p_low=low, p_high=high, low_over="all", to=to, clip=clip, unit=self.unit, over=self.over
        )

    @property
    def fixed(self) -> tuple[float, float] | None:
        """Window that is the same in all images; None where each image has a scale of its own."""
        if self.scale not in (None, "window"):
            return None
        return self.window or USUAL_WINDOWS.get(self.unit or "")

    @property
    def air(self) -> float:
        """Value of the air around the body, with which images are padded."""
        if self.fixed is not None:
            return self.fixed[0]
        return AIR_HU if self.unit == "HU" else 0.0

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name, ends in (("window", self.window), ("percentiles", self.percentiles)):
            if ends is not None and not ends[0] < ends[1]:
                raise ValueError(f"{name} goes from a lower to a higher number, not from {ends[0]:g} to {ends[1]:g}")
        if self.scale == "window" and self.fixed is None:
            raise ValueError("the scale is a window, but none is given: give its lower and its higher end as window")
        return self


def check_window(image: Image, codec: Window, option: str = "--window") -> None:
    """Refuse an image without a unit whose range of values does not fit the window.

    Args:
        image: image, whose middle slice is checked.
        codec: window of the role.
        option: option that sets the window, for the message.

    Raises:
        UserError: the values reach far beyond the window, do not leave its lowest fifth, or cover less than 2 % of it.
            Pictures of 8 bits whose window is that of 8 bits may be as dark as they are.
    """
    values = image.slab(image.shape[0] // 2, image.shape[0] // 2 + 1)
    low, high, width = float(values.min()), float(values.max()), codec.high - codec.low
    # A constant slice may be an empty one of a volume; dark pictures of 8 bits in a window of 8 bits are as they are.
    faint = low < high and (high - low < width / 50 or high < codec.low + FILLED * width)
    if faint and image.dtype == np.uint8 and (codec.low, codec.high) == (0, 255):
        faint = False
    if low < codec.low - width or high > codec.high + width or faint:
        raise UserError(
            f"{image.header.label}: values from {low:g} to {high:g}, but {option} is {codec.low:g} {codec.high:g}; "
            f"train with {option} {low:g} {high:g}, or with a range that fits all images"
        )
