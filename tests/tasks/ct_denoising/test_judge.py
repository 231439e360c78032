import numpy as np
import pytest

from ganatomy.case import Case, Sample
from ganatomy.data.cases import PhantomSource
from ganatomy.evaluation.judging import INPUT, OUTPUT, TARGET, Entry, Judgement, Row, Scores, judge_of
from ganatomy.images.codecs import Window
from ganatomy.phantoms import make
from ganatomy.physics.ct import LowDoseScan
from ganatomy.tasks.ct_denoising.judge import RMSE, TEXTURE, DenoisingJudge, _segment, measured_noise, risk_agreement
from ganatomy.tasks.ct_denoising.task import CTDenoising
from ganatomy.tasks.restoration.classical import non_local_means, slice_by_slice
from ganatomy.tasks.restoration.judge import role

TASK = CTDenoising(LowDoseScan(views=60), Window(low=-1000, high=1000), "rmse", 2)


def toy(name: str, seed: int, slices: int = 3) -> Sample:
    """Make a case of a bright square in fat, with little noise in the target and more in the input."""
    rng = np.random.default_rng(seed)
    clean = np.full((1, slices, 64, 64), -100.0, np.float32)
    clean[..., 16:48, 16:48] = 60
    arrays = {
        "target": clean + rng.normal(0, 4, clean.shape).astype(np.float32),
        "input": clean + rng.normal(0, 20, clean.shape).astype(np.float32),
    }
    affine = np.diag([3.0, 1.5, 1.5, 1.0])
    return Sample(Case(name, name, "test", {}), arrays, dict.fromkeys(arrays, affine), TASK.roles)


@pytest.fixture(scope="module")
def judge() -> DenoisingJudge:
    found = judge_of(TASK)
    assert isinstance(found, DenoisingJudge)
    return found


def judged(judge: DenoisingJudge, outputs: dict[str, str], subjects: int = 6) -> Scores:
    """Score entries that are roles of toy cases under other names."""
    entries = [Entry(name, role(shown).run) for name, shown in outputs.items()]
    cases = [toy(f"s{seed}", seed) for seed in range(subjects)]
    return Scores([row for case in cases for row in judge.score_case(entries, case)])


def test_doing_nothing_scores_as_the_input(judge: DenoisingJudge) -> None:
    scores = judged(judge, {INPUT: "input", OUTPUT: "input"})
    for score in judge.scores:
        ours, theirs = scores.interval(OUTPUT, score.name), scores.interval(INPUT, score.name)
        assert ours == theirs
        comparison = scores.compare(OUTPUT, INPUT, score)
        assert comparison is None or comparison.outcome == "undecided"


def test_a_perfect_output_is_found_better(judge: DenoisingJudge) -> None:
    scores = judged(judge, {INPUT: "input", OUTPUT: "target", TARGET: "target"})
    for name in (RMSE, TEXTURE, "ssim[-160,240]", "nps distance", "mean shift"):
        comparison = scores.compare(OUTPUT, INPUT, judge.named(name))
        assert comparison is not None and comparison.outcome == "better", name
    exact = scores.interval(OUTPUT, RMSE)
    assert exact is not None and exact.mean == 0
    assert scores.interval(TARGET, RMSE) is None
    sd = scores.interval(TARGET, "noise sd")
    assert sd is not None and sd.mean == pytest.approx(4, rel=0.1)


def test_the_verdict_says_who_wins(judge: DenoisingJudge) -> None:
    means, *_ = judge.classical()
    assert means.name == "non-local means"
    entries = [
        role(INPUT),
        Entry(OUTPUT, means.settings[1][1]),
        Entry("baseline", lambda case, a, b: 0.9 * role("input").run(case, a, b) + 0.1 * role(TARGET).run(case, a, b)),
        role(TARGET),
    ]
    cases = [toy(f"s{seed}", seed) for seed in range(4)]
    scores = Scores([row for case in cases for row in judge.score_case(entries, case)])
    words, outcome = judge.verdict(Judgement(entries, cases, scores))
    assert outcome == "better"
    assert words.startswith("The output is closer to the routine-dose scan than the low-dose input: PSNR +")
    assert "4 of 4 subjects" in words and "baseline" not in words
    words, _ = judge.verdict(Judgement(entries, cases, scores, "baseline"))
    assert words.startswith("The output is closer to the routine-dose scan than baseline: PSNR +")
    assert "Against the low-dose input: PSNR +" in words and "noise left by baseline" in words


def test_inverted_contrast_is_reported(judge: DenoisingJudge) -> None:
    inverted = Entry(OUTPUT, lambda case, a, b: -role("input").run(case, a, b))
    entries = [role(INPUT), inverted, role(TARGET)]
    case = toy("s", 0)
    points = judge.caveats(Judgement(entries, [case], Scores(judge.score_case(entries, case))))
    assert "inverted" in points[0]


def test_classical_denoising_keeps_edges_and_removes_noise() -> None:
    arrays = toy("s", 0).arrays
    sigma = measured_noise(arrays["input"][0], (1.5, 1.5))
    restored = slice_by_slice(non_local_means, arrays["input"][0], [0.8 * sigma] * len(arrays["input"][0]))
    assert restored[:, 24:40, 24:40].std() < 0.5 * arrays["input"][0, :, 24:40, 24:40].std()
    step = restored[:, 20:44, 18].mean() - restored[:, 20:44, 13].mean()
    assert step == pytest.approx(160, abs=8)


def test_risk_classes_agree_as_far_as_they_are_alike() -> None:
    truth = {"a": 0.0, "b": 50.0, "c": 2000.0}
    found = {OUTPUT: (0.0, 60.0, 1500.0), INPUT: (50.0, 50.0, 50.0), "partial": (0.0,)}
    rows = [
        Row(case, case, (0, 1), method, {"agatston": value})
        for method, values in found.items()
        for case, value in zip(truth, values, strict=False)
    ]
    agreement = risk_agreement(Scores(rows), truth)
    assert agreement.keys() == {OUTPUT, INPUT} and agreement[OUTPUT] == 1 and agreement[INPUT] < 0.2
    assert risk_agreement(Scores(rows), {"a": 0.0}) == {}


def test_a_phantom_is_its_own_truth(judge: DenoisingJudge) -> None:
    grid = (("size", 96), ("slices", 8))
    source = PhantomSource("thorax-ct", 7, grid)
    truth = make("thorax-ct", 7, **dict(grid))
    clean = np.asarray(truth.image.slab(0, 8), np.float32)
    arrays = {"target": clean, "input": clean}
    affines = dict.fromkeys(arrays, truth.image.affine)
    case = Sample(Case("p", "p", "test", {"clean": source}), arrays, affines, TASK.roles)
    found = judge.score_truth(clean[0], case, judge.truth(case.case))
    assert found["agatston error"] == found["risk class error"] == found["region mean error"] == 0
    assert found["agatston"] == truth.agatston
    bright = judge.score_truth(clean[0] + 500, case, truth)
    assert bright["agatston error"] > 100 and bright["region mean error"] == pytest.approx(500)


def test_a_profile_ends_at_the_edges_of_the_image():
    flat = np.zeros((9, 31), np.float32)
    assert _segment(flat, (1.0, 1.0)) == ((4, 0.0), (4, 30.0)), "120 mm are more than 31 pixels of 1 mm"
