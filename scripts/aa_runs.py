"""Train equal arms that differ in their seeds only, record their scores, and count how often they are told apart.

python scripts/aa_runs.py             prints the table of docs/results/aa.md from tests/fixtures/aa.json
python scripts/aa_runs.py FOLDER      writes tests/fixtures/aa.json first; finished runs in FOLDER are used again
"""

import json
import sys
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from rich.console import Console

from ganatomy import catalogue
from ganatomy.claims.decide import CLAIMS
from ganatomy.claims.reproduction import THREADS
from ganatomy.data.cases import DataConfig, discover
from ganatomy.data.pseudonyms import Labels, Pseudonyms
from ganatomy.evaluation.arms import ArmScores
from ganatomy.evaluation.choosing import run_facts, seen_cases
from ganatomy.evaluation.judging import Scores
from ganatomy.inference.runfile import TrainConfig
from ganatomy.metrics.statistics import contrast
from ganatomy.training.arms import Arm, judge_models, pinned, runs_of, train_run

SYSTEMS = {"pix2pix": 100, "gan": 300, "gancs": 30, "segan": 40}
"""Systems of four kinds of task, and their rounds, which are few: equal arms need not be good ones."""
SEEDS = range(10)
SCORES = 3
"""Number of scores that are recorded, the leading ones of the task."""
PAIRS = 400
"""Number of pairs of arms of three runs that the table counts."""
RESULT = Path(__file__).resolve().parents[1] / "tests" / "fixtures" / "aa.json"


def tables(slug: str, rounds: int, folder: Path) -> dict[str, list[list[float]]]:
    """Train all runs of a system and return score to table (runs, subjects)."""
    system = catalogue.resolve(slug)
    arm = Arm(slug, system, system.cls.Config.preset("small", **CLAIMS[slug].phantom), rounds)
    task, pseudonyms, console = arm.method.task, Pseudonyms.of_user(), Console()
    data = pinned(DataConfig(), task, pseudonyms)
    options = TrainConfig(threads=THREADS)
    models = {run.label: train_run(run, folder, data, options, console) for run in runs_of([arm], SEEDS)}
    cases = [case for case in discover(task, data) if case.split == "test"]
    facts = run_facts(next(iter(models.values())))
    known, validation = (seen_cases(task, facts, pseudonyms, side) for side in ("train", "val"))
    labels = Labels([*cases, *known, *validation], pseudonyms)
    judged = judge_models(models, cases, known, validation, data.cache_folder, labels, console)
    judge = judged.judge
    scores = ArmScores(Scores(judged.rows), SEEDS)
    wanted = dict.fromkeys([*judge.leading, *(one.name for one in judge.scores if one.better)])
    found = {name: scores.table(slug, name) for name in wanted}
    known = [name for name, table in found.items() if np.isfinite(table).all()]
    return {name: found[name].round(6).tolist() for name in known[:SCORES]}


def decided(scores: np.ndarray, runs: int, most: int) -> float:
    """Return the share of pairs of arms, of some runs each and none in both, that are called different.

    Args:
        scores: scores of equal runs (runs, subjects).
        runs: runs of every arm.
        most: number of pairs, drawn with the seed 0, where there are more.
    """
    numbers = range(len(scores))
    pairs = [
        (first, second)
        for first in combinations(numbers, runs)
        for second in combinations([number for number in numbers if number not in first], runs)
        if first < second
    ]
    chosen = np.random.default_rng(0).permutation(len(pairs))[:most]
    outcomes = [contrast(scores[list(pairs[i][0])], scores[list(pairs[i][1])]).outcome for i in chosen]
    return sum(outcome in ("better", "worse") for outcome in outcomes) / len(outcomes)


def apart(scores: np.ndarray) -> float:
    """Return the share of pairs of single runs whose difference has a bootstrap interval that excludes zero.

    Args:
        scores: scores of equal runs (runs, subjects); the bootstrap is over subjects.
    """
    intervals = [
        contrast(scores[[first]], scores[[second]]).over_subjects
        for first, second in combinations(range(len(scores)), 2)
    ]
    return sum(one.low > 0 or one.high < 0 for one in intervals) / len(intervals)


def table(recorded: Mapping[str, Mapping[str, Sequence[Sequence[float]]]]) -> str:
    """Return a Markdown table with a row for every recorded score.

    Args:
        recorded: system to score to table (runs, subjects).
    """
    lines = ["| system | score | subjects | one run each | three runs each |", "|---|---|---|---|---|"]
    for slug, of_system in recorded.items():
        for name, rows in of_system.items():
            scores = np.array(rows)
            shares = f"{apart(scores):.0%} | {decided(scores, 3, PAIRS):.0%}"
            lines.append(f"| {slug} | {name} | {scores.shape[1]} | {shares} |")
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1:]:
        found = {slug: tables(slug, rounds, Path(sys.argv[1])) for slug, rounds in SYSTEMS.items()}
        RESULT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(table(json.loads(RESULT.read_text(encoding="utf-8"))))
