"""Scores by site: a table, and sentences on the scanners that a judgement is about."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ganatomy.data.pseudonyms import Labels, Pseudonyms
from ganatomy.evaluation.choosing import recognising
from ganatomy.evaluation.judging import OUTPUT, Judge, Judgement, Score, Scores, deciding_score
from ganatomy.evaluation.remarks import sentences
from ganatomy.inference.runfile import RunFile
from ganatomy.metrics.statistics import count
from ganatomy.reports.report import Cell, Column, Outcome, Report
from ganatomy.reports.style import title

UNKNOWN = "not known"
"""Name of the group of cases whose site is not known, beside others."""


@dataclass(frozen=True)
class Site:
    """The judged cases of one site.

    Attributes:
        name: label of the site.
        scores: rows of its cases.
        trained: whether the run was trained, or its weights chosen, on subjects of the site; None where nobody knows.
    """

    name: str
    scores: Scores
    trained: bool | None

    @property
    def subjects(self) -> int:
        """Number of its judged subjects."""
        return len(set(self.scores.cases.values()))

    def outcome(self, reference: str, score: Score) -> Outcome:
        """Return the outcome of the comparison with a reference; few subjects decide nothing about a site."""
        found = self.scores.compare(OUTPUT, reference, score)
        return found.outcome if found else "undecided"


def learned_sites(facts: RunFile, pseudonyms: Pseudonyms | None, labels: Labels) -> set[str] | None:
    """Return the labels of the sites that a run was trained on; None where it does not record or hide them otherwise.

    Args:
        facts: run file.
        pseudonyms: keyed by the secret of the user; None where there is no secret.
        labels: names of the sites of judged cases.
    """
    own = recognising(pseudonyms, facts)
    learned = {*facts.split.sites.get("train", ()), *facts.split.sites.get("val", ())}
    if own is None or not learned:
        return None
    return {label for name, label in labels.sites.items() if own.site(name) in learned}


def judged_sites(judgement: Judgement, learned: Collection[str] | None) -> list[Site]:
    """Return the sites of a judgement in the order of their labels; none where no case names its site.

    Args:
        judgement: entries, cases and scores.
        learned: labels of the sites that the run was trained on; None where they are not known.
    """
    of_case = {sample.case.name: sample.case.site for sample in judgement.cases}
    found = []
    for name in (*sorted({site for site in of_case.values() if site}), None):
        # Rows without slices belong to all cases together, such as an area under a curve over all images.
        rows = [
            row
            for row in judgement.scores.rows
            if row.case in of_case and of_case[row.case] == name and row.slices[0] < row.slices[1]
        ]
        trained = None if learned is None or name is None else name in learned
        found += [Site(name or UNKNOWN, Scores(rows), trained)] if rows else []
    return found if any(site.name != UNKNOWN for site in found) else []


def differing(judge: Judge, reference: str, sites: Sequence[Site]) -> str:
    """Return a sentence where the comparison with the reference has not the same outcome at all sites, else nothing."""
    score = deciding_score(judge)
    by_outcome: dict[Outcome, list[str]] = {}
    for site in sites:
        by_outcome.setdefault(site.outcome(reference, score), []).append(site.name)
    if len(by_outcome) < 2:
        return ""
    order: tuple[Outcome, ...] = ("better", "worse", "undecided")
    parts = [f"{outcome} at {', '.join(by_outcome[outcome])}" for outcome in order if outcome in by_outcome]
    return f"Sites differ: by {score.name}, the output against {judge.called(reference)} is {'; '.join(parts)}."


def with_sites(
    judge: Judge, reference: str, sites: Sequence[Site], headline: str, outcome: Outcome
) -> tuple[str, Outcome]:
    """Return the verdict with what the sites say against it: a mean over all must not hide a site that does worse.

    Args:
        judge: judge of the task.
        reference: name of the entry that the output is compared with.
        sites: sites of the judged cases.
        headline: verdict over all cases.
        outcome: its outcome; better becomes undecided where the output is worse at a site.
    """
    found = {site.outcome(reference, deciding_score(judge)) for site in sites}
    opposite = {"better": {"worse"}, "worse": {"better"}, "undecided": {"better", "worse"}}[outcome]
    if not found & opposite:
        return headline, outcome
    settled: Outcome = "undecided" if outcome == "better" else outcome
    return sentences(headline, differing(judge, reference, sites)), settled


def notes(judge: Judge, reference: str, sites: Sequence[Site]) -> list[str]:
    """Return sentences without full stops on where sites differ, and on which of them the run was trained."""
    if not sites:
        return []
    told = [differing(judge, reference, sites).rstrip(".")] if len(sites) > 1 else []
    named = [site for site in sites if site.name != UNKNOWN]
    seen, new = ([site.name for site in named if site.trained is trained] for trained in (True, False))
    if not seen and not new:
        told.append(
            "whether the run was trained on the sites that are judged is not known: its data named none, or it has "
            "another secret"
        )
    elif not new:
        told.append(
            "all sites that are judged had subjects in training: this says nothing about other scanners; hold a site "
            "out with --hold-out-site"
        )
    elif not seen:
        few = "; a single other site says little about further ones" if len(new) == 1 else ""
        told.append(f"no subject of {count(len(new), 'judged site')} ({', '.join(new)}) was in training{few}")
    else:
        told.append(f"sites with subjects in training: {', '.join(seen)}; without: {', '.join(new)}")
    return [note for note in told if note]


def add_sites(report: Report, judge: Judge, reference: str, sites: Sequence[Site]) -> None:
    """Add a table of the output and the strongest reference at every site, where there are several."""
    if len(sites) < 2:
        return
    shown = [judge.named(name) for name in dict.fromkeys((deciding_score(judge).name, *judge.leading))]
    columns = [Column(name) for name in ("site", "in training", "subjects", "method")]
    columns += [Column(score.name, score.unit, None, score.digits) for score in shown]
    rows: list[list[Cell]] = []
    for site in sites:
        trained = {True: "yes", False: "no", None: UNKNOWN}[site.trained]
        for method in dict.fromkeys((OUTPUT, reference)):
            cells: list[Cell] = [site.scores.interval(method, score.name) for score in shown]
            rows.append([site.name, trained, str(site.subjects), title(method), *cells])
        rows[-2 if reference != OUTPUT else -1][3] = (
            f"{title(OUTPUT)}: {site.outcome(reference, deciding_score(judge))}"
        )
    caption = (
        f"By site: means over {judge.resampled}, with 95 % intervals; the verdict on the output against "
        f"{judge.called(reference)} is by {deciding_score(judge).name}, and needs two subjects."
    )
    report.table(rows, columns, caption=caption)


def as_facts(judge: Judge, reference: str, sites: Sequence[Site]) -> list[Mapping[str, Any]]:
    """Return the table by site as values that JSON can hold, for all scores of cases and all methods."""
    return [
        {
            "site": site.name,
            "trained": site.trained,
            "cases": sorted(site.scores.cases),
            "subjects": site.subjects,
            "outcome": site.outcome(reference, deciding_score(judge)),
            "scores": {
                score.name: {
                    method: asdict(found)
                    for method in site.scores.methods
                    if (found := site.scores.interval(method, score.name))
                }
                for score in judge.scores
            },
        }
        for site in sites
    ]
