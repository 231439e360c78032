"""Readers of raw MR data: NumPy files, fastMRI's HDF5 files, and Cartesian ISMRMRD files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from math import prod
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from ganatomy.errors import Shortage, UserError
from ganatomy.images.image import ComputedArray, Header, Image, axial_affine
from ganatomy.images.npy import open_npy, open_npz
from ganatomy.images.parsing import check_size, exists, parsing

Array = NDArray[np.complex64]
Mask = NDArray[np.bool_]
Shape = tuple[int, int, int, int]

SUFFIXES = (".npy", ".npz", ".h5", ".hdf5", ".mrd")

NOT_IMAGING = (19, 20, 23, 24, 26, 27, 28, 29, 30, 31)
"""Flags of ISMRMRD acquisitions that measure no image: noise, calibration, navigators, dummies and the like (Inati et
al., Magn. Reson. Med. 77(1), 2017, doi 10.1002/mrm.26089)."""

REVERSED = 22
"""Flag of an acquisition whose readout is reversed."""


@dataclass(frozen=True, eq=False)
class KSpace:
    """Measured samples of one scan, read slice by slice; the zero frequency is at index n // 2 of both axes.

    Attributes:
        path: File that the data were read from.
        shape: (slices, coils, rows, columns); where the file says so, rows lie along the readout.
        spacing: (slice, row, column) in mm of the image of this k-space; None when the file states none.
        field: Rows and columns in the middle of that image that the scanner shows, without the borders that an
            oversampled readout adds; None when the file states none.
        mask: Mask of measured samples, bool (rows, columns); None when the file has none, see `sampled`.
    """

    path: Path
    shape: Shape
    fetch: Callable[[int, int], NDArray[Any]]
    spacing: tuple[float, float, float] | None = None
    field: tuple[int, int] | None = None
    mask: Mask | None = None

    def slab(self, start: int, stop: int) -> Array:
        """Return slices `start` to `stop`, complex64 (stop - start, coils, rows, columns), zero where not measured.

        Raises:
            UserError: The file is damaged.
        """
        with parsing(self.path, "raw data"):
            values = self.fetch(start, stop)
        if not np.isfinite(values).all():
            raise UserError(f"{self.path} has values that are not finite in slices {start} to {stop - 1}")
        return np.array(values, np.complex64)

    def numpy(self) -> Array:
        """Return all slices."""
        return self.slab(0, self.shape[0])

    def sampled(self, start: int, stop: int) -> Mask:
        """Return the mask of measured samples, bool (stop - start, rows, columns): the file's, else those not 0."""
        if self.mask is not None:
            return np.repeat(self.mask[None], stop - start, 0)
        return np.asarray((self.slab(start, stop) != 0).any(1))


def read_kspace(path: Path | str, *, centred: bool = True) -> KSpace:
    """Open a file of raw data without reading the slices. HDF5 needs the package h5py.

    - ``.npy``: complex (rows, columns), (coils, rows, columns) or (slices, coils, rows, columns); or real numbers with
      real and imaginary part in a last axis of 2.
    - ``.npz``: such an array as ``kspace``, or as its only array; optionally ``mask``, (columns) or (rows, columns).
    - ``.h5`` with ``kspace``, as fastMRI's: (slices, rows, columns) of one coil or (slices, coils, rows, columns);
      optionally ``mask`` and ``ismrmrd_header``.
    - ``.h5`` or ``.mrd`` with ``dataset/data``: ISMRMRD, Cartesian in two dimensions. Averages are averaged; of several
      contrasts, phases, sets and repetitions the first is read.

    Args:
        path: File.
        centred: Whether the file has its zero frequency in the middle, and not at index 0.

    Raises:
        UserError: The file cannot be read, or its zero frequency is elsewhere.
    """
    path = Path(path)
    if not exists(path):
        raise UserError(f"{path} does not exist: check the spelling and the folder you are in")
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"{path} is no raw data: give one of {', '.join(SUFFIXES)}")
    with parsing(path, "raw data"):
        kspace = _read_numpy(path) if path.suffix.lower() in (".npy", ".npz") else _read_hdf5(path)
    if not centred:
        kspace = replace(kspace, fetch=partial(_centred, kspace.fetch), mask=_centred_mask(kspace.mask))
    _check_centre(kspace)
    return kspace


