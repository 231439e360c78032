from pathlib import Path

import numpy as np
import pytest
import torch

from ganatomy.errors import UserError
from ganatomy.images.polydata import read_polydata
from ganatomy.physics.centreline import Centreline, CentrelineCodec, tube_mesh
from ganatomy.tasks.geometry.roles import (
    CentrelineRole,
    LengthRole,
    MeshRole,
    PolygonRole,
    read_centreline,
    read_centrelines,
)

CODEC = CentrelineCodec(samples=32, step_mm=2.0, radius_mm=2.0)
ROLE = CentrelineRole("vessel", signals=CODEC)
HELIX = np.linspace(0, 2.5, 41)
LINE = Centreline(
    np.stack([12 * np.cos(HELIX) + 30, 9 * np.sin(HELIX) - 7, 15 * HELIX + 100], axis=1), 2.1 - 0.4 * HELIX
)


def unreadable(path):
    raise AssertionError(f"{path} is no image")


def written(path: Path, header: str, rows) -> Path:
    path.write_text("\n".join([header, *(",".join(map(repr, map(float, row))) for row in rows)]) + "\n")
    return path


@pytest.mark.parametrize("suffix", [".csv", ".npz"])
def test_a_line_comes_back_from_its_file(tmp_path, suffix):
    ROLE.write(tmp_path / f"a{suffix}", LINE)
    back = ROLE.source(f"a{suffix}", tmp_path, unreadable).open()
    assert np.array_equal(back.points, LINE.points) and np.array_equal(back.radii, LINE.radii)


def test_the_columns_of_aneurisk_are_known_whatever_their_order(tmp_path):
    rows = [(0.4, 1, 2, 3), (0.3, 1.5, 2.5, 3.5)]
    (line,) = read_centrelines(written(tmp_path / "c.csv", "MaximumInscribedSphereRadius,X,Y,Z", rows))
    assert line.points.tolist() == [[1, 2, 3], [1.5, 2.5, 3.5]] and line.radii.tolist() == [0.4, 0.3]


def test_several_lines_in_a_file_are_refused_unless_one_is_named(tmp_path):
    first = [(0.1 * i, 0, 0, 1) for i in range(5)]
    second = [(0.4, 0.1 * i + 2, 0, 0.5) for i in range(3)]
    path = written(tmp_path / "c.csv", "x,y,z,r", [*first, *second])
    assert [len(line.radii) for line in read_centrelines(path)] == [5, 3]
    with pytest.raises(UserError, match=r"holds 2 lines.*c\.csv#0 to c\.csv#1"):
        read_centreline(path)
    assert ROLE.source("c.csv#1", tmp_path, unreadable).open().radii.tolist() == [0.5] * 3
    with pytest.raises(UserError, match="holds 2 lines, counted from 0"):
        ROLE.source("c.csv#2", tmp_path, unreadable).open()


def test_a_line_of_wide_steps_is_one_line(tmp_path):
    rows = [(3.0 * i, 0, 0, 1) for i in range(6)]
    assert len(read_centrelines(written(tmp_path / "c.csv", "x,y,z,r", rows))) == 1


