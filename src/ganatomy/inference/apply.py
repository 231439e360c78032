"""Application of a trained run to files: every output has the format of its input and a note on its origin."""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ganatomy.case import Case, Compared, Prediction
from ganatomy.catalogue import System
from ganatomy.data.pseudonyms import Labels, Pseudonyms
from ganatomy.errors import Shortage, UserError, shortage
from ganatomy.images import mgh, nifti, npy, raster, slides
from ganatomy.images.dicom_out import Derivation, is_own_dicom, write_dicom
from ganatomy.images.dicom_profile import BasicProfile, check_burned_in
from ganatomy.images.dicom_seg import can_refer, write_map, write_segmentation
from ganatomy.images.files import Source, write
from ganatomy.images.image import NO_MEANING, ComputedArray, Image, LazyArray, RasterMeaning
from ganatomy.images.paths import replacing
from ganatomy.images.resampling import on_one_grid
from ganatomy.inference.checks import Comparison
from ganatomy.inference.ensemble import Ensemble
from ganatomy.inference.model import WEIGHTS, Model, Which, load
from ganatomy.inference.predictor import predictor_class
from ganatomy.inference.resolution import resolution
from ganatomy.inference.tiling import rolling
from ganatomy.roles.tables import write_records

Format = Literal["dicom", "nifti", "mha", "nrrd", "mgz", "png", "tiff", "npy"]
Advance = Callable[[int, int], None]
"""Function that is called with the number of slices that are done and the number of all slices."""

SUBJECTS = "subjects.csv"
"""Name of the table of what is computed from all cases of a subject."""
SUFFIXES: dict[Format, tuple[str, ...]] = {
    "nifti": (".nii.gz", *nifti.SUFFIXES),
    "mha": (".mha",),
    "nrrd": (".nrrd",),
    "mgz": mgh.SUFFIXES,
    "png": (".png",),
    "tiff": raster.TIFF_SUFFIXES,
    "npy": npy.SUFFIXES,
    "dicom": ("",),
}
"""Format to the suffixes of its files, the usual one first."""


@dataclass(frozen=True)
class Output:
    """Path and format of an output.

    Attributes:
        path: file, or folder of a DICOM series.
        format: file format.
    """

    path: Path
    format: Format

    @property
    def note(self) -> Path:
        """Path of the JSON note on the origin of the output, beside the file or the folder of a DICOM series."""
        return self.path.with_name(f"{self.path.name}.json")

    def beside(self, mark: str, format: Format | None = None, suffix: str | None = None) -> Output:
        """Return a further output beside this one.

        Args:
            mark: text that is appended to the name; empty appends nothing.
            format: format of the further output; None means that of this one.
            suffix: suffix of the further output, where it is no image.
        """
        ending = next(end for end in SUFFIXES[self.format] if self.path.name.lower().endswith(end))
        stem = self.path.name[: len(self.path.name) - len(ending)]
        if suffix is None:
            suffix = self.path.name[len(stem) :] if format in (None, self.format) else SUFFIXES[format][0]
        return Output(self.path.with_name(f"{stem}{f'-{mark}' if mark else ''}{suffix}"), format or self.format)


def plan(sources: Sequence[Source], out: Path, format: Format | None = None, real: bool = False) -> list[Output]:
    """Decide path and format of the output of every source.

    An ``out`` with the suffix of an image is that file. Otherwise it is a folder: the new series where a single source
    becomes DICOM, else the folder of one file or series per source, with the name of the source.

    Args:
        sources: input images.
        out: path given by the user.
        format: format of all outputs; None means that of each source, or that of the suffix of ``out``.
        real: whether the outputs are real numbers, which PNG cannot hold; TIFF then replaces PNG by default.

    Raises:
        UserError: suffix and format contradict each other, or the format cannot hold the outputs.
    """
    if out.suffix.lower() in (".dcm", ".ima", ".dicom"):
        raise UserError(f"{out}: DICOM output is a folder with one file per slice; leave {out.suffix} away")
    named = _format_of(out)
    if named and format not in (None, named):
        raise UserError(f"{out}: its suffix says {named}, but --format says {format}; give only one of them")
    if named and len(sources) > 1:
        raise UserError(f"{out}: {len(sources)} images do not fit into one file; give a folder")
    if real and "png" in (named, format):
        raise UserError(f"{out}: a PNG holds no real numbers, which maps are; use .tif, .nii.gz or .npy")
    if named:
        return [Output(out, named)]
    kinds = [format or _kind(source) for source in sources]
    kinds = ["tiff" if real and kind == "png" else kind for kind in kinds]
    outputs = [_under(out, source, kind) for source, kind in zip(sources, kinds, strict=True)]
    return [Output(out, "dicom")] if len(outputs) == 1 and outputs[0].format == "dicom" else outputs


