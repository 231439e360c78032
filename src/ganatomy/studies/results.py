"""The results of a downstream study of any kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ganatomy.metrics.statistics import Interval
from ganatomy.reports.report import Report


@dataclass(frozen=True)
class Results:
    """Results of a downstream study, and how they are written.

    Attributes:
        learner: name of what was trained on the images, such as "classifier".
        score: name of the score of the arms.
        arms: arm to its score.
        values: content of results.json.
        lines: lines of table.csv, the first of which names its columns.
        compose: function that adds all sections to the report page.
    """

    learner: str
    score: str
    arms: Mapping[str, Interval]
    values: Mapping[str, Any]
    lines: Sequence[Sequence[str]]
    compose: Callable[[Report], Report]
