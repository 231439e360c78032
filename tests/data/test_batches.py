from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import sample_of
from scipy.ndimage import map_coordinates

from ganatomy.case import cut, mirrored
from ganatomy.data.batches import Batches, PatchDataset, Range, check_validation, datasets, hold_out, usable
from ganatomy.errors import UserError
from ganatomy.game import Balanced, Corners, Stream
from ganatomy.images.augmentation import Augmentation, mild
from ganatomy.images.codecs import PercentileWindow, Window
from ganatomy.roles.classes import ClassRole
from ganatomy.roles.labels import LabelRole
from ganatomy.roles.points import PointsRole

SLICES, ROWS, COLUMNS = 6, 30, 40


def prepared(number=0, slices=SLICES, roles=("input", "target"), subject=None, label=None, codecs=None):
    """Return a prepared case whose values encode case, slice, row and column; the second role is greater by a half."""
    z, y, x = np.meshgrid(np.arange(slices), np.arange(ROWS), np.arange(COLUMNS), indexing="ij")
    values = (((number * 10 + z) * 100 + y) * 100 + x).astype(np.float32)[None]
    arrays = {role: values + index * 0.25 for index, role in enumerate(roles)}
    name = f"case{number}"
    return sample_of(arrays, name=name, subject=subject or f"subject{number}", label=label, codecs=codecs)


def whole(cases):
    return [Range(case, 0, case.shape[0]) for case in cases]


def dataset(ranges=None, dims=3, codecs=None, roles=("input", "target"), seed=(3,), **options):
    stream = Stream(**{"name": "samples", "roles": None, "batch_size": 4, "patch": (2, 8, 10), **options})
    return PatchDataset(ranges or whole([prepared(codecs=codecs)]), stream, roles, dims, seed)


def batches(data, size=4, *rest, **options):
    """Return endless batches of one stream."""
    return Batches({"samples": data}, [replace(data.stream, batch_size=size)], *rest, **options)


def places(values):
    """Decode (case, slice, row, column) of every value."""
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
    data = dataset(place=Corners(), patch=(1, 10, 10), margin=(0, 2, 3))
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
    streams = [Stream(name, (name,), size, (1, 8, 8)) for name, size in (("input", 2), ("target", 3))]
    drawn = Batches(datasets(whole([prepared()]), streams, (), 3, [3]), streams)
    batches = [next(drawn) for _ in range(60)]
    assert batches[0]["input"]["input"].shape[0] == 2 and batches[0]["target"]["target"].shape[0] == 3
    rows = np.array([[places(batch[s][s][0])[2].flat[0] for s in ("input", "target")] for batch in batches], float)
    assert abs(np.corrcoef(rows.T)[0, 1]) < 0.4 and (rows[:, 0] != rows[:, 1]).mean() > 0.7
    one, two = prepared(1, roles=("input",)), prepared(2, roles=("target",))
    unpaired = next(Batches(datasets(whole([one, two]), streams, (), 3, [3]), streams))
    assert set(places(unpaired["input"]["input"])[0].flat) == {1}
    assert set(places(unpaired["target"]["target"])[0].flat) == {2}


def test_a_role_that_two_streams_draw_is_drawn_by_each():
    streams = [Stream("few", ("input",), 2, (1, 8, 8)), Stream("many", ("input",), 5, (1, 8, 8))]
    batch = next(Batches(datasets(whole([prepared()]), streams, (), 3, [3]), streams))
    assert len(batch["few"]["input"]) == 2 and len(batch["many"]["input"]) == 5
    assert not torch.equal(batch["few"]["input"], batch["many"]["input"][:2])


def test_streams_of_one_name_are_refused():
    twice = [Stream("same", ("input",), 2, (1, 8, 8))] * 2
    with pytest.raises(UserError, match="two streams of a stage are called same, same"):
        datasets(whole([prepared()]), twice, (), 3, [3])


