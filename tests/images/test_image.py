import errno
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ganatomy.errors import UserError
from ganatomy.images.image import ComputedArray, Image, Rescale, uneven_steps
from ganatomy.images.paths import distinct_names, replacing, replacing_folder, safe_name, unique_name


def test_flat_grey_arrays_gain_slices_and_channels():
    image = Image.from_array(np.zeros((4, 5), np.int16), spacing=(3.0, 0.5, 0.25), unit="HU")
    assert image.array.shape == (1, 1, 4, 5)
    assert image.shape == (1, 4, 5)
    assert image.spacing == (3.0, 0.5, 0.25)
    assert image.dtype == np.int16


def test_affine_is_axial_in_ras():
    affine = Image.from_array(np.zeros((2, 4, 5)), spacing=(3.0, 0.5, 0.25)).affine
    np.testing.assert_allclose(affine @ [1, 2, 4, 1], [-1.0, -1.0, 3.0, 1.0])


@pytest.mark.parametrize("shape", [(3,), (1, 1, 1, 1, 1)])
def test_other_numbers_of_axes_are_refused(shape):
    with pytest.raises(UserError, match="2, 3 or 4 axes"):
        Image.from_array(np.zeros(shape))


def test_with_array_keeps_the_unit_unless_told_and_checks_the_grid():
    image = Image.from_array(np.zeros((2, 4, 5)), unit="HU")
    assert image.with_array(np.ones((3, 2, 4, 5))).unit == "HU"
    assert image.with_array(np.ones((1, 2, 4, 5), bool), unit=None).unit is None
    with pytest.raises(ValueError, match="does not lie"):
        image.with_array(np.zeros((1, 2, 4, 6)))


def test_computed_arrays_work_only_when_asked():
    asked = []

    def compute(start, stop):
        asked.append((start, stop))
        return np.full((1, stop - start, 2, 2), start)

    image = Image.from_array(np.zeros((5, 2, 2))).with_array(ComputedArray((1, 5, 2, 2), np.int16, compute, 2))
    assert not asked
    assert [slab.shape[1] for slab in image.slabs()] == [2, 2, 1]
    assert asked == [(0, 2), (2, 4), (4, 5)]
    assert np.asarray(image.array).dtype == np.int16


def test_computed_arrays_refuse_another_shape_than_promised():
    with pytest.raises(ValueError, match="shape"):
        ComputedArray((1, 4, 2, 2), np.float32, lambda start, stop: np.zeros((1, 1, 2, 2))).slab(0, 2)


def test_images_travel_to_worker_processes():
    image = pickle.loads(pickle.dumps(Image.from_array(np.arange(4).reshape(2, 2), unit="HU")))
    assert image.unit == "HU"
    assert image.numpy().tolist() == [[[[0, 1], [2, 3]]]]


def test_uneven_steps_finds_gaps_doubles_and_drift():
    regular = np.arange(6)[:, None] * np.array([0.0, 0.4, 2.5])
    assert not uneven_steps(regular).any()
    assert not uneven_steps(regular + np.linspace(0, 0.009, 6)[:, None]).any()
    assert uneven_steps(np.delete(regular, 3, axis=0)).tolist() == [False, False, True, False]
    assert uneven_steps(regular[[0, 1, 1, 2, 3]]).tolist() == [False, True, False, False]
    assert uneven_steps(regular + np.eye(6, 3)).any()
    assert not uneven_steps(regular[:1]).any()


@given(
    st.sampled_from([np.int8, np.uint8, np.int16, np.uint16, np.int32]),
    st.integers(-5, 5).filter(bool),
    st.integers(-70000, 70000),
)
def test_integral_rescales_are_exact_over_the_whole_range(kind, slope, intercept):
    stored = np.array([np.iinfo(kind).min, 0, 1, np.iinfo(kind).max], kind)
    rescale = Rescale(float(slope), float(intercept))
    values = rescale.apply(stored, rescale.dtype(stored.dtype))
    assert values.dtype.kind in "iu"
    assert [int(v) for v in values] == [int(s) * slope + intercept for s in stored]


def test_rescale_types():
    twelve_bits = np.dtype(np.uint16), 0, 4095
    assert Rescale(1, -1024).dtype(*twelve_bits) == np.int16
    assert Rescale(1, -1024).dtype(np.dtype(np.uint16)) == np.int32
    assert Rescale(0.5, 0).dtype(*twelve_bits) == np.float32
    assert Rescale().dtype(np.dtype(">i2")) == np.int16


