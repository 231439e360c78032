import numpy as np
import pytest
from scipy.special import erf

from ganatomy.errors import UserError
from ganatomy.physics.ct_numbers import attenuation_at_511
from ganatomy.physics.pet import (
    FLUORINE_18,
    Acquisition,
    PetScanner,
    blurred,
    decayed,
    standardised_uptake,
)

SHAPE, PIXEL = (40, 52), 4.0


def phantom() -> np.ndarray:
    """Return a warm ellipse of 5 kBq/mL with a hot and a cold disc, off centre."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]] - np.array([19.5, 25.5])[:, None, None]
    activity = np.where((x / 20) ** 2 + (y / 14) ** 2 < 1, 5.0, 0.0)
    activity[np.hypot(x - 9, y + 3) < 4] = 20.0
    activity[np.hypot(x + 8, y - 4) < 4] = 0.0
    return activity.astype(np.float32)


def water(activity: np.ndarray) -> np.ndarray:
    """Return the attenuation of a body of water around all activity and the cold disc in it."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]] - np.array([19.5, 25.5])[:, None, None]
    return attenuation_at_511(np.where((x / 21) ** 2 + (y / 15) ** 2 < 1, 0, -1000))


@pytest.fixture(scope="module")
def scanner() -> PetScanner:
    return PetScanner(SHAPE, PIXEL, views=48)


@pytest.fixture(scope="module")
def scan(scanner) -> Acquisition:
    return scanner.acquire(phantom(), 4e5, np.random.default_rng(0), attenuation=water(phantom()), background=0.2)


def test_decay_and_uptake_of_a_case_computed_by_hand():
    assert decayed(370, 3600) == pytest.approx(370 * 0.6846, rel=1e-4)
    assert decayed(decayed(7.0, 500), -500) == pytest.approx(7)
    assert decayed(1, FLUORINE_18) == 0.5
    assert standardised_uptake(370 / 70, 70, 370) == pytest.approx(1)
    # 60 min after 300 MBq for 80 kg: 10 kBq/mL are 10 * 80 / 205.38.
    assert standardised_uptake([10.0], 80, float(decayed(300, 3600))) == pytest.approx([3.895], rel=1e-3)


def test_a_dose_spread_over_the_body_has_an_uptake_of_one():
    weight, dose = 64.0, 250.0
    assert standardised_uptake(np.full((2, 3), dose / weight), weight, dose) == pytest.approx(1)


def test_the_point_spread_keeps_the_sum_and_recovers_a_sphere_by_its_size():
    hot = np.zeros((9, 14, 11), np.float32)
    hot[0, 13, 4] = hot[4, 5, 6] = 3
    assert blurred(hot, (2.0, 3.0, 1.0), 6).sum() == pytest.approx(6, rel=1e-5)
    np.testing.assert_array_equal(blurred(hot, (2.0, 3.0, 1.0), 0), hot)
    fine = 0.5
    z, y, x = (
        (np.arange(-30, 31) * fine)[:, None, None],
        (np.arange(-30, 31) * fine)[:, None],
        np.arange(-30, 31) * fine,
    )
    sphere = np.sqrt(x**2 + y**2 + z**2) < 5
    sigma = 5 / 2.3548
    closed = erf(5 / (np.sqrt(2) * sigma)) - np.sqrt(2 / np.pi) * (5 / sigma) * np.exp(-((5 / sigma) ** 2) / 2)
    assert closed == pytest.approx(0.8640, abs=5e-5)
    assert blurred(sphere, (fine, fine, fine), 5)[30, 30, 30] == pytest.approx(closed, abs=0.01)


def test_a_scan_has_the_counts_that_were_asked_for(scanner):
    true = phantom()
    totals, scans = [], []
    for seed in range(20):
        one = scanner.acquire(true, 2e4, np.random.default_rng(seed), attenuation=water(true), background=0.1)
        totals.append(one.counts.sum())
        scans.append(one.counts)
    assert np.mean(totals) == pytest.approx(2e4, rel=0.01)
    # Poisson counts have the variance of their mean.
    assert np.var(scans, 0, ddof=1).mean() == pytest.approx(np.mean(scans), rel=0.05)
    assert one.background.sum() == pytest.approx(2e3, rel=1e-3)


