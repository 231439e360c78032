"""Tissue stained with haematoxylin and eosin: glands of the colon, and nuclei in the colours of two laboratories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ganatomy.errors import UserError
from ganatomy.images.image import Header, Image
from ganatomy.phantoms.objects import Outline, numbered, placed_outlines
from ganatomy.phantoms.shapes import Array, Grid, Mask, fields, ramp

WHITE = 243.0  # value of empty glass
HAEMATOXYLIN = np.array([0.65, 0.70, 0.29], np.float32)
EOSIN = np.array([0.07, 0.99, 0.11], np.float32)
"""Optical densities of the stains for red, green and blue light, Ruifrok & Johnston, Anal. Quant. Cytol. Histol. 23,
2001."""

GLANDS_WIDTH = 0.5  # mm across an image of glands
NUCLEI_WIDTH = 0.1  # mm across a field of nuclei


class Laboratory(NamedTuple):
    """Stains of a laboratory and colours of its scanner (our choice, of usual size).

    Attributes:
        haematoxylin: optical density of the stain for red, green and blue.
        eosin: optical density of the stain.
        strengths: factors of the amounts of both stains.
        glass: red, green and blue of empty glass.
        gamma: exponent of the values relative to empty glass.
        blur: SD of the point spread in mm.
    """

    haematoxylin: tuple[float, float, float]
    eosin: tuple[float, float, float]
    strengths: tuple[float, float]
    glass: tuple[float, float, float]
    gamma: float
    blur: float


LABORATORIES: Mapping[str, Laboratory] = {
    "scanner_a": Laboratory((0.66, 0.69, 0.30), (0.09, 0.98, 0.17), (0.85, 1.0), (243.0, 241.0, 244.0), 1.0, 0.0003),
    "scanner_b": Laboratory((0.52, 0.76, 0.39), (0.26, 0.86, 0.44), (1.25, 0.8), (246.0, 238.0, 234.0), 1.15, 0.0006),
}
"""Name of an image to the laboratory and scanner that it is made by; stains are 10 and 20 degrees apart."""


class _Stained:
    """A stained section with numbered objects; the amounts of both stains differ between patients.

    Args:
        rng: source of random numbers of the scanner and the laboratory.
        stains: amounts of haematoxylin and of eosin, (1, rows, columns) each.
        numbers: instance map, uint16 (1, rows, columns).
        name: name of the objects.
        pixel: edge of a pixel in mm.
        noise: SD of the scanner's noise.

    Attributes:
        stains: amounts of haematoxylin and of eosin, as given.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        stains: tuple[Array, Array],
        numbers: NDArray[np.uint16],
        name: str,
        pixel: float,
        noise: float,
    ):
        amounts = rng.uniform(0.75, 1.3, 2)
        colours = [
            (colour * rng.uniform(0.88, 1.12, 3).astype(np.float32))[:, None, None, None]
            for colour in (HAEMATOXYLIN, EOSIN)
        ]
        density = sum(
            colour * np.float32(amount) * stain for colour, amount, stain in zip(colours, amounts, stains, strict=True)
        )
        values = WHITE * np.exp(-np.asarray(density))
        values += noise * rng.standard_normal(values.shape, np.float32)
        self.image = Image.from_array(
            np.asarray(values.clip(0, 255), np.float32), (1.0, pixel, pixel), header=Header(modality="SM")
        )
        self.images = {"image": self.image}
        self.stains = stains
        self.instances = {name: numbers}
        self.masks: dict[str, Mask] = {name: numbers > 0}
        self.regions: dict[str, Mask] = {}


