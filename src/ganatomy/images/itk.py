"""Reader and writer of MetaImage (.mha, .mhd) and NRRD (.nrrd, .nhdr) files, through SimpleITK."""

from __future__ import annotations

import re
import shutil
import zlib
from collections.abc import Mapping
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganatomy.errors import UserError
from ganatomy.images.image import LPS_TO_RAS, Header, Image
from ganatomy.images.parsing import check_size, fault, parsing
from ganatomy.images.paths import neighbour, replacing
from ganatomy.images.pixel_size import MM

SUFFIXES = (".mha", ".mhd", ".nrrd", ".nhdr")
WRITTEN = {"mha": ".mha", "nrrd": ".nrrd"}
"""Format to the suffix of its files with header and voxels in one, which alone are written."""
LONGEST = 1 << 20
"""Most bytes of a header of text."""
_BEGINNING = re.compile(
    rb"\A(?:ObjectType.*?\n[ \t]*ElementDataFile[ \t]*=[^\n]*(?:\n|\Z)|NRRD00.*?(?:\n\r?\n|\Z))", re.DOTALL
)
"""Header of either format, up to the voxels."""
_SKIPPING = ("HeaderSize", "byte skip", "byteskip", "line skip", "lineskip")
"""Entries that place the voxels behind the beginning of their file."""


def files_of(path: Path) -> tuple[Path, ...]:
    """Return the files of an image: the header, and the file of its voxels where that is another one.

    Raises:
        UserError: the header is damaged, or its voxels do not lie in one file beside it.
    """
    return _files(path, _header(path)[0])


def read_itk(path: Path) -> Image:
    """Read a MetaImage or NRRD file; numbers per voxel and time frames become channels.

    A unit written by `write_itk` is understood, and distances in other units than mm are converted.

    Raises:
        UserError: the file is damaged, lies in several parts, holds no image of two or three axes, or its affine is
            singular.
    """
    header, begin = _header(path)
    files = _files(path, header)
    with parsing(path, "MetaImage or NRRD"):
        itk = _read(path, header, files[-1], begin if len(files) == 1 else 0)
        array = np.asarray(sitk().GetArrayFromImage(itk))
    return as_image(array, itk, header.get("unit"), Header(kind="itk", paths=files), _mm(path, header))


def as_image(array: NDArray[Any], itk: Any, unit: str | None, header: Header | None = None, mm: float = 1.0) -> Image:
    """Return an image of SimpleITK as an image; numbers per voxel and time frames become channels.

    Args:
        array: its array, axes from the slowest, and the numbers of a voxel.
        itk: image of SimpleITK, which knows the geometry.
        unit: unit of the values.
        header: origin of the image.
        mm: unit of its distances in mm.

    Raises:
        UserError: the image has several volumes of several channels, or its affine is singular.
    """
    header = header or Header()
    dims, width = itk.GetDimension(), itk.GetNumberOfComponentsPerPixel()
    directions = np.reshape(itk.GetDirection(), (dims, dims)) * itk.GetSpacing()
    origin = itk.GetOrigin()
    if dims == 4 and width > 1 and len(array) > 1:
        raise UserError(
            f"{header.label} holds {len(array)} volumes of {width} channels: save each of them as a file of its own"
        )
    within = min(dims, 3)
    affine = np.eye(4)
    affine[:within, :within] = directions[:within, :within] * mm
    affine[:within, 3] = np.array(origin[:within]) * mm
    affine[:3] = LPS_TO_RAS @ affine[:3]
    # Axes from the slowest: time, slice, row, column, and the numbers of a voxel.
    shape = (*(1,) * (4 - dims), *array.shape[:dims], width)
    voxels = np.moveaxis(array.reshape(shape), -1, 1).reshape(-1, *shape[1:4])
    colours = width in (3, 4) and array.dtype == np.uint8
    return Image(voxels, affine[:, [2, 1, 0, 3]], unit, replace(header, colours=colours))


def _header(path: Path) -> tuple[dict[str, str], int]:
    """Return the entries of the header, which is text in both formats, and the number of its bytes."""
    if problem := fault(path):
        raise UserError(problem)
    with parsing(path, "MetaImage or NRRD"):
        with path.open("rb") as stream:
            found = _BEGINNING.match(stream.read(LONGEST))
        if not found:
            raise ValueError("it does not begin with a header")
        lines = [line for line in found[0].decode("latin-1").splitlines() if not line.startswith("#")]
        pairs = [re.split(r"\s*(?::=|=|:)\s*", line, maxsplit=1) for line in lines]
        return {pair[0].strip(): pair[1].strip() for pair in pairs if len(pair) == 2}, found.end()


def _files(path: Path, header: Mapping[str, str]) -> tuple[Path, ...]:
    named = header.get("ElementDataFile") or header.get("data file") or header.get("datafile") or "LOCAL"
    if named.upper() == "LOCAL":
        return (path,)
    # A name with a folder would lead anywhere on the disk, and patterns and lists are series of files.
    if Path(named).name != named or re.search(r"[/\\%]|^LIST|\s\d+\s+\d+", named):
        raise UserError(
            f"{path}: its voxels lie in {named!r} and not in one file beside it: save the image as .mha or .nrrd"
        )
    data = path.with_name(named)
    if problem := fault(data):
        raise UserError(f"{path}: the file of its voxels cannot be read: {problem}")
    return path, data


def _mm(path: Path, header: Mapping[str, str]) -> float:
    """Return the unit of distances of a header in mm."""
    text = header.get("space units") or header.get("DistanceUnits") or "mm"
    units = set(re.findall(r'"([^"]*)"', text)) or {text}
    if len(units) == 1 and (unit := units.pop().strip()) in ("", "?", *MM):
        return MM.get(unit, 1.0)
    raise UserError(f"{path}: its distances are in {text}, which are no units of length: save it in mm")