def test_the_patient_attenuates_long_paths_most(scanner):
    true = phantom()
    survival = scanner.survival(water(true))
    thickness = -np.log(survival) / 0.0096
    # The ellipse is 30 pixels of 4 mm high and 42 wide; the first view looks along its height.
    assert thickness[0].max() == pytest.approx(30 * PIXEL, abs=6)
    assert thickness[24].max() == pytest.approx(42 * PIXEL, abs=6)
    plain = scanner.acquire(true, 1e5, np.random.default_rng(1))
    shadowed = scanner.acquire(true, 1e5, np.random.default_rng(1), attenuation=water(true))
    assert shadowed.efficiency.max() / shadowed.efficiency.min() > 3
    assert plain.efficiency.max() == pytest.approx(plain.efficiency.min())


@pytest.mark.parametrize("point_spread", [False, True])
def test_the_likelihood_never_falls_and_counts_are_kept(scanner, scan, point_spread):
    likelihoods = []
    for iterations in range(1, 7):
        image = scanner.reconstruct(scan, iterations, point_spread=point_spread)
        likelihoods.append(scanner.log_likelihood(image, scan, point_spread=point_spread))
    assert np.diff(likelihoods).min() > 0
    without = scanner.acquire(phantom(), 4e5, np.random.default_rng(3), attenuation=water(phantom()))
    for iterations in (1, 3):
        image = scanner.reconstruct(without, iterations, point_spread=point_spread)
        expected = scanner.expected(image, without, point_spread=point_spread)
        assert expected.sum() == pytest.approx(without.counts.sum(), rel=1e-4)


def test_one_step_is_that_of_the_formula_with_the_system_matrix():
    tiny = PetScanner((3, 4), 2.0, views=5, fwhm=0.0)
    rng = np.random.default_rng(2)
    scan = tiny.acquire(rng.uniform(1, 9, tiny.shape), 300, rng, attenuation=np.full(tiny.shape, 0.05), background=0.3)
    matrix = np.stack([tiny.beam.project(one.reshape(3, 4)).ravel() for one in np.eye(12, dtype=np.float32)], 1)
    system = scan.efficiency.reshape(-1, 1) * matrix
    x = np.ones(12)
    for _ in range(3):
        ratio = scan.counts.ravel() / (system @ x + scan.background.ravel())
        x = x / system.sum(0) * (system.T @ ratio)
    np.testing.assert_allclose(tiny.reconstruct(scan, 3).ravel(), x, rtol=1e-3)


def test_a_reconstruction_has_the_true_activity_of_large_regions(scanner, scan):
    image = ndimage_mean(scanner.reconstruct(scan, 6, 8, point_spread=True))
    true = ndimage_mean(phantom())
    assert image["warm"] == pytest.approx(true["warm"], rel=0.06)
    assert image["hot"] == pytest.approx(true["hot"], rel=0.12)
    assert image["cold"] < 1.5


def ndimage_mean(image: np.ndarray) -> dict[str, float]:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]] - np.array([19.5, 25.5])[:, None, None]
    regions = {
        "hot": np.hypot(x - 9, y + 3) < 2.5,
        "cold": np.hypot(x + 8, y - 4) < 2.5,
        "warm": (np.abs(x) < 4) & (np.abs(y) < 9) & (np.hypot(x - 9, y + 3) > 7) & (np.hypot(x + 8, y - 4) > 7),
    }
    return {name: float(image[region].mean()) for name, region in regions.items()}


def test_ordered_subsets_are_faster_and_one_subset_is_all_views(scanner, scan):
    np.testing.assert_array_equal(scanner.reconstruct(scan, 2), scanner.reconstruct(scan, 2, 1))
    plain, ordered = scanner.reconstruct(scan, 2), scanner.reconstruct(scan, 2, 8)
    assert scanner.log_likelihood(ordered, scan) > scanner.log_likelihood(plain, scan)
    assert scanner.log_likelihood(ordered, scan) > scanner.log_likelihood(scanner.reconstruct(scan, 8), scan)


@pytest.mark.parametrize(
    "wrong", [{"activity": np.zeros(SHAPE)}, {"activity": -phantom()}, {"activity": phantom(), "background": 1.0}]
)
def test_impossible_scans_are_refused(scanner, wrong):
    with pytest.raises(UserError, match="a PET scan needs an activity"):
        scanner.acquire(counts=1e3, rng=np.random.default_rng(0), **wrong)


def test_impossible_reconstructions_are_refused(scanner, scan):
    for iterations, subsets in ((0, 1), (1, 0), (1, 49)):
        with pytest.raises(UserError, match="cannot be computed"):
            scanner.reconstruct(scan, iterations, subsets)
