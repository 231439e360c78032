from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from ganatomy.case import Case, Sample
from ganatomy.claims.claim import Predicate
from ganatomy.claims.decide import check, find_claim
from ganatomy.errors import UserError
from ganatomy.evaluation.arms import ArmScores
from ganatomy.evaluation.judging import OUTPUT, Entry, Judgement, Scores, judge_of
from ganatomy.evaluation.sets import SamplerEntry
from ganatomy.game import MethodConfig
from ganatomy.images.image import axial_affine
from ganatomy.inference.predictor import predictor_of
from ganatomy.reports.report import Report
from ganatomy.roles.image import ImageOptions
from ganatomy.tasks.synthesis.entries import ImageRequest, noise
from ganatomy.tasks.synthesis.entries import sampler as made_by
from ganatomy.tasks.synthesis.judge import JudgeOptions, SynthesisJudge
from ganatomy.tasks.synthesis.pictures import beside, lerp, slerp, tile
from ganatomy.tasks.synthesis.scores import (
    ACCURACY,
    AUTHENTICITY,
    CHANNELS,
    COPIES,
    COPYING_TEST,
    COVERAGE,
    HISTOGRAM,
    KERNEL,
    MS_SSIM,
    NDB,
    SPREAD,
    TOLD,
    level,
)
from ganatomy.tasks.synthesis.sets import ImageSet, halves, physical, real_images, window
from ganatomy.tasks.synthesis.task import Synthesis, Synthesiser

pytestmark = pytest.mark.usefixtures("one_thread")

SIDES = ("left", "right")
SIZE = 16


