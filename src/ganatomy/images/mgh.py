"""Reader and writer of FreeSurfer's MGH files (.mgz, .mgh), through nibabel."""

from __future__ import annotations

import gzip
from math import prod
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from ganatomy.errors import UserError
from ganatomy.images.image import Header, Image
from ganatomy.images.parsing import check_size, parsing
from ganatomy.images.paths import replacing

SUFFIXES = (".mgz", ".mgh")
LONGEST = 1 << 20
"""Bytes behind the voxels that are no entries any more."""
_TYPES: dict[Any, Any] = {np.bool_: np.uint8, np.int8: np.int16, np.uint16: np.int32, np.float16: np.float32}
"""Type of values to the next wider one that the format has, where it lacks their own."""

nib: Any = nibabel  # its types are incomplete


def read_mgh(path: Path) -> Image:
    """Read an MGH file; time frames become channels. The format states mm and no unit of values.

    Raises:
        UserError: the file is damaged.
    """
    compressed = path.suffix.lower() == ".mgz"
    with parsing(path, "MGH"):
        with (gzip.open if compressed else open)(path, "rb") as stream:
            header = nib.freesurfer.mghformat.MGHHeader.from_fileobj(stream)
            sizes = [int(size) for size in header["dims"]]
            if min(sizes) < 1 or int(header["version"]) != 1:
                raise ValueError(f"its header states {sizes} voxels")
            declared = header.get_data_offset() + prod(sizes) * header.get_data_dtype().itemsize
            check_size(path, declared, compressed=compressed)
            stream.seek(header.get_data_offset())
            stored = np.frombuffer(stream.read(declared), header.get_data_dtype(), prod(sizes))
            # At the end of a compressed file, behind a few entries, its checksum is compared.
            if len(stream.read(LONGEST)) == LONGEST:
                raise ValueError(f"it holds more than the {sizes} voxels of its header")
        affine = np.asarray(header.get_affine(), np.float64)
    # The first axis, of columns, is the fastest.
    voxels = stored.reshape(sizes[::-1]).astype(stored.dtype.newbyteorder("="))
    return Image(voxels, affine[:, [2, 1, 0, 3]], None, Header(kind="mgh", paths=(path,)))


def write_mgh(path: Path, image: Image) -> None:
    """Write .mgz or .mgh; channels become time frames, and the unit of values is lost.

    Raises `UserError` for what the format cannot express: unevenly spaced slices, shear, and integers or real numbers
    of more than 32 bits.
    """
    array = image.numpy()
    array = array.astype(_TYPES.get(array.dtype.type, array.dtype), copy=False)
    affine = image.affine[:, [2, 1, 0, 3]]
    try:
        made = nib.freesurfer.mghformat.MGHImage(array.T if image.channels > 1 else array[0].T, affine)
    except nib.freesurfer.mghformat.MGHError as error:
        raise UserError(f"{path}: MGH holds no {array.dtype} values: choose .nii.gz") from error
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    if image.uneven or not np.allclose(directions.T @ directions, np.eye(3), atol=1e-4):
        raise UserError(f"{path}: MGH cannot express unevenly spaced or sheared slices: choose another format")
    with replacing(path) as temporary, temporary.open("wb") as stream:
        if path.suffix.lower() == ".mgz":
            with gzip.GzipFile("", "wb", 1, stream, mtime=0) as packed:
                made.to_file_map({"image": nib.FileHolder(fileobj=packed)})
        else:
            made.to_file_map({"image": nib.FileHolder(fileobj=stream)})
