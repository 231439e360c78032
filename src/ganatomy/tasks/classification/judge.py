"""The judge of classifiers: accuracy, ranking and calibration against frequencies and a linear model of the pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ganatomy.case import Sample
from ganatomy.errors import UserError
from ganatomy.evaluation.judging import OUTPUT, Classical, Entry, Judge, Judgement, Row, Score, about, limits
from ganatomy.evaluation.remarks import against, phantoms, sentences
from ganatomy.inference.model import Model
from ganatomy.inference.predictor import encoded
from ganatomy.metrics.calibration import BINS, Reliability, brier, reliability
from ganatomy.metrics.classification import auc_values, balanced_accuracy_values, confusion, sensitivity_values
from ganatomy.metrics.detection import Proportion, delong, roc_curve
from ganatomy.metrics.statistics import Interval, count
from ganatomy.reports.report import Cell, Column, Outcome, Report
from ganatomy.tasks.classification.linear import PixelModel
from ganatomy.tasks.classification.pictures import Shown, gallery, reliability_plot, roc_plot
from ganatomy.tasks.classification.predictor import ClassPredictor, Found, chosen
from ganatomy.tasks.classification.task import AREA, BALANCED, Classification

FREQUENCIES, LINEAR = "class frequencies", "logistic regression"
"""Names of the reference that looks at no image, and of the linear model of coarse pixels."""
SENSITIVITY, SPECIFICITY, BRIER, CERTAINTY = "sensitivity", "specificity", "Brier score", "probability of the truth"
SIDES, PENALTIES = (8, 16), (1.0, 10.0, 100.0)
"""Rows and columns, and penalties of the weights, among which that of the linear model is chosen."""
WORST = 8
"""Number of images that are shown."""


class Known(NamedTuple):
    """Classes and probabilities of all that has a known class, in several cases.

    Attributes:
        truth: true classes, (n,).
        probabilities: (n, classes).
        found: classes that were chosen, (n,).
        case: number of the case of each, (n,).
    """

    truth: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    found: NDArray[np.int64]
    case: NDArray[np.int64]

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether each class was found, (n,)."""
        return np.asarray(self.truth == self.found)


