"""Conversion of images to and from the types of NumPy, PyTorch, MONAI, nibabel, SimpleITK and Pillow.

The libraries are recognised by the modules of their classes, so that none of them is imported before it is used.
"""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Sequence
from html import escape
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ganatomy.errors import Notice, UserError
from ganatomy.images.image import AXES, Header, Image, axial_affine

if TYPE_CHECKING:
    import torch

LIBRARIES = {"nibabel": "SpatialImage", "SimpleITK": "Image", "PIL": "Image", "torch": "Tensor"}
"""Package to the class of its images, besides NumPy; tensors of MONAI are tensors of torch, too."""
SHOWN = 256
"""Largest number of rows and columns of the picture that notebooks show."""
ENDS = (0.5, 99.5)
"""Percentiles of a slice that become black and white where it is shown (our choice)."""


def library_of(value: Any) -> str | None:
    """Return the package that a value's type belongs to, ``numpy`` for all other arrays; None for other values."""
    classes = {(cls.__module__.partition(".")[0], cls.__name__) for cls in type(value).__mro__}
    if found := next((package for package, name in LIBRARIES.items() if (package, name) in classes), None):
        return found
    return "numpy" if hasattr(value, "__array__") and not isinstance(value, Image) else None


def is_image(value: Any) -> bool:
    """Return whether `image_of` converts a value; paths are left out, since they may name anything."""
    return isinstance(value, Image) or library_of(value) is not None


def image_of(
    value: Any,
    spacing: Sequence[float] | None = None,
    unit: str | None = None,
    axes: str | Sequence[str] | None = None,
    like: Image | None = None,
) -> Image:
    """Return a value of any supported type as an image.

    Args:
        value: an image, a path, an array, a tensor of torch or MONAI, or an image of nibabel, SimpleITK or Pillow.
        spacing: mm between (slices,) rows and columns, for values that state none.
        unit: unit of the values, such as HU, where they state none.
        axes: names of the axes of an array, see `Image.from_array`.
        like: image on whose grid a value without a geometry lies if it has as many voxels.

    Raises:
        UserError: the type is not known, or a value does not fit its type, or states its own spacing.
    """
    if isinstance(value, str | Path):
        from ganatomy.images.files import read

        value = read(value)
    kind = library_of(value)
    if kind == "torch" and has_geometry(value):
        kind = "monai"
    if has_geometry(value) and (spacing or axes):
        raise UserError(f"spacing and axes: a {type(value).__name__} states them itself; leave them away")
    if axes and kind != "numpy":
        raise UserError(f"axes: only arrays of NumPy take the names of their axes, and not a {type(value).__name__}")
    match kind:
        case _ if isinstance(value, Image):
            image = value
        case "nibabel":
            image = from_nibabel(value)
        case "SimpleITK":
            image = from_sitk(value)
        case "monai":
            image = from_monai(value)
        case "PIL":
            image = _placed(from_pil(value), spacing, like, "picture")
        case "torch":
            image = _placed(from_torch(value), spacing, like, "tensor")
        case "numpy":
            image = _placed(Image.from_array(np.asarray(value), axes=axes), spacing, like, "array")
        case _:
            raise UserError(
                f"a {type(value).__name__} is no image: give a path, a ganatomy.Image, an array of NumPy, a tensor of "
                "torch, or an image of nibabel, SimpleITK or Pillow"
            )
    if image.dtype.kind not in "biuf":
        raise UserError(f"a {type(value).__name__} of {image.dtype} is no image, which has real numbers")
    return image if image.unit is not None or unit is None else image.with_array(image.array, unit)


def has_geometry(value: Any) -> bool:
    """Return whether a value states where its voxels lie, as a tensor of MONAI does with its affine."""
    if isinstance(value, Image):
        return True
    kind = library_of(value)
    return kind in ("nibabel", "SimpleITK") or (kind == "torch" and hasattr(value, "affine") and hasattr(value, "meta"))


def _placed(image: Image, spacing: Sequence[float] | None, like: Image | None, what: str) -> Image:
    """Return an image without a geometry with the given spacing, or on the grid of another one, or say what it has."""
    if spacing is not None:
        return image.with_geometry(image.array, axial_affine(three(spacing)))
    if like is not None and like.shape == image.shape:
        return Image(image.array, like.affine, image.unit, image.header, like.offsets)
    slices, rows, columns = image.shape
    named = f"{slices} axial slices of {rows} x {columns} pixels" if slices > 1 else f"{rows} x {columns} pixels"
    warnings.warn(
        f"the {what} is read as {named}, 1 mm apart, since it states no distances; give spacing=(slices, rows, columns)"
        " in mm, or an image that has them",
        Notice,
        stacklevel=4,
    )
    return image


