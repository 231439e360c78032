"""Objects such as cells and glands: how they are made from probabilities, and the predictor that numbers them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage

from ganatomy.case import Array, Sample, slab
from ganatomy.images.image import Image, LazyArray
from ganatomy.inference.predictor import Options
from ganatomy.metrics.metric import Mask
from ganatomy.roles.instances import INSIDE
from ganatomy.tasks.segmentation.predictor import ProbabilityOptions, SegmentationPredictor, filled
from ganatomy.tasks.segmentation.rules import ObjectRules, Separate

Numbers = NDArray[np.uint32]
"""Numbers of objects, (slices, rows, columns); 0 is the background."""

OBJECTS = "objects"
"""Name of the table of objects."""
DIAGONAL = 1.5
"""Distance in pixels by which a step of growth enlarges objects: to all neighbours in the plane, diagonal ones too."""


class InstanceOptions(ProbabilityOptions):
    """Options of the instance map; those that are not given are as in training."""

    threshold: float = Field(0.5, gt=0, lt=1)  # probability of the inside of objects from which a pixel belongs to one
    separate: Separate | None = None  # how objects are separated: components, or the watershed of distances
    apart: int | None = Field(None, ge=1)  # watershed: smallest distance in pixels between the middles of two objects
    holes: bool | None = None  # whether holes are filled before objects are separated
    smallest: int | None = Field(None, ge=0)  # objects of fewer pixels are removed
    border: bool | None = None  # whether objects at the border of a slice are kept
    grow: int | None = Field(None, ge=0)  # pixels by which objects are enlarged at the end


class InstancePredictor(SegmentationPredictor):
    """Numbers the objects of an image, from 1 on in the order of their first pixels.

    Probabilities are resampled to the grid of the source; there the inside of objects is thresholded and separated by
    the rules of the task, which options may replace.
    """

    Options: ClassVar[type[Options]] = InstanceOptions

    @property
    def rules(self) -> ObjectRules:
        """Rules of the task, with those that the options replace."""
        rules: ObjectRules = self.task.config.objects
        given = {name: getattr(self.options, name) for name in ObjectRules.model_fields}
        return rules.model_copy(update={name: value for name, value in given.items() if value is not None})

    @property
    def tables(self) -> tuple[str, ...]:
        """Name of the table with a row for every object."""
        return (OBJECTS,)

    def _tables(
        self, source: Image, working: Array, sample: Sample, probabilities: Array
    ) -> dict[str, Callable[[], Sequence[Mapping[str, Any]]]]:
        return {OBJECTS: lambda: object_table(source)}

    def _facts(self, absent: Sequence[str]) -> dict[str, Any]:
        rule = f"probability of the inside at least {self.options.threshold:g}"
        return {"rule": rule, **self.rules.model_dump(), **self._averaged(absent)}

    def _label_map(self, probabilities: Array) -> ObjectMap:
        regions = self.task.target.regions
        inner = [place for place, labels in enumerate(regions.values()) if INSIDE in labels]
        return ObjectMap(probabilities, inner, self.options.threshold, self.rules)


class ObjectMap(LazyArray):
    """An instance map that is computed from probabilities when it is first read, as a whole, and cached.

    Args:
        probabilities: probabilities, (regions, slices, rows, columns).
        inner: places of the regions that hold the inside of objects.
        threshold: probability of the inside from which a voxel belongs to an object.
        rules: rules by which objects are made.
    """

    def __init__(self, probabilities: Array, inner: list[int], threshold: float, rules: ObjectRules):
        _, slices, rows, columns = probabilities.shape
        self.shape, self.dtype, self.thickness = (1, slices, rows, columns), np.dtype(np.uint32), slices
        self._from, self._inner, self._threshold, self._rules = probabilities, inner, threshold, rules
        self._kept: Numbers | None = None

    def slab(self, start: int, stop: int) -> NDArray[Any]:
        """Return slices ``start`` to ``stop``, (1, slices, rows, columns)."""
        if self._kept is None:
            step = self._from.thickness if isinstance(self._from, LazyArray) else 1
            parts = (slab(self._from, at, min(at + step, self.shape[1])) for at in range(0, self.shape[1], step))
            inside = np.concatenate([part[self._inner].max(axis=0) >= self._threshold for part in parts])
            self._kept = find_objects(inside, self._rules)
        return self._kept[None, start:stop]


def find_objects(inside: Mask, rules: ObjectRules) -> Numbers:
    """Separate a mask into objects and number them.

    Args:
        inside: mask of the inside of objects, (slices, rows, columns); objects reach across slices.
        rules: rules by which objects are made.
    """
    from skimage.segmentation import clear_border, expand_labels

    whole = filled(inside) if rules.holes else inside
    numbers, _ = ndimage.label(whole)
    if rules.separate == "watershed":
        numbers = _basins(whole, numbers, rules.apart)
    if not rules.border:
        numbers = np.stack([clear_border(one) for one in numbers])  # type: ignore[no-untyped-call]
    sizes = np.bincount(numbers.reshape(-1))
    kept = sizes >= max(rules.smallest, 1)
    kept[0] = False
    numbers = np.where(kept, np.cumsum(kept), 0)[numbers]
    for _ in range(rules.grow):
        numbers = np.stack([expand_labels(one, DIAGONAL) for one in numbers])  # type: ignore[no-untyped-call]
    return np.asarray(numbers, np.uint32)


def _basins(inside: Mask, components: NDArray[Any], apart: int) -> NDArray[Any]:
    """Divide components along the watershed of the distance to the background, with a basin for each of its peaks."""
    from skimage.feature import peak_local_max
    from skimage.segmentation import watershed

    flat = len(inside) == 1
    mask, parts = (inside[0], components[0]) if flat else (inside, components)
    # Smoothing joins the peaks of a ragged outline; a pixel is enough.
    distance = ndimage.gaussian_filter(ndimage.distance_transform_edt(mask), 1.0)
    options = {"min_distance": apart, "labels": parts, "exclude_border": False}
    peaks = peak_local_max(distance, **options)  # type: ignore[no-untyped-call]
    markers = np.zeros(mask.shape, np.int32)
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    found = np.asarray(watershed(-distance, markers, mask=mask))  # type: ignore[no-untyped-call]
    return found[None] if flat else found


def object_table(numbers: Image) -> list[dict[str, Any]]:
    """Return the size of every object, in mm² for a single slice, else in mm³, and the position of its middle.

    Args:
        numbers: instance map on the grid of the source.
    """
    values = numbers.numpy()[0]
    flat = numbers.shape[0] == 1
    voxel = float(np.prod(numbers.spacing[1:])) if flat else abs(float(np.linalg.det(numbers.affine[:3, :3])))
    sizes = np.bincount(values.reshape(-1))
    there = [int(number) for number in np.flatnonzero(sizes) if number]
    middles = ndimage.center_of_mass(np.ones_like(values, np.uint8), values, there) if there else []
    return [
        {
            "object": number,
            "voxels": int(sizes[number]),
            "mm2" if flat else "mm3": round(float(sizes[number]) * voxel, 6),
            **{axis: round(float(at), 2) for axis, at in zip(("slice", "row", "column"), middle, strict=True)},
        }
        for number, middle in zip(there, middles, strict=True)
    ]
