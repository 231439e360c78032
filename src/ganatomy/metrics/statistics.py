"""Statistics over patients: confidence intervals, paired tests, and verdicts in words.

The unit of observation is the patient. Slices of one patient are correlated, so a thousand slices of three patients
are three observations: values are averaged within a subject first. With a single subject only an interval over its
slices can be given, and the result says so.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import stats

Array = npt.NDArray[np.float64]
Unit = Literal["subject", "slice"]

FEWEST_SUBJECTS = 3
"""Number of subjects below which no comparison is decided: two differ in the same direction half the time by chance."""
RESAMPLES = 10_000
BLOCK = 500


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval.

    Attributes:
        mean: the mean over subjects of each subject's mean.
        low: lower limit.
        high: upper limit.
        n: number of units that were resampled.
        unit_of_resampling: ``subject``, or ``slice`` where there was only one subject.
        level: confidence level.
        excluded: values left out because they were not finite (an undefined score, a PSNR of equal images).
        resampled: whether the units were drawn again and again, which tells nothing beyond those seen.
    """

    mean: float
    low: float
    high: float
    n: int
    unit_of_resampling: Unit = "subject"
    level: float = 0.95
    excluded: int = 0
    resampled: bool = True

    @property
    def subjects(self) -> int:
        """Number of subjects."""
        return self.n if self.unit_of_resampling == "subject" else min(self.n, 1)

    @property
    def few(self) -> str:
        """Sentence for a comparison of too few subjects to be decided; empty where there are `FEWEST_SUBJECTS`."""
        words = {0: "No test subject has this score", 1: "One test subject", 2: "Two test subjects"}
        return f"{words[self.subjects]}: no comparison can be decided." if self.subjects < FEWEST_SUBJECTS else ""

    @property
    def caveat(self) -> str:
        """Caveat that a reader must know to interpret the interval; empty if there is none."""
        notes = []
        if self.unit_of_resampling == "slice":
            notes.append("1 subject: interval over slices, not over patients")
        elif self.n < 6 and self.resampled:
            several = f"{self.n} subjects: the interval cannot reach beyond those seen"
            notes.append(several if self.n > 1 else "1 subject: there is no interval")
        if self.excluded:
            notes.append(f"{self.excluded} undefined value{'s' * (self.excluded > 1)} left out")
        return "; ".join(notes)

    def __str__(self) -> str:
        digits = significant_digits(self.high - self.low)
        return (
            f"{self.mean:.{digits}f} ({self.level:.0%} CI {self.low:.{digits}f} to {self.high:.{digits}f}, "
            f"{count(self.n, self.unit_of_resampling)})"
        )


@dataclass(frozen=True)
class BlandAltman:
    """Agreement of two measurements: mean difference, its SD, and limits that contain 95 % of differences."""

    bias: float
    sd: float
    lower: float
    upper: float
    n: int


@dataclass(frozen=True)
class Comparison:
    """Paired comparison of one method with another.

    Attributes:
        difference: mean over subjects of (first - second), with its interval.
        p: two-sided exact Wilcoxon signed-rank p over subjects; None for a single subject, whose slices are
            not independent.
        outcome: ``better`` or ``worse`` where the interval excludes zero and there are at least `FEWEST_SUBJECTS`
            subjects, else ``undecided``.
        improved: subjects (or slices) on which the first is better.
        words: the verdict as a sentence, with its caveats.
    """

    difference: Interval
    p: float | None
    outcome: Literal["better", "worse", "undecided"]
    improved: int
    words: str


