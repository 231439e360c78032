import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ganatomy.case import Preparation, label_of
from ganatomy.errors import UserError
from ganatomy.images.frames import Frame
from ganatomy.images.image import Image
from ganatomy.roles.points import Film, Points, PointsRole, read_points

NAMES = ("left eye", "nose", "right eye", "chin")
FACE = PointsRole("face", NAMES, swaps={"left eye": "right eye"})
PLACES = {"left eye": (-3.5, 2.25, 8.0), "right eye": (3.0, 2.0, 8.125), "chin": (0.1, 1.0, -7.3)}


def patch_of(*places, size=(4, 6, 9)):
    """Return a patch with points at (slice, row, column); None stands for missing ones."""
    array = np.array([(0, 0, 0, 0) if place is None else (*place, 1) for place in places], np.float64)
    return FACE.cut(array[:, None, None], (0, 0, 0), size)


def coordinates(patch):
    return [None if not row[3] else tuple(row[:3]) for row in patch[:, 0, 0]]


@pytest.mark.parametrize("plane", ["axial", "sagittal", "coronal", "stored"])
@pytest.mark.parametrize("spacing", [None, (2.0, 1.3, 0.9)])
def test_points_in_mm_come_back_exactly(volume, plane, spacing):
    frame = Preparation(plane=plane, spacing=spacing, size=(7, 5)).frame(volume(), "image")
    FACE.check(PLACES)
    array = FACE.array(PLACES, frame)
    assert array.shape == (4, 1, 1, 4) and array.dtype == FACE.stored(array.dtype) == np.float64
    assert array[:, 0, 0, 3].tolist() == [1, 0, 1, 1] and not array[1].any()
    np.testing.assert_allclose(array[3, 0, 0, :3], frame.indices(np.array([PLACES["chin"]]))[0], atol=1e-12)
    back = FACE.value(array, frame, None)
    assert (list(back), back.unit) == (["left eye", "right eye", "chin"], "mm")
    for name, place in back.items():
        np.testing.assert_allclose(place, PLACES[name], atol=1e-12)


def test_voxels_are_those_of_the_source(volume):
    image = volume(np.arange(4 * 6 * 9))
    frame = Frame.plan(image, "axial", size=(8, 8))
    value = Points({"nose": (1.0, 4.0, 7.0)}, "voxels")
    slices, rows, columns = FACE.array(value, frame)[1, 0, 0, :3]
    mm = image.affine[:3, :3] @ [1, 4, 7] + image.affine[:3, 3]
    np.testing.assert_allclose(frame.points(np.array([[slices, rows, columns]]))[0], mm)
    back = FACE.value(FACE.array(value, frame), frame, value)
    assert back.unit == "voxels"
    np.testing.assert_allclose(back["nose"], (1, 4, 7), atol=1e-12)
    np.testing.assert_allclose(FACE.value(FACE.array(value, frame), frame, None)["nose"], mm, atol=1e-12)


def test_the_voxel_under_a_point_stays_under_it(volume):
    values = np.zeros((4, 6, 9))
    values[2, 1, 7] = 5
    image = volume(values)
    point = Points({"nose": (2.0, 1.0, 7.0)}, "voxels")
    for plane in ("axial", "sagittal", "coronal"):
        frame = Frame.plan(image, plane)
        place = np.rint(FACE.array(point, frame)[1, 0, 0, :3]).astype(int)
        assert frame.into(image).numpy()[0, *place] == 5