def test_a_stream_of_unannotated_images_draws_no_annotated_case():
    annotated, bare = prepared(1), prepared(2, roles=("input",))
    stream = Stream("unannotated", ("input",), 2, (1, 8, 8), without=("target",))
    data = PatchDataset(whole([annotated, bare]), stream, (), 3, [3])
    assert {int(places(data[n]["input"])[0].flat[0]) for n in range(30)} == {2}
    both = PatchDataset(whole([annotated, bare]), replace(stream, without=()), (), 3, [3])
    assert {int(places(both[n]["input"])[0].flat[0]) for n in range(30)} == {1, 2}
    with pytest.raises(UserError, match="no training case has the roles input without target"):
        PatchDataset(whole([annotated]), stream, (), 3, [3])


def labelled(number=0, slices=SLICES, voxels=((2, 5, 7), (4, 20, 33))):
    """Return a case in which one voxel has label 1 and one has label 2."""
    case = prepared(number, slices)
    labels = np.zeros((1, slices, ROWS, COLUMNS), np.uint8)
    for label, voxel in enumerate(voxels, start=1):
        labels[(0, *voxel)] = label
    role = LabelRole("lesion", {"first": (1,), "second": (2,)})
    return sample_of({**case.arrays, "lesion": labels}, name=f"case{number}", roles={"lesion": role})


def test_patches_are_centred_on_the_labels_in_the_stated_shares():
    place = Balanced("lesion", {1: 0.5, 2: 0.3})
    data = dataset(whole([labelled(0), labelled(1, voxels=((3, 12, 9),))]), roles=("input", "lesion"), place=place,
                   patch=(1, 8, 10))  # fmt: skip
    held = [data[number]["lesion"].amax(dim=(1, 2, 3)).tolist() for number in range(400)]
    first, second = np.mean([h[0] for h in held]), np.mean([h[1] for h in held])
    assert 0.42 < first < 0.6 and 0.22 < second < 0.4
    for number in range(100):
        _, _, y, x = places(data[number]["input"][0])
        assert y.min() >= 0 and y.max() < ROWS and x.min() >= 0 and x.max() < COLUMNS


def test_labels_of_one_class_share_its_patches():
    place = Balanced("lesion", {(1, 2, 9): 1.0})
    data = dataset(whole([labelled()]), roles=("input", "lesion"), place=place, patch=(1, 8, 10))
    held = [data[number]["lesion"].amax(dim=(1, 2, 3)).tolist() for number in range(200)]
    first, second = np.mean([one[0] for one in held]), np.mean([one[1] for one in held])
    assert 0.4 < first < 0.6 and first + second == 1, "no voxel has label 9"


def test_a_label_outside_of_a_range_is_not_looked_for():
    place = Balanced("lesion", {2: 1.0})
    with pytest.raises(UserError, match="no training case has label 2 in lesion"):
        dataset([Range(labelled(), 0, 4)], roles=("input", "lesion"), place=place)
    data = dataset([Range(labelled(), 3, 6)], roles=("input", "lesion"), place=place, patch=(1, 8, 10))
    assert all(data[number]["lesion"][1].amax() == 1 for number in range(20))


def test_classes_of_cases_are_drawn_equally_often_where_asked():
    cases = [prepared(0, label="rare"), *[prepared(n, label="common") for n in range(1, 8)]]
    counts = {}
    for balanced in (False, True):
        data = dataset(whole(cases), balanced=balanced, patch=(1, 8, 8))
        drawn = [int(places(data[n]["input"])[0].flat[0]) for n in range(300)]
        counts[balanced] = drawn.count(0) / 300
    assert counts[False] < 0.2 and 0.4 < counts[True] < 0.6


