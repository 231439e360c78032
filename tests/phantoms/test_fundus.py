import numpy as np
import pytest
from scipy import ndimage

from ganatomy.errors import UserError
from ganatomy.phantoms import label, make
from ganatomy.phantoms.fundus import GRADES, RETINOPATHY, WIDTH, DiabeticFundus, Fundus


@pytest.fixture(scope="module")
def person() -> Fundus:
    return Fundus(3, slices=4, noise=0)


def middle(mask: np.ndarray) -> np.ndarray:
    """Return the centre (row, column) of a mask in mm from the middle of the image."""
    return (np.mean(np.nonzero(mask), 1) - (mask.shape[0] - 1) / 2) * WIDTH / mask.shape[0]


def test_pictures_are_rgb_from_0_to_255_and_black_beside_the_field(person: Fundus) -> None:
    picture = person.image.array
    assert picture.shape == (3, 4, 128, 128) and picture.dtype == np.float32
    assert picture.min() >= 0 and 180 < picture.max() <= 255
    field = person.masks["field"]
    assert picture[:, ~field].mean() < 2
    red, green, blue = picture[:, field].mean(1)
    assert red > 1.5 * green > 2 * blue
    assert field.mean() == pytest.approx(np.pi * 6.5**2 / 13.5**2, rel=0.01)


def test_vessels_are_dark_in_green_and_hardly_in_red(person: Fundus) -> None:
    vessels = person.masks["vessels"]
    around = person.masks["field"] & ~vessels & ~person.masks["disc"]
    red, green, _ = person.image.array[:, vessels & ~person.masks["disc"]].mean(1) / person.image.array[:, around].mean(
        1
    )
    assert green < 0.72 < 0.8 < red
    assert 0.03 < vessels[person.masks["field"]].mean() < 0.16


def test_the_disc_is_bright_and_the_fovea_dark_and_free_of_vessels(person: Fundus) -> None:
    green = person.image.array[1]
    for disc, fovea, vessels, field, plane in zip(
        *(person.masks[name] for name in ("disc", "fovea", "vessels", "field")), green, strict=True
    ):
        assert plane[disc].mean() > 1.4 * plane[field].mean()
        ring = ndimage.binary_dilation(fovea, iterations=8) & ~fovea & ~vessels
        assert plane[fovea & ~vessels].mean() < 0.9 * plane[ring].mean()
        assert vessels[fovea].mean() < 0.1
        assert np.linalg.norm(middle(disc) - middle(fovea)) == pytest.approx(4.7, abs=0.4)


def test_right_and_left_eyes_take_turns(person: Fundus) -> None:
    sides = [
        middle(disc)[1] - middle(fovea)[1]
        for disc, fovea in zip(person.masks["disc"], person.masks["fovea"], strict=True)
    ]
    assert [side > 0 for side in sides] == [True, False, True, False]


def test_most_vessels_hang_together_and_widen_towards_the_disc() -> None:
    eye = Fundus(0, size=256, noise=0)
    vessels = eye.masks["vessels"][0]
    labels, _ = ndimage.label(vessels, np.ones((3, 3)))
    assert np.bincount(labels.ravel())[1:].max() > 0.6 * vessels.sum()
    thickness = ndimage.distance_transform_edt(vessels)
    row, column = np.mean(np.nonzero(eye.masks["disc"][0]), 1)
    away = np.hypot(*(np.indices(vessels.shape) - np.array([row, column])[:, None, None])) * WIDTH / 256
    near, far = (thickness[vessels & (away > a) & (away < b)].max() for a, b in ((1, 3), (7, 12)))
    assert near > 1.5 * far


def test_seeds_and_slices_differ_and_repeat() -> None:
    first, again, other = (Fundus(seed, size=48, slices=2) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.image.array, again.image.array)
    assert (first.image.array != other.image.array).any()
    assert (first.masks["vessels"][0] != first.masks["vessels"][1]).any()
    np.testing.assert_array_equal(Fundus(1, size=48).masks["vessels"][0], first.masks["vessels"][0])


@pytest.mark.parametrize("size", [32, 96, 200])
def test_other_sizes_show_the_same_eye(size: int) -> None:
    phantom = make("fundus", 4, size=size)
    assert phantom.image.array.shape == (3, 1, size, size)
    assert phantom.image.spacing == pytest.approx((1, WIDTH / size, WIDTH / size))
    assert middle(phantom.masks["disc"][0]) == pytest.approx(middle(Fundus(4, size=128).masks["disc"][0]), abs=0.2)


@pytest.mark.parametrize("wrong", [{"size": 8}, {"slices": 0}, {"noise": -1.0}])
def test_impossible_requests_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UserError, match="cannot be drawn"):
        Fundus(0, **wrong)


