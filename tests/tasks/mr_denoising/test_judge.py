from dataclasses import replace

import numpy as np
import pytest

from ganatomy.case import Case
from ganatomy.data.cases import PhantomSource
from ganatomy.evaluation.judging import INPUT, OUTPUT, TARGET, Entry, Judgement, Scores, judge_of
from ganatomy.evaluation.references import choose, tune
from ganatomy.images.codecs import Window
from ganatomy.images.image import Image
from ganatomy.reports.report import Report
from ganatomy.tasks.mr_denoising.task import PSNR, MRDenoising

TASK = MRDenoising(Window(low=0, high=1000, to=(0.0, 1.0), unit="a.u."), 10.0, (48, 48), "brain-mr", "t1")
CLASSICAL = "non-local means"


def case(seed):
    blocks = np.random.default_rng(seed).integers(2, 9, (6, 5)) * 100.0
    clean = np.pad(np.kron(blocks, np.ones((6, 6))), (6, 7)).astype(np.float32)[None]
    whole = Case(f"p{seed}", f"p{seed}", "test", {"target": PhantomSource("brain-mr", seed, ())})
    sample = TASK.simulate(TASK.frame({"target": Image.from_array(clean, (3.0, 1.0, 1.5), "a.u.")}, whole), seed)
    return replace(sample, arrays={role: sample.image(role).numpy() for role in sample.arrays})


def judged(run):
    judge, cases = judge_of(TASK), [case(seed) for seed in range(6)]
    tuned = tune(judge, judge.classical(), [], [])
    entries = judge.with_references(Entry(OUTPUT, run), *tuned.entries)
    rows = [row for one in cases for row in judge.score_case(entries, one)]
    reference = choose(judge, tuned, [INPUT, *(one.name for one in tuned.entries)], Scores(rows))
    return judge, Judgement(entries, cases, Scores(rows), reference.name)


def halved(one, start, stop):
    clean, noisy = (one.arrays[role][0, start:stop] for role in (TARGET, INPUT))
    return (clean + noisy) / 2


def test_less_noise_is_better_and_half_of_it_is_6_db():
    judge, judgement = judged(halved)
    words, outcome = judge.verdict(judgement)
    assert judgement.reference in ("non-local means", "total variation"), "not the noisy input"
    assert f"than {judgement.reference}: PSNR" in words and "Against the input: PSNR +6.0" in words
    ours, theirs = (judgement.scores.mean(name, PSNR) for name in (OUTPUT, judgement.reference))
    assert outcome == ("better" if ours > theirs else "worse"), "the strongest reference counts, not the input"
    assert judgement.scores.interval(CLASSICAL, PSNR).mean > judgement.scores.interval(INPUT, PSNR).mean + 3
    assert not judgement.scores.by_subject(TARGET, PSNR), "the target is not compared with itself"


def test_what_blurs_more_than_the_noise_hides_is_worse():
    judge, judgement = judged(lambda one, start, stop: np.full_like(one.arrays[TARGET][0, start:stop], 450))
    assert judge.verdict(judgement)[1] == "worse"


def test_the_report_shows_cases_and_says_what_the_noise_was(tmp_path):
    judge, judgement = judged(halved)
    report = Report("t", "s")
    judge.illustrate(report, judgement)
    report.save(tmp_path / "report.html")
    said = (tmp_path / "report.html").read_text()
    assert said.count("<img") == 3 and "Worst of 6 cases" in said
    assert "over 10" in judge.measured()["Noise"] and "phantoms" in judge.caveats(judgement)[0]


@pytest.mark.parametrize("score", judge_of(TASK).scores, ids=lambda score: score.name)
def test_the_scores_of_the_tables_are_those_of_the_task(score):
    assert TASK.directions[score.name] == score.better