def test_patches_count_from_their_first_voxel():
    array = patch_of((2, 3, 4.5), None, (0, 0, 0), (3, 5, 8))[..., :4]
    patch = FACE.cut(array, (1, -2, 4), (2, 5, 3))
    assert patch.shape == (4, 1, 1, 7)
    assert coordinates(patch) == [(1, 5, 0.5), None, (-1, 2, -4), (2, 7, 4)]
    assert patch[0, 0, 0, 4:].tolist() == [2, 5, 3]
    assert coordinates(FACE.cut(patch, (1, 1, 1), (1, 2, 2)))[0] == (0, 4, -0.5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_points_stay_on_their_voxels_when_patches_are_mirrored(axis):
    places = [(0, 5, 2), (3, 1, 8), (1, 2, 0), None]
    patch, image = patch_of(*places), np.arange(4 * 6 * 9).reshape(1, 4, 6, 9)
    flipped = FACE.flip(patch, (axis,))
    names = ["right eye", "nose", "left eye", "chin"] if axis == 2 else list(NAMES)
    mirrored = np.flip(image, 1 + axis)
    for name, place in zip(names, coordinates(flipped), strict=True):
        old = places[NAMES.index(name)]
        assert (place is None) == (old is None)
        if old is not None:
            assert mirrored[0, *map(int, place)] == image[0, *old]
    np.testing.assert_array_equal(FACE.flip(flipped, (axis,)), patch)


def test_a_missing_side_is_missing_on_the_other_side_of_a_mirrored_patch():
    patch = patch_of((0, 0, 0), (1, 1, 1), None, (2, 2, 2))
    assert coordinates(FACE.flip(patch, (2,))) == [None, (1, 1, 7), (0, 0, 8), (2, 2, 6)]
    assert coordinates(FACE.flip(patch, (0, 2)))[2] == (3, 0, 8)
    plain = PointsRole("face", NAMES)
    assert coordinates(plain.flip(patch, (2,)))[2] is None


def test_sagittal_slices_have_their_sides_along_the_slices():
    role = PointsRole("face", NAMES, swaps={"left eye": "right eye"}, lateral=0)
    patch = patch_of((0, 1, 2), None, (3, 1, 5), None)
    assert coordinates(role.flip(patch, (2,)))[0] == (0, 1, 6)
    assert coordinates(role.flip(patch, (0,)))[0] == (0, 1, 5)


@pytest.mark.parametrize("turns", [0, 1, 2, 3, -1])
def test_points_stay_on_their_voxels_when_patches_are_turned(turns):
    places = [(0, 5, 2), (1, 1, 4), (1, 0, 0), (0, 3, 5)]
    patch, image = patch_of(*places, size=(2, 6, 6)), np.arange(2 * 36).reshape(1, 2, 6, 6)
    turned = FACE.quarter_turns(patch, turns)
    for old, place in zip(places, coordinates(turned), strict=True):
        assert np.rot90(image, turns, (2, 3))[0, *map(int, place)] == image[0, *old]
    np.testing.assert_array_equal(FACE.quarter_turns(turned, -turns), patch)


def test_longish_patches_may_be_turned_too():
    patch = patch_of((0, 1, 2), None, None, None, size=(1, 3, 5))
    once = FACE.quarter_turns(patch, 1)
    assert coordinates(once)[0] == (0, 2, 1) and once[0, 0, 0, 4:].tolist() == [1, 5, 3]
    np.testing.assert_array_equal(FACE.quarter_turns(once, 3), patch)


@given(st.lists(st.tuples(*3 * [st.floats(-5, 20)]), min_size=4, max_size=4), st.sets(st.integers(0, 2)))
@settings(max_examples=30)
def test_flips_are_undone_by_flips(places, axes):
    patch = patch_of(*places)
    np.testing.assert_allclose(FACE.flip(FACE.flip(patch, axes), axes), patch, atol=1e-12)


def test_whole_cases_know_no_size_to_be_mirrored_in():
    with pytest.raises(ValueError, match="cut one first"):
        FACE.flip(np.zeros((4, 1, 1, 4)), (2,))


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_tensors_have_the_axes_of_the_network(dims):
    tensor = FACE.tensor(patch_of((0, 1, 2), None, (0, 4, 5), (0, 2, 1)), dims)
    assert tensor.shape == (4, 1 + dims) and tensor.dtype == torch.float32
    assert tensor[0].tolist() == [0, 1, 2, 1][3 - dims :] and tensor[1].tolist() == [0] * (1 + dims)
    example = FACE.example((7, 5, 9)[:dims], torch.Generator().manual_seed(0))
    assert example.shape == tensor.shape and (example[:, -1] == 1).all() and FACE.channels == 4


def test_points_are_read_from_tables_and_written_to_them(tmp_path):
    (tmp_path / "a.csv").write_text("\ufeffName;X;Y;Z\nleft eye;-3.5;2.25;8\nnose;;;\n\nchin;0.1;1e0;-7.3\n")
    read = FACE.source("a.csv", tmp_path, lambda path: pytest.fail()).open()
    assert (read, read.unit, label_of(read)) == (
        {"left eye": (-3.5, 2.25, 8), "chin": (0.1, 1, -7.3)},
        "mm",
        str(tmp_path / "a.csv"),
    )
    third = {"chin": (1 / 3, -2 / 3, 1e-17)}
    FACE.write(tmp_path / "b.csv", {**third, "nose": None})
    assert (tmp_path / "b.csv").read_text().startswith("name,x,y,z\nchin,0.3333333333333333,")
    assert FACE.source("b.csv", tmp_path, lambda path: pytest.fail()).open() == third
    FACE.write(tmp_path / "c.csv", Points({"nose": (0, 4, 7.5)}, "voxels"))
    again = read_points(tmp_path / "c.csv")
    assert (again, again.unit) == ({"nose": (0, 4, 7.5)}, "voxels")


def test_points_of_pictures_are_rows_and_columns(tmp_path):
    (tmp_path / "a.csv").write_text("name,row,column\nnose,3,1.5\nchin,,\n")
    points = read_points(tmp_path / "a.csv")
    assert (points, points.unit) == ({"nose": (0, 3, 1.5)}, "voxels")
    picture = Image.from_array(np.zeros((5, 7)), (1.0, 0.4, 0.4))
    frame = Frame.plan(picture)
    np.testing.assert_allclose(FACE.array(points, frame)[1, 0, 0], [0, 3, 1.5, 1], atol=1e-12)


@pytest.mark.parametrize(
    "content",
    [
        {"left eye": [-3.5, 2.25, 8], "nose": None, "chin": [0.1, 1, -7.3]},
        [
            {"name": "left eye", "x": -3.5, "y": 2.25, "z": 8},
            {"name": "nose", "x": None, "y": None, "z": None},
            {"name": "chin", "x": 0.1, "y": 1, "z": -7.3},
        ],
        {
            "markups": [
                {
                    "coordinateSystem": "LPS",
                    "controlPoints": [
                        {"label": "left eye", "position": [3.5, -2.25, 8]},
                        {"label": "nose", "position": [0, 0, 0], "positionStatus": "undefined"},
                        {"label": "chin", "position": [-0.1, -1, -7.3], "positionStatus": "defined"},
                    ],
                }
            ]
        },
    ],
)
def test_points_are_read_from_json(tmp_path, content):
    (tmp_path / "a.json").write_text(json.dumps(content))
    points = FACE.source("a.json", tmp_path, lambda path: pytest.fail()).open()
    assert points == {"left eye": (-3.5, 2.25, 8), "chin": (0.1, 1, -7.3)}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "name,x,y\nnose,1,2\n", "columns name, x, y: it needs name, x, y, z"),
        ("a.csv", "x,y,z\n1,2,3\n", "it needs name"),
        ("a.csv", "name,x,y,z\nnose,1,2,three\n", "nose: 'three' is not a number"),
        ("a.csv", "name,x,y,z\nnose,1,,3\n", "nose: '' is not a number"),
        ("a.csv", "name,x,y,z\nnose,1,2,3\nnose,1,2,3\n", "nose twice"),
        ("a.csv", "name,x,y,z\nnose,1,2,3,4\n", "row 2: 5 cells"),
        ("a.csv", "", "is empty"),
        ("a.json", "{", "cannot be read as JSON"),
        ("a.json", "[" * 100_000, "cannot be read as JSON"),
        ("a.json", f'{{"nose": [1, 2, {"9" * 400}]}}', "is not a number"),
        ("a.json", "3", "object from names"),
        ("a.json", '{"nose": [1, 2]}', r"nose has the coordinates \[1, 2\]"),
        ("a.json", '{"markups": [{"controlPoints": [{"label": "nose"}]}]}', "markups of 3D Slicer"),
        ("a.txt", "", r"cannot read \.txt; give \.csv or \.json"),
    ],
)
def test_damaged_files_are_named(tmp_path, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=words):
        FACE.source(name, tmp_path, lambda path: pytest.fail()).open()