def test_the_cup_lies_in_its_disc_and_is_brighter_than_the_rim(person: Fundus) -> None:
    disc, cup, vessels = (person.masks[name] for name in ("disc", "cup", "vessels"))
    labels = person.labels["disc_cup"]
    assert labels.dtype == np.uint8 and set(np.unique(labels)) == {0, 1, 2}
    np.testing.assert_array_equal(labels > 0, disc)
    np.testing.assert_array_equal(labels == 2, cup)
    close = Fundus(3, size=128, noise=0, around_disc=4.5)
    rim = close.masks["disc"] & ~close.masks["cup"] & ~close.masks["vessels"]
    green = close.image.array[1]
    assert green[close.masks["cup"] & ~close.masks["vessels"]].mean() > 1.04 * green[rim].mean()
    assert not (cup & ~disc).any() and vessels[disc].any()


def test_a_view_around_the_disc_shows_the_same_eye_closer() -> None:
    whole, close = Fundus(5, size=270, slices=2), Fundus(5, size=90, slices=2, around_disc=4.5)
    assert close.eyes == whole.eyes and close.image.spacing == pytest.approx((1, 0.05, 0.05))
    for at in range(2):
        assert np.abs(middle(close.masks["disc"][at]) * 4.5 / WIDTH).max() <= 0.45
        assert close.masks["disc"][at].sum() == pytest.approx(whole.masks["disc"][at].sum(), rel=0.03)
    assert np.ptp([middle(mask)[1] for mask in close.masks["disc"]]) > 0.01


def test_ratios_of_cup_and_disc_are_drawn_from_a_range() -> None:
    eyes = [Fundus(seed, size=64, around_disc=3.0, cup=(0.25, 0.8)) for seed in range(8)]
    ratios = [float(np.sqrt(eye.masks["cup"].sum() / eye.masks["disc"].sum())) for eye in eyes]
    assert ratios == pytest.approx([eye.eyes[0].cup for eye in eyes], abs=0.03)
    assert min(ratios) < 0.4 and max(ratios) > 0.6
    assert all(0.25 <= eye.cup <= 0.5 for eye in Fundus(0, size=16, slices=6).eyes)


@pytest.mark.parametrize("wrong", [{"cup": (0.3, 0.95)}, {"cup": (0.5, 0.4)}, {"around_disc": 0.0}])
def test_impossible_cups_and_views_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UserError, match="cannot be drawn"):
        Fundus(0, **wrong)  # type: ignore[arg-type]


def test_a_healthy_eye_has_no_lesions():
    healthy = Fundus(3, size=64, slices=2)
    assert set(RETINOPATHY) <= set(healthy.masks) and not healthy.labels["lesions"].any()
    assert not any(healthy.masks[name].any() for name in RETINOPATHY)


def test_lesions_change_only_where_they_are_and_have_their_colours():
    seen = {name: [] for name in RETINOPATHY}
    for seed in range(6):
        healthy, sick = (Fundus(seed, size=192, noise=0, severity=severity) for severity in (0, 1))
        before, after = healthy.image.numpy(), sick.image.numpy()
        for name in ("vessels", "disc", "cup", "fovea", "field"):
            np.testing.assert_array_equal(healthy.masks[name], sick.masks[name])
        lesions = sick.labels["lesions"] > 0
        apart = np.abs(after - before).max(0)
        assert apart[lesions].mean() > 8 > 20 * apart[~ndimage.binary_dilation(lesions, iterations=6)].mean()
        assert not (lesions & ~sick.masks["field"]).any()
        for value, name in enumerate(RETINOPATHY, 1):
            inside = (sick.labels["lesions"] == value) & ~sick.masks["vessels"]
            seen[name].extend((after - before)[:, inside].T)
    change = {name: np.mean(pixels, 0) for name, pixels in seen.items()}
    assert (change["haemorrhages"] < 0).all() and (change["exudates"][:2] > 0).all()
    red, green, blue = change["spots"]
    assert min(red, green, blue) > 0
    # Exudates are yellow, cotton-wool spots nearly white.
    assert change["exudates"][1] / change["exudates"][2] > green / blue


def test_severe_retinopathy_has_more_lesions_and_a_close_view_shows_the_same_ones():
    mild, severe = (
        np.mean([(Fundus(seed, size=128, severity=severity).labels["lesions"] > 0).mean() for seed in range(5)])
        for severity in (0.3, 1.2)
    )
    assert severe > 2 * mild > 0
    close = Fundus(4, size=64, around_disc=4.5, severity=1.0)
    assert close.labels["lesions"].shape == (1, 64, 64)
    with pytest.raises(UserError, match="retinopathy of severity -1 cannot be drawn"):
        Fundus(0, severity=-1)


def test_grades_alternate_and_lesions_grow_with_them() -> None:
    assert [label("diabetic-fundus", seed) for seed in range(5)] == [*GRADES, "none"]
    people = [DiabeticFundus(seed, size=96) for seed in range(12)]
    assert [person.label for person in people[:4]] == list(GRADES)
    area = {grade: np.mean([(p.labels["lesions"] > 0).mean() for p in people if p.label == grade]) for grade in GRADES}
    assert area["none"] == 0 < area["mild"] < area["severe"] and area["moderate"] < area["severe"]
    assert DiabeticFundus(0, size=96, label="severe").labels["lesions"].any()
    with pytest.raises(UserError, match="no label 'worst'"):
        DiabeticFundus(0, label="worst")
