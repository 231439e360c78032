from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ganatomy.data.batches import Batches, PatchDataset, Range, cut, hold_out, mirrored, usable
from ganatomy.case import Case
from ganatomy.case import Sample
from ganatomy.errors import UserError
from ganatomy.game import Stream
from ganatomy.images.codecs import Window

SLICES, ROWS, COLUMNS = 6, 30, 40


def prepared(number=0, slices=SLICES, roles=("input", "target"), subject=None):
    """Every value tells its case, slice, row and column; roles differ by a half."""
    z, y, x = np.meshgrid(np.arange(slices), np.arange(ROWS), np.arange(COLUMNS), indexing="ij")
    values = (((number * 10 + z) * 100 + y) * 100 + x).astype(np.float32)[None]
    arrays = {role: values + index * 0.25 for index, role in enumerate(roles)}
    return Sample(Case(f"case{number}", subject or f"subject{number}", "train", {}), arrays, (1.0, 1.0, 1.0))


def whole(cases):
    return [Range(case, 0, case.shape[0]) for case in cases]


def dataset(ranges=None, dims=3, codecs=None, roles=("input", "target"), seed=(3,), **sampling):
    sampling = {"batch_size": 4, "patch": (2, 8, 10), **sampling}
    return PatchDataset(ranges or whole([prepared()]), Stream(**sampling), codecs or {}, roles, dims, seed)


def places(values):
    """(case, slice, row, column) of every value."""
    whole = np.floor(np.asarray(values, np.float64)).astype(int)
    return whole // 100_000, whole // 10_000 % 10, whole // 100 % 100, whole % 100


@given(st.integers(1, 9), st.integers(-30, 30))
def test_mirrored_is_numpys_reflection(extent, first):
    want = np.pad(np.arange(extent), (60, 60), mode="reflect")[60 + first :][:10]
    assert mirrored(np.arange(first, first + 10), extent).tolist() == want.tolist()


@given(st.integers(-8, 8), st.integers(-40, 40), st.integers(1, 50))
@settings(max_examples=50, deadline=None)
def test_cut_is_a_block_of_the_mirrored_array(first, row, size):
    array = np.arange(3 * 20 * 4).reshape(1, 3, 20, 4)
    padded = np.pad(array, ((0, 0), (8, 70), (40, 100), (2, 2)), mode="reflect")
    want = padded[:, 8 + first :, 40 + row :, 1:][:, :4, :size, :6]
    assert np.array_equal(cut(array, (first, row, -1), (4, size, 6)), want)


