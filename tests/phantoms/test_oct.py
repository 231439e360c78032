import numpy as np
import pytest

from ganatomy.errors import UserError
from ganatomy.phantoms.oct import ANCHOR, LAYERS, RetinalOCT


@pytest.fixture(scope="module")
def eyes() -> list[RetinalOCT]:
    return [RetinalOCT(seed, size=64) for seed in range(12)]


@pytest.fixture(scope="module")
def clean() -> RetinalOCT:
    return RetinalOCT(2, size=256, slices=12, looks=1e6)


def test_the_same_arguments_give_the_same_eye_and_another_seed_another(eyes: list[RetinalOCT]) -> None:
    again = RetinalOCT(5, size=64)
    np.testing.assert_array_equal(again.image.array, eyes[5].image.array)
    np.testing.assert_array_equal(again.healthy["oct"].array, eyes[5].healthy["oct"].array)
    thick = {int(eye.masks["retina"].sum()) for eye in eyes[::2]}
    assert len(thick) == 6


def test_classes_and_diseases_are_balanced(eyes: list[RetinalOCT]) -> None:
    assert [eye.label for eye in eyes] == ["healthy", "sick"] * 6
    assert [eye.disease for eye in eyes[1::2]] == ["subretinal", "cystic", "both"] * 2
    assert RetinalOCT(0, size=64, label="sick").masks["fluid"].any()


def test_the_image_is_a_stack_of_scans_in_millimetres(eyes: list[RetinalOCT]) -> None:
    image = eyes[0].image
    assert image.array.shape == (1, 12, 64, 64)
    assert image.array.dtype == np.float32
    assert image.unit == "a.u."
    np.testing.assert_allclose(image.spacing, (0.12, 0.9 / 64, 6 / 64))
    assert image.array.min() >= 0
    assert 200 < image.array.max() <= 255


def test_lesions_lie_in_the_retina_of_the_sick_in_some_scans(eyes: list[RetinalOCT]) -> None:
    for eye in eyes:
        masks = eye.masks
        np.testing.assert_array_equal(masks["lesion"], masks["fluid"] | masks["foci"])
        assert not (masks["lesion"] & ~masks["retina"]).any()
        assert masks["fluid"].any() == masks["foci"].any() == (eye.label == "sick")
        if eye.label == "sick":
            assert 0 < masks["lesion"].any((1, 2)).sum() < 12


def test_fluid_is_dark_and_foci_are_bright(eyes: list[RetinalOCT]) -> None:
    for eye in eyes[1::2]:
        values = eye.image.array[0]
        retina = values[eye.masks["retina"] & ~eye.masks["lesion"]].mean()
        assert values[eye.masks["fluid"]].mean() < 0.5 * retina
        assert values[eye.masks["foci"] & ~eye.masks["fluid"]].mean() > 1.2 * retina


def test_nothing_but_what_is_altered_differs_from_the_healthy_eye(eyes: list[RetinalOCT]) -> None:
    for eye in eyes:
        now, before, altered = eye.image.array[0], eye.healthy["oct"].array[0], eye.masks["altered"]
        np.testing.assert_array_equal(now[~altered], before[~altered])
        assert not (eye.masks["lesion"] & ~altered).any()
        assert altered.mean() < 0.25
        unlabelled = ~eye.masks["retina"] & altered
        assert unlabelled.sum() <= 0.1 * altered.sum()


def test_subretinal_fluid_lifts_the_layers_before_it() -> None:
    sick, well = (RetinalOCT(1, size=128, label=label) for label in ("sick", "healthy"))
    assert sick.disease == "subretinal"
    columns = sick.masks["fluid"].any(1)
    front, usual = (eye.masks["retina"].argmax(1) for eye in (sick, well))
    assert (front[columns] < usual[columns]).mean() > 0.9
    np.testing.assert_array_equal(front[~sick.masks["altered"].any(1)], usual[~sick.masks["altered"].any(1)])


def test_layers_follow_each_other_with_their_brightness(clean: RetinalOCT) -> None:
    values = clean.image.array[0]
    assert np.median(values[clean.regions["vitreous"]]) == pytest.approx(LAYERS["vitreous"], rel=0.01)
    lit = values[clean.regions["outer nuclei"]]
    assert np.percentile(lit, 80) == pytest.approx(LAYERS["outer nuclei"], rel=0.05)
    a_scan = np.median(values, (0, 2))
    epithelium = round(ANCHOR * 256) + 3
    names = {"outer segments": 7, "ellipsoids": 12, "inner segments": 18, "outer nuclei": 30}
    found = {name: a_scan[epithelium - rows] for name, rows in names.items()} | {"epithelium": a_scan[epithelium]}
    assert found["ellipsoids"] > 1.4 * found["outer segments"]
    assert found["ellipsoids"] > 1.6 * found["inner segments"] > 1.6 * found["outer nuclei"]
    assert found["epithelium"] == pytest.approx(LAYERS["pigment epithelium"], rel=0.05)
    assert a_scan[epithelium + 10 :].max() < 0.7 * found["epithelium"]


def test_the_fovea_is_a_pit(clean: RetinalOCT) -> None:
    thickness = clean.masks["retina"].sum(1) * 900 / 256
    z, x = np.unravel_index(thickness.argmin(), thickness.shape)
    across, along = clean.anatomy.fovea
    assert (x + 0.5) / 256 * 6 - 3 == pytest.approx(across, abs=0.3)
    assert (z - 5.5) * 0.12 == pytest.approx(along, abs=0.3)
    assert 130 < thickness.min() < 260
    assert 270 < thickness.max() < 450


def test_flattening_puts_the_epithelium_on_one_row() -> None:
    flat, held = (RetinalOCT(6, size=128, looks=1e6, flatten=flatten) for flatten in (True, False))
    back = [eye.masks["retina"].shape[1] - eye.masks["retina"][:, ::-1].argmax(1) for eye in (flat, held)]
    assert np.ptp(back[0]) <= 2
    assert np.ptp(back[1]) > 4
    assert back[0].mean() / 128 == pytest.approx(ANCHOR + 24 / 900, abs=0.02)


def test_vessels_throw_shadows(clean: RetinalOCT) -> None:
    values, below = clean.image.array[0], int(0.7 * 256)
    for place, drift, _, darkness in clean.anatomy.vessels:
        x = place - drift * 0.06
        column = int((x + 3) / 6 * 256)
        if 5 < column < 250:
            shade = values[5, below : below + 12, column].max()
            assert shade < (1 - 0.5 * darkness) * np.percentile(values[5, below : below + 12].max(0), 90)


@pytest.mark.parametrize("looks", [4.0, 20.0])
def test_speckle_is_multiplicative_and_correlated(looks: float) -> None:
    eye = RetinalOCT(0, size=128, looks=looks)
    dark = eye.image.array[0][:, :30]
    assert dark.std() / dark.mean() == pytest.approx(looks**-0.5, rel=0.08)
    apart = [np.corrcoef(dark[..., :-d].ravel(), dark[..., d:].ravel())[0, 1] for d in (1, 4)]
    assert 0.3 < apart[0] < 0.8
    assert abs(apart[1]) < 0.05


def test_impossible_requests_are_refused() -> None:
    with pytest.raises(UserError, match="cannot be drawn"):
        RetinalOCT(0, slices=0)
    with pytest.raises(UserError, match="cannot be drawn"):
        RetinalOCT(0, looks=0)
    with pytest.raises(UserError, match="no disease 'ms'"):
        RetinalOCT(0, disease="ms")
