"""Doubts about the choice of the best weights: by a validation score that no output or only the first ones reached."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ganatomy.case import Task
from ganatomy.data.splits import some
from ganatomy.inference.runfile import RunFile
from ganatomy.metrics.statistics import count
from ganatomy.reports.curves import read_metrics
from ganatomy.reports.measures import Measure

FEWEST = 3
"""Number of validations from which on it means something that the first one was the best (our choice)."""
METRICS = "metrics.csv"


def doubtful_choice(folder: Path, facts: RunFile, task: Task, subjects: Sequence[str]) -> str:
    """Return a sentence, without full stop, on why the best weights of a run may be no better than others.

    Args:
        folder: run folder.
        facts: run file.
        task: task of the run, which knows the scores of an empty output.
        subjects: names of the subjects of the validation slices.

    Returns:
        The sentence, with the subjects and what to do; empty where there is no doubt, or no ``metrics.csv``.
    """
    path, score = folder / METRICS, facts.selection.score
    if not path.is_file():
        return ""
    curves = read_metrics(path)
    tried = [len(values) for measure, (_, values) in curves.items() if measure.kind == "validation"]
    if not tried:
        return ""
    rounds, values = curves.get(Measure("validation", score), (np.array([]), np.array([])))
    how = "none of the validations gave a number"
    if values.size:
        best = int(values.argmin() if facts.selection.better == "lower" else values.argmax())
        empty, times = task.constant_scores.get(score), count(values.size, "validation")
        if empty is not None and _no_better(values[best], empty, facts.selection.better):
            how = f"it was never better than {empty:g}, that of an empty or constant output, in {times}"
        elif values.size >= FEWEST and np.ptp(values) == 0:
            how = f"it was the same, {values[0]:.4g}, in all of {times}"
        elif values.size >= FEWEST and best == 0:
            how = f"it was best, {values[0]:.4g}, in the first of {times}, at round {rounds[0]:.0f}, and never improved"
        else:
            return ""
    of = f" ({some(subjects)})" if subjects else ""
    return (
        f"the weights were chosen by the validation score {score}, but {how}, on {facts.validation}{of}: name subjects "
        "that show what is looked for, by --val-subjects or the column split of the manifest, train for more --rounds, "
        "or take the last weights with --which last"
    )


def _no_better(best: float, empty: float, better: str) -> bool:
    return best >= empty if better == "lower" else best <= empty
