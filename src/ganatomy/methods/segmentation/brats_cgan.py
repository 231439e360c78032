"""Brain-tumour cGAN: a generator of region maps with virtual, and a discriminator with reference batch norm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field
from torch import Tensor

from ganatomy.errors import UserError
from ganatomy.game import Batch, Player, Stage, Tiling, Turn, adam, gathered
from ganatomy.losses.adversarial import nonsaturating_discriminator, nonsaturating_generator
from ganatomy.nets.aids import own_statistics
from ganatomy.nets.brats_cgan import PairDiscriminator, StoredReference, WideUNet
from ganatomy.nets.sizes import check_input
from ganatomy.phantoms.embedded import Embedded
from ganatomy.roles.expectations import BRAIN_EXTRACTED, REGISTERED, Expectation
from ganatomy.tasks.segmentation.codes import BRATS_2017
from ganatomy.tasks.segmentation.kinds import BRAIN, TUMOUR
from ganatomy.tasks.segmentation.task import SegmentationConfig, Segmenter


class BratsCGAN(Segmenter):
    """Segmentation of overlapping tumour regions by a conditional GAN, slice by slice, along one axis for each model.

    The generator makes a map from -1 to 1 of every region, the discriminator tells them from true ones beside the
    image. Batch norm of the generator is virtual, that of the discriminator that of a reference batch: slices that are
    drawn in the first stage, stored with the weights, and shown to both networks with the present weights before every
    batch; the discriminator's also hold what the generator makes of them. A round is one update of the discriminator
    and two of the generator with the same slices. Expects aligned, brain-extracted volumes of about 1 mm; other planes
    are other runs, whose maps ``apply --ensemble`` averages.

    Rezaei, Harmuth, Gierke, Kellermeier, Fischer, Yang, Meinel, Conditional Adversarial Network for Semantic
    Segmentation of Brain Tumor, BrainLes 2017, LNCS 10670:241-252, 2018. arXiv 1708.05227.
    """

    stated_augmentation = "cut at random places from slices with a border of zeros"

    class Config(SegmentationConfig):
        """Norms of the paper, networks and numbers of the authors' release, which has plain batch norm (``code``)."""

        role_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            **SegmentationConfig.role_defaults,
            **TUMOUR,
        }

        inputs: tuple[str, ...] = ("t1", "t1c", "t2", "flair")  # aligned images, in order of channels (our choice)
        labels: str = "tumour"  # name of the label map
        regions: Mapping[str, tuple[int, ...]] = BRATS_2017  # label values by region; later regions overwrite others
        spacing: tuple[float, float, float] | None = (1.0, 1.0, 1.0)  # mm between slices, rows, columns; as in BRATS
        size: tuple[int, ...] | None = (256, 256)  # rows and columns with the border of zeros
        slice_minmax: bool = True  # whether every slice of every image is stretched between its extremes, as released
        norm: Literal["reference", "batch"] = "reference"  # batch: plain batch norm in both networks, as released
        reference_size: int = Field(10, ge=1, le=1024)  # slices of the reference batch (our choice)
        width: int = 128  # channels of the generator's first level
        levels: int = Field(8, ge=1)  # strided steps of the generator
        dropout: float = 0.5  # dropout rate of the generator
        discriminator_width: int = 128  # channels of the discriminator's first layer
        head: Literal["patch", "scalar"] = "patch"  # logits of overlapping patches, or one of the whole, as released
        l1_weight: float = 100.0  # weight of the mean absolute error of the maps, which are from -1 to 1
        adversarial_weight: float = 1.0  # weight of the adversarial loss; 0 trains without the discriminator
        generator_steps: int = 2  # updates of the generator with the slices of one of the discriminator
        learning_rate: float = 2e-4  # Adam, both networks
        betas: tuple[float, float] = (0.5, 0.999)  # Adam, both networks
        batch_size: int = 10  # slices
        patch: int = 256  # rows and columns of a slice in training
        jitter: int = 8  # largest shift of slices in training, pixels
        centred: float = Field(0.75, ge=0, le=1)  # share of slices drawn for a voxel of a tumour (our choice)
        game_rounds: int = 200_000  # rounds; 100 epochs in the release (our choice of slices per epoch)

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "code": {"norm": "batch", "head": "scalar"},
            "sagittal": {
                "plane": "sagittal",
                "size": None,
                "width": 64,
                "levels": 7,
                "discriminator_width": 64,
                "batch_size": 16,
                "patch": 128,
            },
            "small": {
                "spacing": None,
                "size": None,
                "reference_size": 4,
                "width": 16,
                "levels": 5,
                "discriminator_width": 8,
                "batch_size": 4,
                "patch": 64,
                "jitter": 0,
                "game_rounds": 400,
            },
        }
        baseline: ClassVar[Mapping[str, Any]] = {"adversarial_weight": 0.0}

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        c, channels, regions = config, self.image_channels, len(config.regions)
        if c.patch % 2**c.levels:
            raise UserError(f"--patch {c.patch}: not a multiple of {2**c.levels}, which --levels {c.levels} needs")
        plain = c.norm == "batch"
        unet = WideUNet(channels, regions, c.width, c.levels, "batch" if plain else "virtual", c.dropout)
        self.generator = StoredReference(unet, (c.reference_size, channels, c.patch, c.patch))
        self.discriminator = None
        if c.adversarial_weight:
            size = (c.patch, c.patch) if c.head == "scalar" else None
            network = PairDiscriminator(channels + regions, c.discriminator_width, c.norm, size)
            shape = (2 * c.reference_size, channels + regions, c.patch, c.patch)
            self.discriminator = StoredReference(network, shape)

    def check_sizes(self) -> None:
        c = self.config
        if self.discriminator is not None:
            shape = (c.batch_size, self.image_channels + len(c.regions), c.patch, c.patch)
            check_input(self.discriminator, shape, f"--patch {c.patch}")

    @property
    def adversarial(self) -> bool:
        """Whether the generator is trained with a discriminator."""
        return self.discriminator is not None

    @property
    def embedded(self) -> Embedded:
        return BRAIN

    @property
    def expected(self) -> Sequence[Expectation]:
        return (BRAIN_EXTRACTED, REGISTERED)

    @property
    def tiling(self) -> Tiling:
        return Tiling(multiple=2**self.config.levels)

    def inference_mode(self) -> Self:
        self.eval()
        own_statistics(self.generator)
        return self

    def stages(self) -> Sequence[Stage]:
        c = self.config
        moves = adam(c.learning_rate, c.betas)
        players = [Player("generator", (self.generator,), moves)]
        if self.discriminator:
            players.insert(0, Player("discriminator", (self.discriminator,), moves, adversary=True))
        extent = (1, c.patch, c.patch)
        game = Stage(
            "game", self.turns, players, c.game_rounds, self.annotated(c.batch_size, extent, centred=c.centred)
        )
        if c.norm == "batch":
            return [game]
        chosen = self.annotated(c.reference_size, extent, centred=c.centred)
        return [Stage("reference", self.choose_reference, [], 1, chosen, validated=False), game]

    def choose_reference(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        """Store the slices of one batch, with which both networks are normalised from then on."""
        batch = next(batches)
        image, maps = self.image(batch), self.maps(self.truth(batch))
        self.generator.store(gathered(image))
        if self.discriminator:
            pairs = gathered(torch.cat([image, maps], 1))
            self.discriminator.store(torch.cat([pairs, pairs]))
        yield from ()

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        c = self.config
        batch = next(batches)
        image, truth = self.shifted(self.image(batch), self.truth(batch))
        known, maps = truth >= 0, self.maps(truth)
        if self.discriminator:
            self.renew_reference()
            with torch.no_grad():
                made = self.made(image)
            real, fake = (self.discriminator(torch.cat([image, each * known], 1)) for each in (maps, made))
            loss = nonsaturating_discriminator(real, fake)
            yield Turn("discriminator", adversarial=loss, scores={"real": real, "fake": fake})
        for _ in range(c.generator_steps if self.discriminator else 1):
            made = self.made(image)
            losses = {"l1": c.l1_weight * ((made - maps).abs() * known).sum() / known.sum().clamp_min(1)}
            if self.discriminator:
                self.renew_reference()
                scores = self.discriminator(torch.cat([image, made * known], 1))
                losses["adversarial"] = c.adversarial_weight * nonsaturating_generator(scores)
            yield Turn("generator", losses)

    def made(self, image: Tensor) -> Tensor:
        """Return maps (N, regions, H, W) in [-1, 1] of images (N, channels, H, W)."""
        return self.generator(image).tanh()  # type: ignore[no-any-return]

    def maps(self, truth: Tensor) -> Tensor:
        """Return true maps: 1 inside, -1 outside, 0 where the truth is unknown."""
        return torch.where(truth < 0, torch.zeros_like(truth), 2 * truth - 1)

    @torch.no_grad()
    def renew_reference(self) -> None:
        """Put what the generator now makes of the reference images beside the true pairs of the discriminator."""
        if self.config.norm == "batch" or self.discriminator is None:
            return
        images = self.generator.reference
        pairs = self.discriminator.reference[: len(images)]
        self.discriminator.store(torch.cat([pairs, torch.cat([images, self.made(images)], 1)]))

    def image(self, batch: Batch) -> Tensor:
        return self.stretched(super().image(batch))

    def stretched(self, image: Tensor) -> Tensor:
        """Return images (N, channels, H, W) from 0 to 1 as the networks see them, from -1 to 1.

        Every slice of every channel is stretched between its extremes where the options say so; one without a contrast
        becomes -1.
        """
        if self.config.slice_minmax:
            low, high = (part((2, 3), keepdim=True) for part in (image.amin, image.amax))
            image = (image - low) / (high - low).clamp_min(1e-6)
        return 2 * image - 1

    def shifted(self, *parts: Tensor) -> tuple[Tensor, ...]:
        """Shift the slices of a batch at random, each of them and its maps alike; the border of zeros goes around."""
        limit = self.config.jitter
        if not limit:
            return parts
        samples, _, *extents = parts[0].shape
        moves = (2 * limit * self.noise.uniform(samples, 2)).floor().long() - limit
        rows, columns = (
            (torch.arange(extent, device=moves.device) - moves[:, [axis]]) % extent
            for axis, extent in enumerate(extents)
        )
        each = torch.arange(samples, device=moves.device)[:, None, None]
        return tuple(part.movedim(1, -1)[each, rows[:, :, None], columns[:, None]].movedim(-1, 1) for part in parts)

    def segment(self, image: Tensor) -> Tensor:
        return (self.made(self.stretched(image)) + 1) / 2
