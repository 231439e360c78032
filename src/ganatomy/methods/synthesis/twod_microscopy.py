"""Two-discriminator GAN: phase contrast from DIC images of living cells, or the other way round."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.nn.functional import l1_loss

from ganatomy.case import Sample, slab
from ganatomy.errors import UserError
from ganatomy.game import Batch, Player, Stage, Tiling, Turn, adam
from ganatomy.images.frames import Fit
from ganatomy.losses.adversarial import nonsaturating_discriminator, nonsaturating_generator
from ganatomy.nets.aids import keep_dropout, own_statistics
from ganatomy.nets.patchgan import PatchGAN, init_pix2pix
from ganatomy.nets.unet import Pix2PixUNet
from ganatomy.phantoms.embedded import Embedded
from ganatomy.physics import phase
from ganatomy.roles.image import ImageOptions
from ganatomy.roles.labels import MaskOptions
from ganatomy.roles.options import RoleOptions
from ganatomy.tasks.translation.task import TranslationConfig, Translator

MASK = "mask of cells"
"""Role of the masks that are computed from the source."""
MOST_CASES = 24
"""Largest number of training cases by which the threshold of the masks is chosen."""
REACH, SMALLEST = 3, 50
"""Radius in pixels by which masks are closed, and pixels below which a part is no cell (our choice)."""
SHARE = 0.5
"""Share of Otsu's threshold above which a pixel belongs to a cell: many are much fainter than the brightest (our
choice)."""

Optics = Literal["phase-contrast", "dic"]
Positive = Annotated[float, Field(gt=0)]


class Restoration(NamedTuple):
    """Weights by which the phase of cells is restored from an image (our choice, for the phantom)."""

    smooth: float
    sparse: float


RESTORATIONS: Mapping[str, Restoration] = {
    "phase-contrast": Restoration(0.05, 0.05),
    "dic": Restoration(0.003, 0.03),
}


class TwoDiscriminatorGAN(Translator):
    """Translation between phase contrast and DIC of living cells, with a discriminator for images and one for cells.

    Han & Yin, Transferring Microscopy Image Modalities with Conditional Generative Adversarial Networks, CVPR
    Workshops 2017, 99-107. doi:10.1109/CVPRW.2017.118.

    It is pix2pix whose generator also sees where cells are, and a second discriminator, which is shown a mask of cells
    with an image: the real one or the generated one. Each direction is a model of its own. Where no masks are given,
    they are computed from the source: its phase is restored by the linear form of its microscope, and thresholded.

    Images are learned from in patches and translated in overlapping tiles, at the distance of pixels that they have. A
    mirrored DIC image has the opposite shadow, so no image is mirrored. Only abstract and survey of the paper were at
    hand: numbers are those of pix2pix, and what real image the second discriminator sees is a choice (see options).
    """

    stated_augmentation = "enlarged by 30 pixels and cut to their size at a random place, as pix2pix does"

    class Config(TranslationConfig):
        """Numbers of the release of pix2pix; those of the paper are not known."""

        role_fields: ClassVar[Mapping[str, type[RoleOptions]]] = {
            "source": ImageOptions,
            "labels": MaskOptions,
            "target": ImageOptions,
        }
        role_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "source": {"over": "all"},
            "labels": {"part": "mask:cells"},
            "target": {"over": "all"},
        }

        source: str = "dic"  # name of the given images, which is also the prefix of their options
        target: str = "phase_contrast"  # name of the images that are made
        labels: str | None = None  # name of given masks of cells; none: they are computed from the source
        optics: Optics | None = (
            None  # microscope of the source, by which masks are computed; none: dic if the source is called dic
        )
        halo: Positive = 10.0  # pixels; SD of the halo of a phase-contrast source, by which masks are computed
        shear_angle: float = Field(
            45.0, ge=-360, le=360
        )  # degrees from columns to rows; direction in which a DIC source shows rising phase
        size: tuple[int, ...] = (256, 256)  # rows and columns of patches and tiles
        fit: Fit = "patches"  # how images get to this size: fit inside it, fill it, or be cut into patches
        flips: tuple[int, ...] = ()  # axes along which images are flipped at random: 1 rows, 2 columns
        phantom: str = "live-cells"  # embedded phantom to learn from where no data are given
        game_rounds: int = Field(80_000, ge=1)  # updates of each player; 200 epochs of 400 pairs
        batch_size: int = 1  # pairs
        jitter: int = Field(30, ge=0)  # pixels by which images are enlarged before a random part is cut out; 0 never
        learning_rate: float = 2e-4  # Adam, all players
        betas: tuple[float, float] = (0.5, 0.999)  # Adam, all players
        l1_weight: float = 100.0  # weight of the mean absolute difference from the true image
        adversarial_weight: float = Field(1.0, ge=0)  # weight of the game of source and image; 0 leaves it out
        mask_adversarial_weight: float = Field(1.0, ge=0)  # weight of the game of mask and image; 0 leaves it out
        mask_seen: bool = True  # whether the generator sees the mask; otherwise it is shown none
        mask_real: Literal["target", "source"] = "target"  # real image that the discriminator of masks is shown
        mask_joined: Literal["beside", "product"] = "beside"  # mask beside the image, or the image within the mask
        levels: int = Field(8, ge=1)  # stride-2 steps of the U-Net; sizes are multiples of 2**levels
        width: int = Field(64, ge=1)  # channels of the U-Net's first level
        dropout: float = Field(0.5, ge=0, lt=1)  # dropout rate in the U-Net's three innermost levels
        dropout_at_inference: bool = False  # as in pix2pix; results then differ from call to call
        discriminator_width: int = Field(64, ge=1)  # channels of the first layer of the discriminators
        discriminator_strided: int = Field(
            3, ge=1
        )  # discriminators' stride-2 layers; 1 to 4 see patches of 16, 34, 70, 142 pixels
        ema_halflife: float | None = None  # images; average of the generator used at inference (our option)

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "small": {
                "size": (64, 64),
                "game_rounds": 1_000,
                "batch_size": 4,
                "jitter": 0,
                "learning_rate": 1e-3,
                "levels": 5,
                "width": 16,
                "dropout": 0.0,
                "discriminator_width": 16,
                "discriminator_strided": 2,
                "ema_halflife": 400.0,
            },
        }
        baseline: ClassVar[Mapping[str, Any]] = {"adversarial_weight": 0.0, "mask_adversarial_weight": 0.0}

    config: Config
    threshold: Tensor

    def __init__(self, config: Config):
        super().__init__(config)
        c = config
        source, made = self.source_channels, self.task.out_channels
        if c.mask_real == "source" and source != made:
            raise UserError(
                f"--mask-real source: the discriminator of masks is shown images of {made} channels, but {c.source} has"
                f" {source}"
            )
        self.generator = Pix2PixUNet(source + 1, made, c.width, c.levels, "batch", c.dropout)
        init_pix2pix(self.generator, c.width)
        self.discriminator = self._discriminator(source + made) if c.adversarial_weight else None
        self.mask_discriminator = None
        if c.mask_adversarial_weight:
            self.mask_discriminator = self._discriminator(made + (c.mask_joined == "beside"))
        self.register_buffer("threshold", torch.zeros(()))

    def _discriminator(self, channels: int) -> PatchGAN:
        network = PatchGAN(channels, self.config.discriminator_width, self.config.discriminator_strided)
        init_pix2pix(network, self.config.discriminator_width)
        return network

    @property
    def inputs(self) -> tuple[str, ...]:
        c = self.config
        return (c.source, c.labels) if c.labels else (c.source,)

    @property
    def source_channels(self) -> int:
        """Number of channels of the source."""
        return self.task.roles[self.config.source].channels  # type: ignore[no-any-return]

    @property
    def adversarial(self) -> bool:
        return bool(self.config.adversarial_weight or self.config.mask_adversarial_weight)

    @property
    def embedded(self) -> Embedded | None:
        cells = Embedded("live-cells", max(128, *self.config.size), subjects=40)
        return cells if self.config.phantom == cells.name else None

    @property
    def tiling(self) -> Tiling:
        rows, columns = self.config.size
        return Tiling(multiple=2**self.config.levels, tile=(1, rows, columns), overlap=0.25, blend="gaussian")

    def check_sizes(self) -> None:
        c, step = self.config, 2**self.config.levels
        if len(c.size) != 2 or any(extent % step for extent in c.size):
            raise UserError(
                f"--levels {c.levels}: rows and columns must be multiples of {step}, but --size is "
                f"{' '.join(map(str, c.size))}"
            )

    def fit(self, samples: Iterable[Sample]) -> None:
        """Fit the scales of the images, and the threshold of the phase by which masks are computed."""
        cases = list(samples)
        super().fit(cases)
        if self.config.labels:
            return
        phases = []
        for case in cases[:MOST_CASES]:
            values = case.role(self.config.source).encoded(slab(case.arrays[self.config.source], 0, 1))
            phases.append(self.restored(torch.from_numpy(np.asarray(values[None, :, 0], np.float32))).ravel())
        self.threshold.fill_(SHARE * phase.otsu(np.concatenate(phases)))

    def inference_mode(self) -> Self:
        self.eval()
        own_statistics(self.generator)
        if self.config.dropout_at_inference:
            keep_dropout(self.generator)
        return self

    def stages(self) -> Sequence[Stage]:
        c = self.config
        moves = adam(c.learning_rate, c.betas)
        players = [Player("generator", (self.generator,), moves, ema_halflife=c.ema_halflife)]
        for name, network in (("mask discriminator", self.mask_discriminator), ("discriminator", self.discriminator)):
            if network is not None:
                players.insert(0, Player(name, (network,), moves, adversary=True))
        (stream,) = self.streams(c.batch_size)
        derived = {} if c.labels else {MASK: self.derived}
        stream = replace(stream, roles=(*self.inputs, *derived, *self.outputs))
        return [Stage("game", self.turns, players, c.game_rounds, stream, derived)]

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        c, batch = self.config, next(batches)
        source, mask, true = self.jittered(batch[c.source], batch[c.labels or MASK], self.truth(batch))
        inside = (mask > 0.5).to(source)
        fake = self.translated(source, inside)
        if self.discriminator is not None:
            yield _judged(
                "discriminator",
                self.discriminator(torch.cat([source, true], dim=1)),
                self.discriminator(torch.cat([source, fake.detach()], dim=1)),
            )
        if self.mask_discriminator is not None:
            real = true if c.mask_real == "target" else source
            yield _judged(
                "mask discriminator",
                self.mask_discriminator(self.within(inside, real)),
                self.mask_discriminator(self.within(inside, fake.detach())),
            )
        losses = {"l1": c.l1_weight * l1_loss(fake, true)}
        if self.discriminator is not None:
            scores = self.discriminator(torch.cat([source, fake], dim=1))
            losses["adversarial"] = c.adversarial_weight * nonsaturating_generator(scores)
        if self.mask_discriminator is not None:
            scores = self.mask_discriminator(self.within(inside, fake))
            losses["mask adversarial"] = c.mask_adversarial_weight * nonsaturating_generator(scores)
        yield Turn("generator", losses)

    def within(self, inside: Tensor, image: Tensor) -> Tensor:
        """Join a mask of 0 and 1 with an image, as the discriminator of masks sees them, from -1 to 1."""
        if self.config.mask_joined == "product":
            return inside * image
        return torch.cat([2 * inside - 1, image], dim=1)

    def translated(self, source: Tensor, inside: Tensor) -> Tensor:
        """Translate images, given a mask of 0 and 1 of their cells."""
        shown = 2 * inside - 1 if self.config.mask_seen else torch.full_like(inside, -1.0)
        return self.generator(torch.cat([source, shown], dim=1)).tanh()  # type: ignore[no-any-return]

    def restore(self, input: Tensor) -> Tensor:
        source = input[:, : self.source_channels]
        # A network that sees no mask needs none.
        inside = input[:, -1:] if self.config.labels else self.cells(source, wanted=self.config.mask_seen)
        return self.translated(source, inside)

    def derived(self, batch: Batch) -> Tensor:
        """Return the masks of the cells of whole training images."""
        return self.cells(batch[self.config.source])

    def cells(self, source: Tensor, wanted: bool = True) -> Tensor:
        """Compute masks of cells (N, 1, H, W), 0 and 1, from source images (N, C, H, W) in the range of the networks.

        Args:
            source: images.
            wanted: whether masks are needed; otherwise they are empty.
        """
        if not wanted:
            return torch.zeros_like(source[:, :1])
        above = self.restored(source) > float(self.threshold)
        masks = np.stack([phase.joined(one, REACH, SMALLEST) for one in above])
        return torch.from_numpy(masks[:, None]).to(source)

    def restored(self, source: Tensor) -> NDArray[np.float64]:
        """Return the phase (N, H, W) of images (N, C, H, W), in arbitrary units."""
        c = self.config
        grey = source.detach().mean(dim=1).cpu().double().numpy()
        given = grey - np.median(grey, axis=(1, 2), keepdims=True)
        optics = c.optics or ("dic" if c.source == "dic" else "phase-contrast")
        # Cells are dark in positive phase contrast.
        kernel = phase.dic_kernel(1.0, np.deg2rad(c.shear_angle)) if optics == "dic" else -phase.halo_kernel(c.halo)
        smooth, sparse = RESTORATIONS[optics]
        return phase.restored(given, kernel / np.abs(kernel).sum(), smooth=smooth, sparse=sparse)


def _judged(player: str, real: Tensor, fake: Tensor) -> Turn:
    """Return the turn of a discriminator, whose loss is halved so that it learns more slowly than the generator."""
    return Turn(
        player,
        adversarial=0.5 * nonsaturating_discriminator(real, fake),
        scores={"real": real, "fake": fake},
    )
