import numpy as np
import pytest

from ganatomy.phantoms.shapes import Grid, Tubes, blend, capsule, ellipsoid, grow_tree, superellipse, texture

GRID = Grid.centred((40, 48, 44), (1.0, 1.0, 1.0))


def test_the_grid_is_centred_and_cropped_by_millimetres() -> None:
    grid = Grid.centred((3, 4, 5), (2.0, 1.0, 0.5), z_centre=10)
    assert grid.shape == (3, 4, 5)
    assert grid.z.ravel().tolist() == [8, 10, 12]
    assert grid.y.ravel().tolist() == [-1.5, -0.5, 0.5, 1.5]
    part = grid.crop(grid.window((-0.5, 0, 9), (0.6, 9, 13)))
    assert part.x.ravel().tolist() == [-0.5, 0, 0.5]
    assert part.y.ravel().tolist() == [0.5, 1.5]
    assert part.z.ravel().tolist() == [10, 12]


def test_coverage_adds_up_to_the_volume_of_a_ball() -> None:
    ball = ellipsoid((GRID.x, GRID.y, GRID.z), (12, 12, 12))
    assert GRID.coverage(ball).sum() == pytest.approx(4 / 3 * np.pi * 12**3, rel=0.01)


def test_distances_near_the_surface() -> None:
    x = np.array([9.0, 10.0, 12.0], np.float32)
    zero = np.zeros(3, np.float32)
    np.testing.assert_allclose(ellipsoid((x, zero), (10, 5)), [-0.9, 0, 2.4], atol=0.6)
    np.testing.assert_allclose(superellipse(x, zero, 10, 5, 2.3), [-1, 0, 2], atol=0.1)
    np.testing.assert_allclose(capsule(x, zero, (0, 0), (9, 0)), [0, 1, 3], atol=1e-6)
    assert blend(x, x, 4).tolist() == (x - 1).tolist()


@pytest.mark.parametrize("radius", [0.2, 0.5, 3.0])
def test_tubes_hold_their_volume_however_thin(radius: float) -> None:
    tube = Tubes.along(np.array([[0.3, 0.2, -15.0], [0.3, 0.2, 15.0]]), radius, radius)
    caps = 4 / 3 * np.pi * radius**3
    assert tube.draw(GRID).sum() == pytest.approx(30 * np.pi * radius**2 + caps, rel=0.08)


def test_a_tube_outside_the_grid_leaves_no_trace() -> None:
    assert not Tubes.along(np.array([[500.0, 0, 0], [510, 0, 0]]), 3, 3).draw(GRID).any()


def test_a_tree_reaches_its_targets_and_keeps_murrays_law() -> None:
    targets = np.random.default_rng(0).uniform(-50, 50, (200, 3))
    tree = grow_tree((0, 0, 0), targets, 0.5)
    assert len(tree.ends) == 200
    assert {tuple(p) for p in tree.ends} == {tuple(p) for p in targets}
    origins = {tuple(p) for p in tree.starts}
    assert origins <= {(0.0, 0.0, 0.0)} | {tuple(p) for p in tree.ends}
    leaves = [r for r, end in zip(tree.radii[:, 1], tree.ends, strict=True) if tuple(end) not in origins]
    np.testing.assert_allclose(leaves, 0.5)
    trunk = tree.radii[(tree.starts == 0).all(1), 1] ** 3
    assert trunk.sum() == pytest.approx(200 * 0.5**3)


def test_texture_is_standardised_and_of_the_grain_asked_for() -> None:
    field = texture(np.random.default_rng(0), (1, 128, 128), (3.0, 1.0, 1.0), 4.0)
    assert field.std() == pytest.approx(1, abs=1e-3)
    apart = [np.corrcoef(field[0, :, :-d].ravel(), field[0, :, d:].ravel())[0, 1] for d in (1, 8, 24)]
    np.testing.assert_allclose(apart, np.exp(-(np.array([1, 8, 24]) ** 2) / (4 * 4.0**2)), atol=0.15)
