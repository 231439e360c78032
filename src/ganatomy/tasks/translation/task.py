"""The task of image translation: predict an image of another contrast or modality."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import SerializeAsAny
from torch import Tensor
from torch.nn.functional import interpolate

from ganatomy.case import Array, Better, Case, Preparation, Role, Sample, Scores, Volume, label_of
from ganatomy.errors import UserError
from ganatomy.game import Batch, Method, RolesConfig, Stream
from ganatomy.images.augmentation import Changes, mild
from ganatomy.images.codecs import Window
from ganatomy.images.frames import Fit, Plane
from ganatomy.inference.predictor import decoding_role
from ganatomy.metrics.dependence import correlation
from ganatomy.phantoms.embedded import Embedded
from ganatomy.roles.image import ImageOptions
from ganatomy.roles.labels import LabelRole, MaskOptions
from ganatomy.roles.options import RoleOptions
from ganatomy.tasks.restoration.likeness import BEST, EDGES, INFORMATION, MAE, PSNR, SSIM, information, likeness
from ganatomy.tasks.restoration.task import CONTENT, Restoration

CONTRAST = "contrast"

FOREGROUND = 0.05
"""Share of a window above its lower end at which tissue begins."""


class TranslationConfig(RolesConfig):
    """Options of image translation between two contrasts or modalities, or from label maps to images."""

    role_fields: ClassVar[Mapping[str, type[RoleOptions]]] = {"source": ImageOptions, "target": ImageOptions}

    source: str = "t1"  # name of the input images, which is also the prefix of their options, such as --t1.window
    target: str = "t2"  # name of the output images
    roles: Mapping[str, SerializeAsAny[RoleOptions]] = {}  # options of both, by name
    plane: Plane = "axial"  # plane of the slices
    spacing: tuple[float, float, float] | None = None  # mm between slices, rows and columns; none keeps each volume's
    size: tuple[int, ...] = (256, 256)  # rows and columns that networks see; slices, rows and columns of volumes
    fit: Fit = "contain"  # how images get to this size: fit inside it, fill it, or be cut into patches
    flips: tuple[int, ...] = (2,)  # axes along which images are flipped at random: 1 rows, 2 columns
    phantom: str = "brain-mr"  # embedded phantom to learn from where no data are given


class Translation(Restoration):
    """Task of image translation, learned from paired or unpaired images.

    Where codecs are bound per case, outputs have the median scale of the training cases, and are scored in the range of
    the true image.

    Args:
        config: names of the roles and their options, plane, size and phantom.
        paired: whether training needs all images of a patient. Otherwise cases with those of one side suffice, and
            cases with both are judged as pairs.
        selection: score that selects the best weights.
        inputs: roles that the networks see, in the order of their channels; the first one is the main input.
        outputs: roles that the networks make, in the order of their channels; the first one is the main output, which
            is judged.
        guides: roles that only training and the judge use, and that cases may lack.
        finding: label map among the guides; outputs are also judged by whether a network finds it in them.
        regions: role of a label map to the labels of its regions; one region, of all voxels that are not 0, unless
            given.
        embedded: embedded phantom that is learned from where no data are given.
        angiogram: whether the main output shows vessels as bright tubes, by which it is then judged, too.
    """

    name = "translation"
    predictors: ClassVar = {"restore": "ganatomy.tasks.translation.predictor:TranslationPredictor"}
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

    def __init__(
        self,
        config: TranslationConfig,
        paired: bool,
        selection: str,
        *,
        inputs: Sequence[str] = (),
        outputs: Sequence[str] = (),
        guides: Sequence[str] = (),
        finding: str | None = None,
        regions: Mapping[str, Mapping[str, tuple[int, ...]]] = MappingProxyType({}),
        embedded: Embedded | None = None,
        angiogram: bool = False,
    ):
        self.angiogram = angiogram
        self.config, self._selection, self.guides = config, selection, tuple(guides)
        self.finding = finding
        self.inputs, self.outputs = tuple(inputs) or (config.source,), tuple(outputs) or (config.target,)
        self.input, self.output = self.inputs[0], self.outputs[0]
        self.given = self.input
        self.roles: Mapping[str, Role] = {
            **{name: _role(config, name, regions) for name in (*self.inputs, *self.outputs)},
            **{name: _role(config, name, regions, optional=True) for name in self.guides},
        }
        self.groups = () if paired else (self.inputs, self.outputs)
        self.embedded = embedded or Embedded(config.phantom, max(config.size), subjects=13)
        self.phantom, self.phantom_subjects = self.embedded.name, self.embedded.subjects

    @property
    def in_channels(self) -> int:
        """Number of channels of all inputs together."""
        return sum(self.roles[name].channels for name in self.inputs)

    @property
    def images(self) -> tuple[str, ...]:
        """Inputs and outputs that are intensity images and no label maps."""
        return tuple(name for name in (*self.inputs, *self.outputs) if not self.roles[name].is_label_map)

    @property
    def preparation(self) -> Preparation:
        c = self.config
        if c.fit == "patches":
            return Preparation(plane=c.plane, spacing=c.spacing)
        options = {name: c.roles[name] for name in self.roles}
        fill = tuple((name, own.air) for name, own in options.items() if isinstance(own, ImageOptions))
        return Preparation(plane=c.plane, spacing=c.spacing, size=c.size, fit=c.fit, fill=fill)

    def phantom_grid(self, size: int | None) -> dict[str, Any]:
        return {"size": size or self.embedded.size, **self.embedded.grid}

    def phantom_parts(self, label: str | None) -> Mapping[str, str]:
        return {name: self.config.roles[name].part or name for name in self.roles}

    @property
    def selection(self) -> str:
        return self._selection

    def frame(self, values: Mapping[str, Any], case: Case | None = None) -> Sample:
        if case is not None and not self.groups:
            missing = [name for name in self.required if name not in values]
            if missing:
                raise UserError(f"{label_of(next(iter(values.values())))}: no {' or '.join(missing)} image beside it")
        return super().frame(values, case)

    def changes(self) -> Changes:
        """Return changes of geometry, and where pairs are learned from, of the intensities of the inputs.

        Without pairs both images are drawn by a network, which would learn to draw other intensities, too.
        """
        if self.groups:
            return Changes(mild(), "intensities stay: without pairs, networks draw both kinds of images")
        seen = [name for name in self.inputs if not self.roles[name].is_label_map]
        return Changes(mild(seen, [name for name in seen if self.roles[name].measured]))

    def contrasts(self, sample: Sample) -> tuple[Window, Window] | None:
        """Return the windows of the main input and output of a case; None where the input is a label map."""
        if self.roles[self.input].is_label_map:
            return None
        given, made = sample.role(self.input), decoding_role(self, self.roles[self.output])
        assert isinstance(given.codec, Window) and isinstance(made.codec, Window)
        return given.codec, made.codec

    def window(self, role: str) -> tuple[float, float]:
        """Return the lowest and the highest value of a role; those of a label map are 0 and its largest label."""
        one = self.roles[role]
        return (0.0, float(max(one.known))) if isinstance(one, LabelRole) else super().window(role)

    def same_contrast(self, output: str) -> str | None:
        return None

    def trainable(self, label: str | None, arrays: Mapping[str, Array]) -> NDArray[np.bool_] | None:
        """Return the slices in which every image has content; label maps may be empty."""
        shares = [
            (np.asarray(values) > self.above(name)).mean(axis=(0, 2, 3))
            for name, values in arrays.items()
            if name in self.images
        ]
        return np.asarray(np.min(shares, axis=0) >= CONTENT) if shares else None

    def tissue(self, sample: Mapping[str, Volume]) -> NDArray[np.bool_]:
        """Return the mask of tissue, (slices, rows, columns): voxels above the dark values in any image of a sample."""
        inside = [sample[name] > self.above(name, FOREGROUND) for name in self.images if name in sample]
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


def _role(
    config: TranslationConfig, name: str, regions: Mapping[str, Mapping[str, tuple[int, ...]]], optional: bool = False
) -> Role:
    """Return the role of an image, or of a label map with some regions."""
    options = config.roles[name]
    if isinstance(options, ImageOptions):
        # Networks end in a tanh, so that their outputs never exceed the ends of the range.
        return options.role(name, clip=True, limited=True, optional=optional)
    assert isinstance(options, MaskOptions)
    if name in regions:
        return LabelRole(name, regions[name], optional=optional)
    return LabelRole(name, any_two=True, optional=optional)


class Translator(Method):
    """Base class of translation methods; their configuration is a `TranslationConfig` with an ``adversarial_weight``.

    `jittered` also needs the option ``jitter``, the number of pixels by which images are enlarged.
    """

    paired: ClassVar[bool] = True
    """Whether the method learns from pairs of images of a patient."""
    angiogram: ClassVar[bool] = False
    """Whether the main output shows vessels as bright tubes, by which it is then judged, too."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Roles that the networks see, in the order of their channels; the first one is the main input."""
        return (self.config.source,)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Roles that the networks make, in the order of their channels; the first one is the main output."""
        return (self.config.target,)

    @property
    def guides(self) -> tuple[str, ...]:
        """Roles that only training and the judge use, such as maps of lesions; cases may lack them."""
        return ()

    @property
    def finding(self) -> str | None:
        """Label map among the guides by which outputs are judged, too: whether a network finds it in them."""
        return None

    @property
    def regions(self) -> Mapping[str, Mapping[str, tuple[int, ...]]]:
        """Label map to the labels of its regions; maps of which nothing is said have one region, of all but 0."""
        return {}

    @property
    def embedded(self) -> Embedded | None:
        """Embedded phantom that is learned from where no data are given; none means the one that the user names."""
        return None

    @abstractmethod
    def restore(self, input: Tensor) -> Tensor:
        """Translate images to images of the same size.

        Args:
            input: the inputs (N, channels of all inputs, [D,] H, W) in the range of the networks; each region of a
                label map is a channel of 0 and 1.

        Returns:
            The outputs (N, channels of all outputs, [D,] H, W); of a label map, the probability of each region.
        """

    def latent_of(self, seed: int) -> Tensor | None:
        """Return the noise (1, latent) of a seed that `restore` takes as ``latent``; None where it takes none."""
        return None

    @property
    def adversarial(self) -> bool:
        """Whether there is a discriminator; sharpness then counts in the score that selects weights."""
        return bool(self.config.adversarial_weight)

    def build_task(self) -> Translation:
        return Translation(
            self.config,
            self.paired,
            BEST if self.adversarial else MAE,
            inputs=self.inputs,
            outputs=self.outputs,
            guides=self.guides,
            finding=self.finding,
            regions=self.regions,
            embedded=self.embedded,
            angiogram=self.angiogram,
        )

    def image(self, batch: Batch) -> Tensor:
        """Concatenate the inputs of a batch as channels, (N, channels of all inputs, [D,] H, W)."""
        return torch.cat([batch[name] for name in self.inputs], dim=1)

    def truth(self, batch: Batch) -> Tensor:
        """Concatenate the true outputs of a batch as channels, (N, channels of all outputs, [D,] H, W)."""
        return torch.cat([batch[name] for name in self.outputs], dim=1)

    def streams(self, batch_size: int) -> tuple[Stream, ...]:
        """Return the streams of training images.

        These are ``pairs`` for paired methods, else ``source`` and ``target``, drawn independently of each other.
        """
        c = self.config
        patch: Any = (1, *c.size) if len(c.size) == 2 else c.size
        if self.paired:
            return (Stream("pairs", (*self.inputs, *self.outputs), batch_size, patch, flips=c.flips),)
        return tuple(
            Stream(name, roles, batch_size, patch, flips=c.flips)
            for name, roles in (("source", self.inputs), ("target", self.outputs))
        )

    def jittered(self, *images: Tensor) -> tuple[Tensor, ...]:
        """Enlarge images slightly and crop them to their size at random, all images of a sample at the same place.

        Isola et al., arXiv 1611.07004.
        """
        more, (rows, columns) = self.config.jitter, images[0].shape[2:]
        if not more:
            return images
        enlarged = self.enlarged(torch.cat(images, dim=1), more)
        corners = (self.noise.uniform(len(enlarged), 2) * (more + 1)).long().clamp_max(more).tolist()
        parts = [
            image[:, top : top + rows, left : left + columns]
            for image, (top, left) in zip(enlarged, corners, strict=True)
        ]
        return torch.split(torch.stack(parts), [image.shape[1] for image in images], dim=1)

    def enlarged(self, images: Tensor, more: int) -> Tensor:
        """Return images (N, C, H, W) with ``more`` rows and columns, from which parts of their size are cut."""
        rows, columns = images.shape[2:]
        return interpolate(images, (rows + more, columns + more), mode="bicubic")
