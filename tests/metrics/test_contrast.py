import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganatomy.metrics.contrast import SUPERPIXELS, global_contrast_factor, total_scores

WEIGHTS = [(-0.406385 * i / 9 + 0.334573) * i / 9 + 0.0877526 for i in range(1, 10)]


def test_a_uniform_image_has_no_contrast():
    assert global_contrast_factor(np.full((64, 64), 77.0)) == 0


def test_a_chessboard_of_single_pixels_has_contrast_at_the_finest_level_alone():
    board = 255.0 * (np.indices((16, 16)).sum(0) % 2)
    assert global_contrast_factor(board) == pytest.approx(100 * WEIGHTS[0])


def test_larger_squares_add_what_coarser_levels_see():
    board = 255.0 * (np.indices((16, 16)) // 2).sum(0) % 510
    # Of 16 pixels along a line 15 steps are taken, 7 of them between squares; inner pixels have four neighbours.
    steps = np.array([0, *[1, 1] * 7, 0])
    finest = np.mean([(steps[r] + steps[c]) / _neighbours(r, c) for r in range(16) for c in range(16)])
    assert global_contrast_factor(board) == pytest.approx(100 * (WEIGHTS[0] * finest + WEIGHTS[1]))


def _neighbours(row, column):
    return 4 - (row in (0, 15)) - (column in (0, 15))


def test_brightness_is_perceived_with_the_gamma_of_a_display():
    halves = np.zeros((2, 2))
    halves[:, 1] = 128.0
    assert global_contrast_factor(halves) == pytest.approx(WEIGHTS[0] * 0.5 * 100 * math.sqrt((128 / 255) ** 2.2))


def test_all_nine_levels_count_in_a_large_image():
    halves = np.zeros((400, 400))
    halves[:, 200:] = 255.0
    wide = [400 // side for side in SUPERPIXELS]
    # Of each row two squares lie at the step; upper and lower rows have one neighbour less.
    want = sum(
        weight * 100 * 2 * ((count - 2) / _inner(count) + 2 / (_inner(count) - 1)) / count**2
        for weight, count in zip(WEIGHTS, wide, strict=True)
    )
    assert global_contrast_factor(halves) == pytest.approx(want)


def _inner(count):
    return 4 if count > 2 else 3


def test_slices_are_averaged_and_values_clipped():
    board = 255.0 * (np.indices((8, 8)).sum(0) % 2)
    stack = np.stack([board, np.zeros((8, 8))])
    assert global_contrast_factor(stack) == pytest.approx(global_contrast_factor(board) / 2)
    assert global_contrast_factor(3 * board - 255) == pytest.approx(global_contrast_factor(board))


def test_what_has_no_neighbours_has_no_contrast_factor():
    assert math.isnan(global_contrast_factor(np.zeros((1, 5))))


def test_the_total_is_the_mean_of_what_ranks():
    scores = {"a": {"ssim": 0.5, "error": 3.0}, "b": {"ssim": 0.9, "error": 1.0}, "c": {"ssim": 0.6, "error": 1.5}}
    totals = total_scores(scores, {"ssim": "higher", "error": "lower"})
    assert totals == pytest.approx({"a": 0.0, "b": 1.0, "c": (0.25 + 0.75) / 2})


def test_scores_that_tell_nothing_do_not_count():
    scores = {"a": {"ssim": 0.5, "same": 2.0, "some": 1.0}, "b": {"ssim": 0.9, "same": 2.0}}
    better = {"ssim": "higher", "same": "lower", "some": "higher"}
    assert total_scores(scores, better) == {"a": 0.0, "b": 1.0}
    assert all(math.isnan(total) for total in total_scores(scores, {"same": "lower"}).values())


@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=6), st.floats(0.1, 10), st.floats(-50, 50))
def test_the_total_knows_neither_unit_nor_origin(values, scale, shift):
    if max(values) - min(values) < 1e-3:
        return
    scores = {str(n): {"x": value} for n, value in enumerate(values)}
    moved = {str(n): {"x": scale * value + shift} for n, value in enumerate(values)}
    before, after = (total_scores(found, {"x": "higher"}) for found in (scores, moved))
    assert before == pytest.approx(after, abs=1e-6)
    assert min(before.values()) >= 0 and max(before.values()) <= 1
