"""Definitions of the pages of results on real images: data, systems, options and scores, set before they are run.

The images are in one folder, whose subfolders and their origin are described in docs/results.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from classification import CLASSIFICATION
from landmarks import LANDMARKS
from making import Page, Row, folder_of, table_of, write_manifest
from segmentation import SEGMENTATION

LESJAK = "Lesjak et al., 2017 (doi 10.1007/s12021-017-9348-7, CC BY)"
PATIENTS = {"patient07": "train", "patient19": "train", "patient26": "test"}


def of_openms(**roles: str) -> Callable[[Path, Path], Path]:
    """Return a function that writes the manifest of the brains of `LESJAK`.

    Args:
        roles: name of a column to the contrast in its files.
    """

    def manifest(data: Path, work: Path) -> Path:
        base = folder_of(data, "translate-mr-openms")
        rows = [
            [patient, side, *[base / patient / f"{patient}_{one}.nii.gz" for one in roles.values()]]
            for patient, side in PATIENTS.items()
        ]
        return write_manifest(work, ["subject", "split", *roles], rows)

    return manifest


def brains(data: Path, work: Path) -> Path:
    """Write the manifest of T1 volumes of five heads, of which two are for testing."""
    base = folder_of(data, "translate-mr-openms")
    rows: list[list[object]] = [
        [patient, side, base / patient / f"{patient}_t1.nii.gz"] for patient, side in PATIENTS.items()
    ]
    heads = folder_of(data, "recon-mr-volumes")
    rows.append(["studyforrest02", "train", heads / "datalad02" / "datalad02_t1_7t.nii.gz"])
    rows.append(["vs-seg-001", "test", heads / "vsseg001" / "vsseg001_t1c.nii.gz"])
    return write_manifest(work, ["subject", "split", "image"], rows)


def ct_slices(data: Path, work: Path) -> Path:
    """Write the manifest of CT slices of four patients, of which one is for testing."""
    base = folder_of(data, "denoise-ct-hu")
    rows = [
        [one["patient"], "test" if one["patient"] == "chaos34350" else "train", base / one["image"]]
        for one in table_of(base)
    ]
    return write_manifest(work, ["subject", "split", "image"], rows)


def retinas(data: Path, work: Path) -> Path:
    """Write the manifest of fundus photographs, of which those of four children are for testing."""
    base = folder_of(data, "segment-retina-chasedb1")
    rows = [[one["subject"], one["split"], base / "images" / f"{one['name']}.jpg"] for one in table_of(base)]
    return write_manifest(work, ["subject", "split", "image"], rows)


def heads(data: Path, work: Path) -> Path:
    """Write the manifest of the head CT pictures of MedNIST; every picture counts as a subject."""
    base = folder_of(data, "classify-mednist")
    found = [one for one in table_of(base) if one["class"] == "HeadCT"]
    rows = [[Path(one["image"]).stem, one["split"], base / one["image"], one["class"]] for one in found]
    return write_manifest(work, ["subject", "split", "image", "label"], rows)


MR = {"size": (96, 96), "phase": 1.0}
RESTORED = ("psnr[0,1]", "ssim[0,1]", "nmse[norm ratio]", "data-consistency residual", "sharpness error")

PAGES = {
    page.slug: page
    for page in (
        Page(
            "reconstruction-mr",
            "Undersampled MR of real brains",
            [
                "T1 volumes of five heads at 96²: a 7 T head of studyforrest (PDDL) and patients 07 and 19 of "
                f"{LESJAK} for training; patient 26 of the latter, and a head with contrast agent and skull "
                "(VS-SEG-001 of TCIA, CC BY), for testing. K-space is simulated from the magnitudes with a smooth "
                "phase, one coil, no noise. Rows differ in what they sample, so that only methods of one row can "
                "be compared.",
                "Two test subjects: other heads may well differ.",
            ],
            brains,
            (
                Row("lines, 10 %", "csmri-refinement", {**MR, "fraction": 0.1}),
                Row("lines, 20 %", "csmri-refinement", {**MR, "fraction": 0.2}),
                Row("lines, 30 %", "csmri-refinement", {**MR, "fraction": 0.3}),
                Row("lines, 50 %", "csmri-refinement", {**MR, "fraction": 0.5}),
                Row("radial, 10 %", "refinegan", {**MR, "fraction": 0.1}),
                Row("radial, 30 %", "refinegan", {**MR, "fraction": 0.3}),
                Row("Gaussian lines, 30 %", "dagan", {**MR, "fraction": 0.3}),
                Row("power-law lines, 30 %", "gancs", {**MR, "fraction": 0.3}),
            ),
            RESTORED,
        ),
        Page(
            "translation-ms",
            "Translation of T1 to T2 on real brains",
            [
                f"Axial slices at 64² of {LESJAK}: trained on patients 07 and 19, tested on patient 26. CycleGAN "
                "draws T1 and T2 slices independently; all are scored on the true pairs. One test patient: the "
                "result does not generalise to others.",
            ],
            of_openms(t1="t1", t2="t2"),
            (
                Row("pairs", "pix2pix", {"rounds": 600}),
                Row("no pairs", "cyclegan", {"rounds": 1500}),
            ),
            ("psnr[window]", "ssim[window]", "mae[window]", "contrast", "sharpness error", "spectrum distance"),
        ),
        Page(
            "super-resolution",
            "Super-resolution of real brains and retinas",
            [
                f"T1 slices of {LESJAK}, 164 × 180 at 1 mm: trained on patients 07 and 19, tested on patient 26. "
                "Low-resolution images are simulated: a Gaussian blur of SD 1 pixel, then cubic resampling. One "
                "test patient: the result does not generalise to others.",
            ],
            of_openms(image="t1"),
            (
                Row("×2", "srgan", {"factor": 2}),
                Row("×4", "srgan", {"factor": 4}),
            ),
            ("psnr[window]", "ssim[window]", "mae[window]", "sharpness error", "spectrum distance"),
        ),
        Page(
            "super-resolution-retina",
            "Super-resolution of real retinas",
            [
                "CHASE_DB1 (Fraz et al., 2012, CC BY), 960 × 999 photographs of both eyes of 14 children: trained "
                "on ten, tested on four.",
            ],
            retinas,
            (Row("×4", "saliency-srgan", {"factor": 4}),),
            ("psnr[window]", "ssim[window]", "mae[window]", "sharpness error", "spectrum distance"),
        ),
        Page(
            "denoise-ct-hu",
            "Low-dose CT of real patients",
            [
                "Four patients from four scanners, 76 axial slices of 512² in HU: LIDC-IDRI-0314 (chest), an "
                "Aliza GE head, the TotalSegmentator example (chest and abdomen), and patient 34350 of CHAOS "
                "(abdomen with contrast). Trained on the first three, tested on the CHAOS patient. The low-dose "
                "partner is simulated at a quarter of the dose. One test patient: the result does not generalise "
                "to others.",
            ],
            ct_slices,
            (
                Row(
                    "soft tissue",
                    "wgan-vgg",
                    {"intercept": -1024.0, "window": (-300.0, 500.0), "scale": 10.0, "content_weight": 1.0},
                ),
            ),
            ("psnr[-160,240]", "ssim[-160,240]", "rmse", "noise sd error", "nps distance", "sharpness error"),
        ),
        Page(
            "segmentation-ms",
            "Segmentation of multiple-sclerosis lesions",
            [
                f"The four sequences of {LESJAK} at 1 mm: trained on patients 07 and 19, tested on patient 26 (8.2 "
                "ml of lesions). One test patient: the result does not generalise to others.",
            ],
            of_openms(flair="flair", t1="t1", t1c="t1c", t2="t2", lesions="lesions"),
            (
                Row(
                    "lesions",
                    "segan",
                    {"labels": "lesions", "regions": {"lesion": (1,)}, "centred": 0.5, "rounds": 1000},
                ),
            ),
            ("dice", "sensitivity", "precision", "hd95", "surface distance", "volume error"),
        ),
        Page(
            "anomaly",
            "Anomaly detection: multiple sclerosis on FLAIR",
            [
                f"FLAIR of {LESJAK}: trained on the slices without lesions of patients 07 and 19, tested on all "
                "slices of patient 26. These are not the data of the papers. Two patients are not a healthy "
                "population, and with one test patient the result does not generalise to others.",
            ],
            of_openms(image="flair", mask="lesions"),
            (
                Row("FLAIR", "caae", against=()),
                Row("FLAIR", "anovaegan", against=()),
                Row("FLAIR", "anogan", against=()),
            ),
            ("pixel auc", "image auc", "best dice", "dice"),
        ),
        Page(
            "synthesis-real",
            "Synthesis of head CT pictures",
            [
                "198 head CT slices of MedNIST (class HeadCT; 64² JPEG brought to 32², 8 bit) for training, 49 "
                "for testing. The data have no patient identifiers, so slices of one patient may be in training "
                "and test. *real* is the best value that a generator can be expected to reach, *noise* is "
                "smoothed noise with the mean and spread of the training images.",
            ],
            heads,
            (
                Row(
                    "32²", "dcgan", {"classes": ("HeadCT",), "size": (32, 32), "image.channels": 1}, ("wgan-gp", "pgan")
                ),
            ),
            ("kernel distance", "frechet distance", "sliced wasserstein", "coverage", "copies"),
        ),
        *SEGMENTATION,
        *CLASSIFICATION,
        *LANDMARKS,
    )
}
"""Name of each page to its definition."""
