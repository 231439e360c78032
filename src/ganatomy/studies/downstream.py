"""Downstream studies: train classifiers with and without the images of a system, and test them on real images."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.figure import Figure

from ganatomy import catalogue
from ganatomy.case import Sample, slab
from ganatomy.catalogue import System
from ganatomy.data.batches import usable
from ganatomy.data.cases import DataConfig, find_cases
from ganatomy.data.pseudonyms import Labels, Pseudonyms
from ganatomy.data.store import Store
from ganatomy.errors import UserError
from ganatomy.evaluation.choosing import place
from ganatomy.evaluation.evaluate import plain, versions
from ganatomy.game import Method, MethodConfig
from ganatomy.images.atomic import replacing_together, write_atomically, write_text
from ganatomy.inference.model import Model, load
from ganatomy.inference.predictor import decoding_role
from ganatomy.inference.runfile import TrainConfig
from ganatomy.metrics.statistics import Interval, count, crossed_interval
from ganatomy.reports import terminal
from ganatomy.reports.report import Cell, Column, Report
from ganatomy.reports.style import STYLE, new_figure
from ganatomy.reports.style import plain as literal
from ganatomy.studies.augmentation import (
    CONTROLS,
    INNER,
    ONLY,
    REAL,
    STEPS,
    SYNTHETIC,
    Gain,
    Generate,
    augmentation_gain,
    patient_folds,
)
from ganatomy.studies.plan import RESULTS, StudyFile, open_folder
from ganatomy.tasks.synthesis.predictor import image_sampler
from ganatomy.tasks.synthesis.sets import ImageSet, between, planes, real_images
from ganatomy.tasks.synthesis.task import Synthesis
from ganatomy.tasks.translation.task import Translation
from ganatomy.training.arms import unknown_code, with_phantoms
from ganatomy.training.run import without_names
from ganatomy.training.series import check_code, train_once

MOST = 5000
"""Largest number of images that are used."""
FOLDS = 3
"""Default number of folds of the subjects."""
SHOWN = 6
"""Number of images of each class in the report."""
GENERATORS = Path("arms") / "generator"
"""Folder of the trained systems, one for each fold."""

Making = Callable[[Model, Collection[str]], Generate]
"""Function from a trained system, and the subjects whose images it may be given, to a sampler of labelled images."""


@dataclass(frozen=True)
class Pictures:
    """Real images with classes, and the function that generates more with a trained system.

    Attributes:
        real: real images, each with one label.
        classes: names of the labels.
        making: function from a trained system to a sampler.
    """

    real: ImageSet
    classes: tuple[str, ...]
    making: Making


@dataclass(frozen=True)
class Downstream:
    """Results of a downstream study.

    Attributes:
        out: folder with study.yaml, results.json, table.csv, report.html and the trained systems in ``arms``.
        gain: results of the classifiers.
    """

    out: Path
    gain: Gain


def downstream(
    system: str | System,
    out: Path,
    config: MethodConfig | None = None,
    data: DataConfig | None = None,
    options: TrainConfig | None = None,
    *,
    folds: int = FOLDS,
    seeds: int = 3,
    steps: int = STEPS,
    preset: str = "paper",
    secret: Path | None = None,
    show: bool = False,
    retrain: bool = False,
) -> Downstream:
    """Train a system in every fold of the subjects, and classifiers on real images, on its images, and on both.

    The protocol is that of `augmentation_gain`: neither system nor classifiers are trained on a subject on which they
    are tested. Called again with the same settings, it uses the systems that are already trained.

    Args:
        system: system that generates images by class or translates images, or its name as for `catalogue.resolve`.
        out: folder of the study: new, empty, or of the same study.
        config: configuration of the method; None means that of ``preset``.
        data: place of the images and their classes; None means built-in phantoms.
        options: options of the training of the system.
        folds: number of folds of the subjects.
        seeds: number of seeds of the classifiers.
        steps: number of updates of each classifier.
        preset: name of the preset.
        secret: file with the secret from which pseudonyms of subjects are made; None means the user's own.
        show: print progress on the terminal.
        retrain: train again what has been trained by other code than the present one, or by code that is not known;
            the old runs are kept beside the new ones.

    Raises:
        UserError: the system generates no images by class, images have no classes, there are too few subjects, the
            folder holds another study, or runs of other code without ``retrain``, or as for `train`.
        Stopped: a signal asked to stop; the same call continues.
    """
    system, options = catalogue.resolve(system), options or TrainConfig()
    config = config or system.cls.Config.preset(preset)
    if folds < 2 or seeds < 1 or steps < 1:
        raise UserError(f"--folds {folds} --seeds {seeds} --steps {steps}: give at least 2 folds, 1 seed and 1 step")
    method: Method = system.cls.of(config)
    refuse_others(method, system.slug)
    data, pseudonyms = with_phantoms(data or DataConfig(), method.task), Pseudonyms.of_user(secret)
    cases = find_cases(method.task, data)
    if data.test_subjects or data.val_subjects or data.hold_out_site:
        raise UserError(
            "--downstream: every subject is tested once; leave out --test-subjects, --val-subjects and --hold-out-site"
        )
    samples = Store(method.task, data.cache_folder).get_all(cases)[0]
    pictures = pictures_of(method, samples)
    check_folds(pictures, folds)
    wanted = StudyFile(
        kind="downstream",
        system=system.slug,
        config=config.model_dump(mode="json"),
        preset=preset,
        data=without_names(data, cases, pseudonyms),
        training=options,
        folds=folds,
        seeds=seeds,
        steps=steps,
        secret=pseudonyms.fingerprint,
    )
    open_folder(out, wanted)
    console, labels = terminal.console(show), Labels(cases, pseudonyms)
    folders = {out / GENERATORS / f"fold{fold}": method for fold in range(folds)}
    unknown = check_code(folders, data, lambda told: console.print(told, markup=False), retrain=retrain)
    everybody, examples = {case.subject for case in cases}, list[ImageSet]()

    def learn(fold: int, training: ImageSet, choosing: ImageSet) -> Generate:
        kept = set(training.subjects) | set(choosing.subjects)
        test = {name for name in pictures.real.subjects if name not in kept}
        sides = {"test_subjects": tuple(sorted(test)), "val_subjects": tuple(sorted(set(choosing.subjects)))}
        folder = out / GENERATORS / f"fold{fold}"
        train_once(system, folder, config, data.model_copy(update=sides), options, show, secret)
        model = load(folder, "last", options.device, system)
        generate = pictures.making(model, everybody - test - set(choosing.subjects))
        if not examples:
            shown = torch.arange(len(pictures.classes)).repeat_interleave(SHOWN)
            examples.append(ImageSet(generate(shown, 0), shown))
        return generate

    gain = augmentation_gain(
        pictures.real,
        learn,
        pictures.classes,
        folds=folds,
        seeds=seeds,
        steps=steps,
        advance=lambda what: console.print(what, markup=False, highlight=False),
    )
    patients = [labels.subjects[name] for name in gain.patients]
    results = {
        "study": wanted.model_dump(mode="json"),
        "task": method.task.name,
        "data": labels.place(place(data)),
        "headline": gain.words,
        "outcome": gain.outcome,
        "alone": gain.alone,
        "dropped": gain.dropped,
        "classes": pictures.classes,
        "images": len(pictures.real),
        "patients": patients,
        "amounts": gain.amounts,
        "arms": {
            name: {
                "accuracy": asdict(accuracy(gain, name)),
                "accuracies": arm.accuracies,
                "sensitivities": dict(zip(pictures.classes, arm.sensitivities, strict=True)),
                "correct": dict(zip(patients, arm.correct.T.tolist(), strict=True)),
            }
            for name, arm in gain.arms.items()
        },
        "of_unknown_code": [folder.relative_to(out).as_posix() for folder in unknown],
        "mcnemar": {name: asdict(test) for name, test in gain.tests.items()},
        "versions": versions(),
    }
    page = Report(
        f"{system.title}: do its images help a classifier?", f"{results['data']}, {count(len(patients), 'patient')}"
    )
    with replacing_together(out, RESULTS) as work:
        write_text(work / "results.json", json.dumps(plain(results), indent=1) + "\n")
        write_table(work / "table.csv", gain)
        compose(page, gain, pictures, examples[0], results).save(work / "report.html")
    return Downstream(out, gain)


def refuse_others(method: Method, slug: str) -> None:
    """Check that a classifier can be trained on the images of a system.

    Raises:
        UserError: the system generates no images, no images by class, or volumes.
    """
    task = method.task
    if isinstance(task, Translation):
        return
    if not isinstance(task, Synthesis):
        raise UserError(
            f"--downstream: {slug} does {task.name}; take a system that samples images by class or translates"
        )
    if not getattr(method, "labelled", False):
        raise UserError(f"--downstream: {slug} makes no images by class; give --classes, or take a system that does")
    if len(task.size) == 3:
        raise UserError("--downstream: classifiers work on 2D images and not on volumes; give --size ROWS COLUMNS")


def pictures_of(method: Method, samples: Sequence[Sample]) -> Pictures:
    """Return the real images that a system imitates, with the function that generates others.

    Args:
        method: untrained method of the system.
        samples: prepared samples of all cases.

    Raises:
        UserError: there are no classes, or images have several sizes.
    """
    task = method.task
    if isinstance(task, Synthesis):
        return Pictures(real_images(task, samples, MOST), task.classes, sampled)
    assert isinstance(task, Translation)
    known = [sample for sample in samples if sample.case.label is not None]
    classes = tuple(sorted({str(one.case.label) for one in known if task.output in one.arrays}))
    if len(classes) < 2:
        raise UserError(
            f"--downstream: {task.output} images have no two classes that a classifier could tell apart; give a "
            "manifest with a column label"
        )
    if task.config.fit == "patches":
        raise UserError("--downstream: a classifier needs images of one size; give --fit contain or --fit cover")
    real = translation_images(task, [one for one in known if task.output in one.arrays], task.output, classes)
    return Pictures(real, classes, translated(task, known, classes))


def check_folds(pictures: Pictures, folds: int) -> None:
    """Check that there are enough subjects for the folds, before anything is trained.

    Raises:
        UserError: a class has too few subjects; the message names it.
    """
    parts = patient_folds(pictures.real, folds)
    for part in parts:
        rest = np.sort(np.concatenate([other for other in parts if other is not part]))
        patient_folds(pictures.real.take(rest), INNER)


def sampled(model: Model, given: Collection[str]) -> Generate:
    """Return a sampler of images from noise by class, with different images for different seeds."""
    predictor = image_sampler(model)

    def generate(labels: torch.Tensor, seed: int) -> torch.Tensor:
        first = seed * MOST
        return between(predictor.images(range(first, first + len(labels)), labels), predictor.task)

    return generate


def translated(task: Translation, samples: Sequence[Sample], classes: Sequence[str]) -> Making:
    """Return a function that translates the source images of given subjects; images keep the class of their source.

    Args:
        task: task of the untrained method.
        samples: samples with classes.
        classes: classes of the real images.
    """

    def making(model: Model, given: Collection[str]) -> Generate:
        predictor, images, labels = model.predictor(), list[torch.Tensor](), list[int]()
        for sample in samples:
            if sample.case.subject not in given or task.input not in sample.arrays or sample.case.label not in classes:
                continue
            role = decoding_role(predictor.task, predictor.outputs[task.output], sample)
            made = slab(predictor.predict(sample).arrays[task.output], 0, sample.shape[0])
            picked = chosen_slices(predictor.task, sample)
            images.append(scaled(role.encoded(made), role.codec)[picked])
            labels += [classes.index(sample.case.label)] * len(picked)
        known = np.array(labels)
        if missing := [name for number, name in enumerate(classes) if number not in known]:
            raise UserError(f"--downstream: no {task.input} image of {missing[0]} is left to be translated")
        pool = torch.cat(images)

        def generate(wanted: torch.Tensor, seed: int) -> torch.Tensor:
            rng = np.random.default_rng(seed)
            return pool[[int(rng.choice(np.flatnonzero(known == label))) for label in wanted.tolist()]]

        return generate

    return making


def translation_images(task: Translation, samples: Sequence[Sample], name: str, classes: Sequence[str]) -> ImageSet:
    """Return the usable slices of a role with their classes, at most `MOST`, evenly spread.

    Args:
        task: task of the samples.
        samples: samples with this role.
        name: name of the role.
        classes: classes of the samples.
    """
    images, labels, subjects = [], [], list[str]()
    for sample in samples:
        picked = chosen_slices(task, sample)
        role = sample.role(name)
        images.append(scaled(role.encoded(slab(sample.arrays[name], 0, sample.shape[0])), role.codec)[picked])
        labels += [classes.index(str(sample.case.label))] * len(picked)
        subjects += [sample.case.subject] * len(picked)
    found = ImageSet(torch.cat(images), torch.tensor(labels), tuple(subjects))
    if len(found) <= MOST:
        return found
    return found.take(np.linspace(0, len(found) - 1, MOST).astype(np.intp))


def chosen_slices(task: Translation, sample: Sample) -> list[int]:
    """Return the numbers of a sample's slices on which a system would be trained."""
    return [at for piece in usable(task, [sample]) for at in range(piece.start, piece.stop)]


