import math
import re

import numpy as np
import pytest

from ganatomy import catalogue
from ganatomy.case import Case, Sample
from ganatomy.claims.decide import find_claim
from ganatomy.data.cases import DataConfig, PhantomSource
from ganatomy.errors import UserError
from ganatomy.evaluation.evaluate import evaluate
from ganatomy.evaluation.judging import INPUT, OUTPUT, TARGET, Entry, Judgement, Scores, judge_of, side_by_side
from ganatomy.images.image import Image
from ganatomy.inference.predictor import decoding_role
from ganatomy.reports.report import Report
from ganatomy.tasks.restoration.judge import role
from ganatomy.tasks.restoration.likeness import BEST, INFORMATION, MAE, PSNR, SSIM
from ganatomy.tasks.restoration.nearness import SHARPNESS_ERROR, SPECTRUM
from ganatomy.tasks.translation.task import CONTRAST, Translation, TranslationConfig
from ganatomy.training.run import TrainConfig, train

SOURCE = PhantomSource("brain-mr", 0, ())
AFFINE = Image.from_array(np.zeros((1, 1, 1)), (3.0, 1.0, 1.5)).affine


def task(paired=True, b=None, **options):
    own = {"window": (0, 1000), **options}
    config = TranslationConfig.preset("paper", source="a", target="b", size=(32, 40), a=own, b=b or own)
    return Translation(config, paired, MAE)


def anatomy(seed):
    blocks = np.random.default_rng(seed).integers(2, 9, (4, 8, 10)) * 100.0
    return np.kron(blocks, np.ones((4, 4)))[None].astype(np.float32)


def case(seed=0, roles=("a", "b"), factor=1.0, own=None):
    a = factor * anatomy(seed)
    arrays = {"a": a, "b": factor * 1000 - a}
    whole = Case(f"p{seed}", f"p{seed}", "test", dict.fromkeys(roles, SOURCE))
    return Sample(whole, {name: arrays[name] for name in roles}, dict.fromkeys(roles, AFFINE), (own or task()).roles)


def judged(run, cases, own=None):
    judge = judge_of(own or task())
    entries = judge.with_references(Entry(OUTPUT, run))
    rows = [row for one in cases for row in judge.score_case(entries, one)]
    return judge, Judgement(entries, cases, Scores(rows))


def right(one, start, stop):
    return 1000 - one.arrays["a"][0, start:stop]


def inverted(one, start, stop):
    return one.arrays["a"][0, start:stop]


def noise(one, start, stop):
    return np.random.default_rng(start).uniform(0, 1000, one.arrays["a"][0, start:stop].shape).astype(np.float32)


def test_a_right_translation_is_better_than_the_input():
    judge, judgement = judged(right, [case(seed) for seed in range(6)])
    found = {name: judgement.scores.interval(OUTPUT, name).mean for name in (MAE, CONTRAST, SHARPNESS_ERROR, SPECTRUM)}
    assert found == pytest.approx({MAE: 0, CONTRAST: 1, SHARPNESS_ERROR: 0, SPECTRUM: 0}, abs=1e-6)
    assert judgement.scores.interval(INPUT, CONTRAST).mean == pytest.approx(-1)
    assert judgement.scores.interval(TARGET, PSNR) is None, "a distance from itself is no score"
    assert judge.named(CONTRAST).better == "higher"


def test_the_verdict_names_the_gain_and_the_contrast():
    def blurred(one, start, stop):
        return right(one, start, stop) + 20

    judge, judgement = judged(blurred, [case(seed) for seed in range(6)])
    sentence, outcome = judge.verdict(judgement)
    assert outcome == "better" and "is closer to the true image" in sentence and "correlates" in sentence
    assert not any("inverted" in point or "lost" in point for point in judge.caveats(judgement))
    assert any("procedural phantoms" in point for point in judge.caveats(judgement))


def test_an_inverted_contrast_is_the_headline_and_a_caveat():
    judge, judgement = judged(inverted, [case(seed) for seed in range(6)])
    sentence, outcome = judge.verdict(judgement)
    assert outcome == "worse" and sentence.startswith("The contrast is inverted")
    assert any("contrast is inverted" in point for point in judge.caveats(judgement))