def _format_of(path: Path) -> Format | None:
    name = path.name.lower()
    found = (kind for kind, endings in SUFFIXES.items() if kind != "dicom" and name.endswith(endings))
    return next(found, "png" if name.endswith(raster.SUFFIXES) else None)


def _kind(source: Source) -> Format:
    """Return the format of a source; lossy JPEG is replaced by PNG, and raw data by NIfTI."""
    if source.kind in ("dicom", "kspace"):
        return "dicom" if source.kind == "dicom" else "nifti"
    if source.kind == "itk":  # the voxels of some lie in a file beside their header
        return "mha" if source.paths[0].suffix.lower() in (".mha", ".mhd") else "nrrd"
    if source.paths[0].name.lower().endswith(slides.SUFFIXES):
        return "tiff"
    return _format_of(source.paths[0]) or "nifti"


def _under(folder: Path, source: Source, format: Format) -> Output:
    name = source.paths[0].name.lower()
    suffix = next((ending for ending in SUFFIXES[format] if ending and name.endswith(ending)), SUFFIXES[format][0])
    return Output(folder / f"{source.name}{suffix}", format)


@dataclass(frozen=True)
class Grid:
    """The values that integers of a file can represent: ``slope * n + intercept`` for n from ``low`` to ``high``."""

    low: int
    high: int
    slope: float = 1.0
    intercept: float = 0.0

    def nearest(self, values: NDArray[np.float32]) -> tuple[NDArray[np.float64], int]:
        """Round and clip values to those that can be represented; returns them and the number of clipped values."""
        numbers = np.rint((values.astype(np.float64) - self.intercept) / self.slope)
        held = numbers.clip(self.low, self.high)
        return held * self.slope + self.intercept, int(np.count_nonzero(held != numbers))


def grid_of(image: Image, format: Format, meaning: RasterMeaning = NO_MEANING) -> Grid | None:
    """Return the values to which the output of an image is rounded and clipped; None for real numbers.

    Integer images give outputs of the same integer type. In DICOM, HU keep real numbers, for which its writer chooses a
    fine step.
    """
    if format == "dicom" and image.unit == "HU":
        return None
    stored, own = image.header.stored or image.dtype, image.header.meaning
    if image.header.kind != "raster" and format in ("png", "tiff") and meaning.scales:
        stored, own = np.dtype(np.uint16), meaning
    if stored.kind not in "iu":
        return None
    limits = np.iinfo(stored)
    return Grid(int(limits.min), int(limits.max), own.slope, own.intercept)


