"""A method that makes images from noise, at work."""

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
from ganatomy.tasks.synthesis.sets import cut_images, separate, single_images
from ganatomy.tasks.synthesis.task import Synthesiser

SAMPLES_PER_SLICE = 16
"""A set of generated images is judged as a whole, which takes more of them than judging one by one."""
PIXEL_SIZE = "unknown; 1 mm is written where a file must name one"
BATCH = 32
"""Images made at once."""


class SampleOptions(Options):
    """What is made, and how typical it is."""

    label: str | None = None  # class of all images; none means all classes in turn, where the system makes images by it
    truncation: float = Field(1.0, ge=0)  # below 1, images are more typical and less varied; 1 changes nothing


class SamplePredictor(Predictor):
    """Makes images from noise: one of each role for a seed, aligned with each other, on a grid of their own.

    Raises:
        UserError: the options name a label that the method does not make.
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
        """Labels of images, where there are any."""
        found: tuple[str, ...] = self.task.classes
        return found

    @property
    def labelled(self) -> bool:
        """Whether images are made by label."""
        return self.method.labelled

    @property
    def inputs(self) -> tuple[str, ...]:
        """Nothing."""
        return ()

    @property
    def outputs(self) -> Mapping[str, Role]:
        """The images that are made together."""
        return dict(self.task.images)

    def predict(self, sample: Sample, seed: int = 0) -> Prediction:
        """One image of every role, in physical units; pixels are 1 mm wide, as nobody knows.

        Args:
            sample: of nothing.
            seed: which image it is; an image depends on its own seed alone.
        """
        label = self.label(seed)
        made = self.physical(self.images([seed]))
        arrays = {name: _volume(values[0]) for name, values in made.items()}
        outputs = {
            name: Image.from_array(array, unit=role.codec.unit if role.codec else None)
            for (name, array), role in zip(arrays.items(), self.outputs.values(), strict=True)
        }
        told = {} if label is None else {"label": label}
        return Prediction(arrays, outputs, facts={**told, "pixel size": PIXEL_SIZE})

    def label(self, seed: int) -> str | None:
        """The label of the image of a seed; None where images are not made by label."""
        return self.classes[self._place(seed)] if self.labelled else None

    def labels(self, seeds: Iterable[int]) -> Tensor | None:
        """Places of the labels of some seeds among the classes, (n,); None where images are not made by label."""
        return torch.tensor([self._place(seed) for seed in seeds]) if self.labelled else None

    def _place(self, seed: int) -> int:
        chosen: str | None = self.options.label
        return self.classes.index(chosen) if chosen else seed % len(self.classes)

    def images(self, seeds: Sequence[int], labels: Tensor | None = None) -> Tensor:
        """Images of some seeds, a batch at a time.

        Args:
            seeds: one an image.
            labels: places among the classes, (n,); None means those of the seeds.

        Returns:
            (n, channels, [slices,] rows, columns) on the CPU, in the range of the networks, the roles one after
            another.
        """
        latents = self.method.draw(seeds, self.options.truncation)
        return self.from_latents(latents, self.labels(seeds) if labels is None else labels)

    @torch.no_grad()
    def from_latents(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images of latent numbers (n, latent size), and where they are made by label, of labels (n,); see `images`."""
        made = []
        for start in range(0, len(latents), BATCH):
            part = slice(start, start + BATCH)
            own = labels[part].to(self.device) if self.labelled and labels is not None else None
            made.append(self.method.sample(latents[part].to(self.device), own).float().cpu())
        return torch.cat(made)

    def physical(self, images: Tensor) -> dict[str, NDArray[np.float32]]:
        """Images of `images` in physical units by role, (n, channels, [slices,] rows, columns)."""
        parts = separate(images, self.task)
        return {
            name: decoding_role(self.task, role).decoded(parts[name].numpy()) for name, role in self.outputs.items()
        }

    def validate(self, pieces: Sequence[Range], slices: int) -> Scores:
        """Scores of a set of images of fixed seeds against as many real ones, labels in the same proportions.

        Args:
            pieces: slices that may be looked at.
            slices: a sixteenth of the images that are compared.
        """
        pool = single_images(self.task, pieces)
        chosen = np.random.default_rng(0).permutation(len(pool))[: SAMPLES_PER_SLICE * slices]
        real, labels = cut_images(
            self.task, [pool[index] for index in chosen], [(0, number) for number in range(len(chosen))]
        )
        scores: Scores = self.task.set_scores(real, self.images(range(len(real)), labels))
        return scores


def _volume(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """(channels, [slices,] rows, columns) with slices."""
    return image if image.ndim == 4 else image[:, None]


def image_sampler(model: Model) -> SamplePredictor:
    """The predictor with which a trained run makes images from noise.

    Raises:
        UserError: it makes none.
    """
    predictor = model.predictor(sampling_ability(model.method))
    if not isinstance(predictor, SamplePredictor):
        raise UserError(f"{model.method.task.name} makes {', '.join(predictor.outputs)} from noise, but no images")
    return predictor
