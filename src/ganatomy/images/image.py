"""The image type: an array with its geometry in the patient, its unit and the files that it was read from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import EllipsisType
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ganatomy.errors import UserError
from ganatomy.images.archives import shown

if TYPE_CHECKING:
    import torch

Shape4 = tuple[int, int, int, int]
AXES = ("channels", "slices", "rows", "columns")
"""Names of the axes of an image's array, in order."""
Kind = Literal["dicom", "nifti", "itk", "mgh", "raster", "npy", "kspace", "array"]

# DICOM counts mm towards the patient's left and back, nibabel towards the right and the front.
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


class LazyArray(ABC):
    """An array (channels, slices, rows, columns) that is computed or read slab by slab.

    `thickness` is the number of slices that are best read at once; writers follow it.
    """

    shape: Shape4
    dtype: np.dtype[Any]
    thickness: int = 1

    @abstractmethod
    def slab(self, start: int, stop: int) -> NDArray[Any]:
        """Return slices `start` to `stop` as (channels, stop - start, rows, columns), in native precision."""

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("a lazy array can only be copied into memory")
        return np.asarray(self.slab(0, self.shape[1]), dtype=dtype)


class ComputedArray(LazyArray):
    """A lazy array whose slabs come from a function, such as a network applied to another image."""

    def __init__(
        self,
        shape: Shape4,
        dtype: DTypeLike,
        function: Callable[[int, int], NDArray[Any]],
        thickness: int = 1,
    ) -> None:
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self.thickness = thickness
        self._function = function

    def slab(self, start: int, stop: int) -> NDArray[Any]:
        """Return slices from the function, cast to the dtype; raise `ValueError` where their shape is wrong."""
        slab = np.asarray(self._function(start, stop))
        channels, _, rows, columns = self.shape
        if slab.shape != (channels, stop - start, rows, columns):
            raise ValueError(f"slab {start}:{stop} has shape {slab.shape} in an array of shape {self.shape}")
        return slab.astype(self.dtype, copy=False)


@dataclass(frozen=True)
class RasterMeaning:
    """Statements of the user on numbers in files that state less: physical values are slope * stored + intercept.

    Slope, intercept, pixel size and background apply to raster images, unit and NaN to all files without a unit of
    their own, such as NIfTI.

    Attributes:
        slope: Physical units per stored step; not 0.
        intercept: Physical value of a stored 0, e.g. -1024 for CT saved as HU + 1024.
        unit: Name of the physical unit, or None when unknown.
        pixel_mm: Edge of a pixel in mm, or None when unknown (geometry then counts pixels).
        background: Stored number of the colour or grey over which transparent pictures are laid, or None where they
            keep their opacity as a channel.
        nan: Physical value that takes the place of NaN, or None where NaN stays.
        level: Level of whole slides that is read, 0 for the finest; None means 0.
        mpp: Size in micrometres of the pixels that are made of whole slides; None means those of the level.
    """

    slope: float = 1.0
    intercept: float = 0.0
    unit: str | None = None
    pixel_mm: float | None = None
    background: float | None = None
    nan: float | None = None
    level: int | None = None
    mpp: float | None = None

    def __repr__(self) -> str:
        # Digests of cases depend on it, so what is said of whole slides counts for these alone.
        names = ["slope", "intercept", "unit", "pixel_mm", "background", "nan"]
        names += [name for name in ("level", "mpp") if getattr(self, name) is not None]
        return f"RasterMeaning({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    def __post_init__(self) -> None:
        if self.slope == 0 or not np.isfinite((self.slope, self.intercept)).all():
            raise UserError(
                f"the slope of a raster image must not be 0, and slope and intercept are finite numbers, not "
                f"{self.slope} and {self.intercept}"
            )
        if self.pixel_mm is not None and not 0 < self.pixel_mm < np.inf:
            raise UserError(f"the pixel size of a raster image must be positive, not {self.pixel_mm} mm")
        for name, value in (("background of transparent pictures", self.background), ("value for NaN", self.nan)):
            if value is not None and not np.isfinite(value):
                raise UserError(f"the {name} must be a finite number, not {value}")
        if self.level is not None and self.level < 0:
            raise UserError(f"--level {self.level}: levels of whole slides are counted from 0")
        if self.mpp is not None and not 0 < self.mpp < np.inf:
            raise UserError(f"--mpp {self.mpp}: the size of pixels in micrometres must be positive")
        if self.level is not None and self.mpp is not None:
            raise UserError("--level and --mpp both say which pixels of a whole slide are read; give one of them")

    @property
    def scales(self) -> bool:
        """Whether physical values differ from stored numbers."""
        return (self.slope, self.intercept) != (1.0, 0.0)

    @property
    def geometry(self) -> RasterMeaning:
        """The pixels without what their numbers mean, for numbers that are written as they are, such as labels."""
        return RasterMeaning(pixel_mm=self.pixel_mm, level=self.level, mpp=self.mpp)


