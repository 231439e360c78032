import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from ganatomy.physics.centreline import Centreline, CentrelineCodec, tube_mask, tube_mesh

RENORM = pytest.mark.parametrize("renorm", [True, False])
ENCODINGS = pytest.mark.parametrize("encoding", ["displacement", "absolute"])


def straight(length, direction=(2.0, -1.0, 0.5), points=7, start=(11.0, -40.0, 150.0), radii=(2.5, 1.0)):
    along = np.linspace(0, length, points)
    unit = np.array(direction) / np.linalg.norm(direction)
    return Centreline(np.array(start) + along[:, None] * unit, np.linspace(*radii, points))


def semicircle(radius=20.0, steps=126):
    angle = np.linspace(0, np.pi, steps + 1)
    return Centreline(radius * np.stack([np.cos(angle), np.sin(angle), 0 * angle], 1), np.full(steps + 1, 2.0))


def coil(turns=3.0, points=700):
    t = np.linspace(0, 1, points)
    angle = 2 * np.pi * turns * t
    path = np.stack([9 * np.cos(angle), 14 * np.sin(angle) + 5 * t, 37 * t - 8 * t**2], 1)
    return Centreline(path, 2.2 - 1.1 * t)


def volume(mesh):
    a, b, c = np.moveaxis(mesh.vertices[mesh.faces], 1, 0)
    return np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6


@st.composite
def directions(draw):
    vector = np.array(draw(st.tuples(*[st.floats(-1, 1)] * 3)))
    assume(np.linalg.norm(vector) > 1e-2)
    return vector


@st.composite
def rotations(draw):
    quaternion = np.array(draw(st.tuples(*[st.floats(-1, 1)] * 4)))
    assume(np.linalg.norm(quaternion) > 1e-2)
    return Rotation.from_quat(quaternion).as_matrix()


@pytest.mark.parametrize(
    ("points", "radii"),
    [
        (np.zeros((3, 2)), np.ones(3)),
        (np.zeros((3, 3)), np.ones(2)),
        (np.zeros((0, 3)), np.ones(0)),
        (np.array([[0, 0, np.nan]]), np.ones(1)),
        (np.zeros((2, 3)), np.array([1.0, np.inf])),
        (np.zeros((2, 3)), np.array([1.0, -0.1])),
    ],
)
def test_what_is_no_centreline_is_refused(points, radii):
    with pytest.raises(ValueError, match="a centre-line"):
        Centreline(points, radii)


def test_steps_are_equal_in_arc_length_and_not_in_chord():
    corner = Centreline([[0, 0, 0], [0.75, 0, 0], [0.75, 3, 0]], [1.0, 2.5, 1.0])
    line = corner.resampled(0.5)
    # 3.75 mm are seven and a half steps, so the last one is completed beyond the end.
    expected = [[0, 0, 0], [0.5, 0, 0], *([0.75, 0.25 + 0.5 * i, 0] for i in range(7))]
    np.testing.assert_allclose(line.points, expected, atol=1e-12)
    np.testing.assert_allclose(line.radii[:4], [1.0, 2.0, 2.375, 2.125])
    assert line.radii[-1] == 1.0
    assert np.linalg.norm(line.points[2] - line.points[1]) < 0.4


@settings(max_examples=30, deadline=None)
@given(st.floats(0.26, 60), st.floats(0.3, 0.9))
def test_resampling_takes_the_nearest_number_of_whole_steps(length, step):
    assume(length > 0.6 * step and abs(length / step % 1 - 0.5) > 1e-6)
    line = straight(length).resampled(step)
    assert len(line.points) - 1 == round(length / step)
    np.testing.assert_allclose(np.linalg.norm(np.diff(line.points, axis=0), axis=1), step)


def test_repeated_points_change_nothing_and_nothing_cannot_be_resampled():
    line = coil(points=50)
    twice = Centreline(np.repeat(line.points, 2, axis=0), np.repeat(line.radii, 2))
    np.testing.assert_allclose(twice.resampled().points, line.resampled().points)
    for short in (straight(0.2), Centreline(np.ones((3, 3)), np.ones(3))):
        with pytest.raises(ValueError, match="shorter than half a step"):
            short.resampled()


def test_a_signal_of_a_hundred_unit_steps_is_fifty_millimetres():
    signal = np.zeros((4, 512))
    signal[0, :100], signal[3, :100] = 1, 0.4
    codec = CentrelineCodec()
    line = codec.decode(signal)
    assert line.length_mm == pytest.approx(50)
    assert codec.lengths_mm(signal) == pytest.approx(50)
    assert line.points[0].tolist() == [0, 0, 0]
    np.testing.assert_allclose(line.radii, 2)
    assert codec.longest_mm == 256


