import numpy as np
import pytest

from ganatomy.metrics.agatston import agatston
from ganatomy.phantoms.calcium import CalciumInserts


@pytest.fixture(scope="module")
def phantom() -> CalciumInserts:
    return CalciumInserts(0, size=512, slices=15, spacing_mm=(0.5, 0.4, 0.4))


def test_each_insert_holds_its_volume(phantom: CalciumInserts) -> None:
    hu = phantom.image.array[0]
    assert len(phantom.scores) == 9
    for name, volume in phantom.volumes_mm3.items():
        density = float(name.split()[2])
        share = (hu[phantom.masks[name]] - 40) / (density - 40)
        assert share.sum() * np.prod(phantom.image.spacing) == pytest.approx(volume, rel=0.1), name


def test_known_scores(phantom: CalciumInserts) -> None:
    assert phantom.scores["5 mm 260 HU"] == pytest.approx(np.pi * 2.5**2 * 2 * 5 / 3)
    assert phantom.scores["3 mm 1040 HU"] == pytest.approx(np.pi * 1.5**2 * 4)
    assert phantom.agatston == pytest.approx(sum(phantom.scores.values()))


@pytest.mark.parametrize("insert", ["3 mm 260 HU", "5 mm 260 HU", "5 mm 520 HU", "5 mm 1040 HU"])
def test_the_metric_finds_the_score_on_a_fine_grid(phantom: CalciumInserts, insert: str) -> None:
    measured = agatston(phantom.image.array[0], phantom.image.spacing, phantom.masks[insert])
    assert measured.lesions == 1
    assert measured.score == pytest.approx(phantom.scores[insert], rel=0.35)


def test_inserts_keep_apart_and_inside_the_block(phantom: CalciumInserts) -> None:
    regions = [phantom.masks[name] for name in phantom.scores]
    assert sum(region.astype(int) for region in regions).max() == 1
    assert not (phantom.masks["inserts"] & ~phantom.masks["block"]).any()
    np.testing.assert_allclose(phantom.image.array[0][phantom.regions["block"]], 40, atol=1e-3)


def test_the_seed_moves_the_object() -> None:
    first, again, other = (CalciumInserts(seed, size=64, slices=3).image.array for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