class StainedGlands(_Stained):
    """Glands of one patient's colon, between connective tissue.

    A gland is a ring of epithelial cells, whose nuclei line its border, around an empty lumen. Some patients have
    irregular glands whose lumen is narrow or filled. Tears are as empty as lumina, and clusters of lymphocytes are as
    dark as nuclei, so that no threshold finds glands.

    Attributes:
        image: red, green and blue from 0 to 255, float32, (3, 1, size, size).
        images: `image` by its name, "image".
        instances: "glands", the number of the gland that each pixel belongs to, uint16 (1, size, size).
        masks: "glands", all of them together.
        regions: empty, since nothing is uniform.
    """

    def __init__(self, seed: int, *, size: int = 128, noise: float = 4.0) -> None:
        """Draw a section.

        Args:
            seed: seed of the patient.
            size: rows and columns over 0.5 mm, at least 16.
            noise: SD of the scanner's noise.

        Raises:
            UserError: the noise is negative or the image is too small.
        """
        _check("glands", size, noise)
        place_rng, look_rng, stroma_rng, stain_rng = np.random.default_rng(seed).spawn(4)
        pixel = GLANDS_WIDTH / size
        grid = Grid.centred((1, size, size), (1.0, pixel, pixel))
        irregular = place_rng.random() < 0.45
        outlines = placed_outlines(
            place_rng,
            int(place_rng.integers(7, 17)),
            GLANDS_WIDTH * 1.1,
            (0.032, 0.075),
            ragged=0.13 if irregular else 0.06,
            orders=5,
            touching=0.35,
        )
        numbers, distances = numbered(grid, outlines)
        haematoxylin, eosin = _stroma(stroma_rng, grid)
        for number, (outline, distance) in enumerate(zip(outlines, distances, strict=True), 1):
            own = numbers == number
            for whole, part in zip(
                (haematoxylin, eosin), _gland(look_rng, grid, outline, distance, irregular), strict=True
            ):
                whole[own] = part[own]
        super().__init__(stain_rng, (haematoxylin, eosin), numbers, "glands", pixel, noise)


class StainedNuclei(_Stained):
    """A field of nuclei of one patient at high magnification, many of which touch.

    Nuclei differ in size, shape and amount of chromatin; red blood cells and strands of fibres lie between them.

    Attributes:
        image: red, green and blue from 0 to 255, float32, (3, 1, size, size).
        images: `image` by its name, "image".
        instances: "nuclei", the number of the nucleus that each pixel belongs to, uint16 (1, size, size).
        masks: "nuclei", all of them together.
        regions: empty, since nothing is uniform.
    """

    def __init__(self, seed: int, *, size: int = 128, noise: float = 4.0) -> None:
        """Draw a field.

        Args:
            seed: seed of the patient.
            size: rows and columns over 0.1 mm, at least 16.
            noise: SD of the scanner's noise.

        Raises:
            UserError: the noise is negative or the image is too small.
        """
        _check("nuclei", size, noise)
        place_rng, look_rng, around_rng, stain_rng = np.random.default_rng(seed).spawn(4)
        pixel = NUCLEI_WIDTH / size
        grid = Grid.centred((1, size, size), (1.0, pixel, pixel))
        radii = (0.0028, float(place_rng.uniform(0.0042, 0.0062)))
        outlines = placed_outlines(
            place_rng, int(place_rng.integers(20, 60)), NUCLEI_WIDTH * 1.05, radii, ragged=0.12, orders=3, touching=0.4
        )
        numbers, distances = numbered(grid, outlines)
        fibres = fields(around_rng, grid.shape, 0.004 / pixel)
        haematoxylin = np.asarray(0.1 + 0.03 * fibres, np.float32)
        eosin = np.asarray(0.32 + 0.12 * ramp(fibres, -0.6, 1.2), np.float32)
        for outline in _blood_cells(around_rng, outlines):
            eosin += np.float32(0.45) * grid.coverage(outline.distance(grid))
        for number, distance in enumerate(distances, 1):
            own = numbers == number
            chromatin = fields(look_rng, grid.shape, 0.0007 / pixel)
            rim = 0.35 * np.exp(-((distance / 0.0007) ** 2))
            amount = look_rng.uniform(0.4, 1.15) * (1 + 0.25 * chromatin) + rim
            haematoxylin[own], eosin[own] = amount[own], 0.25
        super().__init__(stain_rng, (haematoxylin, eosin), numbers, "nuclei", pixel, noise)


class TwoLaboratoryNuclei(StainedNuclei):
    """Fields of nuclei as the slides of two laboratories show them, with exactly the same tissue.

    Stains, strengths, glass, gamma and blur are those of `LABORATORIES`. Amounts of both stains differ between
    patients, alike in both laboratories; each image has noise of its own.

    Attributes:
        images: "scanner_a" and "scanner_b", from 0 to 255, float32, (3, 1, size, size).
        image: the former.
        instances: "nuclei", the number of the nucleus that each pixel belongs to, uint16 (1, size, size).
        masks: "nuclei", all of them together.
        regions: empty, since nothing is uniform.
    """

    def __init__(self, seed: int, *, size: int = 128, noise: float = 3.0) -> None:
        """Draw a field.

        Args:
            seed: seed of the patient.
            size: rows and columns over 0.1 mm, at least 16.
            noise: SD of the scanners' noise.

        Raises:
            UserError: the noise is negative or the image is too small.
        """
        super().__init__(seed, size=size, noise=noise)
        rng = np.random.default_rng((seed, 2))
        self.images = in_laboratories(rng, self.stains, NUCLEI_WIDTH / size, noise, rng.uniform(0.8, 1.25, 2))
        self.image = self.images["scanner_a"]


