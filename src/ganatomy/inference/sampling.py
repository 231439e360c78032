"""Sampling of a trained run to files, in physical units, with a list of the samples and a note on their origin."""

from __future__ import annotations

import csv
import json
import shutil
import struct
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import tifffile

from ganatomy import phantoms
from ganatomy.case import Openable, Prediction, Role, label_of
from ganatomy.errors import UserError, shortage
from ganatomy.game import Method
from ganatomy.images.atomic import locked, make_folder
from ganatomy.images.codecs import Window
from ganatomy.images.image import Image
from ganatomy.images.paths import neighbour, safe_name
from ganatomy.inference.model import WEIGHTS, Model, Which
from ganatomy.inference.predictor import Predictor, decoding_role, predictor_class, predictor_of

Format = Literal["png", "tiff", "nifti", "npy"]
SUFFIXES: dict[Format, str] = {"png": ".png", "tiff": ".tif", "nifti": ".nii.gz", "npy": ".npy"}

LIST, NOTE = "samples.csv", "synthetic.json"
BYTES = (0.0, 255.0)
"""Ends of the window of 8-bit images."""
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"


@dataclass(frozen=True)
class SampleFiles:
    """The files of one sample.

    Attributes:
        seed: seed of the sample, on which alone it depends.
        facts: facts of the prediction, such as the label.
        files: role to file name.
    """

    seed: int
    facts: Mapping[str, Any]
    files: Mapping[str, str]

    @property
    def label(self) -> str:
        """Class label of the sample; empty without labels."""
        return str(self.facts.get("label") or "")


def sampling_ability(method: Method, ability: str | None = None, given: Collection[str] = ()) -> str:
    """Return the name of the ability that samples from noise, or from noise and conditions such as poses.

    Args:
        method: method, trained or not.
        ability: name given by the user; None means the first ability that needs nothing else.
        given: roles that are given as conditions.

    Raises:
        UserError: the ability does not exist, needs something else, or takes no such conditions.
    """
    predictors = {
        name: predictor_of(method, ability=name) for name in ((ability,) if ability else method.task.predictors)
    }
    for name, predictor in predictors.items():
        if set(predictor.inputs) == set(given) and not _on_grid(method, predictor.inputs):
            return name
    needed = next(iter(predictors.values())).inputs
    if needed and not _on_grid(method, needed):
        lacking = " ".join(f"{name}=FILE" for name in needed)
        raise UserError(f"{method.task.name} are sampled for a {' and a '.join(needed)}: give --given {lacking}")
    if given and not needed:
        raise UserError(f"--given {', '.join(given)}: this system samples from noise alone; leave --given out")
    raise UserError(
        f"{method.task.name} makes nothing from noise: it needs {', '.join(needed)}; give images to `ganatomy apply`"
    )


def _on_grid(method: Method, roles: Collection[str]) -> bool:
    """Whether any role is an image or another kind on a grid, which `ganatomy apply` takes."""
    known = method.task.roles
    return any(name not in known or known[name].on_grid for name in roles)


def conditions_of(method: Method) -> tuple[str, ...]:
    """Return the roles that samples of a method are made for, such as poses; empty where noise is enough."""
    for name in method.task.predictors:
        inputs = predictor_of(method, ability=name).inputs
        if not _on_grid(method, inputs):
            return inputs
    return ()


def opened_conditions(texts: Sequence[str], method: Method) -> dict[str, Any]:
    """Read the conditions of samples, such as poses, from files.

    Args:
        texts: ``NAME=FILE`` for every condition.
        method: method, trained or not.

    Raises:
        UserError: a text has no equals sign, a name is no condition or is given twice, or a file cannot be read.
    """
    known, roles = conditions_of(method), method.task.roles
    found: dict[str, Any] = {}
    for text in texts:
        name, mark, file = text.partition("=")
        if not known:
            raise UserError(f"--given {text}: this system samples from noise alone; leave --given out")
        if not mark or not file:
            raise UserError(f"--given {text}: give NAME=FILE, such as {known[0]}={known[0]}.csv")
        if name not in known:
            raise UserError(f"--given {text}: there is no {name!r} to give; there is {', '.join(known)}")
        if name in found:
            raise UserError(f"--given {text}: {name} is given twice")

        def unreadable(path: Path, text: str = text) -> Openable:
            raise UserError(f"--given {text}: {path} cannot be read as this")

        value = roles[name].source(file, Path(), unreadable).open()
        roles[name].check(value)
        found[name] = value
    return found


