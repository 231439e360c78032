import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from ganatomy.errors import UserError
from ganatomy.phantoms import make, part
from ganatomy.phantoms.fetus import FRAME_MM, LANDMARKS, PARTS, FetusSweep, probe_pose, structures, sweep

SIZE = 48


@pytest.fixture(scope="module")
def sweeps() -> list[FetusSweep]:
    return [FetusSweep(seed, size=SIZE, frames=3) for seed in range(4)]


def test_a_sweep_has_a_pose_for_every_frame_and_is_repeatable(sweeps: list[FetusSweep]) -> None:
    again = make("fetus-us", 2, size=SIZE, frames=3)
    np.testing.assert_array_equal(again.image.array, sweeps[2].image.array)
    assert sweeps[0].image.shape == (3, 48, 64) and sweeps[0].image.spacing == pytest.approx((1.0, 2.25, 2.25))
    assert part(sweeps[1], "poses:pose").matrices.shape == (3, 4, 4)
    assert not np.array_equal(sweeps[0].image.array, sweeps[1].image.array)


def test_poses_are_rigid_and_turn_neither_shape_nor_side() -> None:
    for matrix in sweep(np.random.default_rng(5), 6):
        np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-12)
        assert np.linalg.det(matrix) == pytest.approx(1.0)


def test_an_upright_probe_looks_from_the_surface_into_the_phantom() -> None:
    matrix = probe_pose(10, 0, 4, 0, 0, 0)
    top, bottom = matrix @ [0, -FRAME_MM[0] / 2, 0, 1], matrix @ [0, FRAME_MM[0] / 2, 0, 1]
    np.testing.assert_allclose(top, [10, 82, 4, 1])
    np.testing.assert_allclose(bottom, [10, 82 - FRAME_MM[0], 4, 1])
    np.testing.assert_allclose(matrix @ [5, 0, 0, 0], [5, 0, 0, 0])


def test_labels_lie_where_the_poses_say_that_structures_are(sweeps: list[FetusSweep]) -> None:
    seen = set()
    for one in sweeps:
        labels = one.labels["landmarks"]
        for frame, matrix in enumerate(one.poses["pose"].matrices):
            for label in np.unique(labels[frame][labels[frame] > 0]):
                rows, columns = np.nonzero(labels[frame] == label)
                places = np.stack([(columns - 31.5) * 2.25, (rows - 23.5) * 2.25, 0 * rows, 1 + 0 * rows])
                found = structures(tuple((matrix @ places)[:3].astype(np.float32)))
                names = {PARTS[number - 1].name for number in found}
                assert names == {LANDMARKS[label - 1]}
                seen |= names
    assert {"heart", "stomach"} <= seen


def test_fluid_is_dark_and_frames_are_black_outside_of_the_fan(sweeps: list[FetusSweep]) -> None:
    for one in sweeps:
        values = one.image.numpy()[0]
        assert not values[~binary_dilation(one.masks["fan"][0], iterations=2)[None].repeat(3, 0)].any()
        body = values[one.masks["body"]]
        stomach = values[one.masks["stomach"]]
        assert len(stomach) < 30 or np.median(stomach) < np.median(body) - 40
        assert np.median(values[one.regions["fluid"]]) < np.median(body) - 40


def test_speckle_is_fixed_in_space() -> None:
    matrices = sweep(np.random.default_rng(1), 1)
    one, again = (FetusSweep(1, size=SIZE, frames=frames).image.numpy()[0, 0] for frames in (1, 2))
    np.testing.assert_array_equal(one, again)
    assert matrices.shape == (1, 4, 4)


def test_too_few_rows_are_refused() -> None:
    with pytest.raises(UserError, match="give at least 12 rows and one frame"):
        FetusSweep(0, size=8)
