"""Figures of a report on CT denoising."""

import numpy as np

from ganatomy.case import Case, Sample
from ganatomy.evaluation.judging import INPUT, OUTPUT, TARGET, Entry, Judgement, Scores, judge_of
from ganatomy.images.codecs import Window
from ganatomy.physics.ct import LowDoseScan
from ganatomy.reports.viewer import Illustration
from ganatomy.tasks.ct_denoising.task import CTDenoising
from ganatomy.tasks.restoration.judge import role

DEVIATIONS = {"target": 4, "input": 20}
"""Standard deviation of the noise in HU."""
TASK = CTDenoising(LowDoseScan(views=60), Window(low=-1000, high=1000), "rmse", 2)


class Page:
    """A report that records the figures it is given."""

    def __init__(self):
        self.captions, self.sections = [], []

    def figure(self, figure, caption):
        if isinstance(figure, Illustration):
            assert figure.stack().total == 3
            figure = figure.figure
        assert figure.axes
        self.captions.append(caption)

    def section(self, title):
        self.sections.append(title)

    def __getattr__(self, name):
        return lambda *_, **__: None


def toy(name, seed):
    """Make a case of a bright square in fat, with less noise in the target than in the input."""
    rng = np.random.default_rng(seed)
    clean = np.full((1, 3, 64, 80), -100.0, np.float32)
    clean[..., 16:48, 16:60] = 60
    arrays = {role: clean + rng.normal(0, sd, clean.shape).astype(np.float32) for role, sd in DEVIATIONS.items()}
    return Sample(
        Case(name, name, "test", {}), arrays, dict.fromkeys(arrays, np.diag([3.0, 1.5, 1.2, 1.0])), TASK.roles
    )


def test_a_page_shows_cases_a_profile_noise_and_regions():
    judge, cases = judge_of(TASK), [toy(f"s{seed}", seed) for seed in range(3)]
    low, routine = role("input").run, role("target").run
    half = Entry(OUTPUT, lambda *where: (low(*where) + routine(*where)) / 2)
    entries = [role(INPUT), half, role(TARGET)]
    rows = [row for case in cases for row in judge.score_case(entries, case)]
    page = Page()
    judge.illustrate(page, Judgement(entries, cases, Scores(rows)))
    beginnings = ("Median", "Worst", "Best", "CT numbers", "Noise power spectra", "Mean and standard deviation")
    assert page.sections == ["A closer look"] and len(page.captions) == len(beginnings)
    assert all(caption.startswith(words) for caption, words in zip(page.captions, beginnings, strict=True))