def open_kspace(path: Path) -> Image:
    """Return raw data as an image of kind ``kspace``, read slice by slice: real and imaginary part coil by coil.

    Samples outside of the file's mask are 0. Where the readout is oversampled, and lines are measured whole, k-space is
    cropped to that of the rows which the scanner shows.

    Raises:
        UserError: as `read_kspace`.
    """
    kspace = read_kspace(path)
    slices, coils, rows, columns = kspace.shape
    mask = True if kspace.mask is None else kspace.mask
    lines = bool((kspace.sampled(0, 1)[0].any(0) == kspace.sampled(0, 1)[0].all(0)).all())
    shown = kspace.field[0] if kspace.field and lines else rows

    def slab(start: int, stop: int) -> NDArray[np.float32]:
        values = _shown_rows(kspace.slab(start, stop) * mask, shown)
        parts = np.stack([values.real, values.imag], axis=2).astype(np.float32)
        return parts.reshape(stop - start, 2 * coils, shown, columns).swapaxes(0, 1)

    array = ComputedArray((2 * coils, slices, shown, columns), np.float32, slab)
    header = Header(kind="kspace", paths=(path,), modality="MR")
    return Image(array, axial_affine(kspace.spacing or (1.0, 1.0, 1.0)), "a.u.", header)


def is_complex(path: Path) -> bool:
    """Return whether a ``.npy`` file holds complex numbers, which only raw data do."""
    try:
        return bool(open_npy(path).dtype.kind == "c")
    except Shortage:
        raise
    except UserError:
        return False


def shared_samples(extent: int, wanted: int) -> tuple[slice, slice]:
    """Return the samples of equal frequency on two axes of k-space, whose zero frequency is at index n // 2.

    Args:
        extent: Number of samples of the first axis.
        wanted: Number of samples of the second axis.

    Returns:
        The samples of the first axis and those of the second, as slices of equal length: all of the shorter axis.
    """
    first, length = extent // 2 - wanted // 2, min(extent, wanted)
    start = max(first, 0)
    return slice(start, start + length), slice(start - first, start - first + length)


def moved_samples(kspace: NDArray[Any], rows: int, columns: int) -> NDArray[Any]:
    """Return k-space (..., rows, columns) of another size: zeros are added around it, or its outermost samples removed.

    The field of view and the frequency of every sample stay. Samples are multiplied by the root of the ratio of both
    numbers of samples, so that the values of the image stay, too.
    """
    old = kspace.shape[-2:]
    if old == (rows, columns):
        return kspace
    from_rows, to_rows = shared_samples(old[0], rows)
    from_columns, to_columns = shared_samples(old[1], columns)
    moved = np.zeros((*kspace.shape[:-2], rows, columns), kspace.dtype)
    gain = kspace.dtype.type((rows * columns / prod(old)) ** 0.5)
    moved[..., to_rows, to_columns] = kspace[..., from_rows, from_columns] * gain
    return moved


def _shown_rows(kspace: Array, rows: int) -> Array:
    """Return the k-space of the rows in the middle of the image, with an unchanged level of noise."""
    extent = kspace.shape[2]
    if rows >= extent:
        return kspace
    start = extent // 2 - rows // 2
    image = np.fft.fftshift(np.fft.ifft(np.fft.ifftshift(kspace, 2), axis=2, norm="ortho"), 2)
    cut = np.fft.ifftshift(image[:, :, start : start + rows], 2)
    return np.asarray(np.fft.fftshift(np.fft.fft(cut, axis=2, norm="ortho"), 2), np.complex64)


def _read_numpy(path: Path) -> KSpace:
    mask = None
    if path.suffix.lower() == ".npy":
        array = open_npy(path)
    else:
        with open_npz(path) as arrays:
            names = [name for name in arrays.files if name != "mask"]
            if "kspace" not in names and len(names) != 1:
                raise UserError(f"{path} holds {', '.join(names) or 'nothing'}: call the one to be read kspace")
            name = "kspace" if "kspace" in names else names[0]
            array = arrays[name]
            mask = arrays["mask"] if "mask" in arrays.files else None
    values = _complex(path, array)
    values = values.reshape((1,) * (4 - values.ndim) + values.shape)
    return KSpace(path, _shape(values), lambda a, b: values[a:b], mask=_plane(path, mask, values.shape))


def _read_hdf5(path: Path) -> KSpace:
    with _open(path) as file:
        # Names are listed and not looked up, which would follow links to other files.
        names = list(file)
        if "kspace" in names:
            return _fastmri(path, file)
        if "dataset" in names:
            return _ismrmrd(path, file)
        raise UserError(f"{path} holds {', '.join(names) or 'nothing'}: it needs kspace, or dataset/data of ISMRMRD")


