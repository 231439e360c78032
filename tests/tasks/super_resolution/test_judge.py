from dataclasses import replace

import numpy as np
import pytest
import torch

from ganatomy import catalogue
from ganatomy.case import Case, Sample
from ganatomy.claims.decide import find_claim
from ganatomy.data.cases import PhantomSource
from ganatomy.evaluation.judging import INPUT, OUTPUT, TARGET, Entry, Judgement, Scores, judge_of
from ganatomy.images.codecs import Window
from ganatomy.images.image import axial_affine
from ganatomy.physics.resolution import Bicubic, Decimation, ThickSlices, Truncation, lanczos
from ganatomy.tasks.restoration.likeness import MAE, PSNR
from ganatomy.tasks.super_resolution.task import SuperResolution

CODEC = Window(low=0, high=1000, unit="a.u.", clip=True)
KINDS = (Bicubic((1, 4, 4)), Decimation((2, 2, 2)), ThickSlices((3, 1, 1)), Truncation((1, 2, 2)))


def task(degradation):
    return SuperResolution(degradation, CODEC, (0.0, 1.0), 1, 3, "brain-mr", {"image": "t1", "mask": "mask:white"}, MAE)


def case(degradation, fine):
    low = degradation(torch.from_numpy(fine)).numpy()
    whole = Case("p", "p", "test", {"image": PhantomSource("brain-mr", 0, ())})
    affine = axial_affine((3.0, 1.0, 1.0))
    steps = np.diag([*(size / less for size, less in zip(fine.shape[1:], low.shape[1:], strict=True)), 1.0])
    affines = {"image": affine, "low": affine @ steps}
    return Sample(whole, {"image": fine, "low": low}, affines, task(degradation).roles)


def judged(degradation, fine):
    one = case(degradation, fine)
    judge = judge_of(task(degradation))
    entries = judge.with_references(Entry(OUTPUT, lambda case, start, stop: case.arrays["image"][0, start:stop]))
    return judge, Judgement(entries, [one], Scores(judge.score_case(entries, one)))


@pytest.mark.parametrize("degradation", KINDS)
def test_the_input_counts_as_its_interpolation(degradation):
    ramp = np.broadcast_to(np.linspace(100, 900, 24, dtype=np.float32), (1, 24, 24, 24)).copy()
    judge, judgement = judged(degradation, ramp + ramp.swapaxes(1, 3) / 9)
    assert judgement.scores.interval(OUTPUT, MAE).mean == 0
    most = 40 if degradation.same_grid else 15
    assert 0 < judgement.scores.interval(INPUT, MAE).mean < most, "a ramp is kept but at its ends"
    assert judge.measured()["Coarse images"] == degradation.words
    assert judgement.entries[0].about == degradation.interpolation
    assert judgement.scores.interval(TARGET, PSNR) is None, "a distance from itself is no score"
    assert not any("contrast" in point for point in judge.caveats(judgement))


@pytest.mark.parametrize("degradation", KINDS)
def test_slabs_are_interpolated_as_parts_of_the_volume(degradation):
    fine = np.random.default_rng(0).uniform(100, 900, (1, 48, 8, 8)).astype(np.float32)
    one, judge = case(degradation, fine), judge_of(task(degradation))
    (interpolated,), _ = judge.references()
    whole = degradation.interpolated(one.arrays["low"][0])
    for start, stop in ((0, 8), (20, 27), (41, 48)):
        np.testing.assert_allclose(interpolated.run(one, start, stop), whole[start:stop], atol=1e-2)


@pytest.mark.parametrize("degradation", KINDS)
def test_a_windowed_sinc_is_compared_where_there_is_something_to_interpolate(degradation):
    methods = judge_of(task(degradation)).classical()
    assert [one.name for one in methods] == ([] if degradation.same_grid else ["Lanczos"])
    if methods:
        fine = np.random.default_rng(0).uniform(100, 900, (1, 48, 8, 8)).astype(np.float32)
        one, ((_, run),) = case(degradation, fine), methods[0].settings
        np.testing.assert_allclose(run(one, 20, 27), lanczos(one.arrays["low"][0], degradation.scale)[20:27], atol=1e-2)


def test_colours_are_interpolated_one_by_one():
    degradation = Bicubic((1, 4, 4))
    own = SuperResolution(degradation, CODEC, (0.0, 1.0), 3, 2, "brain-mr", {"image": "t1", "mask": "mask:white"}, MAE)
    fine = np.random.default_rng(0).uniform(100, 900, (3, 5, 16, 12)).astype(np.float32)
    one = replace(case(degradation, fine), roles=own.roles)
    (interpolated,), _ = judge_of(own).references()
    each = [degradation.interpolated(channel)[1:3] for channel in one.arrays["low"]]
    np.testing.assert_allclose(interpolated.run(one, 1, 3), np.concatenate(each))


def test_slices_with_nothing_to_see_are_left_out():
    fine = np.random.default_rng(0).uniform(100, 900, (1, 24, 16, 16)).astype(np.float32)
    fine[:, 8:] = 0
    _, judgement = judged(Bicubic((1, 4, 4)), fine)
    (full,) = judgement.scores.values(INPUT, MAE)[0]
    _, alone = judged(Bicubic((1, 4, 4)), fine[:, :8])
    assert full == pytest.approx(alone.scores.interval(INPUT, MAE).mean)


@pytest.mark.parametrize("slug", ["thin-slice-3dsrgan", "srgan3d-brain", "mdcsrn"])
def test_claims_name_scores_that_the_judge_has(slug):
    claim, cls = find_claim(slug), catalogue.load(slug)
    judge = judge_of(cls(cls.Config.preset("small")).task)
    for predicate in claim.predicates:
        assert judge.named(predicate.score).better
        simple = [method.name for method in judge.classical()]
        assert predicate.first in claim.arms and predicate.second in (*claim.arms, *simple, INPUT)
    for values in claim.arms.values():
        cls.Config.preset("small", **values)
