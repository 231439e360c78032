import numpy as np
import pytest
from scipy.ndimage import binary_dilation

from ganatomy.errors import UserError
from ganatomy.phantoms.brain import CONTRASTS, TISSUES, BrainMR, intensities, signal
from ganatomy.phantoms.shapes import Grid, PlaneWaves


@pytest.fixture(scope="module")
def patients() -> list[BrainMR]:
    return [BrainMR(seed, size=64) for seed in range(12)]


@pytest.fixture(scope="module")
def clean() -> BrainMR:
    return BrainMR(4, size=128, noise=0, bias=0)


def test_waves_are_standardised_smooth_and_independent_of_the_grid() -> None:
    waves = PlaneWaves.draw(np.random.default_rng(0), 20.0)
    fine, coarse = (Grid.centred((4, n, n), (30.0, 1000 / n, 1000 / n)) for n in (501, 167))
    values = waves(fine.x, fine.y, fine.z)
    assert values.mean() == pytest.approx(0, abs=0.05)
    assert values.std() == pytest.approx(1, abs=0.05)
    np.testing.assert_allclose(waves(coarse.x, coarse.y, coarse.z), values[:, 1::3, 1::3], atol=2e-3)
    assert np.abs(np.diff(values)).max() / (1000 / 501) < np.sqrt(2 * 16) * 2 * np.pi / (0.8 * 20)


def test_the_same_arguments_give_the_same_patient(patients: list[BrainMR]) -> None:
    again = BrainMR(3, size=64)
    for name in CONTRASTS:
        np.testing.assert_array_equal(again.images[name].array, patients[3].images[name].array)
        np.testing.assert_array_equal(again.healthy[name].array, patients[3].healthy[name].array)
    for name, mask in again.masks.items():
        np.testing.assert_array_equal(mask, patients[3].masks[name])


def test_patients_differ_in_more_than_noise(patients: list[BrainMR]) -> None:
    ventricles = [int(patient.regions["ventricles"].sum()) for patient in patients]
    assert len(set(ventricles)) == len(patients)
    assert max(ventricles) > 2 * min(ventricles)
    folds = np.mean([patient.masks["csf"] for patient in patients], 0)
    assert (folds[6] > 0).sum() > 2 * patients[0].masks["csf"][6].sum()


def test_a_patient_keeps_the_anatomy_at_other_sizes_labels_and_noise() -> None:
    patient = BrainMR(1, size=128, slices=3)
    assert BrainMR(1, size=64, slices=3).anatomy.half == patient.anatomy.half
    well = BrainMR(1, size=128, slices=3, label="healthy")
    np.testing.assert_array_equal(well.image.array, patient.healthy["flair"].array)
    noisy = BrainMR(1, size=128, slices=3, noise=0.1)
    np.testing.assert_array_equal(noisy.masks["lesion"], patient.masks["lesion"])
    coarse = BrainMR(1, size=64, slices=3, noise=0).image.array
    fine = BrainMR(1, size=128, slices=3, noise=0).image.array.reshape(1, 3, 64, 2, 64, 2).mean((3, 5))
    assert np.corrcoef(coarse.ravel(), fine.ravel())[0, 1] > 0.97


def test_classes_and_diseases_are_balanced(patients: list[BrainMR]) -> None:
    assert [patient.label for patient in patients] == ["healthy", "sick"] * 6
    assert [patient.disease for patient in patients[1::2]] == ["ms", "tumour"] * 3
    assert all(patient.disease is None for patient in patients[::2])
    assert BrainMR(0, size=64, slices=1, label="sick", disease="tumour").masks["tumour"].any()


def test_tissues_share_the_brain_and_lesions_are_in_it(patients: list[BrainMR]) -> None:
    for patient in patients:
        masks = patient.masks
        parts = masks["grey"].astype(int) + masks["white"] + masks["csf"]
        np.testing.assert_array_equal(parts, masks["brain"])
        assert not (masks["lesion"] & ~masks["brain"]).any()
        assert not (masks["tumour"] & ~masks["lesion"]).any()
        assert masks["lesion"].any() == (patient.label == "sick")
        assert masks["tumour"].any() == (patient.disease == "tumour")
        assert not patient.image.array[0][~masks["brain"]].any()


def test_some_slices_of_the_sick_are_free_of_lesions(patients: list[BrainMR]) -> None:
    for patient in patients[1::2]:
        ill = patient.masks["lesion"].any((1, 2))
        assert 0 < ill.sum() < len(ill)


def test_the_brain_has_the_size_of_a_brain(clean: BrainMR) -> None:
    inside = clean.masks["brain"].any(0)
    height, width = (np.ptp(np.flatnonzero(inside.any(axis))) * clean.image.spacing[1] for axis in (1, 0))
    assert 145 < height < 180
    assert 115 < width < 150
    grey, white = (clean.masks[name].sum() for name in ("grey", "white"))
    assert 0.3 < grey / white < 1.2


