import numpy as np
import pytest

from ganatomy.case import Case, Sample
from ganatomy.images.image import axial_affine
from ganatomy.physics.stains import EOSIN, HAEMATOXYLIN, TARGET, unit
from ganatomy.tasks.translation.maps import fit_maps
from ganatomy.tasks.translation.task import Translation, TranslationConfig


def task(channels=(1, 1), **options):
    own = [{"window": (0, 2), "channels": number, **options} for number in channels]
    config = TranslationConfig.preset("paper", source="a", target="b", a=own[0], b=own[1])
    return Translation(config, True, "mae[window]")


def sample(asked, **arrays):
    affine = axial_affine((3.0, 1.0, 1.5))
    return Sample(Case("p", "p", "train", {}), arrays, dict.fromkeys(arrays, affine), asked.roles)


def images(seed, channels=1):
    return np.random.default_rng(seed).uniform(0, 2, (channels, 3, 13, 11)).astype(np.float32)


def mapped(asked, fitted, values):
    """Apply a map to physical values (channels, ...)."""
    given, made = (asked.roles[name] for name in (asked.input, asked.output))
    return made.decoded(fitted.map(given.encoded(values)))


def by_name(asked, training):
    return {one.name: one for one in fit_maps(asked, training)}


def test_pairs_are_fitted_by_a_constant_a_line_and_a_falling_curve():
    asked = task()
    training = [sample(asked, a=images(seed), b=2 - 0.5 * images(seed) ** 2) for seed in range(3)]
    found, values = by_name(asked, training), images(9)
    true = 2 - 0.5 * values**2
    errors = {name: np.abs(mapped(asked, one, values) - true).mean() for name, one in found.items()}
    assert errors["monotone map"] < 0.02 < errors["linear map"] < errors["constant"] / 3
    np.testing.assert_allclose(
        mapped(asked, found["constant"], values), np.mean([one.arrays["b"] for one in training]), atol=1e-4
    )
    assert "3 training pairs" in found["linear map"].about


def test_a_curve_rises_or_falls_but_does_not_turn():
    asked = task()
    training = [sample(asked, a=images(0), b=np.abs(images(0) - 0.4))]
    curve = mapped(asked, by_name(asked, training)["monotone map"], np.linspace(0, 2, 50, dtype=np.float32)[None])[0]
    assert (np.diff(curve) >= -1e-6).all() and curve[-1] > 1.5


def test_channels_are_mapped_together():
    asked = task((2, 3))
    given = images(0, 2)
    made = np.stack([given[0], 0.5 * given[0] + 0.5 * given[1], 2 - given[1]])
    found = by_name(asked, [sample(asked, a=given, b=made)])
    np.testing.assert_allclose(mapped(asked, found["linear map"], given), made, atol=1e-4)
    assert mapped(asked, found["monotone map"], given).shape == made.shape


def test_unpaired_images_are_matched_by_moments_and_histograms():
    asked = task()
    training = [sample(asked, a=images(0)), sample(asked, b=1.5 + 0.25 * images(0)[:, ::-1] ** 2 / 2)]
    found, values = by_name(asked, training), images(9)
    assert "unpaired" in found["monotone map"].about
    curve = mapped(asked, found["monotone map"], values)
    np.testing.assert_allclose(curve, 1.5 + 0.25 * values**2 / 2, atol=0.03)
    line = mapped(asked, found["linear map"], values)
    assert line.mean() == pytest.approx(curve.mean(), abs=0.01) and line.std() == pytest.approx(curve.std(), rel=0.05)


def test_images_with_scales_of_their_own_are_fitted_in_the_range_of_the_networks():
    asked = task(window=None, percentiles=(0, 100), over="all")
    training = [
        sample(asked, a=factor * images(seed), b=3 * factor * (2 - images(seed))) for seed, factor in enumerate((1, 40))
    ]
    line = by_name(asked, training)["linear map"]
    encoded = np.linspace(-1, 1, 7, dtype=np.float32)[None]
    np.testing.assert_allclose(line.map(encoded), -encoded, atol=0.02)


def test_without_images_of_both_kinds_there_is_nothing_to_fit():
    asked = task()
    assert fit_maps(asked, [sample(asked, a=images(0))]) == fit_maps(asked, []) == []


