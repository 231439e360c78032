"""Visual Turing tests: forms on which people say which images are real, and what their answers mean."""

from __future__ import annotations

import csv
import hashlib
import json
import math
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
"""What all images, in [0, 1], are shown through, and its numbers."""

REPEATED = 0.1
"""Share of the images shown to a rater twice, the second time much later."""
LEVEL = 0.05
"""Of the tests."""
KEY, FORMS, IMAGES = "key.json", "raters", "images"

REAL, SYNTHETIC = "real", "synthetic"
Answer = Literal["real", "synthetic"]
COLUMNS = ("set", "rater", "trial", "image", "answer", "confidence", "milliseconds")


@dataclass(frozen=True)
class Answers:
    """What a rater said.

    Attributes:
        rater: name.
        first: image to whether it was called real when it was first seen.
        again: the same of the images seen twice, the second time.
        confidence: of the first answers, 1 to 5.
        seconds: median time for an answer.
    """

    rater: str
    first: Mapping[str, bool]
    again: Mapping[str, bool]
    confidence: Mapping[str, int]
    seconds: float


@dataclass(frozen=True)
class RaterScore:
    """How a rater did.

    Attributes:
        rater: name.
        test: first answers against the truth.
        area: under the ROC curve of the confidence in an image being real; one half where it tells nothing.
        steady: images seen twice that were called the same both times.
        seconds: median time for an answer.
    """

    rater: str
    test: TuringTest
    area: float
    steady: Proportion
    seconds: float


