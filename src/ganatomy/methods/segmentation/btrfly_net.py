"""Btrfly Net: the vertebrae of a CT by heat maps of two projections, and discriminators that know spines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import relu

from ganatomy.case import Sample
from ganatomy.errors import UserError
from ganatomy.game import Batch, Player, Progress, Stage, Turn, adam, over_processes
from ganatomy.losses.heatmaps import class_weights, heat_maps, heat_of_points, weighted_entropy
from ganatomy.nets.btrfly import ButterflyNet, EnergyDiscriminator
from ganatomy.phantoms.spine import NAMES
from ganatomy.tasks.landmarks.task import Embedded, LandmarkConfig, Locator

SPINE = Embedded("spine-ct", size=40, subjects=40)
ACROSS = (1, 2)
"""Axis of a volume (slices, rows, columns) that runs across each projection: rows in the sagittal, columns in the
coronal one."""
WEIGHTS = "class weights"
"""Name of the weights of classes among the numbers that are fitted to the training cases, (views, classes)."""


class BtrflyNet(Locator):
    """Labels of vertebrae from the sagittal and the coronal projection of the brightest voxels of a CT.

    A network with two arms around a shared body predicts a heat map of every vertebra in both projections. Each
    projection has a discriminator, an autoencoder of the stack of heat maps whose error is low for true spines: a prior
    of how neighbours lie. The position of a vertebra is the maximum of the product of its two heat maps. Expects
    volumes around the spine, so that few ribs cover it; they are cropped around their centre.

    Sekuboyina et al., Btrfly Net: Vertebrae Labelling with Energy-based Adversarial Learning of Local Spine Prior,
    MICCAI 2018, pp. 649-657. arXiv 1804.01307.
    """

    stated_augmentation = None

    class Config(LandmarkConfig):
        """Networks and losses of a public program after the paper; rates, sizes and the margin are our choices."""

        role_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "ct": {"window": (-200.0, 1000.0)},
            "vertebrae": {"part": "points:vertebrae"},
        }

        landmarks: str = "vertebrae"  # name of the landmarks
        names: tuple[str, ...] = NAMES  # names of the vertebrae, from the head to the pelvis
        parts: Mapping[str, tuple[str, ...]] = {
            "cervical": NAMES[:7],
            "thoracic": NAMES[7:19],
            "lumbar": NAMES[19:],
        }  # parts of the spine, which are scored apart
        size: tuple[int, ...] | None = (768, 160, 160)  # slices, rows and columns; rows are columns (our choice)
        width: int = 32  # channels of the first level of the arms, doubled at every halving
        discriminator_width: int = 10  # channels of the discriminators' widest layers
        dropout: float = 0.5  # dropout of the body
        sigma_mm: float = Field(5.0, gt=0)  # SD of the heat of a vertebra in mm
        vertebra_heat: float = Field(0.6, gt=0, lt=1)  # heat above which a pixel belongs to a vertebra
        game_rounds: int = 100_000  # updates of the network (our choice)
        batch_size: int = 2  # volumes (our choice)
        learning_rate: float = 1e-3  # Adam of all networks (our choice)
        lowest_rate: float = 2e-4  # learning rate that is not fallen below (our choice)
        rate_every: int = 10_000  # rounds after which the rate is multiplied by rate_factor (our choice)
        rate_factor: float = Field(0.75, gt=0, le=1)  # factor of the learning rate (our choice)
        weight_decay: float = 1e-3  # of the network, not of the discriminators (our choice)
        entropy_weight: float = 1.0  # weight of the cross-entropy beside the squared error
        adversarial_weight: float = 1.0  # weight of the energies; 0 trains without discriminators
        margin: float = Field(
            2.0, gt=0
        )  # energy of predictions that is high enough, in mean energies of true maps (our choice)
        flips: tuple[int, ...] = (2,)  # axes along which volumes are mirrored: 2 columns, left and right (our choice)

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "small": {
                "spacing": (4.0, 4.0, 4.0),
                "size": (200, 40, 40),
                "width": 8,
                "sigma_mm": 10.0,
                # Dropout before batch norms, whose statistics then differ at inference, hinders so small a network.
                "dropout": 0.0,
                "learning_rate": 3e-3,
                "game_rounds": 1_000,
                "batch_size": 4,
                "rate_every": 400,
                "weight_decay": 1e-5,
            },
        }
        baseline: ClassVar[Mapping[str, Any]] = {"adversarial_weight": 0.0}

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        c = config
        if c.size is None or len(c.size) != 3 or c.size[1] != c.size[2] or any(extent % 8 for extent in c.size):
            raise UserError(
                "--size: give slices, rows and columns that are multiples of 8, with as many rows as columns"
            )
        if len(c.names) % 4 and c.adversarial_weight:
            raise UserError(f"--names: the discriminators need a multiple of 4 landmarks, not {len(c.names)}")
        self.generator = ButterflyNet(len(c.names) + 1, c.width, c.dropout)
        self.discriminators = (
            torch.nn.ModuleList(EnergyDiscriminator(c.discriminator_width) for _ in ACROSS)
            if c.adversarial_weight
            else None
        )
        self.register_buffer("energies", torch.zeros(2))

    @property
    def adversarial(self) -> bool:
        """Whether the network is trained against discriminators."""
        return self.discriminators is not None

    @property
    def embedded(self) -> Embedded:
        return SPINE

    @property
    def sigmas(self) -> tuple[float, float, float]:
        """SD of the heat of a vertebra along slices, rows and columns, in voxels."""
        steps = self.config.spacing or (1.0, 1.0, 1.0)
        slices, rows, columns = (self.config.sigma_mm / step for step in steps)
        return slices, rows, columns

    def fit(self, samples: Iterable[Sample]) -> None:
        """Fit the weights of classes, which balance rare and frequent vertebrae and the background."""
        cases = list(samples)
        super().fit(cases)
        c = self.config
        assert c.size is not None
        points = [np.asarray(case.arrays[c.landmarks], np.float32).reshape(len(c.names), 4) for case in cases]
        counts = torch.zeros(2, len(c.names) + 1)
        for own in points:
            for view, across in enumerate(ACROSS):
                maps = heat_of_points(torch.from_numpy(own)[None], across, (c.size[0], c.size[across]), self.sigmas)
                vertebrae = maps[0] > c.vertebra_heat
                counts[view, 0] += (~vertebrae.any(0)).sum()
                counts[view, 1:] += vertebrae.flatten(1).sum(1)
        self.fitted.keep({**self.fitted.numbers, WEIGHTS: class_weights(counts).numpy()})

    def stages(self) -> Sequence[Stage]:
        c = self.config
        assert c.size is not None
        moves = adam(c.learning_rate, weight_decay=c.weight_decay)
        players = [Player("generator", (self.generator,), moves, self.rate)]
        if self.discriminators is not None:
            players.insert(
                0, Player("discriminator", (self.discriminators,), adam(c.learning_rate), self.rate, adversary=True)
            )
        stream = self.images(c.batch_size, (c.size[0], c.size[1], c.size[2]), flips=c.flips)
        return [Stage("label", self.turns, players, c.game_rounds, stream)]

    def rate(self, progress: Progress) -> float:
        """Return the factor of the learning rate: a fixed share of it every so many rounds, down to the lowest."""
        c = self.config
        return max(c.rate_factor ** (progress.stage_round // c.rate_every), c.lowest_rate / c.learning_rate)

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        c = self.config
        batch = next(batches)
        shown = self.projections(batch[c.image])
        made = [maps * (view > 0) for maps, view in zip(self.generator(*shown), shown, strict=True)]
        true = [
            heat_maps(batch[c.landmarks], across, view.shape[2:], self.sigmas) * (view > 0)
            for across, view in zip(ACROSS, shown, strict=True)
        ]
        if self.discriminators is not None:
            yield Turn("discriminator", self.energy_losses(made, true))
        losses: dict[str, Tensor] = {}
        for view, (maps, real, seen) in enumerate(zip(made, true, shown, strict=True)):
            name = ("sagittal", "coronal")[view]
            losses[f"squared {name}"] = (maps - real).square().flatten(1).sum(1).mean()
            if c.entropy_weight:
                own = weighted_entropy(maps, real, self.weights(view).to(maps), seen > 0)
                losses[f"entropy {name}"] = c.entropy_weight * own
            if self.discriminators is not None:
                energy = self.discriminators[view](maps[:, 1:]).mean()
                losses[f"energy {name}"] = c.adversarial_weight * energy
        yield Turn("generator", losses)

    def energy_losses(self, made: Sequence[Tensor], true: Sequence[Tensor]) -> dict[str, Tensor]:
        """Return the losses of both discriminators: low energies of true maps, and high ones of predictions.

        Energies of predictions count until the margin, in multiples of the running mean of those of true maps.
        """
        assert self.discriminators is not None
        losses: dict[str, Tensor] = {}
        energies: Tensor = self.energies  # type: ignore[assignment]
        for view, discriminator in enumerate(self.discriminators):
            real, fake = discriminator(true[view][:, 1:]).mean(), discriminator(made[view].detach()[:, 1:]).mean()
            usual = over_processes(real.detach()).to(energies)
            energies[view] = torch.lerp(energies[view], usual, 0.05) if energies[view] > 0 else usual
            name = ("sagittal", "coronal")[view]
            losses[f"real {name}"] = real
            losses[f"fake {name}"] = relu(self.config.margin * energies[view].clone() - fake)
        return losses

    def weights(self, view: int) -> Tensor:
        """Return the weight of every class in a projection, (classes,); 1 before they are fitted."""
        known = self.fitted.numbers.get(WEIGHTS)
        return torch.ones(len(self.config.names) + 1) if known is None else torch.from_numpy(np.array(known[view]))

    def projections(self, volume: Tensor) -> tuple[Tensor, Tensor]:
        """Return the brightest voxels of volumes (N, 1, D, H, W): sagittal (N, 1, D, H) and coronal (N, 1, D, W)."""
        return volume.amax(4), volume.amax(3)

    def locate(self, image: Tensor) -> Tensor:
        shown = self.projections(image)
        sagittal, coronal = (
            (maps * (view > 0))[:, 1:].clamp_min(0) for maps, view in zip(self.generator(*shown), shown, strict=True)
        )
        return most_likely(sagittal, coronal)


def most_likely(sagittal: Tensor, coronal: Tensor) -> Tensor:
    """Return where the product of two heat maps over their common axis is greatest.

    Args:
        sagittal: heat, (N, landmarks, slices, rows), not negative.
        coronal: heat, (N, landmarks, slices, columns), not negative.

    Returns:
        Slice, row, column, and the product there, (N, landmarks, 4).
    """
    best_row, best_column = sagittal.max(3), coronal.max(3)
    # The greatest product in a slice is that of the greatest values, so the volume of products is never made.
    certain, place = (best_row.values * best_column.values).max(2, keepdim=True)
    row, column = (one.indices.gather(2, place) for one in (best_row, best_column))
    return torch.cat([place.to(certain), row.to(certain), column.to(certain), certain], 2)
