"""Fluorescence images of cell nuclei over time: they move, touch, fade and divide."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
from scipy import ndimage

from ganatomy.errors import UserError
from ganatomy.images.image import Header, Image
from ganatomy.phantoms.objects import Outline, numbered, placed_outlines
from ganatomy.phantoms.shapes import Array, Grid, Mask, fields

WIDTH = 0.16  # mm across the image
RADII = (0.006, 0.0105)  # mm, mean radii of nuclei
BLUR = 0.0009  # mm, SD of the blur of the microscope
OFFSET, GAIN = 110.0, 2.2  # value of the camera without light, and values per photon


class FluorescentCells:
    """Nuclei of living cells in one frame of a movie, with a fluorescent label.

    The brightness of nuclei differs by a factor of five, and the background is uneven and brighter than the faintest
    nuclei elsewhere. From frame to frame nuclei move, the label bleaches, and some divide. Many nuclei touch.

    Attributes:
        SEEDS_PER_SUBJECT: number of frames of a movie, which are one subject.
        image: values of the camera, float32, (1, 1, size, size).
        images: `image` by its name, "image".
        instances: "cells", the number of the nucleus that each pixel belongs to, uint16 (1, size, size); a nucleus has
            the same number in all frames, until it divides.
        masks: "cells", all nuclei together.
        regions: empty, since nothing is uniform.
        frame: number of the frame in its movie, from 0.
    """

    SEEDS_PER_SUBJECT: ClassVar[int] = 3

    def __init__(self, seed: int, *, size: int = 128, noise: float = 4.0) -> None:
        """Draw a frame.

        Args:
            seed: seed of the frame; consecutive ones are frames of one movie.
            size: rows and columns over 0.16 mm, at least 16.
            noise: SD of the camera's noise, besides that of the photons.

        Raises:
            UserError: the noise is negative or the image is too small.
        """
        if size < 16 or noise < 0:
            raise UserError(f"cells on {size} pixels with noise {noise:g} cannot be drawn")
        movie, self.frame = divmod(seed, self.SEEDS_PER_SUBJECT)
        place_rng, move_rng, look_rng, light_rng = np.random.default_rng(movie).spawn(4)
        camera_rng = np.random.default_rng([movie, self.frame])
        pixel = WIDTH / size
        grid = Grid.centred((1, size, size), (1.0, pixel, pixel))
        first = placed_outlines(
            place_rng, int(place_rng.integers(14, 34)), WIDTH, RADII, ragged=0.11, orders=3, touching=0.55
        )
        outlines = _moved(move_rng, first, self.frame)
        numbers, distances = numbered(grid, outlines)
        light = _background(light_rng, grid)
        bleached = 0.92**self.frame
        for number, distance in enumerate(distances, 1):
            nucleus = _nucleus(look_rng, grid, outlines[number - 1], distance)
            light = light + bleached * nucleus * (numbers == number)
        seen = ndimage.gaussian_filter(light, (0, BLUR / pixel, BLUR / pixel))
        photons = camera_rng.poisson(np.maximum(seen, 0))
        values = OFFSET + GAIN * photons + noise * camera_rng.standard_normal(grid.shape)
        self.image = Image.from_array(
            np.asarray(values.clip(0, 65535), np.float32), (1.0, pixel, pixel), header=Header(modality="GM")
        )
        self.images = {"image": self.image}
        self.instances = {"cells": numbers}
        self.masks: dict[str, Mask] = {"cells": numbers > 0}
        self.regions: dict[str, Mask] = {}


def _moved(rng: np.random.Generator, outlines: list[Outline], frame: int) -> list[Outline]:
    """Return the nuclei in a later frame: moved a little, and some divided into two at the second frame."""
    drift = rng.normal(0, 0.0012, (len(outlines), 2))
    divides, turns = rng.random(len(outlines)) < 0.08, rng.uniform(0, np.pi, len(outlines))
    found, daughters = [], []
    for outline, (dx, dy), divided, turn in zip(outlines, drift, divides, turns, strict=True):
        moved = replace(outline, x=outline.x + frame * dx, y=outline.y + frame * dy)
        if divided and frame:
            radius = 0.72 * outline.radius
            step = np.array([np.cos(turn), np.sin(turn)]) * radius * (0.9 + 0.2 * frame)
            one, other = (
                replace(moved, x=moved.x + sign * float(step[0]), y=moved.y + sign * float(step[1]), radius=radius)
                for sign in (1, -1)
            )
            found.append(one)
            daughters.append(other)
        else:
            found.append(moved)
    return [*found, *daughters]


def _nucleus(rng: np.random.Generator, grid: Grid, outline: Outline, distance: Array) -> Array:
    """Return the photons of a nucleus: brighter where it is thick, with chromatin and dark nucleoli."""
    depth = np.clip(-distance / outline.radius, 0, 1)
    thickness = 0.45 + 0.55 * np.sqrt(depth * (2 - depth))
    chromatin = fields(rng, grid.shape, 0.0011 / grid.pixel)
    bright = 16 * np.exp(rng.uniform(0, np.log(5)))
    return np.asarray(bright * thickness * np.maximum(1 + 0.22 * chromatin, 0.2), np.float32)


def _background(rng: np.random.Generator, grid: Grid) -> Array:
    """Return the photons of the medium and of light from other planes."""
    haze = fields(rng, grid.shape, 0.03 / grid.pixel)
    return np.asarray(9 * np.exp(0.55 * haze), np.float32)