@dataclass(frozen=True)
class Scoring:
    """All raters of one set of images.

    Attributes:
        raters: one by one; their answers are about the same images and are not pooled.
        kappa: agreement beyond chance, Cohen's of two and Fleiss's of more; none of a single rater.
        key: the facts of the set.
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
    """Write a form per rater, the images, and the key; all of them appear, or none.

    Half of the images are real ones of the run's test subjects, the others are generated, with the labels of the real
    ones where the system makes images by label. All go the same way: cut off at the window, filtered, 8 bits, PNG.

    Args:
        model: of a system that makes images from noise, loaded from its run.
        out: folder, which must not exist or be empty.
        images: how many, real and generated together.
        filter: what all images are shown through.
        seed: of the choice of images, their names, and each rater's order.
        raters: number of forms, each with an order of its own.
        which: weights the model was loaded with, for the key.
        secret: file with the secret of the user who trained, by which test subjects are recognised; None means the
            user's own.

    Returns:
        The forms.

    Raises:
        UserError: a system that makes no images from noise, fewer real images than asked for, or a folder in the way.
    """
    if images < 2 or images % 2:
        raise UserError(f"--images {images}: give an even number, for half of them are real")
    if raters < 1 or seed < 0:
        raise UserError(f"--raters {raters}, --seed {seed}: give at least one rater, and a seed of 0 or more")
    real, generated = _both_kinds(model, images // 2, seed, secret)
    task = model.method.task
    pictures = [*_pictures(real, task, filter), *_pictures(generated, task, filter)]
    sources = [*real.subjects, *(f"seed {number}" for number in _seeds(images // 2, seed))]
    rng = np.random.default_rng([seed, images])
    # A letter first, or spreadsheets take some names for numbers.
    names = [f"i{rng.bytes(6).hex()}" for _ in pictures]
    with replacing_folder(out) as work:
        encoded = {
            name: _png(work / IMAGES / f"{name}.png", picture) for name, picture in zip(names, pictures, strict=True)
        }
        truth = {
            name: {"real": place < images // 2, "source": source}
            for place, (name, source) in enumerate(zip(names, sources, strict=True))
        }
        orders = {f"rater-{number + 1}": running_order(names, [seed, number]) for number in range(raters)}
        key = {**_facts(model, which, filter, seed, encoded), "images": dict(sorted(truth.items())), "raters": orders}
        (work / FORMS).mkdir()
        for rater, order in orders.items():
            text = form(key["set"], rater, order, encoded)
            (work / FORMS / f"{rater}.html").write_text(text, encoding="utf-8")
        (work / KEY).write_text(json.dumps(key, indent=1) + "\n", encoding="utf-8")
    return [out / FORMS / f"{rater}.html" for rater in orders]


def running_order(names: Sequence[str], seed: Sequence[int]) -> list[str]:
    """Every image once, and a tenth of those from the first third once more in the last third."""
    rng = np.random.default_rng(seed)
    order: list[str] = rng.permutation(sorted(names)).tolist()
    third = len(order) // 3
    again = rng.permutation(order[:third])[: round(REPEATED * len(order))]
    for name in again.tolist():
        order.insert(int(rng.integers(len(names) - third, len(order) + 1)), name)
    return order


def score_answers(folder: Path, files: Sequence[Path]) -> Scoring:
    """Hold answers against the key.

    Args:
        folder: made by `build_test`.
        files: that the forms saved, one per rater.

    Raises:
        UserError: no key there, or a file that is not a rater's complete answers to this set.
    """
    if not files:
        raise UserError(f"{folder}: no answers; name the files that the forms saved behind it")
    key = read_key(folder)
    given = [read_answers(path, key) for path in files]
    names = [answers.rater for answers in given]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"{twice}: the answers of this rater were given twice; give each form's answers once")
    truth = {name: bool(facts["real"]) for name, facts in key["images"].items()}
    return Scoring([_scored(answers, truth) for answers in given], _agreement(given), key)


def verdict(test: TuringTest, margin: float = 0.1) -> str:
    """A rater's answers in plain words.

    Args:
        test: the answers.
        margin: distance from one half that would not matter.
    """
    right, apart = test.accuracy, test.p < LEVEL
    alike = test.indistinguishable(margin, LEVEL)
    facts = f"{_share(right)} right, p = {test.p:.2g}"
    near = f"within {100 * margin:.0f} points of guessing (two one-sided tests)"
    if apart and right.value > 0.5:
        said = f"Tells real from generated images: {facts}" + (f", though shown to be {near}." if alike else ".")
    elif apart:
        said = f"Sees a difference, but takes it the wrong way round: {facts}."
    elif alike:
        said = f"Shown to be {near}: {facts}."
    else:
        said = (
            f"Undecided: {facts}. That no difference was found is no evidence of realism; to show that the accuracy is "
            f"{near} takes about {trials_for_equivalence(margin, LEVEL)} images."
        )
    return (
        f"{said} Called real: {_share(test.fooled)} of the generated images, which is to be held against "
        f"{_share(test.recognised)} of the real ones."
    )


def read_key(folder: Path) -> dict[str, Any]:
    """The key of a set.

    Raises:
        UserError: no such file, or a damaged one.
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
    """The answers that a form saved, as CSV or JSON.

    Raises:
        UserError: not readable, of another set, or not all the rater was asked, in the order of the form.
    """
    rows = _rows(path)
    if not rows or {row["set"] for row in rows} != {key["set"]}:
        raise UserError(f"{path}: no answers to this set of images ({key['set']}); give what its own forms saved")
    rater = rows[0]["rater"]
    asked = key["raters"].get(rater)
    if asked is None or {row["rater"] for row in rows} != {rater}:
        raise UserError(f"{path}: of rater {rater!r}, who got no form; there are {', '.join(key['raters'])}")
    if [row["image"] for row in rows] != asked:
        raise UserError(
            f"{path}: {len(rows)} answers, not the {len(asked)} in the order of the form of {rater}; have it finished, "
            "and give the file as it was saved"
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
        raise UserError(f"{path}: not the answers that a form saved as CSV or JSON") from None


def _answer(path: Path, number: int, row: Mapping[str, str]) -> tuple[str, int, float]:
    try:
        answer, confidence, time = row["answer"], int(row["confidence"]), float(row["milliseconds"])
    except ValueError:
        answer, confidence, time = "", 0, math.nan
    if answer not in get_args(Answer) or not 1 <= confidence <= 5 or not time >= 0:
        raise UserError(
            f"{path}: answer {number} is not real or synthetic, with a confidence of 1 to 5 and a time; give the file "
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
    """As many held-out real images as generated ones.

    Raises:
        UserError: the run kept fewer real ones.
    """
    predictor = image_sampler(model)
    real = real_images(predictor.task, _held_out(model, secret), count, seed)
    if len(real) < count:
        raise UserError(
            f"--images {2 * count}: half of them are real, but the run kept {len(real)} for testing; give at most "
            f"{2 * len(real)}, or train with more --test-subjects"
        )
    labels = real.labels if predictor.labelled else None
    made = predictor.images(_seeds(count, seed), labels)
    return real, ImageSet(between(made, predictor.task), labels)


def _held_out(model: Model, secret: Path | None) -> list[Sample]:
    """Prepared test cases of the run, called by their labels."""
    task, facts = model.method.task, run_facts(model)
    pseudonyms = users_pseudonyms(secret)
    cases = choose_cases(task, facts, None, pseudonyms).cases
    labels = Labels(cases, pseudonyms or Pseudonyms.passing())
    prepared, problems = Store(task, facts.data.cache_folder).get_all(cases)
    if not prepared:
        raise UserError(f"no test case can be used: {problems[0]}")
    return [labels.sample(sample) for sample in prepared]


def _pictures(kind: ImageSet, task: Synthesis, filter: Filter) -> list[NDArray[np.uint8]]:
    """Images as raters see them, (channels, 1, rows, columns)."""
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
    """What one must know about the set, without which its results are worth little."""
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
