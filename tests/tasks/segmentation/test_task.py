import numpy as np
import pytest
import torch
from levels import SHAPE, Levels, case, random_images, tensors, volume

from ganatomy.case import Case
from ganatomy.data.store import Store
from ganatomy.errors import UserError
from ganatomy.game import Balanced
from ganatomy.roles.labels import LabelRole

LABELS = np.random.default_rng(1).choice([0, 1, 2, 4], SHAPE).astype(np.uint8)


def test_roles_are_the_inputs_the_label_map_and_what_only_losses_and_judges_see():
    task = Levels(field_of_view="brain", observer="reader").task
    assert list(task.roles) == ["t1", "t2", "tumour", "brain", "reader"]
    assert task.required == ("t1", "t2", "tumour") and task.given == "t1"
    assert task.roles["tumour"].channels == 2 and task.roles["reader"].regions == task.roles["tumour"].regions
    assert isinstance(task.roles["brain"], LabelRole) and task.roles["brain"].any_two
    assert task.usable(["t1", "t2"]) and not task.usable(["t1", "tumour"])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"optional_inputs": ("t1", "t2")}, "--inputs: at least one"),
        ({"optional_inputs": ("t1c",)}, "--optional-inputs t1c: not among the inputs t1, t2"),
        ({"regions": {}}, "--regions: give at least one"),
        ({"regions": {"whole": ()}}, "--regions whole: a region has at least one label"),
        ({"judged": {"core": ()}}, "--judged core: a region has at least one label"),
        ({"regions": {"whole": (1, -1)}}, "--regions: labels are from 0 to 65535, got -1"),
        ({"regions": {"whole": (70_000,)}}, "--regions: labels are from 0 to 65535, got 70000"),
        ({"unknown": (70_000,)}, "--unknown: labels are from 0 to 65535, got 70000"),
        ({"unknown": (9, 4)}, "--unknown 4: a label of a region"),
        ({"judged": {"core": (1, 9)}}, "--judged core=9: no region in --regions has that label; they have 1, 2, 4"),
        ({"classes": True}, "the first is background=0"),
        ({"classes": True, "regions": {"background": (0,), "a": (1, 2), "b": (2,)}}, "share no label"),
    ],
)
def test_options_with_which_nothing_can_be_segmented_are_refused(values, words):
    with pytest.raises(UserError, match=words):
        _ = Levels(**values).task


def test_a_mask_may_hold_any_two_values_only_where_one_region_is_label_one():
    assert Levels(regions={"lesion": (1,)}).task.target.any_two
    assert not Levels(regions={"lesion": (2,)}).task.target.any_two
    assert not Levels(regions={"lesion": (1,)}, unknown=(2,)).task.target.any_two


def test_images_and_label_map_must_lie_on_one_grid():
    images = {role: volume(values) for role, values in random_images("t1", "t2").items()}
    with pytest.raises(UserError, match="do not lie on one grid"):
        Levels().task.frame({**images, "tumour": volume(LABELS[:, ::-1][:, :-1])})


def test_a_label_that_belongs_to_no_region_is_refused():
    strange = LABELS.copy()
    strange[3, 2, 1] = 3
    sample = case(Levels().task, **random_images("t1", "t2"), tumour=strange)
    with pytest.raises(UserError, match="label 3"):
        np.asarray(sample.arrays["tumour"])


def test_the_network_sees_inputs_in_order_and_regions_as_indicators():
    method = Levels(inputs=("t2", "t1"))
    images = random_images("t1", "t2")
    batch = tensors(method.task, case(method.task, **images, tumour=LABELS), ("t1", "t2", "tumour"))
    assert method.image_channels == 2
    torch.testing.assert_close(method.image(batch)[:, 0], torch.from_numpy(images["t2"]) / 1000)
    truth = method.truth(batch).numpy()
    np.testing.assert_array_equal(truth[:, 0], np.isin(LABELS, (1, 2, 4)))
    np.testing.assert_array_equal(truth[:, 1], np.isin(LABELS, (1, 4)))


def test_nothing_counts_outside_of_the_field_of_view_and_where_labels_are_unknown():
    method = Levels(field_of_view="brain", regions={"whole": (1, 2), "core": (1,)}, unknown=(4,))
    brain = np.zeros(SHAPE, np.uint8)
    brain[:, 2:5, 1:4] = 255
    sample = case(method.task, **random_images("t1", "t2"), tumour=LABELS, brain=brain)
    truth = method.truth(tensors(method.task, sample, ("tumour", "brain"))).numpy()
    outside = (brain == 0) | (LABELS == 4)
    assert outside.any() and not outside.all()
    for region, labels in enumerate(((1, 2), (1,))):
        np.testing.assert_array_equal(truth[:, region], np.where(outside, -1, np.isin(LABELS, labels)))
    assert method.annotated(3, (1, 4, 5)).roles == ("t1", "t2", "tumour", "brain")


