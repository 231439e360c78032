import numpy as np
import pytest

from ganatomy.metrics.uptake import detected, lesion_uptakes, split_error


def test_uptakes_are_those_of_a_loop_over_voxels():
    rng = np.random.default_rng(1)
    lesions = rng.integers(0, 4, (2, 5, 6)) * rng.integers(0, 2, (2, 5, 6)) * 3
    output, true = rng.uniform(0, 9, (2, 2, 5, 6))
    found = lesion_uptakes(output, true, lesions)
    assert [one.number for one in found] == sorted(set(lesions.ravel()) - {0})
    for one in found:
        places = [index for index in np.ndindex(lesions.shape) if lesions[index] == one.number]
        made, real = ([image[index] for index in places] for image in (output, true))
        assert one.voxels == len(places)
        assert one.mean == pytest.approx((np.mean(made), np.mean(real)))
        assert one.highest == pytest.approx((max(made), max(real)))
        assert one.mean_error == pytest.approx(np.mean(made) - np.mean(real))
        assert one.highest_error == pytest.approx(max(made) - max(real))
    assert lesion_uptakes(output, true, np.zeros(true.shape, int)) == []


def test_lesions_are_found_in_the_organ_and_false_ones_counted():
    lesions, output, organ = np.zeros((3, 8, 10), int), np.full((3, 8, 10), 1.0), np.ones((3, 8, 10), bool)
    lesions[0, 1:3, 1:3], lesions[1, 5:7, 5:7], lesions[2, 0, 9] = 1, 2, 3
    output[0, 2, 2] = 4.0  # touches the first lesion
    output[1, 6, 6] = 2.5  # not above the threshold
    output[2, 4:6, 0:2] = 9.0  # a false one
    output[2, 7, 9] = 9.0  # outside of the organ
    organ[2, 7, 9] = False
    found = detected(output, lesions, organ)
    assert (found.lesions, found.found, found.false_positives, found.volumes) == (3, 1, 1, 1)
    assert detected(output, lesions).false_positives == 2
    assert detected(output, lesions, organ, threshold=2.4).found == 2
    assert detected(output, lesions, organ, minimum_voxels=2).found == 0


def test_errors_of_hot_and_cold_voxels():
    assert split_error([1.0, 1, 2, 7], [0.0, 1, 3, 5]) == pytest.approx((1.5, 0.5))
    assert split_error([1.0, 1, 2, 7], [0.0, 1, 3, 5], [0, 1, 1, 0]) == pytest.approx((1.0, 0.0))
    high, low = split_error([1.0], [1.0])
    assert np.isnan(high) and low == 0


def test_other_shapes_are_refused():
    for call in (
        lambda: lesion_uptakes(np.ones(3), np.ones(3), np.ones(4)),
        lambda: detected(np.ones((2, 2)), np.ones((2, 3))),
        lambda: split_error(np.ones(3), np.ones(2)),
    ):
        with pytest.raises(ValueError, match="different shapes"):
            call()
