"""Photographs of skin as a camera takes them: lesions at any place, hair, rulers, freckles, creases, and background."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from scipy import ndimage

from ganatomy.errors import UserError
from ganatomy.images.image import Header, Image
from ganatomy.phantoms.shapes import (
    Array,
    Grid,
    Mask,
    fields,
    label_of,
    ramp,
    star,
    strokes,
    turned,
    undulations,
    wander,
)
from ganatomy.phantoms.skin import Pigments, healthy_skin, melanoma, naevus, patch

WIDTHS = (26.0, 48.0)  # mm across a photograph, which the distance of the camera decides
APART = 7.0  # mm between the middles of lesions
FREE = 0.12  # share of photographs without a lesion
MAIN_PLACE = 0.22  # largest distance of the main lesion from the middle, as a share of the width


class SkinPhotograph:
    """A photograph of the skin of one patient with none, one or several lesions, and what else is in such pictures.

    Pigmented lesions are naevi and melanomas; others are red nodules with crusts and scaly red plaques, which differ
    from inflamed skin by their border only. Scale, light and sharpness vary from picture to picture. Freckles, creases,
    hairs, the lines of a ruler and what lies beside the body are no lesions.

    Attributes:
        LABELS: kinds of the lesions, between which seeds alternate.
        image: red, green and blue from 0 to 255, float32, (3, 1, size, size).
        images: `image` by its name, "image".
        masks: "lesion", all lesions; "background", what is no skin.
        regions: empty, since nothing is uniform.
        label: "pigmented" or "non-pigmented".
        clutter: names of what else is in the picture: "hair", "ruler", "freckles", "creases", "background".
    """

    LABELS: ClassVar[tuple[str, ...]] = ("pigmented", "non-pigmented")

    def __init__(
        self, seed: int, *, size: int = 128, noise: float = 3.0, label: str | None = None, lesions: int | None = None
    ) -> None:
        """Draw the photograph.

        Args:
            seed: seed of the patient; lesions are pigmented for even ones.
            size: rows and columns, at least 16.
            noise: SD of the camera's noise.
            label: kind of the lesions; None selects it by the seed.
            lesions: number of lesions, of which those without room are left out; None draws it.

        Raises:
            UserError: the label does not exist, the noise or the number is negative, or the image is too small.
        """
        if size < 16 or noise < 0 or (lesions is not None and lesions < 0):
            raise UserError(f"a photograph of {size} pixels with noise {noise:g} and {lesions} lesions cannot be drawn")
        self.label = label_of(seed, self.LABELS, label)
        patient, skin_rng, lesion_rng, clutter_rng, camera_rng = np.random.default_rng(seed).spawn(5)
        width = patient.uniform(*WIDTHS)
        pixel = width / size
        grid = Grid.centred((1, size, size), (1.0, pixel, pixel))
        skin = healthy_skin(skin_rng, grid, 0.06 + 0.29 * patient.beta(1.2, 3), redness=patient.uniform(0.1, 0.26))
        number = 0 if patient.random() < FREE else 1 + int(patient.choice([0, 1, 2], p=[0.6, 0.28, 0.12]))
        self.clutter = tuple(
            name
            for name, share in (
                ("freckles", 0.35),
                ("creases", 0.35),
                ("hair", 0.45),
                ("ruler", 0.3),
                ("background", 0.4),
            )
            if patient.random() < share
        )
        beside = _beside(clutter_rng, grid, width) if "background" in self.clutter else np.full(grid.shape, -width)
        rule = _Ruler(clutter_rng, grid, width)
        covered = beside > -2.5
        if "ruler" in self.clutter:
            covered |= rule.inside > 0
        places = _places(lesion_rng, grid, width, number if lesions is None else lesions, covered)
        pigments, masks = skin, np.zeros(grid.shape, np.bool_)
        for place in places:
            pigments, mask = self._lesion(lesion_rng, grid, place, pigments)
            masks |= mask
        if "freckles" in self.clutter:
            spots = ramp(fields(clutter_rng, grid.shape, 0.3 / pixel), 2.0, 3.0) * ~masks
            pigments = _with(pigments, epidermal=clutter_rng.uniform(0.2, 0.5) * spots)
        if "creases" in self.clutter:
            pigments = _with(
                pigments, blood=0.25 * (lines := _creases(clutter_rng, grid, width)), epidermal=0.1 * lines
            )
        if "hair" in self.clutter:
            hair = _hair(clutter_rng, grid, width)
            pigments = _with(pigments, epidermal=hair, dermal=0.4 * hair)

        values = pigments.colour()
        if "ruler" in self.clutter:
            values = values + (rule.brightness - values) * rule.inside
        if "background" in self.clutter:
            values = _placed_before(clutter_rng, grid, values, beside)
        self.masks: dict[str, Mask] = {
            "lesion": masks,
            "background": (beside > 0) if "background" in self.clutter else np.zeros(grid.shape, np.bool_),
        }
        values = _photographed(camera_rng, grid, width, np.asarray(values, np.float32), noise)
        self.image = Image.from_array(values, (1.0, pixel, pixel), header=Header(modality="XC"))
        self.images = {"image": self.image}
        self.regions: dict[str, Mask] = {}

    def _lesion(
        self, rng: np.random.Generator, grid: Grid, place: tuple[float, float], skin: Pigments
    ) -> tuple[Pigments, Mask]:
        """Draw a lesion of the class of the photograph; returns the pigments and its mask."""
        x, y = grid.x - np.float32(place[0]), grid.y - np.float32(place[1])
        if self.label == "pigmented":
            pigments, masks = (naevus if rng.random() < 0.6 else melanoma)(rng, grid, x, y, skin)
            return pigments, masks["lesion"]
        return (_nodule if rng.random() < 0.55 else _plaque)(rng, grid, x, y, skin)


def _with(
    pigments: Pigments, epidermal: Array | float = 0, dermal: Array | float = 0, blood: Array | float = 0
) -> Pigments:
    """Return pigments with more, or less, of each of them; amounts are at least 0."""
    more = zip((pigments.epidermal, pigments.dermal, pigments.blood), (epidermal, dermal, blood), strict=True)
    return Pigments(*(np.maximum(own + change, 0).astype(np.float32) for own, change in more))


def _places(
    rng: np.random.Generator, grid: Grid, width: float, number: int, covered: Mask
) -> list[tuple[float, float]]:
    """Draw the middles of lesions, the first one near the middle of the picture, where skin is seen."""
    found: list[tuple[float, float]] = []
    for _ in range(number):
        for _ in range(40):
            reach = MAIN_PLACE * width if not found else 0.42 * width
            x, y = rng.uniform(-reach, reach, 2)
            row, column = (int(np.argmin(np.abs(axis.ravel() - at))) for axis, at in ((grid.y, y), (grid.x, x)))
            if covered[0, row, column] or any(np.hypot(x - u, y - v) < APART for u, v in found):
                continue
            found.append((float(x), float(y)))
            break
    return found


def _nodule(rng: np.random.Generator, grid: Grid, x: Array, y: Array, skin: Pigments) -> tuple[Pigments, Mask]:
    """Draw a red nodule with a shiny pale border, and perhaps a crust."""
    radius = np.full((1, 1, 1), rng.uniform(1.8, 4.2), np.float32)
    distance = star(x, y, radius, undulations(rng, 1, 5, 0.06, fall=1.4))
    body = ramp(distance, 0.35, -0.35)
    rim = np.exp(-(((distance + 0.12 * radius) / (0.14 * radius)) ** 2)) * ramp(x + y, radius, -radius)
    crust = patch(rng, x, y, radius, (0.0, 0.3), (0.2, 0.45), body) * (rng.random() < 0.5)
    blood = (
        body * rng.uniform(0.3, 0.6) * (1 + 0.15 * fields(rng, grid.shape, 0.6 / grid.pixel)) - 0.3 * rim + 0.7 * crust
    )
    epidermal = -0.35 * skin.epidermal * body + rng.uniform(0.2, 0.5) * crust - 0.05 * rim
    return _with(skin, epidermal=epidermal, blood=blood), distance < 0


def _plaque(rng: np.random.Generator, grid: Grid, x: Array, y: Array, skin: Pigments) -> tuple[Pigments, Mask]:
    """Draw a flat red plaque with white scales and an irregular border."""
    radius = np.full((1, 1, 1), rng.uniform(2.5, 5.2), np.float32)
    distance = star(x, y, radius, undulations(rng, 1, 8, 0.09, fall=0.8))
    body = ramp(distance, 0.5, -0.5)
    scales = ramp(fields(rng, grid.shape, 0.35 / grid.pixel), 0.6, 1.6) * body
    blood = body * rng.uniform(0.25, 0.45) * (1 + 0.2 * fields(rng, grid.shape, 0.8 / grid.pixel)) - 0.4 * scales
    return _with(skin, epidermal=-0.4 * skin.epidermal * scales, blood=blood), distance < 0


def _hair(rng: np.random.Generator, grid: Grid, width: float) -> Array:
    """Draw melanin of hairs, roughly along one direction."""
    count = int(rng.integers(4, 26))
    heading = rng.uniform(0, 2 * np.pi, (1, 1)) + rng.normal(0, 0.5, (1, count))
    start = rng.uniform(-0.6 * width, 0.6 * width, (1, count, 2))
    lines = wander(rng, start, heading, rng.uniform(5, 18, heading.shape), steps=8, bend=0.12)
    wide = rng.uniform(0.03, 0.08, heading.shape)
    return np.float32(rng.uniform(0.7, 1.8)) * strokes(grid.x, grid.y, grid.pixel, lines, wide, 0.4 * wide)


def _creases(rng: np.random.Generator, grid: Grid, width: float) -> Array:
    """Draw a few long lines of the skin, 0 to 1."""
    count = int(rng.integers(1, 5))
    heading = rng.uniform(0, 2 * np.pi, (1, 1)) + rng.normal(0, 0.15, (1, count))
    along = np.stack([np.cos(heading), np.sin(heading)], -1)
    start = rng.uniform(-0.5 * width, 0.5 * width, (1, count, 2)) - 0.8 * width * along
    lines = wander(rng, start, heading, np.full(heading.shape, 1.7 * width), steps=10, bend=0.08)
    wide = rng.uniform(0.1, 0.3, heading.shape)
    return strokes(grid.x, grid.y, grid.pixel, lines, wide, wide)


class _Ruler:
    """A ruler of paper at the side of the picture.

    Attributes:
        inside: share of each pixel that it covers.
        brightness: its brightness, with the lines of mm.
    """

    def __init__(self, rng: np.random.Generator, grid: Grid, width: float) -> None:
        along, across = turned(grid.x, grid.y, rng.uniform(0, 2 * np.pi))
        high, edge = rng.uniform(6, 11), rng.uniform(0.27, 0.4) * width
        below = across - np.float32(edge)
        self.inside = grid.coverage(-below) * grid.coverage(below - np.float32(high))
        number = np.rint(along)
        long = np.where(number % 10 == 0, 0.5, np.where(number % 5 == 0, 0.38, 0.25)) * high
        line = grid.coverage(np.abs(along - number) - 0.12) * (below < long)
        self.brightness = np.asarray(rng.uniform(200, 245) * (1 - 0.85 * line), np.float32)


def _beside(rng: np.random.Generator, grid: Grid, width: float) -> Array:
    """Return the distance in mm beyond the outline of the body, which curves away at one side of the picture."""
    along, across = turned(grid.x, grid.y, rng.uniform(0, 2 * np.pi))
    return np.asarray(across - rng.uniform(0.26, 0.42) * width + rng.uniform(0.002, 0.012) * along**2, np.float32)


def _placed_before(rng: np.random.Generator, grid: Grid, values: Array, beside: Array) -> Array:
    """Lay a background of cloth or wall behind the body, which is darker towards its outline."""
    colour = rng.uniform(25, 225, (3, 1, 1, 1)).astype(np.float32)
    along, _ = turned(grid.x, grid.y, rng.uniform(0, np.pi))
    stripes = np.sin(along * np.float32(rng.uniform(1.5, 5))) * rng.uniform(0, 0.3)
    folds = 0.12 * fields(rng, grid.shape, 4 / grid.pixel)
    cloth = colour * (1 + stripes + folds)
    shaded = values * (1 - 0.45 * np.exp(np.minimum(beside, 0) / 2.5))
    return np.asarray(shaded + (cloth - shaded) * ramp(beside, -0.2, 0.2), np.float32)


def _photographed(rng: np.random.Generator, grid: Grid, width: float, values: Array, noise: float) -> Array:
    """Return what the camera makes of the colours: uneven light, a cast of colour, blur and noise."""
    along, _ = turned(grid.x, grid.y, rng.uniform(0, 2 * np.pi))
    light = rng.uniform(0.72, 1.1) * (1 + rng.uniform(0, 0.3) * along / width)
    light = light * (1 + 0.06 * fields(rng, grid.shape, 0.2 * width / grid.pixel))
    seen = values * light * rng.uniform(0.9, 1.08, (3, 1, 1, 1))
    blur = rng.uniform(0.0, 0.012) * grid.shape[1] / 2
    seen = ndimage.gaussian_filter(seen, (0, 0, blur, blur)) + noise * rng.standard_normal(values.shape, np.float32)
    return np.asarray(seen.clip(0, 255), np.float32)
