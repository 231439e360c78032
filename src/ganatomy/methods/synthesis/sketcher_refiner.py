"""PET of myelin from four MR maps: a sketcher makes a first image, and a refiner improves it region by region."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import floor
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from ganatomy.case import Sample
from ganatomy.errors import UserError
from ganatomy.game import Batch, Derivation, Player, Progress, Stage, Tiling, Turn, adam
from ganatomy.images.frames import Fit
from ganatomy.losses.adversarial import nonsaturating_discriminator, nonsaturating_generator
from ganatomy.losses.regional import regional_l1
from ganatomy.nets.patchgan import PatchGAN
from ganatomy.nets.sizes import check_input
from ganatomy.nets.transposed_unet import TransposedUNet
from ganatomy.phantoms.embedded import Embedded
from ganatomy.roles.image import ImageOptions
from ganatomy.roles.labels import MaskOptions
from ganatomy.roles.options import RoleOptions
from ganatomy.tasks.translation.task import TranslationConfig, Translator

BRAINS = Embedded("myelin-mr-pet", size=48, grid={"slices": 24, "distance_mm": 4.0}, subjects=24)
SKETCH = "sketch"
"""Role of the sketches, which are made when the training of the refiner begins."""
REGIONS: Mapping[str, tuple[int, ...]] = {"lesion": (1,), "white": (2,), "other": (3,), "outside": (0,)}
"""Lesions, white matter of normal appearance, the rest of the brain, and all else, with their labels."""
PARTS = 4
"""Number of equal parts of a stage; the learning rate is halved after each."""


class SketcherRefiner(Translator):
    """Synthesis of the distribution volume ratio (DVR) of [11C]PiB in PET from MR, in 3D.

    A U-Net, the sketcher, learns PET from the MR maps by the mean absolute difference and a discriminator that sees
    the maps and PET. It is then frozen, and a second U-Net, the refiner, sees the maps and the sketch; its absolute
    difference is averaged within lesions, within white matter of normal appearance and within the rest of the brain,
    so that small lesions count as much as all other tissue. The map of these regions is used in training only; all that
    is outside of the brain is a fourth region (our choice), since nothing else would make the air dark. With
    ``sketch_folds``, the sketch of a training subject is made by a sketcher that has not seen this subject.

    The paper is known in parts: layers, weights of losses, crops and schedules are our choice.

    Wei, Poirion, Bodini, Durrleman, Ayache, Stankoff & Colliot, Learning Myelin Content in Multiple Sclerosis from
    Multimodal MRI through Adversarial Training, MICCAI 2018, LNCS 11072:514-522. arXiv 1804.08039.
    """

    dims = 3

    stated_augmentation = None

    class Config(TranslationConfig):
        """U-Nets of four levels on crops of the brain; -1 to 1 in the networks and losses is 0 to 3 DVR."""

        role_fields: ClassVar[Mapping[str, type[RoleOptions]]] = {
            "maps": ImageOptions,
            "target": ImageOptions,
            "labels": MaskOptions,
        }
        role_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "maps": {"scale": "zscore"},
            "mtr": {"unit": "%"},
            "fa": {"unit": None},
            "rd": {"unit": "µm²/ms"},
            "ad": {"unit": "µm²/ms"},
            "target": {"window": (0.0, 3.0), "unit": None},
            "labels": {"part": "labels:regions"},
        }

        maps: tuple[str, ...] = ("mtr", "fa", "rd", "ad")  # aligned MR maps, in the order of their channels
        target: str = "dvr"  # name of the PET images
        labels: str = "regions"  # map: 1 lesions, 2 white matter of normal appearance, 3 other brain, 0 all else
        size: tuple[int, ...] = (128, 160, 128)  # slices, rows and columns of a crop, also of a tile at inference
        fit: Fit = "patches"  # how images get to this size: cut into patches, which tiles of that size put together
        widths: tuple[int, ...] = (32, 64, 128, 256)  # channels of the levels of both U-Nets
        dropout: float = 0.2  # dropout rate after the deepest level
        discriminator_width: int = 64  # channels of the discriminators' first layer
        refined: bool = True  # whether there is a refiner; without one, the sketch is the result
        sketch_folds: int = Field(0, ge=0, le=20)  # sketchers for sketches of subjects that they have not seen; 0: none
        sketcher_rounds: int = 3_800  # updates of each player; 200 epochs of 19 subjects
        refiner_rounds: int = 3_800  # the same of the refiner
        batch_size: int = 1  # crops
        learning_rate: float = 5e-4  # Adam, all players; halved after each quarter of a stage
        betas: tuple[float, float] = (0.9, 0.999)  # Adam, all players
        adversarial_weight: float = Field(1.0, ge=0)  # weight of both games; 0 trains the same networks without
        sketch_weight: float = Field(100.0, ge=0)  # weight of the sketcher's mean absolute difference
        refine_weight: float = Field(100.0, ge=0)  # weight of the refiner's absolute difference by region
        region_weights: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)  # of the regions; their ratios count

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "small": {
                "size": (24, 48, 48),
                "widths": (8, 16, 32),
                "dropout": 0.0,
                "discriminator_width": 8,
                "sketcher_rounds": 350,
                "refiner_rounds": 350,
                "batch_size": 2,
                "learning_rate": 2e-3,
            },
        }
        baseline: ClassVar[Mapping[str, Any]] = {"adversarial_weight": 0.0}

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        c = config
        if c.sketch_folds == 1:
            raise UserError("--sketch-folds 1: give 2 or more, so that subjects can be left out, or 0")
        if len(c.size) != 3:
            raise UserError("--size: give slices, rows and columns of a crop, such as --size 128 160 128")
        maps = self.task.in_channels
        # The last sketcher learns from all subjects and is the one that is used.
        count = c.sketch_folds + 1 if c.refined else 1
        self.sketchers = nn.ModuleList(self._unet(maps) for _ in range(count))
        self.sketch_critics = nn.ModuleList(self._critic(maps) for _ in range(count if c.adversarial_weight else 0))
        self.refiner = self._unet(maps + 1) if c.refined else None
        self.refine_critic = self._critic(maps) if c.refined and c.adversarial_weight else None

    def _unet(self, channels: int) -> TransposedUNet:
        return TransposedUNet(channels, 1, self.config.widths, dropout=self.config.dropout)

    def _critic(self, maps: int) -> PatchGAN:
        width = self.config.discriminator_width
        return PatchGAN(maps + 1, width, norm="instance", dims=3, scaled=True, biased=True, flat=False)

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(self.config.maps)

    @property
    def guides(self) -> tuple[str, ...]:
        return (self.config.labels,)

    @property
    def regions(self) -> Mapping[str, Mapping[str, tuple[int, ...]]]:
        return {self.config.labels: REGIONS}

    @property
    def embedded(self) -> Embedded:
        return BRAINS

    @property
    def tiling(self) -> Tiling:
        slices, rows, columns = self.config.size
        return Tiling(
            multiple=2 ** len(self.config.widths), tile=(slices, rows, columns), overlap=0.25, blend="gaussian"
        )

    def check_sizes(self) -> None:
        option = f"--size {' '.join(map(str, self.config.size))}"
        maps, extents = self.task.in_channels, self.config.size
        check_input(self.sketchers[-1], (1, maps, *extents), option)
        if self.sketch_critics:
            check_input(self.sketch_critics[-1], (1, maps + 1, *extents), option)

    def check_samples(self, samples: Iterable[Sample]) -> Sequence[str]:
        labels = self.config.labels
        bare = [sample for sample in samples if labels not in sample.arrays]
        if not (bare and self.config.refined):
            return ()
        return [f"{len(bare)} training cases have no {labels}; the refiner does not learn from them"]

    def stages(self) -> Sequence[Stage]:
        c = self.config
        pairs = self.streams(c.batch_size)[0]
        parts = []
        for number, sketcher in enumerate(self.sketchers):
            last = number == len(self.sketchers) - 1
            critic = self.sketch_critics[number] if self.sketch_critics else None
            stream = pairs if last else replace(pairs, fold=(number, c.sketch_folds))
            parts.append(
                Stage(
                    "sketcher" if last else f"sketcher of fold {number + 1}",
                    partial(self.sketching, number),
                    self.players(sketcher, critic),
                    c.sketcher_rounds,
                    stream,
                    validated=self.refiner is None,
                )
            )
        if self.refiner is None:
            return parts
        stream = replace(pairs, roles=(*(pairs.roles or ()), c.labels, SKETCH))
        sketches = {SKETCH: Derivation(self.sketched, folds=c.sketch_folds)}
        players = self.players(self.refiner, self.refine_critic)
        return [*parts, Stage("refiner", self.refining, players, c.refiner_rounds, stream, sketches)]

    def players(self, generator: nn.Module, critic: nn.Module | None) -> list[Player]:
        """Return the players of a stage."""
        c = self.config
        moves = adam(c.learning_rate, c.betas)
        players = [Player("generator", (generator,), moves, halved)]
        if critic is not None:
            players.insert(0, Player("discriminator", (critic,), moves, halved, adversary=True))
        return players

    def sketching(self, number: int, batches: Iterator[Batch]) -> Iterator[Turn]:
        batch = next(batches)
        maps, true = self.image(batch), self.truth(batch)
        sketch = self.sketchers[number](maps)
        critic = self.sketch_critics[number] if self.sketch_critics else None
        yield from self.game(maps, true, sketch, critic, l1=self.config.sketch_weight * l1_loss(sketch, true))

    def refining(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        assert self.refiner is not None
        c, batch = self.config, next(batches)
        maps, true = self.image(batch), self.truth(batch)
        made = self.refiner(torch.cat([maps, batch[SKETCH]], 1))
        error = regional_l1(made, true, batch[c.labels], c.region_weights)
        yield from self.game(maps, true, made, self.refine_critic, regions=c.refine_weight * error)

    def game(
        self, maps: Tensor, true: Tensor, made: Tensor, critic: nn.Module | None, **losses: Tensor
    ) -> Iterator[Turn]:
        """Yield the turns of discriminator and generator; the discriminator sees maps and PET, and not the sketch."""
        if critic is None:
            yield Turn("generator", losses)
            return
        real, fake = (critic(torch.cat([maps, pet], 1)) for pet in (true, made.detach()))
        # Halved, so that the discriminator learns more slowly than the generator.
        told = 0.5 * nonsaturating_discriminator(real, fake)
        yield Turn("discriminator", adversarial=told, scores={"real": real, "fake": fake})
        score = critic(torch.cat([maps, made], 1))
        losses["adversarial"] = self.config.adversarial_weight * nonsaturating_generator(score)
        yield Turn("generator", losses)

    def sketched(self, batch: Batch, fold: int = -1) -> Tensor:
        """Return sketches by the sketcher that has not seen a fold of the subjects, or by that of all subjects."""
        return self.sketchers[fold](self.image(batch))  # type: ignore[no-any-return]

    def restore(self, input: Tensor) -> Tensor:
        sketch: Tensor = self.sketchers[-1](input)
        return sketch if self.refiner is None else self.refiner(torch.cat([input, sketch], 1))


def halved(progress: Progress) -> float:
    """Return the factor of the learning rate, which is halved after each of the equal parts of a stage."""
    return float(0.5 ** floor(PARTS * progress.fraction))