def test_missing_files_and_strange_points_are_refused(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        FACE.source("a.csv", tmp_path, lambda path: pytest.fail())
    with pytest.raises(UserError, match="'lft eye'; there are left eye, nose, right eye, chin"):
        FACE.check({"lft eye": (1, 2, 3)})
    with pytest.raises(UserError, match="give three numbers"):
        FACE.check({"nose": (1, 2)})
    with pytest.raises(UserError, match="give three numbers"):
        FACE.check({"nose": (1, 2, np.nan)})
    with pytest.raises(UserError, match="need the image"):
        FACE.array(PLACES, None)
    with pytest.raises(ValueError, match="'ear'"):
        PointsRole("face", NAMES, swaps={"nose": "ear"})
    with pytest.raises(UserError, match=r"choose \.csv"):
        FACE.write(tmp_path / "a.txt", PLACES)


def test_missing_points_may_be_said_by_none(volume):
    frame = Frame.plan(volume())
    value = {"nose": None, "chin": (1.0, 2.0, 3.0)}
    FACE.check(value)
    assert FACE.array(value, frame)[:, 0, 0, 3].tolist() == [0, 0, 0, 1]


FOUND = Points({"a": (1.5, -2.0, 30.25), "b": (-4.0, 5.5, 0.125)}, certainty={"a": 0.75, "b": 0.5})


@pytest.mark.parametrize("suffix", [".csv", ".points.json", ".mrk.json"])
def test_points_are_read_back_from_every_format(tmp_path, suffix):
    role, path = PointsRole("spots", points=("a", "b", "c")), tmp_path / f"found{suffix}"
    role.write(path, FOUND)
    again = read_points(path)
    assert dict(again) == dict(FOUND) and again.unit == "mm"
    role.write(path, {**FOUND, "c": None})
    assert dict(read_points(path)) == dict(FOUND)


def test_markups_of_slicer_are_in_lps_with_a_closed_curve_where_points_have_one(tmp_path):
    path = tmp_path / "found.mrk.json"
    PointsRole("spots", points=("a", "b")).write(path, FOUND)
    (markup,) = json.loads(path.read_text())["markups"]
    assert (markup["type"], markup["coordinateSystem"], markup["coordinateUnits"]) == ("Fiducial", "LPS", "mm")
    assert [point["position"] for point in markup["controlPoints"]] == [[-1.5, 2.0, 30.25], [4.0, -5.5, 0.125]]
    assert markup["controlPoints"][0]["description"] == "certainty 0.7500"
    PointsRole("spots", points=("a", "b"), closed=True).write(path, FOUND)
    assert json.loads(path.read_text())["markups"][0]["type"] == "ClosedCurve"
    # Slicer writes RAS where it is told to.
    content = json.loads(path.read_text())
    content["markups"][0]["coordinateSystem"] = "RAS"
    path.write_text(json.dumps(content))
    assert read_points(path)["a"] == (-1.5, 2.0, 30.25)
    with pytest.raises(UserError, match="need points in mm"):
        PointsRole("spots", points=("a",)).write(path, Points({"a": (0.0, 1.0, 2.0)}, "voxels"))


def test_points_of_a_film_have_the_number_of_their_frame(tmp_path):
    role = PointsRole("spots", points=("a", "b"))
    frame = Frame.plan(Image.from_array(np.zeros((3, 6, 7), np.float32), (1.0, 2.0, 3.0)), "stored")
    array = np.zeros((2, 3, 1, 4))
    array[0, :, 0] = [[0, 1, 2, 1], [1, 2, 2, 1], [2, 3, 2, 1]]
    array[1, 1, 0] = [1, 5, 5, 1]
    film = role.value(array, frame, None)
    assert isinstance(film, Film) and [list(points) for points in film.frames] == [["a"], ["a", "b"], ["a"]]
    role.write(tmp_path / "film.csv", film)
    rows = (tmp_path / "film.csv").read_text().splitlines()
    assert rows[0] == "frame,name,x,y,z" and [row[:3] for row in rows[1:]] == ["1,a", "2,a", "2,b", "3,a"]
    role.write(tmp_path / "film.mrk.json", film)
    names = [markup["name"] for markup in json.loads((tmp_path / "film.mrk.json").read_text())["markups"]]
    assert names == ["spots 1", "spots 2", "spots 3"]
    role.write(tmp_path / "film.points.json", film)
    assert [row["frame"] for row in json.loads((tmp_path / "film.points.json").read_text())] == [1, 2, 2, 3]
