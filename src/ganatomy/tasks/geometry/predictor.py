"""The predictor of vessel geometry: sampled centre-lines, and optionally surfaces and voxel masks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

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
from ganatomy.tasks.geometry.roles import LengthRole, MeshRole, PolygonRole
from ganatomy.tasks.geometry.task import LENGTH, NUMBERS, VESSEL, Signals, VesselSynthesiser, check_length

MESH, MASK = "mesh", "mask"
"""Names of the optional outputs."""
VALIDATED = 16
"""Number of vessels compared per slice asked for in validation, since a set is judged as a whole."""
BATCH = 64
"""Number of vessels in a batch."""
MARGIN = 2
"""Number of empty voxels around a vessel in its mask."""


class VesselOptions(Options):
    """Options of sampling vessels, and of the files that are written beside their centre-lines."""

    length: float | None = None  # length of all vessels in mm; none draws it from those of the training vessels
    truncation: float = Field(1.0, ge=0)  # factor of the latent vectors: below 1, vessels are more typical, less varied
    mesh: bool = False  # write also the surface
    mesh_format: Literal["stl", "vtk"] = "stl"  # format of the surface; vtk: legacy polydata
    sides: int = Field(16, ge=3)  # number of vertices of each ring of the surface
    mask: float | None = Field(None, gt=0)  # voxel size in mm of a mask that is written, too; none writes no mask


class VesselPredictor(Predictor):
    """Samples vessels from noise, one for each seed, with the ostium at the origin.

    Raises:
        UserError: the options name a length for which the method generates no vessels.
    """

    Options: ClassVar[type[Options]] = VesselOptions
    method: VesselSynthesiser

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        if self.options.length is not None:
            check_length(self.options.length, self.task)

    @property
    def conditional(self) -> bool:
        """Whether the generator is conditioned on the length of the vessel."""
        return self.method.conditional

    @property
    def inputs(self) -> tuple[str, ...]:
        """Roles of the inputs, of which sampling has none."""
        return ()

    @property
    def outputs(self) -> Mapping[str, Role]:
        """Roles of the centre-line, and of the surface and the mask where the options ask for them."""
        made: dict[str, Role] = {VESSEL: self.task.roles[VESSEL]}
        if self.options.mesh:
            made[MESH] = PolygonRole(MESH) if self.options.mesh_format == "vtk" else MeshRole(MESH)
        if self.options.mask is not None:
            made[MASK] = LabelRole(MASK)
        return made

    def predict(self, sample: Sample, seed: int = 0) -> Prediction:
        """Sample one vessel, with the numbers of its shape as a table.

        A signal that ends at its first sample gives a single point, with an empty surface and mask.

        Args:
            sample: empty sample.
            seed: seed of the vessel, on which alone it depends.
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
        """Return the lengths in mm for which the vessels of some seeds are generated, (n,).

        They are given by the options, else drawn from the lengths of the training vessels. Without either, as before
        training, they are half of the longest length.
        """
        length, known = self.options.length, self.task.fitted.get("lengths")
        if length is None and known is not None and len(known):
            return np.array(
                [known[np.random.default_rng([seed, 1]).integers(len(known))] for seed in seeds], np.float64
            )
        return np.full(len(seeds), self.task.signals.longest_mm / 2 if length is None else length)

    def signals(self, seeds: Sequence[int], lengths: NDArray[Any] | None = None) -> Signals:
        """Sample the signals of some seeds in batches.

        Args:
            seeds: one seed per vessel.
            lengths: lengths in mm, (n,), where ``conditional``; None means those of `asked`.

        Returns:
            Signals (n, 4, samples) in the range of the networks.
        """
        latents = self.method.draw(seeds, self.options.truncation)
        if not self.conditional:
            return self.from_latents(latents)
        return self.from_latents(latents, self.asked(seeds) if lengths is None else lengths)

    @torch.no_grad()
    def from_latents(self, latents: Tensor, lengths: NDArray[Any] | None = None) -> Signals:
        """Generate signals from latent vectors (n, latent size) and, where ``conditional``, lengths (n,) in mm."""
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
        """Score the vessels of fixed seeds against as many real ones.

        Args:
            pieces: validation vessels.
            slices: number of slices asked for; `VALIDATED` times as many vessels are compared.
        """
        chosen = np.random.default_rng(0).permutation(len(pieces))[: VALIDATED * slices]
        real = np.stack([np.asarray(pieces[index].sample.arrays[VESSEL])[:, 0, 0] for index in chosen])
        if len(real) < 2:
            return {}
        scores: Scores = self.task.set_scores(real, self.signals(range(len(real))))
        return scores


def surface_of(line: Centreline, sides: int) -> Mesh:
    """Return the closed surface of a vessel; empty for a single point.

    Args:
        line: centre-line in mm.
        sides: number of vertices of each ring.
    """
    if len(line.points) < 2:
        return Mesh(np.zeros((0, 3)), np.zeros((0, 3), np.int64))
    return tube_mesh(line, sides)


def mask_of(line: Centreline, voxel_mm: float) -> Image:
    """Return the voxel mask of a vessel, uint8, 1 inside, on the smallest axial grid; empty for a single point.

    Args:
        line: centre-line in mm; it is resampled to steps of a voxel or half a millimetre, so that spheres overlap.
        voxel_mm: edge of a voxel in mm.
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
