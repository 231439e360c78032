"""Synthesis of label maps together with the images that are painted over them, such as vessels and photographs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganatomy.case import Case, Role, Sample
from ganatomy.errors import UserError
from ganatomy.game import Batch, Stream
from ganatomy.images.augmentation import Changes, mild
from ganatomy.images.codecs import Window
from ganatomy.images.frames import Fit
from ganatomy.roles.image import ImageOptions
from ganatomy.roles.labels import LabelRole, MaskOptions
from ganatomy.roles.options import RoleOptions
from ganatomy.tasks.segmentation.kinds import PHOTOGRAPH, painted_retina
from ganatomy.tasks.synthesis.task import Synthesis, SynthesisConfig, Synthesiser

INSIDE = 0.5
"""Share of a region from which on a pixel lies inside."""


@dataclass(frozen=True)
class ShownMap(LabelRole):
    """A label map of one region that networks take and generate as an image.

    Attributes:
        to: values of the networks outside and inside of the region.
    """

    to: tuple[float, float] = field(default=(-1.0, 1.0), kw_only=True)

    @property
    def codec(self) -> Window:
        """Codec from 0, outside, and 1, inside, to the range of the networks."""
        return Window(low=0.0, high=1.0, to=self.to, unit=None)

    def tensor(self, patch: NDArray[Any], dims: int) -> Tensor:
        """Return a patch in the range of the networks, (1, [[slices,] rows,] columns)."""
        shown: Tensor = self.codec.encode(super().tensor(patch, dims))
        return shown

    def encoded(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Map labels to the range of the networks."""
        return np.asarray(self.codec.encode(super().encoded(values)), np.float32)

    def decoded(self, tensor: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map values of networks to shares of the region, 0 to 1."""
        return np.asarray(self.codec.decode(tensor), np.float32)

    def example(self, size: Sequence[int], generator: Any) -> Tensor:
        """Return random indicators in the range of the networks."""
        shown: Tensor = self.codec.encode(super().example(size, generator))
        return shown


class MapSynthesisConfig(SynthesisConfig):
    """Options of synthesis of a label map and images of what it shows."""

    role_fields: ClassVar[Mapping[str, type[RoleOptions]]] = {"labels": MaskOptions, "images": ImageOptions}
    role_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "images": PHOTOGRAPH,
        "vessels": {"part": "mask:vessels"},
    }

    labels: str = "vessels"  # name of the label maps, whose values are two: background and what is mapped
    roles: Mapping[str, Any] = {}  # options of map and images, by their names
    flips: tuple[int, ...] = ()  # axes along which maps and images are mirrored at random: 1 rows, 2 columns
    fit: Fit = "contain"  # how images get to this size: fit inside it, fill it, or be cut into patches
    phantom: str = "fundus"  # embedded phantom to learn from where no data are given

    def image_options(self, name: str) -> ImageOptions:
        """Return the options of an image."""
        options: ImageOptions = self.roles[name]
        return options


class MapSynthesis(Synthesis):
    """Task of synthesis of a label map and images that belong to it.

    Samples hold the map first. Judged are maps as they are written, of which each pixel is inside or outside.

    Args:
        config: names of the roles, their options, size and phantom.
        maps_alone: whether cases without images are used, too, of which the maps are learned from.
    """

    predictors: ClassVar = {"sample": "ganatomy.tasks.synthesis.predictor:SamplePredictor"}
    judge = "ganatomy.tasks.synthesis.maps_judge:MapSynthesisJudge"

    def __init__(self, config: MapSynthesisConfig, *, maps_alone: bool = False):
        options = {name: config.image_options(name) for name in config.images}
        self.embedded = painted_retina(config.size)
        super().__init__(options, config.size, config.fit, (), config.phantom, self.embedded.subjects)
        self.labels = config.labels
        shown = ShownMap(self.labels, {self.labels: (1,)}, any_two=True, to=self.to)
        pictures = {
            name: one.role(name, to=self.to, limited=True, optional=maps_alone) for name, one in options.items()
        }
        self.images: Mapping[str, Role] = {self.labels: shown, **pictures}
        self.roles = self.images
        self.given = self.labels
        self.parts = {self.labels: config.roles[self.labels].part or self.labels, **self.parts}
        self.maps_alone = maps_alone

    def phantom_grid(self, size: int | None) -> dict[str, Any]:
        if self.phantom != self.embedded.name:
            return super().phantom_grid(size)
        return {"size": size or self.embedded.size, **self.embedded.grid}

    def usable(self, roles: Iterable[str]) -> bool:
        return self.labels in set(roles) if self.maps_alone else super().usable(roles)

    def complete(self, sample: Sample) -> bool:
        return set(self.images) <= set(sample.arrays)

    def changes(self) -> Changes:
        return Changes(mild(sharp=True), super().changes().because, usual=False)

    def frame(self, values: Mapping[str, Any], case: Case | None = None) -> Sample:
        if values and self.labels not in values:
            raise UserError(f"no {self.labels} beside {', '.join(values)}; give a label map of every case")
        if case is None or self.maps_alone:
            return super(Synthesis, self).frame(values, case)
        return super().frame(values, case)

    def stream(self, batch_size: int, flips: Sequence[int] = (), quarter_turns: bool = False) -> Stream:
        return replace(super().stream(batch_size, flips, quarter_turns), roles=tuple(self.images))


class PaintedSynthesis(MapSynthesis):
    """`MapSynthesis` by methods that also paint images over given maps."""

    predictors: ClassVar = {
        **MapSynthesis.predictors,
        "restore": "ganatomy.tasks.synthesis.painting:PaintingPredictor",
    }


class Painter(Synthesiser):
    """Base class of methods that sample a label map and paint images over it, or over a given map."""

    def build_task(self) -> PaintedSynthesis:
        return PaintedSynthesis(self.config)

    def maps(self, batch: Batch) -> Tensor:
        """Return the label maps of a batch, (N, 1, H, W), 1 inside and 0 outside."""
        shown: Tensor = batch[self.config.labels]
        return (shown > 0).float()

    def photographs(self, batch: Batch) -> Tensor:
        """Return the images of a batch, concatenated as channels, in the range of the networks."""
        return torch.cat([batch[name] for name in self.config.images], dim=1)

    def sharp(self, maps: Tensor) -> Tensor:
        """Return maps from 0 to 1 as -1 outside and 1 inside, as samples hold them."""
        return torch.where(maps > INSIDE, 1.0, -1.0)

    @abstractmethod
    def restore(self, input: Tensor) -> Tensor:
        """Paint images (N, channels, H, W) over label maps (N, 1, H, W), which are -1 outside and 1 inside."""