def _open(path: Path) -> Any:
    try:
        return import_module("h5py").File(path, "r")
    except ImportError as error:
        raise UserError(f"{path}: HDF5 files need h5py: install it with pip install h5py") from error


def _stored(path: Path, file: Any, name: str) -> Any:
    """Return a data set of an HDF5 file whose data lie in this file.

    Raises:
        UserError: they lie in another file, of which nobody knows that it is read, or are more than the file can hold.
    """
    h5py, parts = import_module("h5py"), name.split("/")
    for depth in range(len(parts)):
        link = file.id.links.get_info("/".join(parts[: depth + 1]).encode())
        if link.type != h5py.h5l.TYPE_HARD:
            raise UserError(f"{path}: {name} is a link to other data: save the data themselves")
    stored = file[name]
    if stored.is_virtual or stored.external:
        raise UserError(f"{path}: the data of {name} lie in other files: save them in this one")
    size, itemsize = stored.id.get_storage_size(), stored.dtype.itemsize
    check_size(path, stored.size * itemsize, size, compressed=stored.chunks is not None)
    check_size(path, prod(stored.chunks or (0,)) * itemsize, size, compressed=True)
    return stored


def _fastmri(path: Path, file: Any) -> KSpace:
    stored = _stored(path, file, "kspace")
    first = _complex(path, stored[:1])
    if first.ndim not in (3, 4):
        raise UserError(f"{path}: kspace has shape {stored.shape}: it needs (slices, [coils,] rows, columns)")
    one_coil = first.ndim == 3
    shape = (len(stored), *((1,) if one_coil else ()), *first.shape[1:])

    def fetch(start: int, stop: int) -> NDArray[Any]:
        with _open(path) as again:
            values = _complex(path, _stored(path, again, "kspace")[start:stop])
        return values[:, None] if one_coil else values

    mask = _plane(path, _stored(path, file, "mask")[()] if "mask" in list(file) else None, shape)
    header = _Header.parse(_stored(path, file, "ismrmrd_header")[()]) if "ismrmrd_header" in list(file) else None
    if header is None:
        return KSpace(path, shape, fetch, mask=mask)
    return KSpace(path, shape, fetch, header.spacing, header.field, mask)


def _ismrmrd(path: Path, file: Any) -> KSpace:
    header = _Header.parse(_stored(path, file, "dataset/xml")[0])
    heads = _stored(path, file, "dataset/data")["head"]
    index = heads["idx"]
    if header.trajectory != "cartesian" or index["kspace_encode_step_2"].any():
        raise UserError(
            f"{path} is a {header.trajectory} scan of {index['kspace_encode_step_2'].max() + 1} partitions: only "
            "Cartesian scans in two dimensions are read; transform it first and save it as .npy"
        )
    unwanted = sum(np.uint64(1) << np.uint64(flag - 1) for flag in NOT_IMAGING)
    imaging = (heads["flags"] & unwanted) == 0
    for loop in ("contrast", "phase", "set", "repetition"):
        imaging &= index[loop] == 0
    if not imaging.any():
        raise UserError(f"{path} holds no measurement of an image")
    heads, rows = heads[imaging], np.flatnonzero(imaging)
    number = np.unique(heads["idx"]["slice"])
    coils = int(heads["active_channels"].max())
    shape = (len(number), coils, *header.matrix)
    # Lines that are not measured are not stored.
    check_size(path, prod(shape) * np.dtype(np.complex64).itemsize, compressed=True)

    def fetch(start: int, stop: int) -> NDArray[Any]:
        with _open(path) as again:
            acquisitions = _stored(path, again, "dataset/data")
            slabs = []
            for wanted in number[start:stop]:
                here = heads["idx"]["slice"] == wanted
                slabs.append(_filled(header, coils, heads[here], acquisitions[rows[here]]["data"]))
        return np.stack(slabs)

    return KSpace(path, shape, fetch, header.spacing, header.field)


