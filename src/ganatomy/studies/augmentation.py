"""Test whether synthetic images help a classifier, alone or together with real images.

The protocol is that of Frid-Adar et al. (Neurocomputing 321:321-331, 2018, arXiv:1803.01229) with three additions: the
amount of synthetic images is chosen on patients that are neither trained on nor tested on, every arm gets the same
number of updates and several seeds, and other ways of showing more images serve as controls.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, softmax

from ganatomy.errors import UserError
from ganatomy.metrics.classification import McNemar, confusion, mcnemar
from ganatomy.metrics.statistics import count
from ganatomy.nets.classifier import in_batches
from ganatomy.reports.report import Outcome
from ganatomy.tasks.synthesis.features import classifier
from ganatomy.tasks.synthesis.sets import ImageSet

Generate = Callable[[Tensor, int], Tensor]
"""Function from labels (n,) and a seed to images (n, channels, rows, columns) in [-1, 1]."""
Learn = Callable[[int, ImageSet, ImageSet], Generate]
"""Function that trains a generator, from the number of the fold, training images, and images to select weights."""

Augment = Callable[[Tensor, torch.Generator], Tensor]
Indices = NDArray[np.intp]
Votes = NDArray[np.float64]
"""Class probabilities of shape (seeds, patients, classes)."""

REAL, CLASSIC, DUPLICATES = "real", "real + augmentation", "real + duplicates"
OVERSAMPLED, SYNTHETIC, ONLY = "real + oversampling", "real + synthetic", "synthetic"
CONTROLS = (CLASSIC, DUPLICATES, OVERSAMPLED)
LEVEL = 0.05
DROPPED = 0.25
"""Fraction of the sensitivity with real images below which a class counts as dropped by the generator (our choice)."""
INNER = 5
"""Number of parts of the training patients, one of which chooses the amount of synthetic images."""
STEPS = 300
"""Number of updates of every classifier."""


@dataclass(frozen=True)
class Arm:
    """Results of the classifiers of one arm on the test patients.

    Attributes:
        correct: whether the classifier of each seed classifies each patient correctly, (seeds, patients).
        sensitivities: sensitivity for each class, mean over seeds.
        right: whether the mean prediction of all seeds is correct, for each patient.
    """

    correct: NDArray[np.bool_]
    sensitivities: tuple[float, ...]
    right: NDArray[np.bool_]

    @property
    def accuracies(self) -> tuple[float, ...]:
        """Share of correctly classified patients, one per seed."""
        return tuple(self.correct.mean(axis=1).tolist())

    @property
    def accuracy(self) -> float:
        """Share of correctly classified patients, mean over seeds."""
        return float(self.correct.mean())


@dataclass(frozen=True)
class Gain:
    """Results of classifiers that were trained with and without synthetic images.

    Training on synthetic images and testing on real ones is the measure of Esteban et al., arXiv:1706.02633.

    Attributes:
        arms: name to results; all arms but ``real`` and ``synthetic`` are trained with classic augmentation.
        classes: names of the labels.
        amounts: number of synthetic images per real one that was chosen in every fold.
        tests: name of a control to the McNemar test of ``real + synthetic`` against it, on the same patients.
        patients: names of the patients, in the order of the arms' columns.
    """

    arms: Mapping[str, Arm]
    classes: tuple[str, ...]
    amounts: tuple[float, ...]
    tests: Mapping[str, McNemar]
    patients: tuple[str, ...]

    @property
    def outcome(self) -> Outcome:
        """Outcome: better if `SYNTHETIC` is significantly better than every control, worse if a control is better."""
        signs = {name: self._sign(name) for name in CONTROLS}
        if any(sign < 0 for sign in signs.values()):
            return "worse"
        return "better" if all(sign > 0 for sign in signs.values()) else "undecided"

    def _sign(self, control: str) -> int:
        found = self.tests[control]
        if found.exact_p >= LEVEL:
            return 0
        return 1 if found.only_first > found.only_second else -1

    @property
    def decisive(self) -> str:
        """Name of the control that decides the verdict: one that is better, else classic augmentation."""
        return next((name for name in CONTROLS if self._sign(name) < 0), CLASSIC)

    @property
    def words(self) -> str:
        """Verdict in sentences, with the numbers that support it."""
        ours, control = self.arms[SYNTHETIC], self.decisive
        theirs, found = self.arms[control], self.tests[control]
        harm = "Synthetic images do harm" if control == CLASSIC else "Real images shown more often help more"
        verdict = {
            "better": "Synthetic images help more than every control",
            "worse": harm,
            "undecided": "No gain from synthetic images is shown",
        }[self.outcome]
        others = ", ".join(f"{name} {self.arms[name].accuracy:.1%}" for name in (REAL, *CONTROLS))
        return (
            f"{verdict}: {ours.accuracy:.1%} of {count(len(ours.right), 'patient')} right with synthetic images, "
            f"{theirs.accuracy:.1%} in the arm {control} (means of {count(len(ours.accuracies), 'seed')}); all seeds "
            f"together, {found.only_first} gained and {found.only_second} lost, exact McNemar p = {found.exact_p:.2g}. "
            f"All other arms: {others}."
        )

    @property
    def dropped(self) -> tuple[str, ...]:
        """Names of the classes that a classifier does not learn from synthetic images."""
        pairs = zip(self.classes, self.arms[ONLY].sensitivities, self.arms[REAL].sensitivities, strict=True)
        return tuple(name for name, here, there in pairs if here < DROPPED * there)

    @property
    def alone(self) -> str:
        """Results of training on synthetic images alone, in one or two sentences."""
        said = (
            f"Trained on synthetic images a classifier tells {self.arms[ONLY].accuracy:.0%} of real test patients "
            f"right, trained on as many real ones {self.arms[REAL].accuracy:.0%}."
        )
        return said + (f" The generator has dropped {', '.join(self.dropped)}." if self.dropped else "")


def augmentation_gain(
    data: ImageSet,
    learn: Learn,
    classes: Sequence[str],
    *,
    folds: int = 3,
    seeds: int = 5,
    steps: int = STEPS,
    amounts: Sequence[float] = (0.5, 1.0, 2.0),
    advance: Callable[[str], None] = lambda what: None,
) -> Gain:
    """Train classifiers with and without synthetic images, and test whether these improve them.

    Patients are divided into folds; every patient is tested once, by classifiers that were trained on other folds. A
    fifth of the training patients is used only to choose the amount of synthetic images.

    Args:
        data: labelled real images with their patients, each of one class.
        learn: function that trains a generator on the training patients of a fold.
        classes: names of the labels.
        folds: number of folds of the patients.
        seeds: number of seeds of the classifiers.
        steps: number of updates of each classifier, equal in every arm.
        amounts: numbers of synthetic images per real one that are tried.
        advance: called with a description of each step.

    Raises:
        UserError: a class has too few patients.
    """
    votes: dict[str, list[Votes]] = {}
    patients: list[int] = []
    names: list[str] = []
    chosen = []
    k = len(classes)
    parts = patient_folds(data, folds)
    for fold, part in enumerate(parts):
        rest = data.take(np.sort(np.concatenate([other for other in parts if other is not part])))
        # The training patients are divided into folds again, so that the choosing fifth has patients of every class.
        inner, *training_parts = patient_folds(rest, INNER, seed=fold)
        test, choosing, training = data.take(part), rest.take(inner), rest.take(np.sort(np.concatenate(training_parts)))
        advance(f"fold {fold + 1} of {folds}: generator")
        generate = learn(fold, training, choosing)
        advance(f"fold {fold + 1} of {folds}: classifiers")
        wanted = {amount: _more(_labels(training), amount, fold) for amount in amounts}
        mixed = {amount: _joined(training, generate(labels, fold), labels) for amount, labels in wanted.items()}
        best = max(
            amounts,
            key=lambda amount: (
                _scored(
                    _votes(*mixed[amount], choosing, k, range(seeds), steps, classic_augmentation),
                    patients_of(choosing),
                    k,
                ).accuracy
            ),
        )
        sets = {
            REAL: (training.images, _labels(training)),
            CLASSIC: (training.images, _labels(training)),
            DUPLICATES: _repeated(training, wanted[best], fold),
            OVERSAMPLED: _repeated(training, _missing(_labels(training), k), fold),
            SYNTHETIC: mixed[best],
        }
        for name, (images, labels) in sets.items():
            augment = None if name == REAL else classic_augmentation
            votes.setdefault(name, []).append(_votes(images, labels, test, k, range(seeds), steps, augment))
        # Classifiers of real and of synthetic images start from the same weights and see as many images of each class.
        own = _labels(training)
        alone = [_votes(generate(own, seed), own, test, k, [seed], steps) for seed in range(seeds)]
        votes.setdefault(ONLY, []).append(np.concatenate(alone))
        patients += patients_of(test).tolist()
        names += _owners(test)
        chosen.append(best)
    arms = {name: _scored(np.concatenate(found, axis=1), np.array(patients), k) for name, found in votes.items()}
    tests = {name: mcnemar(arms[SYNTHETIC].right, arms[name].right) for name in CONTROLS}
    return Gain(arms, tuple(classes), tuple(chosen), tests, tuple(names))


def classic_augmentation(images: Tensor, generator: torch.Generator) -> Tensor:
    """Mirror images at random, shift them by up to a tenth of their width, rotate and scale them (our choice).

    Args:
        images: images of shape (n, channels, rows, columns).
        generator: generator of the random numbers.
    """

    def uniform(reach: float) -> Tensor:
        return reach * (2 * torch.rand(len(images), generator=generator) - 1)

    angle, scale = uniform(math.radians(20)), 1 + uniform(0.1)
    mirror = torch.sign(uniform(1.0))
    cosine, sine = scale * torch.cos(angle), scale * torch.sin(angle)
    rows = [
        torch.stack([mirror * cosine, -sine, uniform(0.2)], 1),
        torch.stack([mirror * sine, cosine, uniform(0.2)], 1),
    ]
    grid = affine_grid(torch.stack(rows, dim=1), list(images.shape), align_corners=False)
    return grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def patient_folds(data: ImageSet, folds: int, seed: int = 0) -> list[Indices]:
    """Return the indices of the images of each fold, with every patient in one fold and every class in each fold.

    Raises:
        UserError: a class has fewer patients than there are folds.
    """
    owners = _owners(data)
    labels = dict(zip(data.subjects, _labels(data).tolist(), strict=True))
    rng = np.random.default_rng(seed)
    fold_of: dict[str, int] = {}
    for label in sorted(set(labels.values())):
        names = [name for name in owners if labels[name] == label]
        if len(names) < folds:
            raise UserError(f"label {label} has {count(len(names), 'patient')}, too few for {folds} folds; use fewer")
        # The larger classes begin where the smaller ones ended, so that folds are equally large.
        start = len(fold_of)
        fold_of |= {names[place]: (start + turn) % folds for turn, place in enumerate(rng.permutation(len(names)))}
    places = np.array([fold_of[name] for name in data.subjects])
    return [np.flatnonzero(places == fold) for fold in range(folds)]


def patients_of(data: ImageSet) -> Indices:
    """Return the label of every patient, in the order in which patients first occur."""
    labels = dict(zip(data.subjects, _labels(data).tolist(), strict=True))
    return np.array([labels[name] for name in _owners(data)], dtype=np.intp)


def _owners(data: ImageSet) -> list[str]:
    return list(dict.fromkeys(data.subjects))


def _labels(data: ImageSet) -> Tensor:
    if data.labels is None:
        raise UserError("a classifier needs labelled images; train with --classes")
    return data.labels


def _votes(
    images: Tensor,
    labels: Tensor,
    test: ImageSet,
    classes: int,
    seeds: Iterable[int],
    steps: int,
    augment: Augment | None = None,
) -> Votes:
    """Train a classifier for each seed, and return its class probabilities for every test patient.

    Probabilities of a patient are the mean over its images.
    """
    owners = np.array(test.subjects)
    found = []
    for seed in seeds:
        network = classifier(images, labels, classes, seed, steps=steps, augment=augment)
        told = softmax(in_batches(network, test.images), dim=1).double().numpy()
        found.append([told[owners == name].mean(axis=0) for name in _owners(test)])
    return np.array(found)


def _scored(votes: Votes, truth: Indices, classes: int) -> Arm:
    tables = [confusion(truth, one.argmax(axis=1), classes) for one in votes]
    return Arm(
        votes.argmax(axis=2) == truth,
        tuple(np.mean([table.sensitivity for table in tables], axis=0).tolist()),
        votes.mean(axis=0).argmax(axis=1) == truth,
    )


def _more(labels: Tensor, amount: float, seed: int) -> Tensor:
    """Return labels for additional images, ``amount`` per real one, in the proportions of the real labels."""
    number = max(1, round(amount * len(labels)))
    generator = torch.Generator().manual_seed(seed)
    rounds = [labels[torch.randperm(len(labels), generator=generator)] for _ in range(math.ceil(number / len(labels)))]
    return torch.cat(rounds)[:number]


def _missing(labels: Tensor, classes: int) -> Tensor:
    """Return labels for additional images that make all classes equally frequent."""
    counts = torch.bincount(labels, minlength=classes)
    return torch.repeat_interleave(torch.arange(classes), torch.where(counts > 0, counts.max() - counts, 0))


def _repeated(training: ImageSet, more: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Return the training images, followed by repetitions of them with the labels ``more``."""
    rng, own = np.random.default_rng(seed), _labels(training).numpy()
    chosen = [int(rng.choice(np.flatnonzero(own == label))) for label in more.tolist()]
    return _joined(training, training.images[chosen], more)


def _joined(training: ImageSet, more: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    return torch.cat([training.images, more]), torch.cat([_labels(training), labels])