@given(st.integers(0, 2**31), st.integers(0, 5), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_the_input_is_the_target_grown_by_the_margin(number, deep, wide):
    margin = (deep % 3, deep, wide)
    sample = dataset(margin=margin)[number]
    shape = tuple(size + 2 * around for size, around in zip((2, 8, 10), margin, strict=True))
    assert sample["input"].shape == (1, *shape) and sample["target"].shape == (1, 2, 8, 10)
    d, h, w = margin
    inner = sample["input"][:, d : d + 2, h : h + 8, w : w + 10]
    assert torch.equal(inner + 0.25, sample["target"])
    _, z, y, x = places(sample["target"][0])
    assert (np.diff(z, axis=0) == 1).all() and (np.diff(y, axis=1) == 1).all() and (np.diff(x, axis=2) == 1).all()


def test_margins_stay_inside_where_the_image_is_large_enough():
    data = dataset(margin=(1, 4, 4))
    for number in range(50):
        _, z, y, x = places(data[number]["input"][0])
        assert all((np.diff(axis, axis=i) == 1).all() for i, axis in enumerate((z, y, x)))


def test_every_place_of_every_case_is_drawn():
    cases = [prepared(0, 2), prepared(1, 6)]
    data = dataset(whole(cases), patch=(1, 30, 40))
    seen = [(int(c.flat[0]), int(z.flat[0])) for c, z, _, _ in (places(data[n]["target"]) for n in range(400))]
    counts = {place: seen.count(place) for place in set(seen)}
    assert counts.keys() == {(0, 0), (0, 1), *((1, z) for z in range(6))}
    assert min(counts.values()) > 25 and max(counts.values()) < 85


@pytest.mark.parametrize("patch", [(1, 8, 10), (2, 8, 10), (5, 8, 10)])
def test_nothing_is_read_outside_of_a_range(patch):
    data = dataset([Range(prepared(), 1, 4)], patch=patch, margin=(2, 0, 0))
    for number in range(50):
        sample = data[number]
        for role in ("input", "target"):
            assert set(places(sample[role])[1].flat) <= {1, 2, 3}


def test_a_patch_larger_than_the_image_is_mirrored():
    sample = dataset(patch=(1, 40, 60))[0]
    _, _, y, x = places(sample["target"][0])
    assert y[0, :, 0].tolist() == mirrored(np.arange(-5, 35), ROWS).tolist()
    assert x[0, 0].tolist() == mirrored(np.arange(-10, 50), COLUMNS).tolist()


def test_corners_are_the_four_corners_and_the_centre():
    data = dataset(positions="corners", patch=(1, 10, 10), margin=(0, 2, 3))
    seen = {tuple(int(axis.flat[0]) for axis in places(data[number]["target"])[2:]) for number in range(80)}
    assert seen == {(2, 3), (2, 27), (18, 3), (18, 27), (10, 15)}


def test_flips_turn_all_roles_alike():
    data = dataset(flips=(1, 2), margin=(0, 3, 3))
    seen = set()
    for number in range(60):
        sample = data[number]
        assert torch.equal(sample["input"][:, :, 3:-3, 3:-3] + 0.25, sample["target"])
        _, z, y, x = places(sample["target"][0])
        assert (np.diff(z, axis=0) == 1).all()
        seen.add((int(np.diff(y, axis=1).flat[0]), int(np.diff(x, axis=2).flat[0])))
    assert seen == {(1, 1), (1, -1), (-1, 1), (-1, -1)}


def test_a_refused_patch_is_drawn_again():
    left = lambda patch: places(patch["target"])[3].max() < 20  # noqa: E731
    accepted = [left({"target": dataset(accepts=left)[number]["target"]}) for number in range(60)]
    assert np.mean(accepted) > 0.95
    refused = dataset(accepts=lambda patch: False)[0]
    assert refused["target"].shape == (1, 2, 8, 10)


def test_patches_are_judged_in_physical_units():
    judged = []
    codecs = {role: Window(low=0, high=1e6) for role in ("input", "target")}
    data = dataset(codecs=codecs, accepts=lambda patch: judged.append(patch["target"].copy()) or True)
    sample = data[0]
    assert torch.allclose(sample["target"], torch.from_numpy(judged[0] / 1e6 * 2 - 1), atol=1e-6)


def test_streams_are_drawn_independently():
    streams = (("input",), ("target",))
    data = dataset(streams=streams, patch=(1, 8, 8))
    pairs = [
        [places(sample[role])[2].flat[0] for role in ("input", "target")]
        for sample in map(data.__getitem__, range(200))
    ]
    rows = np.array(pairs, float)
    assert abs(np.corrcoef(rows.T)[0, 1]) < 0.25 and (rows[:, 0] != rows[:, 1]).mean() > 0.7
    one = Sample(prepared(1).case, {"input": prepared(1).arrays["input"]}, (1.0, 1.0, 1.0))
    two = Sample(prepared(2).case, {"target": prepared(2).arrays["target"]}, (1.0, 1.0, 1.0))
    unpaired = dataset(whole([one, two]), streams=streams)[5]
    assert set(places(unpaired["input"])[0].flat) == {1} and set(places(unpaired["target"])[0].flat) == {2}


def test_a_role_that_no_case_has_is_named():
    with pytest.raises(UserError, match="no training case has the roles input, sketch"):
        dataset(roles=("input", "sketch"))


def test_two_dimensional_patches_have_no_depth():
    assert dataset(dims=2, patch=(1, 8, 10))[0]["target"].shape == (1, 8, 10)


def test_roles_without_a_codec_are_taken_as_they_are():
    sample = dataset(codecs={"input": Window(low=0, high=1e6, to=(0, 1))})[1]
    assert torch.allclose(sample["input"] * 1e6 + 0.25, sample["target"], rtol=1e-5)


def take(batches, count):
    return [next(batches) for _ in range(count)]


def equal(one, other):
    return all(
        a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a) for a, b in zip(one, other, strict=True)
    )


