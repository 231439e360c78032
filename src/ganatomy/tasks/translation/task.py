"""The task of image translation: predict an image of another contrast or modality."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from ganatomy.case import Array, Better, Case, Preparation, Role, Sample, Scores, Volume, label_of
from ganatomy.errors import UserError
from ganatomy.game import Method, RolesConfig, Stream
from ganatomy.images.augmentation import Changes, mild
from ganatomy.images.codecs import Window
from ganatomy.images.frames import Fit
from ganatomy.inference.predictor import decoding_role
from ganatomy.metrics.dependence import correlation
from ganatomy.roles.image import ImageOptions
from ganatomy.tasks.restoration.likeness import BEST, EDGES, INFORMATION, MAE, PSNR, SSIM, information, likeness
from ganatomy.tasks.restoration.task import CONTENT, Restoration

CONTRAST = "contrast"

FOREGROUND = 0.05
"""Share of a window above its lower end at which tissue begins."""


class TranslationConfig(RolesConfig):
    """Options of image translation between two contrasts or modalities."""

    role_fields: ClassVar[Mapping[str, type[ImageOptions]]] = {"source": ImageOptions, "target": ImageOptions}

    source: str = "t1"  # name of the input images, which is also the prefix of their options, such as --t1.window
    target: str = "t2"  # name of the output images
    roles: Mapping[str, ImageOptions] = {}  # options of both, by name
    size: tuple[int, int] = (256, 256)  # rows and columns of the images the networks see
    fit: Fit = "contain"  # how images get to this size: fit inside it, fill it, or be cut into patches
    flips: tuple[int, ...] = (2,)  # axes along which images are flipped at random: 1 rows, 2 columns
    phantom: str = "brain-mr"  # embedded phantom to learn from where no data are given


class Translation(Restoration):
    """Task of image translation, learned from paired or unpaired images.

    Where codecs are bound per case, outputs have the median scale of the training cases, and are scored in the range of
    the true image.

    Args:
        config: names of the roles and their options, size and phantom.
        paired: whether training needs both images of a patient. Otherwise cases with one of them suffice, and cases
            with both are judged as pairs.
        selection: score that selects the best weights.
    """

    name = "translation"
    judge = "ganatomy.tasks.translation.judge:TranslationJudge"

    directions: ClassVar[Mapping[str, Better]] = {
        PSNR: "higher",
        SSIM: "higher",
        MAE: "lower",
        CONTRAST: "higher",
        INFORMATION: "target",
        EDGES: "target",
        BEST: "lower",
    }

    def __init__(self, config: TranslationConfig, paired: bool, selection: str):
        self.config, self._selection = config, selection
        self.input, self.output = config.source, config.target
        self.given = self.input
        self.roles: Mapping[str, Role] = {
            # Networks end in a tanh, so that their outputs never exceed the ends of the range.
            name: config.roles[name].role(name, clip=True, limited=True)
            for name in (self.input, self.output)
        }
        self.groups = () if paired else ((self.input,), (self.output,))
        self.phantom = config.phantom

    @property
    def preparation(self) -> Preparation:
        c = self.config
        if c.fit == "patches":
            return Preparation()
        return Preparation(size=c.size, fit=c.fit, fill=tuple((name, c.roles[name].air) for name in self.roles))

    def phantom_grid(self, size: int | None) -> dict[str, Any]:
        return {"size": size or max(self.config.size)}

    def phantom_parts(self, label: str | None) -> Mapping[str, str]:
        return {name: self.config.roles[name].part or name for name in self.roles}

    @property
    def selection(self) -> str:
        return self._selection

    def frame(self, values: Mapping[str, Any], case: Case | None = None) -> Sample:
        if case is not None and not self.groups:
            missing = [name for name in self.roles if name not in values]
            if missing:
                raise UserError(f"{label_of(next(iter(values.values())))}: no {' or '.join(missing)} image beside it")
        return super().frame(values, case)

    def changes(self) -> Changes:
        """Return changes of geometry, and where pairs are learned from, of the intensities of the input.

        Without pairs both images are drawn by a network, which would learn to draw other intensities, too.
        """
        if self.groups:
            return Changes(mild(), "intensities stay: without pairs, networks draw both kinds of images")
        return Changes(mild((self.input,), [self.input] if self.roles[self.input].measured else []))

    def contrasts(self, sample: Sample) -> tuple[Window, Window]:
        given, made = sample.role(self.input), decoding_role(self, self.roles[self.output])
        assert isinstance(given.codec, Window) and isinstance(made.codec, Window)
        return given.codec, made.codec

    def same_contrast(self, output: str) -> str | None:
        return None

    def trainable(self, label: str | None, arrays: Mapping[str, Array]) -> NDArray[np.bool_] | None:
        shares = [
            (np.asarray(values) > self.above(name)).mean(axis=(0, 2, 3))
            for name, values in arrays.items()
            if name in self.roles
        ]
        return np.asarray(np.min(shares, axis=0) >= CONTENT)

    def tissue(self, sample: Mapping[str, Volume]) -> NDArray[np.bool_]:
        """Return the mask of tissue, (slices, rows, columns): voxels above the dark values in any image of a sample."""
        inside = [sample[name] > self.above(name, FOREGROUND) for name in self.roles if name in sample]
        return np.asarray(np.logical_or.reduce(inside))

    def scores(
        self, output: Mapping[str, Volume], sample: Mapping[str, Volume], spacing: tuple[float, float, float]
    ) -> Scores:
        """Score dependence on the input, and where the true image is known also fidelity and sharpness.

        Correlation with the true image and mutual information with the input, in bits, are computed within tissue.
        """
        made, tissue = output[self.output], self.tissue(sample)
        given, wanted = self.window(self.input), self.window(self.output)
        shared = information(sample[self.input][tissue], made[tissue], given, wanted)
        if self.output not in sample:
            return {INFORMATION: shared}
        true = sample[self.output]
        return {
            **likeness(made, true, wanted, spacing),
            CONTRAST: correlation(made[tissue], true[tissue]),
            INFORMATION: shared,
        }


class Translator(Method):
    """Base class of translation methods; their configuration is a `TranslationConfig` with an ``adversarial_weight``.

    `jittered` also needs the option ``jitter``, the number of pixels by which images are enlarged.
    """

    paired: ClassVar[bool] = True
    """Whether the method learns from pairs of images of a patient."""

    @abstractmethod
    def restore(self, input: Tensor) -> Tensor:
        """Translate source images (N, C, H, W) to target images of the same size."""

    @property
    def adversarial(self) -> bool:
        """Whether there is a discriminator; sharpness then counts in the score that selects weights."""
        return bool(self.config.adversarial_weight)

    def build_task(self) -> Translation:
        return Translation(self.config, self.paired, BEST if self.adversarial else MAE)

    def streams(self, batch_size: int) -> tuple[Stream, ...]:
        """Return the streams of training images.

        These are ``pairs`` for paired methods, else ``source`` and ``target``, drawn independently of each other.
        """
        c = self.config
        patch = (1, *c.size)
        if self.paired:
            return (Stream("pairs", (c.source, c.target), batch_size, patch, flips=c.flips),)
        return tuple(
            Stream(name, (role,), batch_size, patch, flips=c.flips)
            for name, role in (("source", c.source), ("target", c.target))
        )

    def jittered(self, *images: Tensor) -> tuple[Tensor, ...]:
        """Enlarge images slightly and crop them to their size at random, all images of a sample at the same place.

        Isola et al., arXiv 1611.07004.
        """
        more, (rows, columns) = self.config.jitter, images[0].shape[2:]
        if not more:
            return images
        enlarged = interpolate(torch.cat(images, dim=1), (rows + more, columns + more), mode="bicubic")
        corners = (self.noise.uniform(len(enlarged), 2) * (more + 1)).long().clamp_max(more).tolist()
        parts = [
            image[:, top : top + rows, left : left + columns]
            for image, (top, left) in zip(enlarged, corners, strict=True)
        ]
        return torch.split(torch.stack(parts), [image.shape[1] for image in images], dim=1)