def test_lost_anatomy_is_a_caveat():
    judge, judgement = judged(noise, [case(seed) for seed in range(3)])
    assert any("has lost anatomy" in point for point in judge.caveats(judgement))
    assert any("contrast" in point for point in judge.caveats(judgement))


def test_the_input_is_shown_in_the_window_of_the_product():
    judge = judge_of(task())
    (shown,), _ = judge.references()
    assert np.allclose(shown.run(case(), 1, 3), anatomy(0)[0, 1:3])
    own = task(scale="percentile", percentiles=(0, 100), over="all")
    cases = [case(seed, factor=factor, own=own) for seed, factor in enumerate((1.0, 4.0, 2.0))]
    own.fitted = own.fit(cases)
    judge = judge_of(own)
    low, high = cases[2].arrays["b"].min(), cases[2].arrays["b"].max()
    assert judge.window == pytest.approx((low, high)) and judge.unit == "a.u."
    (shown,), _ = judge.references()
    for one in cases:
        values = shown.run(one, 0, 4)
        assert (values.min(), values.max()) == pytest.approx((low, high)), "whatever the scale of the input"
    for one in cases:
        right = Entry(OUTPUT, lambda other, start, stop: on_median_scale(own, other.arrays["b"][0, start:stop], other))
        rows = judge.score_case([right], one)
        assert [row.scores[MAE] for row in rows] == pytest.approx([0], abs=0.01 * float(one.arrays["b"].max()))
        dark = Entry(OUTPUT, lambda *place, run=right.run: 0.5 * run(*place))
        assert judge.score_case([dark], one)[0].scores[MAE] > 0.1 * one.arrays["b"].max()
    told = judge.measured()
    assert "compared on that of the true image" in told["Scale of the output"]
    assert "each true image's own range, from percentile 0 of all its voxels" in told["Window and data range"]


def on_median_scale(asked, values, one):
    """Move values from the scale of their own case to that in which outputs are made."""
    return decoding_role(asked, asked.roles["b"]).decoded(one.role("b").encoded(values))


def test_without_true_images_the_verdict_says_so():
    judge, judgement = judged(right, [case(0, ("a",))], task(paired=False))
    sentence, outcome = judge.verdict(judgement)
    assert outcome == "undecided" and "No patient has a true b image" in sentence
    assert any("exchanged" in point for point in judge.caveats(judgement))
    assert judgement.scores.interval(OUTPUT, INFORMATION).mean > 1
    _, lost = judged(noise, [case(0, ("a",))], task(paired=False))
    assert judge.verdict(lost)[1] == "worse"
    page = Report("t", "s")
    judge.illustrate(page, judgement)


def test_a_case_with_nothing_to_translate_is_named():
    judge = judge_of(task(paired=False))
    with pytest.raises(UserError, match="no a image, so nothing to make b of"):
        judge.score_case([role(TARGET, "b")], case(0, ("b",)))


@pytest.mark.parametrize("slug", ["pix2pix", "cyclegan", "mgan", "srgan"])
def test_claims_name_scores_that_the_judge_has(slug):
    claim, cls = find_claim(slug), catalogue.load(slug)
    judge = judge_of(cls(cls.Config.preset("small")).task)
    for predicate in claim.predicates:
        assert judge.named(predicate.score).better
        simple = [method.name for method in judge.classical()]
        assert predicate.first in claim.arms and predicate.second in (*claim.arms, *simple, INPUT)
    for values in claim.arms.values():
        cls.Config.preset("small", **values)


