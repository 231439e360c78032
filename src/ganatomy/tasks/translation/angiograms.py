"""Scores of outputs that show vessels as bright tubes: overlap of the vessels that one filter finds in both images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import skeletonize

from ganatomy.case import Volume
from ganatomy.evaluation.judging import Score
from ganatomy.metrics.fidelity import psnr
from ganatomy.metrics.segmentation import count_overlap
from ganatomy.metrics.vesselness import Mask, Vesselness, otsu, vesselness
from ganatomy.tasks.translation.physical import NEIGHBOURS, Physical, Spacing

VESSELS = "Vessels"
DICE, CENTRES, DRAWN, PROJECTION = "vessel Dice", "vessel clDice", "drawn-vessel Dice", "PSNR of projections"

SCALES = (0.7, 1.1, 1.7)
"""SDs of the filter in edges of a pixel (our choice); a tube whose SD is 0.7 of one of them answers most."""
FLATTEST = 2.5
"""Largest distance of slices, in edges of a pixel, at which the filter works in 3D; beyond, slice by slice."""
WEAK = 0.35
"""Share of Otsu's level from which voxels beside a vessel belong to it (our choice)."""
FEWEST = 5
"""Smallest number of slices with which it works in 3D."""


def vessel_scores(
    output: Volume, true: Volume, lesions: Volume | None, organ: Volume | None, spacing: Spacing
) -> dict[str, float]:
    """Compare the vessels of a synthetic angiography with those of the true one; see `ANGIOGRAM` for the scores.

    The contrast of the filter and Otsu's level are those of the true image, in both. Weaker voxels beside those above
    the level belong to vessels, too, since most voxels of thin vessels are weak.
    """
    inside = np.ones(true.shape, bool) if organ is None else np.asarray(organ) > 0
    real = _filtered(true, spacing, inside)
    made = _filtered(output, spacing, inside, real.contrast)
    level = otsu(real.response[inside & (real.response > 0)])
    found, wanted = (_segmented(one.response, inside, max(level, 1e-9)) for one in (made, real))
    scores = {DICE: count_overlap(found, wanted).dice, CENTRES: centreline_dice(found, wanted)}
    if lesions is not None and np.any(lesions):
        scores[DRAWN] = count_overlap(found, inside & (np.asarray(lesions) > 0)).dice
    low, high = float(np.min(true)), float(np.max(true))
    if low < high:
        shown, ours = (np.where(inside, one, low).max(0) for one in (true, output))
        scores[PROJECTION] = psnr(ours.clip(low, high), shown, window=(low, high))
    return scores


def _filtered(image: Volume, spacing: Spacing, inside: Mask, contrast: float | None = None) -> Vesselness:
    """Return the vesselness of a volume, in 3D where its slices are near enough."""
    pixel = float(np.mean(spacing[1:]))
    scales = [pixel * scale for scale in SCALES]
    values = np.asarray(image, np.float64)
    if len(values) >= FEWEST and spacing[0] <= FLATTEST * pixel:
        return vesselness(values, spacing, scales, contrast, inside)
    slices = [vesselness(one, spacing[1:], scales, None, kept) for one, kept in zip(values, inside, strict=True)]
    shared = max((one.contrast for one in slices), default=0.0) if contrast is None else contrast
    if not shared > 0:
        return Vesselness(np.zeros(values.shape), 0.0)
    again = [vesselness(one, spacing[1:], scales, shared) for one in values]
    return Vesselness(np.stack([one.response for one in again]), shared)


def _segmented(response: NDArray[np.float64], inside: Mask, level: float) -> Mask:
    """Return the parts above a share of a level that hold a voxel above the level itself."""
    numbers, _ = ndimage.label(inside & (response > WEAK * level), NEIGHBOURS)
    strong = np.unique(numbers[inside & (response > level)])
    return np.isin(numbers, strong[strong > 0])


def centreline_dice(found: Mask, wanted: Mask) -> float:
    """Return the clDice of two masks: the harmonic mean of the shares of each skeleton that lie in the other mask.

    Shit et al., arXiv 2003.07311. It is 1 where both masks are empty.
    """
    if not found.any() or not wanted.any():
        return float(found.any() == wanted.any())
    precision, sensitivity = (
        float(other[bones].mean()) for bones, other in ((_skeleton(found), wanted), (_skeleton(wanted), found))
    )
    both = precision + sensitivity
    return 2 * precision * sensitivity / both if both else 0.0


def _skeleton(mask: Mask) -> NDArray[np.bool_]:
    """Return the middle lines of a mask, (slices, rows, columns)."""
    bones: NDArray[np.bool_] = skeletonize(mask if len(mask) > 1 else mask[0]) > 0  # type: ignore[no-untyped-call]
    return bones.reshape(mask.shape)


ANGIOGRAM = Physical(
    (
        Score(DICE, "higher", "", "Overlap of the vessels that the same filter finds in both images.", VESSELS, 3),
        Score(CENTRES, "higher", "", "The same of middle lines, so that thin vessels count as much as wide ones.",
              VESSELS, 3),
        Score(DRAWN, "higher", "", "Overlap of the vessels found in the output with a map of the vessels.", VESSELS, 3),
        Score(PROJECTION, "higher", "dB", "Of the maximum intensity projections along the slices, over the range of "
              "the true image.", VESSELS, 2),
    ),
    vessel_scores,
    {
        "Vessels": "Frangi's filter of bright tubes at scales of "
        + ", ".join(f"{scale:g}" for scale in SCALES)
        + " pixels, with the contrast and Otsu's level of the true image, and what is connected to it above "
        f"{WEAK:g} of the level, within the organ where there is a map of it; "
        f"in 3D from {FEWEST} slices on whose distance is at most {FLATTEST:g} pixels, otherwise slice by slice",
    },
    (),
    (DICE,),
)  # fmt: skip
