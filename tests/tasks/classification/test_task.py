"""The task of classification: classes of cases and of slices, ends of stacks, shares, and validation scores."""

import numpy as np
import pytest
from shades import SHAPE, SLICED, Shades, affine, case

from ganatomy.errors import UserError
from ganatomy.tasks.classification.task import SHARES, base_is_first


def test_a_case_may_lack_its_class():
    task = Shades().task
    assert task.required == ("image",) and task.optional == ("label",) and task.classes == ("dark", "bright")
    assert task.truth(case(task, [50] * 5, "bright")).tolist() == [1]
    bare = case(task, [50] * 5)
    assert task.truth(bare).tolist() == [-1] and "label" not in bare.arrays
    assert task.takes_label(None) and task.takes_label("dark") and not task.takes_label("grey")
    with pytest.raises(UserError, match="label 'grey': no such class; the classes are dark, bright"):
        case(task, [50] * 5, "grey")


def test_all_other_labels_can_be_one_class():
    task = Shades(rest="dark").task
    assert task.takes_label("grey") and task.truth(case(task, [50] * 5, "grey")).tolist() == [0]


def test_slices_have_classes_of_their_own():
    task = Shades(**SLICED).task
    sample = case(task, [80, 50, 50, 50, 20], words=["basal", "middle", "", "middle", "apical"])
    assert task.truth(sample).tolist() == [1, 0, -1, 0, 0] and task.roles["slice_labels"].sliced
    logits = np.arange(10.0).reshape(5, 2)
    assert np.array_equal(task.units(logits), logits)
    assert Shades().task.units(logits).tolist() == [[4.0, 5.0]]


@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("end", ["basal", "apical"])
def test_the_outermost_slice_is_found_by_where_it_lies(flipped, end):
    task = Shades(**SLICED, end=end).task
    words = ["basal", "middle", "middle", "middle", "middle"][:: -1 if flipped else 1]
    sample = case(task, range(5), words=words, flipped=flipped)
    assert base_is_first(affine(flipped)) != flipped
    chosen = np.arange(SHAPE[0])[task.deciding(sample)].tolist()
    assert chosen == ([0] if (end == "basal") != flipped else [4])
    assert task.case_truth(sample) == int(end == "basal")
    assert task.case_classes == (f"no {end} slice", "complete")


def test_shares_of_classes_are_those_of_labelled_training_cases():
    task = Shades().task
    samples = [case(task, [50] * 5, label, name=str(at)) for at, label in enumerate(["dark"] * 6 + ["bright", None])]
    assert task.fit(samples)[SHARES] == pytest.approx([7 / 9, 2 / 9])
    assert not task.prior.any()


def test_validation_scores_leave_out_what_is_not_known():
    task = Shades().task
    logits = np.array([[0.0, 3.0], [0.0, -1.0], [0.0, 2.0], [5.0, 0.0]])
    found = task.scores({"label": logits}, {"label": np.array([1, 0, 0, -1])}, (1, 1, 1))
    assert found["balanced accuracy"] == pytest.approx(0.75) and found["AUC"] == 1
    assert 0 < found["log loss"] < np.log(2)
    assert task.scores({"label": logits}, {"label": np.full(4, -1)}, (1, 1, 1)) == {}


def test_options_that_contradict_each_other_are_refused():
    with pytest.raises(UserError, match="--size: give rows and columns"):
        Shades(size=(4, 16, 12)).task  # noqa: B018
    with pytest.raises(UserError, match="no phantom has image and these classes; give images with --data"):
        Shades().task.phantom_grid(None)
