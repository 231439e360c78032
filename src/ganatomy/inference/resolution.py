"""The resolution at which networks see images that are brought to a size of theirs, said in one sentence."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from ganatomy.case import Preparation, Sample
from ganatomy.errors import UserError
from ganatomy.images.image import Image

OPENED = 2
"""Largest number of cases whose sources are opened to learn whether they state the size of pixels (our choice)."""


def resolution(preparation: Preparation, samples: Iterable[Sample], known: bool | None = None) -> str:
    """Return a sentence on the size of the images that networks see, in pixels and in mm per pixel.

    Args:
        preparation: how images are brought to the working grid.
        samples: cases on the working grid.
        known: whether files state the size of their pixels; None looks it up in the sources of the first cases.

    Returns:
        The sentence without a full stop; empty where networks see the pixels of the data.
    """
    size = preparation.size
    resized = size is not None and preparation.fit != "patches"
    if (not resized and preparation.spacing is None) or (size is not None and len(size) == 1):
        return ""
    dims = 3 if size is None or len(size) == 3 else len(size)
    there = [sample for sample in samples if sample.first in sample.affines]
    steps = sorted({tuple(float(f"{step:.3g}") for step in sample.spacing[3 - dims :]) for sample in there})
    if known is None:
        known = any(_states_its_size(sample) for sample in there[:OPENED])
    element = "voxel" if dims == 3 else "pixel"
    lengths = _lengths(steps) if steps and known else "an unknown size in mm"
    shape = f" of {' × '.join(map(str, size))} {element}s" if resized and size is not None else ""
    return f"networks see images{shape} at {lengths} per {element}; finer detail is neither seen nor made"


def _lengths(steps: list[tuple[float, ...]]) -> str:
    """Return lengths in words: one where they are equal along the axes, else one for each axis."""
    told = [f"{step[0]:g}" if len(set(step)) == 1 else " × ".join(f"{one:g}" for one in step) for step in steps]
    return f"{told[0]} mm" if len(told) == 1 else f"{told[0]} to {told[-1]} mm"


def _states_its_size(case: Sample) -> bool:
    image = case.values.get(case.first)
    if not isinstance(image, Image):
        image = source_image(case)
    return image is not None and is_sized(image)


def is_sized(image: Image) -> bool:
    """Return whether the size of the pixels of an image is known, so that lengths in mm mean something."""
    # Grids in memory have pixels of 1 mm where none is stated.
    return image.header.scaled and (image.header.kind != "array" or image.spacing[1:] != (1.0, 1.0))


def source_image(case: Sample) -> Image | None:
    """Return the first image that a source of a case opens; None where none can be opened any more."""
    sources = case.case.sources
    for name in (case.first, *sources):
        if name in sources:
            with suppress(UserError, OSError):
                image = sources[name].open()
                if isinstance(image, Image):
                    return image
    return None
