import numpy as np
import pytest
from scipy import ndimage

from ganatomy.errors import UserError
from ganatomy.phantoms import part
from ganatomy.phantoms.mr_ct import AIR, BONE, FAT, SOFT, ChestMRCT, HeadMRCT
from ganatomy.physics.ct_numbers import CT_NUMBERS

HEAD = {"size": 64, "slices": 14, "distance_mm": 8.0}
CHEST = {"size": 96, "slices": 3, "distance_mm": 8.0}
KINDS = ((HeadMRCT, HEAD), (ChestMRCT, CHEST))


@pytest.fixture(scope="module")
def head() -> HeadMRCT:
    return HeadMRCT(5, **HEAD)


@pytest.fixture(scope="module")
def chest() -> ChestMRCT:
    return ChestMRCT(5, **CHEST)


def values(phantom, name: str) -> np.ndarray:
    return phantom.images[name].numpy()[0]


def means(phantom, name: str) -> dict[int, float]:
    """Return the mean of an image inside each class, away from its border."""
    found = {}
    for value in (AIR, FAT, SOFT, BONE):
        inside = ndimage.binary_erosion(phantom.labels["tissue"] == value, np.ones((1, 3, 3)))
        if inside.any():
            found[value] = float(values(phantom, name)[inside].mean())
    return found


@pytest.mark.parametrize("name", ["head", "chest"])
def test_classes_have_their_ct_numbers_and_bone_is_as_dark_as_air_in_mr(name, request):
    phantom = request.getfixturevalue(name)
    ct, t1 = means(phantom, "ct"), means(phantom, "t1")
    assert ct[AIR] < -700 and -140 < ct[FAT] < -40 and -20 < ct[SOFT] < 100 and ct[BONE] > 150
    assert t1[FAT] > 1.5 * t1[SOFT] > 2 * t1[AIR]
    cortex = values(phantom, "ct") > 600
    if cortex.sum() > 20:
        assert values(phantom, "t1")[cortex].mean() < 0.6 * t1[SOFT]


def test_a_head_has_brain_in_bone_air_in_the_face_and_orbits(head):
    assert head.images["ct"].unit == "HU" and head.images["t1"].unit == "a.u."
    assert head.images["ct"].dtype == np.int16 and head.image is head.images["t1"]
    litres = {name: mask.sum() * np.prod(head.image.spacing) / 1e6 for name, mask in head.masks.items()}
    assert 0.7 < litres["brain"] < 1.5 and 2 < litres["body"] < 5
    assert 0.2 < litres["bone"] < 1 and 0.005 < litres["cavities"] < 0.12
    # Air lies in the lower half and in front of the middle, but for mastoid cells.
    place = ndimage.center_of_mass(head.masks["cavities"])
    assert place[0] < 7 and place[1] < 32
    # But for voxels of which exactly one half is brain, it is soft tissue.
    assert (head.masks["brain"] & (head.labels["tissue"] != SOFT)).sum() < 1e-3 * head.masks["brain"].sum()
    # Sinuses of the two sides differ.
    cavities = head.masks["cavities"]
    assert (cavities != cavities[:, :, ::-1]).sum() > 0.15 * cavities.sum()


def test_contrasts_of_the_brain_are_those_of_their_sequences(head):
    brain = ndimage.binary_erosion(head.masks["brain"], np.ones((1, 3, 3)))
    t1, t2, flair = (values(head, name)[brain] for name in ("t1", "t2", "flair"))
    fluid = t2 > np.quantile(t2, 0.97)
    assert t1[fluid].mean() < 0.8 * t1.mean() and t2[fluid].mean() > 1.5 * t2.mean()
    assert flair[fluid].mean() < flair.mean()


def test_the_chest_has_bright_blood_and_a_map_of_the_heart(chest):
    heart, bssfp = chest.labels["heart"], values(chest, "bssfp")
    assert set(np.unique(heart)) == {0, 1, 2}
    assert bssfp[heart == 2].mean() > 1.5 * bssfp[heart == 1].mean()
    np.testing.assert_array_equal(heart == 1, chest.masks["myocardium"])
    np.testing.assert_array_equal(chest.labels["ct_heart"] == 1, chest.masks["ct_myocardium"])
    assert (chest.masks["lungs"] & chest.masks["cavities"]).sum() > 0.8 * chest.masks["lungs"].sum()
    plain = values(chest, "ct")
    bright = ChestMRCT(5, **CHEST, enhancement=300)
    enhanced = values(bright, "ct")
    gain = {value: float((enhanced - plain)[heart == value].mean()) for value in (1, 2)}
    assert gain[2] == pytest.approx(300, abs=25) and 40 < gain[1] < 140
    np.testing.assert_array_equal(values(bright, "bssfp"), bssfp)


