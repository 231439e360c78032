"""What synthetic images are good for: training a classifier on them, alone or beside real ones.

The protocol of Frid-Adar et al. (Neurocomputing 321:321-331, 2018, arXiv:1803.01229), with what it lacks: the amount of
synthetic images is chosen on patients that are neither trained on nor tested on, every setting gets the same number of
updates and several seeds, and other ways of showing more images are tried as well.
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
from ganatomy.reports.report import Outcome
from ganatomy.tasks.synthesis.features import classifier, in_batches
from ganatomy.tasks.synthesis.sets import ImageSet

Generate = Callable[[Tensor, int], Tensor]
"""Labels (n,) and a seed to images (n, channels, rows, columns) in [-1, 1]."""
Learn = Callable[[int, ImageSet, ImageSet], Generate]
"""Trains a generator: number of the fold, images to learn from, and images that may choose its weights."""

Augment = Callable[[Tensor, torch.Generator], Tensor]
Indices = NDArray[np.intp]
Votes = NDArray[np.float64]
"""(seeds, patients, classes)"""

REAL, CLASSIC, DUPLICATES = "real", "real + augmentation", "real + duplicates"
OVERSAMPLED, SYNTHETIC, ONLY = "real + oversampling", "real + synthetic", "synthetic"
CONTROLS = (CLASSIC, DUPLICATES, OVERSAMPLED)
LEVEL = 0.05
DROPPED = 0.25
"""Part of the sensitivity with real images below which a class counts as dropped by the generator (our choice)."""
INNER = 5
"""One of so many training patients chooses the amount."""
STEPS = 300
"""Updates of every classifier."""


@dataclass(frozen=True)
class Arm:
    """How classifiers trained in one way did on the test patients.

    Attributes:
        correct: whether the classifier of each seed is right about each patient, (seeds, patients).
        sensitivities: per class, mean over seeds.
        right: of every patient, whether the classifiers of all seeds together are right.
    """

    correct: NDArray[np.bool_]
    sensitivities: tuple[float, ...]
    right: NDArray[np.bool_]

    @property
    def accuracies(self) -> tuple[float, ...]:
        """Share of patients told right, one per seed."""
        return tuple(self.correct.mean(axis=1).tolist())

    @property
    def accuracy(self) -> float:
        """Mean over seeds."""
        return float(self.correct.mean())


@dataclass(frozen=True)
class Gain:
    """What synthetic images add to real ones, and what they teach alone.

    Training on synthetic images and testing on real ones is the measure of Esteban et al., arXiv:1706.02633.

    Attributes:
        arms: by the way of training; all but ``real`` and ``synthetic`` are shown with classic augmentation.
        classes: names of the labels.
        amounts: synthetic images per real one, chosen in every fold.
        tests: the synthetic arm against every control, on the same patients.
        patients: names, in the order of the arms' columns.
    """

    arms: Mapping[str, Arm]
    classes: tuple[str, ...]
    amounts: tuple[float, ...]
    tests: Mapping[str, McNemar]
    patients: tuple[str, ...]

    @property
    def outcome(self) -> Outcome:
        """Better where the synthetic arm beats every control significantly, worse where one beats it."""
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
        """The control that the verdict rests on: one that is better, else classic augmentation."""
        return next((name for name in CONTROLS if self._sign(name) < 0), CLASSIC)

    @property
    def words(self) -> str:
        """The verdict, with what it rests on."""
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
        """Classes that synthetic images do not teach."""
        pairs = zip(self.classes, self.arms[ONLY].sensitivities, self.arms[REAL].sensitivities, strict=True)
        return tuple(name for name, here, there in pairs if here < DROPPED * there)

    @property
    def alone(self) -> str:
        """What synthetic images teach alone, in a sentence or two."""
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
    """Does a classifier get better when synthetic images are added?

    Patients are divided into folds; every patient is tested once, by classifiers that were trained on other folds. A
    fifth of the training patients only chooses the amount of synthetic images.

    Args:
        data: labelled real images with their patients, each of one class.
        learn: trains a generator on the training patients of a fold.
        classes: names of the labels.
        folds: of patients.
        seeds: of the classifiers.
        steps: updates of each classifier, the same in every arm.
        amounts: synthetic images per real one that are tried.
        advance: told what is done next.

    Raises:
        UserError: too few patients of some class.
    """
    votes: dict[str, list[Votes]] = {}
    patients: list[int] = []
    names: list[str] = []
    chosen = []
    k = len(classes)
    parts = patient_folds(data, folds)
    for fold, part in enumerate(parts):
        rest = data.take(np.sort(np.concatenate([other for other in parts if other is not part])))
        # A fifth of the other patients, from the folds of folds: every class is in it.
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
    """Images mirrored, moved by up to a tenth of their width, turned and scaled a little, at random (our choice).

    Args:
        images: (n, channels, rows, columns).
        generator: of everything drawn.
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
    """Indices of the images of each fold: no patient in two folds, every class in each.

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
    """The label of every patient, in the order in which patients appear first."""
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
    """Probabilities of every class for every test patient, the mean over the patient's images."""
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
    """Labels of additional images, in the proportions of the real ones: ``amount`` for each."""
    number = max(1, round(amount * len(labels)))
    generator = torch.Generator().manual_seed(seed)
    rounds = [labels[torch.randperm(len(labels), generator=generator)] for _ in range(math.ceil(number / len(labels)))]
    return torch.cat(rounds)[:number]


def _missing(labels: Tensor, classes: int) -> Tensor:
    """Labels that make all classes as frequent as the most frequent one."""
    counts = torch.bincount(labels, minlength=classes)
    return torch.repeat_interleave(torch.arange(classes), torch.where(counts > 0, counts.max() - counts, 0))


def _repeated(training: ImageSet, more: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """The training images and repetitions of them with these labels."""
    rng, own = np.random.default_rng(seed), _labels(training).numpy()
    chosen = [int(rng.choice(np.flatnonzero(own == label))) for label in more.tolist()]
    return _joined(training, training.images[chosen], more)


def _joined(training: ImageSet, more: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    return torch.cat([training.images, more]), torch.cat([_labels(training), labels])
