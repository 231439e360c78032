"""Frames from poses: coordinates, what is fitted, landmark errors, baselines and refusals."""

import numpy as np
import pytest
import torch

from ganatomy import catalogue
from ganatomy.case import Case
from ganatomy.errors import UserError
from ganatomy.images.image import Image
from ganatomy.roles.pose import Poses
from ganatomy.tasks.posed.judge import NEAREST, PosedJudge, landmark_errors
from ganatomy.tasks.posed.task import frame_coordinates

SIZE = (24, 32)


def task_of(**values):
    config = catalogue.load("scgan-us").Config.preset("small", size=SIZE, **values)
    return catalogue.load("scgan-us")(config).task


def pose(x=0.0, y=0.0, z=0.0, turn=False):
    matrix = np.eye(4)
    if turn:  # columns along z
        matrix[:3, :3] = [[0, 0, 1], [0, 1, 0], [-1, 0, 0]]
    matrix[:3, 3] = x, y, z
    return matrix


def sweep(task, poses, spacing=(2.5, 2.5), seed=0, name="a", labels=None):
    values = np.random.default_rng(seed).integers(0, 255, (1, len(poses), *SIZE)).astype(np.uint8)
    given = {"image": Image.from_array(values, (1.0, *spacing)), "pose": Poses(np.stack(poses))}
    if labels is not None:
        given["landmarks"] = Image.from_array(labels[None], (1.0, *spacing))
    return task.frame(given, Case(name, name, "test", {}))


def test_coordinates_of_a_frame_begin_at_its_centre():
    places = frame_coordinates((3, 5), (2.0, 4.0))
    assert places[1, 2].tolist() == [0, 0, 0, 1] and places[0, 0].tolist() == [-8, -2, 0, 1]


def test_the_box_of_all_pixels_is_fitted_with_one_scale():
    task = task_of()
    fitted = task.fit([sweep(task, [pose(), pose(x=20, turn=True)]), sweep(task, [pose(y=-10)])])
    assert fitted["spacing"].tolist() == [2.5, 2.5]
    half_row, half_column = 2.5 * 23 / 2, 2.5 * 31 / 2
    low = np.array([-half_column, -10 - half_row, -half_column])
    high = np.array([half_column, half_row, half_column])
    np.testing.assert_allclose(fitted["centre"], (low + high) / 2, atol=1e-5)
    assert fitted["reach"] == pytest.approx((high - low).max() / 2)


def test_networks_see_where_every_pixel_lies():
    task = task_of()
    task.fitted = task.fit([sweep(task, [pose(), pose(x=20, turn=True)])])
    matrix = torch.tensor(pose(x=20, turn=True)[:3].reshape(1, 12, 1, 1), dtype=torch.float32)
    maps = task.coordinates(matrix)
    assert maps.shape == (1, 3, *SIZE) and maps.abs().max() == pytest.approx(1.0, abs=1e-5)
    # Columns run against z, rows along y.
    steps = maps * task.fitted["reach"].item()
    assert (steps[0, 2, :, 1:] - steps[0, 2, :, :-1]).numpy() == pytest.approx(-2.5, abs=1e-4)
    assert (steps[0, 1, 1:] - steps[0, 1, :-1]).numpy() == pytest.approx(2.5, abs=1e-4)
    assert torch.equal(maps, task.coordinates(matrix[:, :, 0, 0]))


def test_frames_with_other_pixels_are_refused():
    task = task_of()
    with pytest.raises(UserError, match=r"a has pixels of 2.5 x 2.5 mm and b of 2.6 x 2.6 mm .* one probe and depth"):
        task.fit([sweep(task, [pose()]), sweep(task, [pose()], (2.6, 2.6), name="b")])


def test_every_frame_needs_a_pose():
    task = task_of()
    values = {
        "image": Image.from_array(np.arange(3 * 24 * 32, dtype=np.float32).reshape(1, 3, *SIZE) % 255),
        "pose": Poses(np.stack([pose(), pose()])),
    }
    with pytest.raises(UserError, match="2 values for 3 slices; give one for each"):
        task.frame(values)
    with pytest.raises(UserError, match="1 poses for 3 frames"):
        task.frame({**values, "pose": Poses(pose()[None])})


def test_names_of_labels_are_needed_where_there_is_a_map():
    with pytest.raises(UserError, match="--structures: give the names"):
        task_of(structures=())
    assert "landmarks" not in task_of(labels=None).roles


def scene(seed=3):
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:60, :80]
    true = np.full((60, 80), 120.0)
    labels = np.zeros((60, 80), np.uint8)
    for label, (row, column, radius) in enumerate(((25, 30, 4), (35, 55, 5)), 1):
        labels[np.hypot(rows - row, columns - column) < radius] = label
    true[labels > 0] = 20
    return true + rng.normal(0, 3, true.shape), labels


def test_a_shift_of_the_anatomy_is_the_landmark_error():
    true, labels = scene()
    moved = np.roll(true, (4, -3), (0, 1))
    assert landmark_errors(true[None], true[None], labels[None], (2.0, 2.0)) == [0.0, 0.0]
    found = landmark_errors(moved[None], true[None], labels[None], (2.0, 2.0))
    assert found == pytest.approx([10.0, 10.0])
    assert landmark_errors(moved[None], true[None], labels[None], (1.0, 2.0)) == pytest.approx([np.hypot(4, 6)] * 2)


def test_frames_without_anatomy_have_large_errors_and_specks_are_no_landmarks():
    true, labels = scene()
    blank = np.full((1, 60, 80), 100.0)
    assert min(landmark_errors(blank, true[None], labels[None], (2.0, 2.0))) > 20
    speck = np.zeros_like(labels)
    speck[20, 20:24] = 1
    assert landmark_errors(true[None], true[None], speck[None], (2.0, 2.0)) == []


def test_the_nearest_training_frame_is_that_of_the_nearest_corners():
    task = task_of()
    known = sweep(task, [pose(), pose(x=30), pose(turn=True)], seed=1)
    judge = PosedJudge(task)
    judge.learn([known])
    (classical,) = judge.classical()
    (_, nearest) = classical.settings[0]
    asked = sweep(task, [pose(x=26), pose(x=-4, turn=True), pose(y=3)], seed=2)
    np.testing.assert_array_equal(nearest(asked, 0, 3), np.asarray(known.arrays["image"])[0, [1, 2, 0]])
    assert classical.name == NEAREST
    (mean,), _ = judge.references()
    np.testing.assert_allclose(mean.run(asked, 1, 3)[0], np.asarray(known.arrays["image"], np.float32)[0].mean(axis=0))
