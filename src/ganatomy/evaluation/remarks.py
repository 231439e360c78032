"""Sentences of reports shared by the judges of several kinds of tasks: verdicts and caveats."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from ganatomy.case import Sample
from ganatomy.data.cases import PhantomSource
from ganatomy.evaluation.judging import BLOCK, INPUT, OUTPUT, Judge, Judgement, Score, limits
from ganatomy.metrics.statistics import Comparison, count
from ganatomy.reports.report import Outcome

BLOCKS = f"blocks of at most {BLOCK} slices, averaged over each subject"
"""Description of the blocks that are scored at once, for a report's list of facts."""
UNSEEN = "No score here detects a lesion that was removed or invented; look at the differences and at the cases."


def sentences(*parts: str) -> str:
    """Join the parts that are not empty with spaces."""
    return " ".join(part for part in parts if part)


def improved(found: Comparison) -> str:
    """Return the end of a sentence: in how many subjects the output is better, where there are several."""
    several = found.difference.subjects > 1
    return f", better in {found.improved} of {count(found.difference.n, 'subject')}." if several else "."


def nearness(found: Comparison, truth: str, other: str) -> str:
    """Return a sentence on whether the output is nearer to the truth than another entry, and by how much.

    Too few subjects decide nothing; the difference is then told without a verdict.

    Args:
        found: comparison of the output with the other entry by PSNR.
        truth: words for the target, such as "the complete scan".
        other: words for the other entry, such as "the input".
    """
    relations: Mapping[Outcome, str] = {
        "better": f"is closer to {truth} than {other}",
        "worse": f"is farther from {truth} than {other}",
        "undecided": f"cannot be told from {other} by its distance to {truth}",
    }
    amount = f"PSNR {limits(found.difference, 'dB', signed=True)}{improved(found)}"
    if few := found.difference.few:
        return f"{few} By its distance to {truth}, the output against {other}: {amount}"
    return f"The output {relations[found.outcome]}: {amount}"


def distance(judge: Judge, judgement: Judgement, name: str, truth: str) -> tuple[str, Comparison | None]:
    """Return sentences on whether the output is nearer to the truth than the strongest method without an adversary.

    Where that is not the unchanged input, a further sentence compares the output with the input.

    Args:
        judge: judge of the task.
        judgement: judgement of all entries.
        name: name of a PSNR.
        truth: words for the target, such as "the complete scan".

    Returns:
        The sentences, and the comparison with the reference, which is None where no case has a true image.
    """
    score, reference = judge.named(name), judgement.reference
    found = judgement.scores.compare(OUTPUT, reference, score)
    if found is None:
        return "", None
    others = [INPUT] if reference != INPUT else []
    words = sentences(
        nearness(found, truth, judge.called(reference)),
        *against(judgement, others, score, "PSNR", judge.called),
    )
    return words, found


def against(
    judgement: Judgement,
    baselines: Iterable[str],
    score: Score,
    called: str,
    words: Callable[[str], str] = lambda name: name,
) -> Iterator[str]:
    """Yield a sentence on the output against every baseline that has a score.

    Args:
        judgement: judgement of all entries.
        baselines: names of entries.
        score: score by which the output is compared with them.
        called: words for the score in the sentence.
        words: function from the name of an entry to words for it.
    """
    for baseline in baselines:
        if found := judgement.scores.compare(OUTPUT, baseline, score):
            amount = limits(found.difference, score.unit, signed=True)
            yield f"Against {words(baseline)}: {called} {amount}, {found.outcome}."


def of_phantoms(cases: Iterable[Sample]) -> bool:
    """Whether any case is a procedural phantom."""
    return any(isinstance(source, PhantomSource) for case in cases for source in case.case.sources.values())


def phantoms(cases: Iterable[Sample], detail: str = "") -> list[str]:
    """Return a warning where cases are procedural phantoms, else nothing.

    Args:
        cases: judged cases.
        detail: further words about the phantoms, put after their name.
    """
    if not of_phantoms(cases):
        return []
    return [
        f"The patients are procedural phantoms{detail}: this shows that a method works as its paper describes, not "
        "that it is fit for patients."
    ]