def scaled(encoded: Any, codec: Any) -> torch.Tensor:
    """Convert slices (channels, n, rows, columns) in a codec's range to images (n, channels, ...) in [-1, 1]."""
    low, high = getattr(codec, "to", (-1.0, 1.0))
    images = torch.from_numpy(np.ascontiguousarray(np.moveaxis(np.asarray(encoded, np.float32), 1, 0)))
    return (2 * (images - low) / (high - low) - 1).clamp(-1, 1)


def accuracy(gain: Gain, name: str) -> Interval:
    """Return an arm's share of correctly classified patients, with its interval over patients and seeds."""
    return crossed_interval(gain.arms[name].correct.astype(np.float64))


def difference(gain: Gain, name: str) -> Interval:
    """Return the difference in accuracy of `SYNTHETIC` minus another arm, with its interval."""
    both = [gain.arms[one].correct.astype(np.float64) for one in (SYNTHETIC, name)]
    return crossed_interval(both[0] - both[1])


def write_table(path: Path, gain: Gain) -> None:
    """Write table.csv with a line for every arm."""
    columns = ("arm", "accuracy", "low", "high", "patients", "synthetic_gains", "gain_low", "gain_high", "mcnemar_p")

    def write(work: Path) -> None:
        with work.open("w", newline="", encoding="utf-8") as stream:
            lines = csv.writer(stream)
            lines.writerow(columns)
            for name in gain.arms:
                told, against = accuracy(gain, name), difference(gain, name)
                limits = [f"{value:.6g}" for value in (told.mean, told.low, told.high)]
                more = [f"{value:.6g}" for value in (against.mean, against.low, against.high)]
                p = f"{gain.tests[name].exact_p:.3g}" if name in gain.tests else ""
                lines.writerow([name, *limits, told.n, *(more if name != SYNTHETIC else ["", "", ""]), p])

    write_atomically(path, write)


