from itertools import pairwise

import numpy as np
import pytest

from ganatomy.errors import UserError
from ganatomy.phantoms import make
from ganatomy.phantoms.shapes import Grid
from ganatomy.phantoms.torso import CONTRASTS, TISSUES, AbdomenMR, Canvas, ChestMR, SplenomegalyMR, TorsoMR

KINDS = {"abdomen-mr": AbdomenMR, "chest-mr": ChestMR}
SEEDS = range(6)


@pytest.fixture(scope="module")
def patients() -> dict[str, list[TorsoMR]]:
    return {name: [kind(seed, size=64) for seed in SEEDS] for name, kind in KINDS.items()}


@pytest.fixture(scope="module")
def abdomen() -> AbdomenMR:
    return AbdomenMR(1, noise=0, bias=0)


@pytest.fixture(scope="module")
def chest() -> ChestMR:
    return ChestMR(1, noise=0, bias=0)


def middle(mask: np.ndarray, axis: int) -> float:
    """Return the mean position of a mask's voxels along an axis, as a share of its extent."""
    return float(np.nonzero(mask)[axis].mean() / mask.shape[axis])


def test_paint_leaves_shares_that_sum_to_one() -> None:
    canvas = Canvas(Grid.centred((2, 8, 8), (3.0, 1.0, 1.0)))
    rng = np.random.default_rng(0)
    for tissue in ("fat", "liver", "fat", "bone"):
        canvas.paint(rng.random(canvas.grid.shape, np.float32), tissue)
    canvas.paint(np.full((2, 3, 3), 0.25, np.float32), "blood", (slice(None), slice(0, 3), slice(0, 3)))
    np.testing.assert_allclose(canvas.shares.sum(0), 1, atol=1e-5)
    assert canvas["blood"][0, 1, 1] == 0.25
    assert canvas["blood"][0, 5, 5] == 0


def test_an_organ_makes_way_for_those_placed_before() -> None:
    canvas = Canvas(Grid.centred((1, 1, 41), (1.0, 1.0, 1.0)))
    first = canvas.place(np.abs(canvas.grid.x + 5) - 8)
    second = canvas.place(np.abs(canvas.grid.x - 5) - 8, gap=2.0)
    assert not ((first < 2) & (second < 0)).any()
    assert (second < 0).sum() == 7


@pytest.mark.parametrize("name", KINDS)
def test_the_same_arguments_give_the_same_patient(name: str, patients: dict[str, list[TorsoMR]]) -> None:
    again = make(name, 3, size=64)
    for contrast in CONTRASTS:
        np.testing.assert_array_equal(again.images[contrast].array, patients[name][3].images[contrast].array)
    for mask in again.masks:
        np.testing.assert_array_equal(again.masks[mask], patients[name][3].masks[mask])


@pytest.mark.parametrize("name", KINDS)
def test_patients_differ_in_more_than_noise(name: str, patients: dict[str, list[TorsoMR]]) -> None:
    for one, other in pairwise(patients[name]):
        for mask in ("body", "vessels"):
            a, b = one.masks[mask], other.masks[mask]
            assert (a & b).sum() < 0.97 * (a | b).sum()


@pytest.mark.parametrize("name", KINDS)
def test_a_patient_keeps_the_anatomy_at_other_sizes_and_noise(name: str) -> None:
    kind = KINDS[name]
    fine, coarse = (kind(2, size=size, slices=3, noise=0) for size in (256, 64))
    averaged = fine.image.array.reshape(1, 3, 64, 4, 64, 4).mean((3, 5))
    assert np.corrcoef(coarse.image.array.ravel(), averaged.ravel())[0, 1] > 0.99
    noisy = kind(2, size=64, slices=3, noise=0.1)
    for mask in coarse.masks:
        np.testing.assert_array_equal(noisy.masks[mask], coarse.masks[mask])


@pytest.mark.parametrize("name", KINDS)
def test_more_slices_show_more_of_the_same_patient(name: str) -> None:
    few, many = (KINDS[name](2, size=64, slices=slices, noise=0).image.array for slices in (3, 9))
    np.testing.assert_allclose(many[:, 3:6], few, atol=1e-2)


@pytest.mark.parametrize("name", KINDS)
def test_every_patient_has_every_organ_inside_a_body_inside_the_image(
    name: str, patients: dict[str, list[TorsoMR]]
) -> None:
    for patient in patients[name]:
        body = patient.masks["body"]
        border = np.ones(body.shape, bool)
        border[:, 1:-1, 1:-1] = False
        assert not (body & border).any()
        assert 0.2 < body.mean() < 0.7
        for mask in patient.masks.values():
            assert mask.any()
            assert not (mask & ~body).any()
        assert patient.image.array[0][~body].mean() < 50


@pytest.mark.parametrize("name", KINDS)
def test_structures_continue_through_the_slices(name: str, patients: dict[str, list[TorsoMR]]) -> None:
    for patient in patients[name]:
        for mask in (patient.masks["body"], patient.masks["liver" if name == "abdomen-mr" else "heart"]):
            for one, next_ in pairwise(mask):
                assert (one & next_).sum() > 0.8 * max(one.sum(), next_.sum())


@pytest.mark.parametrize("seed", [12, 19])
def test_bowel_that_folds_back_onto_itself_leaves_no_gaps(seed: int) -> None:
    assert np.isfinite(AbdomenMR(seed, size=64, slices=3).image.array).all()


