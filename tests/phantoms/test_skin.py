from collections.abc import Callable
from itertools import chain

import numpy as np
import pytest
from scipy import ndimage

from ganatomy.errors import UserError
from ganatomy.phantoms.skin import SkinLesion


@pytest.fixture(scope="module")
def patients() -> dict[str, list[SkinLesion]]:
    drawn = [SkinLesion(seed, slices=16, noise=0) for seed in range(12)]
    return {label: [p for p in drawn if p.label == label] for label in SkinLesion.LABELS}


def colours(phantom: SkinLesion) -> np.ndarray:
    """Return red, green and blue of the pixels within the lesions."""
    return phantom.image.array[:, phantom.masks["lesion"]]


def asymmetry(phantom: SkinLesion) -> float:
    """Return the share of a lesion that its rotation by half a turn about the centre of mass does not cover."""
    shares = []
    for mask in phantom.masks["lesion"]:
        rows, columns = np.nonzero(mask)
        turned = np.rint([2 * rows.mean() - rows, 2 * columns.mean() - columns]).astype(int).clip(0, 63)
        shares.append(1 - mask[tuple(turned)].mean())
    return float(np.mean(shares))


def test_pictures_are_rgb_from_0_to_255(patients: dict[str, list[SkinLesion]]) -> None:
    for phantom in chain(*patients.values()):
        picture = phantom.image.array
        assert picture.shape == (3, 16, 64, 64) and picture.dtype == np.float32
        assert phantom.image.unit is None
        assert picture.min() >= 0 and picture.max() <= 255


def test_lesions_are_darker_than_skin_which_is_pink_to_brown(patients: dict[str, list[SkinLesion]]) -> None:
    for phantom in chain(*patients.values()):
        lesion = phantom.masks["lesion"]
        middle = np.zeros_like(lesion)
        middle[:, 8:-8, 8:-8] = True
        skin = phantom.image.array[:, middle & ~lesion]
        red, green, blue = skin.mean(1)
        assert red > green > blue
        assert (colours(phantom).mean(1) < 0.85 * skin.mean(1)).all()


def test_channels_correlate_as_absorption_makes_them(patients: dict[str, list[SkinLesion]]) -> None:
    for phantom in patients["naevus"]:
        density = -np.log(np.maximum(colours(phantom), 1))
        slope = np.polyfit(density[0], density[2], 1)[0]
        assert np.corrcoef(density)[0, 2] > 0.9
        assert slope == pytest.approx(2.7, rel=0.35)


def test_melanomas_are_larger_asymmetric_and_of_many_colours(patients: dict[str, list[SkinLesion]]) -> None:
    def median(measure: Callable[[SkinLesion], float], label: str) -> float:
        return float(np.median([measure(phantom) for phantom in patients[label]]))

    for measure, factor in (
        (lambda p: p.masks["lesion"].mean(), 1.5),
        (asymmetry, 2),
        (lambda p: colours(p)[0].std(), 1.5),
        (lambda p: (colours(p)[0] - colours(p)[2]).std(), 1.5),
    ):
        assert median(measure, "melanoma") > factor * median(measure, "naevus")


def test_melanomas_have_black_and_a_blue_grey_veil(patients: dict[str, list[SkinLesion]]) -> None:
    for phantom in patients["melanoma"]:
        veil = phantom.masks["veil"]
        assert not (veil & ~phantom.masks["lesion"]).any()
        red, _, blue = (channel[veil].mean() for channel in phantom.image.array)
        brown_red, _, brown_blue = (channel[phantom.masks["lesion"] & ~veil].mean() for channel in phantom.image.array)
        assert blue / red > 1.5 * brown_blue / brown_red
        assert np.percentile(colours(phantom).max(0), 2) < 45
    assert not any(phantom.masks["veil"].any() for phantom in patients["naevus"])


def test_some_pictures_have_dark_corners(patients: dict[str, list[SkinLesion]]) -> None:
    dark = [p.image.array[:, :, 0, 0].mean() < 40 for p in chain(*patients.values())]
    assert 0 < sum(dark) < len(dark)


def test_some_patients_are_hairy(patients: dict[str, list[SkinLesion]]) -> None:
    shares = []
    for phantom in patients["naevus"]:
        red = phantom.image.array[0][:, 12:-12, 12:-12]
        skin = ndimage.binary_dilation(phantom.masks["lesion"], np.ones((1, 9, 9)))[:, 12:-12, 12:-12] == 0
        shares.append((red[skin] < 0.75 * np.median(red[skin])).mean())
    assert min(shares) == 0 and max(shares) > 0.01


def test_skin_tone_belongs_to_the_patient() -> None:
    tones = [SkinLesion(seed, size=8).tone for seed in range(40)]
    assert 0.06 <= min(tones) < 0.1 and 0.2 < max(tones) <= 0.35
    fair, dark = (SkinLesion(int(pick(tones)), size=32, noise=0) for pick in (np.argmin, np.argmax))
    brightness = [p.image.array[0][~p.masks["lesion"]].mean() for p in (fair, dark)]
    assert brightness[0] > brightness[1]
    assert SkinLesion(3).tone == SkinLesion(3, label="naevus", slices=2).tone


def test_labels_alternate_and_can_be_forced() -> None:
    assert [SkinLesion(seed, size=8).label for seed in range(4)] == ["naevus", "melanoma"] * 2
    assert SkinLesion(0, size=8, label="melanoma").label == "melanoma"
    with pytest.raises(UserError, match="no label"):
        SkinLesion(0, label="wart")


def test_seeds_and_slices_differ_and_repeat() -> None:
    first, again, other = (SkinLesion(seed, slices=3) for seed in (1, 1, 3))
    np.testing.assert_array_equal(first.image.array, again.image.array)
    assert (first.image.array != other.image.array).any()
    assert len(np.unique(first.masks["lesion"].reshape(3, -1), axis=0)) == 3


@pytest.mark.parametrize("size", [48, 128, 256])
def test_other_sizes_show_the_same_millimetres(size: int) -> None:
    phantom = SkinLesion(1, size=size, slices=2)
    assert phantom.image.array.shape == (3, 2, size, size)
    assert phantom.image.spacing == pytest.approx((1, 15 / size, 15 / size))
    assert 0.05 < phantom.masks["lesion"].mean() < 0.6


@pytest.mark.parametrize("wrong", [{"size": 4}, {"slices": 0}, {"noise": -1.0}])
def test_impossible_requests_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match="cannot be drawn"):
        SkinLesion(0, **wrong)
