"""Images from noise."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ganatomy.case import Task
from ganatomy.errors import UserError
from ganatomy.game import Batch, Method, MethodConfig, Stream
from ganatomy.images.codecs import Codec, Window
from ganatomy.images.framing import Fit, Framing
from ganatomy.images.image import Image
from ganatomy.metrics.distribution import kernel_distance
from ganatomy.metrics.diversity import total_variance_ratio
from ganatomy.nets.aids import Prior, latents
from ganatomy.nets.embedding import embed

SLICES = 8
"""Images of each patient of the phantom."""


class SynthesisConfig(MethodConfig):
    """What is synthesised, for methods that learn from any images."""

    size: tuple[int, ...] = (64, 64)  # rows and columns made; three numbers for volumes, where the method has them
    fit: Fit = "cover"  # of training images: fill the size, lie inside it whole, or be cut into patches of it
    channels: int = 3  # of the images; 1 for grey ones
    window: tuple[float, float] = (0.0, 255.0)  # values mapped to [-1, 1]; the default is that of 8-bit pictures
    window_unit: str | None = None  # of these values, such as HU
    classes: tuple[str, ...] = ()  # labels learned from; none means all images, whatever their label
    phantom: str = "skin-lesion"  # learned from where no data are given


class Synthesis(Task):
    """Real images show what to make; several roles are made together, as aligned contrasts of one object.

    Args:
        codecs: of each role that is made.
        size: rows and columns, for volumes preceded by slices.
        fit: how training images get to this size.
        channels: of the roles that have more than one.
        classes: labels, where they matter.
        phantom: name of the embedded one.
        parts: of the phantom, by role; none means its main image for the only role.
        subjects: patients of the phantom.
    """

    name = "synthesis"
    ability = "sample"

    directions: ClassVar[Mapping[str, str]] = {
        "kernel distance@random": "lower",
        "variety": "target",
    }

    def __init__(
        self,
        codecs: Mapping[str, Window],
        size: tuple[int, ...],
        fit: Fit = "cover",
        channels: Mapping[str, int] | None = None,
        classes: tuple[str, ...] = (),
        phantom: str = "skin-lesion",
        parts: Mapping[str, str] | None = None,
        subjects: int = 80,
    ):
        self._codecs, self.size, self.fit, self.classes, self.phantom = dict(codecs), size, fit, classes, phantom
        self.roles = tuple(codecs)
        self.given = self.roles[0]
        self._channels = dict(channels or {})
        self.parts = dict(parts or {self.given: "image"})
        self.phantom_subjects = subjects

    def phantom_grid(self, size: int | None) -> dict[str, Any]:
        slices = SLICES if len(self.size) == 2 else self.size[0]
        return {"size": size or max(self.size), "slices": slices}

    def phantom_parts(self, label: str | None) -> Mapping[str, str]:
        return self.parts

    @property
    def codecs(self) -> Mapping[str, Codec]:
        return self._codecs

    @property
    def channels(self) -> Mapping[str, int]:
        return self._channels

    @property
    def fingerprint(self) -> str:
        return f"{self.size} {self.fit} {sorted(self._codecs.items())} {self._channels}"

    @property
    def selection(self) -> str:
        return "kernel distance@random"

    def check(self, image: Image) -> None:
        self.check_role(image, self.given)

    def check_role(self, image: Image, role: str) -> None:
        """Refuse an image that cannot play this role.

        Raises:
            UserError: another number of channels, another unit, or values that the window does not show.
        """
        wanted = self._channels.get(role, 1)
        if image.channels != wanted:
            raise UserError(
                f"{image.header.label}: {image.channels} channels, but the system works with {wanted}; "
                f"add --channels {image.channels} when training, or give other images"
            )
        codec = self._codecs[role]
        codec.check(image)
        if codec.unit is None:
            check_window(image, codec)

    def prepare(self, given: Mapping[str, Image], seed: int) -> dict[str, Image]:
        missing = [role for role in self.roles if role not in given]
        if missing:
            raise UserError(f"{next(iter(given.values())).header.label}: no {' or '.join(missing)} image beside it")
        prepared = {}
        for role in self.roles:
            self.check_role(given[role], role)
            prepared[role] = Framing(self.size, self.fit, self._codecs[role].low)(given[role])
        return prepared

    def scores(self, real: Tensor, fake: Tensor) -> dict[str, float]:
        """A set of generated images against a set of real ones, both (n, channels, [slices,] rows, columns), encoded.

        Distances use convolutions with random weights, which rank runs of one kind; reports use better features.
        """
        ours, theirs = embed(real), embed(fake)
        rng = np.random.default_rng(0)
        distance = kernel_distance(ours, theirs, rng, subsets=10)
        return {"kernel distance@random": distance.mean, "variety": total_variance_ratio(ours, theirs)}


def check_window(image: Image, codec: Window, option: str = "--window") -> None:
    """Refuse unitless values for which the window was not meant; ``option`` names it.

    Raises:
        UserError: the values go far beyond the window, or hardly fill it.
    """
    values = image.slab(image.shape[0] // 2, image.shape[0] // 2 + 1)
    low, high, width = float(values.min()), float(values.max()), codec.high - codec.low
    if low < codec.low - width or high > codec.high + width or (low < high and high - low < width / 50):
        raise UserError(
            f"{image.header.label}: values from {low:g} to {high:g}, but {option} is {codec.low:g} {codec.high:g}; "
            f"train with {option} {low:g} {high:g} or what all images have in common"
        )


class Synthesiser(Method):
    """A method that makes images from latent noise; its config is a `SynthesisConfig` or has a task of its own."""

    latent_size: int
    """Numbers that decide an image."""
    prior: Prior = "normal"
    """What they are drawn from: N(0, 1) or U(-1, 1)."""
    labelled: bool = False
    """Whether a label is given too."""

    @abstractmethod
    def sample(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        """Latent numbers (n, latent_size), labels (n,) where ``labelled``, to images (n, channels, [D,] H, W)."""

    def build_task(self) -> Synthesis:
        c = self.config
        return Synthesis(
            {"image": Window(low=c.window[0], high=c.window[1], unit=c.window_unit)},
            c.size,
            c.fit,
            {"image": c.channels},
            c.classes,
            c.phantom,
        )

    def stream(self, batch_size: int, flips: Sequence[int] = (), quarter_turns: bool = False) -> Stream:
        """Batches of images of the size that is made."""
        size = self.task.size
        patch = (1, *size) if len(size) == 2 else size
        return Stream("samples", None, batch_size, patch, flips=tuple(flips), quarter_turns=quarter_turns)  # type: ignore[arg-type]

    def real(self, batch: Batch) -> Tensor:
        """All roles of a batch as channels of one image."""
        return torch.cat([batch[role] for role in self.task.roles], dim=1)

    def latents(self, rows: int) -> Tensor:
        """Latent numbers to train with, (rows, latent_size)."""
        return latents(self.noise, rows, self.latent_size, self.prior)

    def draw(self, seeds: Iterable[int], truncation: float = 1.0) -> Tensor:
        """Latent numbers that depend on each image's own seed alone, (n, latent_size).

        Args:
            seeds: one per image.
            truncation: pulls them towards the centre of the prior: 1 leaves them, 0 gives the centre.
        """
        rows = []
        for seed in seeds:
            generator = torch.Generator().manual_seed(seed)
            if self.prior == "uniform":
                rows.append(2 * torch.rand(self.latent_size, generator=generator) - 1)
            else:
                rows.append(torch.randn(self.latent_size, generator=generator))
        return truncation * torch.stack(rows)

    @torch.no_grad()
    def images(
        self,
        seeds: Iterable[int],
        labels: Tensor | None = None,
        truncation: float = 1.0,
        device: torch.device | str = "cpu",
        batch: int = 32,
    ) -> Tensor:
        """Images of these seeds and labels, a batch at a time, on the CPU, in the range of the networks."""
        latent = self.draw(seeds, truncation)
        made = []
        for start in range(0, len(latent), batch):
            own = labels[start : start + batch].to(device) if self.labelled and labels is not None else None
            made.append(self.sample(latent[start : start + batch].to(device), own).float().cpu())
        return torch.cat(made)

    def decoded(self, images: Tensor) -> dict[str, NDArray[np.float32]]:
        """Images in physical units by role, (n, channels, [slices,] rows, columns)."""
        task = self.task
        widths = [task.channels.get(role, 1) for role in task.roles]
        parts = torch.split(images, widths, dim=1)
        return {
            role: np.asarray(task.codecs[role].decode(part.numpy()), np.float32)
            for role, part in zip(task.roles, parts, strict=True)
        }
