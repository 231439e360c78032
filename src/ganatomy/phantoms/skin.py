"""Dermoscopic images of pigmented skin lesions, coloured by the absorption of melanin and blood."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ganatomy.errors import UserError
from ganatomy.images.image import Header, Image
from ganatomy.phantoms.shapes import (
    Array,
    Grid,
    Mask,
    fields,
    label_of,
    per_slice,
    ramp,
    star,
    strokes,
    undulations,
    wander,
)

FIELD_OF_VIEW = 15.0  # mm
WHITE = 240.0  # value of a perfect reflector
HAIRS = 7  # largest number of hairs in a slice

# Optical densities (natural logarithm) of one unit of pigment for red, green and blue light, about 620, 540 and
# 460 nm. Melanin in the epidermis absorbs as wavelength to the power -3.3 (Jacques, Phys. Med. Biol. 58, 2013).
# In the dermis less blue light reaches it than is scattered back above it, which makes it look blue-grey.
EPIDERMAL = np.array([1.0, 1.58, 2.70], np.float32)
DERMAL = np.array([1.0, 0.80, 0.42], np.float32)
BLOOD = np.array([0.03, 1.0, 0.60], np.float32)


Masks = dict[str, Mask]
Range = tuple[float, float]


@dataclass(frozen=True)
class Pigments:
    """Amounts of pigments in every pixel, (slices, rows, columns)."""

    epidermal: Array
    dermal: Array
    blood: Array

    def colour(self) -> Array:
        """Return the colour of the reflected light, (channels, slices, rows, columns)."""
        pairs = ((EPIDERMAL, self.epidermal), (DERMAL, self.dermal), (BLOOD, self.blood))
        density = sum(absorption[:, None, None, None] * amount for absorption, amount in pairs)
        return np.asarray(WHITE * np.exp(-np.asarray(density)), np.float32)


class SkinLesion:
    """Pigmented lesions of one patient and one class, each in the middle of its own image.

    Naevi are small, symmetric and of one brown that fades outwards, with a regular network or globules. Melanomas are
    larger and asymmetric with a notched border, several browns, black blotches, a blue-grey veil, a pale regression,
    and a network that is coarse in some places and missing in others. Skin tone, hairiness and the dark corners of the
    instrument are equal in all images of a patient.

    Attributes:
        LABELS: the classes, in the order in which seeds alternate between them.
        image: red, green and blue from 0 to 255, float32, (3, slices, size, size); every slice shows another lesion.
        images: `image` by its name, "image".
        masks: "lesion", and "veil", the blue-grey part of it.
        regions: empty, since nothing is uniform.
        label: "naevus" or "melanoma".
        tone: melanin of this patient's healthy skin, 0.06 (fair) to 0.35.
    """

    LABELS: ClassVar[tuple[str, ...]] = ("naevus", "melanoma")

    def __init__(
        self, seed: int, *, size: int = 64, slices: int = 1, noise: float = 2.5, label: str | None = None
    ) -> None:
        """Draw the lesions of a patient.

        Args:
            seed: seed of the patient; lesions are naevi for even ones, melanomas for odd ones.
            size: rows and columns over 15 mm, at least 8.
            slices: number of lesions.
            noise: SD of the camera's noise.
            label: class of the lesions; None selects it by the seed.

        Raises:
            UserError: the label does not exist, the noise is negative or the image is too small.
        """
        if size < 8 or slices < 1 or noise < 0:
            raise UserError(f"{slices} lesions of {size} pixels with noise {noise:g} cannot be drawn")
        self.label = label_of(seed, self.LABELS, label)
        patient, skin_rng, lesion_rng, camera_rng = np.random.default_rng(seed).spawn(4)
        pixel = FIELD_OF_VIEW / size
        grid = Grid.centred((slices, size, size), (1.0, pixel, pixel))
        self.tone = float(0.06 + 0.29 * patient.beta(1.2, 3))
        hairy, dark_corners = patient.random() < 0.35, patient.random() < 0.4

        skin = healthy_skin(skin_rng, grid, self.tone, redness=patient.uniform(0.1, 0.24))
        x, y = grid.x - per_slice(lesion_rng, slices, -0.7, 0.7), grid.y - per_slice(lesion_rng, slices, -0.7, 0.7)
        draw = naevus if self.label == "naevus" else melanoma
        pigments, self.masks = draw(lesion_rng, grid, x, y, skin)
        if hairy:
            hair = _hair(skin_rng, grid, patient.uniform(0.8, 1.6))
            pigments = Pigments(pigments.epidermal + hair, pigments.dermal + 0.4 * hair, pigments.blood)

        light = _light(camera_rng, grid, dark_corners)
        values = pigments.colour() * light
        values += noise * camera_rng.standard_normal(values.shape, np.float32)
        self.image = Image.from_array(values.clip(0, 255), (1.0, pixel, pixel), header=Header(modality="DMS"))
        self.images = {"image": self.image}
        self.regions: dict[str, Mask] = {}


def healthy_skin(rng: np.random.Generator, grid: Grid, tone: float, redness: float) -> Pigments:
    """Draw healthy skin: uneven tan, blotchy blood and fine furrows."""
    tan, furrows, flush = (fields(rng, grid.shape, grain / grid.pixel) for grain in (2.0, 0.16, 0.9))
    epidermal = tone * (1 + 0.07 * tan) + 0.012 * furrows
    return Pigments(epidermal, np.zeros_like(tan), np.asarray(redness * (1 + 0.12 * flush), np.float32))


def _network(rng: np.random.Generator, grid: Grid, period: float, disorder: float) -> Array:
    """Draw pigmented lines around pale holes, 0 to 1: a honeycomb of `period` mm, deformed by `disorder` mm."""
    slices = grid.shape[0]
    x, y = (axis + disorder * fields(rng, grid.shape, 1.6 * period / grid.pixel) for axis in (grid.x, grid.y))
    turn = per_slice(rng, slices, 0, np.pi)
    frequency = np.float32(4 * np.pi / np.sqrt(3) / period)
    waves = sum(
        np.cos(frequency * (x * np.cos(turn + third) + y * np.sin(turn + third)))
        for third in np.linspace(0, 2 * np.pi, 3, endpoint=False, dtype=np.float32)
    )
    faint = 0.6 + 0.4 * ramp(fields(rng, grid.shape, 1.5 * period / grid.pixel), -1, 1)
    return faint * ramp(np.asarray(waves), 0.9, -1.3)


def naevus(rng: np.random.Generator, grid: Grid, x: Array, y: Array, skin: Pigments) -> tuple[Pigments, Masks]:
    """Draw a naevus around the origin of x and y in each slice; returns all pigments, and masks."""
    slices = grid.shape[0]
    radius = per_slice(rng, slices, 2.2, 4.2)
    distance = star(x, y, radius, undulations(rng, slices, 5, 0.045, fall=1.6))
    soft = per_slice(rng, slices, 0.35, 0.8)
    body = ramp(distance, soft, -soft) * (0.75 + 0.25 * ramp(distance, 0, -radius))

    reticular = per_slice(rng, slices, 0, 1) < 0.65
    pattern = np.where(
        reticular,
        0.75 * _network(rng, grid, 0.62, 0.17) - 0.35,
        0.8 * ramp(fields(rng, grid.shape, 0.15 / grid.pixel), 0.9, 2.2) - 0.1,
    )
    brown = per_slice(rng, slices, 0.42, 0.75) * (1 + 0.05 * fields(rng, grid.shape, 0.7 / grid.pixel))
    epidermal = skin.epidermal + brown * body * (1 + 0.75 * pattern)
    masks = {"lesion": distance < 0, "veil": np.zeros(grid.shape, bool)}
    blood = np.asarray(skin.blood * (1 + 0.25 * body), np.float32)
    return Pigments(np.asarray(epidermal, np.float32), skin.dermal, blood), masks


def melanoma(rng: np.random.Generator, grid: Grid, x: Array, y: Array, skin: Pigments) -> tuple[Pigments, Masks]:
    """Draw a melanoma around the origin of x and y in each slice; returns all pigments, and masks."""
    slices, pixel = grid.shape[0], grid.pixel
    radius = per_slice(rng, slices, 3.8, 5.3)
    notches = undulations(rng, slices, 10, 0.09, fall=0.7) * rng.uniform(0.55, 1, (slices, 1)).astype(np.float32)
    distance = star(x, y, radius, notches)

    # The border ends abruptly on one side and fades on the other.
    turn = per_slice(rng, slices, 0, 2 * np.pi)
    side = (x * np.cos(turn) + y * np.sin(turn)) / radius
    soft = (0.15 + 0.7 * ramp(side, -0.6, 0.8)).astype(np.float32)
    body = ramp(distance, soft, -soft)

    shades = fields(rng, grid.shape, 1.1 / pixel)
    brown = per_slice(rng, slices, 0.45, 0.75) * np.exp(0.45 * shades - 0.5 * side)
    network = _network(rng, grid, 0.85, 0.28) - 0.4
    brown *= 1 + 0.75 * network * ramp(fields(rng, grid.shape, 1.3 / pixel), -0.2, 0.8)
    dots = ramp(fields(rng, grid.shape, 0.13 / pixel), 1.7, 2.3) * ramp(side, -0.6, 0.6)

    black = patch(rng, x, y, radius, (0.1, 0.6), (0.2, 0.4), body)
    veil = patch(rng, x, y, radius, (0.1, 0.5), (0.3, 0.5), body)
    pale = patch(rng, x, y, radius, (0.3, 0.7), (0.15, 0.35), body) * (per_slice(rng, slices, 0, 1) < 0.6)

    epidermal = body * (brown + 1.0 * dots) * (1 - 0.75 * veil) * (1 - 0.8 * pale) + 1.3 * black * (1 - 0.5 * veil)
    dermal = veil * per_slice(rng, slices, 0.55, 0.85) + 0.6 * black + 0.1 * pale
    blood = skin.blood * (1 + body * (0.3 - 0.5 * veil) + 0.6 * pale)
    masks = {"lesion": distance < 0, "veil": (distance < 0) & (veil > 0.5) & (black < 0.25)}
    return Pigments(*(np.asarray(p, np.float32) for p in (skin.epidermal + epidermal, dermal, blood))), masks


def patch(rng: np.random.Generator, x: Array, y: Array, radius: Array, away: Range, wide: Range, body: Array) -> Array:
    """Draw an irregular part of a lesion, 0 to 1; distance from the middle and radius as shares of the lesion's."""
    slices = len(radius)
    turn, apart = per_slice(rng, slices, 0, 2 * np.pi), radius * per_slice(rng, slices, *away)
    size = radius * per_slice(rng, slices, *wide)
    distance = star(x - apart * np.cos(turn), y - apart * np.sin(turn), size, undulations(rng, slices, 7, 0.12))
    return ramp(distance, 0.6, -0.5) * body