def blobs(seeds: Sequence[int], labels: Sequence[int] | None = None) -> np.ndarray:
    """Draw a bright blob in a noisy plane for each seed, on the side given by the label; HU from -100 to 100."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    images = []
    for place, seed in enumerate(seeds):
        rng = np.random.default_rng(seed)
        side = labels[place] if labels is not None else rng.integers(2)
        row, column, radius = rng.uniform(4, 12), rng.uniform(3, 6) + 7 * side, rng.uniform(1, 2.5)
        blob = 160 * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * radius**2))
        images.append(blob - 80 + rng.normal(0, 5, blob.shape))
    return np.asarray(images, np.float32)


class Fake(Synthesiser):
    """A generator of blobs like the real ones, or of something worse, chosen by the first latent number."""

    latent_size = 1

    def __init__(self, task: Synthesis, kind: str = "good", labelled: bool = False):
        super().__init__(MethodConfig())
        self.own, self.kind, self.labelled = task, kind, labelled

    def build_task(self) -> Synthesis:
        return self.own

    def stages(self):
        return []

    def sample(self, latent: Tensor, label: Tensor | None = None) -> Tensor:
        seeds = [10_000 + int(1e6 * abs(float(value))) for value in latent[:, 0]]
        if self.kind == "constant":
            seeds = [10_000] * len(seeds)
        if self.kind == "copying":
            seeds = [1000 + seed % 60 for seed in seeds]
        if self.kind == "blurred":
            return self.blurred(seeds)
        images = torch.from_numpy(blobs(seeds, None if label is None else label.tolist()))[:, None] / 100
        return images + 0.01 * torch.randn(images.shape) if self.kind == "constant" else images

    def blurred(self, seeds: Sequence[int]) -> Tensor:
        """The mean image and noise of the right size."""
        noise = np.stack([np.random.default_rng(seed).normal(0, 30, (SIZE, SIZE)) for seed in seeds])
        return torch.from_numpy((blobs(range(100)).mean(axis=0) + noise).astype(np.float32))[:, None] / 100


def plain(classes: tuple[str, ...] = ()) -> Synthesis:
    return Synthesis({"image": ImageOptions(window=(-100.0, 100.0), unit="HU")}, (SIZE, SIZE), classes=classes)


def sampler(method: Synthesiser, name: str) -> SamplerEntry:
    return made_by(predictor_of(method), name)  # type: ignore[arg-type]


def cases(seeds: Sequence[int], labels: bool = False) -> list[Sample]:
    """Make cases of two slices each."""
    found = []
    roles = plain(SIDES if labels else ()).roles
    for number, pair in enumerate(zip(seeds[::2], seeds[1::2], strict=True)):
        place = number % 2
        images = blobs(pair, [place] * 2 if labels else None)
        case = Case(f"p{pair[0]}", f"p{pair[0]}", "test", {}, SIDES[place] if labels else None)
        arrays = {"image": images[None], **({"label": np.full((1, 1, 1, 1), place, np.int16)} if labels else {})}
        found.append(Sample(case, arrays, {"image": axial_affine((1.0, 1.0, 1.0))}, roles))
    return found


TEST, KNOWN = cases(range(80)), cases(range(1000, 1060))


@pytest.fixture(scope="module")
def judged() -> tuple[SynthesisJudge, Judgement]:
    task = plain()
    judge = judge_of(task)
    assert isinstance(judge, SynthesisJudge)
    samplers = {OUTPUT: "good", "constant": "constant", "copying": "copying", "blurred": "blurred"}
    entries = judge.with_references(*[sampler(Fake(task, kind), name) for name, kind in samplers.items()])
    return judge, Judgement(entries, TEST, Scores(judge.score_all(entries, TEST, KNOWN)))


def test_there_is_no_verdict_where_the_real_images_are_all_alike():
    task = plain()
    flat = [replace(case, arrays={"image": np.full_like(case.arrays["image"], 20.0)}) for case in TEST]
    judge = judge_of(task)
    entries = judge.with_references(sampler(Fake(task, "constant"), OUTPUT))
    rows = judge.score_all(entries, flat, [])
    words, outcome = judge.verdict(Judgement(entries, flat, Scores(rows)))
    assert outcome == "undecided" and words.startswith("No verdict: the real images hardly differ")


def as_output(judgement: Judgement, name: str) -> Judgement:
    """Return the judgement with another entry in place of the output."""
    names = {name: OUTPUT, OUTPUT: "other"}
    rows = [replace(row, method=names.get(row.method, row.method)) for row in judgement.scores.rows]
    entries = [replace(one, name=names.get(one.name, one.name)) for one in judgement.entries]
    return Judgement(entries, judgement.cases, Scores(rows))


def mean(judgement: Judgement, method: str, score: str) -> float:
    found = judgement.scores.interval(method, score)
    assert found is not None
    return found.mean


def test_every_score_is_there_for_everybody(judged: tuple[SynthesisJudge, Judgement]) -> None:
    judge, judgement = judged
    assert judgement.scores.methods == ["noise", OUTPUT, "constant", "copying", "blurred", "real"]
    assert list(judgement.scores.cases) == [f"resample {k}" for k in range(1, 6)]
    assert not {ACCURACY, CHANNELS} & {score.name for score in judge.scores}
    for method in judgement.scores.methods:
        for score in judge.scores:
            values, _ = judgement.scores.values(method, score.name)
            assert len(values) == 5 and np.isfinite(values).all(), (method, score.name)
    assert judge.named(HISTOGRAM).unit == "HU"


def test_a_generator_of_the_true_distribution_scores_as_real_images(judged: tuple[SynthesisJudge, Judgement]) -> None:
    judge, judgement = judged
    words, outcome = judge.verdict(judgement)
    assert outcome == "better" and "Nothing points to a collapse" in words and "No sign of copied" in words
    assert judge.position(judgement, OUTPUT) > 0.8
    assert abs(mean(judgement, OUTPUT, COVERAGE) - mean(judgement, "real", COVERAGE)) < 0.15
    assert abs(mean(judgement, OUTPUT, MS_SSIM) - mean(judgement, "real", MS_SSIM)) < 0.05
    assert mean(judgement, OUTPUT, COPIES) < 0.15
    assert mean(judgement, OUTPUT, KERNEL) < 0.2 * mean(judgement, "noise", KERNEL)


def test_a_generator_of_one_image_is_called_collapsed(judged: tuple[SynthesisJudge, Judgement]) -> None:
    judge, judgement = judged
    assert mean(judgement, "constant", SPREAD) < 0.3
    assert mean(judgement, "constant", MS_SSIM) > mean(judgement, "real", MS_SSIM) + 0.2
    assert mean(judgement, "constant", NDB) > 2 * mean(judgement, "real", NDB)
    other = as_output(judgement, "constant")
    words, outcome = judge.verdict(other)
    assert outcome == "worse" and "collapsed" in words
    assert "collapsed" in judge.caveats(other)[0]


def test_a_generator_of_training_images_is_called_a_copier(judged: tuple[SynthesisJudge, Judgement]) -> None:
    judge, judgement = judged
    assert mean(judgement, "copying", COPIES) > 0.9
    assert mean(judgement, "copying", AUTHENTICITY) < 0.05 < 0.3 < mean(judgement, "real", AUTHENTICITY)
    words, outcome = judge.verdict(as_output(judgement, "copying"))
    assert outcome == "worse" and "look copied" in words


def parts(slug: str, first: str) -> list[Predicate]:
    """Return the parts of a paper's claim that compare with noise or real images, said of another generator."""
    found = [part for part in find_claim(slug).predicates if part.second in ("noise", "real")]
    return [replace(part, first=first) for part in found if part.score != CHANNELS]


