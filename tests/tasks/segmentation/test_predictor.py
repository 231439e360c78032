import nibabel
import numpy as np
import pytest
import torch
from levels import SHAPE, SPACING, Levels, affine, case, random_images, stored, volume

from ganatomy.data.batches import Range
from ganatomy.errors import UserError
from ganatomy.images.files import write
from ganatomy.images.image import ComputedArray
from ganatomy.images.labelmaps import palette
from ganatomy.inference.ensemble import Ensemble
from ganatomy.inference.model import Model
from ganatomy.inference.predictor import predictor_of
from ganatomy.tasks.segmentation.predictor import evenly_spaced, filled, largest_component
from ganatomy.tasks.segmentation.task import Cleaning

PIR = (1, 0, 2), (False, True, True)
"""Axes and reversals that make a file's axes run to the back, to the feet and to the right."""


def expected(images):
    whole, core = (images[role] >= 500 for role in ("t1", "t2"))
    return np.where(core, 1, np.where(whole, 2, 0))


def test_later_regions_overwrite_earlier_ones_with_the_label_that_is_their_own():
    images = random_images("t1", "t2")
    found = Model(Levels())(**{role: volume(values) for role, values in images.items()})
    labels = found["tumour"].numpy()[0]
    assert labels.dtype == np.uint8 and set(np.unique(labels)) == {0, 1, 2}
    np.testing.assert_array_equal(labels, expected(images))
    swapped = Model(Levels(regions={"core": (4, 1), "whole": (2, 1)}, inputs=("t2", "t1")))
    other = swapped(**{role: volume(values) for role, values in images.items()})["tumour"].numpy()[0]
    np.testing.assert_array_equal(other, np.where(images["t1"] >= 500, 2, np.where(images["t2"] >= 500, 4, 0)))


def test_the_label_map_of_turned_files_has_their_shape_and_affine(tmp_path):
    images = random_images("t1", "t2")
    turned = {role: stored(volume(values), *PIR) for role, values in images.items()}
    assert nibabel.aff2axcodes(turned["t1"].affine[:, [0, 1, 2, 3]]) == ("P", "I", "R")
    paths = {}
    for role, image in turned.items():
        paths[role] = tmp_path / f"{role}.nii.gz"
        write(paths[role], image)
    found = Model(Levels())(**paths, probabilities=True)
    labels = found["tumour"]
    assert labels.shape == (SHAPE[1], SHAPE[0], SHAPE[2]) and labels.unit is None
    np.testing.assert_allclose(labels.affine, turned["t1"].affine, atol=1e-5)
    np.testing.assert_array_equal(labels.numpy(), stored(volume(expected(images)), *PIR).numpy())
    np.testing.assert_allclose(
        found["probability_core"].numpy(), stored(volume(images["t2"] / 1000), *PIR).numpy(), atol=1e-6
    )


def test_probabilities_are_resampled_and_not_labels():
    spacing = (SPACING[0], 2 * SPACING[1], 2 * SPACING[2])
    coarse = random_images("t1", shape=(5, 8, 6))["t1"]
    fine = np.repeat(np.repeat(coarse, 2, 1), 2, 2)
    method = Levels(inputs=("t1",), regions={"lesion": (1,)}, spacing=spacing)
    found = Model(method)(volume(fine), probabilities=True)
    probability, labels = found["probability_lesion"].numpy(), found["tumour"].numpy()
    assert found.arrays["tumour"].shape == (1, 5, 8, 6) and labels.shape == (1, 5, 16, 12)
    np.testing.assert_array_equal(labels, probability >= 0.5)
    repeated = np.repeat(np.repeat(np.asarray(found.arrays["tumour"]), 2, 2), 2, 3)
    assert (labels != repeated).any(), "an edge between coarse voxels is finer than they are"
    np.testing.assert_allclose(found["tumour"].affine, affine())


def test_classes_take_the_most_probable_one_and_background_where_nothing_reaches():
    regions = {"background": (0,), "oedema": (2,), "core": (1,)}
    method = Levels(classes=True, regions=regions, inputs=("a", "b", "c"), spacing=SPACING, size=(5, 4))
    images = random_images("a", "b", "c")
    found = Model(method)(**{role: volume(values) for role, values in images.items()})
    inside = np.zeros(SHAPE, bool)
    inside[:, 1:6, 1:5] = True
    best = np.stack([images[role] for role in "abc"]).argmax(0)
    np.testing.assert_array_equal(found["tumour"].numpy()[0], np.where(inside, np.array([0, 2, 1])[best], 0))
    assert [row["region"] for row in found.tables["volumes"]] == ["oedema", "core"]


