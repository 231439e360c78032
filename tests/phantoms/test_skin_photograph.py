import numpy as np
import pytest
from scipy import ndimage

from ganatomy.errors import UserError
from ganatomy.phantoms.skin_photograph import SkinPhotograph

COUNT = 40


@pytest.fixture(scope="module")
def photographs() -> list[SkinPhotograph]:
    return [SkinPhotograph(seed, size=64) for seed in range(COUNT)]


def contrast(one: SkinPhotograph) -> np.ndarray:
    """Return the colour of lesions less that of the skin around them."""
    lesion = one.masks["lesion"]
    around = ndimage.binary_dilation(lesion, iterations=6) & ~ndimage.binary_dilation(lesion, iterations=2)
    around &= ~one.masks["background"]
    return one.image.array[:, lesion].mean(1) - np.median(one.image.array[:, around], 1)


def test_photographs_are_rgb_and_differ(photographs: list[SkinPhotograph]) -> None:
    for one in photographs:
        picture = one.image.array
        assert picture.shape == (3, 1, 64, 64) and picture.dtype == np.float32
        assert picture.min() >= 0 and picture.max() <= 255 and one.image.header.modality == "XC"
    assert len({one.image.array.tobytes() for one in photographs}) == COUNT
    np.testing.assert_array_equal(SkinPhotograph(3, size=64).image.array, photographs[3].image.array)
    widths = [64 * one.image.spacing[1] for one in photographs]
    assert min(widths) < 30 and max(widths) > 44


def test_lesions_are_none_one_or_several_and_small(photographs: list[SkinPhotograph]) -> None:
    numbers = [ndimage.label(one.masks["lesion"])[1] for one in photographs]
    assert {0, 1, 2} <= set(numbers) and np.mean(np.array(numbers) == 0) < 0.35
    shares = [one.masks["lesion"].mean() for one in photographs if one.masks["lesion"].any()]
    assert min(shares) > 0.003 and max(shares) < 0.2


def test_pigmented_lesions_are_darker_and_others_redder_than_the_skin_around_them(
    photographs: list[SkinPhotograph],
) -> None:
    there = [one for one in photographs if one.masks["lesion"].any()]
    assert [one.label for one in photographs[:4]] == ["pigmented", "non-pigmented"] * 2
    for one in there:
        red, green, _ = contrast(one)
        if one.label == "pigmented":
            assert red < -10 and green < -10
        else:
            assert red > green + 5
    assert len(there) > 20


def test_clutter_is_in_some_pictures_and_no_lesion(photographs: list[SkinPhotograph]) -> None:
    for name in ("hair", "ruler", "freckles", "creases", "background"):
        assert 0 < sum(name in one.clutter for one in photographs) < COUNT
    for one in photographs:
        assert one.masks["background"].any() == ("background" in one.clutter)
        middle = ndimage.center_of_mass(one.masks["lesion"][0]) if one.masks["lesion"].any() else None
        if middle and "background" in one.clutter:
            overlap = one.masks["lesion"] & one.masks["background"]
            assert overlap.sum() < 0.3 * one.masks["lesion"].sum()


def test_numbers_and_kinds_can_be_chosen() -> None:
    assert not SkinPhotograph(1, size=48, lesions=0).masks["lesion"].any()
    assert SkinPhotograph(1, size=48, label="pigmented").label == "pigmented"
    with pytest.raises(UserError, match="no label 'wart'"):
        SkinPhotograph(0, size=48, label="wart")


def test_every_size_shows_the_same_picture() -> None:
    coarse, fine = SkinPhotograph(9, size=48), SkinPhotograph(9, size=96)
    assert coarse.clutter == fine.clutter
    assert coarse.masks["lesion"].mean() == pytest.approx(fine.masks["lesion"].mean(), rel=0.2)


@pytest.mark.parametrize("wrong", [{"size": 8}, {"noise": -1.0}, {"lesions": -1}])
def test_impossible_photographs_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match="cannot be drawn"):
        SkinPhotograph(0, **wrong)
