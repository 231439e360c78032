"""The task of synthesis: generate images from noise."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import SerializeAsAny
from torch import Tensor

from ganatomy.case import Better, Case, Preparation, Role, Sample, Scores, Task, Volume, label_of
from ganatomy.errors import UserError
from ganatomy.game import Batch, Method, RolesConfig, Stream
from ganatomy.images.augmentation import Changes, mild
from ganatomy.images.frames import Fit
from ganatomy.inference.predictor import decoding_role
from ganatomy.metrics.distribution import kernel_distance
from ganatomy.metrics.diversity import total_variance_ratio
from ganatomy.nets.aids import Prior, latents
from ganatomy.nets.embedding import embed
from ganatomy.roles.classes import ClassRole
from ganatomy.roles.image import ImageOptions
from ganatomy.roles.options import RoleOptions

SLICES = 8
"""Number of images per subject of the phantom."""
LABEL = "label"
"""Name of the role of the class label of a case."""


class SynthesisConfig(RolesConfig):
    """Options of synthesis: the images to generate, their size and classes, and the phantom."""

    role_fields: ClassVar[Mapping[str, type[RoleOptions]]] = {"images": ImageOptions}
    role_defaults: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "images": {"window": (0.0, 255.0), "unit": None, "channels": 3}
    }

    images: tuple[str, ...] = ("image",)  # names of the images that are generated together, aligned with each other
    roles: Mapping[str, SerializeAsAny[ImageOptions]] = {}  # options of each image, by its name
    size: tuple[int, ...] = (64, 64)  # rows and columns; slices, rows and columns for methods that generate volumes
    fit: Fit = "cover"  # how training images get to this size: fill it, fit inside it, or be cut into patches
    classes: tuple[str, ...] = ()  # class labels to learn from; none means all images, whatever their label
    phantom: str = "skin-lesion"  # embedded phantom to learn from where no data are given

    @property
    def channels(self) -> int:
        """Number of channels of all images together, as networks see them."""
        return sum(self.roles[name].channels for name in self.images)


class Synthesis(Task):
    """Task of synthesis; several roles are generated together, as aligned contrasts of one object.

    Args:
        images: role to its options.
        size: rows and columns, for volumes preceded by slices.
        fit: how training images get to this size.
        classes: class labels; empty for tasks without classes.
        phantom: name of the embedded phantom.
        subjects: number of phantom subjects.
        to: range of the networks.
    """

    name = "synthesis"
    predictors: ClassVar = {"sample": "ganatomy.tasks.synthesis.predictor:SamplePredictor"}
    judge = "ganatomy.tasks.synthesis.judge:SynthesisJudge"
    fewest_validation_images = 2  # the distance of two distributions needs two members of each

    directions: ClassVar[Mapping[str, Better]] = {
        "kernel distance@random": "lower",
        "variety": "target",
    }

    def __init__(
        self,
        images: Mapping[str, ImageOptions],
        size: tuple[int, ...],
        fit: Fit = "cover",
        classes: tuple[str, ...] = (),
        phantom: str = "skin-lesion",
        subjects: int = 80,
        to: tuple[float, float] = (-1.0, 1.0),
    ):
        # Networks that end in a tanh cannot reach values beyond their range, so real images are clipped to it.
        self.images: Mapping[str, Role] = {
            name: options.role(name, to=to, limited=True) for name, options in images.items()
        }
        self.size, self.fitting, self.phantom, self.to = size, fit, phantom, to
        label: dict[str, Role] = {LABEL: ClassRole(LABEL, classes)} if classes else {}
        self.roles: Mapping[str, Role] = {**self.images, **label}
        self.given = next(iter(images))
        self.air = {name: options.air for name, options in images.items()}
        self.parts = {name: options.part or name for name, options in images.items()}
        self.phantom_subjects = subjects

    def phantom_grid(self, size: int | None) -> dict[str, Any]:
        slices = SLICES if len(self.size) == 2 else self.size[0]
        return {"size": size or max(self.size), "slices": slices}

    def phantom_parts(self, label: str | None) -> Mapping[str, str]:
        return self.parts

    @property
    def preparation(self) -> Preparation:
        size = None if self.fitting == "patches" else self.size
        fill = tuple(self.air.items()) if self.fitting == "contain" else ()
        return Preparation(size=size, fit=self.fitting, fill=fill)

    def images_in(self, slices: int) -> int:
        return slices if len(self.size) == 2 else 1

    def usable(self, roles: Iterable[str]) -> bool:
        """Whether roles include all images that are generated together."""
        return set(self.images) <= set(roles)

    def complete(self, sample: Sample) -> bool:
        """Whether a case has all images that are generated together, so that samples are compared with it."""
        return True

    def changes(self) -> Changes:
        """Return changes of geometry, only where asked for: a generator draws the distribution that it is shown."""
        sharp = len(self.size) == 2
        because = "its generator would draw moved images, too; mirror images with --flips where the anatomy allows"
        return Changes(mild(sharp=sharp), because, usual=False)

    def frame(self, values: Mapping[str, Any], case: Case | None = None) -> Sample:
        missing = [name for name in self.images if name not in values]
        if values and missing:
            raise UserError(f"{label_of(next(iter(values.values())))}: no {' or '.join(missing)} image beside it")
        return super().frame(values, case)

    @property
    def selection(self) -> str:
        return "kernel distance@random"

    def stream(self, batch_size: int, flips: Sequence[int] = (), quarter_turns: bool = False) -> Stream:
        """Return a stream of images of the size that is generated, with class labels where the task has classes."""
        patch = (1, *self.size) if len(self.size) == 2 else self.size
        return Stream(
            "samples",
            self.required,
            batch_size,
            patch,  # type: ignore[arg-type]
            flips=tuple(flips),
            quarter_turns=quarter_turns,
        )

    def scores(
        self, output: Mapping[str, Volume], sample: Mapping[str, Volume], spacing: tuple[float, float, float]
    ) -> Scores:
        """Score the slices of a generated image against those of a real one as sets, see `set_scores`."""
        real, fake = (
            np.stack([decoding_role(self, role).encoded(one[name]) for name, role in self.images.items()], axis=1)
            for one in (sample, output)
        )
        return self.set_scores(torch.from_numpy(real), torch.from_numpy(fake))

    def set_scores(self, real: Tensor, fake: Tensor) -> Scores:
        """Score a set of generated images against a set of real ones.

        Distances use a network with random weights, which ranks runs of one system; reports may use better features.

        Args:
            real: (n, channels, [slices,] rows, columns) in the range of the networks.
            fake: generated images of the same shape.
        """
        ours, theirs = embed(real), embed(fake)
        rng = np.random.default_rng(0)
        distance = kernel_distance(ours, theirs, rng, subsets=10)
        return {"kernel distance@random": distance.mean, "variety": total_variance_ratio(ours, theirs)}


class Synthesiser(Method):
    """Base class of image generators; their configuration is a `SynthesisConfig`, or they build the task themselves."""

    latent_size: int
    """Length of a latent vector."""
    prior: Prior = "normal"
    """Distribution of latent vectors: N(0, 1), or uniform between ``-prior_limit`` and ``prior_limit``."""
    prior_limit: float = 1.0
    """Greatest latent number of a uniform prior."""
    labelled: bool = False
    """Whether the generator is conditioned on class labels."""

    @abstractmethod
    def sample(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        """Generate images (n, channels, [D,] H, W) from latent vectors (n, latent_size).

        Args:
            latent: latent vectors.
            label: class indices (n,), where ``labelled``.
        """

    def build_task(self) -> Synthesis:
        c = self.config
        return Synthesis({name: c.roles[name] for name in c.images}, c.size, c.fit, c.classes, c.phantom)

    def stream(self, batch_size: int, flips: Sequence[int] = (), quarter_turns: bool = False) -> Stream:
        """Return a stream of images of the size that is generated."""
        task: Synthesis = self.task
        return task.stream(batch_size, flips, quarter_turns)

    def real(self, batch: Batch) -> Tensor:
        """Concatenate all roles of a batch as channels of one image."""
        return torch.cat([batch[role] for role in self.task.images], dim=1)

    def latents(self, rows: int) -> Tensor:
        """Draw latent vectors for training, (rows, latent_size)."""
        return latents(self.noise, rows, self.latent_size, self.prior, self.prior_limit)

    def draw(self, seeds: Iterable[int], truncation: float = 1.0) -> Tensor:
        """Draw latent vectors, each from a seed of its own, (n, latent_size).

        Args:
            seeds: one seed per image.
            truncation: factor of the vectors: 1 leaves them, 0 gives the centre of the prior.
        """
        rows = []
        for seed in seeds:
            generator = torch.Generator().manual_seed(seed)
            if self.prior == "uniform":
                rows.append(self.prior_limit * (2 * torch.rand(self.latent_size, generator=generator) - 1))
            else:
                rows.append(torch.randn(self.latent_size, generator=generator))
        return truncation * torch.stack(rows)