def test_probabilities_of_several_runs_are_averaged_before_they_become_labels():
    image = random_images("t1")["t1"]
    one = {"inputs": ("t1",), "regions": {"lesion": (1,)}}
    members = {"full": Levels(**one), "half": Levels(**one, t1={"window": (0.0, 2000.0)})}
    together = Ensemble({name: predictor_of(method) for name, method in members.items()})
    found = together.predict(together.sample_of({"t1": volume(image)}))
    np.testing.assert_array_equal(found.main.numpy()[0], 0.75 * image / 1000 >= 0.5)
    assert found.facts["averaged"] == {"what": ["probabilities"], "predictions": 2}


def test_regions_in_another_order_are_not_averaged():
    one, other = Levels(), Levels(regions={"core": (1, 4), "whole": (1, 2, 4)})
    with pytest.raises(UserError, match="other: makes other outputs or regions"):
        Ensemble({"one": predictor_of(one), "other": predictor_of(other)})


def test_thresholds_components_and_holes_are_options():
    image = np.zeros((3, 9, 8))
    image[:, 1:6, 1:6], image[1, 3, 3], image[1, 7, 7] = 800, 0, 600
    method = Levels(inputs=("t1",), regions={"lesion": (1,)})

    def labels(**options):
        return Model(method)(volume(image), **options)["tumour"].numpy()[0]

    plain = image > 0
    np.testing.assert_array_equal(labels(), plain)
    np.testing.assert_array_equal(labels(threshold=0.7), image > 700)
    alone = plain.copy()
    alone[1, 7, 7] = False
    np.testing.assert_array_equal(labels(largest=("lesion",)), alone)
    whole = plain.copy()
    whole[1, 3, 3] = True
    np.testing.assert_array_equal(labels(fill=("lesion",)), whole)
    np.testing.assert_array_equal(
        labels(fill=("lesion",), largest=("lesion",)), whole & (alone | whole) & ~(image == 600)
    )
    with pytest.raises(UserError, match="--largest core: no such region; this system has lesion"):
        labels(largest=("core",))


