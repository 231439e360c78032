"""Definitions of the pages on segmentation: data, systems, options and scores, set before they are run.

Every row is a system beside itself without its adversary; rows of one page that share sizes can be compared with each
other. The U-Net is trained for the same share of its own rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from making import Page, Row, folder_of, table_of, write_manifest

OVERLAP = ("dice", "iou", "sensitivity", "precision", "hd95", "surface distance", "surface dice", "volume error")
OBJECTS = ("object f1", "object precision", "object recall", "glas f1", "object dice", "object hausdorff", "dice")
BOTH = ("baseline", "unet")
"""What a system is compared with: itself without an adversary, and the planned U-Net."""

RETINA = {"field_of_view": "field", "observer": "second", "size": (320, 320), "fit": "contain"}
GREY = {"image.channels": 1, "image.window": (0.0, 255.0), "image.unit": None}
CELLS = {"labels": "cells", "image.channels": 1}
PARTS = {"anterior": (1,), "posterior": (2,)}
HIPPOCAMPUS = {"inputs": ("t1",), "labels": "hippocampus", "regions": PARTS, "t1.percentiles": (0.0, 99.5)}
SCANS = (("037", "038"), ("051", "052"), ("231", "232"), ("157", "158"), ("215", "216"), ("229", "230"))
"""Files that seem to be two sides of one scan, which count as one subject."""
HEAD = {**GREY, "inputs": ("image",), "labels": "head", "fit": "contain", "measures": ("head-circumference",)}
HEART = {**GREY, "inputs": ("image",), "labels": "heart"}
WALLS = {"myocardium": (1,), "blood": (2,)}


def vessels(data: Path, work: Path) -> Path:
    """Write the manifest of fundus photographs with the vessels of two observers; four children are for testing."""
    base = folder_of(data, "segment-retina-chasedb1")
    rows = [
        [
            one["subject"],
            one["split"],
            base / "images" / f"{one['name']}.jpg",
            *(base / folder / f"{one['name']}.png" for folder in ("vessels_1", "vessels_2", "fov")),
        ]
        for one in table_of(base)
    ]
    return write_manifest(work, ["subject", "split", "image", "vessels", "second", "field"], rows)


def cells(data: Path, work: Path) -> Path:
    """Write the manifest of fluorescent nuclei with their numbers; every picture counts as a subject."""
    base = folder_of(data, "segment-cells-dsb2018")
    rows = [
        [one["name"], one["split"], *(base / folder / f"{one['name']}.png" for folder in ("images", "labels"))]
        for one in table_of(base)
    ]
    return write_manifest(work, ["subject", "split", "image", "cells"], rows)


def hippocampi(data: Path, work: Path) -> Path:
    """Write the manifest of crops around one hippocampus; two sides of a scan are one subject."""
    base = folder_of(data, "segment3d-hippocampus-msd")
    index = {one["case"]: one["split"] for one in table_of(base)}
    subjects = {f"hippocampus_{one}": f"hippocampus_{pair[0]}" for pair in SCANS for one in pair}
    tested = {subjects.get(case, case) for case, side in index.items() if side == "test"}
    rows = [
        [
            subjects.get(case, case),
            "test" if subjects.get(case, case) in tested else "train",
            *(base / folder / f"{case}.nii.gz" for folder in ("images", "labels")),
        ]
        for case in index
    ]
    return write_manifest(work, ["subject", "split", "t1", "hippocampus"], rows)


def heads(data: Path, work: Path) -> Path:
    """Write the manifest of ultrasound images of fetal heads, one of each pregnancy, with the size of their pixels."""
    base = folder_of(data, "segment-ultrasound-hc18")
    rows = [
        [
            one["subject"],
            one["split"],
            one["pixel_mm"],
            *(base / folder / f"{one['name']}.png" for folder in ("images", "masks")),
        ]
        for one in table_of(base)
    ]
    return write_manifest(work, ["subject", "split", "pixel_mm", "image", "head"], rows)


def hearts(data: Path, work: Path) -> Path:
    """Write the manifest of short-axis slices; those whose outer contour was never drawn are left out."""
    base = folder_of(data, "segment-cardiac-sunnybrook")
    rows = [
        [one["patient"], one["split"], *(base / folder / f"{one['name']}.png" for folder in ("images", "labels"))]
        for one in table_of(base)
        if one["contours"] == "endo+epi"
    ]
    return write_manifest(work, ["subject", "split", "image", "heart"], rows)


def _page(
    slug: str,
    title: str,
    about: Sequence[str],
    manifest: Callable[[Path, Path], Path],
    rows: Sequence[tuple[str, str, Mapping[str, object], Sequence[str]]],
    scores: Sequence[str],
) -> Page:
    return Page(f"segmentation-{slug}", title, about, manifest, [Row(*row) for row in rows], scores)


SEGMENTATION = (
    _page(
        "retina",
        "Segmentation of retinal vessels",
        [
            "CHASE_DB1 (Fraz et al., 2012, CC BY): photographs of both eyes of 14 children, trained on ten and tested "
            "on four. They are scaled to 320², so that the finest vessels are less than a pixel wide; scores are those "
            "of this grid, inside the field of view. The annotation is that of the first observer, the second one is "
            "judged like a system.",
            "Four test subjects: other children may well differ.",
        ],
        vessels,
        (
            ("whole photographs", "v-gan", {**RETINA, "rounds": 100}, BOTH),
            ("patches", "vessel-dcgan-ssl", {**RETINA, "rounds": 3000}, ("baseline",)),
        ),
        (*OVERLAP[:4], "roc area", "precision-recall area", "surface dice"),
    ),
    _page(
        "cells",
        "Segmentation of fluorescent nuclei",
        [
            "161 fluorescence images of the 2018 Data Science Bowl (BBBC038v1, Caicedo et al., 2019, CC0), 128 for "
            "training and 33 for testing. The data name neither plates nor patients, so neighbouring fields may lie on "
            "both sides: what is found is optimistic for images from elsewhere.",
        ],
        cells,
        (
            ("nuclei", "rib-cage-gan", {**CELLS, "rounds": 300}, BOTH),
            ("nuclei, half of the images annotated", "dan", {**CELLS, "rounds": 900}, ("baseline",)),
            ("nuclei", "spheroid-msan", {**CELLS, "rounds": 900}, ("baseline",)),
        ),
        OBJECTS,
    ),
    _page(
        "hippocampus",
        "Segmentation of the hippocampus",
        [
            "T1 volumes of about 35 × 51 × 36 voxels around one hippocampus (Medical Segmentation Decathlon, task 4, "
            "CC BY-SA), each of another scan but for six pairs that seem to be two sides of one and count as one "
            "subject. Images are not mirrored.",
            "Rows differ in how volumes are brought to the networks; scores are those of each row's own grid.",
        ],
        hippocampi,
        (
            (
                "slices",
                "segan",
                {**HIPPOCAMPUS, "size": (64, 48), "patch": 48, "flips": (), "rounds": 2000},
                BOTH,
            ),
            (
                "volumes",
                "di2in-an",
                {
                    **HIPPOCAMPUS,
                    "spacing": (1.0, 1.0, 1.0),
                    "size": (48, 64, 48),
                    "patch_shape": (48, 64, 48),
                    "rounds": 1200,
                },
                BOTH,
            ),
            ("three views", "ssnet", {**HIPPOCAMPUS, "size": (48, 64, 64), "rounds": 1200}, ("baseline",)),
            (
                "atlas",
                "voxel-atlas-gan",
                {**HIPPOCAMPUS, "size": (48, 64, 48), "rounds": 1200},
                ("baseline",),
            ),
        ),
        OVERLAP,
    ),
    _page(
        "fetal-head",
        "Segmentation of the fetal head in ultrasound",
        [
            "60 images of HC18 (van den Heuvel et al., 2018, CC BY), one of each pregnancy, 48 for training and 12 for "
            "testing, scaled to 128 × 192. The head circumference is that of the ellipse with the moments of the "
            "region, of prediction and annotation alike. Computed so, that of the annotated masks is 8.0 pixels longer "
            "(SD 0.1; 1.1 mm on average) than the one that the data set states, as the masks hold the drawn line; the "
            "difference of prediction and annotation is free of it.",
            "The smallest head weighs heavily in means.",
        ],
        heads,
        (
            ("head", "segan", {**HEAD, "regions": {"head": (1,)}, "size": (128, 192), "rounds": 1000}, BOTH),
            (
                "head",
                "scan-cxr",
                {**HEAD, "regions": {"background": (0,), "head": (255,)}, "size": (128, 192), "rounds": 1000},
                ("baseline",),
            ),
        ),
        (*OVERLAP, "head circumference error"),
    ),
    _page(
        "heart",
        "Segmentation of the left ventricle",
        [
            "Short-axis cine MR of 20 patients of the Sunnybrook Cardiac Data (Radau et al., 2009, public domain), 15 "
            "for training and 5 for testing: the 181 slices in which inner and outer contour were drawn. The others "
            "have no annotated myocardium and are left out. The pictures state no size of their pixels, so that "
            "distances are in pixels.",
            "Five test patients: others may well differ.",
        ],
        hearts,
        (("myocardium and blood", "segan", {**HEART, "regions": WALLS, "size": (160, 160), "rounds": 1500}, BOTH),),
        (*OVERLAP[:5], "dice myocardium", "dice blood", "component error"),
    ),
)
"""Pages on segmentation."""