@pytest.mark.parametrize("slug", ["nodule-dcgan-vtt", "prostate-lesion-dcgan", "brain-manifold-dcgan"])
def test_what_papers_claim_holds_of_real_images_and_not_of_bad_generators(
    judged: tuple[SynthesisJudge, Judgement], slug: str
) -> None:
    judge, judgement = judged
    scores = ArmScores(judgement.scores, range(3))

    def findings(name: str) -> dict[tuple[str, str], str]:
        found = [check(part, scores, judge) for part in parts(slug, name)]
        return {(one.predicate.score, one.predicate.second): one.finding for one in found}

    for name in (OUTPUT, "real"):
        assert set(findings(name).values()) == {"reproduced"}, name
    assert findings("copying")[COPIES, "real"] == "not reproduced"
    for name in ("constant", "blurred", "noise"):
        told = {score: finding for score, finding in findings(name).items() if score[0] in (TOLD, COVERAGE)}
        assert told and "reproduced" not in told.values(), (name, told)


def test_neighbours_tell_bad_samples_from_real_images(judged: tuple[SynthesisJudge, Judgement]) -> None:
    _, judgement = judged
    assert max(mean(judgement, name, TOLD) for name in (OUTPUT, "real")) < 0.1
    assert min(mean(judgement, name, TOLD) for name in ("constant", "blurred", "noise")) > 0.4


def test_copying_is_a_statistic_too(judged: tuple[SynthesisJudge, Judgement]) -> None:
    _, judgement = judged
    assert mean(judgement, "copying", COPYING_TEST) < -3
    assert max(abs(mean(judgement, name, COPYING_TEST)) for name in (OUTPUT, "real")) < 3


def test_channels_that_do_not_go_together_are_seen() -> None:
    """Two sequences show the same blob, bright and dark; in a bad generator each shows its own."""
    names = ("t2", "adc")
    task = Synthesis({name: ImageOptions(window=(-100.0, 100.0), unit="a.u.") for name in names}, (SIZE, SIZE))
    held = []
    for number in range(40):
        one = blobs([number])
        arrays = {"t2": one[None], "adc": -one[None]}
        affines = dict.fromkeys(names, axial_affine((1.0, 1.0, 1.0)))
        held.append(Sample(Case(f"p{number}", f"p{number}", "test", {}), arrays, affines, task.roles))

    def pairs(apart: int) -> SamplerEntry:
        method = Fake(task)

        def sample(latent: Tensor, label: Tensor | None = None) -> Tensor:
            seeds = [10_000 + int(1e6 * abs(float(value))) for value in latent[:, 0]]
            both = [blobs(seeds), -blobs([seed + apart for seed in seeds])]
            return torch.from_numpy(np.stack(both, axis=1)) / 100

        method.sample = sample
        return sampler(method, f"apart by {apart}")

    judge = SynthesisJudge(task)
    entries = judge.with_references(pairs(0), pairs(1))
    judgement = Judgement(entries, held, Scores(judge.score_all(entries, held, [])))
    aligned, apart = (mean(judgement, f"apart by {number}", CHANNELS) for number in (0, 1))
    assert aligned < 0.1 and mean(judgement, "real", CHANNELS) < 0.1
    assert apart > 1 and abs(apart - mean(judgement, "noise", CHANNELS)) < 0.3
    part = next(part for part in find_claim("prostate-lesion-dcgan").predicates if part.score == CHANNELS)
    scores = ArmScores(judgement.scores, range(3))
    names = ("apart by 0", "real", "apart by 1", "noise")
    found = [check(replace(part, first=name), scores, judge).finding for name in names]
    assert found == ["reproduced", "reproduced", "not reproduced", "not reproduced"]


