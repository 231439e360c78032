"""Outputs of all entries as files beside a report, with the images that they are compared with."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from ganatomy.case import Sample
from ganatomy.errors import UserError
from ganatomy.evaluation.judging import Judge, Judgement
from ganatomy.images.files import write
from ganatomy.images.image import Header, Image
from ganatomy.inference.resolution import source_image

IMAGES = "images"
"""Folder of the kept images within an evaluation."""
UNSAFE = re.compile(r"[^\w.+-]+")
"""Characters of names that do not belong into file names."""


def check_keeping(judge: Judge) -> None:
    """Refuse to keep the images of a kind of task whose outputs are no images of cases.

    Raises:
        UserError: the judge keeps no images.
    """
    if not judge.keeps_images:
        raise UserError(
            f"--keep-images: the outputs of {judge.task.name} are no images of single cases; leave the option away "
            "(`ganatomy sample` and `ganatomy apply` write what such runs make)"
        )


def keep_images(judge: Judge, judgement: Judgement, folder: Path) -> None:
    """Write the images of all entries on the working grid, on which they were scored, a folder for each case.

    Pictures of one slice become PNG where their values are whole numbers, else TIFF; all others become NIfTI.

    Args:
        judge: judge of the task.
        judgement: judged cases and their entries.
        folder: folder to make.

    Raises:
        UserError: a file cannot be written.
        Shortage: the disk is full.
    """
    folders = file_names(case.case.name for case in judgement.cases)
    for case in judgement.cases:
        place = folder / folders[case.case.name]
        place.mkdir(parents=True)
        images = judge.images(judgement.entries, case)
        called = file_names(images)
        for name, image in images.items():
            suffix = _suffix(image, case)
            write(place / f"{called[name]}{suffix}", image)


def file_names(names: Iterable[str]) -> Mapping[str, str]:
    """Return names that are safe as file names, each once on any disk; names that would be equal get numbers."""
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        plain = safe = UNSAFE.sub("-", name).strip("-.")[:100] or "unnamed"
        number = 1
        while safe.casefold() in taken:
            number += 1
            safe = f"{plain}-{number}"
        taken.add(safe.casefold())
        found[name] = safe
    return found


def as_source(image: Image, case: Sample) -> Image:
    """Return an image whose values are those of the source's kind: whole numbers where a picture holds such.

    Values beyond the ends of the picture's numbers become these ends, as in any picture.

    Args:
        image: image on the working grid, in the unit of the source.
        case: case whose source decides.
    """
    source = source_image(case)
    stored = source.header.stored if source and _is_picture(source) else None
    if source is None or stored is None or stored.kind not in "iu":
        return image
    meaning, ends = source.header.meaning, np.iinfo(stored)
    steps = np.rint((image.numpy().astype(np.float64) - meaning.intercept) / meaning.slope).clip(ends.min, ends.max)
    values = steps * meaning.slope + meaning.intercept if meaning.scales else steps.astype(stored)
    header = Header(kind="raster", meaning=meaning, stored=stored, colours=image.channels == 3)
    return replace(image, array=values, header=header)


def _is_picture(image: Image) -> bool:
    return image.header.kind == "raster" and image.shape[0] == 1


def _suffix(image: Image, case: Sample) -> str:
    source = source_image(case)
    if source is None or not _is_picture(source) or image.channels not in (1, 3, 4) or image.shape[0] != 1:
        return ".nii.gz"
    return ".png" if image.dtype.kind in "iub" or image.header.stored is not None else ".tif"
