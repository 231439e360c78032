import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganatomy import phantoms
from ganatomy.errors import UserError
from ganatomy.images.codecs import PercentileWindow, Window, ZScore
from ganatomy.images.image import Image
from ganatomy.tasks.anomaly_detection.refinement import Refinement, eroded, median_filtered
from ganatomy.tasks.anomaly_detection.task import AnomalyDetection, FeatureAttribution, Found

PARTS = {"image": "t2", "mask": "mask:lesion", "healthy": "healthy:t2"}
SPACING = (3.0, 2.0, 2.0)


def task(codec=None, kind=AnomalyDetection, **values):
    codec = codec or Window(low=0.0, high=1000.0, unit="a.u.")
    return kind(codec, (16, 16), "contain", ("healthy",), False, "brain-mr", PARTS, **values)


def standardised(**values):
    return task(Window(low=-3.5, high=3.5, to=(-3.5, 3.5), unit=None), scale=ZScore(unit="a.u."), **values)


def brain(seed=0, slices=3):
    values = np.random.default_rng(seed).uniform(400, 800, (slices, 16, 16)).astype(np.float32)
    values[:, :4] = 0
    return Image.from_array(values, SPACING, "a.u.")


def found(map, image):
    return Found(map, np.ones(len(map), np.float32), image)


def test_a_window_leaves_values_as_they_are():
    image = brain()
    prepared = task().prepare({"image": image}, 0)["image"]
    assert np.array_equal(prepared.numpy(), image.numpy()) and prepared.unit == "a.u."


def test_z_scores_are_those_of_the_tissue_of_the_whole_case():
    image = brain()
    prepared = standardised().prepare({"image": image}, 0)["image"].numpy()
    tissue = image.numpy() > 0
    assert abs(prepared[tissue].mean()) < 1e-4 and abs(prepared[tissue].std() - 1) < 1e-4
    assert (prepared[~tissue] == -3.5).all()
    assert np.array_equal(standardised().tissue(prepared), tissue)
    brighter = image.with_array(3 * image.numpy())
    assert np.allclose(standardised().prepare({"image": brighter}, 0)["image"].numpy(), prepared, atol=1e-4)


def test_the_healthy_image_is_on_the_scale_of_the_one_that_was_seen():
    image, shifted = brain(), brain().with_array(np.where(brain().numpy() > 0, brain().numpy() + 100, 0))
    one = standardised()
    prepared = one.prepare({"image": image, "healthy": shifted}, 0)
    own = one.bound(image)
    tissue = image.numpy() > 0
    difference = (prepared["healthy"].numpy() - prepared["image"].numpy())[tissue]
    assert np.allclose(difference, 100 / own.std, atol=1e-4)
    assert np.allclose(own.decode(prepared["image"].numpy())[tissue], image.numpy()[tissue], atol=1e-2)


def test_percentiles_of_the_case_become_zero_and_one():
    image = brain()
    own = PercentileWindow(p_low=0, p_high=50, to=(0.0, 1.0), clip=True, unit="a.u.")
    prepared = task(Window(low=0, high=1, unit=None), scale=own).prepare({"image": image}, 0)["image"].numpy()
    assert prepared.min() == 0 and prepared.max() == pytest.approx(1)
    assert (prepared > 0.9999).mean() == pytest.approx(0.5, abs=0.01)


def test_a_case_without_tissue_is_refused():
    black = brain().with_array(np.where(brain().numpy() > 700, -1.0, -2.0).astype(np.float32))
    with pytest.raises(UserError, match=r"nothing inside|same value"):
        standardised().prepare({"image": black}, 0)


def test_other_scales_are_prepared_anew():
    assert len({one.fingerprint for one in (task(), standardised(), standardised(tissue_above=5.0))}) == 3


def test_only_healthy_slices_are_learned_from():
    image = task().prepare({"image": brain()}, 0)["image"].numpy()
    image[:, 2] = 0
    mask = np.zeros_like(image)
    mask[:, 0, 8, 8] = 1
    one = task()
    assert one.trainable("healthy", {"image": image}).tolist() == [True, True, False]
    assert one.trainable(None, {"image": image, "mask": mask}).tolist() == [False, True, False]
    assert one.only_tested("sick") and not one.trainable("sick", {"image": image, "mask": mask}).any()
    one.lesion_free = True
    assert not one.only_tested("sick")
    assert one.trainable("sick", {"image": image, "mask": mask}).tolist() == [False, True, False]
    assert not one.trainable("sick", {"image": image}).any()


