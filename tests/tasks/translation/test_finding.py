import numpy as np
import pytest
import torch

from ganatomy.case import Case, Sample
from ganatomy.evaluation.judging import INPUT, OUTPUT, TARGET, Entry, Scores, judge_of
from ganatomy.images.image import axial_affine
from ganatomy.roles.labels import LabelRole
from ganatomy.tasks.translation.finding import AREA, FindingNetwork, has_finding, turned
from ganatomy.tasks.translation.task import Translation, TranslationConfig


@pytest.fixture(scope="module")
def asked():
    own = {"window": (0, 255), "channels": 3}
    config = TranslationConfig.preset("paper", source="a", target="b", size=(16, 16), a=own, b=own)
    task = Translation(config, False, "mae[window]", finding="found")
    task.roles = {**task.roles, "found": LabelRole("found", any_two=True, optional=True)}
    return task


def case(asked, seed, with_finding):
    """Blue discs on pink where there is a finding, and smaller ones where there is none; the input is inverted."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:16, :16]
    disc = np.hypot(x - rng.uniform(6, 10), y - rng.uniform(6, 10)) < (5 if with_finding else 2)
    picture = np.stack([np.where(disc, low, high) for low, high in ((80, 230), (60, 160), (160, 200))])[:, None]
    picture = (picture + rng.normal(0, 8, picture.shape)).clip(0, 255).astype(np.float32)
    arrays = {"a": 255 - picture, "b": picture, "found": np.full((1, 1, 16, 16), with_finding, np.uint8)}
    affines = dict.fromkeys(arrays, axial_affine((1.0, 1.0, 1.0)))
    return Sample(Case(f"p{seed}", f"p{seed}", "test", {}), arrays, affines, asked.roles)


@pytest.fixture(scope="module")
def judged(asked):
    judge = judge_of(asked)
    judge.learn([case(asked, seed, seed % 2 == 0) for seed in range(40)])
    cases = [case(asked, 100 + seed, seed % 2 == 0) for seed in range(16)]

    def right(one, start, stop):
        return np.asarray(one.arrays["b"])[:, start:stop].reshape(-1, 16, 16)

    def empty(one, start, stop):
        return np.full((3 * (stop - start), 16, 16), 200, np.float32)

    entries = judge.with_references(Entry(OUTPUT, right), Entry("empty", empty))
    return judge, Scores(judge.score_all(entries, cases, ())), cases


def test_the_area_is_high_where_the_finding_is_kept_and_one_half_where_nothing_is_shown(judged):
    judge, scores, _ = judged
    assert scores.mean(OUTPUT, AREA) > 0.95 and scores.mean(TARGET, AREA) == scores.mean(OUTPUT, AREA)
    assert scores.mean("empty", AREA) == pytest.approx(0.5)
    assert scores.mean(INPUT, AREA) < scores.mean(OUTPUT, AREA)
    assert judge.named(AREA).better == "higher" and "found" in judge.measured()["Network of the finding"]


def test_cases_without_maps_or_of_one_kind_have_no_area(asked, judged):
    judge, _, cases = judged
    assert judge.score_all([], [one for one in cases if one.arrays["found"].any()], ()) == []
    bare = FindingNetwork("b", "found")
    bare.learn([case(asked, 1, True)])
    assert bare.network is None


def test_slices_have_a_finding_from_a_tenth_on():
    labels = np.zeros((1, 3, 10, 10), np.uint8)
    labels[0, 1, 0, :9], labels[0, 2, 0, :] = 1, 1
    assert has_finding(labels, 3).tolist() == [False, False, True]


def test_images_are_mirrored_and_no_value_changes():
    images = torch.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    seen = {tuple(turned(images, torch.Generator().manual_seed(seed))[0, 0].flatten().tolist()) for seed in range(30)}
    assert len(seen) == 4 and all(sorted(one) == images[0, 0].flatten().tolist() for one in seen)