def test_a_run_whose_images_have_scales_of_their_own_is_trained_judged_and_applied(tmp_path):
    own = {"scale": "percentile", "percentiles": (1, 99)}
    names = {"source": "first", "target": "second"}
    parts = {"first": {**own, "part": "t1"}, "second": {**own, "part": "t2"}}
    tiny = {
        "size": (32, 32),
        "batch_size": 2,
        "width": 4,
        "discriminator_width": 4,
        "discriminator_strided": 1,
        "blocks": 1,
    }
    config = catalogue.load("cyclegan").Config.preset("small", **names, **parts, **tiny)
    data = DataConfig(phantom_subjects=4, phantom_size=32, cache=tmp_path / "cache")
    options = TrainConfig(rounds=2, validate_every=2, validation_slices=2, threads=1, diagnose=False)
    model = train("cyclegan", tmp_path / "run", config, data, options)
    found = evaluate(tmp_path / "run")
    maps = ["constant", "linear map", "monotone map", "tissue classes"]
    assert found.scores.methods == [INPUT, OUTPUT, *maps, TARGET] and found.leading[0] == PSNR
    assert BEST not in found.scores.rows[0].scores
    page = (tmp_path / "run" / "evaluation" / "report.html").read_text()
    assert "<img" in page and page.count("Left out, since they are not defined: ") == 1
    (told,) = re.findall(r"not defined: (.*?)\.<", page)
    assert told == "contrast and mutual information of constant"
    rng = np.random.default_rng(0)
    image = Image.from_array(np.pad(rng.uniform(200, 900, (3, 20, 18)), ((0, 0), (7, 5), (8, 2))), (3.0, 1.5, 1.5))
    made = model(image)["second"]
    low, high = model.method.task.window("second")
    assert made.shape == image.shape and np.allclose(made.affine, image.affine) and made.unit == "a.u."
    assert low - 1 <= made.numpy().min() < made.numpy().max() <= high + 1
    factor = 7.0
    again = model(Image.from_array(factor * image.numpy(), (3.0, 1.5, 1.5)))["second"]
    np.testing.assert_allclose(again.numpy(), made.numpy(), atol=0.02 * (high - low))


RED, BLUE = (np.array(one, np.float32)[:, None, None, None] for one in ((1, 0, 0), (0, 0, 1)))


def coloured(colour, seed=0):
    """Make a case with a grey input, whose true image is the anatomy in one colour."""
    own = task(b={"window": (0, 1000), "channels": 3})
    grey = anatomy(seed)
    arrays = {"a": grey, "b": (colour * grey).astype(np.float32)}
    whole = Case(f"p{seed}", f"p{seed}", "test", dict.fromkeys(arrays, SOURCE))
    return own, Sample(whole, arrays, dict.fromkeys(arrays, AFFINE), own.roles)


def painted(colour):
    return lambda one, start, stop: np.concatenate([part * one.arrays["a"][0, start:stop] for part in colour])


def test_colours_are_judged_channel_by_channel():
    own, one = coloured(BLUE)
    found = {}
    for name, colour in (("red", RED), ("blue", BLUE)):
        _, judgement = judged(painted(colour), [one], own)
        found[name] = {score: judgement.scores.mean(OUTPUT, score) for score in (PSNR, SSIM, MAE, CONTRAST)}
    assert {name: found["blue"][name] for name in (SSIM, MAE, CONTRAST)} == pytest.approx(
        {SSIM: 1, MAE: 0, CONTRAST: 1}
    )
    bright = anatomy(0)
    assert found["red"][MAE] == pytest.approx(2 / 3 * bright.mean(), rel=1e-5)
    assert found["red"][PSNR] == pytest.approx(10 * math.log10(1000**2 / (2 / 3 * (bright**2).mean())), abs=1e-3)
    assert found["red"][SSIM] < 0.7 and found["red"][CONTRAST] < 0


def test_colours_are_validated_channel_by_channel():
    own, one = coloured(BLUE)
    (shown,), (target,) = judge_of(own).references()
    sample = one.slices(0, 2, 3)
    assert (
        sample["b"].shape == (6, 32, 40) and (sample["b"][:4] == 0).all() and (sample["a"][:2] == sample["a"][4:]).all()
    )
    assert (target.run(one, 0, 2) == sample["b"]).all() and shown.run(one, 0, 2).shape == (6, 32, 40)
    assert own.scores({"b": sample["b"]}, sample, one.spacing)[MAE] == 0
    assert own.scores({"b": sample["b"][[4, 5, 2, 3, 0, 1]]}, sample, one.spacing)[MAE] > 100


def test_a_picture_of_colours_shows_their_mean():
    own, one = coloured(BLUE)
    judge, judgement = judged(painted(RED), [one], own)
    views = side_by_side(judgement.entries, one, 1, 3)
    np.testing.assert_allclose(views[OUTPUT], one.arrays["a"][0, 1:3] / 3, rtol=1e-6)
    page = Report("t", "s")
    judge.illustrate(page, judgement)
    assert "<img" in page.html()
