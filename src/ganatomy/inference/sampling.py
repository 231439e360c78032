"""A trained synthesiser to files: synthetic images in physical units, a list of them, and a note on what they are."""

from __future__ import annotations

import csv
import json
import secrets
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from math import isfinite
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tifffile
from numpy.typing import NDArray

from ganatomy import catalogue
from ganatomy.errors import UserError
from ganatomy.images.files import write
from ganatomy.images.image import Image
from ganatomy.images.paths import safe_name
from ganatomy.inference.model import WEIGHTS, Model, Which, identity
from ganatomy.tasks.synthesis.task import Synthesis, Synthesiser

Format = Literal["png", "tiff", "nifti", "npy"]
SUFFIXES: dict[Format, str] = {"png": ".png", "tiff": ".tif", "nifti": ".nii.gz", "npy": ".npy"}

LIST, NOTE = "samples.csv", "synthetic.json"
BYTES = (0.0, 255.0)
"""Window of 8-bit pictures."""
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"


@dataclass(frozen=True)
class Sample:
    """A synthetic image: its number's seed, its label if it has one, and its file per role."""

    seed: int
    label: str | None
    files: dict[str, str]


def write_samples(
    model: Model,
    out: Path,
    count: int,
    *,
    seed: int = 0,
    label: str | None = None,
    truncation: float = 1.0,
    which: Which = "best",
    format: Format | None = None,
    overwrite: bool = False,
    advance: Callable[[], None] = lambda: None,
) -> list[Path]:
    """Write synthetic images, ``samples.csv`` and ``synthetic.json``; all of them appear, or none.

    The image of a seed is the same whatever the number of images. Pictures of 8 bits become PNG unless told otherwise,
    everything else NIfTI; HU are rounded to whole numbers, other values stay real.

    Args:
        model: loaded from a run folder.
        out: folder, made if necessary.
        count: images, of consecutive seeds.
        seed: of the first.
        label: of all of them; none means all labels in turn, where the system knows labels.
        truncation: below 1, more typical and less varied.
        which: weights the model was loaded with, for the note.
        format: of the files.
        overwrite: replace files that exist.
        advance: called after every image.

    Returns:
        The image files.

    Raises:
        UserError: no synthesiser, no such label, a format that cannot hold the values, or files in the way.
    """
    if count < 1:
        raise UserError(f"-n {count}: give the number of images, 1 or more")
    if seed < 0:
        raise UserError(f"--seed {seed}: give 0 or more")
    if not (isfinite(truncation) and truncation >= 0):
        raise UserError(f"--truncation {truncation}: give 0 or more; 1 changes nothing")
    model.check_label(label)
    task = model.method.task
    assert isinstance(task, Synthesis)
    chosen = format or ("png" if all(in_bytes(task, role) for role in task.roles) else "nifti")
    check_format(task, chosen)
    samples = [_named(model, number, label, chosen) for number in range(seed, seed + count)]
    names = [name for sample in samples for name in sample.files.values()]
    _check_place(out, [*names, LIST, NOTE], overwrite)
    facts = note(model, which, samples, truncation, chosen)
    with _together(out) as work:
        for sample in samples:
            made = model.sample([sample.seed], sample.label, truncation)
            for role, name in sample.files.items():
                image = stored(made[role][0], task, role)
                write(work / name, image)
                _mark(work / name, _sentence(facts, sample, image.unit))
            advance()
        _write_list(work / LIST, samples)
        (work / NOTE).write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return [out / name for name in names]


def in_bytes(task: Synthesis, role: str) -> bool:
    """Whether a role is a picture of 8 bits without a unit."""
    codec: Any = task.codecs[role]
    flat = len(task.size) == 2
    return flat and codec.unit is None and (codec.low, codec.high) == BYTES and task.channels.get(role, 1) in (1, 3)


def check_format(task: Synthesis, format: Format) -> None:
    """Refuse a format that cannot hold what is made.

    Raises:
        UserError: naming what can.
    """
    for role in task.roles:
        channels, codec = task.channels.get(role, 1), task.codecs[role]
        if format == "png" and not in_bytes(task, role):
            values = codec.unit or "real numbers"
            raise UserError(f"--format png: the {role} is in {values}, not in 8 bits; choose nifti, tiff or npy")
        if format == "tiff" and channels not in (1, 3, 4):
            raise UserError(f"--format tiff: does not hold the {channels} channels of the {role}; choose nifti or npy")


