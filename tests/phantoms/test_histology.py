import numpy as np
import pytest
from scipy import ndimage

from ganatomy.errors import UserError
from ganatomy.phantoms.histology import (
    LABORATORIES,
    StainedGlands,
    StainedNuclei,
    TwoLaboratoryNuclei,
    TwoLaboratoryTumours,
)
from ganatomy.physics.stains import macenko, optical_density, unit

KINDS = ((StainedGlands, "glands"), (StainedNuclei, "nuclei"))


@pytest.fixture(scope="module")
def drawn():
    return {name: [kind(seed, size=96) for seed in range(10)] for kind, name in KINDS}


def density(phantom):
    return -np.log(np.maximum(phantom.image.numpy(), 1) / 243)


@pytest.mark.parametrize("name", ["glands", "nuclei"])
def test_pictures_are_stained_and_their_objects_numbered(drawn, name):
    for phantom in drawn[name]:
        picture, numbers = phantom.image.array, phantom.instances[name]
        assert picture.shape == (3, 1, 96, 96) and picture.dtype == np.float32
        assert 0 <= picture.min() < 110 and 225 < picture.max() <= 255
        assert numbers.shape == (1, 96, 96) and numbers.dtype == np.uint16
        np.testing.assert_array_equal(numbers > 0, phantom.masks[name])
        red, green, blue = density(phantom).mean((1, 2, 3))
        assert green > red > 0 and green > blue > 0, "eosin absorbs green light"


def test_nuclei_are_blue_and_what_lies_between_is_pink(drawn):
    for phantom in drawn["nuclei"]:
        found = density(phantom)
        inside = phantom.masks["nuclei"]
        ratio = [found[0][where].mean() / found[1][where].mean() for where in (inside, ~inside)]
        assert ratio[0] > 1.5 * ratio[1]


def test_glands_have_a_rim_of_nuclei_and_a_bright_middle(drawn):
    rims, middles = [], []
    for phantom in drawn["glands"]:
        red = phantom.image.numpy()[0, 0]
        depth = ndimage.distance_transform_edt(phantom.masks["glands"][0])
        rims.append(red[(depth > 0) & (depth < 4)].mean())
        middles.append(red[depth > 8].mean() if (depth > 8).any() else np.nan)
    assert np.nanmean(middles) > np.mean(rims) + 25


def test_no_threshold_finds_glands(drawn):
    best = 0.0
    for channel in range(3):
        for side in (1, -1):
            for level in range(60, 245, 8):
                overlap = []
                for phantom in drawn["glands"]:
                    found = side * phantom.image.numpy()[channel] > side * level
                    true = phantom.masks["glands"]
                    overlap.append(2 * (found & true).sum() / (found.sum() + true.sum()))
                best = max(best, float(np.mean(overlap)))
    assert best < 0.75


@pytest.mark.parametrize("name", ["glands", "nuclei"])
def test_some_objects_touch(drawn, name):
    joined = [ndimage.label(one.instances[name][0])[1] < len(np.unique(one.instances[name])) - 1 for one in drawn[name]]
    assert sum(joined) >= 4


@pytest.mark.parametrize(("kind", "name"), KINDS)
def test_patients_differ_in_colour_and_repeat(drawn, kind, name):
    again = kind(3, size=96)
    np.testing.assert_array_equal(again.image.array, drawn[name][3].image.array)
    tones = np.array([density(one).mean((1, 2, 3)) for one in drawn[name]])
    assert tones.std(0).min() > 0.008
    for wrong in ({"size": 8}, {"noise": -1.0}):
        with pytest.raises(UserError, match=f"{name} on .* cannot be drawn"):
            kind(0, **wrong)


def test_two_laboratories_show_the_same_tissue_in_colours_of_their_own():
    patients = [TwoLaboratoryNuclei(seed, size=96) for seed in range(6)]
    for patient in patients:
        first, second = (patient.images[name].numpy() for name in ("scanner_a", "scanner_b"))
        assert patient.image is patient.images["scanner_a"] and first.shape == second.shape == (3, 1, 96, 96)
        assert min(first.min(), second.min()) >= 0 and max(first.max(), second.max()) <= 255
        # Dark and bright places are the same, and colours are not.
        assert np.corrcoef(first[1].ravel(), second[1].ravel())[0, 1] > 0.85
        assert np.abs(first - second).mean() > 12
    change = np.array([(one.images["scanner_b"].numpy() - one.image.numpy()).mean((1, 2, 3)) for one in patients])
    assert (np.abs(change.mean(0)) > 2 * change.std(0)).any(), "laboratories differ more than patients do"
    np.testing.assert_array_equal(
        patients[2].images["scanner_b"].array, TwoLaboratoryNuclei(2, size=96).images["scanner_b"].array
    )


def test_stains_of_laboratories_are_ten_to_twenty_degrees_apart():
    for stain in ("haematoxylin", "eosin"):
        both = [unit(getattr(one, stain)) for one in LABORATORIES.values()]
        assert 8 < np.degrees(np.arccos(both[0] @ both[1])) < 25
    # Macenko's method finds haematoxylin of each laboratory, with the eosin that nuclei have, too.
    for name, own in LABORATORIES.items():
        pictures = [TwoLaboratoryNuclei(seed, size=96, noise=0).images[name].numpy() for seed in range(4)]
        colours = np.concatenate([one.reshape(3, -1).T for one in pictures])
        found = macenko(optical_density(colours / np.array(own.glass) * 255))
        assert np.degrees(np.arccos(found[0] @ unit(own.haematoxylin))) < 9


def test_half_of_the_fields_are_tumour_with_larger_nuclei_and_their_darkness_does_not_tell():
    patients = [TwoLaboratoryTumours(seed) for seed in range(80)]
    ill = np.array([one.masks["tumour"].all() for one in patients])
    assert 0.3 < ill.mean() < 0.7
    assert all(one.masks["tumour"].any() == one.masks["tumour"].all() for one in patients)
    sizes = np.array(
        [one.masks["nuclei"].sum() / max(len(np.unique(one.instances["nuclei"])) - 1, 1) for one in patients]
    )
    assert sizes[ill].mean() > 1.5 * sizes[~ill].mean()
    darkness = np.array([-one.image.numpy().mean() for one in patients])
    area = (darkness[ill][:, None] > darkness[~ill]).mean()
    assert 0.6 < area < 0.9, "darkness tells something, and not enough"
    again = TwoLaboratoryTumours(7)
    np.testing.assert_array_equal(again.images["scanner_b"].array, patients[7].images["scanner_b"].array)
    with pytest.raises(UserError, match="tumours on 8 pixels"):
        TwoLaboratoryTumours(0, size=8)


def test_batches_of_each_laboratory_differ_in_strength():
    ratios = []
    for seed in range(12):
        pictures = TwoLaboratoryTumours(seed, noise=0).images
        first, second = (-np.log(pictures[name].numpy().mean() / 240) for name in LABORATORIES)
        ratios.append(second / first)
    steady = [
        np.divide(*(-np.log(TwoLaboratoryNuclei(seed, size=64, noise=0).images[name].numpy().mean() / 240)
                    for name in reversed(LABORATORIES)))
        for seed in range(12)
    ]  # fmt: skip
    assert np.std(ratios) > 1.5 * np.std(steady)
