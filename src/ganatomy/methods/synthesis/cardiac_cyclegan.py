"""MR of the heart from CT without pairs: a CycleGAN that translates image and mask of the myocardium together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy, interpolate, l1_loss

from ganatomy.game import Stream
from ganatomy.images.frames import Fit
from ganatomy.methods.frameworks.cyclegan import CycleGAN
from ganatomy.nets.residual import ResNetGenerator
from ganatomy.phantoms.embedded import Embedded
from ganatomy.roles.image import ImageOptions
from ganatomy.roles.labels import MaskOptions
from ganatomy.roles.options import RoleOptions

HEARTS = Embedded("chest-mr-ct", size=128, grid={"slices": 12, "enhancement": 300.0}, subjects=20)
CT: Mapping[str, Any] = {"unit": "HU", "window": (-200.0, 600.0)}
"""Scale of CT with contrast medium."""


class ImageAndMask(nn.Module):
    """Last activations: tanh of the channels of an image, and a sigmoid of the mask, the channel behind them.

    (N, C, ...) to the same shape.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """Apply the activations."""
        return torch.cat([maps[:, :-1].tanh(), maps[:, -1:].sigmoid()], dim=1)


class CardiacCycleGAN(CycleGAN):
    """Synthesis of cardiac MR with a mask of the myocardium from CT with one, in order to train segmentation of MR.

    Generators and discriminators of CycleGAN see an image and its mask as two channels, so that a mask which does not
    fit its image is found out, and the cycle returns both. Slices of both modalities are of different patients, and
    hold some myocardium. The output has the mask that belongs to the synthetic image, and its Dice with the mask that
    was given tells whether anatomy moved. ``guard_weight`` forbids that.

    Volumes have to be in one cardiac view, with the heart in the centre, around which slices are cut: the paper aligns
    them by their label maps. Its text is known in parts: activations, the loss of masks and its weight are our choice.

    Chartsias, Joyce, Dharmakumar & Tsaftaris, Adversarial Image Synthesis for Unpaired Multi-modal Cardiac Data,
    SASHIMI 2017, LNCS 10557:3-13. doi:10.1007/978-3-319-68127-6_1.
    """

    stated_augmentation = None

    class Config(CycleGAN.Config):
        """Numbers of CycleGAN, with slices of 232 × 232 pixels."""

        role_fields: ClassVar[Mapping[str, type[RoleOptions]]] = {
            "source": ImageOptions,
            "source_mask": MaskOptions,
            "target": ImageOptions,
            "target_mask": MaskOptions,
        }
        role_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "source": CT,
            "ct": CT,
            "target": {"part": "bssfp"},
            "source_mask": {"part": "mask:ct_myocardium"},
            "target_mask": {"part": "mask:myocardium"},
        }

        source: str = "ct"  # name of the CT images, which is also the prefix of their options
        source_mask: str = "ct_myocardium"  # name of their masks; all that is not 0 is myocardium
        target: str = "mr"  # name of the MR images
        target_mask: str = "mr_myocardium"  # name of their masks
        size: tuple[int, ...] = (232, 232)  # rows and columns of slices
        spacing: tuple[float, float, float] | None = (5.0, 1.0, 1.0)  # mm between slices, rows and columns
        fit: Fit = "centre"  # how slices get to the size: cut or padded around their centre
        game_rounds: int = 200_000  # updates of each player
        jitter: int = 0  # pixels by which slices are enlarged before a random part of the size is cut out
        flips: tuple[int, ...] = ()  # axes along which slices are mirrored at random: 1 rows, 2 columns
        phantom: str = HEARTS.name  # embedded phantom to learn from where no data are given
        mask_loss: Literal["entropy", "l1"] = "entropy"  # of masks after the cycle: cross-entropy, or as of images
        guard_weight: float = Field(0.0, ge=0)  # weight of the cross-entropy of the new mask and the given one

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "small": {
                "size": (64, 64),
                "spacing": None,
                "game_rounds": 1_000,
                "batch_size": 2,
                "learning_rate": 1e-3,
                "width": 12,
                "blocks": 3,
                "strided": 1,
                "discriminator_width": 24,
                "discriminator_strided": 2,
                "ema_halflife": 100.0,
            },
        }

    config: Config

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.config.source, self.config.source_mask)

    @property
    def outputs(self) -> tuple[str, ...]:
        return (self.config.target, self.config.target_mask)

    @property
    def embedded(self) -> Embedded:
        return HEARTS

    def generator(self, given: int, made: int) -> nn.Module:
        """Return a generator whose last channel is a mask."""
        c = self.config
        network = ResNetGenerator(given, made, c.width, c.blocks, c.strided, output="linear")
        return nn.Sequential(network, ImageAndMask())

    def streams(self, batch_size: int) -> tuple[Stream, ...]:
        """Return the streams of slices with some myocardium, ``source`` and ``target``."""
        names = (self.config.source_mask, self.config.target_mask)
        both = zip(super().streams(batch_size), names, strict=True)
        return tuple(replace(stream, accepts=partial(holds, name)) for stream, name in both)

    def cycle(self, name: str, given: Tensor, made: Tensor, back: Tensor) -> dict[str, Tensor]:
        """Return the losses of images and of masks after translation there and back, and of masks that move."""
        c = self.config
        losses = {
            f"cycle {name}": c.cycle_weight * l1_loss(back[:, :-1], given[:, :-1]),
            f"cycle {name} mask": c.cycle_weight * self.mask_error(back[:, -1:], given[:, -1:]),
        }
        if c.guard_weight:
            losses[f"guard {name}"] = c.guard_weight * entropy(made[:, -1:], given[:, -1:])
        return losses

    def mask_error(self, found: Tensor, true: Tensor) -> Tensor:
        """Return the difference of masks (N, 1, H, W), probabilities against 0 and 1."""
        return entropy(found, true) if self.config.mask_loss == "entropy" else l1_loss(found, true)

    def enlarged(self, images: Tensor, more: int) -> Tensor:
        """Return images and masks with more rows and columns, within their ranges."""
        rows, columns = images.shape[2:]
        return interpolate(images, (rows + more, columns + more), mode="bilinear")


def holds(mask: str, patch: Mapping[str, Any]) -> bool:
    """Return whether a slice has anything in its mask."""
    return bool(np.any(patch[mask]))


def entropy(found: Tensor, true: Tensor) -> Tensor:
    """Return the mean cross-entropy of probabilities against masks of 0 and 1, in single precision."""
    with torch.autocast(found.device.type, enabled=False):
        return binary_cross_entropy(found.float(), true.float())