def _read(path: Path, header: Mapping[str, str], data: Path, begin: int) -> Any:
    """Read a file with the reader of its format alone, after a look at what it declares and holds.

    Args:
        path: file of the header.
        header: entries of the header.
        data: file of the voxels.
        begin: byte of it at which they begin.
    """
    itk = sitk()
    reader = itk.ImageFileReader()
    reader.SetImageIO("NrrdImageIO" if "type" in header else "MetaImageIO")
    reader.SetFileName(_name(path))
    try:
        reader.ReadImageInformation()
        size, kind, width = reader.GetSize(), reader.GetPixelID(), reader.GetNumberOfComponents()
        if "complex" in (name := itk.GetPixelIDValueAsString(kind)):
            raise UserError(f"{path} holds {name} values; an image has real numbers")
        if not 2 <= len(size) <= 4:
            raise ValueError(f"it has {len(size)} axes")
        one = itk.Image([1] * len(size), kind, width)
        _check(path, header, data, begin, prod(size) * width * one.GetSizeOfPixelComponent())
        return reader.Execute()
    except RuntimeError as error:
        raise ValueError(_last_line(error)) from error


def _check(path: Path, header: Mapping[str, str], data: Path, begin: int, declared: int) -> None:
    """Refuse voxels that are not all there, or are damaged where they are compressed, which ITK does not notice.

    Raises:
        UserError: there are fewer or more bytes than declared, or their checksum is wrong.
    """
    encoding = header.get("encoding", "raw").lower()
    packed = "zlib" if header.get("CompressedData", "").lower() in ("true", "1") else encoding
    check_size(data, declared, data.stat().st_size - begin, compressed=packed != "raw")
    if any(header.get(name, "0") != "0" for name in _SKIPPING):
        if packed != "raw":
            raise UserError(f"{path}: its compressed voxels lie behind other things: save the image as .mha or .nrrd")
        return
    found = data.stat().st_size - begin
    if packed in ("zlib", "gzip", "gz"):
        # 47 accepts the headers of zlib and of gzip.
        engine, found = zlib.decompressobj(47), 0
        with data.open("rb") as stream:
            stream.seek(begin)
            while not engine.eof and found <= declared and (piece := stream.read(1 << 16)):
                found += len(engine.decompress(piece))
        if not engine.eof and found <= declared:
            raise UserError(f"{path} is truncated or damaged: copy or export it again")
    elif packed != "raw":
        return
    if found != declared:
        raise UserError(f"{path} holds {found} bytes of voxels, but its header states {declared}: convert it again")


def _name(path: Path) -> str:
    """Return a path as ITK takes it, which ends the process for others.

    Raises:
        UserError: the path is no UTF-8.
    """
    name = str(path)
    try:
        name.encode()
    except UnicodeEncodeError:
        raise UserError(f"{path}: its name or that of a folder is no UTF-8, which ITK needs: rename it") from None
    return name


def sitk() -> Any:
    """Return SimpleITK, which has no types, and takes so long to import that only its formats pay for it."""
    import SimpleITK

    return SimpleITK


def write_itk(path: Path, image: Image) -> None:
    """Write .mha or .nrrd, compressed, with the unit as an entry of the header; channels are numbers per voxel.

    Raises `UserError` when slices are unevenly spaced, which neither can express, or the suffix is that of a header
    whose voxels lie in another file.
    """
    if path.suffix.lower() not in WRITTEN.values():
        raise UserError(f"{path}: header and voxels are written as one file: choose .mha or .nrrd")
    if image.uneven:
        raise UserError(
            f"{image.header.label} has unevenly spaced slices, which {path.suffix} cannot express: write a DICOM "
            "folder instead"
        )
    itk = as_sitk(image)
    writer = sitk().ImageFileWriter()
    writer.SetImageIO("NrrdImageIO" if path.suffix.lower() == ".nrrd" else "MetaImageIO")
    writer.SetUseCompression(True)
    with replacing(path) as temporary:
        # ITK wants a name with the suffix of the format, which a temporary file has not.
        folder = neighbour(path)
        try:
            folder.mkdir()
            writer.SetFileName(_name(folder / path.name.lower()))
            writer.Execute(itk)
            (folder / path.name.lower()).replace(temporary)
        except RuntimeError as error:
            raise UserError(f"cannot write {path}: {_last_line(error)}") from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def as_sitk(image: Image) -> Any:
    """Return an image of SimpleITK in mm and LPS, with the unit as metadata; channels are numbers per voxel.

    Raises:
        UserError: the slices are unevenly spaced.
    """
    if image.uneven:
        raise UserError(f"{image.header.label} has unevenly spaced slices, which SimpleITK cannot express")
    kept = {np.dtype(np.bool_): np.uint8, np.dtype(np.float16): np.float32}
    array = image.numpy().astype(kept.get(image.dtype, image.dtype.newbyteorder("=")), copy=False)
    several = image.channels > 1
    itk = sitk().GetImageFromArray(np.moveaxis(array, 0, -1) if several else array[0], isVector=several)
    affine = LPS_TO_RAS @ image.affine[:3, [2, 1, 0, 3]]
    spacing = np.linalg.norm(affine[:, :3], axis=0)
    itk.SetSpacing(spacing.tolist())
    itk.SetDirection((affine[:, :3] / spacing).ravel().tolist())
    itk.SetOrigin(affine[:, 3].tolist())
    if image.unit:
        itk.SetMetaData("unit", image.unit)
    return itk


def _last_line(error: RuntimeError) -> str:
    """Return what went wrong; the lines before name places in the source of ITK."""
    return str(error).strip().splitlines()[-1].strip()