class TwoLaboratoryTumours:
    """Fields of tissue with or without a tumour, as the slides of two laboratories show them.

    Nuclei of tumours are larger, more crowded, more irregular and richer in chromatin, whose grains are coarse; their
    cytoplasm takes up more haematoxylin. All of these ranges overlap with those of normal tissue, and the strength of
    the stains hides how much a field takes up, so that its darkness does not tell tumours. The tissue is exactly the
    same in both laboratories. The amounts of both stains differ between patients, alike in both laboratories, and
    between the batches that are stained together, in each laboratory by itself.

    Attributes:
        images: "scanner_a" and "scanner_b", from 0 to 255, float32, (3, 1, size, size).
        image: the former.
        stains: amounts of haematoxylin and of eosin, (1, size, size) each.
        instances: "nuclei", the number of the nucleus that each pixel belongs to, uint16 (1, size, size).
        masks: "nuclei", all of them together, and "tumour", which is the whole field or nothing.
        regions: empty, since nothing is uniform.
    """

    def __init__(self, seed: int, *, size: int = 64, noise: float = 3.0) -> None:
        """Draw a field; about half of all seeds have a tumour.

        Args:
            seed: seed of the patient.
            size: rows and columns over 0.1 mm, at least 16.
            noise: SD of the scanners' noise.

        Raises:
            UserError: the noise is negative or the image is too small.
        """
        _check("tumours", size, noise)
        place_rng, look_rng, around_rng, stain_rng = np.random.default_rng((seed, 3)).spawn(4)
        tumour = bool(place_rng.random() < 0.5)
        grid = Grid.centred((1, size, size), (1.0, NUCLEI_WIDTH / size, NUCLEI_WIDTH / size))
        self.stains, numbers = _cells(place_rng, look_rng, around_rng, grid, tumour)
        amounts = stain_rng.uniform(0.8, 1.25, 2)
        self.images = in_laboratories(stain_rng, self.stains, grid.pixel, noise, amounts, batches=0.2)
        self.image = self.images["scanner_a"]
        self.instances = {"nuclei": numbers}
        self.masks: dict[str, Mask] = {"nuclei": numbers > 0, "tumour": np.full(grid.shape, tumour)}
        self.regions: dict[str, Mask] = {}


def in_laboratories(
    rng: np.random.Generator,
    stains: tuple[Array, Array],
    pixel: float,
    noise: float,
    amounts: NDArray[np.float64],
    batches: float = 0.0,
) -> dict[str, Image]:
    """Return a section as the slides of the `LABORATORIES` show it, by their names.

    Args:
        rng: source of random numbers of the scanners and the batches.
        stains: amounts of haematoxylin and of eosin, (1, rows, columns) each.
        pixel: edge of a pixel in mm.
        noise: SD of the scanners' noise.
        amounts: factors of both stains of this patient, in all laboratories.
        batches: largest deviation from 1 of further factors of both stains, drawn for each laboratory.
    """
    images = {}
    for name, own in LABORATORIES.items():
        # Nothing is drawn without batches, so that older phantoms stay as they are.
        batch = rng.uniform(1 - batches, 1 + batches, 2) if batches else np.ones(2)
        density = np.zeros((3, *stains[0].shape), np.float32)
        for colour, strength, amount, stain in zip(
            (own.haematoxylin, own.eosin), own.strengths, amounts * batch, stains, strict=True
        ):
            density += np.array(colour, np.float32)[:, None, None, None] * np.float32(strength * amount) * stain
        shares = ndimage.gaussian_filter(np.exp(-density), (0, 0, *[own.blur / pixel] * 2), mode="nearest")
        values = np.array(own.glass, np.float32)[:, None, None, None] * shares**own.gamma
        values += noise * rng.standard_normal(values.shape, np.float32)
        images[name] = Image.from_array(
            np.asarray(values.clip(0, 255), np.float32), (1.0, pixel, pixel), header=Header(modality="SM")
        )
    return images