@pytest.mark.parametrize(("kind", "size"), KINDS)
def test_a_seed_is_a_patient_and_pairs_lie_at_one_place(kind, size):
    first, again, other = (kind(seed, **size) for seed in (3, 3, 4))
    for name in first.images:
        np.testing.assert_array_equal(values(first, name), values(again, name))
        np.testing.assert_array_equal(first.images[name].affine, first.image.affine)
    assert (values(first, "ct") != values(other, "ct")).mean() > 0.3
    np.testing.assert_array_equal(values(first, "ct"), values(first, "ct_aligned"))
    np.testing.assert_array_equal(first.labels["tissue"], first.labels["ct_tissue"])
    assert part(first, "labels:tissue").array.dtype == np.uint8 and part(first, "mask:cavities").unit is None


@pytest.mark.parametrize(("kind", "size"), KINDS)
def test_an_unpaired_ct_is_that_of_another_patient(kind, size):
    paired, unpaired = kind(2, **size), kind(2, **size, paired=False)
    np.testing.assert_array_equal(values(paired, "t1"), values(unpaired, "t1"))
    np.testing.assert_array_equal(paired.labels["tissue"], unpaired.labels["tissue"])
    assert (unpaired.labels["tissue"] != unpaired.labels["ct_tissue"]).mean() > 0.02
    bone = unpaired.labels["ct_tissue"] == BONE
    assert values(unpaired, "ct")[bone].mean() > 150 > values(unpaired, "ct")[unpaired.labels["tissue"] == SOFT].mean()


@pytest.mark.parametrize(("kind", "size"), KINDS)
def test_misregistration_has_the_stated_size_and_is_known(kind, size):
    phantom = kind(7, **size, misregistration_mm=6)
    moved = np.sqrt((phantom.displacement_mm**2).sum(0))
    assert moved.mean() == pytest.approx(6, rel=1e-4) and 0.02 < moved.std() / 6 < 0.6
    aligned = values(phantom, "ct_aligned").astype(np.float32)
    np.testing.assert_array_equal(aligned, values(kind(7, **size), "ct"))
    # Each voxel shows what lies the displacement away.
    place = np.array([1, 30, 25])
    there = place + phantom.displacement_mm[:, *place] / phantom.image.spacing
    expected = ndimage.map_coordinates(aligned, there[:, None], order=1, mode="nearest")[0]
    assert values(phantom, "ct")[tuple(place)] == pytest.approx(expected, abs=1)
    assert np.abs(values(phantom, "ct") - aligned).mean() > 20
    assert not kind(7, **size).displacement_mm.any()


def test_a_finer_grid_shows_the_same_patient():
    coarse, fine = HeadMRCT(1, **HEAD), HeadMRCT(1, **{**HEAD, "size": 128})
    for name in ("brain", "bone", "body"):
        assert fine.masks[name].mean() == pytest.approx(coarse.masks[name].mean(), rel=0.1)


def test_ct_numbers_of_uniform_regions_are_those_of_the_table():
    phantom = ChestMRCT(8, size=96, slices=2, ct_noise=0)
    muscle = ndimage.binary_erosion(phantom.regions["muscle"], np.ones((1, 3, 3)))
    assert values(phantom, "ct")[muscle].mean() == pytest.approx(CT_NUMBERS["muscle"].usual, abs=4)


@pytest.mark.parametrize(
    "wrong", [{"size": 8}, {"slices": 0}, {"distance_mm": 11}, {"misregistration_mm": -1}, {"ct_noise": -1.0}]
)
def test_impossible_requests_are_refused(wrong):
    for kind in (HeadMRCT, ChestMRCT):
        with pytest.raises(UserError, match="cannot be drawn"):
            kind(0, **wrong)
    with pytest.raises(UserError, match="cannot be drawn"):
        ChestMRCT(0, enhancement=-5)
