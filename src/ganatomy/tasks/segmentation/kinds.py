"""Kinds of images that several systems segment: options of their roles, and the phantoms that stand for them."""

from collections.abc import Mapping, Sequence
from typing import Any

from ganatomy.phantoms.embedded import Embedded

Options = Mapping[str, Mapping[str, Any]]

BRAIN = Embedded("brain-tumour-mr", grid={"slices": 12}, subjects=20)
"""Phantom of patients with a tumour, in four aligned contrasts."""
TUMOUR: Options = {"tumour": {"part": "labels:tumour"}}
"""Options of the role of its label map, by its usual name."""

PHOTOGRAPH: Mapping[str, Any] = {"channels": 3, "window": (0.0, 255.0), "unit": None}
"""Options of pictures in colour with 8 bits."""
RETINA = Embedded("fundus", subjects=40)
"""Phantom of fundus photographs."""
VESSELS: Options = {"inputs": PHOTOGRAPH, "vessels": {"part": "mask:vessels"}, "field": {"part": "mask:field"}}
"""Options of the roles of systems that find vessels in such photographs."""
PIXEL = 0.1
"""Side in mm of a pixel of small images of the retina; thinner vessels vanish in larger pixels."""
WHOLE = 128
"""Rows and columns from which on images show the whole field of view of the retina."""


def painted_retina(size: Sequence[int]) -> Embedded:
    """Return the phantom that systems learn from which paint photographs over vessels: both eyes of some people.

    Args:
        size: rows and columns; small images show the optic disc and what is around it, and not the whole field of view.
    """
    side = max(size)
    grid = {"slices": 4, **({"around_disc": PIXEL * side} if side < WHOLE else {})}
    return Embedded("fundus", side, grid, subjects=60)
