"""CT from MR in 3D: a convolutional network with a discriminator, whose estimate a second network is shown, too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ganatomy.errors import UserError
from ganatomy.game import Batch, Derivation, Player, Stage, Stream, Tiling, Turn, adam
from ganatomy.images.frames import Fit
from ganatomy.losses.adversarial import nonsaturating_discriminator, nonsaturating_generator
from ganatomy.losses.matching import gradient_difference
from ganatomy.nets.context_aware import ContextDiscriminator, ContextGenerator
from ganatomy.nets.volumetric import without
from ganatomy.phantoms.embedded import Embedded
from ganatomy.tasks.translation.task import TranslationConfig, Translator

HEADS = Embedded("head-mr-ct", size=64, grid={"slices": 32, "distance_mm": 3.75}, subjects=16)
CT: Mapping[str, Any] = {"unit": "HU", "window": (-1000.0, 2000.0)}
"""Scale of CT."""
CONTEXT = "context"
"""Role of the estimate of the network before, which is made over whole volumes when a stage begins."""
Kernel = Annotated[int, Field(ge=1, le=15)]
Place = Annotated[int, Field(ge=0, le=99)]


class ContextAwareGAN(Translator):
    """Synthesis of CT from MR with a fully convolutional network and an auto-context model, in 3D.

    A network without pooling learns CT patches from larger MR patches by the squared error, the difference of image
    gradients, and a discriminator that sees CT only. Its estimates of whole volumes are a second input of the next
    network of the ``chain``, which so learns from a wider surrounding. With ``context_folds``, the estimate of a
    training subject is made by a network that has not seen this subject.

    The network is a convolution, so volumes are not cut into overlapping windows whose outputs are averaged: each voxel
    is computed once, with all of its receptive field, as in the middle of a large window. This differs from the paper's
    average only by the zeros with which patches are padded, and the same is done for the estimates in training.

    Nie, Trullo, Lian, Petitjean, Ruan, Wang & Shen, Medical Image Synthesis with Context-Aware Generative Adversarial
    Networks, MICCAI 2017, LNCS 10435:417-425. arXiv 1612.05362.
    """

    dims = 3

    stated_augmentation = None

    class Config(TranslationConfig):
        """Numbers of the paper as others report them; ``code`` has those of the authors' program."""

        role_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "source": {"scale": "zscore"},
            "target": CT,
            "ct": CT,
        }

        source: str = "t1"  # name of the MR images, which is also the prefix of their options
        target: str = "ct"  # name of the CT images
        size: tuple[int, ...] = (16, 16, 16)  # slices, rows and columns of a CT patch, which a larger MR patch predicts
        fit: Fit = "patches"  # how images get to this size: cut into patches
        phantom: str = HEADS.name  # embedded phantom to learn from where no data are given
        flips: tuple[int, ...] = ()  # axes along which patches are mirrored at random: 0 slices, 1 rows, 2 columns
        kernels: tuple[Kernel, ...] = (9, 3, 3, 3, 9, 3, 3, 7, 3)  # sides of the generator's kernels
        widths: tuple[int, ...] = (32, 32, 32, 64, 64, 64, 32, 32, 1)  # channels behind its convolutions
        unpadded: tuple[Place, ...] = (0, 4)  # places of its convolutions without padding, from 0
        discriminator_widths: tuple[int, ...] = (32, 64, 128, 256)  # channels behind its convolutions
        discriminator_hidden: tuple[int, ...] = (512, 128)  # units of its dense layers before the score
        discriminator_kernel: int = Field(5, ge=1, le=15)  # side of its kernels
        norm_share: float = Field(1e-3, gt=0, le=1)  # share of a batch in the running averages of batch norms
        chain: int = 2  # networks that are trained one after the other, each on the estimate of the one before
        context_folds: int = Field(
            0, ge=0, le=20
        )  # networks for estimates of subjects that they have not seen; 0: none
        game_rounds: int = 500_000  # updates of each player, for every network of the chain
        batch_size: int = 10  # patches
        learning_rate: float = 1e-6  # Adam, both players; it belongs to losses that are summed over voxels
        betas: tuple[float, float] = (0.5, 0.999)  # Adam, both players
        weight_decay: float = 5e-4  # weight of half the squared kernels of the generator, added to its loss
        reduction: Literal["sum", "mean"] = "sum"  # of both errors over the voxels of a patch
        deviation: float = Field(475.0, gt=0)  # HU that count as 1 in both errors
        border: Literal["inner", "zero"] = "inner"  # zero: zeros behind the last voxels count as neighbours, too
        squared_weight: float = Field(1.0, ge=0)  # weight of the squared error
        gradient_weight: float = Field(1.0, ge=0)  # weight of the gradient difference
        adversarial_weight: float = Field(0.5, ge=0)  # weight of the game; 0 trains the same networks without

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "code": {
                "kernels": (9, 3, 3, 3, 9, 3, 3, 3, 3),
                "widths": (32, 32, 32, 32, 64, 64, 64, 32, 1),
                "border": "zero",
                "adversarial_weight": 0.05,
                # The program counts the decay, which it means to be 5e-4, twice.
                "weight_decay": 1e-3,
            },
            "small": {
                "kernels": (5, 3, 3, 5, 3, 3),
                "widths": (12, 12, 16, 16, 12, 1),
                "unpadded": (0, 3),
                "discriminator_widths": (6, 12, 16, 16),
                "discriminator_hidden": (16,),
                "discriminator_kernel": 3,
                "norm_share": 0.05,
                "game_rounds": 500,
                "batch_size": 6,
                "learning_rate": 2e-3,
                "reduction": "mean",
                "adversarial_weight": 0.02,
            },
        }
        baseline: ClassVar[Mapping[str, Any]] = {"adversarial_weight": 0.0}

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        c = config
        if len(c.size) != 3:
            raise UserError("--size: give slices, rows and columns of a CT patch, such as --size 16 16 16")
        halvings = len(c.discriminator_widths) - 1
        if min(c.size) < 2**halvings:
            raise UserError(
                f"--size {' '.join(map(str, c.size))}: the discriminator halves patches {halvings} times, so each side "
                f"needs at least {2**halvings} voxels"
            )
        if c.context_folds == 1:
            raise UserError("--context-folds 1: give 2 or more, so that subjects can be left out, or 0")
        made = self.task.out_channels
        if c.widths[-1] != made:
            raise UserError(f"--widths: the last number is that of the channels of {c.target}, {made}")
        self.generators, self.discriminators = nn.ModuleList(), nn.ModuleList()
        for place in range(c.chain):
            # The last network of a place learns from all subjects and is the one that is used.
            count = c.context_folds + 1 if place < c.chain - 1 else 1
            given = self.task.in_channels + (made if place else 0)
            self.generators.append(nn.ModuleList(self._generator(given) for _ in range(count)))
            if c.adversarial_weight:
                self.discriminators.append(nn.ModuleList(self._discriminator(made) for _ in range(count)))

    def _generator(self, channels: int) -> ContextGenerator:
        c = self.config
        return ContextGenerator(channels, c.kernels, c.widths, c.unpadded, c.norm_share)

    def _discriminator(self, channels: int) -> ContextDiscriminator:
        c = self.config
        return ContextDiscriminator(
            channels, c.size, c.discriminator_widths, c.discriminator_hidden, c.discriminator_kernel, c.norm_share
        )

    @property
    def embedded(self) -> Embedded:
        return HEADS

    @property
    def lost(self) -> int:
        """Voxels per side by which a patch of MR exceeds that of CT in training."""
        return int(self.generators[0][0].lost)  # type: ignore[index]

    @property
    def reach(self) -> int:
        """Voxels per side that a voxel of an estimate depends on."""
        return int(self.generators[0][0].reach)  # type: ignore[index]

    @property
    def tiling(self) -> Tiling:
        return Tiling(margin=(self.reach * self.config.chain,) * 3)

    def stages(self) -> Sequence[Stage]:
        c = self.config
        slices, rows, columns = c.size
        parts = []
        for place, networks in enumerate(self.generators):
            margin = max(self.lost, place * self.reach)
            roles = (*self.inputs, *self.outputs, *([CONTEXT] if place else []))
            whole = Stream(
                "patches",
                roles,
                c.batch_size,
                (slices, rows, columns),
                (margin,) * 3,
                wide=frozenset({*self.inputs, CONTEXT}),
                flips=c.flips,
            )
            derived = {CONTEXT: Derivation(partial(self.estimated, place), folds=c.context_folds)} if place else {}
            folds = len(list(networks.children())) - 1
            for number in range(folds + 1):
                last = number == folds
                parts.append(
                    Stage(
                        f"network {place + 1}" + ("" if last else f", fold {number + 1}"),
                        partial(self.turns, place, number),
                        self.players(place, number),
                        c.game_rounds,
                        whole if last else replace(whole, fold=(number, folds)),
                        derived,
                        validated=place == c.chain - 1,
                    )
                )
        return parts

    def players(self, place: int, number: int) -> list[Player]:
        """Return the players of a stage."""
        c = self.config
        moves = adam(c.learning_rate, c.betas)
        players = [Player("generator", (self.generators[place][number],), moves)]  # type: ignore[index]
        if self.discriminators:
            discriminator = self.discriminators[place][number]  # type: ignore[index]
            players.insert(0, Player("discriminator", (discriminator,), moves, adversary=True))
        return players

    def turns(self, place: int, number: int, batches: Iterator[Batch]) -> Iterator[Turn]:
        c, batch = self.config, next(batches)
        generator = self.generators[place][number]  # type: ignore[index]
        seen, true = self.image(batch), self.truth(batch)
        if place:
            seen = torch.cat([seen, batch[CONTEXT]], 1)
        seen = without(seen, (max(self.lost, place * self.reach) - self.lost,) * 3)
        made = generator(seen)
        losses = {
            "squared": c.squared_weight * self.error((made - true).square()),
            "gradient": c.gradient_weight * self.difference(made, true),
        }
        if c.weight_decay:
            kernels = [one.square().sum() for one in generator.parameters() if one.dim() > 1]
            losses["decay"] = 0.5 * c.weight_decay * torch.stack(kernels).sum()
        if not self.discriminators:
            yield Turn("generator", losses)
            return
        discriminator = self.discriminators[place][number]  # type: ignore[index]
        real, fake = discriminator(true), discriminator(made.detach())
        told = nonsaturating_discriminator(real, fake)
        yield Turn("discriminator", adversarial=told, scores={"real": real, "fake": fake})
        losses["adversarial"] = c.adversarial_weight * nonsaturating_generator(discriminator(made))
        yield Turn("generator", losses)

    @property
    def gain(self) -> float:
        """Factor from squared differences of the networks' range to those that count 1 for the deviation."""
        low, high = self.task.window(self.config.target)
        return float(((high - low) / 2 / self.config.deviation) ** 2)

    def error(self, squares: Tensor) -> Tensor:
        """Return squared differences summed over the voxels of a patch, or averaged; the mean of all patches."""
        return self.gain * (squares.mean() if self.config.reduction == "mean" else squares.sum() / len(squares))

    def difference(self, made: Tensor, true: Tensor) -> Tensor:
        """Return the gradient difference, reduced as the squared error is."""
        c = self.config
        found = gradient_difference(made, true, c.reduction, c.border)
        return self.gain * (found if c.reduction == "mean" else found / len(made))

    def estimated(self, count: int, batch: Batch, fold: int = -1) -> Tensor:
        """Return the estimate of the first networks of the chain, from MR with the margin that they need."""
        return self.chained(self.image(batch), count, fold)

    def chained(self, volume: Tensor, count: int, fold: int = -1) -> Tensor:
        """Run the first networks of the chain on MR, with an exact estimate as the second input of each but the first.

        Args:
            volume: (N, channels, D, H, W), with as many voxels per side more as the networks reach together.
            count: number of networks.
            fold: networks that have not seen this fold of the training subjects; -1: those of all subjects.
        """
        estimate: Tensor | None = None
        for networks in list(self.generators)[:count]:
            network = networks[fold if len(list(networks.children())) > 1 else -1]  # type: ignore[index]
            made = network(volume if estimate is None else torch.cat([volume, estimate], 1))
            # Voxels that depend on the zeros around the block are cut off.
            estimate = without(made, (self.reach - self.lost,) * 3)
            volume = without(volume, (self.reach,) * 3)
        assert estimate is not None
        return estimate

    def restore(self, input: Tensor) -> Tensor:
        return self.chained(input, self.config.chain)