def test_scores_of_perfect_and_of_inverted_maps():
    image = brain().numpy()[0]
    mask = np.zeros_like(image)
    mask[1, 8:12, 8:12] = 1
    one = task()
    perfect = one.scores(found(mask, image), {"image": image, "mask": mask}, SPACING)
    assert perfect == {"residual": 0.0, "score": 1.0, "pixel auc": 1.0, "ncc": pytest.approx(1.0)}
    inverted = one.scores(found(1 - mask, image - 50), {"image": image, "mask": mask}, SPACING)
    assert inverted["pixel auc"] == 0.0 and inverted["ncc"] == pytest.approx(-1.0)
    assert inverted["residual"] == pytest.approx(50, rel=1e-4)
    assert set(one.scores(found(mask, image), {"image": image}, SPACING)) == {"residual", "score"}
    assert set(perfect) <= set(one.directions)


def test_the_background_does_not_make_a_map_better():
    image = brain().numpy()[0]
    mask = np.zeros_like(image)
    mask[:, 8:12, 8:12] = 1
    inside = (image > 0).astype(np.float32)
    assert task().scores(found(inside, image), {"image": image, "mask": mask}, SPACING)["pixel auc"] == 0.5


def test_both_groups_of_images_are_shown_to_the_trained_method():
    one = task(kind=FeatureAttribution)
    baseline = one.prepare({"baseline": brain()}, 0)
    effect = one.prepare({"effect": brain(1), "mask": brain(2)}, 0)
    assert set(baseline) == {"image", "baseline"} and set(effect) == {"image", "effect", "mask"}
    assert np.array_equal(effect["image"].numpy(), effect["effect"].numpy())
    assert one.phantom_parts("healthy") == {"baseline": "t2"}
    assert one.phantom_parts("sick") == {"effect": "t2", "mask": "mask:lesion"}
    assert not one.only_tested("sick")
    arrays = {"image": effect["image"].numpy(), "mask": np.ones((1, 3, 16, 16))}
    assert one.trainable("sick", arrays).all(), "images with the effect are learned from"


@pytest.mark.parametrize("label", ["healthy", "sick"])
def test_the_phantom_has_every_part(label):
    patient = phantoms.make("brain-mr", 1, size=16, slices=2, label=label)
    parts = {role: phantoms.part(patient, name) for role, name in task().phantom_parts(label).items()}
    assert parts["image"] is patient.images["t2"] and parts["healthy"] is patient.healthy["t2"]
    assert np.array_equal(parts["mask"].numpy()[0] > 0.5, patient.masks["lesion"])
    assert phantoms.part(patient, "image") is patient.image
    assert [phantoms.label("brain-mr", seed) for seed in (0, 1)] == ["healthy", "sick"]


def test_refinement_does_nothing_unless_told():
    map, image = np.random.default_rng(0).random((2, 3, 16, 16)).astype(np.float32)
    tissue, mask = image > 0.3, map > 0.9
    assert np.array_equal(Refinement().refine(map, image, tissue, 2.0), map)
    assert np.array_equal(Refinement().clean(mask), mask)


def test_the_edge_of_the_tissue_is_passed_over():
    tissue = np.zeros((2, 16, 16), bool)
    tissue[:, 3:13, 3:13] = True
    kept = Refinement(erosion=4.0).refine(np.ones(tissue.shape, np.float32), tissue * 1.0, tissue, 2.0)
    assert np.array_equal(kept > 0, eroded(tissue, 2)) and kept[0].sum() == 6 * 6
    assert eroded(np.ones((1, 8, 8), bool), 3).all(), "an image that is cut has no edge there"


def test_dark_tissue_is_passed_over():
    image = np.arange(100, dtype=np.float32).reshape(1, 10, 10)
    tissue = image >= 50
    kept = Refinement(brightest=0.9).refine(np.ones_like(image), image, tissue, 1.0)
    assert kept.sum() == 5 and kept[0, 9, 5:].all()


@given(st.integers(1, 4), st.sampled_from([3, 5]))
def test_a_median_takes_specks_away_and_leaves_plains(slices, side):
    map = np.full((slices, 9, 9), 2, np.float32)
    assert np.array_equal(median_filtered(map, side), map)
    map[0, 4, 4] = 9
    assert (median_filtered(map, side) == 2).all()


def test_specks_are_no_findings():
    mask = np.zeros((2, 8, 8), bool)
    mask[0, 0, 0] = True
    mask[0, 4:6, 4:6] = mask[1, 5:7, 5:7] = True
    kept = Refinement(smallest=8).clean(mask)
    assert kept.sum() == 8 and not kept[0, 0, 0]
    assert not Refinement(smallest=9).clean(mask).any()