def test_signals_hold_unit_vectors_and_radii_and_then_zeros():
    signal, cut = CentrelineCodec().encode(straight(30.1, direction=(0, -3, 4), radii=(2.5, 2.5)))
    assert signal.shape == (4, 512)
    assert not cut
    np.testing.assert_allclose(signal[:, :60], np.tile([[0], [-0.6], [0.8], [0.5]], 60), atol=1e-12)
    assert (signal[:, 60:] == 0).all()


@settings(max_examples=40, deadline=None)
@given(st.floats(0.5, 256), directions(), st.sampled_from(["displacement", "absolute"]), st.booleans())
def test_straight_lines_come_back(length, direction, encoding, renorm):
    line, codec = straight(length, direction), CentrelineCodec(encoding=encoding)
    whole = line.resampled()
    signal, cut = codec.encode(line)
    found = codec.decode(signal, renorm=renorm)
    assert not cut
    np.testing.assert_allclose(found.points, whole.points - whole.points[0], atol=1e-6)
    np.testing.assert_allclose(found.radii[1:], whole.radii[1:], atol=1e-9)
    assert found.radii[0] == found.radii[1]
    assert codec.lengths_mm(signal, renorm=renorm) == pytest.approx(whole.length_mm, abs=1e-6)
    again = codec.encode(found).signal
    np.testing.assert_allclose(again, signal, atol=1e-6)


@ENCODINGS
def test_bent_lines_come_back_exactly_without_and_at_full_length_with_renorm(encoding):
    line, codec = coil(), CentrelineCodec(encoding=encoding)
    whole = line.resampled()
    signal = codec.encode(line).signal
    plain, longer = codec.decode(signal, renorm=False), codec.decode(signal)
    np.testing.assert_allclose(plain.points, whole.points - whole.points[0], atol=1e-9)
    assert longer.length_mm == pytest.approx(0.5 * (len(whole.points) - 1))
    assert longer.length_mm > plain.length_mm
    np.testing.assert_allclose(longer.points, plain.points, atol=0.05)
    for renorm, found in ((False, plain), (True, longer)):
        assert codec.lengths_mm(signal, renorm=renorm) == pytest.approx(found.length_mm)


@settings(max_examples=25, deadline=None)
@given(rotations(), st.sampled_from(["displacement", "absolute"]), st.booleans())
def test_signals_and_meshes_turn_with_the_vessel(rotation, encoding, renorm):
    line, codec = coil(turns=0.7, points=60), CentrelineCodec(samples=160, encoding=encoding)
    turned = Centreline(line.points @ rotation.T, line.radii)
    signal, of_turned = codec.encode(line).signal, codec.encode(turned).signal
    np.testing.assert_allclose(of_turned[:3], rotation @ signal[:3], atol=1e-9)
    np.testing.assert_allclose(of_turned[3], signal[3], atol=1e-9)
    found, found_turned = codec.decode(signal, renorm=renorm), codec.decode(of_turned, renorm=renorm)
    np.testing.assert_allclose(found_turned.points, found.points @ rotation.T, atol=1e-9)
    np.testing.assert_allclose(
        tube_mesh(found_turned, 5).vertices, tube_mesh(found, 5).vertices @ rotation.T, atol=1e-6
    )


@ENCODINGS
def test_long_vessels_are_cut_and_flagged(encoding):
    codec = CentrelineCodec(encoding=encoding)
    assert not codec.encode(straight(256.2)).cut
    signal, cut = codec.encode(straight(256.3))
    assert cut
    assert codec.decode(signal).length_mm == pytest.approx(256)
    signal, cut = codec.encode(straight(250))
    assert not cut
    assert codec.counts(signal) == 500


def test_absolute_positions_stay_at_the_end():
    signal, _ = CentrelineCodec(encoding="absolute").encode(straight(40, direction=(0, 3, -4)))
    np.testing.assert_allclose(signal[:3, 0], [0, 0.003, -0.004], atol=1e-12)
    np.testing.assert_allclose(signal[:3, 79:], np.tile([[0], [0.24], [-0.32]], 433), atol=1e-12)
    assert (signal[3, 80:] == 0).all()


def along_x(norms, radius=0.4):
    signal = np.zeros((4, len(norms)))
    signal[0], signal[3] = norms, radius
    return signal