def test_an_absent_input_is_background_in_training_and_known_to_be_absent(tmp_path):
    roles = {"inputs": {"scale": "percentile"}}
    method = Levels(inputs=("t1", "t1c"), optional_inputs=("t1c",), roles=roles)
    task, images = method.task, random_images("t1")
    sample = case(task, **images, tumour=LABELS)
    assert task.required == ("t1", "tumour") and list(sample.arrays) == ["t1", "tumour", "t1c"]
    assert not method.image(tensors(task, sample, ("t1", "t1c")))[:, 1].any()
    assert {"scale.t1", "quantiles.t1"} == set(task.fit([sample]))
    kept = Store(task, tmp_path).get(Case("a", "a", "train", sample.case.sources))
    assert not np.asarray(kept.role("t1c").encoded(np.asarray(kept.arrays["t1c"]))).any()
    both = case(task, **random_images("t1", "t1c"), tumour=LABELS)
    assert {"scale.t1", "quantiles.t1", "scale.t1c", "quantiles.t1c"} == set(task.fit([both]))


def test_patches_are_centred_on_labels_in_equal_shares():
    stream = Levels(regions={"background": (0,), "whole": (1, 2, 4), "core": (1, 4)}).annotated(
        3, (1, 4, 5), centred=0.6, flips=(2,)
    )
    assert isinstance(stream.place, Balanced) and stream.place.role == "tumour"
    assert stream.place.shares == pytest.approx({1: 0.2, 2: 0.2, 4: 0.2})
    assert stream.flips == (2,) and Levels().annotated(3, (1, 4, 5)).place is None


def test_validation_is_dice_of_the_judged_regions():
    task = Levels(regions={"whole": (1, 2), "core": (1,)}, judged={"rim": (2,), "core": (1,)}).task
    truth = np.array([[[0, 1, 1, 2, 2, 2]]], np.uint8)
    found = np.array([[[0, 1, 2, 2, 2, 0]]], np.uint8)
    scores = task.scores({"tumour": found}, {"tumour": truth}, (1, 1, 1))
    assert scores == {
        "dice": pytest.approx(2 / 3),
        "dice rim": pytest.approx(2 * 2 / (3 + 3)),
        "dice core": pytest.approx(2 * 1 / (1 + 2)),
    }
    assert task.selection == "dice" and dict(task.directions) == dict.fromkeys(scores, "higher")
    empty = np.zeros_like(truth)
    assert task.scores({"tumour": empty}, {"tumour": empty}, (1, 1, 1)) == {}
    rim = np.array([[[0, 0, 0, 2, 2, 0]]], np.uint8)
    assert task.scores({"tumour": rim}, {"tumour": rim}, (1, 1, 1)) == {"dice": 1, "dice rim": 1}
    assert task.scores({"tumour": found}, {"tumour": empty}, (1, 1, 1))["dice"] == 0
    assert list(Levels(regions={"lesion": (1,)}).task.directions) == ["dice"]


def test_validation_leaves_out_what_is_unknown():
    task = Levels(regions={"whole": (1, 2), "core": (1,)}, unknown=(4,), field_of_view="brain").task
    sample = {"tumour": np.array([[[1, 1, 4, 2, 1]]], np.uint8), "brain": np.array([[[1, 1, 1, 1, 0]]], np.uint8)}
    scores = task.scores({"tumour": np.array([[[1, 0, 1, 2, 0]]], np.uint8)}, sample, (1, 1, 1))
    assert scores["dice whole"] == pytest.approx(2 * 2 / (2 + 3)) and scores["dice core"] == pytest.approx(2 / 3)
    nowhere = {**sample, "brain": np.zeros((1, 1, 5), np.uint8)}
    assert task.scores({"tumour": sample["tumour"]}, nowhere, (1, 1, 1)) == {}


def test_without_a_phantom_data_are_asked_for():
    with pytest.raises(UserError, match="no phantom has t1, t2 and tumour; give images with --data"):
        Levels().task.phantom_grid(None)


def test_label_maps_without_a_region_are_told_and_those_without_any_are_refused():
    method = Levels(regions={"whole": (1, 2), "core": (4,), "rim": (5,)})
    maps = [np.zeros(SHAPE, np.uint8) for _ in range(3)]
    maps[1][3, 2, 1], maps[2][0, 6, 5] = 2, 5
    empty, whole, rim = (case(method.task, **random_images("t1", "t2"), tumour=labels) for labels in maps)
    unannotated = case(method.task, **random_images("t1", "t2"))
    with pytest.raises(UserError, match=r"has a voxel of whole, core, rim.*--regions \(labels 1, 2, 4, 5"):
        method.check_samples([unannotated, empty])
    assert method.check_samples([empty, whole, rim]) == ["no training case has a voxel of core in tumour"]
    assert not method.check_samples([unannotated])
    full = case(method.task, **random_images("t1", "t2"), tumour=np.where(LABELS == 0, 5, LABELS))
    assert not method.check_samples(iter([empty, full, None]))  # the rest is not read
