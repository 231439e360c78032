import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ganatomy.metrics.dependence import JointHistogram, correlation, mutual_information

WINDOW = (0.0, 16.0)


def values(seed=0, size=4096):
    return np.random.default_rng(seed).integers(0, 16, size) + 0.5


def test_an_image_tells_its_whole_entropy_about_itself():
    x = np.repeat(np.arange(16) + 0.5, 10)
    assert mutual_information(x, x, WINDOW, WINDOW) == pytest.approx(4)


def test_inverting_a_contrast_leaves_the_information_and_turns_the_correlation():
    x = values()
    assert mutual_information(x, 16 - x, WINDOW, WINDOW) == pytest.approx(mutual_information(x, x, WINDOW, WINDOW))
    assert correlation(x, 16 - x) == pytest.approx(-1)


def test_a_known_table():
    x, y = np.array([1.0, 1, 9, 9]), np.array([1.0, 9, 9, 9])
    want = 0.25 * math.log2(0.25 / 0.125) + 0.25 * math.log2(0.25 / 0.375) + 0.5 * math.log2(0.5 / 0.375)
    assert mutual_information(x, y, WINDOW, WINDOW, bins=2) == pytest.approx(want)


def test_independent_and_constant_images_share_next_to_nothing():
    assert mutual_information(values(0, 100_000), values(1, 100_000), WINDOW, WINDOW) < 0.01
    assert mutual_information(values(), np.full(4096, 3.0), WINDOW, WINDOW) == 0
    assert math.isnan(correlation(values(), np.full(4096, 3.0)))


def test_nothing_counted_is_no_number():
    assert math.isnan(mutual_information([], [], WINDOW, WINDOW)) and math.isnan(correlation([], []))


def test_values_beyond_the_window_count_in_the_outermost_bins():
    assert mutual_information([-5.0, 40.0], [0.5, 15.5], WINDOW, WINDOW) == pytest.approx(1)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_slabs_add_up(lengths, seed):
    x, y = values(seed, sum(lengths)), values(seed + 1, sum(lengths))
    parts = JointHistogram(WINDOW, WINDOW)
    start = 0
    for length in lengths:
        parts.add(x[start : start + length], y[start : start + length])
        start += length
    assert parts.mutual_information == mutual_information(x, y, WINDOW, WINDOW)
