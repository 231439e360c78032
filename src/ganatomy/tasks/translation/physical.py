"""Scores of outputs whose values are a physical quantity: CT numbers by tissue, and uptake of lesions in PET.

Such scores compare a whole case, in the unit of the output, and not clipped to the window.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ganatomy.case import Volume
from ganatomy.evaluation.judging import Score
from ganatomy.metrics.hounsfield import TISSUES, calibration, path_error, tissue_errors
from ganatomy.metrics.uptake import HOT, detected, lesion_uptakes, split_error
from ganatomy.physics.ct_numbers import mass_density, water_equivalent_paths

Spacing = tuple[float, float, float]

BODY_HU = -500.0
"""CT number from which on a voxel is taken for a part of the body, whose cavities belong to it, too (our choice)."""
MOST_PLANES, ANGLES = 16, 18
"""Largest number of slices of a case, and number of directions, of which water-equivalent paths are computed."""
NEIGHBOURS = ndimage.generate_binary_structure(3, 3)

NUMBERS, BEAMS, UPTAKE, LESIONS = (
    "CT numbers by tissue",
    "What radiotherapy reads of it",
    "Uptake",
    "Lesions by their uptake",
)
SLOPE, INTERCEPT = "slope", "intercept"
DENSITY, PATHS, PATH_BIAS = "density error", "path error", "path bias"
LOST, INVENTED = "bone lost", "bone invented"
HOT_ERROR, COLD_ERROR = "hot error", "cold error"
MEAN_BIAS, MAX_BIAS, MEAN_ERROR, MAX_ERROR = "SUVmean bias", "SUVmax bias", "SUVmean error", "SUVmax error"
FOUND, FALSE, SPREAD = "lesions found", "false lesions", "hot elsewhere"


def bias(tissue: str) -> str:
    """Return the name of the score of the mean difference in a tissue."""
    return f"bias {tissue}"


def error(tissue: str) -> str:
    """Return the name of the score of the mean absolute difference in a tissue."""
    return f"MAE {tissue}"


class Physical(NamedTuple):
    """The scores of a physical quantity, and the function that computes them for a case.

    Attributes:
        scores: scores of the table.
        compute: function of the output and the true image, both (slices, rows, columns), of the label maps of lesions
            and of an organ of the same shape (None where there are none), and of the spacing in mm.
        facts: how the scores were measured.
        agreement: names of the scores that are differences, whose limits of agreement over patients are told.
        told: names of the scores that the headline tells, for the output and for the strongest reference.
    """

    scores: tuple[Score, ...]
    compute: Callable[[Volume, Volume, Volume | None, Volume | None, Spacing], dict[str, float]]
    facts: Mapping[str, str]
    agreement: tuple[str, ...]
    told: tuple[str, ...]


def body(hu: Volume) -> NDArray[np.bool_]:
    """Return the mask of the largest object above `BODY_HU` in a CT, its cavities included, (slices, rows, columns)."""
    # Each slice is opened by itself: in a case of one or two slices nothing would be left of an opening in 3D.
    dense = np.stack([ndimage.binary_opening(plane) for plane in np.asarray(hu) > BODY_HU])
    parts, count = ndimage.label(dense)
    if not count:
        return np.asarray(dense)
    largest = parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
    return np.stack([ndimage.binary_fill_holes(plane) for plane in largest])


def ct_scores(
    output: Volume, true: Volume, lesions: Volume | None, organ: Volume | None, spacing: Spacing
) -> dict[str, float]:
    """Compare a synthetic CT with the true one in HU; see `CT` for the scores."""
    inside = body(true)
    found: dict[str, float] = {}
    tissues = tissue_errors(output, true, inside)
    for name, one in tissues.items():
        found[bias(name)], found[error(name)] = one.bias, one.absolute
    line = calibration(output, true, inside)
    found[SLOPE], found[INTERCEPT] = line.slope, line.intercept
    found[DENSITY] = float(np.abs(mass_density(output) - mass_density(true))[inside].mean()) if inside.any() else np.nan
    bone = tuple(np.asarray(one) >= TISSUES["bone"][0] for one in (output, true))
    made, real = (one & inside for one in bone)
    found[LOST] = 1 - tissues["bone"].found
    found[INVENTED] = float((made & ~real).sum() / made.sum()) if made.any() else 0.0
    apart = path_error(_paths(output, inside, spacing), _paths(true, inside, spacing))
    found[PATHS], found[PATH_BIAS] = apart.absolute, apart.bias
    return found


def _paths(hu: Volume, inside: NDArray[np.bool_], spacing: Spacing) -> NDArray[np.float32]:
    """Return water-equivalent paths through some slices of the body, on square pixels, with air around it."""
    planes = np.unique(np.linspace(0, len(hu) - 1, min(len(hu), MOST_PLANES)).round().astype(int))
    seen = np.where(inside, hu, -1000.0)[planes].astype(np.float32)
    pixel = min(spacing[1:])
    if not math.isclose(spacing[1], spacing[2], rel_tol=1e-3):
        zoom = (1.0, spacing[1] / pixel, spacing[2] / pixel)
        seen = ndimage.zoom(seen, zoom, order=1, mode="nearest", grid_mode=True)
    return water_equivalent_paths(seen, pixel, ANGLES)


def pet_scores(
    output: Volume, true: Volume, lesions: Volume | None, organ: Volume | None, spacing: Spacing
) -> dict[str, float]:
    """Compare a synthetic PET with the true one in SUV; see `PET` for the scores."""
    found: dict[str, float] = {}
    found[HOT_ERROR], found[COLD_ERROR] = split_error(output, true)
    drawn = np.asarray(true) >= HOT if lesions is None else np.asarray(lesions) > 0
    if organ is not None:
        drawn &= np.asarray(organ) > 0
    numbers, count = ndimage.label(drawn, NEIGHBOURS)
    if count:
        uptakes = lesion_uptakes(output, true, numbers)
        means = np.array([one.mean_error for one in uptakes])
        highest = np.array([one.highest_error for one in uptakes])
        found |= {MEAN_BIAS: float(means.mean()), MAX_BIAS: float(highest.mean())}
        found |= {MEAN_ERROR: float(np.abs(means).mean()), MAX_ERROR: float(np.abs(highest).mean())}
    hot = np.asarray(output) > HOT
    elsewhere = hot & ~drawn & (np.asarray(true) < HOT)
    found[SPREAD] = float(elsewhere.sum() / hot.sum()) if hot.any() else 0.0
    hits = detected(output, drawn, organ)
    if hits.lesions:
        found[FOUND] = hits.found / hits.lesions
    found[FALSE] = float(hits.false_positives)
    return found


CT = Physical(
    (
        *(
            score
            for name in TISSUES
            for score in (
                Score(bias(name), None, "HU", "Mean difference within the tissue; 0 is the aim.", NUMBERS, 1),
                Score(error(name), "lower", "HU", "Mean absolute difference within the tissue.", NUMBERS, 1),
            )
        ),
        Score(SLOPE, None, "", "Of the line from true to synthetic CT numbers; less than 1 is too little contrast.",
              NUMBERS, 3),
        Score(INTERCEPT, None, "HU", "Of the same line, where the true CT number is 0.", NUMBERS, 1),
        Score(PATHS, "lower", "mm", "Mean absolute difference of the water-equivalent lengths of rays.",
              BEAMS, 2),
        Score(PATH_BIAS, None, "mm", "Mean difference of these lengths; 0 is the aim.", BEAMS, 2),
        Score(DENSITY, "lower", "g/cm³", "Mean absolute difference of the mass density in the body.", BEAMS, 4),
        Score(LOST, "lower", "", "Share of the voxels of bone that are none in the output.", BEAMS, 3),
        Score(INVENTED, "lower", "", "Share of the output's voxels of bone that are none in truth.", BEAMS, 3),
    ),
    ct_scores,
    {
        "Tissues": "classes by the true CT number: "
        + ", ".join(f"{name} from {low:g} HU" for name, (low, _) in TISSUES.items())
        + "; within the body, cavities included; over whole cases, values not clipped",
        "Water-equivalent paths": f"integrals of the relative electron density along parallel rays in {ANGLES} "
        f"directions, in at most {MOST_PLANES} slices of a case; rays with less than 20 mm are left out",
    },
    (*map(bias, TISSUES), PATH_BIAS),
    (error("bone"), PATHS),
)  # fmt: skip

PET = Physical(
    (
        Score(HOT_ERROR, "lower", "SUV", f"Mean absolute difference where the true SUV is at least {HOT}.", UPTAKE, 2),
        Score(COLD_ERROR, "lower", "SUV", "The same where it is below.", UPTAKE, 3),
        Score(MEAN_BIAS, None, "SUV", "SUVmean of lesions minus the true one; 0 is the aim.", LESIONS, 2),
        Score(MEAN_ERROR, "lower", "SUV", "Mean absolute difference of the SUVmean of lesions.", LESIONS, 2),
        Score(MAX_BIAS, None, "SUV", "SUVmax of lesions minus the true one; 0 is the aim.", LESIONS, 2),
        Score(MAX_ERROR, "lower", "SUV", "Mean absolute difference of the SUVmax of lesions.", LESIONS, 2),
        Score(FOUND, "higher", "", f"Share of the lesions that a part above SUV {HOT} touches.", LESIONS, 3),
        Score(FALSE, "lower", "per case", "Parts above it that touch no lesion.", LESIONS, 2),
        Score(SPREAD, "lower", "", "Share of the output's voxels above it that are in no lesion and below it in truth; "
              "one hot part everywhere finds all lesions.", LESIONS, 3),
    ),
    pet_scores,
    {
        "Lesions": "connected parts (26 neighbours) of the map of lesions, and where there is none, of the true PET "
        f"from SUV {HOT} on; within the organ, where there is a map of it; over whole cases, values not clipped",
    },
    (MEAN_BIAS, MAX_BIAS),
    (FOUND, FALSE, SPREAD),
)  # fmt: skip

QUANTITIES: Mapping[str, Physical] = {"HU": CT, "SUV": PET}
"""Unit of the output to its scores."""
