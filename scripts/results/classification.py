"""Definitions of the pages of results of classification on real images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from making import Page, Row, folder_of, table_of, write_manifest
from numpy.typing import NDArray

from ganatomy.images.files import find, write
from ganatomy.images.image import Image
from ganatomy.tasks.classification.task import TO_APEX


def radiographs(data: Path, work: Path) -> Path:
    """Return the chest X-rays of a copy of PneumoniaMNIST with their classes, 0 normal and 1 pneumonia."""
    return folder_of(data, "classify-pneumoniamnist") / "pneumoniamnist.npz"


def parts_of_the_body(data: Path, work: Path) -> Path:
    """Write the manifest of the pictures of MedNIST with their six classes; every picture counts as a subject."""
    base = folder_of(data, "classify-mednist")
    rows = [[one["image"].replace("/", "_"), one["split"], base / one["image"], one["class"]] for one in table_of(base)]
    return write_manifest(work, ["subject", "split", "image", "label"], rows)


FIELD = 96
"""Rows and columns around the left ventricle."""


def ventricles(data: Path, work: Path) -> Path:
    """Write short-axis stacks of the Sunnybrook hearts at the end of diastole, and their manifest with slice labels.

    A stack has the slices with a contour of the outer wall, from base to apex: numbers of slices rise, and the cavity
    falls from the first half to the second in every patient. The pictures state neither spacing nor orientation: stacks
    are written with pixels of 1.4 mm and slices of 9 mm, along the long axis of an average heart.
    """
    base = folder_of(data, "segment-cardiac-sunnybrook")
    (work / "images").mkdir(exist_ok=True)
    found = [one for one in table_of(base) if one["contours"] == "endo+epi"]
    rows = []
    for patient in sorted({one["patient"] for one in found}):
        own = sorted((one for one in found if one["patient"] == patient), key=lambda one: one["name"])
        images, labels = (
            np.stack([find(base / part / f"{one['name']}.png")[0].open().numpy()[0, 0] for one in own])
            for part in ("images", "labels")
        )
        inside = np.argwhere(labels > 0)[:, 1:].mean(axis=0).astype(int)
        top, left = np.clip(inside - FIELD // 2, 0, np.array(images.shape[1:]) - FIELD)
        cut = images[:, top : top + FIELD, left : left + FIELD]
        path = work / "images" / f"{patient}.nii.gz"
        write(path, Image(cut[None].astype(np.uint8), short_axis_affine(1.4, 9.0), None))
        words = ["basal", *["middle"] * (len(own) - 2), "apical"]
        rows.append([patient, own[0]["split"], path, "|".join(words)])
    return write_manifest(work, ["subject", "split", "mr", "slice_labels"], rows)


def short_axis_affine(pixel: float, distance: float) -> NDArray[np.float64]:
    """Return the affine of slices across an average heart from base to apex, with the given spacing in mm."""
    normal = TO_APEX / np.linalg.norm(TO_APEX)
    columns = np.cross(normal, [0.0, 0.0, 1.0])
    columns /= -np.sign(columns[0]) * np.linalg.norm(columns)
    rows = np.cross(normal, columns)
    rows *= -np.sign(rows[2])
    affine = np.eye(4)
    affine[:3, :3] = np.stack([distance * normal, pixel * rows, pixel * columns], axis=1)
    return affine


PICTURES = {
    "images": ("image",),
    "per": "case",
    "end": None,
    "rest": None,
    "size": (32, 32),
    "phantom": "none",
    "image.window": (0.0, 255.0),
    "image.unit": None,
}
PARTS = ("AbdomenCT", "BreastMRI", "CXR", "ChestCT", "Hand", "HeadCT")
CLASSIFIED = ("balanced accuracy", "AUC", "sensitivity", "specificity", "Brier score")

CLASSIFICATION = (
    Page(
        "classification-pneumoniamnist",
        "Pneumonia on small chest X-rays with few labels",
        [
            "A copy of PneumoniaMNIST (Yang et al., 2023, after Kermany et al., 2018, CC BY 4.0) that is not the "
            "official file: 388 normal and 3,494 pneumonia images of 28² for training, 234 and 390 for testing; "
            "class 1 is pneumonia. "
            "The data have no patient identifiers, so that every image counts as a patient.",
        ],
        radiographs,
        (
            Row(
                "labels",
                "scgan-lv-coverage",
                {**PICTURES, "classes": ("0", "1"), "rounds": 600},
                ("baseline", "cnn-classifier"),
                (0.1, 0.25, 0.5, 1.0),
            ),
        ),
        CLASSIFIED,
    ),
    Page(
        "classification-mednist",
        "Parts of the body with few labels",
        [
            "1,197 pictures of MedNIST for training and 300 for testing, of six classes, 64² brought to 32². "
            "The data have no patient identifiers, so that slices of one patient may be in training and test.",
        ],
        parts_of_the_body,
        (
            Row(
                "labels",
                "scgan-lv-coverage",
                {**PICTURES, "classes": PARTS, "rounds": 600},
                ("baseline", "cnn-classifier"),
                (0.1, 1.0),
            ),
        ),
        CLASSIFIED,
    ),
    Page(
        "classification-sunnybrook",
        "Basal slices of real hearts",
        [
            "Short-axis slices at the end of diastole of 20 patients of the Sunnybrook Cardiac Data (Radau et al., "
            "2009, CC0), 96² around the left ventricle brought to 64²: trained on 15, tested on 5. The basal slice "
            "is the first one with a contour.",
            "Five test patients: others may well differ.",
        ],
        ventricles,
        (
            Row("basal", "scgan-lv-coverage", {"rounds": 600}, ("baseline", "cnn-classifier")),
            Row(
                "apical",
                "scgan-lv-coverage",
                {"end": "apical", "classes": ("other", "apical"), "rounds": 600},
                ("baseline", "cnn-classifier"),
            ),
        ),
        CLASSIFIED,
    ),
)
"""Pages of classification."""
