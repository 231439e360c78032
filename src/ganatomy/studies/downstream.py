"""Downstream studies: classifiers and segmenters trained with and without the images of a system, on real images."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ganatomy import catalogue
from ganatomy.case import Sample, slab
from ganatomy.catalogue import System
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
from ganatomy.metrics.statistics import Interval, count
from ganatomy.reports import terminal
from ganatomy.reports.report import Report
from ganatomy.studies.augmentation import (
    INNER,
    STEPS,
    Gain,
    Generate,
    augmentation_gain,
    patient_folds,
)
from ganatomy.studies.classifier_results import SHOWN, classification_results
from ganatomy.studies.drawn import MOST, chosen_slices, drawn_by, drawn_images, drawn_structure, scaled
from ganatomy.studies.plan import RESULTS, StudyFile, open_folder
from ganatomy.studies.segmentation_gain import LabelledImages, SegmentationGain, segmentation_gain, subject_folds
from ganatomy.studies.segmenter_results import segmentation_results
from ganatomy.tasks.synthesis.predictor import image_sampler
from ganatomy.tasks.synthesis.sets import ImageSet, between, real_images
from ganatomy.tasks.synthesis.task import Synthesis
from ganatomy.tasks.translation.task import Translation
from ganatomy.training.arms import with_phantoms
from ganatomy.training.run import without_names
from ganatomy.training.series import check_code, train_once

FOLDS = 3
"""Default number of folds of the subjects."""
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
        gain: results of the classifiers, or of the segmenters.
        arms: name of each arm to its score on real images.
        score: name of that score.
    """

    out: Path
    gain: Gain | SegmentationGain
    arms: Mapping[str, Interval]
    score: str


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
    """Train a system in every fold of the subjects, and others on real images, on its images, and on both.

    Where images have a label map, of which or with which they are made, segmenters are trained (`segmentation_gain`),
    else classifiers (`augmentation_gain`). Neither they nor the system are trained on a subject on which they are
    tested. Called again with the same settings, it uses the systems that are already trained.

    Args:
        system: system that generates images by class or translates images, or its name as for `catalogue.resolve`.
        out: folder of the study: new, empty, or of the same study.
        config: configuration of the method; None means that of ``preset``.
        data: place of the images and their classes; None means built-in phantoms.
        options: options of the training of the system.
        folds: number of folds of the subjects.
        seeds: number of seeds of the classifiers or segmenters.
        steps: number of updates of each of them.
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
        raise UserError(
            f"--folds {folds} --seeds {seeds} --updates {steps}: give at least 2 folds, 1 seed and 1 update"
        )
    method: Method = system.cls.of(config)
    structure = drawn_structure(method.task)
    if structure is None:
        refuse_others(method, system.slug)
    data, pseudonyms = with_phantoms(data or DataConfig(), method.task), Pseudonyms.of_user(secret)
    cases = find_cases(method.task, data)
    if data.test_subjects or data.val_subjects or data.hold_out_site:
        raise UserError(
            "--downstream: every subject is tested once; leave out --test-subjects, --val-subjects and --hold-out-site"
        )
    samples = Store(method.task, data.cache_folder).get_all(cases)[0]
    if structure is None:
        pictures = pictures_of(method, samples)
        check_folds(pictures, folds)
    else:
        drawn = drawn_images(method.task, structure, samples)
        subject_folds(drawn.names, folds)
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
    everybody = {case.subject for case in cases}

    def trained(fold: int, test: Collection[str], choosing: Collection[str]) -> tuple[Model, Collection[str]]:
        """Return the system of a fold, and the subjects on whose images it may be used."""
        sides = {"test_subjects": tuple(sorted(test)), "val_subjects": tuple(sorted(choosing))}
        folder = out / GENERATORS / f"fold{fold}"
        train_once(system, folder, config, data.model_copy(update=sides), options, show, secret)
        return load(folder, "last", options.device, system), everybody - set(test) - set(choosing)

    def advance(what: str) -> None:
        console.print(what, markup=False, highlight=False)

    facts: dict[str, Any] = {
        "study": wanted.model_dump(mode="json"),
        "task": method.task.name,
        "data": labels.place(place(data)),
        "of_unknown_code": [folder.relative_to(out).as_posix() for folder in unknown],
        "versions": versions(),
    }
    if structure is None:
        kinds = list[ImageSet]()

        def learn(fold: int, training: ImageSet, choosing: ImageSet) -> Generate:
            kept = set(training.subjects) | set(choosing.subjects)
            test = {name for name in pictures.real.subjects if name not in kept}
            model, given = trained(fold, test, set(choosing.subjects))
            generate = pictures.making(model, given)
            if not kinds:
                shown = torch.arange(len(pictures.classes)).repeat_interleave(SHOWN)
                kinds.append(ImageSet(generate(shown, 0), shown))
            return generate

        gain = augmentation_gain(
            pictures.real, learn, pictures.classes, folds=folds, seeds=seeds, steps=steps, advance=advance
        )
        found = classification_results(gain, pictures.real, kinds[0], labels, facts)
    else:
        examples = list[LabelledImages]()

        def draw(fold: int, training: Sequence[str], choosing: Sequence[str]) -> LabelledImages:
            test = set(drawn.names) - set(training) - set(choosing)
            model, given = trained(fold, test, choosing)
            examples.append(drawn_by(model, structure, samples, given, len(drawn.of(training))))
            return examples[-1]

        told = segmentation_gain(drawn, draw, folds=folds, seeds=seeds, steps=steps, advance=advance)
        found = segmentation_results(told, structure, drawn, examples[0], labels, facts)
    title = f"{system.title}: do its images help a {found.learner}?"
    page = Report(title, f"{facts['data']}, {count(len(found.values['patients']), 'patient')}")
    with replacing_together(out, RESULTS) as work:
        write_text(work / "results.json", json.dumps(plain(found.values), indent=1) + "\n")
        write_csv(work / "table.csv", found.lines)
        found.compose(page).save(work / "report.html")
    return Downstream(out, gain if structure is None else told, found.arms, found.score)


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


def write_csv(path: Path, lines: Sequence[Sequence[str]]) -> None:
    """Write a table whose first line names its columns."""

    def write(work: Path) -> None:
        with work.open("w", newline="", encoding="utf-8") as stream:
            csv.writer(stream).writerows(lines)

    write_atomically(path, write)
