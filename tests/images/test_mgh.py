import nibabel
import numpy as np
import pytest

from ganatomy.errors import UserError
from ganatomy.images.files import read, write
from ganatomy.images.image import Image

ROTATED = nibabel.affines.from_matvec(nibabel.eulerangles.euler2mat(0.3, -0.2, 0.5) * [0.5, 0.7, 2.5], [12, -30, 7])
"""Matrix from (column, row, slice) to mm in RAS+."""


def voxels(shape=(7, 6, 5), dtype=np.int16):
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


@pytest.mark.parametrize("suffix", [".mgz", ".mgh"])
@pytest.mark.parametrize("shape", [(7, 6, 5), (7, 6, 5, 3)])
def test_values_and_places_agree_with_nibabel(tmp_path, suffix, shape):
    nibabel.MGHImage(voxels(shape), ROTATED).to_filename(tmp_path / f"a{suffix}")
    image = read(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(image.numpy(), np.atleast_3d(voxels(shape)).T.reshape(-1, 5, 6, 7))
    np.testing.assert_allclose(image.affine[:, [2, 1, 0, 3]], ROTATED, atol=1e-5)
    assert image.dtype == np.int16 and image.dtype.isnative


@pytest.mark.parametrize("suffix", [".mgz", ".mgh"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32])
def test_round_trip_is_exact(tmp_path, suffix, channels, dtype):
    array = voxels((channels, 5, 6, 7), dtype)
    image = Image(array, ROTATED[:, [2, 1, 0, 3]])
    write(tmp_path / f"a{suffix}", image)
    back = read(tmp_path / f"a{suffix}")
    assert back.dtype == dtype
    np.testing.assert_array_equal(back.numpy(), array)
    np.testing.assert_allclose(back.affine, image.affine, atol=1e-5)
    foreign = nibabel.load(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(np.squeeze(array).T, np.asarray(foreign.dataobj))
    np.testing.assert_allclose(foreign.header.get_zooms()[:3], (0.5, 0.7, 2.5), rtol=1e-6)


def test_what_the_format_lacks_is_widened_or_refused(tmp_path):
    write(tmp_path / "a.mgz", Image.from_array(voxels(dtype=np.uint16)))
    assert read(tmp_path / "a.mgz").dtype == np.int32
    with pytest.raises(UserError, match="holds no float64"):
        write(tmp_path / "b.mgz", Image.from_array(voxels(dtype=np.float64)))
    sheared = Image.from_array(voxels())
    sheared.affine[1, 0] = 0.4
    with pytest.raises(UserError, match="sheared"):
        write(tmp_path / "b.mgz", sheared)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mgz"]


@pytest.mark.parametrize("suffix", [".mgz", ".mgh"])
@pytest.mark.parametrize("keep", [0, 100, 300])
def test_truncated_files_are_named(tmp_path, suffix, keep):
    nibabel.MGHImage(voxels((20, 20, 20)), ROTATED).to_filename(tmp_path / f"a{suffix}")
    (tmp_path / f"a{suffix}").write_bytes((tmp_path / f"a{suffix}").read_bytes()[:keep])
    with pytest.raises(UserError, match=rf"a\{suffix}"):
        read(tmp_path / f"a{suffix}")


def test_a_flipped_bit_and_further_voxels_are_noticed(tmp_path):
    nibabel.MGHImage(voxels(), ROTATED).to_filename(tmp_path / "a.mgz")
    sound = (tmp_path / "a.mgz").read_bytes()
    for place in range(len(sound) - 200, len(sound) - 4, 29):
        (tmp_path / "a.mgz").write_bytes(sound[:place] + bytes([sound[place] ^ 64]) + sound[place + 1 :])
        with pytest.raises(UserError, match=r"a\.mgz"):
            read(tmp_path / "a.mgz")
    nibabel.MGHImage(voxels(), ROTATED).to_filename(tmp_path / "a.mgh")
    with (tmp_path / "a.mgh").open("ab") as stream:
        stream.write(bytes(1 << 21))
    with pytest.raises(UserError, match="holds more than"):
        read(tmp_path / "a.mgh")
