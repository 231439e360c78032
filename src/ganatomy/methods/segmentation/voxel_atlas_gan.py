"""VoxelAtlasGAN: the left ventricle in 3D echocardiography by an atlas that a V-Net warps to the image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ganatomy.case import Sample
from ganatomy.errors import UserError
from ganatomy.game import Batch, Player, Stage, Turn, adam
from ganatomy.images.frames import Fit
from ganatomy.losses.adversarial import nonsaturating_discriminator, nonsaturating_generator
from ganatomy.losses.segmentation import dice_loss, label_l1, volume_difference
from ganatomy.nets.patchgan import PatchGAN
from ganatomy.nets.sizes import check_input
from ganatomy.nets.vnet import Norm, VNet
from ganatomy.nets.warp import affine_matrix, centre_of_mass, positions, smoothness, warp
from ganatomy.phantoms.embedded import Embedded
from ganatomy.tasks.segmentation.atlas import ball, mean_atlas
from ganatomy.tasks.segmentation.measures import NAMED, Measure
from ganatomy.tasks.segmentation.task import SegmentationConfig, Segmenter

VENTRICLE = Embedded("beating-ventricle", size=64, subjects=32)
IMAGE, REGIONS = "atlas.image", "atlas.regions"
"""Names of the atlas among the numbers that are fitted to the training cases."""
LEVELS = 5
"""Number of stages of the V-Net."""


class VoxelAtlasGAN(Segmenter):
    """Segmentation by an atlas that is part of the model: a network warps the atlas to the image, regions and all.

    The atlas, mean image and mean regions of the training cases, is fitted before training and saved with the weights.
    A V-Net reads the image beside the atlas and predicts an affine map and a field of displacements. The warped atlas
    shall look like the image (intensity), and have its regions (label); a discriminator sees the image with true
    regions or with those of the warped atlas. Cases of one subject are frames of one heart; each is segmented on its
    own, and the ejection fraction is computed from their volumes.

    Dong et al., VoxelAtlasGAN: 3D Left Ventricle Segmentation on Echocardiography with Atlas Guided Generation and
    Voxel-to-Voxel Discrimination, MICCAI 2018, pp. 622-629. arXiv 1806.03619. The paper does not state the maps; those
    used here are of the authors' release for Deep Atlas Network, doi:10.1016/j.media.2020.101638.
    """

    dims = 3
    stated_augmentation = None

    class Config(SegmentationConfig):
        """Weights, rates, rounds and sizes are our choices, since the paper is known by its abstract alone."""

        role_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            **SegmentationConfig.role_defaults,
            "echo": {"window": (0.0, 255.0), "unit": None},
            "ventricle": {"part": "mask:ventricle"},
        }

        inputs: tuple[str, ...] = ("echo",)  # aligned images, in order of channels
        labels: str = "ventricle"  # name of the label map
        regions: Mapping[str, tuple[int, ...]] = {"ventricle": (1,)}  # region to labels
        size: tuple[int, ...] | None = (96, 96, 96)  # slices, rows and columns of image and atlas (our choice)
        fit: Fit = "contain"  # how volumes get to this size where no spacing is given
        width: int = 16  # channels of the V-Net's first stage, doubled at every halving
        norm: Norm = "instance"  # statistics by which the V-Net normalises: of a volume or of a batch (our choice)
        discriminator_width: int = 32  # channels of the discriminator's first layer (our choice)
        guided: bool = True  # whether the output is the warped atlas, not the V-Net's own map, for comparison
        warm_up_rounds: int = Field(1_000, ge=1)  # rounds with the affine map alone, without discriminator (our choice)
        game_rounds: int = 9_000  # rounds with both maps and the discriminator (our choice)
        batch_size: int = 2  # volumes (our choice)
        learning_rate: float = 2e-4  # Adam of both players (our choice)
        betas: tuple[float, float] = (0.5, 0.999)  # Adam of both players (our choice)
        ema_halflife: float | None = None  # volumes; average of the generator used at inference (our option)
        adversarial_weight: float = 1.0  # weight of the adversarial loss; 0 trains without a discriminator
        intensity_weight: float = 1.0  # weight of the L1 loss between warped atlas and image (our choice)
        label_weight: float = 100.0  # weight of the loss between warped and true regions (our choice)
        label_loss: Literal["l1", "dice"] = "l1"  # loss between warped and true regions (our choice)
        volume_weight: float = 0.0  # weight of the relative difference of volumes (our option)
        smoothness_weight: float = 0.01  # weight of the squared slopes of the displacements (our choice)

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "small": {
                "size": (32, 32, 32),
                "width": 4,
                "discriminator_width": 8,
                "warm_up_rounds": 10,
                "game_rounds": 240,
                "learning_rate": 1e-3,
                "ema_halflife": 40.0,
                "adversarial_weight": 0.1,
            },
        }
        baseline: ClassVar[Mapping[str, Any]] = {"adversarial_weight": 0.0}

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        c, regions, channels = config, len(config.regions), self.image_channels
        if c.size is None or len(c.size) != 3:
            raise UserError(
                "--size: give slices, rows and columns, such as 96 96 96, which all volumes and the atlas have"
            )
        if not (c.label_weight or c.intensity_weight or c.adversarial_weight):
            raise UserError("--label-weight 0: no loss has a weight; give one of them a weight that is not 0")
        widths = [c.width * 2**level for level in range(LEVELS)]
        self.network = VNet(2 * channels if c.guided else channels, widths, c.norm)
        self.head = nn.Conv3d(c.width, 3 if c.guided else regions, 3, padding=1)
        self.affine: nn.Sequential | None = None
        if c.guided:
            hidden = nn.Linear(widths[-1], 128)
            self.affine = nn.Sequential(
                nn.AdaptiveAvgPool3d(1), nn.Flatten(), hidden, nn.ReLU(), last := nn.Linear(128, 12)
            )
            # Training starts with the atlas as it is.
            for values in (last.weight, last.bias, self.head.bias):
                nn.init.zeros_(values)  # type: ignore[arg-type]
            nn.init.normal_(self.head.weight, 0.0, 1e-5)
        self.discriminator = (
            PatchGAN(channels + regions, c.discriminator_width, norm="instance", dims=3, biased=True)
            if c.adversarial_weight
            else None
        )

    def check_sizes(self) -> None:
        c = self.config
        assert c.size is not None
        if self.discriminator is not None:
            shape = (c.batch_size, self.image_channels + len(c.regions), *c.size)
            check_input(self.discriminator, shape, f"--size {' '.join(map(str, c.size))}")
        if c.norm == "instance" and max(c.size) <= self.network.multiple:
            raise UserError(
                f"--size {' '.join(map(str, c.size))}: one voxel is left after {LEVELS - 1} halvings, which cannot be "
                f"normalised by itself; give an extent above {self.network.multiple}, or --norm batch"
            )

    @property
    def adversarial(self) -> bool:
        """Whether the generator is trained against a discriminator."""
        return self.discriminator is not None

    @property
    def embedded(self) -> Embedded:
        return VENTRICLE

    @property
    def measures(self) -> Sequence[Measure]:
        return NAMED["ejection-fraction"]

    def fit(self, samples: Iterable[Sample]) -> None:
        """Fit the atlas to the annotated training cases, beside the statistics of the task."""
        cases = list(samples)
        super().fit(cases)
        if self.config.guided:
            image, regions = mean_atlas(self.task, cases)
            self.fitted.keep({**self.fitted.numbers, IMAGE: image, REGIONS: regions})

    def atlas(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean image and mean regions for a batch of images, (N, channels or regions, D, H, W).

        They are resized to images of other extents, and are a ball in the middle before they are fitted.
        """
        extents, made = image.shape[2:], []
        for name, channels in ((IMAGE, self.image_channels), (REGIONS, len(self.config.regions))):
            if name in self.fitted.numbers:
                part = torch.from_numpy(self.fitted.numbers[name]).to(image)
            else:
                part = torch.from_numpy(ball(extents)).to(image).expand(channels, *extents)
            if part.shape[1:] != extents:
                part = interpolate(part[None], extents, mode="trilinear", align_corners=True)[0]
            made.append(part.expand(len(image), *part.shape))
        return made[0], made[1]

    def stages(self) -> Sequence[Stage]:
        c = self.config
        moves = adam(c.learning_rate, c.betas)
        parts = tuple(part for part in (self.network, self.head, self.affine) if part is not None)
        generator = Player("generator", parts, moves, ema_halflife=c.ema_halflife)
        players = [generator]
        if self.discriminator is not None:
            players.insert(0, Player("discriminator", (self.discriminator,), moves, adversary=True))
        assert c.size is not None
        stream = self.annotated(c.batch_size, (c.size[0], c.size[1], c.size[2]))
        return [
            Stage("warm-up", self.warm_up_turns, [generator], c.warm_up_rounds, stream),
            Stage("game", self.turns, players, c.game_rounds, stream),
        ]

    def warm_up_turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        """Yield the turn of the generator, which fits the affine map alone."""
        batch = next(batches)
        yield Turn("generator", self.guidance(batch, *self.generate(self.image(batch), dense=False)))

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        batch = next(batches)
        image, truth = self.image(batch), self.truth(batch)
        known = (truth >= 0).to(image)
        look, regions, field = self.generate(image)
        if self.discriminator is not None:
            real_scores = self.discriminator(torch.cat([image, truth.to(image) * known], 1))
            fake_scores = self.discriminator(torch.cat([image, regions.detach() * known], 1))
            yield Turn(
                "discriminator",
                adversarial=0.5 * nonsaturating_discriminator(real_scores, fake_scores),
                scores={"real": real_scores, "fake": fake_scores},
            )
        losses = self.guidance(batch, look, regions, field)
        if self.discriminator is not None:
            scores = self.discriminator(torch.cat([image, regions * known], 1))
            losses["adversarial"] = self.config.adversarial_weight * nonsaturating_generator(scores)
        yield Turn("generator", losses)

    def generate(self, image: Tensor, dense: bool = True) -> tuple[Tensor | None, Tensor, Tensor | None]:
        """Return the warped atlas, its regions from 0 to 1, and the displacements.

        Args:
            image: images, (N, channels, D, H, W).
            dense: whether the displacements are used, or the affine map alone.
        """
        extents = image.shape[2:]
        if self.affine is None:
            return None, self.head(self.network(image)).sigmoid(), None
        look, regions = self.atlas(image)
        stages = self.network.encode(torch.cat([image, look], 1))
        matrix = affine_matrix(self.affine(stages[-1]), centre_of_mass(look))
        field = self.head(self.network.decode(stages, extents)) if dense else None
        places = positions(matrix, field, (extents[0], extents[1], extents[2]))
        return warp(look, places), warp(regions, places), field

    def guidance(self, batch: Batch, look: Tensor | None, regions: Tensor, field: Tensor | None) -> dict[str, Tensor]:
        """Return the weighted losses of the warped atlas, without the adversarial one."""
        c, losses, truth = self.config, {}, self.truth(batch)
        if look is not None and c.intensity_weight:
            losses["intensity"] = c.intensity_weight * (look - self.image(batch)).abs().mean()
        if c.label_weight:
            own = label_l1(regions, truth) if c.label_loss == "l1" else dice_loss(regions, truth, squared=False)
            losses["label"] = c.label_weight * own
        if c.volume_weight:
            losses["volume"] = c.volume_weight * volume_difference(regions, truth)
        if field is not None and c.smoothness_weight:
            losses["smoothness"] = c.smoothness_weight * smoothness(field)
        return losses

    def segment(self, image: Tensor) -> Tensor:
        return self.generate(image)[1]
