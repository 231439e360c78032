import numpy as np
import pytest
from scipy import ndimage

from ganatomy.errors import UserError
from ganatomy.phantoms import subject
from ganatomy.phantoms.cells import OFFSET, FluorescentCells


@pytest.fixture(scope="module")
def frames():
    return [FluorescentCells(seed, size=96) for seed in range(12)]


def centres(frame, numbers):
    return np.array(ndimage.center_of_mass(frame.masks["cells"], frame.instances["cells"], numbers))


def test_frames_of_a_movie_are_one_subject_whose_cells_move_little(frames):
    assert [subject("fluorescent-cells", seed) for seed in (0, 2, 3)] == [0, 0, 1]
    assert [frame.frame for frame in frames[:4]] == [0, 1, 2, 0]
    shared = 0
    for first, second in ((frames[0], frames[1]), (frames[4], frames[5]), (frames[6], frames[7])):
        common = np.intersect1d(np.unique(first.instances["cells"]), np.unique(second.instances["cells"]))[1:]
        moved = np.linalg.norm(centres(first, common) - centres(second, common), axis=1)
        assert len(common) > 5 and 0.05 < np.median(moved) < 4
        shared += len(common)
    assert (frames[0].image.array != frames[1].image.array).any() and shared


def test_some_cells_divide():
    more = 0
    for movie in range(8):
        first, last = (FluorescentCells(3 * movie + frame, size=64) for frame in (0, 2))
        more += last.instances["cells"].max() > first.instances["cells"].max()
    assert 0 < more <= 8


def test_many_cells_touch(frames):
    joined = [
        1 - ndimage.label(frame.instances["cells"][0])[1] / (len(np.unique(frame.instances["cells"])) - 1)
        for frame in frames
    ]
    assert 0.2 < np.mean(joined) < 0.8


def test_cells_are_brighter_than_the_medium_around_them_and_bleach(frames):
    light = [frame.image.numpy()[0] - OFFSET for frame in frames]
    inside = [values[frame.masks["cells"]].mean() for values, frame in zip(light, frames, strict=True)]
    outside = [values[~frame.masks["cells"]].mean() for values, frame in zip(light, frames, strict=True)]
    assert (np.array(inside) > 2 * np.array(outside)).all()
    assert sum(later < earlier for earlier, later in zip(inside[::3], inside[2::3], strict=True)) >= 3


def test_the_faintest_cells_are_darker_than_the_brightest_medium(frames):
    fainter = 0
    for frame in frames:
        smooth = ndimage.gaussian_filter(frame.image.numpy()[0, 0], 1.5)
        numbers = frame.instances["cells"][0]
        cells = ndimage.mean(smooth, numbers, np.unique(numbers)[1:])
        fainter += cells.min() < np.quantile(smooth[ndimage.distance_transform_edt(numbers == 0) > 6], 0.99)
    assert fainter >= 3


def test_frames_repeat_and_share_their_masks(frames):
    again = FluorescentCells(4, size=96)
    np.testing.assert_array_equal(again.image.array, frames[4].image.array)
    np.testing.assert_array_equal(again.masks["cells"], again.instances["cells"] > 0)
    assert again.image.unit is None and again.image.spacing[1] == pytest.approx(0.16 / 96)


@pytest.mark.parametrize("wrong", [{"size": 8}, {"noise": -1.0}])
def test_impossible_requests_are_refused(wrong):
    with pytest.raises(UserError, match="cannot be drawn"):
        FluorescentCells(0, **wrong)
