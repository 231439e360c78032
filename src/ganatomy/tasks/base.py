"""The questions every task answers."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ganatomy.images.codecs import Codec
from ganatomy.images.image import Image

Volume = NDArray[np.float32]
"""(slices, rows, columns) in physical units."""


class Task(ABC):
    """What a sample is made of, how an output is scored, and what may be given to a trained method."""

    name: ClassVar[str]
    ability: ClassVar[str]
    """The method of a trained system that does the task, such as ``restore``."""
    roles: ClassVar[tuple[str, ...]]
    """Roles of a complete sample."""
    given: ClassVar[str]
    """The role that the images of a plain folder play; the others are simulated from it."""
    phantom: ClassVar[str]
    """Name of the embedded phantom."""

    @abstractmethod
    def phantom_grid(self, size: int) -> dict[str, Any]:
        """Arguments of the phantom for ``size`` rows and columns."""

    @property
    @abstractmethod
    def codecs(self) -> Mapping[str, Codec]:
        """How each role's physical values map to the network's range."""

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

    @abstractmethod
    def check(self, image: Image) -> None:
        """Refuse an image that a trained method must not be applied to.

        Raises:
            UserError: naming the image and what is wrong with it.
        """

    @abstractmethod
    def scores(
        self, output: Volume, sample: Mapping[str, Volume], spacing: tuple[float, float, float]
    ) -> dict[str, float]:
        """Numbers of one case, each named with its variant; outputs and samples in physical units."""

    @property
    @abstractmethod
    def directions(self) -> Mapping[str, str]:
        """For every score, ``higher`` or ``lower`` is better, or ``target`` where neither is."""

    @property
    @abstractmethod
    def selection(self) -> str:
        """The score that decides which weights are the best."""