@pytest.mark.parametrize(
    ("header", "row", "told"),
    [
        ("x,y,z", (1, 2, 3), "needs x, y, z and r"),
        ("x,y,r", (1, 2, 3), "needs x, y, z and r"),
        ("x,y,z,r", (1, 2, 3, -0.1), "not negative"),
        ("x,y,z,r", (1, 2, float("nan"), 1), r"row 2, z: 'nan' is not a number"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path, header, row, told):
    with pytest.raises(UserError, match=told):
        read_centrelines(written(tmp_path / "c.csv", header, [row]))


def test_what_is_wrong_with_arrays_is_said(tmp_path):
    np.savez(tmp_path / "a.npz", points=LINE.points)
    with pytest.raises(UserError, match="holds points: it needs points"):
        read_centrelines(tmp_path / "a.npz")
    np.savez(tmp_path / "a.npz", points=LINE.points, radii=LINE.radii[:-1])
    with pytest.raises(UserError, match=r"points \(41, 3\) and radii \(40,\)"):
        read_centrelines(tmp_path / "a.npz")


@pytest.mark.parametrize("scale", [0.001, 1000])
def test_lines_that_are_not_in_mm_are_refused(scale):
    with pytest.raises(UserError, match="mm"):
        ROLE.check(Centreline(scale * LINE.points, scale * LINE.radii))
    ROLE.check(LINE)


def test_an_array_of_four_columns_is_a_line_and_others_are_not():
    rows = np.column_stack([LINE.points, LINE.radii])
    assert np.array_equal(ROLE.array(rows, None), ROLE.array(LINE, None))
    with pytest.raises(UserError, match=r"shape \(41, 3\)"):
        ROLE.check(LINE.points)


def test_the_array_is_the_signal_and_comes_back_where_the_line_was():
    array = ROLE.array(LINE, None)
    assert array.shape == (4, 1, 1, 32) and array.dtype == np.float32
    assert np.allclose(array[:, 0, 0], CODEC.encode(LINE).signal, atol=1e-6)
    back = ROLE.value(array, None, LINE)
    assert np.allclose(back.points[0], LINE.points[0])
    assert ROLE.value(array, None, None).points[0].tolist() == [0, 0, 0]
    far = np.linalg.norm(back.points[:, None] - LINE.points, axis=2).min(axis=1).max()
    assert far < 1, "farther from the line than half a step"
    assert ROLE.tensor(array, 1).shape == (4, 32)


def test_a_centre_line_is_neither_mirrored_nor_turned():
    patch = ROLE.array(LINE, None)
    with pytest.raises(ValueError, match="flips"):
        ROLE.flip(patch, (2,))
    with pytest.raises(ValueError, match="quarter turns"):
        ROLE.quarter_turns(patch, 1)


def test_an_example_is_a_vessel():
    signal = ROLE.example([32], torch.Generator().manual_seed(3)).numpy()
    steps = int(CODEC.counts(signal))
    assert signal.shape == (4, 32) and 16 <= steps <= 32
    assert np.allclose(np.linalg.norm(signal[:3, :steps], axis=0), 1) and not signal[:, steps:].any()


def test_a_length_is_seen_in_units_of_the_longest():
    role = LengthRole("length", 64.0)
    array = role.array(role.source("48", Path(), unreadable).open(), None)
    assert role.tensor(role.cut(array, (0, 0, 0), (1, 1, 32)), 1).tolist() == [0.75]
    assert role.value(array, None, None) == 48 and role.decoded(role.encoded(array)).item() == 48
    for wrong in (0.0, 65.0):
        with pytest.raises(UserError, match="at most 64 mm"):
            role.check(wrong)
    with pytest.raises(UserError, match="'long' is not a number"):
        role.source("long", Path(), unreadable)


def test_a_surface_is_written_as_stl_and_never_read(tmp_path):
    role, mesh = MeshRole("mesh"), tube_mesh(LINE, 5)
    role.write(tmp_path / "a.stl", mesh)
    assert (tmp_path / "a.stl").read_bytes() == mesh.stl()
    with pytest.raises(UserError, match=r"\.stl"):
        role.write(tmp_path / "a.obj", mesh)
    with pytest.raises(UserError, match="give centre-lines"):
        role.source("a.stl", tmp_path, unreadable)
    with pytest.raises(UserError, match="no mesh"):
        role.check(LINE)


def test_lines_of_vtk_files_are_read_with_their_radii(tmp_path):
    text = "# vtk DataFile Version 3.0\nx\nASCII\nDATASET POLYDATA\nPOINTS 5 float\n0 0 0\n0 0 2\n0 1 4\n9 9 9\n9 9 8\n"
    lines = "LINES 2 7\n3 0 1 2\n2 3 4\n"
    data = "POINT_DATA 5\nSCALARS MaximumInscribedSphereRadius double\nLOOKUP_TABLE default\n2 1.5 1 0.5 0.4\n"
    (tmp_path / "two.vtk").write_text(text + lines + data)
    first, second = read_centrelines(tmp_path / "two.vtk")
    assert first.points.tolist() == [[0, 0, 0], [0, 0, 2], [0, 1, 4]] and second.radii.tolist() == [0.5, 0.4]
    role = CentrelineRole("vessel")
    assert role.source("two.vtk#1", tmp_path, lambda path: None).open().points.tolist() == second.points.tolist()
    with pytest.raises(UserError, match="holds 2 lines; name one of them"):
        role.source("two.vtk", tmp_path, lambda path: None).open()
    (tmp_path / "bare.vtk").write_text(text + data)
    assert [len(line.points) for line in read_centrelines(tmp_path / "bare.vtk")] == [5]
    (tmp_path / "none.vtk").write_text(text + lines)
    with pytest.raises(UserError, match="it needs radii in mm"):
        read_centrelines(tmp_path / "none.vtk")


def test_surfaces_are_written_as_polydata_that_other_programs_read(tmp_path):
    line = Centreline(np.array([[0.0, 0, 0], [0, 0, 3], [1, 0, 5]]), np.array([1.0, 1.2, 0.8]))
    mesh = tube_mesh(line, 5)
    PolygonRole("mesh").write(tmp_path / "tube.vtk", mesh)
    content = (tmp_path / "tube.vtk").read_bytes()
    found = read_polydata(tmp_path / "tube.vtk")
    np.testing.assert_array_equal(found.points, mesh.vertices)
    cells = np.frombuffer(content[content.index(b"POLYGONS") :].split(b"\n", 1)[1][: 16 * len(mesh.faces)], ">i4")
    np.testing.assert_array_equal(cells.reshape(-1, 4)[:, 1:], mesh.faces)
    assert (cells.reshape(-1, 4)[:, 0] == 3).all()
    with pytest.raises(UserError, match="meshes are written as"):
        PolygonRole("mesh").write(tmp_path / "tube.ply", mesh)
