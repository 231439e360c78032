"""Colour fundus photographs: arteries and veins, optic disc, fovea, and lesions of diabetic retinopathy."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from scipy.spatial import cKDTree

from ganatomy.errors import UserError
from ganatomy.images.image import Header, Image
from ganatomy.phantoms.shapes import Array, Grid, Mask, Path, Tubes, fields, grow_tree, label_of, ramp, turned

WIDTH = 13.5  # mm of retina across the image, about 45 degrees
FIELD = 6.5  # mm, radius of the camera's field of view

# Optical densities (natural logarithm) for red, green and blue light. Blood absorbs green and blue; the pigment
# epithelium and the choroid transmit mostly red light, more so in fair eyes (our choice of numbers).
WHITE = np.array([250.0, 215.0, 165.0], np.float32)
CHOROID = np.array([0.12, 0.75, 1.05], np.float32)
MELANIN = np.array([0.55, 0.75, 0.85], np.float32)
BLOOD = np.array([0.28, 0.75, 0.55], np.float32)
MACULA = np.array([0.0, 0.25, 0.7], np.float32)

EXUDATE = np.array([246.0, 226.0, 138.0], np.float32)  # colours in the middle of the image
COTTON = np.array([226.0, 214.0, 186.0], np.float32)

HEALTHY = (0.25, 0.5)  # radius of the cup of healthy eyes, as a share of the disc's
LARGEST_CUP = 0.9
ARTERY, VEIN = 0.018, 0.024  # mm, radius of the thinnest vessels drawn
ENDINGS = 170  # ends of vessels in the image, for arteries and for veins

RETINOPATHY = ("haemorrhages", "exudates", "spots")
"""Lesions of diabetic retinopathy, in the order of their values in the label map, from 1: bleeding, microaneurysms
included, hard exudates, and cotton-wool spots."""
GRADES = {"none": 0.0, "mild": 0.15, "moderate": 0.45, "severe": 1.0}
"""Grade of retinopathy to the number of its lesions relative to that of a severe one (our choice)."""


@dataclass(frozen=True)
class Eye:
    """Anatomy that differs between eyes; positions (x, y) in mm for a right eye, whose disc lies to the right."""

    disc: tuple[float, float]
    disc_radii: tuple[float, float]
    cup: float  # radius of the cup, as a share of the disc's
    fovea: tuple[float, float]
    melanin: float
    arch: float  # distance of the arcades from the fovea in mm

    @classmethod
    def draw(cls, rng: np.random.Generator, cup: tuple[float, float]) -> Eye:
        """Draw a random eye.

        Args:
            rng: source of random numbers.
            cup: smallest and largest radius of the cup, as a share of the disc's.
        """
        near = rng.uniform
        fovea = (near(-1.8, -0.8), near(-0.4, 0.4))
        height = near(0.82, 1.0)
        return cls(
            disc=(fovea[0] + near(4.4, 4.9), fovea[1] - near(0.1, 0.6)),
            disc_radii=(0.9 * height, height),
            cup=near(*cup),
            fovea=fovea,
            melanin=near(0.1, 0.6),
            arch=near(2.3, 2.9),
        )


class Fundus:
    """Fundi of one person, the right eye in even slices and the left one in odd ones.

    Arteries and veins leave the disc, arch around the fovea, which they spare, and branch by Murray's law.

    The optic disc has a bright cup in its middle, of which glaucoma leaves a thinner rim: ``cup=(0.25, 0.8)`` draws
    healthy eyes and such. With ``severity`` above 0, eyes have lesions of diabetic retinopathy.

    Attributes:
        image: red, green and blue from 0 to 255, float32, (3, slices, size, size); every slice shows another eye.
        images: `image` by its name, "image".
        masks: "vessels", "disc", "cup", "fovea", and "field", the camera's field of view; and the lesions of
            `RETINOPATHY`, which are empty in healthy eyes.
        labels: "disc_cup", 1 in the rim of the disc and 2 in its cup; "lesions", 1 in haemorrhages and microaneurysms,
            2 in hard exudates and 3 in cotton-wool spots.
        regions: empty, since nothing is uniform.
        eyes: anatomy of each slice.
    """

    def __init__(
        self,
        seed: int,
        *,
        size: int = 128,
        slices: int = 1,
        noise: float = 2.0,
        cup: tuple[float, float] = HEALTHY,
        around_disc: float | None = None,
        severity: float = 0.0,
    ) -> None:
        """Draw the eyes.

        Args:
            seed: seed of the person.
            size: rows and columns over 13.5 mm, at least 16.
            slices: number of eyes.
            noise: SD of the camera's noise.
            cup: smallest and largest radius of cups, as a share of their discs', from 0 to 0.9.
            around_disc: side in mm of the square around the disc that is shown, of which the disc lies up to 0.4 mm
                off the middle; None shows the whole field of view.
            severity: number of lesions relative to an eye with severe diabetic retinopathy; 0 draws healthy retinas.

        Raises:
            UserError: the noise or severity is negative, the image is too small, or a cup does not fit into its disc.
        """
        if size < 16 or slices < 1 or noise < 0 or severity < 0:
            raise UserError(
                f"{slices} fundi of {size} pixels with noise {noise:g} and retinopathy of severity {severity:g} cannot "
                "be drawn"
            )
        if not 0 < cup[0] <= cup[1] <= LARGEST_CUP or (around_disc is not None and around_disc <= 0):
            raise UserError(
                f"fundi with cups of {cup[0]:g} to {cup[1]:g} discs, seen in {around_disc} mm, cannot be drawn"
            )
        pixel = (around_disc or WIDTH) / size
        rngs = np.random.default_rng(seed).spawn(slices)
        self.eyes = tuple(Eye.draw(rng, cup) for rng in rngs)
        grid = Grid.centred((1, size, size), (1.0, pixel, pixel))
        drawn = []
        for number, (rng, eye) in enumerate(zip(rngs, self.eyes, strict=True)):
            left = number % 2 == 1
            seen = _around_disc(rng, grid, eye, left) if around_disc else grid
            # Seeds of their own leave everything else as it is in a healthy eye.
            sick = _retinopathy(np.random.default_rng([seed, number, 1]), eye, severity)
            drawn.append(_draw(rng, seen, eye, noise, left, sick))
        values = np.concatenate([colours for colours, _ in drawn], 1)
        self.masks: dict[str, Mask] = {
            name: np.concatenate([masks[name] for _, masks in drawn])
            for name in ("vessels", "disc", "cup", "fovea", "field", *RETINOPATHY)
        }
        self.labels = {"disc_cup": self.masks["disc"].astype(np.uint8) + self.masks["cup"].astype(np.uint8)}
        self.labels["lesions"] = np.zeros_like(self.labels["disc_cup"])
        for value, name in enumerate(RETINOPATHY, 1):
            self.labels["lesions"][self.masks[name]] = value
        self.image = Image.from_array(values, (1.0, pixel, pixel), header=Header(modality="OP"))
        self.images = {"image": self.image}
        self.regions: dict[str, Mask] = {}


class DiabeticFundus(Fundus):
    """`Fundus` of people with diabetes, of whom one in four has no retinopathy.

    Attributes:
        LABELS: grades of retinopathy, in the order in which seeds alternate between them.
        label: grade of this person.
    """

    LABELS: ClassVar[tuple[str, ...]] = tuple(GRADES)

    def __init__(self, seed: int, *, size: int = 128, slices: int = 1, label: str | None = None) -> None:
        """Draw the eyes.

        Args:
            seed: seed of the person.
            size: rows and columns over 13.5 mm, at least 16.
            slices: number of eyes.
            label: grade of retinopathy; None selects it by the seed.

        Raises:
            UserError: there is no such grade, or the image is too small.
        """
        self.label = label_of(seed, self.LABELS, label)
        super().__init__(seed, size=size, slices=slices, severity=GRADES[self.label])


def _around_disc(rng: np.random.Generator, grid: Grid, eye: Eye, left: bool) -> Grid:
    """Return the grid moved to the disc, with a random offset."""
    # A generator of its own leaves what is drawn later as in views of the whole field.
    across, down = rng.spawn(1)[0].uniform(-0.4, 0.4, 2)
    middle = -eye.disc[0] if left else eye.disc[0]
    x, y = grid.x + np.float32(middle + across), grid.y + np.float32(eye.disc[1] + down)
    return Grid(x, y, grid.z, grid.pixel)


@dataclass(frozen=True)
class Lesion:
    """A lesion of the retina: its kind, position (x, y) of its middle, half axes in mm, angle, and blurred border."""

    kind: str
    centre: tuple[float, float]
    half: tuple[float, float]
    angle: float
    soft: float  # width of the border in mm

    def share(self, grid: Grid) -> Array:
        """Return the share of each pixel that it covers, drawn fainter where it is smaller than a pixel."""
        u, v = turned(grid.x - np.float32(self.centre[0]), grid.y - np.float32(self.centre[1]), self.angle)
        drawn = [max(half, 0.6 * grid.pixel) for half in self.half]
        radius = float(np.sqrt(drawn[0] * drawn[1]))
        apart = (np.hypot(u / drawn[0], v / drawn[1]) - 1) * radius
        edge = max(self.soft, grid.pixel / 2)
        faint = self.half[0] * self.half[1] / (drawn[0] * drawn[1])
        return np.asarray(np.float32(faint) * ramp(np.asarray(apart, np.float32), edge, -edge), np.float32)


def _retinopathy(rng: np.random.Generator, eye: Eye, severity: float) -> list[Lesion]:
    """Draw lesions: small and larger bleedings, clusters of exudates around the fovea, and cotton-wool spots."""
    fovea, disc = np.array(eye.fovea), np.array(eye.disc)

    def about(middle: Path, spread: float) -> tuple[float, float] | None:
        x, y = rng.normal(middle, spread)
        free = np.hypot(x - disc[0], y - disc[1]) > 1.4 * eye.disc_radii[1] and np.hypot(x, y) < FIELD - 0.4
        return (float(x), float(y)) if free else None

    def radii(low: float, high: float, longest: float) -> tuple[float, float]:
        small = float(np.exp(rng.uniform(np.log(low), np.log(high))))
        return small * float(rng.uniform(1, longest)), small

    found: list[Lesion | None] = []

    def add(
        kind: str, count: float, middle: Path, spread: float, sizes: tuple[float, float, float], soft: float
    ) -> None:
        for _ in range(int(rng.poisson(count * severity))):
            centre, half, angle = about(middle, spread), radii(*sizes), float(rng.uniform(0, np.pi))
            found.append(Lesion(kind, centre, half, angle, soft) if centre else None)

    add("haemorrhages", 35, fovea, 2.6, (0.025, 0.05, 1.2), 0.02)  # microaneurysms
    add("haemorrhages", 14, fovea, 3.0, (0.07, 0.22, 2.6), 0.05)
    add("spots", 5, 0.5 * (fovea + disc), 2.6, (0.18, 0.4, 1.5), 0.14)
    for _ in range(int(rng.poisson(4 * severity))):
        add("exudates", 22 / max(severity, 0.2), fovea + rng.normal(0, 1.1, 2), 0.35, (0.025, 0.085, 1.6), 0.02)
    return [lesion for lesion in found if lesion is not None]


def _draw(
    rng: np.random.Generator, grid: Grid, eye: Eye, noise: float, left: bool, lesions: list[Lesion]
) -> tuple[Array, dict[str, Mask]]:
    """Draw one eye, (3, 1, rows, columns), and its masks."""
    x = -grid.x if left else grid.x
    seen = Grid(x, grid.y, grid.z, grid.pixel)
    u, v = (x - eye.disc[0]) / eye.disc_radii[0], (grid.y - eye.disc[1]) / eye.disc_radii[1]
    rim = np.hypot(u, v)
    on_disc = ramp(rim, 1.08, 0.92)
    cup = ramp(rim, 1.2 * eye.cup, 0.8 * eye.cup)
    away = np.hypot(x - eye.fovea[0], grid.y - eye.fovea[1])

    arteries, reflex = _vessels(rng, seen, eye, ARTERY, 0.3)
    veins, _ = _vessels(rng, seen, eye, VEIN, -0.3)
    blood = np.maximum(0.62 * arteries * (1 - 0.3 * reflex), veins)

    mottle, clouds = fields(rng, grid.shape, 0.09 / grid.pixel), fields(rng, grid.shape, 1.1 / grid.pixel)
    pit = np.exp(-0.5 * (away / 0.55) ** 2)
    choroid = (1 + 0.05 * mottle + 0.07 * clouds) * (1 - 0.93 * on_disc)
    melanin = (eye.melanin * (1 + 0.1 * mottle + 0.1 * clouds) + 0.35 * pit) * (1 - on_disc)
    pallor = 0.1 * on_disc * (1 - cup)
    pairs = [(CHOROID, choroid), (MELANIN, melanin), (MACULA, pit), (BLOOD, blood * (1 - 0.35 * cup) + pallor)]
    sick = {name: np.zeros(grid.shape, np.float32) for name in RETINOPATHY}
    for lesion in lesions:
        np.maximum(sick[lesion.kind], lesion.share(seen), out=sick[lesion.kind])
    if lesions:
        pairs.append((BLOOD, 1.5 * sick["haemorrhages"] * (1 - on_disc)))
    density = sum(absorption[:, None, None, None] * amount for absorption, amount in pairs)

    apart = np.hypot(grid.x, grid.y)
    light = (1 - 0.35 * (apart / FIELD) ** 2) * grid.coverage(apart - FIELD)
    light = light * (1 + 0.06 * fields(rng, grid.shape, 3 / grid.pixel))
    reflected = WHITE[:, None, None, None] * np.exp(-np.asarray(density))
    for name, colour in (("spots", COTTON), ("exudates", EXUDATE)) if lesions else ():
        reflected = reflected + 0.85 * sick[name] * (colour[:, None, None, None] - reflected)
    values = reflected * light
    values += noise * rng.standard_normal(values.shape, np.float32)
    field = apart < FIELD
    masks = {
        "vessels": (np.maximum(arteries, veins) > 0.5) & field,
        "disc": (rim < 1) & field,
        "cup": (rim < eye.cup) & field,
        "fovea": (away < 0.75) & field,
        "field": field,
        **{name: (share > 0.5) & field for name, share in sick.items()},
    }
    return np.asarray(values.clip(0, 255), np.float32), masks


def _vessels(rng: np.random.Generator, grid: Grid, eye: Eye, thinnest: float, shift: float) -> tuple[Array, Array]:
    """Return the shares of each pixel that one tree and the central reflexes of its vessels cover."""
    trunks = [_arcade(rng, eye, side, shift) for side in (-1, 1)] + [_nasal(rng, eye, side) for side in (-1, 1)]
    strewn = rng.uniform(-FIELD, FIELD, (4 * ENDINGS, 2))
    spared = np.linalg.norm(strewn - eye.fovea, axis=1) > 0.7
    spared &= np.linalg.norm(strewn - eye.disc, axis=1) > 1.3 * eye.disc_radii[1]
    endings = strewn[spared & (np.hypot(*strewn.T) < FIELD)][:ENDINGS]
    targets = np.concatenate([*trunks, endings])
    flat = np.concatenate([targets, np.zeros((len(targets), 1))], 1)
    tree = _smoothed(grow_tree((*eye.disc, 0.0), flat, thinnest))
    plane = Grid(np.sort(grid.x, axis=None)[None, None], grid.y, grid.z, grid.pixel)
    covered = tree.draw(plane)
    reflex = replace(tree, radii=0.35 * tree.radii).draw(plane)
    mirrored = grid.x[0, 0, 0] > grid.x[0, 0, -1]
    return (covered[..., ::-1], reflex[..., ::-1]) if mirrored else (covered, reflex)


def _smoothed(tree: Tubes) -> Tubes:
    """Return the tree with smoothed kinks: every fork is moved towards its parent and its children."""
    nodes = np.concatenate([tree.starts[:1], tree.ends])
    parents = np.asarray(cKDTree(nodes).query(tree.starts)[1])
    children = np.bincount(parents, minlength=len(nodes))
    inner = np.flatnonzero(children[1:]) + 1
    for _ in range(4):
        below = np.zeros_like(nodes)
        np.add.at(below, parents, nodes[1:])
        around = nodes[parents[inner - 1]] + below[inner] / children[inner, None]
        nodes[inner] = 0.5 * nodes[inner] + 0.25 * around
    return Tubes(nodes[parents], nodes[1:], tree.radii)


def _arcade(rng: np.random.Generator, eye: Eye, side: int, shift: float) -> Path:
    """Return points along a temporal vessel, from the disc over or under the fovea; `side` is -1 above, 1 below."""
    t = np.linspace(0.05, 1, 30)[:, None]
    start, fovea = np.array(eye.disc), np.array(eye.fovea)
    over = fovea + np.array([0.6, side * (1.5 * eye.arch + shift)])
    end = fovea + np.array([-4.5, side * (0.45 * eye.arch + 0.5 * shift)])
    wave = 0.08 * np.sin(rng.uniform(7, 11) * t + rng.uniform(0, 6)) * (0, 1)
    return np.asarray((1 - t) ** 2 * start + 2 * t * (1 - t) * over + t**2 * end + wave)


def _nasal(rng: np.random.Generator, eye: Eye, side: int) -> Path:
    """Return points along a vessel away from the fovea."""
    t = np.linspace(0.1, 1, 12)[:, None]
    end = np.array([rng.uniform(2.0, 3.0), side * rng.uniform(2.5, 4.0)])
    bend = 0.4 * np.sin(np.pi * t) * (0, side)
    return np.asarray(np.array(eye.disc) + t * end + bend)
