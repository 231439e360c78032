"""Reader of DICOM segmentations, and writer of label maps as NIfTI, palette PNG, TIFF and NumPy files."""

from __future__ import annotations

import colorsys
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow
from pydicom.dataset import Dataset

from ganatomy.errors import UserError
from ganatomy.images import itk, mgh, nifti, npy, raster
from ganatomy.images.dicom import DicomStream
from ganatomy.images.image import LPS_TO_RAS, ComputedArray, Header, Image, axial_affine
from ganatomy.images.parsing import check_size, parsing
from ganatomy.images.paths import replacing

CLOSE = 0.05
"""Largest distance between voxels of two grids, as a fraction of a voxel, at which they count as equal."""
INTEGERS = (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.uint32))
"""Types that labels are written in; the narrowest that holds them is used."""
LABEL = "label"
"""Word before the label of a segment in the descriptions of segments that Ganatomy writes."""
GOLDEN = 0.618034
"""Step of the hue from colour to colour, as a share of the circle, by which neighbouring colours differ well."""


def read_segmentation(path: Path, overlapping: bool = False) -> Image:
    """Read a DICOM segmentation as a label map, in which the label of a segment is its number.

    The map is as large as the stored frames: slices without any segment are often left out of the file, see `placed`.

    Args:
        path: file of binary segments, or of a label map.
        overlapping: whether segments may overlap; the one with the higher number then wins.

    Raises:
        UserError: the file cannot be read, its segments overlap or are fractions, or it is no volume.
    """
    from highdicom.seg import segread  # imported here, since this takes as long as all other imports

    with parsing(path, "a segmentation"):
        with DicomStream(path) as stream:
            file = segread(stream)
        grid = file.get_volume_geometry()
        # Positions far apart make a large volume of few frames.
        check_size(path, prod(grid.spatial_shape) if grid else 0, compressed=True)
    if file.segmentation_type.value == "FRACTIONAL":
        raise UserError(f"{path} holds fractions, which are no labels: export binary segments")
    header = Header(
        kind="dicom",
        paths=(path,),
        modality="SEG",
        subject=str(file.get("PatientID", "")).strip() or None,
        frame_of_reference=str(file.get("FrameOfReferenceUID", "")) or None,
    )
    if "FrameOfReferenceUID" not in file and "PlanePositionSequence" not in file.PerFrameFunctionalGroupsSequence[0]:
        return _unplaced(path, file, header)
    with parsing(path, "a volume of segments"):
        try:
            volume = file.get_volume(combine_segments=True, skip_overlap_checks=overlapping)
        except RuntimeError as error:
            if "overlap" not in str(error):
                raise
            names = ", ".join(f"{item.SegmentNumber} {item.SegmentLabel}" for item in file.SegmentSequence)
            raise UserError(
                f"{path}: its segments ({names}) overlap, which a label map cannot say: export them without overlap, "
                "or one file a segment"
            ) from error
    affine = np.array(volume.affine, np.float64)
    affine[:3] = LPS_TO_RAS @ affine[:3]
    return Image(_written_labels(file, np.asarray(volume.array))[None], affine, header=header)


def _unplaced(path: Path, file: Dataset, header: Header) -> Image:
    """Return the segments of a single image without a place in the patient, such as a radiograph."""
    with parsing(path, "segments of an image"):
        frames = file.pixel_array.reshape(-1, file.Rows, file.Columns)
        labels = np.zeros((1, *frames.shape[1:]), np.uint16)
        shared = file.SharedFunctionalGroupsSequence[0]
        for frame, own in zip(frames, file.PerFrameFunctionalGroupsSequence, strict=True):
            groups = own if "SegmentIdentificationSequence" in own else shared
            labels[0][frame > 0] = groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        measures = shared.get("PixelMeasuresSequence") or [{}]
        rows, columns = (float(step) for step in measures[0].get("PixelSpacing") or (1.0, 1.0))
    return Image(_written_labels(file, labels)[None], axial_affine((1.0, rows, columns)), header=header)


def _written_labels(file: Dataset, numbers: NDArray[Any]) -> NDArray[Any]:
    """Return the labels that segments were written for by Ganatomy; the numbers of segments of other software."""
    texts = {int(one.SegmentNumber): str(one.get("SegmentDescription", "")).split() for one in file.SegmentSequence}
    labels = {number: int(text[1]) for number, text in texts.items() if text[:1] == [LABEL] and text[1:][0].isdecimal()}
    if file.get("Manufacturer") != "Ganatomy" or labels.keys() != texts.keys():
        return numbers
    table = np.zeros(max(labels) + 1, np.min_scalar_type(max(labels.values())))
    table[list(labels)] = list(labels.values())
    return np.asarray(table[numbers])