@pytest.mark.parametrize(
    ("norms", "count"),
    [
        ([1, 1, 0.4, 1, 1, 1], 6),
        ([1, 1, 0.4, 0.49, 1, 1], 2),
        ([1, 0.5, 0.5, 1, 0.3, 0.3], 4),
        ([0.1, 0.2, 1, 1, 1, 1], 0),
        ([1, 1, 1, 1, 1, 0.4], 5),
        ([1, 1, 1, 1, 1, 0.6], 6),
    ],
)
def test_two_short_displacements_in_a_row_end_the_vessel(norms, count):
    codec = CentrelineCodec(samples=6)
    signal = along_x(norms)
    assert codec.counts(signal) == count
    assert codec.decode(signal).length_mm == pytest.approx(0.5 * count)
    assert codec.decode(signal, renorm=False).length_mm == pytest.approx(0.5 * sum(norms[:count]))


def test_a_radius_under_a_tenth_of_a_millimetre_ends_the_vessel():
    codec = CentrelineCodec(samples=5)
    signals = np.stack([along_x([1] * 5, [0.4, 0.021, r, 0.4, 0.4]) for r in (0.019, 0.021, -0.3)])
    assert codec.counts(signals).tolist() == [2, 5, 2]
    assert codec.lengths_mm(signals[None]).tolist() == [[1.0, 2.5, 1.0]]


@RENORM
def test_a_signal_that_ends_at_once_is_one_point(renorm):
    line = CentrelineCodec(samples=5).decode(along_x([0, 0, 1, 1, 1]), renorm=renorm)
    assert line.points.tolist() == [[0, 0, 0]]
    assert line.radii.tolist() == [2.0]


@pytest.mark.parametrize("place", [0, 2])
def test_a_displacement_of_zero_takes_the_direction_of_a_neighbour(place):
    signal = along_x([1.0] * 5)
    signal[0, place] = 0
    points = CentrelineCodec(samples=5).decode(signal).points
    np.testing.assert_allclose(points[:, 0], np.arange(6) / 2)


def test_signals_of_another_shape_or_not_finite_are_refused():
    codec = CentrelineCodec(samples=5)
    with pytest.raises(ValueError, match=r"\(4, 5\)"):
        codec.decode(np.zeros((4, 6)))
    with pytest.raises(ValueError, match=r"\(4, 5\)"):
        codec.decode(np.zeros((1, 4, 5)))
    with pytest.raises(ValueError, match="finite"):
        codec.counts(along_x([1, np.nan, 1, 1, 1]))


def test_a_swept_polygon_encloses_its_share_of_the_cylinder():
    share = 16 / (2 * math.pi) * math.sin(2 * math.pi / 16)
    assert share == pytest.approx(0.97450, abs=5e-6)
    mesh = tube_mesh(straight(40, radii=(2, 2)))
    assert mesh.vertices.shape == (7 * 16 + 2, 3)
    assert mesh.faces.shape == (7 * 32, 3)
    assert volume(mesh) == pytest.approx(share * math.pi * 4 * 40)


@pytest.mark.parametrize("line", [straight(13), semicircle(), coil()], ids=["straight", "bent", "coil"])
def test_meshes_are_closed_and_face_outwards(line):
    mesh = tube_mesh(line, 7)
    edges = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])
    directed = set(map(tuple, edges.tolist()))
    assert len(directed) == len(edges)
    assert directed == {(b, a) for a, b in directed}
    assert len(mesh.vertices) - len(edges) // 2 + len(mesh.faces) == 2
    assert set(mesh.faces.ravel()) == set(range(len(mesh.vertices)))
    assert volume(mesh) > 0


def test_rings_have_the_radius_and_lie_across_the_line():
    line = coil()
    mesh = tube_mesh(line, 9)
    spokes = mesh.vertices[:-2].reshape(-1, 9, 3) - line.points[:, None]
    np.testing.assert_allclose(np.linalg.norm(spokes, axis=2), np.tile(line.radii[:, None], 9))
    tangents = np.gradient(line.points, axis=0)
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    assert np.abs(np.einsum("ijk,ik->ij", spokes, tangents)).max() < 1e-3


