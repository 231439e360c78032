"""Visual Turing tests: forms on which readers classify images as real or synthetic, and scores of their answers."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from ganatomy.case import Sample
from ganatomy.data.pseudonyms import Labels, Pseudonyms
from ganatomy.data.store import Store
from ganatomy.errors import UserError
from ganatomy.evaluation.choosing import choose_cases, place, run_facts, users_pseudonyms
from ganatomy.images.image import Image
from ganatomy.images.paths import replacing_folder
from ganatomy.images.raster import write_png
from ganatomy.inference.model import WEIGHTS, Model, Which
from ganatomy.metrics.classification import (
    TuringTest,
    cohen_kappa,
    fleiss_kappa,
    trials_for_equivalence,
    turing_test,
)
from ganatomy.metrics.detection import Proportion, auc
from ganatomy.metrics.display import gaussian, perona_malik
from ganatomy.reader_studies.turing_form import form
from ganatomy.tasks.synthesis.pictures import tile, windows
from ganatomy.tasks.synthesis.predictor import image_sampler
from ganatomy.tasks.synthesis.sets import ImageSet, between, planes, real_images
from ganatomy.tasks.synthesis.task import Synthesis

Filter = Literal["none", "gaussian", "perona-malik"]
FILTERS: Mapping[str, tuple[Callable[..., NDArray[np.float32]], Mapping[str, float]]] = {
    "gaussian": (gaussian, {"sigma": 0.7}),
    "perona-malik": (perona_malik, {"iterations": 5, "kappa": 0.1, "step": 0.2}),
}
"""Name to a filter of images in [0, 1], and its parameters."""

REPEATED = 0.1
"""Share of the images that a rater sees twice, the second time much later."""
LEVEL = 0.05
"""Significance level of the tests."""
KEY, FORMS, IMAGES = "key.json", "raters", "images"

REAL, SYNTHETIC = "real", "synthetic"
Answer = Literal["real", "synthetic"]
COLUMNS = ("set", "rater", "trial", "image", "answer", "confidence", "milliseconds")


@dataclass(frozen=True)
class Answers:
    """Answers of one rater.

    Attributes:
        rater: name of the rater.
        first: image to whether it was called real when it was shown first.
        again: image to whether it was called real when it was shown again, for images shown twice.
        confidence: image to the confidence of the first answer, 1 to 5.
        seconds: median time per answer, in seconds.
    """

    rater: str
    first: Mapping[str, bool]
    again: Mapping[str, bool]
    confidence: Mapping[str, int]
    seconds: float


@dataclass(frozen=True)
class RaterScore:
    """Scores of one rater.

    Attributes:
        rater: name of the rater.
        test: test of the first answers against the truth.
        area: area under the ROC curve of the confidence that an image is real; 0.5 is chance.
        steady: proportion of the images shown twice that got the same answer both times.
        seconds: median time per answer, in seconds.
    """

    rater: str
    test: TuringTest
    area: float
    steady: Proportion
    seconds: float


@dataclass(frozen=True)
class Scoring:
    """Scores of all raters of one set of images.

    Attributes:
        raters: scores of each rater; they are not pooled, since all raters see the same images.
        kappa: agreement beyond chance, Cohen's for two raters and Fleiss's for more; None for a single rater.
        key: content of the key file.
    """

    raters: Sequence[RaterScore]
    kappa: float | None
    key: Mapping[str, Any]


def build_test(
    model: Model,
    out: Path,
    images: int = 100,
    filter: Filter = "none",
    seed: int = 0,
    raters: int = 1,
    which: Which = "best",
    secret: Path | None = None,
) -> list[Path]:
    """Write a form for each rater, the images, and the key; when writing fails, nothing is left behind.

    Half of the images are real and come from the run's test subjects. The others are generated, with the labels of the
    real ones where the system generates images by label. All are prepared alike: clipped to the window, filtered, and
    saved as PNG with 8 bits.

    Args:
        model: model of a system that generates images from noise, loaded from its run.
        out: output folder, which must not exist or must be empty.
        images: number of images, real and generated together.
        filter: filter that is applied to all images.
        seed: seed for the choice of images; their names and orders are drawn anew whenever a set is built.
        raters: number of forms, each with an order of its own.
        which: weights with which the model was loaded; they are noted in the key.
        secret: file with the secret that was used in training, by which test subjects are recognised; None means the
            user's own.

    Returns:
        Paths of the forms.

    Raises:
        UserError: the system generates no images from noise, there are too few real images, or ``out`` is not empty.
    """
    if images < 2 or images % 2:
        raise UserError(f"--images {images}: give an even number of at least 2; half of them are real")
    if raters < 1 or seed < 0:
        raise UserError(f"--raters {raters}, --seed {seed}: give at least one rater, and a seed of 0 or more")
    real, generated = _both_kinds(model, images // 2, seed, secret)
    task = model.method.task
    pictures = [*_pictures(real, task, filter), *_pictures(generated, task, filter)]
    sources = [*real.subjects, *(f"seed {number}" for number in _seeds(images // 2, seed))]
    # Names and orders come from the operating system and from no seed: whoever knows the set's seed could compute them,
    # and with them which images are real. Names are given, and files written, in an order that tells nothing either.
    shuffled = list(range(images))
    secrets.SystemRandom().shuffle(shuffled)
    # Names begin with a letter, since spreadsheets take some hexadecimal names for numbers.
    names = {place: f"i{secrets.token_hex(6)}" for place in shuffled}
    with replacing_folder(out) as work:
        encoded = {name: _png(work / IMAGES / f"{name}.png", pictures[place]) for place, name in names.items()}
        for name in encoded:
            os.utime(work / IMAGES / f"{name}.png", (0, 0))
        truth = {name: {"real": place < images // 2, "source": sources[place]} for place, name in names.items()}
        orders = {
            f"rater-{number + 1}": running_order(sorted(truth), secrets.randbits(128)) for number in range(raters)
        }
        key = {**_facts(model, which, filter, seed, encoded), "images": dict(sorted(truth.items())), "raters": orders}
        (work / FORMS).mkdir()
        for rater, order in orders.items():
            text = form(key["set"], rater, order, encoded)
            (work / FORMS / f"{rater}.html").write_text(text, encoding="utf-8")
        (work / KEY).write_text(json.dumps(key, indent=1) + "\n", encoding="utf-8")
    return [out / FORMS / f"{rater}.html" for rater in orders]


def running_order(names: Sequence[str], seed: int) -> list[str]:
    """Return a random order of the images in which some of the first third occur once more in the last third.

    Args:
        names: names of the images; a share of `REPEATED` of them is repeated.
        seed: seed of the order.
    """
    rng = np.random.default_rng(seed)
    order: list[str] = rng.permutation(sorted(names)).tolist()
    third = len(order) // 3
    again = rng.permutation(order[:third])[: round(REPEATED * len(order))]
    for name in again.tolist():
        order.insert(int(rng.integers(len(names) - third, len(order) + 1)), name)
    return order


def score_answers(folder: Path, files: Sequence[Path]) -> Scoring:
    """Score the raters' answers against the key.

    Args:
        folder: folder made by `build_test`.
        files: files saved by the forms, one per rater.

    Raises:
        UserError: the folder has no key, or a file does not hold a rater's complete answers to this set.
    """
    if not files:
        raise UserError(f"{folder}: no answers; name the files that the forms saved after the folder")
    key = read_key(folder)
    given = [read_answers(path, key) for path in files]
    names = [answers.rater for answers in given]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"{twice}: the answers of this rater were given twice; give each form's answers once")
    truth = {name: bool(facts["real"]) for name, facts in key["images"].items()}
    return Scoring([_scored(answers, truth) for answers in given], _agreement(given), key)


def verdict(test: TuringTest, margin: float = 0.1) -> str:
    """Return the verdict on a rater's answers in sentences.

    Args:
        test: test of the rater's answers.
        margin: equivalence margin: largest distance of the accuracy from 0.5 that still counts as guessing.
    """
    right, apart = test.accuracy, test.p < LEVEL
    alike = test.indistinguishable(margin, LEVEL)
    facts = f"{_share(right)} right, p = {test.p:.2g}"
    near = f"within {100 * margin:.0f} points of guessing (two one-sided tests)"
    if apart and right.value > 0.5:
        said = f"Tells real from generated images: {facts}" + (f", though shown to be {near}." if alike else ".")
    elif apart:
        said = f"Tells the images apart, but takes real ones for generated ones and vice versa: {facts}."
    elif alike:
        said = f"Shown to be {near}: {facts}."
    else:
        said = (
            f"Undecided: {facts}. That no difference was found is no evidence of realism; to show that the accuracy is "
            f"{near} takes about {trials_for_equivalence(margin, LEVEL)} images."
        )
    return (
        f"{said} Called real: {_share(test.fooled)} of the generated images, to be compared with "
        f"{_share(test.recognised)} of the real ones."
    )


def read_key(folder: Path) -> dict[str, Any]:
    """Read the key of a set of images.

    Raises:
        UserError: the file is missing or damaged.
    """
    path = folder / KEY
    try:
        key = json.loads(path.read_text(encoding="utf-8"))
        if not (key["set"] and {bool(facts["real"]) for facts in key["images"].values()} and dict(key["raters"])):
            raise ValueError
        return dict(key)
    except FileNotFoundError:
        raise UserError(f"{folder}: no {KEY} here; give the folder that `ganatomy turing build --out` made") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: damaged ({type(error).__name__}); restore it") from None


def read_answers(path: Path, key: Mapping[str, Any]) -> Answers:
    """Read the answers that a form saved, as CSV or JSON.

    Raises:
        UserError: the file cannot be read, belongs to another set, or lacks answers in the order of the form.
    """
    rows = _rows(path)
    if not rows or {row["set"] for row in rows} != {key["set"]}:
        raise UserError(
            f"{path}: no answers to this set of images ({key['set']}); give the files that its own forms saved"
        )
    rater = rows[0]["rater"]
    asked = key["raters"].get(rater)
    if asked is None or {row["rater"] for row in rows} != {rater}:
        raise UserError(
            f"{path}: answers of rater {rater!r}, who has no form; the raters are {', '.join(key['raters'])}"
        )
    if [row["image"] for row in rows] != asked:
        raise UserError(
            f"{path}: {len(rows)} answers, not the {len(asked)} of the form of {rater} in its order; let the rater "
            "finish the form, and give the file as it was saved"
        )
    first: dict[str, bool] = {}
    again: dict[str, bool] = {}
    sure: dict[str, int] = {}
    times = []
    for number, row in enumerate(rows, start=1):
        answer, confidence, time = _answer(path, number, row)
        (again if row["image"] in first else first)[row["image"]] = answer == REAL
        sure.setdefault(row["image"], confidence)
        times.append(time)
    return Answers(rater, first, again, sure, float(np.median(times)) / 1000)


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        found = json.loads(text) if path.suffix.lower() == ".json" else list(csv.DictReader(text.splitlines()))
        return [{name: str(row[name]) for name in COLUMNS} for row in found]
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (ValueError, KeyError, TypeError, csv.Error):
        raise UserError(
            f"{path}: holds no answers that a form saved as CSV or JSON; give the file as it was saved"
        ) from None


def _answer(path: Path, number: int, row: Mapping[str, str]) -> tuple[str, int, float]:
    try:
        answer, confidence, time = row["answer"], int(row["confidence"]), float(row["milliseconds"])
    except ValueError:
        answer, confidence, time = "", 0, math.nan
    if answer not in get_args(Answer) or not 1 <= confidence <= 5 or not time >= 0:
        raise UserError(
            f"{path}: answer {number} is not real or synthetic with a confidence of 1 to 5 and a time; give the file "
            "as it was saved"
        )
    return answer, confidence, time


def _scored(answers: Answers, truth: Mapping[str, bool]) -> RaterScore:
    names = sorted(answers.first)
    is_real, says_real = [truth[name] for name in names], [answers.first[name] for name in names]
    sureness = [(1 if answers.first[name] else -1) * answers.confidence[name] for name in names]
    same = sum(answers.first[name] == said for name, said in answers.again.items())
    return RaterScore(
        answers.rater,
        turing_test(is_real, says_real),
        auc(np.array(sureness, np.float64), np.array(is_real)),
        Proportion(same, len(answers.again)),
        answers.seconds,
    )


def _agreement(given: Sequence[Answers]) -> float | None:
    if len(given) < 2:
        return None
    names = sorted(given[0].first)
    called = np.array([[int(answers.first[name]) for name in names] for answers in given])
    if len(given) == 2:
        return cohen_kappa(*called)
    real = called.sum(axis=0)
    return fleiss_kappa(np.stack([real, len(given) - real], axis=1))


def _share(part: Proportion) -> str:
    low, high = part.interval
    return f"{100 * part.value:.0f} % ({100 * low:.0f} to {100 * high:.0f})"


def _seeds(count: int, seed: int) -> range:
    return range(seed * count, (seed + 1) * count)


def _both_kinds(model: Model, count: int, seed: int, secret: Path | None) -> tuple[ImageSet, ImageSet]:
    """Return ``count`` real images of test subjects and as many generated ones.

    Raises:
        UserError: the run has fewer real test images.
    """
    predictor = image_sampler(model)
    real = real_images(predictor.task, _held_out(model, secret), count, seed)
    if len(real) < count:
        raise UserError(
            f"--images {2 * count}: half of them are real, but the run has {len(real)} for testing; give at most "
            f"{2 * len(real)}, or train with more --test-subjects"
        )
    labels = real.labels if predictor.labelled else None
    made = predictor.images(_seeds(count, seed), labels)
    return real, ImageSet(between(made, predictor.task), labels)


def _held_out(model: Model, secret: Path | None) -> list[Sample]:
    """Return the prepared test cases of the run, under their pseudonyms."""
    task, facts = model.method.task, run_facts(model)
    pseudonyms = users_pseudonyms(secret)
    cases = choose_cases(task, facts, None, pseudonyms).cases
    labels = Labels(cases, pseudonyms or Pseudonyms.passing())
    prepared, problems = Store(task, facts.data.cache_folder).get_all(cases)
    if not prepared:
        raise UserError(f"no test case can be used: {problems[0][1]}")
    return [labels.sample(sample) for sample in prepared]


def _pictures(kind: ImageSet, task: Synthesis, filter: Filter) -> list[NDArray[np.uint8]]:
    """Return the images as raters see them: 8 bits, (channels, 1, rows, columns)."""
    values = (planes(kind.images) + 1) / 2
    if filter != "none":
        smooth, numbers = FILTERS[filter]
        values = smooth(values, **numbers).clip(0, 1)
    tiles = [tile(torch.from_numpy(2 * value - 1), task) for value in values]
    in_bytes = [np.rint(255 * one).astype(np.uint8) for one in tiles]
    return [np.moveaxis(one, -1, 0)[:, None] if one.ndim == 3 else one[None, None] for one in in_bytes]


def _png(path: Path, picture: NDArray[np.uint8]) -> bytes:
    write_png(path, Image.from_array(picture))
    return path.read_bytes()


def _facts(model: Model, which: Which, filter: Filter, seed: int, encoded: Mapping[str, bytes]) -> dict[str, Any]:
    """Return the facts that the key holds about the set: system, weights, data, filter, seed."""
    digest = hashlib.sha256(b"".join(chain.from_iterable((name.encode(), png) for name, png in encoded.items())))
    return {
        "set": f"s{digest.hexdigest()[:12]}",
        "system": run_facts(model).system,
        "run": str(model.folder),
        "weights": WEIGHTS[which],
        "identity": model.identity,
        "data": place(run_facts(model).data),
        "shown": f"{windows(model.method.task)}, 8 bits",
        "filter": {"name": filter, **(FILTERS[filter][1] if filter != "none" else {})},
        "seed": seed,
    }
