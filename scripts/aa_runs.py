"""Train equal arms that differ in their seeds only, and record their scores for the A/A test of verdicts.

python scripts/aa_runs.py FOLDER      writes tests/fixtures/aa.json; runs in FOLDER that are finished are used again
"""

import json
import sys
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
from ganatomy.training.arms import Arm, judge_models, pinned, runs_of, train_run

SYSTEMS = {"pix2pix": 100, "gan": 300, "gancs": 30, "segan": 40}
"""Systems of four kinds of task, and their rounds, which are few: equal arms need not be good ones."""
SEEDS = range(10)
SCORES = 3
"""Number of scores that are recorded, the leading ones of the task."""
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


if __name__ == "__main__":
    found = {slug: tables(slug, rounds, Path(sys.argv[1])) for slug, rounds in SYSTEMS.items()}
    RESULT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