def placed(labels: Image, grid: Image) -> Image:
    """Return a DICOM segmentation on the grid of the image that it belongs to, 0 where no frame was stored.

    Nothing is resampled: where voxels are not those of the grid, and for images that are no segmentation, the image is
    returned unchanged.

    Args:
        labels: image that may be a segmentation; it is read as a whole.
        grid: image whose shape and affine are used.
    """
    if labels.header.modality != "SEG" or (labels.shape == grid.shape and np.allclose(labels.affine, grid.affine)):
        return labels
    exact = np.linalg.inv(labels.affine) @ grid.affine
    whole = np.rint(exact)
    corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)], np.float64)
    corners[:, :3] *= np.array(grid.shape) - 1
    turned = np.abs(whole[:3, :3])
    apart = np.abs(corners @ (exact - whole).T).max()
    if apart > CLOSE or not ((turned.sum(0) == 1).all() and (turned.sum(1) == 1).all()):
        return labels
    own = turned.argmax(0)
    index = [
        (whole[axis, place] * np.arange(extent) + whole[axis, 3]).astype(int)
        for place, (axis, extent) in enumerate(zip(own, grid.shape, strict=True))
    ]
    inside = [(part >= 0) & (part < labels.shape[axis]) for part, axis in zip(index, own, strict=True)]
    result = np.zeros(grid.shape, labels.dtype)
    values = labels.numpy()[0].transpose(*own)
    result[np.ix_(*inside)] = values[np.ix_(*(part[there] for part, there in zip(index, inside, strict=True)))]
    return Image(result[None], grid.affine, header=labels.header, offsets=grid.offsets)


def write_labels(path: Path, image: Image) -> None:
    """Write a label map by suffix: .nii, .nii.gz, .mha, .nrrd, .mgz, .tif, .npy, or .png with a palette, 0 black.

    The integers are 8 bits wide where that is enough, else 16 or 32.

    Args:
        path: Output.
        image: One channel of integers from 0, in memory or lazy.

    Raises:
        UserError: The format cannot hold the map, or values are no labels.
    """
    image = _as_integers(path, image)
    name = path.name.lower()
    if name.endswith(nifti.SUFFIXES):
        nifti.write_nifti(path, image)
    elif name.endswith(itk.SUFFIXES):
        itk.write_itk(path, image)
    elif name.endswith(mgh.SUFFIXES):
        mgh.write_mgh(path, image)
    elif name.endswith(npy.SUFFIXES):
        npy.write_npy(path, image)
    elif name.endswith(raster.TIFF_SUFFIXES):
        raster.write_tiff(path, image)
    elif name.endswith(".png"):
        _write_png(path, image)
    else:
        kind = path.suffix or "DICOM segmentations"
        raise UserError(f"{path}: cannot write label maps as {kind}: choose .nii.gz, .tif, .png or .npy")


def _as_integers(path: Path, image: Image) -> Image:
    """Return the map as integers from 0, without header fields that belong to the intensities of the source."""
    if image.channels != 1:
        raise UserError(f"{path}: a label map has one channel, not {image.channels}")
    header = replace(image.header, meaning=image.header.meaning.geometry, stored=None)
    if image.dtype in INTEGERS:
        return replace(image, unit=None, header=header)
    dtype = INTEGERS[0] if image.dtype == np.bool_ else _narrowest(path, image)
    array = ComputedArray(image.array.shape, dtype, lambda start, stop: image.slab(start, stop).astype(dtype))
    return replace(image, array=array, unit=None, header=header)


def _narrowest(path: Path, image: Image) -> np.dtype[Any]:
    """Return the narrowest type that holds all values of an image."""
    low, high = 0.0, 0.0
    for values in image.slabs():
        if not (np.isfinite(values).all() and (values == np.rint(values)).all()):
            raise UserError(f"{path}: values between integers are no labels")
        low, high = min(low, float(values.min())), max(high, float(values.max()))
    fitting = [dtype for dtype in INTEGERS if low >= 0 and high <= np.iinfo(dtype).max]
    if not fitting:
        raise UserError(f"{path}: values from {low:g} to {high:g} are no labels")
    return fitting[0]


def _write_png(path: Path, image: Image) -> None:
    """Write one slice with a palette; in grey of 16 bits where there are more labels than a palette has indices."""
    labels = image.numpy()[0]
    if len(labels) != 1:
        raise UserError(f"{path}: a PNG holds 1 slice, not {len(labels)}: choose .tif or .nii.gz")
    if labels.max() > 255:
        raster.write_png(path, image.with_array(_narrowed(path, labels)[None]))
        return
    _, rows, columns = labels.shape
    picture = Pillow.frombytes("P", (columns, rows), labels.astype(np.uint8).tobytes())
    picture.putpalette(palette().tobytes())
    with replacing(path) as temporary:
        picture.save(temporary, format="PNG")


def _narrowed(path: Path, labels: NDArray[Any]) -> NDArray[np.uint16]:
    if labels.max() > np.iinfo(np.uint16).max:
        raise UserError(f"{path}: label {labels.max()} is too large for a PNG: choose .tif or .nii.gz")
    return labels.astype(np.uint16)


def palette() -> NDArray[np.uint8]:
    """Return the colours of the labels from 0 to 255, (256, 3): black, then colours unlike their neighbours."""
    colours = [(0.0, 0.0, 0.0)]
    colours += [colorsys.hsv_to_rgb(place * GOLDEN % 1, 0.85 - 0.3 * (place // 8 % 2), 0.95) for place in range(255)]
    return np.asarray(np.rint(np.array(colours) * 255), np.uint8)