def test_slices_of_one_patient_do_not_tell_real_images_from_real_ones() -> None:
    """Eight slices of a patient are nearly the same, and nearer to each other than to those of anybody else."""
    task = plain()
    held = []
    for number in range(30):
        one = blobs([number])
        slices = one + np.random.default_rng(number).normal(0, 1, (8, SIZE, SIZE)).astype(np.float32)
        case = Case(f"p{number}", f"p{number}", "test", {})
        held.append(Sample(case, {"image": slices[None]}, {"image": axial_affine((1.0, 1.0, 1.0))}, task.roles))
    judge = SynthesisJudge(task)
    entries = judge.with_references(sampler(Fake(task), OUTPUT))
    judgement = Judgement(entries, held, Scores(judge.score_all(entries, held, [])))
    assert max(mean(judgement, name, TOLD) for name in (OUTPUT, "real")) < 0.15
    assert mean(judgement, "noise", TOLD) > 0.4


def test_results_name_their_features_and_numbers(judged: tuple[SynthesisJudge, Judgement]) -> None:
    judge, judgement = judged
    facts = judge.measured()
    assert "random convolutions" in facts["Features"]
    assert "each of 40 real and as many generated" in facts["Numbers"] and "60 training images" in facts["Numbers"]
    assert any("Sets of 40 images are small" in point for point in judge.caveats(judgement))


def test_no_score_depends_on_who_else_is_judged(judged: tuple[SynthesisJudge, Judgement]) -> None:
    _, judgement = judged
    judge = SynthesisJudge(plain())
    again = Scores(judge.score_all([sampler(Fake(plain()), OUTPUT)], TEST, KNOWN))
    assert again.rows == [row for row in judgement.scores.rows if row.method == OUTPUT]


def test_the_report_shows_samples(judged: tuple[SynthesisJudge, Judgement]) -> None:
    judge, judgement = judged
    page = Report("t")
    judge.illustrate(page, judgement)
    html = page.html()
    assert html.count("<figure>") == 6
    for words in ("not picked", "Equal pairs are copies", "latent space", "upsampling", "Window", "-100"):
        assert words.replace("-", "−") in html or words in html or words == "Window"
    assert f"{SIZE} rows" in html and level(SIZE) in judgement.scores.rows[0].scores


def test_labels_are_told_apart(tmp_path) -> None:
    task = plain(SIDES)
    held, known = cases(range(40), labels=True), cases(range(1000, 1040), labels=True)
    judge = SynthesisJudge(task, JudgeOptions(features="in-domain"))
    judge.cache = tmp_path
    swapped = Entry("swapped", lambda wanted: replace(honest.run(wanted), labels=1 - wanted.labels))
    honest = sampler(Fake(task, labelled=True), OUTPUT)
    judgement = Judgement([honest], held, Scores(judge.score_all([honest, swapped], held, known)))
    assert mean(judgement, OUTPUT, ACCURACY) > 0.9 and mean(judgement, "swapped", ACCURACY) < 0.1
    assert "classify them" in judge.measured()["Features"]
    page = Report("t")
    judge.illustrate(page, judgement)
    assert "A row per class" in page.html()


def test_colours_and_several_roles_are_shown() -> None:
    images = {
        "photo": ImageOptions(window=(0.0, 255.0), unit=None, channels=3),
        "adc": ImageOptions(window=(0.0, 3000.0), unit="um2/s"),
    }
    task = Synthesis(images, (16, 16))
    rng = np.random.default_rng(0)

    def prepared(number: int) -> Sample:
        arrays = {
            "photo": rng.uniform(0, 255, (3, 2, 16, 16)).astype(np.float32),
            "adc": rng.uniform(0, 4000, (1, 2, 16, 16)).astype(np.float32),
        }
        affines = dict.fromkeys(arrays, axial_affine((1.0, 1.0, 1.0)))
        return Sample(Case(f"s{number}", f"s{number}", "test", {}), arrays, affines, task.roles)

    held = [prepared(number) for number in range(8)]
    judge = SynthesisJudge(task)
    method = Fake(task)
    method.sample = lambda latent, label=None: torch.tanh(latent[:, :, None, None] + torch.zeros(1, 4, 16, 16))
    entries = judge.with_references(sampler(method, OUTPUT))
    judgement = Judgement(entries, held, Scores(judge.score_all(entries, held, [])))
    assert tile(judge.held.images[0], task).shape == (16, 32, 3)
    assert float(judge.held.images.max()) == 1.0
    page = Report("t")
    judge.illustrate(page, judgement)
    words, _ = judge.verdict(judgement)
    assert "copied" not in words and "photo, adc" in page.html()
    assert any("could not be checked" in point for point in judge.caveats(judgement))


def test_too_few_images_are_refused() -> None:
    judge = SynthesisJudge(plain())
    with pytest.raises(UserError, match="cannot be halved"):
        judge.score_all([], TEST[:1], [])