def test_organs_of_the_abdomen_lie_where_they_belong(patients: dict[str, list[TorsoMR]]) -> None:
    for patient in patients["abdomen-mr"]:
        masks = patient.masks
        assert middle(masks["liver"], 2) < 0.45
        assert middle(masks["spleen"], 2) > 0.6
        assert middle(masks["kidneys"], 1) > middle(masks["body"], 1)
        for a, b in (("liver", "spleen"), ("liver", "kidneys"), ("spleen", "kidneys")):
            assert not (masks[a] & masks[b]).any()


def test_organs_of_the_chest_lie_where_they_belong(patients: dict[str, list[TorsoMR]]) -> None:
    for patient in patients["chest-mr"]:
        masks = patient.masks
        assert middle(masks["heart"], 2) > 0.5
        assert middle(masks["heart"], 1) < middle(masks["lungs"], 1)
        assert not (masks["heart"] & (masks["lungs"] | masks["vessels"])).any()
        halves = [half.sum() for half in np.split(masks["lungs"], 2, 2)]
        assert min(halves) > 0.4 * max(halves)
        assert (masks["vessels"] & masks["lungs"]).any()


def test_the_liver_is_full_of_thin_vessels(abdomen: AbdomenMR) -> None:
    inside = abdomen.masks["liver"]
    share = (abdomen.masks["vessels"] & inside).sum() / inside.sum()
    assert 0.005 < share < 0.15
    t1 = abdomen.image.array[0]
    assert t1[abdomen.masks["vessels"] & inside].mean() > 1.4 * t1[abdomen.regions["liver"]].mean()


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_regions_have_the_intensity_of_their_tissue(contrast: str, abdomen: AbdomenMR, chest: ChestMR) -> None:
    for patient in (abdomen, chest):
        values = patient.images[contrast].array[0]
        for name, region in patient.regions.items():
            assert region.sum() > 200
            assert values[region].mean() == pytest.approx(getattr(TISSUES[name], contrast), rel=0.02)
            assert values[region].std() < 0.04 * values[region].mean()


def test_lungs_are_nearly_black_and_the_heart_is_bright_inside(chest: ChestMR) -> None:
    t1 = chest.image.array[0]
    assert np.median(t1[chest.masks["lungs"]]) < 60
    low, high = np.percentile(t1[chest.masks["heart"]], (10, 90))
    assert high > 1.8 * low


@pytest.mark.parametrize("name", KINDS)
def test_noise_is_rician_and_as_strong_as_asked(name: str) -> None:
    quiet, loud = (KINDS[name](0, slices=4, bias=0, noise=noise) for noise in (0, 0.05))
    inside = loud.regions["muscle"]
    difference = (loud.image.array - quiet.image.array)[0]
    assert difference[inside].std() == pytest.approx(50, rel=0.05)
    air = quiet.image.array[0] == 0
    assert loud.image.array[0][air].mean() == pytest.approx(50 * np.sqrt(np.pi / 2), rel=0.02)


@pytest.mark.parametrize("name", KINDS)
def test_bias_is_slow_and_scales_with_its_option(name: str) -> None:
    flat, weak, strong = (
        KINDS[name](0, size=64, slices=3, noise=0, bias=bias).image.array[0] for bias in (0, 0.1, 0.2)
    )
    inside = flat > 0
    factor = np.log(weak[inside] / flat[inside])
    np.testing.assert_allclose(np.log(strong[inside] / flat[inside]), 2 * factor, atol=1e-4)
    assert 0.05 < np.ptp(factor) < 0.8
    field = np.where(inside, np.log(np.maximum(weak, 1e-6) / np.maximum(flat, 1e-6)), np.nan)
    assert np.nanmax(np.abs(np.diff(field, axis=2))) < 0.03


@pytest.mark.parametrize("name", KINDS)
def test_the_image_is_an_mr_image_of_the_size_asked_for(name: str) -> None:
    patient = KINDS[name](0, size=50, slices=2, distance_mm=5.0)
    field = patient.FIELD_OF_VIEW
    assert patient.image is patient.images["t1"]
    assert patient.image.shape == (2, 50, 50)
    np.testing.assert_allclose(patient.image.spacing, (5, field / 50, field / 50))
    assert patient.image.unit == "a.u."
    assert patient.image.header.modality == "MR"
    assert patient.image.array.dtype == np.float32
    assert 800 < patient.image.array.max() < 1700
    assert all(mask.shape == (2, 50, 50) for mask in (*patient.masks.values(), *patient.regions.values()))


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    "options", [{"size": 7}, {"slices": 0}, {"distance_mm": 0}, {"distance_mm": 11}, {"noise": -1}, {"bias": -1}]
)
def test_impossible_requests_are_refused(name: str, options: dict[str, float]) -> None:
    with pytest.raises(UserError, match="cannot be drawn"):
        make(name, 0, **options)


def test_enlarged_spleens_take_the_place_of_stomach_and_bowel_and_leave_the_rest_of_the_patient() -> None:
    options = {"size": 48, "slices": 20, "distance_mm": 8.0}
    healthy, enlarged = AbdomenMR(3, **options), SplenomegalyMR(3, **options)
    assert 1.3 < enlarged.growth <= 1.75
    volumes = [patient.masks["spleen"].sum() for patient in (healthy, enlarged)]
    assert 1.5 * volumes[0] < volumes[1] < 6 * volumes[0]
    for organ in ("body", "liver", "kidneys"):
        np.testing.assert_array_equal(healthy.masks[organ], enlarged.masks[organ])
    assert len({SplenomegalyMR(seed, size=16, slices=1).growth for seed in range(3)}) == 3