class ClassJudge(Judge):
    """Judges the classes of cases, or of slices and of the cases that follow from them.

    Balanced accuracy, area, sensitivity and specificity are computed over all cases together; every case has the value
    of the infinitesimal jackknife, so that intervals and comparisons are over subjects as for other scores.

    Args:
        task: task of the run.
        options: not used; the judge has no options.
    """

    leading = (BALANCED, AREA, BRIER)
    plotted = (CERTAINTY,)
    reference = FREQUENCIES
    image = "case"
    compares_with_training = True
    tuned_together = True

    def __init__(self, task: Classification, options: Any = None):
        super().__init__(task, options)
        names, unit = task.config.classes, "slices" if task.sliced else "cases"
        two = len(names) == 2
        self.unit = unit
        threshold = "at the threshold that was best on validation cases" if two else "by the most probable class"
        self.scores: tuple[Score, ...] = (
            Score(BALANCED, "higher", "", f"Share of the {unit} of a class that are called so, averaged over the "
                  f"classes, {threshold}.", digits=3),
            Score(AREA, "higher", "", "Area under the ROC curve" + ("." if two else ", mean of each class against the "
                  "others."), digits=3),
            *((
                Score(SENSITIVITY, "higher", "", f"Share of the {unit} of the class {names[1]} called so, {threshold}.",
                      digits=3),
                Score(SPECIFICITY, "higher", "", f"Share of the {unit} of the class {names[0]} called so, {threshold}.",
                      digits=3),
            ) if two else ()),
            Score(BRIER, "lower", "", "Mean squared distance of the probabilities of all classes from the true class, "
                  "0 to 2.", digits=3),
            Score(CERTAINTY, "higher", "", "Mean probability that is given to the true class.", digits=3),
            *((
                Score(f"{BALANCED} of cases", "higher", "", "Share of the cases of a class that are called so, "
                      "averaged over the classes.", "Whole cases", 3),
                Score(f"{AREA} of cases", "higher", "", "Area under the ROC curve of whole cases.", "Whole cases", 3),
                *(Score(f"{name} found", "higher", "", f"Share of the cases of the class {name} that are called so.",
                        "Whole cases", 3) for name in task.case_classes),
            ) if task.sliced else ()),
        )  # fmt: skip
        self.training: Sequence[Sample] = ()
        self._known: dict[tuple[Callable[..., Any], str], Found] = {}

    def entry(self, model: Model, name: str) -> Entry:
        """Return a trained run as an entry, which finds the probabilities of a case.

        Raises:
            UserError: the run finds other classes than those that are judged.
        """
        theirs, ours = model.method.task.label, self.task.label
        if (theirs.classes, theirs.sliced) != (ours.classes, ours.sliced):
            raise UserError(
                f"{model.folder}: finds {', '.join(theirs.classes)}, but {', '.join(ours.classes)} are judged"
            )
        predictor = model.predictor()
        assert isinstance(predictor, ClassPredictor)
        return Entry(name, predictor.find, about(model))

    def references(self) -> tuple[Sequence[Entry], Sequence[Entry]]:
        """Return the reference that gives every image the frequencies of the classes in training."""
        return [Entry(FREQUENCIES, self._frequencies, "the frequencies of the classes in the training cases")], []

    def classical(self) -> Sequence[Classical]:
        """Return the linear model of coarse pixels; nothing without training cases."""
        if not self.training:
            return ()
        settings = [
            (f"{side} x {side} pixels, penalty {penalty:g}", PixelModel(self.task, self.training, side, penalty))
            for side in SIDES
            for penalty in PENALTIES
        ]
        return [Classical(LINEAR, "of the pixels of coarse images", settings)]

    def learn(self, training: Sequence[Sample]) -> None:
        """Keep the labelled training cases for the linear model, and the frequencies of their classes."""
        self.training = [case for case in training if (self.task.truth(case) >= 0).any()]

    def _frequencies(self, case: Sample) -> Found:
        classes = len(self.task.config.classes)
        known = np.concatenate([self.task.truth(one) for one in self.training] or [np.arange(classes)])
        shares = np.bincount(known[known >= 0], minlength=classes) / max((known >= 0).sum(), 1)
        slices = np.tile(shares, (case.shape[0], 1))
        return Found(self.task.units(slices), slices, shares)

    def _of(self, entry: Entry, case: Sample) -> Found:
        place = entry.run, case.case.name
        if place not in self._known:
            self._known[place] = entry.run(case)
        return self._known[place]

    def score_case(
        self, entries: Sequence[Entry], case: Sample, advance: Callable[[], None] = lambda: None
    ) -> list[Row]:
        """Score the probabilities of every entry on a case.

        Raises:
            UserError: no class of the case is known.
        """
        truth = self.task.truth(case)
        if not (truth >= 0).any():
            raise UserError(f"{case.case.name}: no {self.task.label.name} to compare with")
        rows = []
        for entry in entries:
            advance()
            found = self._of(entry, case).units[truth >= 0]
            known = truth[truth >= 0]
            certain = found[np.arange(len(known)), known]
            scores = {BRIER: float(brier(found, known).mean()), CERTAINTY: float(certain.mean())}
            rows.append(Row(case.case.name, case.case.subject, (0, case.shape[0]), entry.name, scores))
        return rows

    def together(self, entry: Entry, cases: Sequence[Sample], whole: bool = False) -> Known:
        """Return what an entry finds of all that has a known class.

        Args:
            entry: entry of the table.
            cases: cases.
            whole: whether the classes are those of cases that follow from those of slices.
        """
        parts: list[Known] = []
        for number, case in enumerate(cases):
            found = self._of(entry, case)
            probabilities = found.case[None] if whole else found.units
            truth = np.array([self.task.case_truth(case)]) if whole else self.task.truth(case)
            kept = truth >= 0
            own = chosen(probabilities, found.threshold)
            parts.append(Known(truth[kept], probabilities[kept], own[kept], np.full(int(kept.sum()), number)))
        return Known(*(np.concatenate(values) for values in zip(*parts, strict=True)))

    def score_all(self, entries: Sequence[Entry], cases: Sequence[Sample], training: Sequence[Sample]) -> list[Row]:
        """Score the classes that every entry finds in all cases together."""
        rows = []
        for entry in entries:
            values = self._values(self.together(entry, cases), "")
            if self.task.sliced:
                whole = self._values(self.together(entry, cases, whole=True), " of cases")
                values |= whole
            by_case: dict[int, dict[str, float]] = {}
            for name, (known, own) in values.items():
                for number, value in per_case(own, known.case, [case.case.subject for case in cases]).items():
                    by_case.setdefault(number, {})[name] = value
            rows += [
                Row(cases[at].case.name, cases[at].case.subject, (0, cases[at].shape[0]), entry.name, scores)
                for at, scores in by_case.items()
            ]
        return rows

    def _values(self, known: Known, of: str) -> dict[str, tuple[Known, NDArray[np.float64]]]:
        """Return the name of a score to a value of everything that has a class, whose mean is the score."""
        if not len(known.truth):
            return {}
        found = {
            f"{BALANCED}{of}": balanced_accuracy_values(known.right, known.truth),
            f"{AREA}{of}": auc_values(known.probabilities, known.truth),
        }
        if of:
            names = [f"{name} found" for name in self.task.case_classes]
            found |= {name: sensitivity_values(known.right, known.truth, at) for at, name in enumerate(names)}
        elif len(self.task.config.classes) == 2:
            found |= {
                name: sensitivity_values(known.right, known.truth, at)
                for at, name in ((1, SENSITIVITY), (0, SPECIFICITY))
            }
        return {name: (known, values) for name, values in found.items() if np.isfinite(values).all()}

    def verdict(self, judgement: Judgement) -> tuple[str, Outcome]:
        """Return whether the balanced accuracy is higher than that of the reference, and the area."""
        scores, reference, score = judgement.scores, judgement.reference, self.named(BALANCED)
        ours, area = scores.interval(OUTPUT, BALANCED), scores.interval(OUTPUT, AREA)
        if ours is None:
            return "No class could be compared.", "undecided"
        ranked = f"The area under the ROC curve is {limits(area)}." if area else ""
        others = list(against(judgement, [one for one in judgement.baselines if one != reference], score, BALANCED))
        found, theirs = scores.compare(OUTPUT, reference, score), scores.interval(reference, BALANCED)
        if found is None or theirs is None:
            return sentences(f"The balanced accuracy is {limits(ours)}.", ranked, *others), "undecided"
        relation = {"better": "better than", "worse": "worse than", "undecided": "about as well as"}[found.outcome]
        words = f"The output classifies {self.unit} {relation} {self.called(reference)}: balanced accuracy "
        words += f"{ours.mean:.3f} against {theirs.mean:.3f}"
        return sentences(words + improved_by(found), ranked, *others), found.outcome

    def illustrate(self, report: Report, judgement: Judgement) -> None:
        """Add the worst images, ROC curves with DeLong's intervals, reliability, and tables of confusion."""
        names = [entry.name for entry in judgement.entries]
        known = {entry.name: self.together(entry, judgement.cases) for entry in judgement.entries}
        output = next(entry for entry in judgement.entries if entry.name == OUTPUT)
        shown = self._worst(output, judgement.cases)
        wrong = int((~known[OUTPUT].right).sum())
        report.figure(
            gallery(shown),
            f"The {len(shown)} of {len(known[OUTPUT].truth)} {self.unit} whose true class is given the lowest "
            f"probability, the lowest first: true class, and its probability. {wrong} are called wrong (in bold here).",
        )
        self._curves(report, judgement, known)
        self._calibration(report, known)
        report.section("Tables of confusion")
        for name in dict.fromkeys((OUTPUT, judgement.reference)):
            if name in names:
                self._confusion(report, known[name], f"{name}, {self.unit}", self.task.config.classes)
        if self.task.sliced:
            whole = self.together(output, judgement.cases, whole=True)
            if len(whole.truth):
                self._confusion(report, whole, f"{OUTPUT}, whole cases", self.task.case_classes)

    def _worst(self, entry: Entry, cases: Sequence[Sample]) -> list[Shown]:
        """Return the images whose true class has the lowest probability."""
        found: list[tuple[float, Sample, int, int, bool]] = []
        for case in cases:
            own, truth = self._of(entry, case), self.task.truth(case)
            called = chosen(own.units, own.threshold)
            found += [
                (
                    float(own.units[at, one]),
                    case,
                    at if self.task.sliced else case.shape[0] // 2,
                    int(one),
                    called[at] == one,
                )
                for at, one in enumerate(truth)
                if one >= 0
            ]
        shown = []
        for certain, case, at, one, right in sorted(found, key=lambda item: item[0])[:WORST]:
            image = encoded(case, self.task.images[:1])(at, at + 1)[:, 0]
            slice_of = f", slice {at + 1}" if case.shape[0] > 1 else ""
            words = f"{case.case.name}{slice_of}\n{self.task.config.classes[one]} {certain:.2f}"
            shown.append(Shown(image, case.spacing[1:], words, bool(right)))
        return shown

    def _curves(self, report: Report, judgement: Judgement, known: Mapping[str, Known]) -> None:
        names, sliced = self.task.config.classes, self.task.sliced
        report.section("Receiver operating characteristic")
        if len(names) == 2:
            parts = {f"{self.unit}: {names[1]}": {name: one for name, one in known.items() if both(one)}}
            if sliced:
                wholes = {entry.name: self.together(entry, judgement.cases, True) for entry in judgement.entries}
                parts[f"cases: {self.task.case_classes[1]}"] = {name: one for name, one in wholes.items() if both(one)}
            places = dict.fromkeys(parts, 1)
        else:
            parts = {name: {OUTPUT: known[OUTPUT]} for name in names}
            places = {name: at for at, name in enumerate(names)}
        parts = {title: own for title, own in parts.items() if own}
        curves = {
            title: {
                name: roc_curve(one.probabilities[:, places[title]], one.truth == places[title])
                for name, one in own.items()
                if both(one, places[title])
            }
            for title, own in parts.items()
        }
        curves = {title: own for title, own in curves.items() if own}
        if not curves:
            report.text("All cases are of one class, so that there is no ROC curve.")
            return
        if len(names) == 2:
            report.figure(roc_plot(curves), "ROC curves, with the areas under them.")
        else:
            report.figure(roc_plot({"each class against the others": {t: own[OUTPUT] for t, own in curves.items()}}),
                          "ROC curves of the output, with the areas under them.")  # fmt: skip
        rows: list[list[Cell]] = []
        for title in curves:
            for name, one in parts[title].items():
                if not both(one, places[title]):
                    continue
                rows.append([f"{name}, {title}", self._delong(one, places[title]), *self._rates(one, places[title])])
        report.table(
            rows,
            ["entry", Column("AUC", digits=3), "sensitivity", "specificity"],
            caption="Area under the ROC curve with DeLong's 95 % interval, and sensitivity and specificity with "
            "Wilson's; all of them take everything that has a class as independent.",
        )

    def _delong(self, known: Known, place: int) -> Cell:
        own = known.truth == place
        if min(own.sum(), (~own).sum()) < 2:
            return None
        found = delong(known.probabilities[:, place], own)
        return Interval(found.value, found.low, found.high, len(own), resampled=False)

    def _rates(self, known: Known, place: int) -> Iterator[str]:
        """Yield sensitivity and specificity for a class, as text with counts and Wilson's intervals."""
        own, called = known.truth == place, known.found == place
        for right, whole in ((called & own, own), (~called & ~own, ~own)):
            one = Proportion(int(right.sum()), int(whole.sum()))
            low, high = one.interval
            yield f"{one.count} of {one.total} ({one.value:.3f}, {low:.3f} to {high:.3f})"

    def _calibration(self, report: Report, known: Mapping[str, Known]) -> None:
        names = self.task.config.classes
        event = names[1] if len(names) == 2 else "the most probable class"
        found = {name: self._reliability(one) for name, one in known.items() if len(one.truth)}
        report.section("Calibration")
        report.figure(
            reliability_plot(found, event),
            f"Share of {self.unit} of {event} over the probability that was predicted, in {BINS} bins of equal width; "
            "larger points hold more. On the diagonal, probabilities are what they say.",
        )
        rows: list[list[Cell]] = [
            [name, one.error, float(brier(known[name].probabilities, known[name].truth).mean())]
            for name, one in found.items()
        ]
        columns: list[Column | str] = [
            "entry",
            Column("expected calibration error", "", "lower", 3),
            Column(BRIER, "", "lower", 3),
        ]
        report.table(rows, columns, caption=f"Calibration of the probabilities over all {self.unit}.")

    def _reliability(self, known: Known) -> Reliability:
        if known.probabilities.shape[1] == 2:
            return reliability(known.probabilities[:, 1], known.truth == 1)
        best = known.probabilities.argmax(axis=1)
        return reliability(known.probabilities.max(axis=1), best == known.truth)

    def _confusion(self, report: Report, known: Known, title: str, names: Sequence[str]) -> None:
        counts = confusion(known.truth, known.found, len(names)).counts
        rows = [[f"true {name}", *(str(number) for number in counts[at])] for at, name in enumerate(names)]
        report.table(rows, ["", *(f"called {name}" for name in names)], caption=f"Confusion of {title}.")

    def measured(self) -> dict[str, str]:
        """Describe classes, what has one, calibration and intervals."""
        names = self.task.config.classes
        rule = (
            f"{names[1]} from the threshold on that was best on validation cases; logistic regression chooses its own "
            "on training subjects that it was not fitted to"
            if len(names) == 2
            else "the most probable one"
        )
        whole = {"Class of a case": f"that of the outermost slice at its {self.task.config.end} end"}
        return {
            "Classes": f"{', '.join(names)}, of every {self.unit[:-1]}",
            **(whole if self.task.sliced and self.task.config.end else {}),
            "Class called": rule,
            "Probabilities": "at a temperature that was calibrated on validation cases, with the frequencies of the "
            "classes in training",
            "Intervals": "over subjects; balanced accuracy and areas are those of all cases together, whose values of "
            "the infinitesimal jackknife are averaged over each subject. Such intervals may reach beyond 0 and 1, and "
            "values of single subjects, by which it is told in how many one is better, are no scores of their own",
        }

    def caveats(self, judgement: Judgement) -> list[str]:
        """Return sentences on phantoms, on classes with few cases, and on the frequencies of the classes."""
        points = phantoms(judgement.cases, ", whose classes are known exactly")
        output = next(entry for entry in judgement.entries if entry.name == OUTPUT)
        truth = self.together(output, judgement.cases).truth
        for at, name in enumerate(self.task.config.classes):
            if (number := int((truth == at).sum())) < FEW_OF_A_CLASS:
                unit = self.unit[:-1]
                points.append(f"There {'is' if number == 1 else 'are'} only {count(number, unit)} of the class {name}.")
        points.append("Probabilities hold where the classes are as frequent as in the training cases.")
        return points


FEW_OF_A_CLASS = 10
"""Number of cases or slices of a class below which a caveat says so."""


def both(known: Known, place: int = 1) -> bool:
    """Return whether there are cases of a class, and others."""
    own = known.truth == place
    return bool(own.any() and not own.all())


def improved_by(found: Any) -> str:
    """Return the end of a sentence: the difference with its interval."""
    return f" ({limits(found.difference, signed=True)})."


def per_case(values: NDArray[np.float64], case: NDArray[np.int64], subjects: Sequence[str]) -> dict[int, float]:
    """Return a value of every case, such that the mean over subjects is that of all values.

    Args:
        values: values (n,) of what has a class.
        case: number of the case of each, (n,).
        subjects: subject of every case.
    """
    mean, there = float(values.mean()), np.unique(case)
    cases: dict[str, int] = {}
    for at in there:
        cases[subjects[at]] = cases.get(subjects[at], 0) + 1
    sums = {int(at): float((values[case == at] - mean).sum()) for at in there}
    return {at: mean + len(cases) * cases[subjects[at]] / len(values) * own for at, own in sums.items()}