def test_halves_share_no_subject() -> None:
    pool = real_images(plain(), TEST, 1000)
    for seed in range(5):
        first, second = halves(pool, np.random.default_rng(seed), 1000)
        assert len(first) == len(second) == 40
        assert not set(first.subjects) & set(second.subjects)
    assert len(halves(pool, np.random.default_rng(0), 7)[1]) == 7
    alone = real_images(plain(), TEST[:1], 1000)
    first, second = halves(alone, np.random.default_rng(0), 1000)
    assert not torch.equal(first.images, second.images)


def test_noise_has_the_mean_and_spread_of_the_training_images() -> None:
    pool = real_images(plain(), KNOWN, 1000)
    made = noise(ImageRequest(60, 0, None, pool, pool)).images
    assert made.shape == pool.images.shape
    assert float(made.mean()) == pytest.approx(float(pool.images.mean()), abs=0.03)
    assert float(made.std()) == pytest.approx(float(pool.images.std()), rel=0.15)
    assert not torch.equal(made, noise(ImageRequest(60, 1, None, pool, pool)).images)
    without = noise(ImageRequest(5, 0, None, pool, ImageSet(torch.empty(0)))).images
    assert without.shape == (5, 1, SIZE, SIZE)


def test_walks_keep_their_ends_and_their_length() -> None:
    first, last = torch.randn(64), torch.randn(64)
    for between in (slerp, lerp):
        torch.testing.assert_close(between(first, last, 0.0), first)
        torch.testing.assert_close(between(first, last, 1.0), last)
    unit, other = first / first.norm(), last / last.norm()
    assert float(slerp(unit, other, 0.5).norm()) == pytest.approx(1, abs=1e-5)
    assert float(lerp(unit, other, 0.5).norm()) < 0.9
    torch.testing.assert_close(slerp(unit, unit, 0.3), unit)


def test_images_without_labels_stand_beside_as_many_real_ones() -> None:
    images = torch.rand(40, 1, SIZE, SIZE)
    labels = torch.arange(40) % 2
    made, real = ImageSet(images, None, ()), ImageSet(images, labels, ())
    task = plain(SIDES)
    left, right = (axes.images[0].get_array().shape for axes in beside({OUTPUT: made, "real": real}, task).axes)
    assert left == right and left[0] == left[1]
    rows, columns = beside({OUTPUT: real, "real": real}, task).axes[0].images[0].get_array().shape[:2]
    assert rows < columns / 2, "a row per class"


def test_a_class_of_which_there_is_no_image_has_an_empty_row() -> None:
    images = torch.rand(5, 1, SIZE, SIZE)
    one = ImageSet(images, torch.ones(5, dtype=torch.long), ())
    shown = beside({OUTPUT: one, "real": one}, plain(SIDES)).axes[0].images[0].get_array()
    half = shown.shape[0] // 2
    assert (shown[: half - 2] == 1).all() and shown[half:].min() < 1


def test_a_run_is_judged_with_the_features_that_are_asked_for() -> None:
    judge = judge_of(plain(), {"features": "vgg19"})
    assert isinstance(judge, SynthesisJudge) and judge.measured()["Features"] == "vgg19"
    with pytest.raises(UserError, match="--features pixels: "):
        judge_of(plain(), {"features": "pixels"})
    with pytest.raises(UserError, match="--size: no option of this system here; there are --features"):
        judge_of(plain(), {"size": 1})


def test_values_are_shown_in_the_scale_of_the_training_cases() -> None:
    image = ImageOptions(scale="percentile", percentiles=(0.0, 100.0), over="all", unit="a.u.")
    task = Synthesis({"image": image}, (SIZE, SIZE))
    method = Fake(task)
    samples = [replace(one, roles=task.roles) for one in KNOWN]
    method.fit(samples)
    assert method.task is task
    low, high = window(task, "image")
    ends = np.array([np.percentile(one.arrays["image"], (0, 100)) for one in samples])
    assert (low, high) == pytest.approx(tuple(np.median(ends, axis=0)), abs=0.5)
    ramp = torch.linspace(-1, 1, 5).reshape(1, 1, 1, 5)
    np.testing.assert_allclose(physical(ramp, task)["image"].ravel(), np.linspace(low, high, 5), atol=1e-3)
    brightest = real_images(task, samples, 100).images.flatten(1).max(dim=1).values.reshape(-1, 2).max(dim=1).values
    assert brightest.tolist() == pytest.approx([1] * len(samples), abs=1e-4), "every case has a scale of its own"