def _cells(
    place_rng: np.random.Generator,
    look_rng: np.random.Generator,
    around_rng: np.random.Generator,
    grid: Grid,
    tumour: bool,
) -> tuple[tuple[Array, Array], NDArray[np.uint16]]:
    """Return haematoxylin and eosin of a field of cells, and the numbers of their nuclei."""
    radii = (0.0032, float(place_rng.uniform(0.0048, 0.0066))) if tumour else (0.0026, 0.0046)
    count = int(place_rng.integers(24, 60) if tumour else place_rng.integers(14, 50))
    outlines = placed_outlines(
        place_rng, count, NUCLEI_WIDTH * 1.05, radii, ragged=0.14 if tumour else 0.09, orders=3, touching=0.4
    )
    numbers, distances = numbered(grid, outlines)
    fibres = fields(around_rng, grid.shape, 0.004 / grid.pixel)
    cytoplasm = around_rng.uniform(0.1, 0.24) if tumour else around_rng.uniform(0.05, 0.19)
    haematoxylin = np.asarray(cytoplasm + 0.03 * fibres, np.float32)
    eosin = np.asarray(around_rng.uniform(0.25, 0.45) + 0.12 * ramp(fibres, -0.6, 1.2), np.float32)
    for outline in _blood_cells(around_rng, outlines):
        eosin += np.float32(0.45) * grid.coverage(outline.distance(grid))
    richest = look_rng.uniform(0.8, 1.3) if tumour else look_rng.uniform(0.65, 1.15)
    grain, coarse = (0.0012, 0.35) if tumour else (0.0008, 0.22)
    for number, distance in enumerate(distances, 1):
        own = numbers == number
        chromatin = fields(look_rng, grid.shape, grain / grid.pixel)
        rim = 0.35 * np.exp(-((distance / 0.0007) ** 2))
        amount = look_rng.uniform(0.45, 1.0) * richest * (1 + coarse * chromatin) + rim
        haematoxylin[own], eosin[own] = np.maximum(amount, 0)[own], 0.25
    return (haematoxylin, eosin), numbers


def _check(name: str, size: int, noise: float) -> None:
    if size < 16 or noise < 0:
        raise UserError(f"{name} on {size} pixels with noise {noise:g} cannot be drawn")


def _stroma(rng: np.random.Generator, grid: Grid) -> tuple[Array, Array]:
    """Return haematoxylin and eosin of connective tissue: fibres, nuclei, clusters of lymphocytes and tears."""
    fibres, cells, crowds, tears = (
        fields(rng, grid.shape, grain / grid.pixel) for grain in (0.006, 0.0028, 0.03, 0.025)
    )
    crowded = ramp(crowds, 1.0, 1.6)
    nuclei = ramp(cells + 1.3 * crowded, 1.55, 1.95)
    torn = ramp(tears, 1.5, 1.75)
    haematoxylin = 0.1 + 0.75 * nuclei
    eosin = 0.42 * (1 + 0.25 * fibres) * (1 - 0.5 * nuclei)
    return tuple(np.asarray(stain * (1 - 0.95 * torn), np.float32) for stain in (haematoxylin, eosin))  # type: ignore[return-value]


def _gland(
    rng: np.random.Generator, grid: Grid, outline: Outline, distance: Array, irregular: bool
) -> tuple[Array, Array]:
    """Return haematoxylin and eosin of a gland: nuclei along its border, cytoplasm, and the lumen."""
    depth = -distance
    cells, clumps = (fields(rng, grid.shape, grain / grid.pixel) for grain in (0.003, 0.006))
    wide = rng.uniform(0.15, 0.4) if irregular else rng.uniform(0.35, 0.6)
    lumen = ramp(depth, (1 - wide) * outline.radius - 0.004, (1 - wide) * outline.radius + 0.004)
    filled = rng.random() < (0.5 if irregular else 0.15)
    lining = ramp(np.abs(depth - 0.009 - 0.003 * clumps), 0.009 if irregular else 0.007, 0.003)
    haematoxylin = 0.2 + 0.8 * lining * ramp(cells, -0.9, 0.3)
    eosin = 0.3 + 0.05 * clumps
    inner = (0.15, 0.35) if filled else (0.02, 0.06)
    stains = ((1 - lumen) * stain + lumen * amount for stain, amount in zip((haematoxylin, eosin), inner, strict=True))
    return tuple(np.asarray(stain, np.float32) for stain in stains)  # type: ignore[return-value]


def _blood_cells(rng: np.random.Generator, taken: Sequence[Outline]) -> list[Outline]:
    """Return round cells without nuclei in free places."""
    found = placed_outlines(rng, int(rng.integers(0, 12)), NUCLEI_WIDTH, (0.003, 0.0036), ragged=0.02)
    return [
        one
        for one in found
        if all(np.hypot(one.x - other.x, one.y - other.y) > one.radius + other.radius for other in taken)
    ]