NO_MEANING = RasterMeaning()


@dataclass(frozen=True, eq=False)
class Header:
    """Origin of an image, and the data that are needed to write it in the format of its source.

    Attributes:
        kind: Format that the image was read from; "array" when it was made in memory.
        paths: Its files; for DICOM the file of each slice, in slice order.
        modality: DICOM's code ("CT", "MR", ...), or None when the file states none.
        subject: PatientID when there is one.
        padding: Value that DICOM declares to lie outside the scanned region, in the image's unit. It stays in the array
            (CT has -2000 and lower there): code that needs plausible HU clamps to -1024.
        positions: For DICOM, the position (mm, RAS+) of the first pixel in each file, (files, 3).
        frame_numbers: For DICOM files of several frames, the number of each slice's frame in its file, from 1.
        meaning: For raster images, the conversion of stored numbers to values, which writing inverts.
        stored: For raster images, the type of the numbers in the file.
        forms: For NIfTI, the file's qform and sform, each a matrix (or None) and its code.
        frame_of_reference: DICOM's FrameOfReferenceUID: images that share it share their coordinates.
        inverted: Whether DICOM shows low values bright (MONOCHROME1), as in radiographs; the array holds the values as
            they are in either case.
        volume: Words that tell the volume from others of the same series at the same positions, such as "echo 2"; None
            where there is one volume.
        colours: Whether the channels are red, green and blue, and opacity if there are four; grey and opacity if two.
        unspaced: Whether DICOM files state no distance of pixels, so that each counts as 1 mm.
        sized_by: For raster images, the entry of the file that gave the pixel size, where the user gave none.
    """

    kind: Kind = "array"
    paths: tuple[Path, ...] = ()
    modality: str | None = None
    subject: str | None = None
    padding: float | None = None
    positions: NDArray[np.float64] | None = None
    frame_numbers: tuple[int, ...] = ()
    meaning: RasterMeaning = NO_MEANING
    stored: np.dtype[Any] | None = None
    forms: tuple[tuple[NDArray[np.float64] | None, int], ...] = ()
    frame_of_reference: str | None = None
    inverted: bool = False
    volume: str | None = None
    colours: bool = False
    unspaced: bool = False
    sized_by: str | None = None

    @property
    def scaled(self) -> bool:
        """Whether the distance of pixels is known; otherwise each counts as 1 mm."""
        pictured = self.kind in ("raster", "npy")
        return self.meaning.pixel_mm is not None if pictured else not self.unspaced

    @property
    def placed(self) -> bool:
        """Whether it is known where the image lies; otherwise its origin is arbitrary."""
        if self.kind == "dicom":
            return self.positions is not None
        return self.kind not in ("raster", "npy", "kspace")

    @property
    def label(self) -> str:
        """Name of the image for messages: its file, or the folder of its series."""
        if not self.paths:
            return "the image in memory"
        first = shown(self.paths[0])
        return str(first if len(set(self.paths)) == 1 else first.parent)


