import numpy as np
import pytest
from scipy import ndimage

from ganatomy.errors import UserError
from ganatomy.phantoms import label, make, part
from ganatomy.phantoms.short_axis import APEX_DIRECTION, ShortAxisMR

SIZE = 32


@pytest.fixture(scope="module")
def stacks() -> list[ShortAxisMR]:
    return [ShortAxisMR(seed, size=SIZE) for seed in range(9)]


def test_a_third_each_lacks_the_first_and_the_last_slice(stacks: list[ShortAxisMR]) -> None:
    assert [label("short-axis-mr", seed) for seed in range(3)] == ["complete", "no base", "no apex"]
    for one in stacks:
        words = one.classes["slices"]
        assert len(words) == one.image.shape[0] == len(one.heights) >= 6
        assert ("basal" in words, "apical" in words) == (one.label != "no base", one.label != "no apex")
        assert words.count("middle") >= len(words) - 2
        highest, lowest = int(one.heights.argmin()), int(one.heights.argmax())
        if "basal" in words:
            assert words.index("basal") == highest and 0 < one.heights[highest] < 10
        else:
            assert one.heights[highest] > 8
        if "apical" in words:
            assert words.index("apical") == lowest
        assert part(one, "classes:slices") == words


def test_a_missing_slice_is_all_that_differs() -> None:
    whole, cut = (ShortAxisMR(4, size=SIZE, label=name) for name in ("complete", "no base"))
    there = np.isin(whole.heights, cut.heights)
    assert there.sum() == len(there) - 1 and not there[whole.heights.argmin()]
    assert np.array_equal(whole.masks["muscle"][there], cut.masks["muscle"])


def test_stacks_are_stored_both_ways_and_their_position_tells_which(stacks: list[ShortAxisMR]) -> None:
    downwards = [one.heights[0] < one.heights[-1] for one in stacks]
    assert 0 < sum(downwards) < len(stacks)
    for one, base_first in zip(stacks, downwards, strict=True):
        along = one.image.affine[:3, 0]
        assert (along @ APEX_DIRECTION > 0) == base_first
        step = abs(float(np.diff(one.heights)[0]))
        assert np.linalg.norm(along) == pytest.approx(step) and round(step) in (8, 9, 10)
        rows, columns = one.image.affine[:3, 1], one.image.affine[:3, 2]
        assert [np.linalg.norm(rows), np.linalg.norm(columns)] == pytest.approx([90 / SIZE] * 2)
        assert abs(rows @ columns) < 1e-9 and abs(rows @ along) < 1e-9 and abs(columns @ along) < 1e-9
        assert rows[2] < 0 and columns[0] < 0, "rows run towards the feet, columns to the left"


def test_the_cavity_narrows_to_the_apex_within_its_wall(stacks: list[ShortAxisMR]) -> None:
    for one in stacks:
        order = one.heights.argsort()
        areas = one.masks["cavity"][order].sum((1, 2)) * (90 / SIZE) ** 2
        assert (areas[2:-1] > areas[3:]).all() and 700 < areas[0] < 3200
        middle = order[len(order) // 2]
        whole = ndimage.binary_fill_holes(one.masks["muscle"][middle])
        assert (whole & one.masks["cavity"][middle]).sum() > 0.95 * one.masks["cavity"][middle].sum()
        assert not (one.masks["muscle"] & one.masks["cavity"]).any()


def test_blood_is_bright_and_muscle_dark(stacks: list[ShortAxisMR]) -> None:
    for one in stacks:
        values = one.image.array[0]
        assert values.dtype == np.float32 and values.min() >= 0 and one.image.header.modality == "MR"
        blood = [values[at][mask].mean() for at, mask in enumerate(one.regions["blood"]) if mask.any()]
        muscle = [values[at][mask].mean() for at, mask in enumerate(one.masks["muscle"]) if mask.any()]
        assert np.median(blood) > 1.8 * np.median(muscle)


def test_patients_differ_and_the_same_arguments_give_the_same_stack(stacks: list[ShortAxisMR]) -> None:
    again = make("short-axis-mr", 3, size=SIZE)
    np.testing.assert_array_equal(again.image.array, stacks[3].image.array)
    assert len({len(one.heights) for one in stacks}) > 1
    assert len({float(one.heights.min()) for one in stacks}) == len(stacks)


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(UserError, match="a short-axis stack of 8 rows and columns cannot be drawn"):
        ShortAxisMR(0, size=8)
    with pytest.raises(UserError, match="there is no label 'half': choose one of complete, no base, no apex"):
        ShortAxisMR(0, size=SIZE, label="half")