def _filled(header: _Header, coils: int, heads: NDArray[Any], lines: NDArray[Any]) -> Array:
    """Assemble one slice, (coils, rows, columns), from its acquisitions; those of equal columns are averaged."""
    rows, columns = header.matrix
    plane = np.zeros((coils, rows, columns), np.complex64)
    count = np.zeros((rows, columns), np.float32)
    for head, data in zip(heads, lines, strict=True):
        line = data.view(np.complex64).reshape(coils, int(head["number_of_samples"]))
        line = line[:, int(head["discard_pre"]) : line.shape[1] - int(head["discard_post"])]
        first = rows // 2 - int(head["center_sample"]) + int(head["discard_pre"])
        if int(head["flags"]) >> (REVERSED - 1) & 1:
            line = line[:, ::-1]
        column = int(head["idx"]["kspace_encode_step_1"]) + columns // 2 - header.centre
        span = slice(first, first + line.shape[1])
        if first < 0 or span.stop > rows or not 0 <= column < columns:
            raise ValueError(f"a line {column} of samples {first} to {span.stop - 1} lies outside {rows}x{columns}")
        plane[:, span, column] += line
        count[span, column] += 1
    return np.asarray(plane / np.maximum(count, 1), np.complex64)


@dataclass(frozen=True)
class _Header:
    """Fields of ISMRMRD's XML header for the first encoding; rows lie along the readout (x), columns along y."""

    matrix: tuple[int, int]
    spacing: tuple[float, float, float]
    field: tuple[int, int]
    centre: int
    trajectory: str

    @classmethod
    def parse(cls, text: bytes | str) -> _Header:
        root = ElementTree.fromstring(text)

        def find(path: str, default: str | None = None) -> str:
            found = root.findtext("/".join(f"{{*}}{name}" for name in path.split("/")), default)
            if found is None:
                raise ValueError(f"its header has no {path}")
            return found

        x, y = (int(find(f"encoding/encodedSpace/matrixSize/{axis}")) for axis in "xy")
        width, height, depth = (float(find(f"encoding/encodedSpace/fieldOfView_mm/{axis}")) for axis in "xyz")
        shown = tuple(int(find(f"encoding/reconSpace/matrixSize/{axis}")) for axis in "xy")
        thickness = depth / int(find("encoding/encodedSpace/matrixSize/z", "1"))
        centre = int(find("encoding/encodingLimits/kspace_encoding_step_1/center", str(y // 2)))
        trajectory = find("encoding/trajectory", "cartesian")
        if min(x, y, *shown) < 1:
            raise ValueError(f"its header has a matrix of {x}x{y}, of which {shown[0]}x{shown[1]} are shown")
        return cls((x, y), (thickness, width / x, height / y), (shown[0], shown[1]), centre, trajectory)


def _complex(path: Path, array: NDArray[Any]) -> NDArray[Any]:
    """Return complex numbers unchanged, or made from a last axis of real and imaginary parts."""
    if array.dtype.kind == "f" and array.ndim > 2 and array.shape[-1] == 2:
        array = array[..., 0] + 1j * array[..., 1]
    if array.dtype.kind != "c" or not 2 <= array.ndim <= 4 or 0 in array.shape:
        raise UserError(
            f"{path} has shape {array.shape} and type {array.dtype}; raw data are complex, with 2 to 4 axes "
            "([slices,] [coils,] rows, columns)"
        )
    return array


def _shape(array: NDArray[Any]) -> Shape:
    slices, coils, rows, columns = array.shape
    return slices, coils, rows, columns


def _plane(path: Path, mask: NDArray[Any] | None, shape: tuple[int, ...]) -> Mask | None:
    """Return a mask of columns or of single samples as bool (rows, columns)."""
    if mask is None:
        return None
    if mask.shape not in (shape[-1:], shape[-2:]):
        raise UserError(f"{path}: its mask has shape {mask.shape}, but its k-space {shape}")
    return np.broadcast_to(mask.astype(np.bool_), shape[-2:])


def _centred(fetch: Callable[[int, int], NDArray[Any]], start: int, stop: int) -> NDArray[Any]:
    return np.fft.fftshift(fetch(start, stop), (-2, -1))


def _centred_mask(mask: Mask | None) -> Mask | None:
    return None if mask is None else np.fft.fftshift(mask)


def _check_centre(kspace: KSpace) -> None:
    """Raise `UserError` where the greatest sample of the middle slice is closer to a corner than to the middle."""
    middle = kspace.shape[0] // 2
    energy = np.abs(kspace.slab(middle, middle + 1)).sum((0, 1))
    place = np.unravel_index(int(energy.argmax()), energy.shape)
    away = [abs(int(at) - extent // 2) / extent for at, extent in zip(place, energy.shape, strict=True)]
    if energy.any() and min(away) > 0.25:
        raise UserError(
            f"{kspace.path}: the greatest sample is at {int(place[0])}, {int(place[1])} of {energy.shape[0]}x"
            f"{energy.shape[1]}, in a corner: its zero frequency is not in the middle; read it with centred=False"
        )