@dataclass(frozen=True, eq=False)
class Image:
    """An image or volume in physical units and millimetres.

    Attributes:
        array: (channels, slices, rows, columns), in memory or lazy. A 2D image has 1 slice, a grey one 1 channel.
            Native precision: int16 HU stay int16; float32 where a rescale is not integral.
        affine: (4, 4) float64; takes array indices (slice, row, column, 1) to mm in RAS+ world space, which
            is nibabel's convention with the columns in the order of the array's axes.
        unit: "HU", "SUV", "Bq/mL", "a.u." (MR), "OD", ...; None when the file states none.
        header: Origin of the image.
        offsets: (slices, 3) mm, RAS+: difference between each slice's recorded position and that of the affine; None
            when there is no difference.

    Raises:
        UserError: The affine is singular, or a number of it or of the offsets is not finite.
    """

    array: NDArray[Any] | LazyArray
    affine: NDArray[np.float64]
    unit: str | None = None
    header: Header = field(default_factory=Header)
    offsets: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        if len(self.array.shape) != 4:
            raise ValueError(f"an image array is (channels, slices, rows, columns), not {self.array.shape}")
        if np.shape(self.affine) != (4, 4):
            raise ValueError(f"the affine of an image is (4, 4), not {np.shape(self.affine)}")
        if not (np.isfinite(self.affine).all() and np.linalg.matrix_rank(self.affine[:3, :3]) == 3):
            raise UserError(
                f"{self.header.label}: its affine places no voxels in space (it is singular or not finite); correct "
                "the distances and directions in its header, or convert the images again"
            )
        if self.offsets is not None and not np.isfinite(self.offsets).all():
            raise UserError(f"{self.header.label}: the positions of its slices are not finite; export the images again")

    @classmethod
    def from_array(
        cls,
        array: ArrayLike,
        spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
        unit: str | None = None,
        header: Header | None = None,
        axes: str | Sequence[str] | None = None,
    ) -> Image:
        """Return an image from (rows, columns), (slices, rows, columns) or (channels, slices, rows, columns).

        Its orientation is that of an axial slice: columns run to the patient's left, rows to the back, slices to the
        head.

        Args:
            array: numbers; their order is never guessed from the extents.
            spacing: (slice, row, column) in mm.
            unit: unit of the values, such as HU.
            header: origin of the image.
            axes: names of the axes where they are in another order, such as ``"columns rows slices"`` for the array of
                a nibabel image.

        Raises:
            UserError: the array has too few or too many axes, or the names do not fit them.
        """
        array = np.asanyarray(array)
        if axes is not None:
            from ganatomy.images.conversions import ordered

            array = ordered(array, axes)
        if not 2 <= array.ndim <= 4:
            raise UserError(f"an image has 2, 3 or 4 axes, not {array.ndim} (shape {array.shape})")
        array = array.reshape((1,) * (4 - array.ndim) + array.shape)
        return cls(array, axial_affine(spacing), unit, header or Header())

    @classmethod
    def of(
        cls,
        value: Any,
        spacing: Sequence[float] | None = None,
        unit: str | None = None,
        axes: str | Sequence[str] | None = None,
    ) -> Image:
        """Return an image of another library as an image.

        nibabel, SimpleITK and MONAI state where voxels lie, which is kept. Others do not: without ``spacing``, a
        `Notice` says that voxels are taken to be 1 mm apart.

        Args:
            value: a path; an array of NumPy as for `from_array`; a tensor of torch, (channels, rows, columns), (slices,
                channels, rows, columns) or (1, channels, slices, rows, columns); a tensor of MONAI with an affine; or
                an image of nibabel, SimpleITK or Pillow.
            spacing: mm between (slices,) rows and columns, for values that state none.
            unit: unit of the values, such as HU, where they state none.
            axes: names of the axes of an array, see `from_array`.

        Raises:
            UserError: the type is not known, or a value does not fit its type, or states its own spacing.
        """
        from ganatomy.images.conversions import image_of

        return image_of(value, spacing, unit, axes)

    def __repr__(self) -> str:
        from ganatomy.images.conversions import described

        return f"Image({described(self)}; {self.header.label})"

    def _repr_html_(self) -> str:
        from ganatomy.images.conversions import html

        return html(self)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        values = self.numpy()
        if copy is False and (isinstance(self.array, LazyArray) or np.dtype(dtype or values.dtype) != values.dtype):
            raise ValueError("a lazy image, or another type of its values, can only be had as a copy")
        return np.array(values, dtype) if copy else np.asarray(values, dtype)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the array."""
        return self.array.dtype

    @property
    def channels(self) -> int:
        """Number of channels."""
        return int(self.array.shape[0])

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of the grid, (slices, rows, columns)."""
        _, slices, rows, columns = self.array.shape
        return int(slices), int(rows), int(columns)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance in mm between neighbours along (slice, row, column); along the slant in a tilted stack."""
        slices, rows, columns = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(slices), float(rows), float(columns)

    @property
    def slice_positions(self) -> NDArray[np.float64]:
        """World position (mm, RAS+) of the first pixel of each slice, (slices, 3)."""
        regular = self.affine[:3, 3] + np.arange(self.shape[0])[:, None] * self.affine[:3, 0]
        return regular if self.offsets is None else regular + self.offsets

    @property
    def uneven(self) -> bool:
        """Whether the steps between slices differ."""
        return self.offsets is not None and bool(uneven_steps(self.slice_positions).any())

    def slab(self, start: int, stop: int) -> NDArray[Any]:
        """Return slices `start` to `stop` as (channels, stop - start, rows, columns), in native precision."""
        if isinstance(self.array, LazyArray):
            return self.array.slab(start, stop)
        return np.asarray(self.array[:, start:stop])

    def slabs(self, thickness: int | None = None) -> Iterator[NDArray[Any]]:
        """Yield the whole image in order, `thickness` slices at a time (default: that of a lazy array, else 1)."""
        slices = self.shape[0]
        if thickness is None:
            thickness = self.array.thickness if isinstance(self.array, LazyArray) else 1
        for start in range(0, slices, thickness):
            yield self.slab(start, min(start + thickness, slices))

    def save(self, path: Path | str) -> None:
        """Write the image by suffix: .nii, .nii.gz, .mha, .nrrd, .mgz, .png, .tif, .npy; without suffix, as DICOM.

        Label maps, whose values are integers without a unit, keep their integers.

        Raises:
            UserError: The format cannot hold the image, or the path cannot be written.
        """
        from ganatomy.images.files import write

        write(path, self)

    def numpy(self) -> NDArray[Any]:
        """Return the whole array in memory, (channels, slices, rows, columns)."""
        return self.slab(0, self.shape[0])

    def to_torch(self) -> torch.Tensor:
        """Return a tensor (slices, channels, rows, columns), which is a copy."""
        from ganatomy.images.conversions import to_torch

        return to_torch(self)

    def to_nibabel(self) -> Any:
        """Return a `nibabel.Nifti1Image` with the axes (column, row, slice[, channel]) and the affine in RAS+.

        Raises:
            UserError: the slices are unevenly spaced, which NIfTI cannot express.
        """
        from ganatomy.images.nifti import as_nibabel

        return as_nibabel(self)

    def to_sitk(self) -> Any:
        """Return an image of SimpleITK with spacing, direction and origin in LPS; channels are numbers per voxel.

        Raises:
            UserError: the slices are unevenly spaced, which SimpleITK cannot express.
        """
        from ganatomy.images.itk import as_sitk

        return as_sitk(self)

    def to_pil(self, index: int | None = None, window: tuple[float, float] | None = None) -> Any:
        """Return a slice as an 8-bit picture of Pillow, with square pixels.

        Args:
            index: number of the slice; None means the middle one.
            window: values that become black and white; None means percentiles of the slice, except for 8-bit colours.

        Raises:
            UserError: there is no such slice.
        """
        from ganatomy.images.conversions import to_pil

        return to_pil(self, index, window)

    def with_array(self, array: NDArray[Any] | LazyArray, unit: str | EllipsisType | None = ...) -> Image:
        """Return the image with another array on its grid, in its unit unless another (or None) is given.

        Raises `ValueError` when the spatial shape differs; see `with_geometry` for other grids.
        """
        if tuple(array.shape[1:]) != self.shape:
            raise ValueError(f"array of shape {array.shape} does not lie on a grid of {self.shape}")
        return replace(self, array=array, unit=self.unit if unit is ... else unit)

    def with_geometry(self, array: NDArray[Any] | LazyArray, affine: NDArray[np.float64]) -> Image:
        """Return the image with an array on another grid, after cropping or resampling.

        The slices keep their own irregular positions if their number stays the same.
        """
        kept = self.offsets if array.shape[1] == self.shape[0] else None
        return replace(self, array=array, affine=affine, offsets=kept)


def write_planes(stream: BinaryIO, image: Image, dtype: np.dtype[Any]) -> None:
    """Append the array to a binary stream, slab by slab, channel slowest (C order).

    Every slab holds all channels, so several of them need a stream that can seek.
    """
    slices, rows, columns = image.shape
    start, plane, index = stream.tell(), rows * columns * dtype.itemsize, 0
    for slab in image.slabs():
        for channel, values in enumerate(slab.astype(dtype, copy=False)):
            if image.channels > 1:
                stream.seek(start + (channel * slices + index) * plane)
            stream.write(np.ascontiguousarray(values).tobytes())
        index += slab.shape[1]


def axial_affine(spacing: tuple[float, float, float]) -> NDArray[np.float64]:
    """Return the index-to-RAS+ matrix of an axial stack at the origin; `spacing` is (slice, row, column) in mm."""
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2] = spacing[0], -spacing[1], -spacing[2]
    affine[3, 3] = 1.0
    return affine


def uneven_steps(positions: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which steps between (n, 3) slice positions in mm differ from the median step, (n - 1,).

    The tolerance is 1 % of the median step, but at least 0.01 mm, the precision to which positions are written.
    """
    steps = np.diff(positions, axis=0)
    if not len(steps):
        return np.zeros(0, dtype=bool)
    usual = np.median(steps, axis=0)
    length = float(np.linalg.norm(usual))
    apart = np.linalg.norm(steps - usual, axis=1) > max(0.01 * length, 0.01)
    return np.asarray(apart | (np.linalg.norm(steps, axis=1) < 1e-3))