def test_all_roles_of_a_patch_are_moved_together():
    """Labels are a function of the row in the whole image, and the point lies at a voxel with a known value."""
    values = np.broadcast_to(np.arange(ROWS, dtype=np.float32)[None, None, :, None], (1, SLICES, ROWS, COLUMNS)).copy()
    bands = (values // 6).astype(np.uint8)
    landmarks = np.array([[[[3.0, 15.0, 20.0, 1.0]]], [[[0.0, 0.0, 0.0, 0.0]]]])
    kinds = {
        "band": LabelRole("band", {str(n): (n,) for n in range(1, 5)}),
        "marks": PointsRole("marks", points=("middle", "absent")),
        "grade": ClassRole("grade", ("low", "high")),
    }
    arrays = {"input": values, "band": bands, "marks": landmarks, "grade": np.ones((1, 1, 1, 1), np.int16)}
    sample = sample_of(arrays, roles=kinds)
    augmentation = Augmentation(rotation=(30, 0, 0), scaling=0.2, shift=(0, 0.1, 0.1), elastic=1.0)
    names, size = ("input", "band", "marks", "grade"), (1, 17, 21)
    plain, moved = (
        dataset(whole([sample]), 2, roles=names, patch=size, augmentation=change) for change in (None, augmentation)
    )
    for number in range(12):
        patch = moved[number]
        rows = patch["input"][0].numpy()
        sure = np.abs(rows / 6 - np.rint(rows / 6)) > 0.1  # beside an edge, the nearest voxel may have the other label
        for label in range(1, 5):
            assert np.array_equal((patch["band"][label - 1] > 0.5).numpy()[sure], (rows // 6 == label)[sure])
        row, column, there = patch["marks"][0].tolist()
        assert there == 1 and patch["marks"][1].tolist() == [0, 0, 0]
        if 0 <= row <= size[1] - 1 and 0 <= column <= size[2] - 1:
            shown = map_coordinates(rows, [[row], [column]], order=1)[0]
            assert shown == pytest.approx(15, abs=0.6)
        assert patch["grade"] == 1 and patch["input"].shape == plain[number]["input"].shape
        assert not torch.equal(patch["input"], plain[number]["input"])
    assert torch.equal(moved[3]["input"], moved[3]["input"])


def test_what_a_network_sees_around_a_patch_moves_with_it():
    turning = Augmentation(rotation=(25, 0, 0), elastic=1.0)
    data = dataset(dims=2, patch=(1, 8, 10), margin=(0, 3, 5), augmentation=turning)
    for number in range(10):
        wide, narrow = data[number]["input"], data[number]["target"]
        assert wide.shape == (1, 14, 20) and narrow.shape == (1, 8, 10)
        assert torch.allclose(wide[:, 3:-3, 5:-5] + 0.25, narrow, atol=0.1)


def test_moved_patches_show_what_lies_beyond_their_edges():
    """Values grow with the row; a patch shifted by a half shows rows that were not cut without the shift."""
    data = dataset(dims=2, patch=(1, 8, 10), augmentation=Augmentation(shift=(0, 0.5, 0)), seed=(1,))
    plain = dataset(dims=2, patch=(1, 8, 10), seed=(1,))
    steps = []
    for number in range(30):
        moved, still = (places(patch["input"].round())[2][0, :, 0] for patch in (data[number], plain[number]))
        steps.append(int(moved[4] - still[4]))
        if still[0] >= 4 and still[-1] < ROWS - 4:  # else the edge of the image is near, and mirrored
            assert np.abs(moved - still - steps[-1]).max() <= 1
    assert -4 <= min(steps) < -2 and 2 < max(steps) <= 4


def test_intensities_change_in_images_only_and_in_the_range_of_the_networks():
    kinds = {"lesion": LabelRole("lesion", {"first": (1,), "second": (2,)})}
    codecs = {"input": Window(low=0, high=1e6, to=(0, 1))}
    arrays = {"input": prepared().arrays["input"], "lesion": labelled().arrays["lesion"]}
    sample = sample_of(arrays, roles=kinds, codecs=codecs)
    options = {"roles": ("input", "lesion"), "patch": (2, 8, 10)}
    bright = dataset(whole([sample]), augmentation=Augmentation(brightness=0.3), **options)
    plain = dataset(whole([sample]), **options)
    steps = [float((bright[n]["input"] - plain[n]["input"]).mean()) for n in range(40)]
    assert -0.3 <= min(steps) < -0.15 and 0.15 < max(steps) <= 0.3
    assert all(torch.equal(bright[n]["lesion"], plain[n]["lesion"]) for n in range(40))
    with pytest.raises(UserError, match=r"--varied-images t9: the images are input"):
        dataset(whole([sample]), augmentation=Augmentation(brightness=0.1, varied_images=("t9",)), **options)


def test_uneven_brightness_leaves_what_has_no_signal_and_stays_within_the_range():
    values = np.full((1, SLICES, ROWS, COLUMNS), 90.0, np.float32)
    values[..., :15, :] = 0
    codec = Window(low=-20, high=100, to=(-1, 1), clip=True, unit="a.u.")
    sample = sample_of({"input": values}, codecs={"input": codec})
    options = {"roles": ("input",), "patch": (1, ROWS, COLUMNS), "dims": 2}
    plain, changed = (dataset(whole([sample]), augmentation=one, **options) for one in (None, Augmentation(bias=2.0)))
    lit = []
    for number in range(20):
        still, new = plain[number]["input"], changed[number]["input"]
        assert torch.allclose(new[:, :15], still[:, :15], atol=1e-6) and new.max() <= 1
        lit.append(new[:, 15:])
    assert torch.stack(lit).max() == 1 and torch.stack(lit).min() < 0.5


def test_changed_patches_do_not_depend_on_workers_or_on_where_counting_begins():
    changed = dataset(
        dims=2, patch=(1, 8, 10), augmentation=mild(("input",)), codecs={"input": Window(low=0, high=1e6)}
    )
    straight = take(batches(changed, 4), 5)
    assert equal(take(batches(changed, 4, workers=2, drawn=2), 3), straight[2:])
    assert not equal(straight, take(batches(dataset(dims=2, patch=(1, 8, 10)), 4), 5))


def test_a_transform_sees_all_roles_of_a_patch_in_physical_units():
    def brighter(patch, rng):
        return {**patch, "input": patch["input"] + rng.integers(1, 3)}

    data = dataset(transform=brighter)
    steps = {float((data[n]["target"] - data[n]["input"]).flatten()[0]) for n in range(20)}
    assert steps == {0.25 - 1, 0.25 - 2}
    assert torch.equal(data[3]["input"], data[3]["input"])


def test_codecs_are_bound_to_the_case_of_the_patch():
    codec = PercentileWindow(p_low=0, p_high=100, to=(0.0, 1.0), unit=None)
    cases = [sample_of({"input": scale * np.linspace(0, 1, 2 * 9 * 11, dtype=np.float32).reshape(1, 2, 9, 11)},
                       name=f"c{scale}", codecs={"input": codec}) for scale in (1, 50)]  # fmt: skip
    data = dataset(whole(cases), roles=("input",), patch=(2, 9, 11))
    for number in range(10):
        assert data[number]["input"].min() == 0 and data[number]["input"].max() == pytest.approx(1)


def test_a_role_that_no_case_has_is_named():
    with pytest.raises(UserError, match="has the roles input, sketch: none has sketch; call"):
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
    assert equal(take(batches(data, 4), 5), take(batches(dataset(flips=(1,)), 4), 5))
    assert not equal(take(batches(data, 4), 1), take(batches(dataset(flips=(1,), seed=(4,)), 4), 1))
    first = take(batches(data, 4), 1)[0]
    assert all(torch.equal(first["target"][n], data[n]["target"]) for n in range(4))
    assert torch.equal(data[7]["target"], data[7]["target"])


@given(st.integers(0, 12))
@settings(max_examples=8, deadline=None)
def test_a_stream_goes_on_where_it_was_left(drawn):
    whole_way = take(batches(dataset(), 3), 15)
    later = batches(dataset(), 3, drawn=drawn)
    assert equal(take(later, 15 - drawn), whole_way[drawn:]) and later.drawn == 15


@pytest.mark.parametrize("world", [2, 3])
def test_the_shares_of_the_processes_are_the_whole_batch(world):
    parts = [take(batches(dataset(), 6, rank, world, drawn=2), 3) for rank in range(world)]
    joined = [{role: torch.cat([part[role] for part in row]) for role in row[0]} for row in zip(*parts, strict=True)]
    assert equal(joined, take(batches(dataset(), 6, drawn=2), 3))


def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(UserError, match="--batch-size 4: not a multiple of the 3 processes"):
        batches(dataset(), 4, 0, 3)


def test_workers_give_the_same_batches():
    assert equal(take(batches(dataset(), 4, workers=2, drawn=1), 4), take(batches(dataset(), 4, drawn=1), 4))


@pytest.mark.parametrize("workers", [0, 1])
def test_opening_a_stream_moves_no_random_number(workers):
    before = torch.get_rng_state()
    next(batches(dataset(), 4, workers=workers))
    assert torch.equal(before, torch.get_rng_state())


@given(st.lists(st.tuples(st.integers(1, 12), st.integers(0, 2)), min_size=1, max_size=6))
@settings(deadline=None)
def test_held_out_slices_are_in_no_training_range(shapes):
    cases = [prepared(n, slices, subject=f"s{subject}") for n, (slices, subject) in enumerate(shapes)]
    kept, held = hold_out(whole(cases))
    at = lambda ranges: {(r.sample.case.name, z) for r in ranges for z in range(r.start, r.stop)}  # noqa: E731
    everything = at(whole(cases))
    subjects = {case.case.subject: 0 for case in cases}
    for case in cases:
        subjects[case.case.subject] += case.shape[0]
    if any(total > 1 for total in subjects.values()):
        assert at(kept) | at(held) <= everything and not at(kept) & at(held)
        lost = everything - at(kept) - at(held)
        assert len(lost) <= 0.15 * len(everything)
        assert all({(name, z - 2), (name, z - 1), (name, z + 1), (name, z + 2)} & at(held) for name, z in lost)
        assert len(at(held)) <= max(0.16 * len(everything), len(subjects)) + len(subjects)
    assert kept and held and all(item.slices > 0 for item in [*kept, *held])


@pytest.mark.parametrize(("slices", "fewest"), [((9,), 2), ((3, 3), 5), ((40,), 2), ((1, 2, 9), 4), ((2, 2), 9)])
def test_as_many_slices_are_held_out_as_the_scores_need_and_one_of_every_subject_is_left(slices, fewest):
    cases = [prepared(n, count, subject=f"s{n}") for n, count in enumerate(slices)]
    kept, held = hold_out(whole(cases), fewest=fewest)
    assert sum(item.slices for item in held) >= min(fewest, sum(slices) - len(slices))
    assert {item.sample.case.subject for item in kept} == {case.case.subject for case in cases}


def spans(ranges):
    return [(item.start, item.stop) for item in ranges]


def test_blocks_spread_through_a_volume_are_held_out_with_a_gap():
    kept, held = hold_out([Range(prepared(0, 102), 1, 101)])
    assert spans(held) == [(22, 27), (48, 53), (74, 79)]
    assert spans(kept) == [(1, 20), (29, 46), (55, 72), (81, 101)]
    kept, held = hold_out(whole([prepared(0, 40)]))
    assert spans(held) == [(17, 23)] and spans(kept) == [(0, 15), (25, 40)]
    kept, held = hold_out(whole([prepared(0, 6)]))
    assert spans(held) == [(2, 3)] and spans(kept) == [(0, 2), (3, 6)], "so few slices have no room for a gap"


@pytest.mark.parametrize(("deep", "blocks"), [(1, 3), (17, 3), (18, 2), (24, 2), (30, 1), (60, 1)])
def test_pieces_between_blocks_are_as_deep_as_patches(deep, blocks):
    kept, held = hold_out(whole([prepared(0, 100)]), deep=deep)
    assert len(held) == blocks
    assert min(item.slices for item in kept) >= deep
    assert (spans(held)[-1][1] == 100) == (deep == 60), "in the end the last slices"


@pytest.mark.parametrize("fewest", [1, 5, 14, 17, 30])
@pytest.mark.parametrize("slices", [2, 5, 14, 18, 31])
def test_as_many_slices_as_asked_for_are_held_out_whatever_the_blocks(slices, fewest):
    kept, held = hold_out(whole([prepared(0, slices)]), fewest=fewest)
    assert sum(item.slices for item in held) == min(slices - 1, max(fewest, round(0.15 * slices)))
    assert kept


def test_fewer_validation_images_than_the_scores_need_are_refused():
    task = SimpleNamespace(fewest_validation_images=2, images_in=lambda slices: slices)
    check_validation(task, whole([prepared(0, 2)]))
    with pytest.raises(UserError, match=r"validation: 1 image, but the scores compare sets of at least 2; name more"):
        check_validation(task, whole([prepared(0, 1)]))
    volumes = SimpleNamespace(fewest_validation_images=2, images_in=lambda slices: 1)
    check_validation(volumes, whole([prepared(0, 9), prepared(1, 9)]))
    with pytest.raises(UserError, match="validation: 1 image, "):
        check_validation(volumes, whole([prepared(0, 9)]))


class Picky:
    """Task that may be trained on some slices only."""

    def __init__(self, fit):
        self.fit = fit

    def trainable_slices(self, sample):
        return None if self.fit is None else np.array(self.fit)


@given(st.none() | st.lists(st.booleans(), min_size=SLICES, max_size=SLICES))
@settings(deadline=None)
def test_only_slices_fit_for_training_are_in_a_range(fit):
    found = usable(Picky(fit), [prepared()])
    inside = {index for item in found for index in range(item.start, item.stop)}
    assert inside == {index for index in range(SLICES) if fit is None or fit[index]}
    assert sum(item.slices for item in found) == len(inside)


def test_a_sample_carries_its_label():
    role = ClassRole("label", ("c", "a", "b"))
    cases = [
        sample_of(
            {**prepared(n).arrays, "label": role.array(label, None)},
            name=f"case{n}",
            label=label,
            roles={"label": role},
        )
        for n, label in enumerate("abc")
    ]
    data = dataset(whole(cases), 2, roles=("input", "label"), patch=(1, 8, 8), flips=(1,), quarter_turns=True)
    for number in range(20):
        sample = data[number]
        case = int(sample["input"].min() // 100_000)
        assert "cab"[int(sample["label"])] == "abc"[case]
    assert next(batches(data, 4))["label"].shape == (4,)


def test_quarter_turns_turn_all_roles_alike():
    data = dataset(whole([prepared()]), patch=(1, 8, 8), quarter_turns=True)
    steps = set()
    for number in range(30):
        sample = data[number]
        torch.testing.assert_close(sample["target"], sample["input"] + 0.25)
        steps.add(float(sample["input"][0, 0, 0, 1] - sample["input"][0, 0, 0, 0]))
    assert steps == {1.0, -1.0, 100.0, -100.0}


def test_points_of_a_range_stay_where_they_are():
    role = PointsRole("tips", ("a", "b"))
    points = np.array([[3.0, 12.0, 20.0, 1.0], [0.0, 1.0, 2.0, 0.0]], np.float32)[:, None, None]
    case = sample_of({**prepared().arrays, "tips": points}, roles={"tips": role})
    data = dataset([Range(case, 2, 6)], roles=("input", "tips"), patch=(1, 30, 40))
    for number in range(20):
        drawn = data[number]
        _, z, y, x = places(drawn["input"])
        place, present = drawn["tips"][0, :3], drawn["tips"][:, -1]
        assert (place + torch.tensor([z.min(), y.min(), x.min()])).tolist() == [3, 12, 20]
        assert present.tolist() == [1, 0]


def test_batches_lack_an_optional_stream_without_cases():
    first = Stream("annotated", ("input", "target"), 2, (1, 8, 8))
    bare = Stream("bare", ("input",), 2, (1, 8, 8), without=("target",), optional=True)
    both = [prepared(0), prepared(1, roles=("input",))]
    for cases, names in ((both, ["annotated", "bare"]), (both[:1], ["annotated"])):
        drawn = next(Batches(datasets(whole(cases), [first, bare], (), 2, (3,)), [first, bare]))
        assert list(drawn) == names and drawn["annotated"]["target"].shape == (2, 1, 8, 8)
    with pytest.raises(UserError, match="no training case has the roles input without target"):
        datasets(whole(both[:1]), [first, replace(bare, optional=False)], (), 2, (3,))
    with pytest.raises(UserError, match="no training case has the roles input, target"):
        datasets(whole(both[1:]), [replace(first, optional=True), bare], (), 2, (3,))