def test_components_hang_together_by_corners_and_holes_are_closed_by_faces():
    mask = np.zeros((3, 5, 6), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = mask[2, 2, 2] = mask[2, 4, 5] = mask[2, 4, 4] = True
    kept = largest_component(mask)
    assert kept.sum() == 3 and not kept[2, 4].any()
    shell = np.ones((3, 5, 6), bool)
    shell[1, 2, 3] = False
    assert filled(shell).all()
    shell[0, 2, 3] = False
    np.testing.assert_array_equal(filled(shell), shell)
    assert filled(shell[:1]).all(), "of one slice the plane counts"
    assert not largest_component(np.zeros((2, 3, 4), bool)).any()


def test_volumes_are_those_of_the_source_in_mm3_and_ml():
    images = random_images("t1", "t2")
    found = Model(Levels(spacing=(6.0, 2.0, 3.0)))(**{role: volume(values) for role, values in images.items()})
    labels = found["tumour"].numpy()
    rows = found.tables["volumes"]
    assert [row["region"] for row in rows] == ["whole", "core"]
    for row, own in zip(rows, ((1, 2, 4), (1, 4)), strict=True):
        voxels = int(np.isin(labels, own).sum())
        assert row["voxels"] == voxels and row["mm3"] == pytest.approx(4.5 * voxels)
        assert row["ml"] == pytest.approx(4.5 * voxels / 1000)
    flat = Model(Levels(inputs=("t1",), regions={"lesion": (1,)}))(volume(images["t1"][:1]))
    (row,) = flat.tables["volumes"]
    assert row["mm2"] == pytest.approx(1.5 * row["voxels"]) and "ml" not in row


def test_facts_say_what_was_written_and_what_was_absent():
    method = Levels(inputs=("t1", "t2"), optional_inputs=("t2",))
    image = random_images("t1")["t1"]
    found = Model(method)(t1=volume(image))
    np.testing.assert_array_equal(found["tumour"].numpy()[0], np.where(image >= 500, 2, 0))
    assert found.facts["inputs absent"] == ["t2"] and "without t2" in found.notes[0]
    assert found.facts["regions"]["whole"] == {"labels": [1, 2, 4], "written": 2}
    assert predictor_of(method).inputs == ("t1",) and predictor_of(method).optional == ("t2",)


def test_a_slab_runs_the_network_once_and_validation_reads_only_its_slices():
    method = Levels()
    images = random_images("t1", "t2")
    truth = expected(images).astype(np.uint8)
    sample = case(method.task, **images, tumour=truth)
    scores = predictor_of(method).validate([Range(sample, 1, 4)], 2)
    assert scores["dice"] == 1 and sum(method.seen) <= 2
    prediction = predictor_of(method).predict(sample)
    method.seen.clear()
    for _ in range(2):
        np.asarray(prediction.arrays["tumour"])
    assert sum(method.seen) == SHAPE[0], "the label map is kept"


def test_validation_looks_at_slices_with_a_region_and_at_others():
    method = Levels(inputs=("t1",), regions={"lesion": (1,)})
    image, truth = np.zeros((40, 3, 4)), np.zeros((40, 3, 4), np.uint8)
    image[30:32], image[2] = 1000, 1000
    truth[30:32] = 1
    sample = case(method.task, t1=image, tumour=truth)
    predictor = predictor_of(method)
    places = predictor._places(Range(sample, 0, 40), 6)
    assert {30, 31} <= set(places) and len(places) in (5, 6) and min(places) < 10
    assert predictor._places(Range(sample, 10, 20), 2) == [12, 17]
    assert predictor.validate([Range(sample, 3, 40)], 8)["dice"] == 1
    assert predictor.validate([Range(sample, 0, 6)], 6)["dice"] == 0
    assert predictor.validate([Range(sample, 4, 9)], 6) == {}
    assert (
        evenly_spaced("abcdefgh", 2) == ["c", "g"]
        and evenly_spaced("ab", 5) == ["a", "b"]
        and evenly_spaced("", 3) == []
    )


def test_a_network_that_sees_slabs_runs_once_for_all_their_slices():
    asked = []

    def network(start, stop):
        asked.append((start, stop))
        return np.ones((2, stop - start, 3, 4), np.float32)

    method = Levels()
    labels = predictor_of(method)._label_map(ComputedArray((2, 7, 3, 4), np.float32, network, 3))
    for at in (4, 5, 3, 6, 4):
        assert labels.slab(at, at + 1).shape == (1, 1, 3, 4)
    assert asked == [(3, 6), (6, 7)]


def test_cases_without_a_label_map_are_not_validated():
    method = Levels()
    with_map, without = (case(method.task, name, **random_images("t1", "t2")) for name in "ab")
    assert predictor_of(method).validate([Range(with_map, 0, 2), Range(without, 0, 2)], 4) == {}


class Slanted(Levels):
    """A network whose result depends on the direction of its axes, with dropout before it."""

    def __init__(self, dropout=0.5, **values):
        super().__init__(**values)
        self.dropout = torch.nn.Dropout(dropout)

    def segment(self, image):
        ramp = torch.linspace(0, 1, image.shape[-1]).expand_as(image[:, :1])
        return self.dropout(image[:, : len(self.config.regions)] * ramp)


def test_mirrored_images_are_averaged_where_the_options_ask_for_it():
    method = Slanted(inputs=("t1",), regions={"lesion": (1,)}).inference_mode()
    image = random_images("t1")["t1"]
    plain, mirrored = (
        Model(method)(volume(image), probabilities=True, mirrored=axes)["probability_lesion"].numpy()[0]
        for axes in ((), (2,))
    )
    ramp = np.linspace(0, 1, SHAPE[2], dtype=np.float32)
    np.testing.assert_allclose(plain, image / 1000 * ramp, atol=1e-6)
    np.testing.assert_allclose(mirrored, image / 2000, atol=1e-6)
    found = Model(method)(volume(image), mirrored=(1, 2))
    assert found.facts["averaged over mirrored axes"] == [1, 2]
    with pytest.raises(UserError, match=r"--mirrored 0: the network sees the axes 1, 2"):
        Model(method)(volume(image), mirrored=(0,))


def test_passes_with_dropout_are_averaged_repeat_and_leave_the_network_as_it_was():
    method = Slanted(inputs=("t1",), regions={"lesion": (1,)}).inference_mode()
    image = np.full(SHAPE, 800.0, np.float32)
    image[0, 0, 0] = 700
    one, few, again, many = (
        Model(method)(volume(image), probabilities=True, passes=passes)["probability_lesion"].numpy()
        for passes in (1, 3, 3, 400)
    )
    np.testing.assert_array_equal(few, again)
    assert np.abs(few - one).max() > 0.1 and np.abs(many - one).max() < 0.2 and not method.dropout.training
    without = Slanted(dropout=0.0, inputs=("t1",), regions={"lesion": (1,)}).inference_mode()
    with pytest.raises(UserError, match="--passes 3: this network has no dropout"):
        Model(without)(volume(image), passes=3)


def test_uncertainty_is_the_entropy_of_the_probabilities():
    levels = np.zeros(SHAPE, np.float32)
    levels[0], levels[1], levels[2] = 500, 1000, 110
    sure = np.zeros(SHAPE, np.float32)
    sure[4] = 1000
    both = Model(Levels())(t1=volume(levels), t2=volume(sure), uncertainty=True)
    found = both["uncertainty"].numpy()[0, :3, 0, 0]
    expected = -0.11 * np.log2(0.11) - 0.89 * np.log2(0.89)
    np.testing.assert_allclose(found, [1, 0, expected], atol=1e-3)
    regions = {"background": (0,), "lesion": (1,)}
    method = Levels(classes=True, regions=regions, inputs=("a", "b"))
    classes = Model(method)(a=volume(1000 - levels), b=volume(levels), uncertainty=True)
    np.testing.assert_allclose(classes["uncertainty"].numpy()[0, :3, 0, 0], [1, 0, expected], atol=1e-3)
    assert "share" in classes.facts["uncertainty"] and "largest" in both.facts["uncertainty"]


def test_a_system_may_clean_as_its_paper_does_unless_the_user_chooses_otherwise():
    image = np.zeros((3, 9, 8))
    image[:, 1:6, 1:6], image[1, 3, 3], image[1, 7, 7] = 800, 0, 600

    class Tidy(Levels):
        @property
        def cleaning(self):
            return Cleaning(largest=("lesion",), fill=("lesion",))

    method = Tidy(inputs=("t1",), regions={"lesion": (1,)})
    found = Model(method)(volume(image))
    tidy = image == 800
    tidy[1, 3, 3] = True
    np.testing.assert_array_equal(found["tumour"].numpy()[0], tidy)
    assert found.facts["largest component"] == found.facts["holes filled"] == ["lesion"]
    untouched = Model(method)(volume(image), largest=(), fill=())
    np.testing.assert_array_equal(untouched["tumour"].numpy()[0], image > 0)


def test_of_an_organ_of_several_regions_the_largest_component_is_kept_with_what_lies_in_it():
    images = {role: np.zeros((3, 9, 8)) for role in ("a", "b", "c")}
    images["a"][:], images["a"][0, 8, 7] = 100, 300
    images["b"][:, 1:6, 1:6], images["c"][1, 2:4, 2:4] = 800, 900
    images["b"][1, 7, 7] = images["c"][1, 8, 1] = 800

    class Organ(Levels):
        @property
        def cleaning(self):
            return Cleaning(organ=("liver", "lesion"))

    regions = {"background": (0,), "liver": (1,), "lesion": (2,)}
    method = Organ(classes=True, regions=regions, inputs=("a", "b", "c"))
    given = {role: volume(values) for role, values in images.items()}
    labels = Model(method)(**given)["tumour"].numpy()[0]
    want = np.zeros((3, 9, 8))
    want[:, 1:6, 1:6], want[1, 2:4, 2:4] = 1, 2
    np.testing.assert_array_equal(labels, want)
    untouched = Model(method)(**given, largest=())["tumour"].numpy()[0]
    assert (untouched[1, 7, 7], untouched[1, 8, 1]) == (1, 2)


def test_the_colours_of_labels_are_those_of_pictures():
    found = Model(Levels())(**{role: volume(values) for role, values in random_images("t1", "t2").items()})
    rows = found.tables["labels"]
    assert [(row["label"], row["region"]) for row in rows] == [(2, "whole"), (1, "core")]
    assert [[row[name] for name in ("red", "green", "blue")] for row in rows] == palette()[[2, 1]].tolist()
