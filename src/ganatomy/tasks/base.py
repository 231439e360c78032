"""The questions every task answers."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ganatomy.errors import UserError
from ganatomy.images.codecs import Codec, IntensityCodec, Window
from ganatomy.images.framing import Framing
from ganatomy.images.image import Image

Volume = NDArray[np.float32]
"""(slices, rows, columns) in physical units."""


class Task(ABC):
    """What a sample is made of, and what may be given to a trained method."""

    name: ClassVar[str]
    ability: ClassVar[str]
    """The method of a trained system that does the task, such as ``restore``."""
    roles: tuple[str, ...]
    """Roles of a complete sample."""
    optional: tuple[str, ...] = ()
    """Roles that only some cases have, such as masks to be judged by."""
    streams: tuple[tuple[str, ...], ...] = ()
    """Groups of roles, any of which makes a case usable (unpaired data); none means that all roles are needed."""
    given: str
    """The role that the images of a plain folder play; the others are simulated from it."""
    classes: tuple[str, ...] = ()
    """Labels that samples carry, as the number of their place here; cases with another label are left out."""
    phantom: str
    """Name of the embedded phantom."""
    phantom_subjects: int = 10
    """How many of its patients make a data set, unless the user says."""

    @abstractmethod
    def phantom_grid(self, size: int | None) -> dict[str, Any]:
        """Arguments of the phantom for ``size`` rows and columns; none means what suits the task."""

    def phantom_parts(self, label: str | None) -> Mapping[str, str]:
        """Which image of a phantom patient with this label plays which role; ``clean`` has no noise yet."""
        return {"clean": "image"}

    @property
    @abstractmethod
    def codecs(self) -> Mapping[str, Codec]:
        """How each role's physical values map to the network's range."""

    @property
    def channels(self) -> Mapping[str, int]:
        """Channels of the roles that have more than one."""
        return {}

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Everything that changes what ``prepare`` returns, as text."""

    @abstractmethod
    def prepare(self, given: Mapping[str, Image], seed: int) -> dict[str, Image]:
        """A complete sample from the images at hand, lazily where it can be; ``seed`` belongs to the case.

        Raises:
            UserError: an image is of another modality or unit.
        """

    def only_tested(self, label: str | None) -> bool:
        """Whether cases with this label are no use for training and all go to testing."""
        return False

    def trainable(self, label: str | None, arrays: Mapping[str, NDArray[np.float32]]) -> NDArray[np.bool_] | None:
        """Which slices of a case may be trained on; none means all.

        Args:
            label: of the case.
            arrays: its roles, (channels, slices, rows, columns) in physical units.
        """
        return None

    @abstractmethod
    def check(self, image: Image) -> None:
        """Refuse an image that a trained method must not be applied to.

        Raises:
            UserError: naming the image and what is wrong with it.
        """

    @property
    @abstractmethod
    def directions(self) -> Mapping[str, str]:
        """For every score, ``higher`` or ``lower`` is better, or ``target`` where neither is."""

    @property
    @abstractmethod
    def selection(self) -> str:
        """The score that decides which weights are the best."""


class ImageToImage(Task):
    """A task that turns an image into another one on the same grid."""

    source: str = "input"
    """Role that is shown to the method."""
    product: str = "target"
    """Role that it makes."""

    @property
    def framing(self) -> Framing | None:
        """How images are brought to the size that the method knows; none where it takes any size."""
        return None

    @property
    def contrasts(self) -> tuple[Window, Window] | None:
        """Ranges of the source and the product where their contrasts differ; none where they should look alike."""
        return None

    def bound(self, image: Image) -> tuple[IntensityCodec, IntensityCodec]:
        """Codecs of the source and of the product with the numbers of one image put in.

        Raises:
            UserError: the image has no range.
        """
        return self.codecs[self.source].bind(image), self.codecs[self.product].bind(image)

    def received(self, image: Image) -> Image:
        """An image as the user gives it, as the rest of the task knows it.

        Raises:
            UserError: raw data, which only systems that reconstruct MR take.
        """
        if image.header.kind == "kspace":
            raise UserError(f"{image.header.label}: raw MR data, which only systems that reconstruct MR take")
        return image

    def visible(self, image: Image) -> Image:
        """What there is to see in a received image, for comparison with the product."""
        return image

    def presented(self, values: NDArray[np.float32], codec: IntensityCodec) -> NDArray[np.float32]:
        """What the method is shown of a received image that is no prepared case: in the range of the networks, framed.

        Args:
            values: (channels, slices, rows, columns) of the image.
            codec: of the source, bound to the image.

        Returns:
            The same with the channels of the source.
        """
        frame = self.framing
        return np.asarray(codec.encode(frame.into(values) if frame else values), np.float32)

    @abstractmethod
    def scores(
        self, output: Volume, sample: Mapping[str, Volume], spacing: tuple[float, float, float]
    ) -> dict[str, float]:
        """Numbers of one case, each named with its variant; outputs and samples in physical units."""


def check_mask(mask: Image, image: Image) -> None:
    """Refuse a mask that does not lie on its image.

    Raises:
        UserError: naming it, and both sizes.
    """
    if mask.shape != image.shape or mask.channels != 1:
        raise UserError(f"{mask.header.label}: a mask of {mask.shape} voxels for an image of {image.shape}")