def compose(page: Report, gain: Gain, pictures: Pictures, examples: ImageSet, facts: dict[str, Any]) -> Report:
    """Add all sections to the report page of a downstream study.

    Args:
        page: empty page.
        gain: results of the classifiers.
        pictures: real images.
        examples: generated images, equally many of each class.
        facts: facts of the study, as in ``results.json``.
    """
    page.headline(gain.words, gain.outcome).text(gain.alone)
    page.section("Pictures")
    for name, images in (("real", pictures.real), ("generated", examples)):
        page.figure(class_strip(images, pictures.classes), f"{name.capitalize()} images, a row for each class.")
    page.section("The arms")
    columns = [
        Column("arm"),
        Column("right", better="higher", digits=3),
        Column("real + synthetic beats it by", digits=3),
        Column("McNemar p"),
        *[Column(f"sensitivity for {name}", digits=2) for name in pictures.classes],
    ]
    rows: list[list[Cell]] = [
        [
            name,
            accuracy(gain, name),
            None if name == SYNTHETIC else difference(gain, name),
            f"{gain.tests[name].exact_p:.2g}" if name in gain.tests else None,
            *arm.sensitivities,
        ]
        for name, arm in gain.arms.items()
    ]
    page.table(
        rows, columns, caption="Share of correctly classified patients, with 95 % intervals over patients and seeds."
    )
    study = facts["study"]
    page.measured(
        {
            "Verdict": f"better where exact McNemar tests on the same patients are significant against each of "
            f"{', '.join(CONTROLS)}, worse where one of these is better",
            "Classifiers": f"{study['steps']} updates in every arm, {count(study['seeds'], 'seed')}; all arms but "
            f"{REAL} and {ONLY} use classic augmentation",
            "Folds": f"{study['folds']} of the patients; systems and classifiers are trained on the others",
            "Synthetic images per real one": ", ".join(f"{amount:g}" for amount in gain.amounts)
            + ", chosen in each fold on patients that are neither trained on nor tested on",
            "Versions": ", ".join(f"{name} {number}" for name, number in facts["versions"].items()),
        }
    )
    points = [unknown_code(facts["of_unknown_code"])] if facts["of_unknown_code"] else []
    return page.caveats([*points, "A classifier of another kind, or with more real images, may gain more or less."])


@rc_context(STYLE)
def class_strip(images: ImageSet, classes: Sequence[str]) -> Figure:
    """Draw a few images of every class, a row for each class.

    Args:
        images: images with labels.
        classes: names of the labels.
    """
    assert images.labels is not None
    figure = new_figure(1.1 * SHOWN, 1.15 * len(classes))
    axes = figure.subplots(len(classes), SHOWN, squeeze=False)
    for row, name in enumerate(classes):
        own = np.flatnonzero(images.labels.numpy() == row)
        shown = own[np.linspace(0, len(own) - 1, min(SHOWN, len(own))).astype(int)] if len(own) else own
        for column, axis in enumerate(axes[row]):
            axis.axis("off")
            if column < len(shown):
                picture = planes(images.images[[int(shown[column])]])[0]
                colours = np.moveaxis(picture, 0, -1) if len(picture) == 3 else picture[0]
                axis.imshow((colours + 1) / 2, cmap="gray", vmin=0, vmax=1)
        axes[row][0].set_title(literal(name))
    return figure
