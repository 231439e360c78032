"""A method that makes vessels, at work: centre-lines, and if asked for surfaces and voxel masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from ganatomy.case import Prediction, Role, Sample, Scores
from ganatomy.data.batches import Range
from ganatomy.images.image import Image, axial_affine
from ganatomy.inference.predictor import Options, Predictor
from ganatomy.metrics.geometry import TubeShape
from ganatomy.physics.centreline import Centreline, Mesh, tube_mask, tube_mesh
from ganatomy.roles.labels import LabelRole
from ganatomy.tasks.geometry.roles import LengthRole, MeshRole
from ganatomy.tasks.geometry.task import LENGTH, NUMBERS, VESSEL, Signals, VesselSynthesiser, check_length

MESH, MASK = "mesh", "mask"
"""Outputs beside the centre-line."""
VALIDATED = 16
"""Vessels for every slice that validation is asked for: a set is judged as a whole."""
BATCH = 64
"""Vessels made at once."""
MARGIN = 2
"""Voxels around a vessel in its mask."""


class VesselOptions(Options):
    """Options of vessels that are made, and of files that are written beside their centre-lines."""

    length: float | None = None  # mm, of all vessels; none draws it from the lengths of the training vessels
    truncation: float = Field(1.0, ge=0)  # below 1, vessels are more typical and less varied; 1 changes nothing
    mesh: bool = False  # write the surface, too, as STL
    sides: int = Field(16, ge=3)  # vertices of each ring of the surface
    mask: float | None = Field(None, gt=0)  # mm, edge of the voxels of a mask that is written, too; none writes none


class VesselPredictor(Predictor):
    """Makes vessels from noise: one for a seed, with its ostium at the origin.

    Raises:
        UserError: the options ask for a length that the method does not make.
    """

    Options: ClassVar[type[Options]] = VesselOptions
    method: VesselSynthesiser

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        if self.options.length is not None:
            check_length(self.options.length, self.task)

    @property
    def conditional(self) -> bool:
        """Whether vessels are made for a length."""
        return self.method.conditional

    @property
    def inputs(self) -> tuple[str, ...]:
        """Nothing."""
        return ()

    @property
    def outputs(self) -> Mapping[str, Role]:
        """The centre-line, and what the options ask for."""
        made: dict[str, Role] = {VESSEL: self.task.roles[VESSEL]}
        if self.options.mesh:
            made[MESH] = MeshRole(MESH)
        if self.options.mask is not None:
            made[MASK] = LabelRole(MASK)
        return made

    def predict(self, sample: Sample, seed: int = 0) -> Prediction:
        """One vessel, with its numbers as a table.

        A signal that ends at once gives a point, whose surface and mask are empty.

        Args:
            sample: of nothing.
            seed: which vessel it is; a vessel depends on its own seed alone.
        """
        (signal,) = self.signals([seed])
        line = self.task.signals.decode(signal)
        outputs: dict[str, Any] = {VESSEL: line}
        if self.options.mesh:
            outputs[MESH] = surface_of(line, self.options.sides)
        if self.options.mask is not None:
            outputs[MASK] = mask_of(line, self.options.mask)
        shape = TubeShape.of(line.points, line.radii)
        return Prediction(
            {VESSEL: signal[:, None, None]},
            outputs,
            tables={"shape": [{name: getattr(shape, name) for name in NUMBERS}]},
            facts={"length_mm asked for": float(self.asked([seed])[0])} if self.conditional else {},
            notes=() if len(line.points) > 1 else ("the signal ends at its first sample: there is no vessel",),
        )

    def asked(self, seeds: Sequence[int]) -> NDArray[np.float64]:
        """Lengths in mm that the vessels of some seeds are made for, (n,).

        They are those of the options, else drawn from the lengths of the training vessels; without either, such as
        before training, half of the longest.
        """
        length, known = self.options.length, self.task.fitted.get("lengths")
        if length is None and known is not None and len(known):
            return np.array(
                [known[np.random.default_rng([seed, 1]).integers(len(known))] for seed in seeds], np.float64
            )
        return np.full(len(seeds), self.task.signals.longest_mm / 2 if length is None else length)

    def signals(self, seeds: Sequence[int], lengths: NDArray[Any] | None = None) -> Signals:
        """Signals of the vessels of some seeds, a batch at a time.

        Args:
            seeds: one a vessel.
            lengths: mm, (n,), where vessels are made for one; None means those of `asked`.

        Returns:
            (n, 4, samples), in the range of the networks.
        """
        latents = self.method.draw(seeds, self.options.truncation)
        if not self.conditional:
            return self.from_latents(latents)
        return self.from_latents(latents, self.asked(seeds) if lengths is None else lengths)

    @torch.no_grad()
    def from_latents(self, latents: Tensor, lengths: NDArray[Any] | None = None) -> Signals:
        """Signals of latent numbers (n, latent size) and, where vessels are made for one, lengths (n,) in mm."""
        asked = None
        if lengths is not None:
            role: LengthRole = self.task.roles[LENGTH]
            asked = torch.from_numpy(role.encoded(lengths))[:, None]
        made = []
        for start in range(0, len(latents), BATCH):
            part = slice(start, start + BATCH)
            own = None if asked is None else asked[part].to(self.device)
            made.append(self.method.sample(latents[part].to(self.device), own).float().cpu())
        return torch.cat(made).numpy()

    def validate(self, pieces: Sequence[Range], slices: int) -> Scores:
        """Scores of a set of vessels of fixed seeds against as many real ones.

        Args:
            pieces: vessels that may be looked at.
            slices: a sixteenth of the vessels that are compared.
        """
        chosen = np.random.default_rng(0).permutation(len(pieces))[: VALIDATED * slices]
        real = np.stack([np.asarray(pieces[index].sample.arrays[VESSEL])[:, 0, 0] for index in chosen])
        if len(real) < 2:
            return {}
        scores: Scores = self.task.set_scores(real, self.signals(range(len(real))))
        return scores


def surface_of(line: Centreline, sides: int) -> Mesh:
    """The closed surface of a vessel, empty for a point.

    Args:
        line: in mm.
        sides: vertices of each ring.
    """
    if len(line.points) < 2:
        return Mesh(np.zeros((0, 3)), np.zeros((0, 3), np.int64))
    return tube_mesh(line, sides)


def mask_of(line: Centreline, voxel_mm: float) -> Image:
    """Voxel mask of a vessel, uint8, 1 inside, on an axial grid just large enough; empty for a point.

    Args:
        line: in mm; its steps are made as short as a voxel or half a millimetre, so that spheres overlap well.
        voxel_mm: edge of a voxel.
    """
    step = min(voxel_mm, 0.5)
    fine = line.resampled(step) if line.length_mm >= step else line
    around = fine.radii[:, None] + MARGIN * voxel_mm
    low, high = (fine.points - around).min(axis=0), (fine.points + around).max(axis=0)
    affine = axial_affine((voxel_mm, voxel_mm, voxel_mm))
    # Rows run to the back and columns to the left, so the first voxel lies at the right and the front.
    affine[:3, 3] = high[0], high[1], low[2]
    columns, rows, slices = (int(extent) + 1 for extent in np.ceil((high - low) / voxel_mm))
    shape = (slices, rows, columns)
    inside = tube_mask(fine, affine, shape) if len(line.points) > 1 else np.zeros(shape, np.bool_)
    return Image(inside[None].astype(np.uint8), affine)