def _hair(rng: np.random.Generator, grid: Grid, darkness: float) -> Array:
    """Draw melanin of hairs over the skin, roughly along one direction in each image."""
    slices = grid.shape[0]
    heading = rng.uniform(0, 2 * np.pi, (slices, 1)) + rng.normal(0, 0.4, (slices, HAIRS))
    start = rng.uniform(-5, 5, (slices, HAIRS, 2)) - 9 * np.stack([np.cos(heading), np.sin(heading)], -1)
    lines = wander(rng, start, heading, rng.uniform(9, 24, heading.shape), steps=8, bend=0.09)
    wide = rng.uniform(0.035, 0.07, heading.shape) * (rng.random(heading.shape) < rng.uniform(0.2, 1, (slices, 1)))
    return np.float32(darkness) * strokes(grid.x, grid.y, grid.pixel, lines, wide, 0.5 * wide)


def _light(rng: np.random.Generator, grid: Grid, dark_corners: bool) -> Array:
    """Return the brightness of the illumination, 0 to 1, with or without the round edge of the instrument's window."""
    slices = grid.shape[0]
    x, y = grid.x - per_slice(rng, slices, -0.5, 0.5), grid.y - per_slice(rng, slices, -0.5, 0.5)
    apart = np.hypot(x, y) / np.float32(FIELD_OF_VIEW / 2)
    light = 1 - 0.08 * apart**2
    if dark_corners:
        light = light * (0.06 + 0.94 * ramp(apart, 1.32, per_slice(rng, slices, 1.0, 1.15)))
    return np.asarray(light, np.float32)
