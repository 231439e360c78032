"""The task of landmarks: names, preparation, and scores of positions in mm."""

import numpy as np
import pytest
from spots import NAMES, PLACES, SPACING, Spots, case

from ganatomy.errors import UserError
from ganatomy.tasks.landmarks.task import ERROR, F1, RATE, in_mm


def test_roles_are_a_volume_and_named_points():
    task = Spots().task
    assert list(task.roles) == ["mr", "spots"] and task.landmarks.points == NAMES
    assert task.usable(["mr", "spots"]) and not task.usable(["mr"])
    assert task.selection == RATE and set(task.directions) == {RATE, ERROR, F1}


def test_volumes_in_hu_are_padded_with_air():
    task = Spots(image="ct", ct={"window": (-200.0, 800.0), "unit": "HU"}, size=(16, 16, 16)).task
    assert dict(task.preparation.fill) == {"ct": -200.0} and not Spots().task.preparation.fill


def test_positions_on_the_grid_become_mm():
    sample = case(Spots().task, there=("top", "bottom"))
    found = in_mm(sample.arrays["spots"], sample.spacing)
    np.testing.assert_allclose(found[0], np.array(PLACES["top"]) * SPACING)
    assert np.isnan(found[1]).all()


def test_scores_count_what_is_near_the_landmark_of_its_name():
    task = Spots().task
    true, off = case(task).arrays["spots"], np.array(case(task).arrays["spots"])
    off[0, ..., 1] += 3
    off[2, ..., 0] += 1
    scores = task.scores({"spots": off}, {"spots": true}, SPACING)
    assert scores[RATE] == pytest.approx(2 / 3) and scores[F1] == pytest.approx(2 / 3)
    assert scores[ERROR] == pytest.approx((6 + 0 + 30) / 3)


def test_names_that_make_no_sense_are_refused():
    with pytest.raises(UserError, match="--names: give the name of at least one landmark"):
        Spots(names=(), parts={}).task  # noqa: B018
    with pytest.raises(UserError, match="--parts: left is none of the landmarks top, middle, bottom"):
        Spots(parts={"side": ("left",)}).task  # noqa: B018
    with pytest.raises(UserError, match="no phantom has mr and spots"):
        Spots().task.phantom_grid(None)


def test_landmarks_outside_of_the_voxels_seen_are_left_out_and_told():
    sample = case(Spots(size=(4, 8, 7), spacing=SPACING).task)
    there = np.asarray(sample.arrays["spots"])[:, 0, 0, 3]
    assert there.tolist() == [0, 1, 0]
    assert sample.notes[-1] == "2 of its spots lie outside of the 4 x 8 x 7 voxels seen"
