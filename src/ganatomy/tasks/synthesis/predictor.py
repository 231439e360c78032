"""The predictor of synthesis: images sampled from noise by seed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from ganatomy.case import Prediction, Role, Sample, Scores
from ganatomy.data.batches import Range
from ganatomy.errors import UserError
from ganatomy.images.image import Image
from ganatomy.inference.model import Model
from ganatomy.inference.predictor import Options, Predictor, decoding_role
from ganatomy.inference.sampling import sampling_ability
from ganatomy.roles.labels import LabelRole
from ganatomy.tasks.synthesis.sets import cut_images, separate, single_images
from ganatomy.tasks.synthesis.task import Synthesiser

SAMPLES_PER_SLICE = 16
"""Number of images compared per slice asked for in validation, since a set is judged as a whole."""
PIXEL_SIZE = "unknown; 1 mm is written where a file must name one"
BATCH = 32
"""Number of images in a batch."""


class SampleOptions(Options):
    """Options of sampling: the class of the images, and the truncation of the latent vectors."""

    label: str | None = None  # class of all images, for systems conditioned on labels; none means all classes in turn
    truncation: float = Field(1.0, ge=0)  # factor of the latent vectors: below 1, images are more typical, less varied


class SamplePredictor(Predictor):
    """Samples images from noise: for every seed one image of each role, aligned with each other.

    Raises:
        UserError: the options name a label that the method was not trained with.
    """

    Options: ClassVar[type[Options]] = SampleOptions
    method: Synthesiser

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        label = self.options.label
        if label is not None and not (self.method.labelled and label in self.classes):
            known = (
                f"there are {', '.join(self.classes)}"
                if self.method.labelled
                else "this run has no labels to choose from"
            )
            raise UserError(f"--label {label}: {known}")

    @property
    def classes(self) -> tuple[str, ...]:
        """Class labels of the task; empty without labels."""
        found: tuple[str, ...] = self.task.classes
        return found

    @property
    def labelled(self) -> bool:
        """Whether the method is conditioned on class labels."""
        return self.method.labelled

    @property
    def inputs(self) -> tuple[str, ...]:
        """Roles of the inputs, of which sampling has none."""
        return ()

    @property
    def outputs(self) -> Mapping[str, Role]:
        """Roles of the images that are sampled together."""
        return dict(self.task.images)

    def predict(self, sample: Sample, seed: int = 0) -> Prediction:
        """Sample one image of every role, in physical units; the unknown pixel size is written as 1 mm.

        Label maps have the labels of their regions, so that they can be used as annotations.

        Args:
            sample: empty sample.
            seed: seed of the image, on which alone it depends.
        """
        label = self.label(seed)
        made = self.physical(self.images([seed]))
        arrays: dict[str, NDArray[Any]] = {name: _volume(values[0]) for name, values in made.items()}
        outputs = {}
        for name, role in self.outputs.items():
            if isinstance(role, LabelRole):
                arrays[name] = role.merged(arrays[name] > 0.5)
            outputs[name] = Image.from_array(arrays[name], unit=role.codec.unit if role.codec else None)
        told = {} if label is None else {"label": label}
        return Prediction(arrays, outputs, facts={**told, "pixel size": PIXEL_SIZE})

    def label(self, seed: int) -> str | None:
        """Return the class label of the image of a seed; None for methods without labels."""
        return self.classes[self._place(seed)] if self.labelled else None

    def labels(self, seeds: Iterable[int]) -> Tensor | None:
        """Return the class indices of the images of some seeds, (n,); None for methods without labels."""
        return torch.tensor([self._place(seed) for seed in seeds]) if self.labelled else None

    def _place(self, seed: int) -> int:
        chosen: str | None = self.options.label
        return self.classes.index(chosen) if chosen else seed % len(self.classes)

    def images(self, seeds: Sequence[int], labels: Tensor | None = None) -> Tensor:
        """Sample the images of some seeds in batches.

        Args:
            seeds: one seed per image.
            labels: class indices, (n,); None means those of the seeds.

        Returns:
            Images (n, channels, [slices,] rows, columns) on the CPU, in the range of the networks, with the roles
            concatenated as channels.
        """
        latents = self.method.draw(seeds, self.options.truncation)
        return self.from_latents(latents, self.labels(seeds) if labels is None else labels)

    @torch.no_grad()
    def from_latents(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Generate images, as `images` returns them, from latent vectors (n, latent size) and class indices (n,)."""
        made = []
        for start in range(0, len(latents), BATCH):
            part = slice(start, start + BATCH)
            own = labels[part].to(self.device) if self.labelled and labels is not None else None
            made.append(self.method.sample(latents[part].to(self.device), own).float().cpu())
        return torch.cat(made)

    def physical(self, images: Tensor) -> dict[str, NDArray[np.float32]]:
        """Convert images from `images` to physical units; role to (n, channels, [slices,] rows, columns)."""
        parts = separate(images, self.task)
        return {
            name: decoding_role(self.task, role).decoded(parts[name].numpy()) for name, role in self.outputs.items()
        }

    def validate(self, pieces: Sequence[Range], slices: int) -> Scores:
        """Score the images of fixed seeds against as many real ones with the same labels.

        Args:
            pieces: validation slices.
            slices: number of slices asked for; `SAMPLES_PER_SLICE` times as many images are compared.
        """
        pool = single_images(self.task, pieces)
        chosen = np.random.default_rng(0).permutation(len(pool))[: SAMPLES_PER_SLICE * slices]
        real, labels = cut_images(
            self.task, [pool[index] for index in chosen], [(0, number) for number in range(len(chosen))]
        )
        scores: Scores = self.task.set_scores(real, self.images(range(len(real)), labels))
        return scores


def _volume(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Reshape an image (channels, [slices,] rows, columns) to (channels, slices, rows, columns)."""
    return image if image.ndim == 4 else image[:, None]


def image_sampler(model: Model) -> SamplePredictor:
    """Return the predictor with which a trained run samples images.

    Raises:
        UserError: the run does not sample images.
    """
    predictor = model.predictor(sampling_ability(model.method))
    if not isinstance(predictor, SamplePredictor):
        raise UserError(f"{model.method.task.name} makes {', '.join(predictor.outputs)} from noise, but no images")
    return predictor
