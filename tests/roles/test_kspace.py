import numpy as np
import pytest

from ganatomy.case import Preparation
from ganatomy.errors import UserError
from ganatomy.images.files import find
from ganatomy.images.frames import Frame
from ganatomy.images.image import Image
from ganatomy.roles.image import ImageRole
from ganatomy.roles.kspace import KSpaceRole

RAW = KSpaceRole("raw", coils=2)


def measured(shape=(3, 2, 8, 6)):
    """Return k-space (slices, coils, rows, columns) with zero frequency in the middle."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=shape) + 1j * rng.normal(size=shape)
    values[:, :, shape[2] // 2, shape[3] // 2] += 40
    return values.astype(np.complex64)


@pytest.fixture
def scan(tmp_path):
    np.save(tmp_path / "scan.npy", measured())
    (source,) = find(tmp_path / "scan.npy")
    return RAW.source("scan.npy", tmp_path, lambda path: source).open()


@pytest.mark.parametrize(
    "preparation", [Preparation(), Preparation(size=(8, 6)), Preparation(size=(4, 4), fit="patches")]
)
def test_raw_data_are_taken_as_they_are(scan, preparation):
    RAW.check(scan)
    frame = RAW.plan(scan, preparation)
    assert frame.identity
    array = RAW.array(scan, frame)
    assert array is scan.array and array.shape == (4, 3, 8, 6) == (RAW.channels, *scan.shape)
    np.testing.assert_array_equal(np.asarray(array)[2:], [measured()[:, 1].real, measured()[:, 1].imag])
    back = RAW.value(array, frame, scan)
    assert back.header is scan.header and back.unit == "a.u."
    np.testing.assert_array_equal(RAW.value(np.asarray(array), frame, None).numpy(), scan.numpy())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": (2, 8, 6)}, r"\(2, 8, 6\) samples"),
        ({"spacing": (1.0, 1.0, 1.0)}, "a spacing of"),
    ],
)
def test_raw_data_are_not_resampled(scan, options, words):
    with pytest.raises(UserError, match=words):
        RAW.plan(scan, Preparation(**options))
    with pytest.raises(ValueError, match="never resampled"):
        RAW.array(scan, Frame.plan(scan, "stored", size=(2, 8, 6)))


@pytest.mark.parametrize("size", [(9, 8), (6, 6), (5, 9)])
def test_raw_data_of_another_size_are_padded_or_cropped_and_come_back(scan, size):
    frame = RAW.plan(scan, Preparation(size=size))
    array, gain = RAW.array(scan, frame), np.sqrt(np.prod(size) / 48)
    assert array.shape == (4, 3, *size) == (4, *frame.size)
    middle = np.asarray(array)[..., size[0] // 2 - 2 : size[0] // 2 + 2, size[1] // 2 + 1]
    np.testing.assert_allclose(middle, gain * scan.numpy()[..., 2:6, 4], rtol=1e-5)
    assert np.count_nonzero(np.asarray(array)[0, 0]) == min(size[0], 8) * min(size[1], 6)
    back = RAW.value(array, frame, scan)
    assert back.shape == scan.shape and back.header is scan.header
    np.testing.assert_allclose(back.numpy(), scan.numpy(), rtol=1e-5)
    doubled = RAW.value(2 * np.asarray(array), frame, scan).numpy() / scan.numpy()
    assert np.isin(doubled.round(4), [1, 2]).all(), "what the system does not reach is what was measured"
    assert (doubled.round(4) == 2)[0, 0].sum() == min(size[0], 8) * min(size[1], 6)


def test_images_and_other_coils_are_refused(scan):
    with pytest.raises(UserError, match="an image, but raw is raw MR data"):
        RAW.check(Image.from_array(np.zeros((4, 3, 8, 6))))
    with pytest.raises(UserError, match="2 coils, but raw has 1"):
        KSpaceRole("raw").check(scan)
    with pytest.raises(UserError, match="only systems that reconstruct"):
        ImageRole("t1").check(scan)


def test_patches_are_whole_slices(scan):
    array = np.asarray(RAW.array(scan, None))
    patch = RAW.cut(scan.array, (-1, 0, 0), (3, 8, 6))
    np.testing.assert_array_equal(patch, array[:, [1, 0, 1]])
    for start, size in (((0, 0, 0), (1, 4, 6)), ((0, 1, 0), (1, 8, 6))):
        with pytest.raises(ValueError, match="taken whole"):
            RAW.cut(array, start, size)
    np.testing.assert_array_equal(RAW.flip(patch, (0,)), patch[:, ::-1])
    np.testing.assert_array_equal(RAW.flip(RAW.flip(patch, (0,)), (0,)), patch)
    with pytest.raises(ValueError, match="axis 0 only"):
        RAW.flip(patch, (1,))
    with pytest.raises(ValueError, match="no quarter turns"):
        RAW.quarter_turns(patch, 2)
    assert RAW.quarter_turns(patch, 0) is patch
    assert RAW.tensor(patch[:, :1], 2).shape == (4, 8, 6) == RAW.example((8, 6), None).shape


def test_what_is_written_is_read_again(tmp_path, scan):
    RAW.write(tmp_path / "b.npy", scan)
    np.testing.assert_array_equal(np.load(tmp_path / "b.npy"), measured())
    (source,) = find(tmp_path / "b.npy")
    np.testing.assert_array_equal(source.open().numpy(), scan.numpy())
    with pytest.raises(UserError, match=r"choose \.npy"):
        RAW.write(tmp_path / "b.nii", scan)