def three(spacing: Sequence[float]) -> tuple[float, float, float]:
    """Return the distances between slices, rows and columns in mm; those of rows and columns are enough.

    Raises:
        UserError: there are not two or three positive numbers.
    """
    numbers = [float(one) for one in spacing]
    if len(numbers) not in (2, 3) or not all(0 < one < np.inf for one in numbers):
        raise UserError(f"spacing {tuple(spacing)}: give the distances of slices, rows and columns in mm, all above 0")
    slices, rows, columns = [1.0, *numbers][-3:]
    return slices, rows, columns


def from_nibabel(image: Any) -> Image:
    """Return an image of nibabel, whose axes (column, row, slice) are reversed, with its affine in mm.

    Raises:
        UserError: it has no affine, or fewer than two axes.
    """
    from ganatomy.images.nifti import scale_in_mm, unit_of

    if image.affine is None:
        raise UserError("an image of nibabel without an affine: its voxels lie nowhere; give it one")
    stored = np.asanyarray(image.dataobj)
    colours = stored.dtype.names or ()
    if colours:
        stored = np.stack([stored[name] for name in colours], axis=-1)
    elif stored.dtype == np.float64 and image.get_data_dtype() != np.float64:
        stored = stored.astype(np.float32)  # integers with a slope
    stored = stored.astype(stored.dtype.newbyteorder("="), copy=False)
    shape = (*stored.shape, 1, 1)[: max(3, stored.ndim)]
    voxels = stored.reshape(*shape[:3], prod(shape[3:])).transpose(3, 2, 1, 0)
    affine = np.asarray(image.affine, np.float64) * [[mm := scale_in_mm(image.header)], [mm], [mm], [1.0]]
    return Image(voxels, affine[:, [2, 1, 0, 3]], unit_of(image.header), Header(colours=len(colours) > 1))


def from_sitk(image: Any) -> Image:
    """Return an image of SimpleITK with two or three axes; the numbers of a voxel become channels."""
    from ganatomy.images.itk import as_image, sitk

    return as_image(
        np.asarray(sitk().GetArrayFromImage(image)),
        image,
        image.GetMetaData("unit") if image.HasMetaDataKey("unit") else None,
    )


def from_monai(tensor: Any) -> Image:
    """Return a tensor of MONAI, (channels, columns, rows[, slices]) with an affine as in nibabel.

    Raises:
        UserError: it has other axes.
    """
    values = np.asarray(tensor.detach().cpu())
    affine = np.asarray(tensor.affine, np.float64)
    if values.ndim not in (3, 4) or affine.shape not in ((3, 3), (4, 4)):
        raise UserError(
            f"a tensor of MONAI has the axes (channels, columns, rows, slices) and an affine, not {values.shape} and "
            f"{affine.shape}"
        )
    if affine.shape == (3, 3):
        whole = np.eye(4)
        whole[np.ix_([0, 1, 3], [0, 1, 3])] = affine
        affine = whole
    voxels = values.reshape(*values.shape, *(1,) * (4 - values.ndim)).transpose(0, 3, 2, 1)
    return Image(voxels, affine[:, [2, 1, 0, 3]])


def from_torch(tensor: torch.Tensor) -> Image:
    """Return a tensor (rows, columns), (channels, rows, columns), (slices, channels, rows, columns) as an image.

    A tensor with five axes is a batch of one volume, (1, channels, slices, rows, columns).

    Raises:
        UserError: it has other axes.
    """
    values = tensor.detach().cpu()
    values = values.float() if not values.is_complex() and str(values.dtype) == "torch.bfloat16" else values
    array = values.numpy()
    match array.ndim:
        case 2:
            return Image.from_array(array)
        case 3:
            return Image.from_array(array[:, None])
        case 4:
            return Image.from_array(array.swapaxes(0, 1))
        case 5 if len(array) == 1:
            return Image.from_array(array[0])
    raise UserError(
        f"a tensor of shape {tuple(tensor.shape)}: an image is (channels, rows, columns), slices are (slices, "
        "channels, rows, columns), and a volume is (1, channels, slices, rows, columns)"
    )