def test_frames_do_not_twist():
    flat = tube_mesh(semicircle(), 4).vertices[:-2].reshape(-1, 4, 3) - semicircle().points[:, None]
    # In the plane of the bend, or across it, everywhere.
    np.testing.assert_allclose(flat[:, [0, 2], 2], 0, atol=1e-12)
    np.testing.assert_allclose(flat[:, 1], np.tile(flat[0, 1], (127, 1)), atol=1e-12)
    line = coil()
    spokes = (tube_mesh(line, 4).vertices[:-2].reshape(-1, 4, 3) - line.points[:, None]) / line.radii[:, None, None]
    frames = np.stack([spokes[:, 0], spokes[:, 1], np.cross(spokes[:, 0], spokes[:, 1])], axis=2)
    turns = Rotation.from_matrix(frames[1:] @ frames[:-1].transpose(0, 2, 1)).as_rotvec()
    # From ring to ring the frame rotates about an axis across the line, and not about the line.
    np.testing.assert_allclose(np.einsum("ij,ij->i", turns, frames[:-1, :, 2]), 0, atol=1e-9)
    assert np.linalg.norm(turns, axis=1).min() > 1e-3


def test_a_line_that_turns_back_still_has_a_mesh():
    mesh = tube_mesh(Centreline([[0, 0, 0], [0, 0, 5], [0, 0, 2], [0, 3, 2]], np.ones(4)))
    assert np.isfinite(mesh.vertices).all()
    assert len(mesh.faces) == 4 * 32


def test_tubes_need_two_points_and_three_sides():
    with pytest.raises(ValueError, match="two different points"):
        tube_mesh(Centreline(np.ones((2, 3)), np.ones(2)))
    with pytest.raises(ValueError, match="three sides"):
        tube_mesh(semicircle(), 2)


def test_stl_files_hold_every_triangle():
    mesh = tube_mesh(coil(points=20), 5)
    content = mesh.stl()
    assert not content.startswith(b"solid")
    assert b"SPACE=RAS" in content[:80]
    assert int.from_bytes(content[80:84], "little") == len(mesh.faces)
    assert len(content) == 84 + 50 * len(mesh.faces)
    numbers = np.stack(
        [np.frombuffer(content[84 + 50 * i : 84 + 50 * i + 48], "<f4") for i in range(len(mesh.faces))]
    ).reshape(-1, 4, 3)
    np.testing.assert_allclose(numbers[:, 1:], mesh.vertices[mesh.faces], rtol=1e-6)
    outward = np.cross(numbers[:, 2] - numbers[:, 1], numbers[:, 3] - numbers[:, 1])
    np.testing.assert_allclose(np.linalg.norm(numbers[:, 0], axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(np.cross(numbers[:, 0], outward), 0, atol=1e-4 * np.linalg.norm(outward, axis=1).max())


def capsule(step):
    points = np.arange(round(40 / step) + 1) * step
    return Centreline(np.stack([0 * points, points, 0 * points], 1), np.full(len(points), 2.0))


def test_volume_of_a_capsule_in_voxels():
    grid = np.diag([0.25, 0.25, 0.25, 1.0])
    grid[:3, 3] = -2.625, -2.875, -3.125  # voxel corners on the axis
    mask = tube_mask(capsule(0.5), grid, (21, 184, 25))
    assert mask.sum() * 0.25**3 == 554.0
    assert math.pi * 4 * 40 + 4 / 3 * math.pi * 8 == pytest.approx(536.165, abs=5e-4)
    fine = np.diag([0.1, 0.1, 0.1, 1.0])
    fine[:3, 3] = -2.113, -2.057, -2.171
    assert tube_mask(capsule(0.1), fine, (43, 442, 44)).sum() * 0.1**3 == pytest.approx(536.165, rel=2e-3)


def test_a_tube_is_narrower_between_spheres():
    assert math.sqrt(2**2 - 0.25**2) == pytest.approx(1.98431, abs=5e-6)
    between = np.diag([1.0, 1.0, 0.001, 1.0])
    between[:3, 3] = 0, 20.25, 1.98  # a row of voxels from 1.980 to 1.989 mm off the axis
    inside = tube_mask(capsule(0.5), between, (1, 1, 10)).ravel()
    assert inside.tolist() == [True] * 5 + [False] * 5


def test_masks_follow_an_oblique_affine_and_the_edge_of_the_grid():
    line = coil(points=90)
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", [31, -17, 58], degrees=True).as_matrix() @ np.diag([1.3, 0.7, 0.9])
    affine[:3, 3] = line.points[30] - affine[:3, :3] @ [5.2, 9.1, 4.7]
    shape = (14, 23, 18)
    mask = tube_mask(line, affine, shape)
    voxels = np.stack(np.indices(shape), -1) @ affine[:3, :3].T + affine[:3, 3]
    gaps = np.linalg.norm(voxels[..., None, :] - line.points, axis=-1) - line.radii
    np.testing.assert_array_equal(mask, gaps.min(-1) <= 0)
    assert 50 < mask.sum() < mask.size / 2