def test_signals_null_csf_on_flair_and_reproduce_a_worked_example() -> None:
    assert signal(TISSUES["csf"], "flair") == pytest.approx(0, abs=1e-12)
    expected = 0.77 * (1 - np.exp(-4000 / 500)) * np.exp(-100 / 70)
    assert signal(TISSUES["white"], "t2") == pytest.approx(expected)
    for contrast in CONTRASTS:
        brain = {name: value for name, value in intensities(contrast).items() if name not in ("fat", "muscle")}
        assert max(brain.values()) == pytest.approx(1000)


def test_contrasts_order_the_tissues_as_in_life(clean: BrainMR) -> None:
    means = {
        contrast: {name: clean.images[contrast].array[0][region].mean() for name, region in clean.regions.items()}
        | {"grey": clean.images[contrast].array[0][clean.masks["grey"]].mean()}
        for contrast in CONTRASTS
    }
    assert means["t1"]["ventricles"] < means["t1"]["grey"] < means["t1"]["white"]
    assert means["t2"]["white"] < means["t2"]["grey"] < means["t2"]["ventricles"]
    assert means["flair"]["ventricles"] < 50 < means["flair"]["white"] < means["flair"]["grey"]
    for contrast in CONTRASTS:
        assert means[contrast]["white"] == pytest.approx(intensities(contrast)["white"], rel=0.06)


def test_lesions_are_bright_on_flair_and_t2_and_dark_on_t1(patients: list[BrainMR]) -> None:
    for patient in patients[1::2]:
        lesion, white = patient.masks["lesion"], patient.regions["white"]
        ratio = {
            c: patient.images[c].array[0][lesion].mean() / patient.images[c].array[0][white].mean() for c in CONTRASTS
        }
        assert ratio["flair"] > 1.2
        assert ratio["t2"] > 1.2
        assert ratio["t1"] < 0.9


def test_nothing_but_the_lesion_differs_from_the_healthy_patient(patients: list[BrainMR]) -> None:
    for patient in patients:
        altered, lesion = patient.masks["altered"], patient.masks["lesion"]
        assert not (lesion & ~altered).any()
        near = binary_dilation(lesion, np.ones((3, 5, 5)))
        assert (altered & ~near).sum() <= 0.15 * altered.sum()
        for contrast in CONTRASTS:
            now, before = patient.images[contrast].array[0], patient.healthy[contrast].array[0]
            np.testing.assert_array_equal(now[~altered], before[~altered])
            assert (now != before).any() == (patient.label == "sick")


def test_noise_is_rician_and_as_strong_as_asked() -> None:
    quiet, loud = (BrainMR(0, size=128, slices=4, bias=0, noise=noise) for noise in (0, 0.05))
    white = quiet.regions["white"]
    sigma = 0.05 * intensities("t1")["white"]
    difference = loud.images["t1"].array[0] - quiet.images["t1"].array[0]
    assert difference[white].std() == pytest.approx(sigma, rel=0.05)
    dark = loud.images["flair"].array[0][loud.regions["ventricles"]]
    assert dark.mean() > 0.05 * intensities("flair")["white"]


def test_bias_is_slow_and_scales_with_its_option() -> None:
    flat, curved = (BrainMR(0, size=64, slices=3, noise=0, bias=bias).images["t1"].array for bias in (0, 0.1))
    factor = np.log(curved[flat > 0] / flat[flat > 0])
    assert 0.02 < np.ptp(factor) < 0.6


def test_a_portrait_shape_has_square_millimetres() -> None:
    patient = BrainMR(0, shape=(220, 172), slices=2)
    assert patient.image.shape == (2, 220, 172)
    np.testing.assert_allclose(patient.image.spacing, (3, 1, 1))
    half = BrainMR(0, shape=(110, 86), slices=2)
    np.testing.assert_allclose(half.image.spacing, (3, 2, 2))
    assert half.masks["brain"].sum() * 4 == pytest.approx(patient.masks["brain"].sum(), rel=0.02)


def test_the_skull_surrounds_the_brain_and_fits() -> None:
    for seed in range(4):
        bare, whole = (BrainMR(seed, size=64, slices=3, contrast="t1", noise=0, skull=skull) for skull in (False, True))
        inside = bare.image.array > 0
        scalp = (whole.image.array > 800) & ~inside
        assert scalp.sum() > 100
        border = np.ones(inside.shape, bool)
        border[..., 1:-1, 1:-1] = False
        assert whole.image.array[border].max() < 100


def test_the_image_is_the_contrast_asked_for(clean: BrainMR) -> None:
    assert clean.image is clean.images["flair"]
    assert clean.image.unit == "a.u."
    assert clean.image.header.modality == "MR"
    assert clean.image.array.dtype == np.float32
    t2 = BrainMR(4, size=64, slices=1, contrast="t2")
    assert t2.image is t2.images["t2"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"slices": 0}, "cannot be drawn"),
        ({"shape": (0, 9)}, "cannot be drawn"),
        ({"distance_mm": 0}, "cannot be drawn"),
        ({"contrast": "pd"}, "no contrast 'pd'"),
        ({"disease": "flu"}, "no disease 'flu'"),
        ({"label": "dead"}, "no label 'dead'"),
    ],
)
def test_impossible_requests_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        BrainMR(0, **options)  # type: ignore[arg-type]
