"""Procedural patients and test objects with ground truth in physical units: data every method can run on.

A phantom carries `image` (an `ganatomy.images.image.Image`), `masks` and `regions` by name, each shaped
(slices, rows, columns), and whatever else is known of its kind.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from ganatomy.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ganatomy.images.image import Image

PHANTOMS: dict[str, str] = {
    "thorax-ct": "ganatomy.phantoms.thorax:ThoraxCT",
    "calcium-inserts": "ganatomy.phantoms.calcium:CalciumInserts",
}
"""Name of each phantom, and where it is defined."""


class Phantom(Protocol):
    """A procedural object with ground truth.

    Attributes:
        image: noise-free image.
        masks: structures by name, true inside.
        regions: places where the image is uniform, to measure mean and SD in.
    """

    image: Image
    masks: dict[str, NDArray[np.bool_]]
    regions: dict[str, NDArray[np.bool_]]


def make(name: str, seed: int, **size: Any) -> Phantom:
    """Build a phantom; the same name, seed and size give the same object.

    Raises:
        UserError: for a name that is not in `PHANTOMS`.
    """
    if name not in PHANTOMS:
        raise UserError(f"there is no phantom {name!r}: choose one of {', '.join(PHANTOMS)}")
    module, _, attribute = PHANTOMS[name].partition(":")
    phantom: Phantom = getattr(import_module(module), attribute)(seed, **size)
    return phantom
