"""The predictor of frames from poses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from ganatomy.case import Prediction, Role, Sample, slab
from ganatomy.images.image import ComputedArray, Image
from ganatomy.inference.predictor import Options, Predictor

BATCH = 16
"""Number of frames that are made together."""


class PosedOptions(Options):
    """Options of simulating frames."""

    truncation: float = Field(1.0, ge=0)  # factor of the noise: below 1, frames of different seeds are more alike


class PosedPredictor(Predictor):
    """Simulates the frames of poses; the noise is that of the seed for all frames of a sweep."""

    Options: ClassVar[type[Options]] = PosedOptions

    @property
    def inputs(self) -> tuple[str, ...]:
        """Role of the poses."""
        return (self.task.input,)

    @property
    def outputs(self) -> Mapping[str, Role]:
        """Role of the frames."""
        return {self.task.output: self.task.roles[self.task.output]}

    def predict(self, sample: Sample, seed: int = 0) -> Prediction:
        """Simulate a frame for every pose, made when they are read."""
        poses, role = sample.arrays[self.task.input], self.made_role(self.task.output, sample)
        method: Any = self.method
        latent = method.draw(seed, self.options.truncation).to(self.device)

        @torch.no_grad()
        def made(start: int, stop: int) -> NDArray[np.float32]:
            own = torch.from_numpy(np.asarray(slab(poses, start, stop), np.float32)[:, :, 0, 0].T.copy())
            frames = method.simulate(own.to(self.device), latent.expand(len(own), -1))
            return np.asarray(role.decoded(frames.float().cpu().numpy().swapaxes(0, 1)), np.float32)

        shape = (role.channels, poses.shape[1], *self.task.config.size)
        array = ComputedArray(shape, np.float32, made, BATCH)
        if self.task.input not in sample.values:  # prepared for validation or a judge, which need no files
            return Prediction({self.task.output: array})
        unit = role.codec.unit if role.codec else None
        value = Image.from_array(np.asarray(array), (1.0, *self.task.pixel_mm), unit)
        return Prediction({self.task.output: array}, {self.task.output: value}, facts={"frames": poses.shape[1]})