def bootstrap_mean(
    values: npt.ArrayLike,
    subjects: Sequence[str] | None = None,
    *,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Compute the expanded-percentile bootstrap interval of the mean over subjects.

    Subjects are resampled whole, each standing for the mean of its values, so that a subject with many
    slices counts once. Plain percentile intervals are too narrow for few subjects; the expanded percentiles
    correct the level by what Student's t gains on the normal and by the factor sqrt((n - 1) / n) that the
    bootstrap loses.

    Source: Hesterberg, Am. Stat. 69(4):371-386, 2015. doi:10.1080/00031305.2015.1089789

    Args:
        values: one number per slice (or case).
        subjects: the subject of every value; without it each value is a subject.
        level: confidence level.
        resamples: bootstrap samples drawn.
        seed: seed of the bootstrap.

    Raises:
        ValueError: The numbers of values and subjects differ.
    """
    scores, labels, excluded = _finite(values, subjects)
    units, unit = _units(scores, labels)
    if units.size < 2:
        mean = float(units[0]) if units.size else math.nan
        return Interval(mean, math.nan, math.nan, units.size, unit, level, excluded)
    means = _resampled_means(units, resamples, np.random.default_rng(seed))
    tail = _expanded_tail(level, units.size)
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(float(units.mean()), float(low), float(high), units.size, unit, level, excluded)


def crossed_interval(values: npt.ArrayLike, *, level: float = 0.95) -> Interval:
    """Compute the interval of the mean over subjects and training runs, with both as random effects.

    Two or three runs are too few for a bootstrap, which cannot draw runs that disagree more than those observed. The
    variance of the mean therefore comes from a two-way analysis of variance of runs by subjects, as in studies of
    readers and cases, and the interval is that of Student's t with Satterthwaite's degrees of freedom, so that few
    runs that disagree widen it accordingly. Subjects with an undefined value are left out.

    Source: Hillis, Stat. Med. 26(3):596-619, 2007. doi:10.1002/sim.2532

    Args:
        values: (runs, subjects), scores of the same subjects for every run; for a single run the interval is that of
            ``bootstrap_mean``, over subjects only.
        level: confidence level.
    """
    table = np.asarray(values, dtype=np.float64)
    defined = np.isfinite(table).all(axis=0)
    excluded = int((~np.isfinite(table)).sum())
    table = table[:, defined]
    runs, subjects = table.shape
    if runs == 1 and subjects > 1:
        return replace(bootstrap_mean(table[0], level=level), excluded=excluded)
    if subjects < 2:
        mean = float(table.mean()) if table.size else math.nan
        return Interval(mean, math.nan, math.nan, subjects, "subject", level, excluded)
    mean, of_runs, of_subjects = table.mean(), table.mean(axis=1), table.mean(axis=0)
    rest = table - of_runs[:, None] - of_subjects[None, :] + mean
    between_runs = subjects * float(np.square(of_runs - mean).sum()) / (runs - 1)
    between_subjects = runs * float(np.square(of_subjects - mean).sum()) / (subjects - 1)
    # Variance component of the subjects beyond chance; a negative estimate is set to zero.
    own = max(between_subjects - float(np.square(rest).sum()) / ((runs - 1) * (subjects - 1)), 0.0)
    total = between_runs + own
    if total == 0:
        return Interval(float(mean), float(mean), float(mean), subjects, "subject", level, excluded, resampled=False)
    freedom = total**2 / (between_runs**2 / (runs - 1) + own**2 / (subjects - 1))
    reach = float(stats.t.ppf((1 + level) / 2, freedom)) * math.sqrt(total / table.size)
    low, high = float(mean) - reach, float(mean) + reach
    return Interval(float(mean), low, high, subjects, "subject", level, excluded, resampled=False)


FEWEST_RUNS = 3
"""Number of training runs of each of two methods below which nothing is said about the methods (our choice)."""

RunsOutcome = Literal["better", "worse", "undecided", "not run enough"]


@dataclass(frozen=True)
class Contrast:
    """Comparison of two methods that were trained several times.

    Attributes:
        difference: mean of first minus second, with the interval of `difference_interval` over subjects and runs.
        over_subjects: the same mean with a bootstrap interval over subjects, which takes these very runs for granted.
        outcome: ``better`` or ``worse`` where both intervals exclude zero, there are at least `FEWEST_SUBJECTS`
            subjects, and each method has at least `FEWEST_RUNS` runs. Where only the number of runs is too small,
            ``not run enough``; else ``undecided``.
    """

    difference: Interval
    over_subjects: Interval
    outcome: RunsOutcome


def contrast(first: npt.ArrayLike, second: npt.ArrayLike, *, better: Literal["higher", "lower"] = "higher") -> Contrast:
    """Compare two methods by the scores of several training runs of each on the same subjects.

    A single run has no spread, so that of two equal methods one nearly always looks better on many subjects: below
    `FEWEST_RUNS` runs of each the difference is never called decided.

    Args:
        first: (runs, subjects), scores of the first method.
        second: (runs, subjects), those of the second one, on the same subjects; equal rows for a method that is not
            trained.
        better: the direction of improvement.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    difference, over_subjects = difference_interval(a, b), bootstrap_mean(a.mean(axis=0) - b.mean(axis=0))
    outcome: RunsOutcome = "undecided"
    if over_subjects.subjects < FEWEST_SUBJECTS:
        pass
    elif _excludes_zero(over_subjects) and min(len(a), len(b)) < FEWEST_RUNS:
        outcome = "not run enough"
    elif _excludes_zero(over_subjects) and _excludes_zero(difference):
        outcome = "better" if (difference.mean > 0) == (better == "higher") else "worse"
    return Contrast(difference, over_subjects, outcome)


def _excludes_zero(interval: Interval) -> bool:
    return interval.low > 0 or interval.high < 0


def difference_interval(first: npt.ArrayLike, second: npt.ArrayLike, *, level: float = 0.95) -> Interval:
    """Compute the interval of the mean difference of two methods over subjects and independent training runs.

    This is Welch's t interval of the means of the runs, whose variance also has a component for subjects on which the
    methods differ more or less than on average, with Satterthwaite's degrees of freedom. Runs of two methods are not
    paired, even if they have the same seed: the seed of another network means nothing. Subjects with an undefined
    value are left out.

    Source: Welch, Biometrika 34(1-2):28-35, 1947; components as by Hillis, Stat. Med. 26(3):596-619, 2007.

    Args:
        first: (runs, subjects), scores of the first method.
        second: (runs, subjects), those of the second method; numbers of runs may differ.
        level: confidence level.
    """
    tables = [np.asarray(values, dtype=np.float64) for values in (first, second)]
    defined = np.isfinite(tables[0]).all(axis=0) & np.isfinite(tables[1]).all(axis=0)
    excluded = int((~defined).sum())
    a, b = (table[:, defined] for table in tables)
    subjects = int(defined.sum())
    if min(len(a), len(b)) == 1 or subjects < 2:
        return replace(crossed_interval((a.mean(axis=0) - b.mean(axis=0))[None]), excluded=excluded)
    by_subject = a.mean(axis=0) - b.mean(axis=0)
    mean = float(by_subject.mean())
    parts = [(float(table.mean(axis=1).var(ddof=1)) / len(table), len(table) - 1) for table in (a, b)]
    # What subjects differ by beyond the chance of the runs; a negative estimate is set to zero.
    chance = sum(_residual_variance(table) / len(table) for table in (a, b))
    parts.append((max(float(by_subject.var(ddof=1)) - chance, 0.0) / subjects, subjects - 1))
    variance = sum(part for part, _ in parts)
    if variance == 0:
        return Interval(mean, mean, mean, subjects, "subject", level, excluded, resampled=False)
    freedom = variance**2 / sum(part**2 / own for part, own in parts)
    reach = float(stats.t.ppf((1 + level) / 2, freedom)) * math.sqrt(variance)
    return Interval(mean, mean - reach, mean + reach, subjects, "subject", level, excluded, resampled=False)


def _residual_variance(table: Array) -> float:
    """Return the variance of scores (runs, subjects) that neither their run nor their subject explains."""
    runs, subjects = table.shape
    rest = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0, keepdims=True) + table.mean()
    return float(np.square(rest).sum() / ((runs - 1) * (subjects - 1)))


