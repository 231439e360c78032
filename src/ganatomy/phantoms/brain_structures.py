"""Healthy heads in MR with a label map of the structures that brain segmentation tells apart."""

from __future__ import annotations

from math import ceil
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ganatomy.phantoms.brain import FINEST, BrainMR
from ganatomy.phantoms.shapes import Grid, average

CORTEX, NUCLEI, WHITE, FLUID, VENTRICLES = 1, 2, 3, 5, 6  # values of the label map, as in MRBrainS13


class BrainStructuresMR(BrainMR):
    """`BrainMR` of healthy patients, with the structures of the cerebrum as a label map.

    Further attributes:
        labels: also "structures", uint8 (slices, rows, columns), with the values of the MRBrainS13 challenge: 0 for the
            background, 1 for cortical grey matter, 2 for basal ganglia and thalami, 3 for white matter, 5 for the fluid
            around the brain and 6 for ventricles. There is no white-matter lesion (4), cerebellum (7) or stem (8).
    """

    LABELS: ClassVar[tuple[str, ...]] = ("healthy",)

    def __init__(self, seed: int, **options: Any) -> None:
        """Draw the patient; options are those of `BrainMR`."""
        super().__init__(seed, **options)
        shape, spacing = self.masks["brain"].shape, self.image.spacing
        parts = ceil(spacing[1] / FINEST)
        fine = Grid.centred(
            (shape[0], shape[1] * parts, shape[2] * parts),
            (spacing[0], spacing[1] / parts, spacing[2] / parts),
            self.anatomy.level,
        )
        place = self.anatomy.place(fine)
        nuclei, ventricles = (
            average(fine.coverage(part), parts) for part in (self.anatomy.nuclei(place), self.anatomy.ventricles(place))
        )
        self.labels["structures"] = _structures(self.masks, nuclei, ventricles)


def _structures(
    masks: dict[str, NDArray[np.bool_]], nuclei: NDArray[np.float32], ventricles: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """Divide masks of tissues into structures by the share of every voxel in the outlines of nuclei and ventricles."""
    found = np.zeros(masks["brain"].shape, np.uint8)
    for value, name in ((FLUID, "csf"), (CORTEX, "grey"), (WHITE, "white")):
        found[masks[name]] = value
    found[masks["brain"] & ~masks["csf"] & (nuclei >= 0.5)] = NUCLEI
    # More than half of a voxel of fluid is ventricle, since fluid has the largest share of three tissues there.
    found[masks["csf"] & (ventricles >= 0.3)] = VENTRICLES
    return found
