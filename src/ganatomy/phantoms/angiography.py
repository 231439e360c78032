"""Heads in T1- and T2-weighted MR and in time-of-flight angiography: arteries that shine, and veins that do not.

Flowing blood gives no spin echo, so that arteries and veins are both dark in T2, like bone and air; in T1 they hardly
differ from grey matter. Only their places tell arteries, which shine in angiography, from all of these. Signals are
those of `ganatomy.physics.mr_contrast`.
"""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ganatomy.errors import UserError
from ganatomy.images.image import Header, Image
from ganatomy.phantoms.brain import Anatomy, _tissues
from ganatomy.phantoms.shapes import Array, Grid, Mask, PlaneWaves, Point, Tubes, average, grow_tree
from ganatomy.physics.mr_contrast import (
    MEASURED,
    Tissue,
    pulses_met,
    spin_echo,
    spoiled_gradient_echo,
    time_of_flight,
)

FIELD = 1.5  # T
TABLE = MEASURED[FIELD]
BRIGHTEST = 1000.0  # a.u., signal of white matter in T1, of fluid in T2 and of fresh blood in angiography
FINEST = 1.0  # mm, largest edge of the pixels that coarser ones are averaged from
THINNEST = 0.3  # mm, radius of the last branches
PIECE = 5.0  # mm, longest straight piece of a vessel
REPETITION, ECHO, FLIP = 25.0, 4.0, 20.0  # ms, ms and degrees of the angiography
DRAWN = 0.35  # share of a voxel from which it counts as vessel


class _Branch(NamedTuple):
    """Where a tree begins, and the box (x, y, z) in which its branches end, in units of half axes of the brain."""

    root: Point
    low: Point
    high: Point
    ends: int


ARTERIES = {
    "middle": _Branch((0.22, -0.12, -0.50), (0.30, -0.75, -0.35), (0.97, 0.45, 0.75), 150),
    "anterior": _Branch((0.05, -0.22, -0.45), (0.02, -0.85, -0.25), (0.18, 0.10, 0.75), 50),
    "posterior": _Branch((0.07, 0.15, -0.50), (0.05, 0.25, -0.35), (0.55, 0.92, 0.45), 70),
}
"""Cerebral arteries of one side, with the other one mirrored: root and territory (our choice)."""
VEINS = {"cortical": _Branch((0.02, 0.20, 1.0), (0.25, -0.80, 0.0), (0.98, 0.80, 0.9), 70)}
"""Veins of one side that end in the sagittal sinus (our choice)."""

LIKE = {"ventricles": "csf"}