def from_pil(picture: Any) -> Image:
    """Return a picture of Pillow as it is shown: grey, or red, green and blue, and opacity where it has any."""
    from PIL import ImageOps

    from ganatomy.images.raster import page

    pixels = page(ImageOps.exif_transpose(picture), False)
    header = Header(stored=pixels.dtype, colours=len(pixels) > 1)
    return Image.from_array(pixels[:, None], header=header)


def to_torch(image: Image) -> torch.Tensor:
    """Return a tensor (slices, channels, rows, columns), which is a copy, in the precision of the image."""
    import torch

    values = image.numpy().swapaxes(0, 1)
    return torch.from_numpy(np.array(values, values.dtype.newbyteorder("=")))


def to_pil(image: Image, index: int | None = None, window: tuple[float, float] | None = None) -> Any:
    """Return a slice as a picture of Pillow with 8 bits, with square pixels.

    Args:
        image: image of 1 channel, of 3 or 4 that are colours; of others the first is shown.
        index: number of the slice; None means the middle one.
        window: values that become black and white; None means 0 and 255 for pictures of 8 bits, else percentiles of
            the slice.

    Raises:
        UserError: there is no such slice.
    """
    from PIL import Image as Pillow

    slices = image.shape[0]
    index = slices // 2 if index is None else index
    if not -slices <= index < slices:
        raise UserError(f"slice {index}: the image has the slices 0 to {slices - 1}")
    values = image.slab(index % slices, index % slices + 1)[:, 0]
    coloured = image.header.colours and len(values) in (3, 4)
    values = np.asarray(values[:3] if coloured else values[:1], np.float64)
    if window is None and not (image.dtype == np.uint8 and coloured):
        finite = values[np.isfinite(values)]
        low, high = np.percentile(finite, ENDS) if finite.size else (0.0, 1.0)
        window = (float(low), float(high)) if high > low else (float(low) - 1, float(low) + 1)
    low, high = window or (0.0, 255.0)
    share = np.nan_to_num((values - low) / (high - low), nan=0.0, posinf=1.0, neginf=0.0).clip(0, 1)
    if image.header.inverted:
        share = 1 - share
    bytes_ = np.moveaxis(np.rint(255 * share).astype(np.uint8), 0, -1)
    picture = Pillow.fromarray(np.ascontiguousarray(bytes_ if coloured else bytes_[..., 0]))
    _, tall, wide = image.spacing
    if abs(tall / wide - 1) > 0.01:
        width, height = picture.size
        finest = min(tall, wide)
        size = [max(1, round(count * one / finest)) for count, one in ((width, wide), (height, tall))]
        picture = picture.resize((size[0], size[1]))
    return picture


def html(image: Image) -> str:
    """Return what notebooks show of an image: its middle slice, and its size, spacing, unit and type in words."""
    picture = to_pil(image)
    picture.thumbnail((SHOWN, SHOWN))
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    data = base64.b64encode(stream.getvalue()).decode("ascii")
    return (
        f'<figure style="margin:0"><img src="data:image/png;base64,{data}" alt="middle slice">'
        f"<figcaption>{escape(described(image))}</figcaption></figure>"
    )


def described(image: Image) -> str:
    """Return size, spacing, unit and type of an image in words."""
    slices, rows, columns = image.shape
    spacing = " x ".join(f"{one:.4g}" for one in image.spacing)
    channels = f"{image.channels} channels, " if image.channels > 1 else ""
    return (
        f"{channels}{slices} slice{'s' if slices != 1 else ''} of {rows} x {columns} pixels, {spacing} mm (slices, "
        f"rows, columns), {image.unit or 'no unit'}, {image.dtype}"
    )


def ordered(array: NDArray[Any], axes: str | Sequence[str]) -> NDArray[Any]:
    """Return an array with named axes as (channels, slices, rows, columns).

    Raises:
        UserError: the names are not those of the axes, or not as many as there are axes.
    """
    names = axes.replace(",", " ").split() if isinstance(axes, str) else list(axes)
    if len(names) != array.ndim or len(set(names)) != len(names) or not {"rows", "columns"} <= set(names) <= set(AXES):
        raise UserError(
            f"axes {' '.join(names)}: name each of the {array.ndim} axes of the array once, with rows, columns, and "
            "where it has them slices and channels"
        )
    there = [name for name in AXES if name in names]
    array = array.transpose([names.index(name) for name in there])
    return np.expand_dims(array, [place for place, name in enumerate(AXES) if name not in names])
