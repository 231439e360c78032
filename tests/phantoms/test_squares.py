import numpy as np
import pytest
from scipy import ndimage

from ganatomy.errors import UserError
from ganatomy.phantoms.squares import Squares


def corners(mask: np.ndarray) -> list[tuple[int, int]]:
    """Return the upper left corners of the squares in one image, in reading order."""
    labelled, _ = ndimage.label(mask)
    return sorted((rows.start, columns.start) for rows, columns in ndimage.find_objects(labelled))


def test_the_noise_is_that_of_the_benchmark() -> None:
    noise = Squares(0, slices=64).image.array[0]
    np.testing.assert_allclose(noise.std((1, 2)), 50, rtol=1e-3)
    # White noise smoothed with a Gaussian of SD s has the correlation exp(-d² / 4s²).
    inner = noise[:, 12:-12, 12:-12]
    for shift in (1, 2, 4):
        correlation = np.corrcoef(inner[..., shift:].ravel(), inner[..., :-shift].ravel())[0, 1]
        assert correlation == pytest.approx(np.exp(-(shift**2) / 25), abs=0.03)


def test_the_effect_adds_exactly_100_in_two_squares() -> None:
    effect, baseline = Squares(5, slices=6), Squares(5, slices=6, label="baseline")
    mask = effect.masks["effect"]
    assert (mask.sum((1, 2)) == 2 * 20 * 20).all()
    assert not baseline.masks["effect"].any()
    np.testing.assert_allclose(effect.image.array - baseline.image.array, 100.0 * mask[None], atol=1e-4)
    np.testing.assert_array_equal(Squares(5, slices=6, noise=0).image.array[0], 100.0 * mask)


def test_one_square_is_central_the_other_on_either_side() -> None:
    sides, jitters = [], set()
    for seed in range(1, 80, 2):
        for image in Squares(seed, slices=2).masks["effect"]:
            squares = corners(image)
            assert len(squares) == 2 and (46, 46) in squares
            other = np.subtract(next(corner for corner in squares if corner != (46, 46)), 46)
            sides.append(np.sign(other[0]))
            assert other[0] * other[1] > 0
            jitters.update((other - sides[-1] * 32).tolist())
    assert sum(sides) == 0
    assert jitters == set(range(-5, 5))


@pytest.mark.parametrize(("size", "edge"), [(16, 2), (28, 4), (56, 10), (64, 12), (224, 40)])
def test_other_sizes_are_in_proportion(size: int, edge: int) -> None:
    phantom = Squares(1, size=size, slices=20)
    assert phantom.image.shape == (20, size, size)
    assert (phantom.masks["effect"].sum((1, 2)) == 2 * edge**2).all()


def test_labels_follow_the_seed_or_the_wish() -> None:
    assert [Squares(seed).label for seed in range(4)] == ["baseline", "effect"] * 2
    assert Squares(0, label="effect").label == "effect"
    with pytest.raises(UserError, match="no label 'tumour'"):
        Squares(0, label="tumour")
    with pytest.raises(UserError, match="16"):
        Squares(0, size=15)


def test_the_seed_is_the_image() -> None:
    first, again, other = (Squares(seed, slices=2).image.array for seed in (1, 1, 3))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any() and (first[:, 0] != first[:, 1]).any()
    assert first.dtype == np.float32