@given(st.text())
def test_safe_names_stay_in_their_folder(text):
    name = safe_name(text)
    assert 0 < len(name.encode()) <= 101
    assert not name.startswith(".")
    assert not set(name) & set("/\\:\0\n ")
    assert safe_name(name) == name


@pytest.mark.parametrize("text", ["../../etc/passwd", "..", "", "a/b\\c", "/root", "con", "COM1.txt", ".hidden"])
def test_safe_names_of_hostile_texts(tmp_path, text):
    path = (tmp_path / safe_name(text)).resolve()
    assert path.parent == tmp_path.resolve()
    assert path.name.lower() not in {"con", "com1.txt"}


def test_distinct_names_do_not_depend_on_their_order():
    texts = ["a b", "a_b", "a(b", "A_b", "x", "y z", "a-b"]
    names = dict(zip(texts, distinct_names(texts, texts), strict=True))
    assert len({name.casefold() for name in names.values()}) == len(texts)
    assert names["x"] == "x" and names["y z"] == "y_z" and names["a-b"] == "a-b"
    assert dict(zip(texts[::-1], distinct_names(texts[::-1], texts[::-1]), strict=True)) == names
    assert distinct_names(["a b", "a_b"], ["a b", "a_b"])[1] == "a_b", "who needs no cleaning keeps the name"
    assert all(safe_name(name) == name for name in names.values())
    assert len(set(distinct_names(["a", "a", "a"], ["o", "o", "o"]))) == 3


def test_unique_names_ignore_case():
    taken = set()
    assert [unique_name(name, taken) for name in ("a", "A", "a", "a_2")] == ["a", "A_2", "a_3", "a_2_2"]


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    target = tmp_path / "new" / "out.txt"
    target.parent.mkdir()
    target.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(target) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert target.read_text() == "old"
    assert [path.name for path in target.parent.iterdir()] == ["out.txt"]


def test_a_full_disk_is_told_to_the_user(tmp_path):
    with (
        pytest.raises(UserError, match=r"cannot write .*the disk is full"),
        replacing(tmp_path / "out") as temporary,
    ):
        temporary.write_text("x")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert not list(tmp_path.iterdir())


def test_folders_appear_whole_or_not_at_all_and_never_mix(tmp_path):
    target = tmp_path / "series"
    with pytest.raises(RuntimeError), replacing_folder(target) as temporary:
        (temporary / "1").write_text("x")
        raise RuntimeError
    assert not list(tmp_path.iterdir())
    with replacing_folder(target) as temporary:
        (temporary / "1").write_text("x")
    with pytest.raises(UserError, match="not an empty folder"), replacing_folder(target):
        pass
    assert [path.name for path in target.iterdir()] == ["1"]


@pytest.mark.parametrize("place", [(0, 0), (1, 3), (2, 1)])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_affine_that_is_not_finite_places_nothing(place, value):
    affine = np.eye(4)
    affine[place] = value
    with pytest.raises(UserError, match="the image in memory: its affine places no voxels"):
        Image(np.zeros((1, 2, 3, 4)), affine)


def test_an_affine_that_is_singular_places_nothing():
    for columns in ((0, 0), (0, 1), (2, 1)):
        affine = np.eye(4)
        affine[:3, columns[0]] = affine[:3, columns[1]] * (columns[0] != columns[1])
        with pytest.raises(UserError, match="its affine places no voxels"):
            Image(np.zeros((1, 2, 3, 4)), affine)
    with pytest.raises(UserError, match="its affine places no voxels"):
        Image.from_array(np.zeros((3, 4)), spacing=(1.0, 0.0, 1.0))
    with pytest.raises(ValueError, match=r"\(4, 4\)"):
        Image(np.zeros((1, 2, 3, 4)), np.eye(3))


def test_positions_of_slices_are_finite():
    with pytest.raises(UserError, match="positions of its slices"):
        Image(np.zeros((1, 2, 3, 4)), np.eye(4), offsets=np.full((2, 3), np.nan))


def test_small_and_slanted_voxels_are_voxels():
    affine = np.array([[1e-4, 0.2e-4, 0, 5], [0, 3e-4, 0, 1e4], [0, 0, 2.0, -3], [0, 0, 0, 1]])
    assert Image(np.zeros((1, 2, 3, 4)), affine).spacing[2] == 2.0