def test_classes_of_tissue_get_their_mean_output_however_it_changes_with_the_input():
    asked = task()
    tissues, numbers = np.array([0.1, 0.5, 0.9, 1.3, 1.8]), np.array([1.0, 0.2, 1.6, 0.4, 1.2])
    rng = np.random.default_rng(0)
    found, training = rng.integers(0, 5, (2, 1, 4, 13, 11)), []
    for kind in found:
        a = (tissues[kind] + rng.normal(0, 0.01, kind.shape)).astype(np.float32)
        training.append(sample(asked, a=a, b=numbers[kind].astype(np.float32)))
    maps = by_name(asked, training)
    np.testing.assert_allclose(
        mapped(asked, maps["tissue classes"], training[1].arrays["a"]), numbers[found[1]], atol=1e-4
    )
    assert np.abs(mapped(asked, maps["monotone map"], training[1].arrays["a"]) - numbers[found[1]]).mean() > 0.1


def test_unpaired_images_have_no_classes_with_a_mean_output():
    asked = task()
    assert "tissue classes" not in by_name(asked, [sample(asked, a=images(0)), sample(asked, b=images(1))])


def slides(matrix, seeds, high=255):
    """Return pictures (3, 1, rows, columns) of cells between fibres, stained with two stains, and their amounts."""
    found = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        amounts = rng.uniform(0.0, 0.05, (2, 1, 40, 40))
        amounts[0, :, :20], amounts[1, :, 20:] = rng.uniform(0.4, 1.4, (1, 20, 40)), rng.uniform(0.3, 1.0, (1, 20, 40))
        density = np.tensordot(np.array(matrix).T, amounts, 1)
        found.append((high * np.exp(-density)).astype(np.float32))
    return found


OURS, THEIRS = unit([HAEMATOXYLIN, EOSIN]), TARGET


def picture_task(**options):
    return task((3, 3), **{"window": (0, 255), **options})


@pytest.mark.parametrize(("name", "error"), [("Macenko", 4.0), ("Vahadane", 4.0), ("Reinhard", 15.0)])
def test_pictures_in_colour_are_normalised_to_the_stains_of_unpaired_ones(name, error):
    asked = picture_task()
    training = [sample(asked, a=one) for one in slides(OURS, range(3))]
    training += [sample(asked, b=one) for one in slides(THEIRS, range(10, 13))]
    found = by_name(asked, training)[name]
    (given,), (true,) = slides(OURS, [20]), slides(THEIRS, [20])
    made = mapped(asked, found, given)
    assert made.shape == true.shape and made.dtype == np.float32
    assert np.abs(made - true).mean() < error < np.abs(given - true).mean()
    # Each slice is normalised for itself, and empty glass is left as it is by stains.
    other = np.full_like(given, 250.0)
    both = mapped(asked, found, np.concatenate([given, other], axis=1))
    np.testing.assert_allclose(both[:, :1], made, atol=1e-3)
    if name != "Reinhard":
        np.testing.assert_allclose(both[:, 1:], other, atol=1e-3)
    assert "no pairs are used" in found.about


def test_only_pictures_in_colour_are_normalised_by_stains():
    names = {"Reinhard", "Macenko", "Vahadane"}
    for asked, channels in ((task(), 1), (task((3, 3), window=None), 3), (picture_task(unit="HU"), 3)):
        a, b = (50 * images(seed, channels) for seed in (0, 1))
        assert not names & set(by_name(asked, [sample(asked, a=a, b=b)]))
    asked = picture_task()
    empty = np.full((3, 1, 8, 8), 250.0, np.float32)
    unpaired = [sample(asked, a=empty), sample(asked, b=empty)]
    assert names & set(by_name(asked, unpaired)) == {"Reinhard"}


def test_unpaired_channels_are_matched_one_by_one():
    asked = task((2, 2))
    given, other = images(0, 2), images(1, 2)
    wanted = np.stack([0.5 + 0.25 * other[0], 2 - 0.5 * other[1]])
    found, values = by_name(asked, [sample(asked, a=given), sample(asked, b=wanted)]), images(9, 2)
    for name in ("linear map", "monotone map"):
        made = mapped(asked, found[name], values)
        np.testing.assert_allclose(made.mean((1, 2, 3)), [0.75, 1.5], atol=0.05)
        for channel in range(2):
            assert np.corrcoef(made[channel].ravel(), values[channel].ravel())[0, 1] > 0.99


def test_histograms_of_each_picture_are_matched_to_those_of_all_outputs():
    asked = task((3, 3))
    target = images(1, 3) ** 2 / 2
    found = by_name(asked, [sample(asked, a=images(0, 3), b=target)])["histogram matching"]
    given = (0.3 * images(5, 3) + 0.4)[:, :1]
    made = mapped(asked, found, given)
    for channel in range(3):
        levels = np.linspace(0.05, 0.95, 10)
        np.testing.assert_allclose(np.quantile(made[channel], levels), np.quantile(target[channel], levels), atol=0.02)
        assert (np.diff(made[channel].ravel()[np.argsort(given[channel].ravel())]) >= -1e-6).all()