def compare(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    subjects: Sequence[str] | None = None,
    *,
    better: Literal["higher", "lower"] = "higher",
    names: tuple[str, str] = ("output", "input"),
    metric: str = "",
    unit: str = "",
    seed: int = 0,
) -> Comparison:
    """Compare two methods on the same slices and state the verdict in words.

    Args:
        first: a score per slice.
        second: the other method's scores on the same slices.
        subjects: the subject of every slice; without it each value is a subject.
        better: the direction of improvement.
        names: names of the two methods, for the verdict.
        metric: label of the score, for the verdict.
        unit: unit of the score, for the verdict.
        seed: seed of the bootstrap.
    """
    differences = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    interval = bootstrap_mean(differences, subjects, seed=seed)
    scores, labels, _ = _finite(differences, subjects)
    per_unit, _ = _units(scores, labels)
    p = wilcoxon(per_unit) if interval.unit_of_resampling == "subject" and interval.n > 1 else None
    sign = 1 if better == "higher" else -1
    improved = int(np.sum(sign * per_unit > 0))
    outcome: Literal["better", "worse", "undecided"] = "undecided"
    if _excludes_zero(interval) and not interval.few:
        outcome = "better" if sign * interval.mean > 0 else "worse"
    words = _verdict(interval, p, outcome, improved, names, metric, unit)
    return Comparison(interval, p, outcome, improved, words)


def subject_means(values: npt.ArrayLike, subjects: Sequence[str]) -> dict[str, float]:
    """Return the mean of each subject's finite values, subjects in order of first appearance."""
    scores, labels, _ = _finite(values, subjects)
    return {name: float(scores[labels == name].mean()) for name in dict.fromkeys(labels.tolist())}


