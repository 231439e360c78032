"""SCGAN: missing slices of cardiac MR, by a discriminator that classifies, and generators that share their layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, pad

from ganatomy.errors import UserError
from ganatomy.game import Batch, Player, Stage, Turn, adam
from ganatomy.images.augmentation import Augmentation
from ganatomy.images.frames import Fit
from ganatomy.losses.adversarial import nonsaturating_discriminator, nonsaturating_generator
from ganatomy.nets.aids import latents
from ganatomy.nets.semi_coupled import CoupledGenerators, TwoHeads
from ganatomy.tasks.classification.task import ClassificationConfig, Classifier

MOVED = Augmentation(rotation=(10.0, 0.0, 0.0), scaling=0.1, shift=(0.0, 0.05, 0.05))
"""Random movements of the miniature, which has some thirty basal slices to learn from."""


class SCGAN(Classifier):
    """Tells whether the first or last slice is missing from a short-axis stack of the heart, from few labelled stacks.

    Two generators, of basal slices and of others, share all layers but the last. One discriminator tells real slices
    from generated ones, and basal slices from others; the latter head is the classifier. Slices of stacks without
    labels are shown to it as real ones. A stack lacks its basal slice where the outermost slice is called another; a
    second run with ``--preset apical`` does the same at the apex. Other classes, with one label per case, can be
    learned by ``--per case --end None``; every class has a generator then.

    Zhang, Gooya & Frangi, Semi-supervised Assessment of Incomplete LV Coverage in Cardiac MRI Using Generative
    Adversarial Nets, SASHIMI 2017, LNCS 10557, pp. 61-68. doi:10.1007/978-3-319-68127-6_7.
    """

    stated_augmentation = None

    class Config(ClassificationConfig):
        """Coupled generators as in the program of CoGAN; sizes, weights and the discriminator are our choices."""

        role_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "images": {"percentiles": (1.0, 99.0), "over": "all"},
        }

        images: tuple[str, ...] = ("mr",)  # names of the images, in order of channels
        classes: tuple[str, ...] = ("other", "basal")  # classes of slices, that of the outermost slice last
        rest: str | None = "other"  # class of all labels that are none of the classes; none refuses such cases
        per: Literal["case", "slice"] = "slice"  # what has a class: a case (label), or each of its slices
        end: Literal["basal", "apical"] | None = "basal"  # end of the stack that may be missing; none averages slices
        size: tuple[int, ...] = (64, 64)  # rows and columns (our choice)
        spacing: tuple[float, float, float] | None = None  # mm between slices, rows and columns; none: as they are
        fit: Fit = "contain"  # how images get to this size
        phantom: str = "short-axis-mr"  # embedded phantom to learn from where no data are given
        adversary: bool = True  # whether there are generators; without them the discriminator only classifies
        head: Literal["two", "k+1"] = "two"  # heads of its own for real and for classes, or classes and one of fakes
        latent: int = 100  # size of the latent vectors, N(0, 1)
        generator_widths: tuple[int, ...] = (1024, 512, 256, 128)  # channels of the shared layers
        discriminator_widths: tuple[int, ...] = (64, 128, 256, 512)  # channels of the discriminator (our choice)
        class_weight: float = 1.0  # weight of the cross-entropy of the classes, both players (our choice)
        generated_weight: float = 0.1  # weight of that of generated images, discriminator (our choice)
        batch_size: int = 64  # images per class generated, and labelled and unlabelled images
        learning_rate: float = 2e-4  # Adam, both players
        betas: tuple[float, float] = (0.5, 0.999)  # Adam, both players
        weight_decay: float = 5e-4  # of both players
        game_rounds: int = 25_000  # rounds; each updates both players once (our choice)

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "apical": {"end": "apical", "classes": ("other", "apical")},
            "small": {
                "generator_widths": (128, 64, 32, 16),
                "discriminator_widths": (16, 32, 64, 128),
                "augmentation": MOVED,
                "batch_size": 16,
                "learning_rate": 5e-4,
                "game_rounds": 600,
            },
        }
        baseline: ClassVar[Mapping[str, Any]] = {"adversary": False}

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        c = config
        halvings = max(len(c.generator_widths), len(c.discriminator_widths))
        if len(c.size) != 2 or any(extent % 2**halvings for extent in c.size):
            raise UserError(f"--size {' '.join(map(str, c.size))}: give rows and columns, multiples of {2**halvings}")
        if not (c.adversary or c.class_weight):
            raise UserError("--no-adversary: no loss has a weight; give --class-weight")
        self.number = len(c.classes)
        self.single = self.number == 2 and c.head == "two"
        logits = 1 if self.single else self.number
        self.discriminator = TwoHeads(
            c.channels, c.size, c.discriminator_widths, logits, realness=c.adversary and c.head == "two"
        )
        self.generators = (
            CoupledGenerators(c.latent, c.channels, c.size, c.generator_widths, self.number) if c.adversary else None
        )

    @property
    def adversarial(self) -> bool:
        """Whether there are generators."""
        return self.generators is not None

    @property
    def takes_unlabelled(self) -> bool:
        return self.adversarial

    def stages(self) -> Sequence[Stage]:
        c = self.config
        moves = adam(c.learning_rate, c.betas, weight_decay=c.weight_decay)
        players = [Player("discriminator", (self.discriminator,), moves, adversary=self.adversarial)]
        streams = [self.with_classes(c.batch_size)]
        if self.generators is not None:
            players.append(Player("generators", (self.generators,), moves))
            streams.append(self.without_classes(c.batch_size))
        return [Stage("game", self.turns, players, c.game_rounds, streams[0] if len(streams) == 1 else streams)]

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        c = self.config
        batch = next(batches)
        labelled: Batch = batch["labelled"] if self.generators is not None else batch
        truth = labelled[self.task.label.name]
        if self.generators is None:
            _, classes = self.discriminator(self.scaled(labelled))
            yield Turn("discriminator", {"class": c.class_weight * self.class_error(classes, truth)})
            return
        # Real images are shown all at once, apart from generated ones, so that both have batch statistics of their own.
        shown = [self.scaled(labelled)]
        if "unlabelled" in batch:
            shown.append(self.scaled(batch["unlabelled"]))
        real, classes = self.discriminator(torch.cat(shown))
        fake, guessed = self.discriminator(self.generators(self.latents(len(truth))).detach())
        losses = {
            "adversarial": nonsaturating_discriminator(real, fake),
            "class": c.class_weight * self.class_error(classes[: len(truth)], truth),
        }
        if c.generated_weight:
            losses["generated class"] = c.generated_weight * self.class_error(guessed, self.made(guessed))
        yield Turn("discriminator", losses, scores={"real": real, "fake": fake})

        fake, guessed = self.discriminator(self.generators(self.latents(len(truth))))
        losses = {"adversarial": nonsaturating_generator(fake)}
        if c.class_weight:
            losses["class"] = c.class_weight * self.class_error(guessed, self.made(guessed))
        yield Turn("generators", losses)

    def latents(self, rows: int) -> Tensor:
        """Draw latent vectors (rows, latent), each for an image of every class."""
        return latents(self.noise, rows, self.config.latent, "normal")

    def made(self, rows: Tensor) -> Tensor:
        """Return the classes of generated images, of which those of a class follow each other."""
        return torch.arange(self.number, device=rows.device).repeat_interleave(len(rows) // self.number)

    def class_error(self, logits: Tensor, truth: Tensor) -> Tensor:
        """Return the mean cross-entropy of classes."""
        return cross_entropy(self.all_logits(logits), truth)

    def all_logits(self, logits: Tensor) -> Tensor:
        """Return a logit for every class: of two classes with a single logit, that of the first is 0."""
        return pad(logits, (1, 0)) if self.single else logits

    def classify(self, image: Tensor) -> Tensor:
        return self.all_logits(self.discriminator(image)[1])