class BrainMRA:
    """A head with a skull, in T1, T2 and time-of-flight angiography, with trees of arteries and veins.

    Trees obey Murray's law and differ between sides and patients; an artery of a side may be missing, as in a variant
    of the circle of Willis, and the other side then supplies both. Arteries lose brightness with the time that their
    blood has spent in the slab; the blood of veins is in the steady state.

    Attributes:
        image: T1-weighted MR.
        images: "t1", a spoiled gradient echo; "t2", a spin echo; "mra", a spoiled gradient echo with inflow; float32
            (1, slices, rows, columns) in a.u., with a slow bias field and Rician noise.
        masks: "arteries" and "veins", where they take at least 35 % of a voxel; "brain" with its fluid and vessels.
        regions: "white", where there is nothing else.
    """

    def __init__(
        self,
        seed: int,
        *,
        size: int = 128,
        slices: int = 16,
        distance_mm: float = 1.5,
        field_mm: float = 160.0,
        bias: float = 0.05,
        noise: float = 0.02,
    ) -> None:
        """Draw the patient.

        Args:
            seed: seed of the patient.
            size: rows and columns.
            slices: number of slices, from below.
            distance_mm: distance between slices.
            field_mm: edge of a slice; a small one shows the middle of the head only.
            bias: SD of the logarithm of the coil's sensitivity.
            noise: SD of the noise in either channel, relative to the brightest tissue of the image.

        Raises:
            UserError: the size is impossible, or the noise negative.
        """
        if size < 16 or slices < 1 or not 0 < distance_mm <= 10 or not field_mm > 0 or min(bias, noise) < 0:
            raise UserError(
                f"an angiography of {slices} x {size} x {size} voxels over {field_mm:g} mm, {distance_mm:g} mm apart, "
                f"with noise {noise:g} cannot be drawn: give at least one slice of 16 x 16 pixels, and at most 10 mm "
                "between slices"
            )
        pixel, (anatomical, vascular, physical) = field_mm / size, np.random.default_rng(seed).spawn(3)
        anatomy, level = Anatomy.draw(anatomical), float(anatomical.uniform(-6, 14))
        parts = ceil(pixel / FINEST)
        spacing = (distance_mm, pixel / parts, pixel / parts)
        fine = Grid.centred((slices, size * parts, size * parts), spacing, level)
        tissues = {name: average(share, parts) for name, share in _tissues(anatomy, fine, True).items()}

        bottom = float(fine.z.min()) - distance_mm / 2
        arteries, signals = _arteries(anatomy, vascular, fine, bottom, parts)
        veins = average(_drawn(_veins(anatomy, vascular), fine), parts) * (1 - arteries)
        vessels = arteries + veins
        head = np.asarray(sum(tissues.values()), np.float32)

        grid = Grid.centred((slices, size, size), (distance_mm, pixel, pixel), level)
        coil = np.exp(np.float32(bias) * PlaneWaves.draw(physical, 260.0, 4)(grid.x, grid.y, grid.z))
        mottle = np.float32(0.03) * PlaneWaves.draw(physical, 14.0, 12)(grid.x, grid.y, grid.z)
        blood = float(time_of_flight(TABLE["blood"], REPETITION, ECHO, FLIP))
        flowing = {"t1": _signal("blood", "t1") * vessels, "t2": 0.0, "mra": signals + blood * veins}
        full = {"t1": _signal("white", "t1"), "t2": _signal("csf", "t2"), "mra": _fresh()}
        self.images: dict[str, Image] = {}
        for name in ("t1", "t2", "mra"):
            still = sum(np.float32(_signal(tissue, name)) * share for tissue, share in tissues.items())
            clean = (still * (1 - vessels) * (1 + mottle) + flowing[name]) * np.float32(BRIGHTEST / full[name])
            thermal = BRIGHTEST * noise * physical.standard_normal((2, *grid.shape), np.float32)
            values = np.hypot(coil * clean + thermal[0], thermal[1]).astype(np.float32)
            self.images[name] = Image.from_array(values, (distance_mm, pixel, pixel), "a.u.", Header(modality="MR"))
        self.image = self.images["t1"]

        inside = sum(tissues[name] for name in ("grey", "white", "csf", "ventricles"))
        self.masks: dict[str, Mask] = {
            "arteries": (arteries >= DRAWN) & (head > 0.5),
            "veins": (veins >= DRAWN) & (head > 0.5),
            "brain": np.asarray(inside >= 0.5),
        }
        self.regions: dict[str, Mask] = {"white": (tissues["white"] > 0.97) & (vessels == 0)}


def _signal(tissue: str, contrast: str) -> float:
    """Return the signal of a tissue that does not move; sequences are typical at 1.5 T (our choice)."""
    properties: Tissue = TABLE[LIKE.get(tissue, tissue)]
    if contrast == "t1":
        return float(spoiled_gradient_echo(properties, 18, 5, 25))
    if contrast == "t2":
        return float(spin_echo(properties, 4000, 95))
    return float(time_of_flight(properties, REPETITION, ECHO, FLIP))


def _fresh() -> float:
    """Return the signal of blood that has just entered the slab."""
    return float(time_of_flight(TABLE["blood"], REPETITION, ECHO, FLIP, 1))


def _grown(anatomy: Anatomy, rng: np.random.Generator, branch: _Branch, side: int, ends: int) -> Tubes:
    """Return a winding tree of one side, -1 or 1, whose branches end inside the skull."""
    half = np.asarray(anatomy.half)
    near = rng.uniform(branch.low, branch.high, (40 * ends, 3))
    # Vessels lie on the surface of the brain rather than in its depth.
    radius = np.sqrt((near**2).sum(1))
    kept = near[(radius < 0.95) & ((radius > 0.6) | (near[:, 0] < 0.2))][:ends]
    targets = kept * half * (side, 1, 1)
    root = np.asarray(branch.root) * half * (side, 1, 1) + rng.normal(0, 1.5, 3)
    return _winding(rng, grow_tree(tuple(root), targets, THINNEST))


