import numpy as np
import pytest

from ganatomy.metrics.colour import delta_e_2000

BLACK, WHITE, RED, GREEN, BLUE = np.array([[0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]], float)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [(BLACK, WHITE, 100.0), (RED, RED, 0.0), (RED, BLUE, 52.88), (RED, GREEN, 86.61), (GREEN, BLUE, 83.19)],
)
def test_differences_of_primary_colours_are_the_published_ones(first, second, expected):
    assert delta_e_2000(first, second) == pytest.approx(expected, abs=0.01)
    assert delta_e_2000(second, first) == pytest.approx(expected, abs=0.01)


def test_the_mean_is_over_pixels_and_values_are_clipped():
    picture = np.stack([np.stack([WHITE, BLACK]), np.stack([WHITE, WHITE])])
    assert delta_e_2000(picture, np.ones_like(picture)) == pytest.approx(25, abs=0.01)
    assert delta_e_2000(np.full((4, 3, 3), 1.7), np.ones((4, 3, 3))) == pytest.approx(0)


def test_other_than_three_channels_are_refused():
    with pytest.raises(ValueError, match=r"\(4, 5\)"):
        delta_e_2000(np.zeros((4, 5)), np.zeros((4, 5)))