def write_samples(
    model: Model,
    out: Path,
    count: int,
    *,
    seed: int = 0,
    given: Mapping[str, Any] | None = None,
    ability: str | None = None,
    options: Mapping[str, Any] | None = None,
    which: Which = "best",
    format: Format | None = None,
    overwrite: bool = False,
    advance: Callable[[], None] = lambda: None,
) -> list[Path]:
    """Write samples of a run with ``samples.csv`` and ``synthetic.json``; either all files appear, or none.

    A sample depends on its own seed alone. With ``overwrite``, all files of an earlier call are removed, so that the
    list names every synthetic file. By default, 8-bit images and small label maps become PNG, other images NIfTI, and
    everything else has the format of its role. HU are rounded to integers, other values are real.

    Args:
        model: model loaded from a run folder.
        out: folder, made if necessary.
        count: number of samples, with consecutive seeds.
        seed: seed of the first sample.
        given: role to value of the conditions that samples are made for, such as poses; the same for all samples.
        ability: ability to use; None means the first that needs nothing else.
        options: option of the predictor to value.
        which: weights the model was loaded with, for the note.
        format: format of images; None means the usual one.
        overwrite: whether to replace files of an earlier call.
        advance: called after every sample.

    Returns:
        Paths of the files of all roles.

    Raises:
        UserError: the system needs inputs, an option is unknown, the format cannot hold the values, or files exist.
    """
    if count < 1:
        raise UserError(f"-n {count}: give the number of samples, 1 or more")
    if seed < 0:
        raise UserError(f"--seed {seed}: give 0 or more")
    conditions = given or {}
    name = sampling_ability(model.method, ability, conditions)
    predictor = model.predictor(name, predictor_class(model.method.task, name).Options.of(options or {}))
    condition = predictor.sample_of(conditions)
    first = predictor.predict(condition, seed)
    suffixes = choose_suffixes(first, predictor.outputs, format)
    made: list[SampleFiles] = []
    with _together(out, overwrite) as work:
        _check_place(out, [LIST, NOTE], overwrite)
        for number in range(seed, seed + count):
            prediction = first if number == seed else predictor.predict(condition, number)
            files = _named(number, str(prediction.facts.get("label") or ""), suffixes)
            _check_place(out, list(files.values()), overwrite)
            made.append(SampleFiles(number, prediction.facts, files))
            for role, file in files.items():
                _write(work / file, prediction[role], predictor.outputs[role], _sentence(model, made[-1]))
            advance()
        _write_list(work / LIST, made)
        facts = note(model, which, predictor, made, suffixes, {name: label_of(one) for name, one in conditions.items()})
        text = json.dumps(facts, indent=1, ensure_ascii=False) + "\n"
        (work / NOTE).write_text(text, encoding="utf-8", errors="backslashreplace")  # which JSON reads back
    return [out / file for one in made for file in one.files.values()]


def choose_suffixes(prediction: Prediction, roles: Mapping[str, Role], format: Format | None = None) -> dict[str, str]:
    """Choose the suffix of the files of every role: that of its kind, or that of a format which can hold all images.

    Args:
        prediction: first sample.
        roles: name to role of the outputs.
        format: format of images given by the user; None means the usual one.

    Raises:
        UserError: the format cannot hold an image, or there are no images.
    """
    images = {name: prediction[name] for name, role in roles.items() if role.suffix is None}
    held = {name: formats_of(value, roles[name]) for name, value in images.items()}
    if format and not images:
        kinds = ", ".join(sorted({str(role.suffix) for role in roles.values()}))
        raise UserError(f"--format {format}: this system makes no images; its files are {kinds}")
    for name, formats in held.items():
        if format and format not in formats:
            raise UserError(f"--format {format}: {_why(name, images[name], format)}; choose {_either(formats)}")
    usual = next((one for one in next(iter(held.values()), ()) if all(one in other for other in held.values())), "npy")
    return {name: role.suffix or SUFFIXES[format or usual] for name, role in roles.items()}  # type: ignore[index]