def _winding(rng: np.random.Generator, tree: Tubes) -> Tubes:
    """Cut the pieces of a tree into short ones and bend them, which leaves them connected."""
    lengths = np.linalg.norm(tree.ends - tree.starts, axis=1)
    starts, ends, radii = [], [], []
    for start, end, (first, last), length in zip(tree.starts, tree.ends, tree.radii, lengths, strict=True):
        steps = np.linspace(0, 1, max(ceil(length / PIECE), 1) + 1)[:, None]
        path, widths = start + steps * (end - start), first + steps[:, 0] * (last - first)
        starts.append(path[:-1])
        ends.append(path[1:])
        radii.append(np.stack([widths[:-1], widths[1:]], 1))
    bends = [PlaneWaves.draw(rng, 22.0, 8) for _ in range(3)]

    def bent(points: NDArray[np.float64]) -> NDArray[np.float64]:
        return points + 1.6 * np.stack([bend(*points.T) for bend in bends], 1)

    return Tubes(bent(np.concatenate(starts)), bent(np.concatenate(ends)), np.concatenate(radii))


def _drawn(trees: list[Tubes], fine: Grid) -> Array:
    return np.asarray(np.max([tree.draw(fine) for tree in trees], axis=0), np.float32)


def _arteries(anatomy: Anatomy, rng: np.random.Generator, fine: Grid, bottom: float, parts: int) -> tuple[Array, Array]:
    """Return the share of every voxel that arteries take, and the signal of their blood in angiography."""
    trees: list[Tubes] = []
    for name, branch in ARTERIES.items():
        # The anterior arteries of both sides may come from one trunk.
        missing = int(rng.choice((-1, 1))) if name == "anterior" and rng.random() < 0.3 else 0
        for side in (-1, 1):
            ends = round(branch.ends * rng.uniform(0.6, 1.2))
            root = branch._replace(root=(-branch.root[0], *branch.root[1:])) if side == missing else branch
            trees.append(_grown(anatomy, rng, root, side, max(ends, 8)))
    trunk_velocity = float(rng.uniform(150, 350))
    share, signal = np.zeros(fine.shape, np.float32), np.zeros(fine.shape, np.float32)
    for tree in trees:
        met = _pulses(tree, bottom, trunk_velocity)
        for number in np.unique(met):
            some = met == number
            drawn = Tubes(tree.starts[some], tree.ends[some], tree.radii[some]).draw(fine)
            bright = time_of_flight(TABLE["blood"], REPETITION, ECHO, FLIP, number)
            np.maximum(signal, np.float32(bright) * drawn, out=signal)
            np.maximum(share, drawn, out=share)
    return average(share, parts), average(signal, parts)


def _pulses(tree: Tubes, bottom: float, velocity: float) -> NDArray[np.float64]:
    """Return the number of pulses that blood has met at the end of each piece of a tree.

    Velocity falls in proportion to the radius, from that of a trunk of 1.5 mm. Blood below the slab meets no pulses.
    """
    lengths = np.linalg.norm(tree.ends - tree.starts, axis=1)
    speeds = velocity * np.clip(tree.radii.mean(1) / 1.5, 0.2, 1)
    highest = np.maximum(tree.starts[:, 2], tree.ends[:, 2])
    times = np.where(highest > bottom, lengths / speeds, 0)
    arrived: dict[tuple[float, ...], float] = {}
    total = np.zeros(len(times))
    for piece, (start, end) in enumerate(zip(tree.starts, tree.ends, strict=True)):
        total[piece] = arrived.get(tuple(start), 0.0) + times[piece]
        arrived[tuple(end)] = total[piece]
    return np.minimum(pulses_met(total * velocity, velocity, REPETITION), 60)


def _veins(anatomy: Anatomy, rng: np.random.Generator) -> list[Tubes]:
    """Return the sagittal sinus, cortical veins that end in it, and the internal veins in the middle."""
    _, length, height = anatomy.half
    angles = np.linspace(-0.95 * np.pi, 0.15 * np.pi, 30)
    arch = np.stack([0 * angles, 0.97 * length * np.cos(angles), -0.97 * height * np.sin(angles)], 1)
    trees = [Tubes.along(arch, 1.2, 3.2)]
    for side in (-1, 1):
        for branch in VEINS.values():
            trees.append(_grown(anatomy, rng, branch, side, round(branch.ends * rng.uniform(0.6, 1.2))))
        inner = np.array([[2.0 * side, -10, 8], [2.2 * side, 15, 12], [1.0 * side, 35, 14]])
        trees.append(Tubes.along(inner + rng.normal(0, 1, inner.shape), 0.6, 1.0))
    return trees
