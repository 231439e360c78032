import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from ganatomy.case import Preparation
from ganatomy.errors import UserError
from ganatomy.images.frames import Frame
from ganatomy.roles.pose import MATRIX, PoseRole, Poses, read_poses

PROBE = PoseRole("probe")


def sweep(count=4):
    """Return poses of a probe that moves and rotates."""
    matrices = np.tile(np.eye(4), (count, 1, 1))
    for index, matrix in enumerate(matrices):
        matrix[:3, :3] = Rotation.from_euler("xyz", (10 * index, 5, -20), degrees=True).as_matrix()
        matrix[:3, 3] = (3 * index, 40 - index, 1 / 3)
    return matrices


@pytest.mark.parametrize("plane", ["axial", "sagittal", "coronal", "stored"])
def test_poses_follow_their_slices(volume, plane):
    image = volume(np.arange(4.0)[:, None, None] * np.ones((4, 6, 9)))
    frame = Frame.plan(image, plane, size=(5, 5))
    value = Poses(sweep())
    PROBE.check(value)
    if not frame.slice_wise:
        with pytest.raises(UserError, match="cuts the volume into other slices"):
            PROBE.array(value, frame)
        return
    array = PROBE.array(value, frame)
    assert array.shape == (12, 4, 1, 1) and PROBE.stored(array.dtype) == array.dtype == np.float64
    for place in range(4):
        own = round(float(frame.into(image).slab(place, place + 1)[0, 0, 2, 2]))
        np.testing.assert_array_equal(array[:, place, 0, 0].reshape(3, 4), sweep()[own, :3])
    np.testing.assert_array_equal(PROBE.value(array, frame, value).matrices, sweep())


def test_one_pose_holds_for_all_slices(volume):
    frame = Preparation().frame(volume(), "image")
    array = PROBE.array(sweep(1)[0], frame)
    assert array.shape == (12, 1, 1, 1)
    np.testing.assert_array_equal(PROBE.value(array, frame, None).matrices, sweep(1))
    assert PROBE.cut(array, (2, 0, 0), (2, 5, 5)).shape == (12, 1, 1, 1)
    with pytest.raises(UserError, match="probe: 3 values for 4 slices"):
        PROBE.array(sweep(3), Frame.plan(volume(), "stored"))


def test_patches_and_tensors():
    array = PROBE.array(sweep(5), None)
    patch = PROBE.cut(array, (-1, 7, 3), (4, 5, 5))
    np.testing.assert_array_equal(patch, array[:, [1, 0, 1, 2]])
    flipped = PROBE.flip(patch, (0,))
    np.testing.assert_array_equal(flipped, patch[:, ::-1])
    np.testing.assert_array_equal(PROBE.flip(flipped, (0,)), patch)
    assert PROBE.quarter_turns(patch, 4) is patch
    with pytest.raises(ValueError, match="axis 0 only"):
        PROBE.flip(patch, (0, 2))
    with pytest.raises(ValueError, match="no quarter turns"):
        PROBE.quarter_turns(patch, 1)
    assert PROBE.tensor(patch, 3).shape == (12, 4, 1, 1)
    tensor = PROBE.tensor(PROBE.cut(array, (2, 0, 0), (1, 5, 5)), 2)
    assert tensor.shape == (12, 1, 1) == PROBE.example((5, 5), None).shape
    np.testing.assert_allclose(tensor[[3, 7, 11]].flatten(), sweep(5)[2, :3, 3], rtol=1e-6)


def test_tables_hold_matrices(tmp_path):
    PROBE.write(tmp_path / "a.csv", sweep())
    assert (tmp_path / "a.csv").read_text().splitlines()[0] == ",".join(MATRIX)
    np.testing.assert_array_equal(
        PROBE.source("a.csv", tmp_path, lambda path: pytest.fail()).open().matrices, sweep()
    )  # fmt: skip


def test_tables_hold_positions_and_quaternions(tmp_path):
    rows = ["frame,x,y,z,qx,qy,qz,qw"]
    for index, matrix in enumerate(sweep()):
        turn = 2.5 * Rotation.from_matrix(matrix[:3, :3]).as_quat()
        rows.append(",".join(map(repr, map(float, [index, *matrix[:3, 3], *turn]))))
    (tmp_path / "a.csv").write_text("\n".join(rows))
    np.testing.assert_allclose(read_poses(tmp_path / "a.csv").matrices, sweep(), atol=1e-12)
    (tmp_path / "b.csv").write_text("x,y,z\n1,2,3\n")
    wanted = np.eye(4)
    wanted[:3, 3] = 1, 2, 3
    np.testing.assert_array_equal(read_poses(tmp_path / "b.csv").matrices, [wanted])


@pytest.mark.parametrize("form", ["whole", "short", "one", "objects", "object"])
def test_json_holds_matrices_or_objects(tmp_path, form):
    matrices = sweep(1 if form in ("one", "object") else 4)
    objects = [dict(zip(MATRIX, matrix[:3].ravel().tolist(), strict=True)) for matrix in matrices]
    content = {
        "whole": matrices.tolist(),
        "short": matrices[:, :3].tolist(),
        "one": matrices[0].tolist(),
        "objects": objects,
        "object": objects[0],
    }[form]
    (tmp_path / "a.json").write_text(json.dumps(content))
    np.testing.assert_array_equal(read_poses(tmp_path / "a.json").matrices, matrices)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "x,y\n1,2\n", "needs m00 to m23, or x, y, z"),
        ("a.csv", "x,y,z,qx\n1,2,3,4\n", "a quaternion is qx, qy, qz, qw"),
        ("a.csv", "x,y,z,qx,qy,qz,qw\n1,2,3,0,0,0,0\n", "no rotation"),
        ("a.csv", "x,y,z\n1,2,\n", "z: '' is not a number"),
        ("a.csv", "x,y,z\n", "holds no poses"),
        ("a.csv", "x,y,z,qx,qy,qz,qw\n1,2,3,1e308,1e308,1e308,1e308\n", "no rotation"),
        ("a.csv", "x,y,z\n1,2,1e999\n", "'1e999' is not a number"),
        ("a.json", f"[[{'9' * 400}]]", "matrices of 4 x 4 numbers"),
        ("a.json", "[" * 100_000, "cannot be read as JSON"),
        ("a.json", "[]", "a matrix of 4 x 4"),
        ("a.json", "[[1, 2], [3, 4]]", r"shape \(1, 2, 2\)"),
        ("a.json", "[[1, 2], [3]]", "matrices of 4 x 4 numbers"),
    ],
)
def test_damaged_files_are_named(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=words):
        PROBE.source(name, tmp_path, lambda path: pytest.fail()).open()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m[:, :3], "shape"),
        (lambda m: m * [[[1], [1], [1], [2]]], "last row"),
        (lambda m: np.where(np.eye(4), np.nan, m), "finite"),
        (lambda m: m * [[[1], [0], [1], [1]]], "in one plane"),
    ],
)
def test_what_is_no_pose_is_refused(change, words):
    with pytest.raises(UserError, match=words):
        PROBE.check(change(sweep()))
