"""Mahapatra et al.: SRGAN for retinal images with a saliency-weighted content loss."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from ganatomy.losses.saliency import local_contrast, saliency_filters, salient_error
from ganatomy.methods.frameworks.srgan import SRGAN
from ganatomy.nets.features import VGG19Features


class SaliencySRGAN(SRGAN):
    """Super-resolution of fundus photographs with a content loss that is weighted by local saliency.

    Mahapatra, Bozorgtabar, Hewavitharanage & Garnavi, Image Super Resolution Using Generative Adversarial Networks and
    Local Saliency Maps for Retinal Image Analysis, MICCAI 2017, LNCS 10435. A sibling paper is
    arXiv 1710.04783.
    """

    stated_augmentation = None

    class Config(SRGAN.Config):
        """The numbers of SRGAN where the paper's are not known; saliency is used in the game, not in pre-training."""

        saliency: Literal["filters", "contrast", "none"] = "filters"  # saliency map; none weights all pixels alike
        superpixels: int = Field(250, ge=2, le=65536)  # superpixels of a patch for the map filters (our choice)
        domain: Literal["pixel", "vgg"] = "pixel"  # whether weighted images or their VGG-19 features are compared
        pretrain_rounds: int = 100_000  # updates of the pre-training for squared error (our choice)
        channels: int = 3  # image channels: red, green and blue
        window: tuple[float, float] = (0.0, 255.0)  # values mapped to [-1, 1], those of coarse images to [0, 1]
        window_unit: str | None = None  # unit of these values
        phantom: str = "fundus"  # embedded phantom used without --data
        part: str = "image"  # image of the phantom that is degraded and restored
        structure: str = "vessels"  # structure of the phantom that a segmenter looks for in outputs

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
            "paper": {},
            "small": {
                **SRGAN.Config.presets["small"],
                "pretrain_rounds": 900,
                "game_rounds": 250,
                "learning_rate": 2e-3,
                "drop_at": 0.0,
            },
        }
        baseline: ClassVar[Mapping[str, Any]] = {"adversarial_weight": 0.0}

    config: Config

    def content_features(self) -> VGG19Features | None:
        return super().content_features() if self.config.domain == "vgg" else None

    def salience(self, image: Tensor) -> Tensor:
        """Return the weight map (N, 1, H, W) in [0, 1] of images (N, C, H, W) in [0, 1]."""
        c = self.config
        if c.saliency == "filters":
            return saliency_filters(image, c.superpixels)
        return local_contrast(image) if c.saliency == "contrast" else torch.ones_like(image[:, :1])

    def content(self, fake: Tensor, fine: Tensor) -> Tensor:
        maps = self.salience(fake), self.salience(fine)
        if self.config.domain == "pixel":
            return salient_error(fake, fine, *maps)
        return super().content(maps[0] * fake, maps[1] * fine)