def stored(values: NDArray[np.float32], task: Synthesis, role: str) -> Image:
    """A sample (channels, [slices,] rows, columns) as an image in the numbers of its file.

    Bytes for 8-bit pictures, cut off at their ends; whole HU; else float32. Pixels are 1 mm wide, as nobody knows.
    """
    volume = values if values.ndim == 4 else values[:, None]
    if in_bytes(task, role):
        return Image.from_array(np.rint(volume).clip(*BYTES).astype(np.uint8))
    unit = task.codecs[role].unit
    return Image.from_array(np.rint(volume).astype(np.int16) if unit == "HU" else volume, unit=unit)


def note(model: Model, which: Which, samples: Sequence[Sample], truncation: float, format: Format) -> dict[str, Any]:
    """What must go with synthetic images: that they are synthetic, what made them, and what their values mean."""
    task, facts = model.method.task, model.facts
    assert isinstance(task, Synthesis) and model.folder is not None
    system = catalogue.find(facts["system"])
    return {
        "synthetic": True,
        "what": f"{len(samples)} images of nobody, made from noise by the neural network {system.title}",
        "system": system.slug,
        "run": str(model.folder),
        "weights": WEIGHTS[which],
        "identity": identity(model.folder / WEIGHTS[which]),
        "ganatomy": version("ganatomy"),
        "trained on": str((facts.get("data") or {}).get("data") or f"embedded phantom {task.phantom}"),
        **facts.get("provenance", {}),
        "seeds": [samples[0].seed, samples[-1].seed],
        "truncation": truncation,
        "labels": sorted({sample.label for sample in samples if sample.label}),
        "format": format,
        "codecs": {role: codec.model_dump(mode="json") for role, codec in task.codecs.items()},
        "units": {role: task.codecs[role].unit for role in task.roles},
        "pixel size": "unknown; 1 mm is written where a file must name one",
        "use": "research only, not for diagnosis; may resemble training images",
    }


def _named(model: Model, seed: int, label: str | None, format: Format) -> Sample:
    method = model.method
    assert isinstance(method, Synthesiser)
    task = method.task
    own = label or (task.classes[seed % len(task.classes)] if method.labelled else None)
    stem = "_".join(["synthetic", *([safe_name(own)] if own else []), f"{seed:06d}"])
    several = len(task.roles) > 1
    files = {role: f"{stem}_{safe_name(role)}" if several else stem for role in task.roles}
    return Sample(seed, own, {role: name + SUFFIXES[format] for role, name in files.items()})


def _check_place(out: Path, names: Sequence[str], overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: a file is in the way; give a folder")
    for name in names:
        if (out / name).is_dir():
            raise UserError(f"{out / name}: a folder is in the way; choose another --out")
        if (out / name).exists() and not overwrite:
            raise UserError(f"{out / name}: exists already; add --overwrite, or choose another --out")


@contextmanager
def _together(out: Path) -> Iterator[Path]:
    """A folder beside ``out`` to write to, whose files go there once all are written."""
    work = out.with_name(f".{out.name[:80]}.{secrets.token_hex(4)}.part")
    try:
        work.mkdir(parents=True)
        yield work
        if out.is_dir():
            for file in sorted(work.iterdir()):
                file.replace(out / file.name)
        else:
            work.replace(out)
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written ({error.strerror or error})") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _write_list(path: Path, samples: Sequence[Sample]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        lines = csv.writer(stream)
        lines.writerow(["file", "label", "seed", "role"])
        for sample in samples:
            lines.writerows([name, sample.label or "", sample.seed, role] for role, name in sample.files.items())


def _sentence(facts: dict[str, Any], sample: Sample, unit: str | None) -> str:
    label = f", label {sample.label}" if sample.label else ""
    values = f"; values in {unit}" if unit else ""
    return (
        f"synthetic image, of nobody; {facts['system']} {facts['identity']}, seed {sample.seed}{label}{values}; "
        "research only, not for diagnosis"
    )


def _mark(path: Path, sentence: str) -> None:
    """Say inside of a picture that it is synthetic, where its format has a place for it."""
    if path.suffix == ".tif":
        tifffile.tiffcomment(path, sentence.encode("ascii", "replace"))
    if path.suffix == ".png":
        body = b"Description\0" + sentence.encode("latin-1", "replace")
        chunk = struct.pack(">I", len(body)) + b"tEXt" + body + struct.pack(">I", zlib.crc32(b"tEXt" + body))
        content = path.read_bytes()
        end = len(content) - len(PNG_END)
        path.write_bytes(content[:end] + chunk + content[end:])