def wilcoxon(differences: npt.ArrayLike) -> float:
    """Return the two-sided Wilcoxon signed-rank p of paired differences, exact for small samples; 1 if all are zero."""
    d = np.asarray(differences, dtype=np.float64)
    return float(stats.wilcoxon(d).pvalue) if np.any(d) else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p values by Holm's step-down procedure, in the given order.

    Source: Holm, Scand. J. Stat. 6(2):65-70, 1979.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * (p.size - np.arange(p.size)))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1)
    return [float(value) for value in adjusted]


def bland_altman(first: npt.ArrayLike, second: npt.ArrayLike) -> BlandAltman:
    """Compute bias and 95 % limits of agreement, bias ± 1.96 SD of the differences (first - second).

    Source: Bland and Altman, Lancet 327(8476):307-310, 1986. doi:10.1016/S0140-6736(86)90837-8
    """
    d = np.asarray(first, dtype=np.float64) - np.asarray(second, dtype=np.float64)
    bias = float(d.mean())
    sd = float(d.std(ddof=1)) if d.size > 1 else math.nan
    return BlandAltman(bias, sd, bias - 1.96 * sd, bias + 1.96 * sd, d.size)


def significant_digits(scale: float) -> int:
    """Return the number of decimals that show two significant digits of a quantity of this size."""
    return min(6, max(0, 1 - math.floor(math.log10(abs(scale))))) if math.isfinite(scale) and scale else 2


def count(n: int, noun: str) -> str:
    """Return a number with its noun in singular or plural, such as ``1 subject`` or ``4 subjects``."""
    return f"{n} {noun}{'' if n == 1 else 's'}"


def _finite(values: npt.ArrayLike, subjects: Sequence[str] | None) -> tuple[Array, npt.NDArray[np.str_], int]:
    scores = np.asarray(values, dtype=np.float64).ravel()
    names = [str(i) for i in range(scores.size)] if subjects is None else list(subjects)
    if len(names) != scores.size:
        raise ValueError(f"{scores.size} values but {len(names)} subject labels")
    finite = np.isfinite(scores)
    return scores[finite], np.array(names, dtype=np.str_)[finite], int((~finite).sum())


def _units(scores: Array, labels: npt.NDArray[np.str_]) -> tuple[Array, Unit]:
    """Return one value per subject, or the slices themselves if there is only one subject."""
    names, index, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    if names.size == 1 and scores.size > 1:
        return scores, "slice"
    return np.bincount(index, weights=scores, minlength=names.size) / np.maximum(sizes, 1), "subject"


def _resampled_means(units: Array, resamples: int, rng: np.random.Generator) -> Array:
    blocks = [min(BLOCK, resamples - start) for start in range(0, resamples, BLOCK)]
    return np.concatenate([units[rng.integers(units.size, size=(b, units.size))].mean(axis=1) for b in blocks])


def _expanded_tail(level: float, n: int) -> float:
    quantile = stats.t.ppf((1 - level) / 2, n - 1) * math.sqrt(n / (n - 1))
    return float(stats.norm.cdf(quantile))


def _verdict(
    interval: Interval,
    p: float | None,
    outcome: str,
    improved: int,
    names: tuple[str, str],
    metric: str,
    unit: str,
) -> str:
    first, second = names
    where = f" on {metric}" if metric else ""
    digits = significant_digits(interval.high - interval.low)
    if outcome == "undecided":
        relation = f"{first} and {second} cannot be told apart{where}: the difference is"
        if interval.few:
            relation = f"{interval.few} {first} and {second} differ{where} by"
        mean, low, high = interval.mean, interval.low, interval.high
    else:
        relation = f"{first} is {outcome} than {second}{where} by"
        mean = abs(interval.mean)
        low, high = sorted((abs(interval.low), abs(interval.high)))
    amount = f"{mean:.{digits}f} {unit}".rstrip()
    sentence = (
        f"{relation} {amount} ({interval.level:.0%} CI {low:.{digits}f} to {high:.{digits}f}), "
        f"and better in {improved} of {count(interval.n, interval.unit_of_resampling)}"
    )
    notes = [interval.caveat] if interval.caveat else []
    if p is not None:
        sentence += f", Wilcoxon p = {p:.2g}"
        if (smallest := 2.0 ** (1 - interval.n)) > 1 - interval.level:
            notes.append(f"with {count(interval.n, 'subject')} p cannot fall below {smallest:.2g}")
    sentence = sentence[0].upper() + sentence[1:] + "."
    return f"{sentence} ({'; '.join(notes)}.)" if notes else sentence