class Applier:
    """Applies a trained run, or an ensemble of runs, to files.

    Args:
        run: run folder made by ``ganatomy train``.
        which: weights to use, ``best`` on the validation data or ``last``.
        device: device of the networks.
        ability: ability to use; None means the first.
        options: option of the predictor to value.
        ensemble: folders of further runs of the same system, whose images or probabilities are averaged with those of
            ``run``.
        system: system of the run, as in `load`.
        pseudonyms: pseudonyms in the place of identities, so that neither outputs nor notes tell who the patient is;
            None passes identities on.

    Raises:
        UserError: a folder holds no trained run, the ability or an option does not exist, or the runs cannot be
            averaged.
    """

    def __init__(
        self,
        run: Path,
        which: Which = "best",
        device: str = "cpu",
        ability: str | None = None,
        options: Mapping[str, Any] | None = None,
        ensemble: Sequence[Path] = (),
        system: str | System | None = None,
        pseudonyms: Pseudonyms | None = None,
    ):
        self.model = load(run, which, device, system)
        assert self.model.facts is not None and self.model.system is not None
        self.run, self.which, self.facts = run, which, self.model.facts
        self.pseudonyms = pseudonyms
        self.system = self.model.system
        cls = predictor_class(self.model.method.task, ability)
        chosen = cls.Options.of(options or {})
        self.predictor = self.model.predictor(ability, chosen)
        self.models = {run: self.model}
        for folder in ensemble:
            self.models[folder] = self._other(load(folder, which, device, system), folder)
        if ensemble:
            members = {str(folder): model.predictor(ability, chosen) for folder, model in self.models.items()}
            self.predictor = Ensemble(members)

    def _other(self, model: Model, folder: Path) -> Model:
        """Check that a further run is of the same system and has other weights than the runs before it."""
        system = model.facts.system if model.facts else None
        if system != self.facts.system:
            raise UserError(f"--ensemble {folder}: a run of {system}, but {self.run} is one of {self.facts.system}")
        for other, known in self.models.items():
            if model.identity == known.identity:
                raise UserError(f"--ensemble {folder}: has the weights of {other}, so it adds nothing; name others")
        return model

    @property
    def identity(self) -> str:
        """Digest of the weights of all runs."""
        if len(self.models) == 1:
            return self.model.identity
        together = "".join(sorted(model.identity for model in self.models.values()))
        return f"sha256:{hashlib.sha256(together.encode()).hexdigest()}"

    @property
    def real(self) -> bool:
        """Whether the main output is a map of real numbers and no image of the input's kind."""
        return self.predictor.real

    def __call__(
        self,
        sources: Mapping[str, Source],
        output: Output,
        overwrite: bool = False,
        advance: Advance = lambda done, total: None,
        resample_to: str | None = None,
        seed: int = 0,
    ) -> list[str]:
        """Apply the method to one case and write all outputs, with a JSON note on their origin.

        The main output gets the given path, others the name NAME-ROLE beside it. Every file is written atomically, the
        note last.

        Args:
            sources: role to source; images are read, processed and written slab by slab where the method allows it.
            output: path and format of the main output. Integer sources give integers, rounded to their step and
                clipped to the range of their type; others, and outputs in another unit, give float32.
            overwrite: whether to replace an earlier result.
            advance: called with the number of slices that are done and of all slices.
            resample_to: role to whose grid the other roles are resampled.
            seed: seed of random draws, for methods that have any.

        Returns:
            Warnings of the checks of output against input.

        Raises:
            UserError: a source cannot be read or does not fit the model, or an output cannot be written.
        """
        main = next(iter(sources.values()))
        for source in sources.values():
            _check_place(source, output, overwrite, output.note)
        with _memory(main):
            note, warnings = self._apply(sources, main, output, overwrite, advance, resample_to, seed)
        with replacing(output.note) as temporary:
            text = json.dumps(note, indent=1, ensure_ascii=False) + "\n"
            temporary.write_text(text, encoding="utf-8", errors="backslashreplace")  # which JSON reads back
        return warnings

    def _apply(
        self,
        sources: Mapping[str, Source],
        main: Source,
        output: Output,
        overwrite: bool,
        advance: Advance,
        resample_to: str | None,
        seed: int,
    ) -> tuple[dict[str, Any], list[str]]:
        burned_in = self._burned_in(sources.values())
        values = {name: self._rolling(source.open()) for name, source in sources.items()}
        if resample_to:
            values = on_one_grid(values, resample_to, self.model.method.task.label_maps)
        sample = self.predictor.sample_of(values)
        prediction = self.predictor.predict(sample, seed)
        places = self._places(prediction, main, values, output, overwrite)
        tables = self._tables(output)
        for place in tables.values():
            _check_place(main, place, overwrite, output.note)
        written, warnings, checks = {}, [*burned_in, *sample.notes, *prediction.notes], {}
        for name, place in reversed(places.items()):
            value, compared = prediction.outputs[name], prediction.compared.get(name)
            derivation = self._derivation(main, name, prediction)
            if compared is None:
                self._write_plain(name, place, value, derivation)
                continue
            comparison = Comparison(value.unit, compared.windows)
            value = self._checked(compared, value, place, main, comparison, advance)
            _write(place, value, derivation, main.meaning)
            written[name], checks[name] = value, comparison.summary()
            warnings += [f"{name}: {told}" if len(places) > 1 else told for told in comparison.warnings]
        for name in prediction.missing:
            _remove(self._place(name, output, False, _refers(values), main.uneven).path)
        warnings += [told for value in values.values() for told in self._spacing(value)]
        for name, place in tables.items():
            write_records(place.path, prediction.tables[name])
        note = self._note(sources, prediction, {**places, **tables}, written, checks, warnings)
        seen = resolution(self.model.method.task.preparation, [sample])
        return note | ({"resolution": seen} if seen else {}), warnings

    def _burned_in(self, sources: Iterable[Source]) -> list[str]:
        """Return warnings about text in the pixels of what is de-identified, and refuse it where it is certain."""
        if self.pseudonyms is None:
            return []
        paths = dict.fromkeys(path for source in sources if source.kind == "dicom" for path in source.paths)
        return list(check_burned_in(tuple(paths)))

    def _rolling(self, value: Any) -> Any:
        return rolling(value) if isinstance(value, Image) else value

    def place(self, source: Source, output: Output) -> Path:
        """Return the path of the main output, which differs from ``output`` for roles with a format of their own."""
        main = next(iter(self.predictor.outputs))
        refers = output.format == "dicom" and _refers({main: source.open()})
        return self._place(main, output, True, refers, source.uneven).path

    def table(self, folder: Path, source: Source, overwrite: bool) -> Output | None:
        """Return the path of the table of what is computed from all cases of a subject; None where there is none.

        Args:
            folder: folder of the outputs.
            source: a source, which the table must not replace.
            overwrite: whether to replace an earlier table.

        Raises:
            UserError: there is a table already, or something else is in its place.
        """
        if not self.predictor.over_subjects:
            return None
        table = Output(folder / SUBJECTS, "npy")
        _check_place(source, table, overwrite, table.note)
        return table

    def write_subjects(self, table: Output, cases: Sequence[tuple[str, Output]]) -> bool:
        """Write what is computed from all cases of each subject, such as the ejection fraction from its time frames.

        The numbers of the cases are read from their notes.

        Args:
            table: path of the table.
            cases: subject and output of every case that was written.

        Returns:
            Whether there was something to write: subjects of a single case have nothing.
        """
        notes: dict[str, list[Path]] = {}
        for subject, output in cases:
            notes.setdefault(subject, []).append(output.note)
        told = {
            subject: self.predictor.of_subject([json.loads(path.read_text("utf-8"))["tables"] for path in own])
            for subject, own in notes.items()
        }
        rows = [{"subject": subject, **row} for subject, own in told.items() for row in own]
        if not rows:
            return False
        write_records(table.path, rows)
        note = {
            "output": table.path.name,
            "outputs": {},
            "cases": {subject: [path.name for path in notes[subject]] for subject, own in told.items() if own},
            **self._origin(),
            "use": "research only, not for diagnosis",
        }
        with replacing(table.note) as temporary:
            temporary.write_text(json.dumps(note, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return True

    def check_apart(self, sources: Sequence[Source], outputs: Sequence[Output]) -> None:
        """Refuse outputs of which one would replace that of another source, before anything is written.

        Files of equal names in other letters count as one, as on some file systems they are.

        Raises:
            UserError: two sources have an output of the same path; the message names both and the path.
        """
        owners: dict[str, int] = {}
        for number, (source, output) in enumerate(zip(sources, outputs, strict=True)):
            made = [
                self._place(name, output, place == 0, refers, uneven)
                for place, name in enumerate(self.predictor.outputs)
                for refers, uneven in ((True, False), (False, False), (False, True))
            ]
            for path in (*[one.path for one in (*made, *self._tables(output).values())], output.note):
                other = owners.setdefault(str(path.absolute()).casefold(), number)
                if other != number:
                    raise UserError(
                        f"{sources[other].places[0]} and {source.places[0]}: both would be written to {path}; rename "
                        "one of them, or give them different output folders"
                    )

    def _places(
        self,
        prediction: Prediction,
        main: Source,
        values: Mapping[str, Any],
        output: Output,
        overwrite: bool,
    ) -> dict[str, Output]:
        """Return path and format of all outputs: the main one is ``output``, others are beside it."""
        places: dict[str, Output] = {}
        refers = _refers(values)
        for number, (name, value) in enumerate(prediction.outputs.items()):
            uneven = isinstance(value, Image) and value.uneven
            places[name] = self._place(name, output, number == 0, refers, uneven)
            _check_place(main, places[name], overwrite, output.note)
        for name in prediction.missing:
            _check_place(main, self._place(name, output, False, refers, main.uneven), overwrite, output.note)
        return places

    def _tables(self, output: Output) -> dict[str, Output]:
        """Return the paths of the tables that are written as CSV files, by name; they lie beside the main output."""
        return {name: output.beside(name, None, ".csv") for name in self.predictor.tables}

    def _place(self, name: str, output: Output, first: bool, refers: bool, uneven: bool) -> Output:
        """Return path and format of an output.

        Label maps in DICOM are segmentations where these can refer to the files of the source; otherwise they become
        NIfTI, or .npy where the slices are unevenly spaced. Real numbers without a scale, such as probabilities, become
        TIFF beside PNG. Outputs that are no images have the suffix of their role.
        """
        role = self.predictor.outputs[name]
        if role.suffix is not None:
            return output.beside("" if first else name, None, role.suffix)
        if role.is_label_map and output.format == "dicom" and not refers:
            return output.beside("" if first else name, "npy" if uneven else "nifti")
        if role.has_intensities and role.codec is None and output.format == "png" and not first:
            return output.beside(name, "tiff")
        return output if first else output.beside(name)

    def _write_plain(self, name: str, place: Output, value: Any, derivation: Derivation) -> None:
        """Write an output that is not checked against an input; its numbers are written without slope and intercept."""
        role = self.predictor.outputs[name]
        if isinstance(value, Image) and place.format == "dicom" and role.is_label_map:
            _replace(place.path, lambda folder: write_segmentation(folder, value, role.segments, derivation))
        elif isinstance(value, Image) and place.format == "dicom" and can_refer(value, planes=True):
            _replace(place.path, lambda folder: write_map(folder, value, derivation))
        elif isinstance(value, Image) and not role.is_label_map:
            _write(place, _without_meaning(value), derivation)
        else:
            place.path.parent.mkdir(parents=True, exist_ok=True)
            role.write(place.path, _without_meaning(value) if isinstance(value, Image) else value, derivation)

    def _spacing(self, image: Any) -> list[str]:
        if isinstance(image, Image) and image.uneven and self.model.method.dims == 3:
            return ["the slices are unevenly spaced, which a 3D network was not trained on"]
        return []

    def _checked(
        self,
        compared: Compared,
        restored: Image,
        output: Output,
        source: Source,
        comparison: Comparison,
        advance: Advance,
    ) -> Image:
        """Return an output rounded to the values of the file, which is checked against its input while it is read."""
        image, new_contrast = compared.image, compared.windows is not None
        # Integers of the source tell nothing about the scale of another contrast, for which DICOM has a fine step; and
        # in another unit they may be no numbers at all, as whole SUV or CT numbers without a sign.
        other_unit = (restored.unit or "a.u.") != (image.unit or "a.u.")
        real = new_contrast and (other_unit or (output.format == "dicom" and restored.channels == 1))
        grid = None if real else grid_of(image, output.format, source.meaning)
        dtype = image.dtype if grid and image.dtype.kind in "iu" else np.dtype(np.float32)

        def slab(start: int, stop: int) -> NDArray[Any]:
            values, clipped = restored.slab(start, stop), 0
            if not np.isfinite(values).all():
                raise UserError(f"{image.header.label}: the network gives no numbers in slices {start} to {stop - 1}")
            if grid:
                values, clipped = grid.nearest(values)
            values = values.astype(dtype, copy=False)
            comparison.add(_repeated(image, restored.shape, start, stop), values, clipped)
            advance(stop, restored.shape[0])
            return values

        thickness = restored.array.thickness if isinstance(restored.array, LazyArray) else 1
        return restored.with_array(ComputedArray(restored.array.shape, dtype, slab, thickness))

    def _derivation(self, source: Source, name: str, prediction: Prediction) -> Derivation:
        """Return what DICOM files say about the origin of an output."""
        value, compared = prediction.outputs[name], prediction.compared.get(name)
        original = (source.frames[0].description if source.frames else "") or source.name
        profile = None
        if self.pseudonyms is not None:
            original, profile = "", BasicProfile(self.pseudonyms.secret, self.pseudonyms.subject)
        if isinstance(value, Image) and value.header.volume:
            original = f"{original} {value.header.volume}"
        networks = "the neural network" if len(self.models) == 1 else f"the mean of {len(self.models)} neural networks"
        mark = f" [{self.system.slug} {name}]" if len(prediction.outputs) > 1 else f" [{self.system.slug}]"
        window = compared.windows[1] if compared and compared.windows else None
        return Derivation(
            description=(
                f"{self.system.what}, computed from one source image by {networks} {self.system.title} "
                f"({self.system.slug}; {self.system.citation}), trained "
                f"{'against' if self.model.method.adversarial else 'without'} an adversary. Research use only, not "
                "for diagnosis: the network may remove or invent structure."
            ),
            model=self.system.slug,
            identity=self.identity,
            version=version("ganatomy"),
            series_description=(original[: 64 - len(mark)].rstrip() + mark).strip(),
            synthetic=compared is not None and compared.counterfactual,
            new_contrast=window is not None,
            window=(window.low, window.high) if window is not None else None,
            number=1 + list(self.predictor.outputs).index(name),
            profile=profile,
        )

    def _note(
        self,
        sources: Mapping[str, Source],
        prediction: Prediction,
        places: Mapping[str, Output],
        written: Mapping[str, Image],
        checks: Mapping[str, Any],
        warnings: list[str],
    ) -> dict[str, Any]:
        task = self.model.method.task
        main, place = next(iter(places.items()))
        value = written.get(main, prediction.outputs[main])
        facts: dict[str, Any] = {
            "output": place.path.name,
            "outputs": {name: other.path.name for name, other in places.items()},
            "sources": {name: self._called(source) for name, source in sources.items()},
            "source files": sum(len(source.paths) for source in sources.values()),
            **self._origin(),
            "codecs": {role: codec.model_dump(mode="json") for role, codec in task.codecs.items()},
        }
        if isinstance(value, Image):
            facts |= {"unit": value.unit, "type": str(value.dtype)}
        return {
            **facts,
            "checks": next(iter(checks.values()), {}) if len(checks) == 1 else dict(checks),
            **prediction.facts,
            **({"tables": {name: list(rows) for name, rows in prediction.tables.items()}} if prediction.tables else {}),
            "warnings": warnings if self.pseudonyms is None else [_hidden(told, sources) for told in warnings],
            "use": "research only, not for diagnosis",
        }

    def _origin(self) -> dict[str, Any]:
        """Return the system and its weights for a note."""
        return {
            "system": self.system.slug,
            "title": self.system.title,
            "citation": self.system.citation,
            "run": self._folder(self.run),
            "weights": WEIGHTS[self.which],
            "identity": self.identity,
            "ganatomy": version("ganatomy"),
            **self._runs(),
            **self.facts.provenance,
        }

    def _called(self, source: Source) -> str:
        """Return how the note calls a source: by its path, or by a label."""
        if self.pseudonyms is None:
            return str(source.places[0])
        return Labels([_case({"": source})], self.pseudonyms).cases[source.name]

    def _folder(self, run: Path) -> str:
        """Return how the note calls a run; a path may hold the name of a patient."""
        return str(run) if self.pseudonyms is None else run.name

    def _runs(self) -> dict[str, Any]:
        """Return the runs of an ensemble for the note; nothing for a single run."""
        if len(self.models) == 1:
            return {}
        return {
            "ensemble": [
                {
                    "run": self._folder(folder),
                    "identity": model.identity,
                    **(model.facts.provenance if model.facts else {}),
                }
                for folder, model in self.models.items()
            ]
        }


def _case(sources: Mapping[str, Source]) -> Case:
    main = next(iter(sources.values()))
    return Case(main.name, main.subject, "test", sources)


def _hidden(message: str, sources: Mapping[str, Source]) -> str:
    """Return a message without the files and the subjects of all sources."""
    for source in sources.values():
        message = Labels.hidden(message, _case({"": source}))
    return message


@contextmanager
def _memory(source: Source) -> Iterator[None]:
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError):
        raise Shortage(f"{source.places[0]}: not enough memory; free some, or use --device cpu") from None


def _repeated(image: Image, shape: tuple[int, int, int], start: int, stop: int) -> NDArray[Any]:
    """Return slices ``start`` to ``stop`` of an image whose voxels are repeated to the finer grid of the output."""
    deep, *plane = (fine // coarse for fine, coarse in zip(shape, image.shape, strict=True))
    first = start // deep
    values = image.slab(first, -(-stop // deep))
    for axis, times in enumerate((deep, *plane), start=1):
        values = np.repeat(values, times, axis) if times > 1 else values
    return values[:, start - first * deep : stop - first * deep]


def _check_place(source: Source, output: Output, overwrite: bool, note: Path) -> None:
    """Refuse outputs that would harm a source, an earlier result, or anything that an earlier call did not write.

    Args:
        source: source of the output.
        output: output that is about to be written.
        overwrite: whether an earlier result may be replaced.
        note: note of the main output, which lists the files of an earlier result.
    """
    path = output.path.resolve()
    if any(path in (used.resolve(), used.resolve().parent) for used in source.places):
        raise UserError(f"{output.path}: this is where the input lies; choose another output")
    if path.is_dir() and output.format != "dicom":
        raise UserError(f"{output.path}: a folder is in the way; choose another output")
    taken = any(path.iterdir()) if path.is_dir() else path.exists()
    if not (taken or output.note.exists()):
        return
    existing = output.path if taken else output.note
    if not overwrite:
        raise UserError(f"{existing}: exists already; add --overwrite, or choose another output")
    if path.is_dir() and taken:
        strange = [file for file in sorted(path.iterdir()) if not (file.is_file() and is_own_dicom(file))]
        if strange:
            raise UserError(
                f"{output.path}: holds other things than a DICOM series of ganatomy ({strange[0].name}), which are "
                "never replaced; choose another output"
            )
    elif output.path.name not in _written(note):
        raise UserError(
            f"{existing}: ganatomy apply did not write it, or the note {note.name} that would say so is gone; nothing "
            "else is ever replaced: remove it, or choose another output"
        )


def _written(note: Path) -> set[str]:
    """Names of the files that an earlier call wrote beside its note; none where there is no such note."""
    try:
        told = json.loads(note.read_text(encoding="utf-8"))
        return {str(told["output"]), *map(str, told["outputs"].values())}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return set()


def _without_meaning(image: Image) -> Image:
    """Return an image without slope and intercept, so that its numbers are written as they are."""
    return replace(image, header=replace(image.header, meaning=image.header.meaning.geometry))


def _refers(values: Mapping[str, Any]) -> bool:
    """Return whether DICOM segmentations can refer to the files of the first image."""
    return next((can_refer(value) for value in values.values() if isinstance(value, Image)), False)


def _write(output: Output, image: Image, derivation: Derivation, meaning: RasterMeaning = NO_MEANING) -> None:
    if output.format == "dicom":
        _replace(output.path, lambda folder: write_dicom(folder, image, derivation))
        return
    own = meaning if meaning.scales and image.header.kind != "raster" else None
    write(output.path, image, derivation=derivation, meaning=own)


def _replace(path: Path, write: Callable[[Path], None]) -> None:
    """Write a folder, which takes the place of an earlier one only when it is complete."""
    if not path.exists():
        write(path)
        return
    beside = path.with_name(f".{path.name[:80]}.{secrets.token_hex(4)}")
    fresh, old = beside.with_suffix(".new"), beside.with_suffix(".old")
    try:
        write(fresh)
        path.replace(old)
        fresh.replace(path)
    except OSError as error:
        told = f"{path}: cannot be replaced ({error.strerror})"
        raise shortage(error, path) or UserError(told) from None
    finally:
        if old.exists() and not path.exists():
            old.replace(path)
        for remains in (fresh, old):
            shutil.rmtree(remains, ignore_errors=True)


def _remove(path: Path) -> None:
    """Remove an earlier result, which is a file or the folder of a DICOM series."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def select(sources: Iterable[Source], out: Path, within: Path) -> list[Source]:
    """Leave out sources inside of ``out``, which are results of an earlier call, where it is in the searched folder."""
    place = out.resolve()
    if within.resolve() not in place.parents:
        return list(sources)
    return [source for source in sources if place not in source.places[0].resolve().parents]


def check_meaning(sources: Iterable[Source], outputs: Iterable[Output]) -> None:
    """Refuse a slope or an intercept that would have no effect.

    Raises:
        UserError: the header of a source states the meaning of its values; the message names the first such source.
    """
    for source, output in zip(sources, outputs, strict=True):
        stated = source.kind not in ("raster", "npy", "kspace")
        if source.meaning.scales and stated and output.format not in ("png", "tiff"):
            raise UserError(
                f"{source.places[0]}: --slope and --intercept say what pictures and .npy files mean; "
                f"this file says that itself"
            )