def test_a_batch_is_a_function_of_seed_and_number():
    data = dataset(flips=(1,))
    assert equal(take(Batches(data, 4), 5), take(Batches(dataset(flips=(1,)), 4), 5))
    assert not equal(take(Batches(data, 4), 1), take(Batches(dataset(flips=(1,), seed=(4,)), 4), 1))
    first = take(Batches(data, 4), 1)[0]
    assert all(torch.equal(first["target"][n], data[n]["target"]) for n in range(4))
    assert torch.equal(data[7]["target"], data[7]["target"])


@given(st.integers(0, 12))
@settings(max_examples=8, deadline=None)
def test_a_stream_goes_on_where_it_was_left(drawn):
    whole_way = take(Batches(dataset(), 3), 15)
    later = Batches(dataset(), 3, drawn=drawn)
    assert equal(take(later, 15 - drawn), whole_way[drawn:]) and later.drawn == 15


@pytest.mark.parametrize("world", [2, 3])
def test_the_shares_of_the_processes_are_the_whole_batch(world):
    parts = [take(Batches(dataset(), 6, rank, world, drawn=2), 3) for rank in range(world)]
    joined = [{role: torch.cat([part[role] for part in row]) for role in row[0]} for row in zip(*parts, strict=True)]
    assert equal(joined, take(Batches(dataset(), 6, drawn=2), 3))


def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(UserError, match="--batch-size 4: not a multiple of the 3 processes"):
        Batches(dataset(), 4, 0, 3)


def test_workers_give_the_same_batches():
    assert equal(take(Batches(dataset(), 4, workers=2, drawn=1), 4), take(Batches(dataset(), 4, drawn=1), 4))


@pytest.mark.parametrize("workers", [0, 1])
def test_opening_a_stream_moves_no_random_number(workers):
    before = torch.get_rng_state()
    next(Batches(dataset(), 4, workers=workers))
    assert torch.equal(before, torch.get_rng_state())


@given(st.lists(st.tuples(st.integers(1, 12), st.integers(0, 2)), min_size=1, max_size=6))
@settings(deadline=None)
def test_held_out_slices_are_in_no_training_range(shapes):
    cases = [prepared(n, slices, subject=f"s{subject}") for n, (slices, subject) in enumerate(shapes)]
    kept, held = hold_out(whole(cases))
    at = lambda ranges: {(r.case.case.name, z) for r in ranges for z in range(r.start, r.stop)}  # noqa: E731
    everything = at(whole(cases))
    subjects = {case.case.subject: 0 for case in cases}
    for case in cases:
        subjects[case.case.subject] += case.shape[0]
    if any(total > 1 for total in subjects.values()):
        assert at(kept) | at(held) == everything and not at(kept) & at(held)
        assert len(at(held)) <= max(0.16 * len(everything), len(subjects)) + len(subjects)
    assert kept and held and all(item.slices > 0 for item in [*kept, *held])


class Picky:
    """A task that may be trained on some slices only."""

    def __init__(self, fit):
        self.fit = fit

    def trainable(self, label, arrays):
        return None if self.fit is None else np.array(self.fit)


@given(st.none() | st.lists(st.booleans(), min_size=SLICES, max_size=SLICES))
@settings(deadline=None)
def test_only_slices_fit_for_training_are_in_a_range(fit):
    found = usable(Picky(fit), [prepared()])
    inside = {index for item in found for index in range(item.start, item.stop)}
    assert inside == {index for index in range(SLICES) if fit is None or fit[index]}
    assert sum(item.slices for item in found) == len(inside)


def test_a_sample_carries_its_label():
    cases = [replace(prepared(n), case=Case(f"c{n}", f"s{n}", "train", {}, label)) for n, label in enumerate("abc")]
    data = PatchDataset(whole(cases), Stream(1, (1, 8, 8)), {}, ("input",), 2, [0], classes=("c", "a", "b"))
    for number in range(20):
        sample = data[number]
        case = int(sample["input"].min() // 100_000)
        assert "cab"[int(sample["label"])] == "abc"[case]
    assert next(Batches(data, 4))["label"].shape == (4,)


def test_quarter_turns_turn_all_roles_alike():
    data = dataset(whole([prepared()]), patch=(1, 8, 8), quarter_turns=True)
    steps = set()
    for number in range(30):
        sample = data[number]
        torch.testing.assert_close(sample["target"], sample["input"] + 0.25)
        steps.add(float(sample["input"][0, 0, 0, 1] - sample["input"][0, 0, 0, 0]))
    assert steps == {1.0, -1.0, 100.0, -100.0}
