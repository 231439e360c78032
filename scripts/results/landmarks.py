"""Definitions of the pages on landmarks: data, systems, options and scores, set before they are run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from making import Page, Row, folder_of, table_of, write_manifest

from ganatomy.images.files import find
from ganatomy.roles.tables import write_rows

EIGHT = ("right", "right lower", "lower", "left lower", "left", "left upper", "upper", "right upper")
"""Names of points on a head, from the end of its long axis that lies further right in the image, clockwise."""


def on_ellipse(mask: np.ndarray, count: int) -> np.ndarray:
    """Return points (row, column) at equal steps around the ellipse with the moments of a mask, from the right end."""
    places = np.argwhere(mask).astype(np.float64)
    middle = places.mean(0)
    spread, axes = np.linalg.eigh(np.cov((places - middle).T))
    long, short = axes[:, 1], axes[:, 0]
    long = long if long[1] > 0 else -long
    short = short if long[1] * short[0] - long[0] * short[1] > 0 else -short  # clockwise, as rows go down
    steps = 2 * np.pi * np.arange(count) / count
    around = np.cos(steps)[:, None] * long * spread[1] ** 0.5 + np.sin(steps)[:, None] * short * spread[0] ** 0.5
    return np.asarray(middle + 2 * around)


def heads(data: Path, work: Path) -> Path:
    """Write the manifest of ultrasound images of fetal heads, with eight points on the annotated ellipse of each."""
    base = folder_of(data, "segment-ultrasound-hc18")
    rows = []
    for one in table_of(base):
        mask = find(base / "masks" / f"{one['name']}.png")[0].open().numpy()[0, 0] > 127
        points = work / f"{one['name']}.csv"
        places = [(name, *place) for name, place in zip(EIGHT, on_ellipse(mask, len(EIGHT)).tolist(), strict=True)]
        write_rows(points, ("name", "row", "column"), places)
        rows.append([one["subject"], one["split"], one["pixel_mm"], base / "images" / f"{one['name']}.png", points])
    return write_manifest(work, ["subject", "split", "pixel_mm", "us", "border"], rows)


LANDMARKS = (
    Page(
        "landmarks-fetal-head",
        "Landmarks of fetal heads in ultrasound",
        [
            "60 ultrasound images of HC18 (van den Heuvel et al., 2018, CC BY), one of each pregnancy, every fifth for "
            "testing. The landmarks are eight points at equal steps around the annotated ellipse of the skull, from "
            "the end of its long axis that lies further right; they follow from the ellipse and mark no anatomy of "
            "their own. Distances are in mm of the fetus. Images are scaled to 96².",
        ],
        heads,
        (Row("eight points", "dacal-landmarks", {"names": EIGHT, "size": (96, 96)}),),
        ("dice", "error", *(f"detected within {limit} mm" for limit in ("2", "2.5", "3", "4"))),
    ),
)
