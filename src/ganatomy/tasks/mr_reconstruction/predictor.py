"""The predictor of MR reconstruction, which returns images of raw data in their own size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ganatomy.case import Array, Compared, Prediction, Sample, slab
from ganatomy.images.codecs import Window
from ganatomy.images.frames import Frame
from ganatomy.images.image import ComputedArray, Image
from ganatomy.inference.predictor import decoded
from ganatomy.physics.fourier import fft, ifft
from ganatomy.tasks.mr_reconstruction.grids import Grids
from ganatomy.tasks.mr_reconstruction.scan import is_raw, planes_of, scan_of_raw
from ganatomy.tasks.restoration.predictor import RestorationPredictor

TOGETHER = 4
"""Number of slices of raw data that a network reconstructs together."""


class ReconstructionPredictor(RestorationPredictor):
    """Reconstructs scans; raw data of another size than that of the networks come back in their own size.

    Their k-space is padded or cropped to what the networks take (`Grids`), and the complex image that a network makes
    of it is brought back by the inverse. Frequencies that a network is not given, since its grid is smaller, are those
    of the zero-filled image: with one coil, the samples as they were measured.
    """

    def arrays(self, sample: Sample, seed: int = 0) -> Mapping[str, Array]:
        """Return the magnitude in physical units, computed when it is read.

        It lies on the working grid, but that of raw data of another size on their own grid.
        """
        grids = self.grids(sample)
        if grids is None:
            return super().arrays(sample, seed)
        made, value = self.task.output, sample.values[self.task.input]
        restored = ComputedArray(
            (1, *value.shape),
            np.float32,
            lambda start, stop: self._restored(sample, start, stop).abs().transpose(0, 1).numpy(),
            TOGETHER,
        )
        return {made: decoded(restored, self.made_role(made, sample))}

    def finish(self, arrays: Mapping[str, Array], sample: Sample) -> Prediction:
        """Return the output on the grid of the input, and for raw data how their k-space was brought to the network."""
        value = sample.values.get(self.task.input)
        if not (isinstance(value, Image) and is_raw(value)):
            return super().finish(arrays, sample)
        grids = self.grids(sample)
        if grids is None:
            prediction = super().finish(arrays, sample)
            grids = Grids(self.task.size, self.task.size)
        else:
            made = self.task.output
            image = self.made_role(made, sample).value(arrays[made], Frame.plan(value, "stored"), value)
            compared = {made: Compared(self.task.visible(sample), self.task.contrasts(sample))}
            prediction = Prediction(arrays, {made: image}, compared=compared)
        facts: dict[str, Any] = {"measured": list(grids.own), "network": list(grids.taken), **grids.changes}
        if not grids.equal:
            facts["phase"] = "predicted" if self.method.predicts_phase else "that of the zero-filled image"
        told = f"{value.header.label}: {grids.loss}; what was measured of it is in the result"
        notes = (*prediction.notes, *([told] if grids.crops else []))
        return replace(prediction, facts={**prediction.facts, "k-space": facts}, notes=notes)

    def grids(self, sample: Sample) -> Grids | None:
        """Return the grids of raw data whose size is not that of the networks; None for all other inputs."""
        value = sample.values.get(self.task.input)
        if not (isinstance(value, Image) and is_raw(value)):
            return None
        grids: Grids = self.task.roles[self.task.input].grids(value)
        return None if grids.equal else grids

    def _restored(self, sample: Sample, start: int, stop: int) -> Tensor:
        """Reconstruct slices of raw data on their own grid, complex (slices, 1, rows, columns), in network range."""
        name, grids = self.task.input, self.grids(sample)
        assert grids is not None
        value, role = sample.values[name], sample.role(name)
        with torch.no_grad():
            given = torch.from_numpy(role.encoded(slab(sample.arrays[name], start, stop))).transpose(0, 1)
            image = grids.back(self.method.complex_image(given.to(self.device)).cpu())  # type: ignore[operator]
            if not grids.crops:
                return image
            assert isinstance(role.codec, Window)
            kspace = planes_of(value.slab(start, stop) / np.float32(role.codec.high))
            return image + part_of(scan_of_raw(kspace).image, grids.outside())


def part_of(image: Tensor, chosen: Tensor) -> Tensor:
    """Return the part of an image at some frequencies, complex (N, 1, H, W).

    Args:
        image: complex (N, 1, H, W).
        chosen: frequencies, bool (H, W).
    """
    return ifft(fft(image) * chosen)