def formats_of(image: Image, role: Role) -> tuple[Format, ...]:
    """Return the formats that can hold an image, the usual one first."""
    small = role.is_label_map and image.shape[0] == 1 and image.channels == 1 and image.dtype == np.uint8
    png: tuple[Format, ...] = ("png",) if small or in_bytes(image, role) else ()
    tiff: tuple[Format, ...] = ("tiff",) if image.channels in (1, 3, 4) else ()
    return (*png, "nifti", *tiff, "npy")


def in_bytes(image: Image, role: Role) -> bool:
    """Whether an image is a single 8-bit slice without a unit."""
    codec = role.codec
    eight = isinstance(codec, Window) and codec.unit is None and (codec.low, codec.high) == BYTES
    return eight and image.shape[0] == 1 and image.channels in (1, 3)


def stored(image: Image, role: Role) -> Image:
    """Convert an image to the values of its file: 8-bit images are rounded and clipped, HU rounded, others kept."""
    if in_bytes(image, role):
        return image.with_array(np.rint(image.numpy()).clip(*BYTES).astype(np.uint8))
    if image.unit == "HU":
        return image.with_array(np.rint(image.numpy()).astype(np.int16))
    return image


def note(
    model: Model,
    which: Which,
    predictor: Predictor,
    made: Sequence[SampleFiles],
    suffixes: Mapping[str, str],
    given: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """Return the note on synthetic data: that they are synthetic, the model, and the meaning of their values."""
    facts, roles = model.facts, predictor.outputs
    system = model.system
    assert facts is not None and system is not None
    made_roles = {name: decoding_role(model.method.task, role) for name, role in roles.items()}
    codecs = {name: role.codec for name, role in made_roles.items() if role.codec is not None}
    return {
        "synthetic": True,
        "what": f"{len(made)} synthetic samples, generated from noise {''.join(f'and a {name} ' for name in given)}by "
        f"the neural network {system.title}",
        **({"given": dict(given)} if given else {}),
        "system": system.slug,
        "title": system.title,
        "citation": system.citation,
        "run": str(model.folder),
        "weights": WEIGHTS[which],
        "identity": model.identity,
        "ganatomy": version("ganatomy"),
        "trained on": str(facts.data.data or f"embedded phantom {phantoms.called(model.method.task.phantom)}"),
        **facts.provenance,
        "seeds": [made[0].seed, made[-1].seed],
        "suffixes": dict(suffixes),
        "options": predictor.options.model_dump(mode="json"),
        "codecs": {name: codec.model_dump(mode="json") for name, codec in codecs.items()},
        **({"resolution": facts.resolution} if facts.resolution else {}),
        "units": {name: codec.unit for name, codec in codecs.items()},
        **_common([one.facts for one in made]),
        "use": "research only, not for diagnosis; may resemble training images",
    }


def _common(facts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Merge the facts of all samples: name to the common value, or to a list of all values that occur."""
    found: dict[str, list[Any]] = {}
    for one in facts:
        for name, value in one.items():
            if value not in found.setdefault(name, []):
                found[name].append(value)
    return {name: values[0] if len(values) == 1 else values for name, values in found.items()}


def _why(name: str, image: Image, format: Format) -> str:
    if format == "png":
        return f"the {name} is in {image.unit or 'real numbers'}, not in 8 bits"
    return f"does not hold the {image.channels} channels of the {name}"


def _either(formats: Sequence[Format]) -> str:
    return " or ".join(part for part in (", ".join(formats[:-1]), formats[-1]) if part)


def _named(seed: int, label: str, suffixes: Mapping[str, str]) -> dict[str, str]:
    stem = "_".join(["synthetic", *([safe_name(label)] if label else []), f"{seed:06d}"])
    several = len(suffixes) > 1
    return {role: (f"{stem}_{safe_name(role)}" if several else stem) + suffix for role, suffix in suffixes.items()}


def _write(path: Path, value: Any, role: Role, sentence: str) -> None:
    if not isinstance(value, Image):
        role.write(path, value)
        return
    role.write(path, stored(value, role))
    _mark(path, f"{sentence}; values in {value.unit}" if value.unit else sentence)


def _check_place(out: Path, names: Sequence[str], overwrite: bool) -> None:
    """Refuse to replace files, unless this is asked for and an earlier call has written them."""
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out}: a file is in the way; give a folder")
    own = _written(out) if overwrite else set()
    for name in names:
        if (out / name).is_dir():
            raise UserError(f"{out / name}: a folder is in the way; choose another --out")
        if (out / name).exists() and not overwrite:
            raise UserError(f"{out / name}: exists already; add --overwrite, or choose another --out")
        if (out / name).exists() and name not in own:
            raise UserError(
                f"{out / name}: {LIST} does not say that ganatomy sample wrote it, and nothing else is ever replaced; "
                "remove it, or choose another --out"
            )


def _written(out: Path) -> set[str]:
    """Names of the files that an earlier call has written to a folder; none where its list or note is missing."""
    try:
        told = json.loads((out / NOTE).read_text(encoding="utf-8"))
        with (out / LIST).open(newline="", encoding="utf-8") as stream:
            listed = {row["file"] for row in csv.DictReader(stream)}
    except (OSError, ValueError, KeyError, csv.Error):
        return set()
    if any(not name or Path(name).name != name for name in listed):  # files elsewhere are never those of a list
        return set()
    return {*listed, LIST, NOTE} if isinstance(told, dict) and "system" in told else set()


@contextmanager
def _together(out: Path, overwrite: bool) -> Iterator[Path]:
    """Provide a temporary folder beside ``out`` whose files are moved there at the end of the context.

    Args:
        out: folder of samples, which belongs to this process meanwhile.
        overwrite: whether all files of an earlier call are removed first.
    """
    work = neighbour(out)
    try:
        make_folder(out.parent)
        with locked(out, out.with_name(f".{out.name[:80]}.lock")):
            work.mkdir()
            yield work
            if out.is_dir():
                for name in _written(out) if overwrite else ():
                    (out / name).unlink(missing_ok=True)
                for file in sorted(work.iterdir()):
                    file.replace(out / file.name)
            else:
                work.replace(out)
    except OSError as error:
        told = f"--out {out}: cannot be written ({error.strerror or error})"
        raise shortage(error, out) or UserError(told) from None
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _write_list(path: Path, made: Sequence[SampleFiles]) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        lines = csv.writer(stream)
        lines.writerow(["file", "label", "seed", "role"])
        for one in made:
            lines.writerows([name, one.label, one.seed, role] for role, name in one.files.items())


def _sentence(model: Model, made: SampleFiles) -> str:
    assert model.facts is not None
    label = f", label {made.label}" if made.label else ""
    return (
        f"synthetic, not of a patient; {model.facts.system} {model.identity}, seed {made.seed}{label}; "
        "research only, not for diagnosis"
    )


def _mark(path: Path, sentence: str) -> None:
    """Write into the metadata of a TIFF or PNG that it is synthetic."""
    if path.suffix == ".tif":
        tifffile.tiffcomment(path, sentence.encode("ascii", "replace"))
    if path.suffix == ".png":
        body = b"Description\0" + sentence.encode("latin-1", "replace")
        chunk = struct.pack(">I", len(body)) + b"tEXt" + body + struct.pack(">I", zlib.crc32(b"tEXt" + body))
        content = path.read_bytes()
        end = len(content) - len(PNG_END)
        path.write_bytes(content[:end] + chunk + content[end:])
