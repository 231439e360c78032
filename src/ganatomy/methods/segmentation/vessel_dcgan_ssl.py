"""Retinal vessels from few annotations: the discriminator of a DCGAN of patches also classifies their middle pixel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from math import log
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from ganatomy.errors import UserError
from ganatomy.game import Balanced, Batch, Player, Stage, Stream, Tiling, Turn, adam
from ganatomy.losses.adversarial import nonsaturating_discriminator, nonsaturating_generator
from ganatomy.losses.segmentation import cross_entropy
from ganatomy.nets.aids import averages_kept, latents
from ganatomy.nets.dcgan import DCDiscriminator, DCGenerator, init_dcgan
from ganatomy.nets.sizes import check_input
from ganatomy.phantoms.embedded import Embedded
from ganatomy.tasks.segmentation.kinds import RETINA, VESSELS
from ganatomy.tasks.segmentation.task import SegmentationConfig, Segmenter

WINDOWS = 4096
"""Largest number of patches that are classified at once."""


class VesselDCGAN(Segmenter):
    """Segmentation of retinal vessels by classifying the middle pixel of patches, with a DCGAN as a further teacher.

    One trunk has two heads: one tells patches of photographs from generated ones, the other vessels from background.
    The classes are learned from annotated patches alone. A photograph is segmented by sliding the patch over it.

    Lahiri et al., Generative Adversarial Learning for Reducing Manual Annotation in Semantic Segmentation on Large
    Scale Miscroscopy Images, CVPR Workshops 2017, 794-800. doi:10.1109/CVPRW.2017.110.
    """

    stated_augmentation = None

    class Config(SegmentationConfig):
        """Our choice of numbers, since the abstract of the paper gives none; those of players are the ones of DCGAN."""

        role_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            **SegmentationConfig.role_defaults,
            **VESSELS,
        }

        inputs: tuple[str, ...] = ("image",)  # names of the photographs, in order of channels
        labels: str = "vessels"  # name of the label map
        regions: Mapping[str, tuple[int, ...]] = {"vessels": (1,)}  # label values of the vessels
        lines: bool = True  # whether Frangi's filter of thin lines is judged beside
        patch: int = Field(32, ge=2)  # rows and columns of a patch
        adversary: bool = True  # whether there is a generator; without it the same trunk only classifies
        unlabelled: bool = False  # whether patches of all photographs are shown as real ones, not the annotated alone
        latent: int = 100  # size of the latent vectors, which are uniform from -1 to 1
        generator_widths: tuple[int, ...] = (512, 256, 128)  # channels of the layers of the generator
        trunk_widths: tuple[int, ...] = (64, 128, 256)  # channels of the convolutions of the trunk
        hidden: int = 512  # units of the dense layer of the trunk
        batch_size: int = 64  # patches, with as many of vessels as of background
        game_rounds: int = 20_000  # rounds; each updates both networks once
        learning_rate: float = 2e-4  # learning rate of both players
        class_weight: float = 1.0  # weight of the cross-entropy of the classes
        vessel_share: float = Field(0.5, gt=0, lt=1)  # share of vessels in pictures; 0.5, as in batches, if not known

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "small": {
                "patch": 16,
                "generator_widths": (64, 32),
                "trunk_widths": (16, 32),
                "hidden": 64,
                "game_rounds": 3000,
                "learning_rate": 5e-4,
                "vessel_share": 0.05,
            },
        }
        baseline: ClassVar[Mapping[str, Any]] = {"adversary": False}

    config: Config

    def __init__(self, config: Config):
        super().__init__(config)
        c, size = config, (config.patch, config.patch)
        if len(c.regions) != 1:
            raise UserError(f"--regions: the patches have two classes, so there is one region, not {len(c.regions)}")
        if not (c.adversary or c.class_weight):
            raise UserError("--no-adversary: no loss has a weight; give --class-weight")
        self.trunk = DCDiscriminator(self.image_channels, size, c.trunk_widths, outputs=c.hidden, biased=True)
        self.classes, self.realness = nn.Linear(c.hidden, 2), nn.Linear(c.hidden, 1) if c.adversary else None
        init_dcgan(self.classes)
        self.generator: DCGenerator | None = None
        if self.realness is not None:
            init_dcgan(self.realness)
            self.generator = DCGenerator(c.latent, self.image_channels, size, c.generator_widths, biased=True)

    @property
    def adversarial(self) -> bool:
        """Whether there is a generator."""
        return self.generator is not None

    @property
    def embedded(self) -> Embedded:
        return RETINA

    @property
    def tiling(self) -> Tiling:
        around = self.config.patch // 2
        return Tiling(margin=(0, around, around))

    def check_sizes(self) -> None:
        patch = self.config.patch
        check_input(self.trunk, (2, self.image_channels, patch, patch), f"--patch {patch}")

    def stages(self) -> Sequence[Stage]:
        c = self.config
        moves, patch = adam(c.learning_rate, (0.5, 0.999)), (1, c.patch, c.patch)
        heads = [self.trunk, self.classes, *([self.realness] if self.realness is not None else [])]
        players = [Player("discriminator", tuple(heads), moves, adversary=self.adversarial)]
        if self.generator is not None:
            players.append(Player("generator", (self.generator,), moves))
        annotated = self.annotated(c.batch_size, patch, flips=(1, 2))
        (inside,) = self.config.regions.values()
        shares = {0: 0.5, **dict.fromkeys(inside, 0.5 / len(inside))}
        streams = [replace(annotated, place=Balanced(c.labels, shares))]
        if c.unlabelled:
            streams.append(Stream("pictures", c.inputs, c.batch_size, patch, flips=(1, 2)))
        return [Stage("segment", self.turns, players, c.game_rounds, streams[0] if len(streams) == 1 else streams)]

    def turns(self, batches: Iterator[Batch]) -> Iterator[Turn]:
        c = self.config
        batch = next(batches)
        labelled = batch["annotated"] if c.unlabelled else batch
        patches, truth = self.scaled(labelled), self.truth(labelled)[:, 0, c.patch // 2, c.patch // 2]
        features = self.features(patches)
        entropy = cross_entropy(self.classes(features), torch.stack([truth == 0, truth == 1], 1).float())
        losses = {"entropy": c.class_weight * entropy} if c.class_weight else {}
        if self.generator is None:
            yield Turn("discriminator", losses)
            return
        assert self.realness is not None
        fake = self.generator(latents(self.noise, len(patches), c.latent, "uniform"))
        shown = self.features(self.scaled(batch["pictures"])) if c.unlabelled else features
        real_score, fake_score = self.realness(shown), self.realness(self.generated_features(fake.detach()))
        losses["adversarial"] = nonsaturating_discriminator(real_score, fake_score)
        yield Turn("discriminator", losses, scores={"real": real_score, "fake": fake_score})
        yield Turn("generator", adversarial=nonsaturating_generator(self.realness(self.generated_features(fake))))

    def scaled(self, batch: Batch) -> Tensor:
        """Return the patches of a batch in [-1, 1], the range of the generator."""
        return 2 * self.image(batch) - 1

    def features(self, patches: Tensor) -> Tensor:
        """Map patches (N, channels, patch, patch) in [-1, 1] to the features of both heads, (N, hidden)."""
        return leaky_relu(self.trunk(patches), 0.2)

    def generated_features(self, patches: Tensor) -> Tensor:
        """Map generated patches to features.

        Photographs are segmented by the running averages of the norms, which are therefore those of photographs alone.
        """
        with averages_kept(self.trunk):
            return self.features(patches)

    def segment(self, image: Tensor) -> Tensor:
        """Predict the probability of a vessel, (N, 1, H, W), of images with half a patch around them on every side.

        Half of the patches that were learned from are vessels; the odds are multiplied by those of a picture.
        """
        side, share = self.config.patch, self.config.vessel_share
        odds = image.new_tensor([0.0, log(share / (1 - share))])
        windows = (2 * image - 1).unfold(2, side, 1).unfold(3, side, 1)
        rows, columns = (extent - 2 * (side // 2) for extent in image.shape[2:])
        step = max(1, WINDOWS // (len(image) * columns))
        parts = []
        for first in range(0, rows, step):
            some = windows[:, :, first : min(first + step, rows), :columns]
            patches = some.permute(0, 2, 3, 1, 4, 5)
            logits = self.classes(self.features(patches.flatten(0, 2)))
            parts.append((logits + odds).softmax(1)[:, 1].reshape(patches.shape[:3]))
        return torch.cat(parts, 1)[:, None]