@dataclass(frozen=True)
class Rescale:
    """Linear map slope * stored + intercept, whose result has the narrowest exact integer type, else float32."""

    slope: float = 1.0
    intercept: float = 0.0

    @property
    def integral(self) -> bool:
        """Whether integers are mapped to integers."""
        return float(self.slope).is_integer() and float(self.intercept).is_integer()

    def dtype(self, stored: np.dtype[Any], low: int | None = None, high: int | None = None) -> np.dtype[Any]:
        """Return the type of values whose stored type is `stored` and whose stored range is `low` to `high`."""
        if (self.slope, self.intercept) == (1.0, 0.0):
            return stored.newbyteorder("=")
        if stored.kind not in "iu" or not self.integral:
            return np.dtype(np.float64 if stored == np.float64 else np.float32)
        limits = np.iinfo(stored)
        ends = sorted(
            int(self.slope) * (given if given is not None else bound) + int(self.intercept)
            for given, bound in ((low, int(limits.min)), (high, int(limits.max)))
        )
        for candidate in (np.int16, np.int32, np.int64):
            if np.iinfo(candidate).min <= ends[0] and ends[1] <= np.iinfo(candidate).max:
                return np.dtype(candidate)
        return np.dtype(np.float64)

    def apply(self, stored: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return the values of `stored`, as `dtype`."""
        if (self.slope, self.intercept) == (1.0, 0.0):
            return stored.astype(dtype, copy=False)
        if dtype.kind in "iu":
            wide = stored.astype(np.int64) * int(self.slope) + int(self.intercept)
            return wide.astype(dtype)
        return (stored.astype(np.float64) * self.slope + self.intercept).astype(dtype)
