import nibabel
import numpy as np
import pytest
import SimpleITK

from ganatomy.errors import UserError
from ganatomy.images.files import find, read, write
from ganatomy.images.image import Image, RasterMeaning

ROTATED = nibabel.affines.from_matvec(nibabel.eulerangles.euler2mat(0.3, -0.2, 0.5) * [0.5, 0.7, 2.5], [12, -30, 7])
"""Matrix from (column, row, slice) to mm in RAS+."""
SUFFIXES = [".mha", ".mhd", ".nrrd", ".nhdr"]


def voxels(shape=(5, 6, 7), dtype=np.int16):
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


def written_by_itk(path, array, compressed=False, vector=False, affine=ROTATED):
    """Write an array (slices, rows, columns) with SimpleITK."""
    image = SimpleITK.GetImageFromArray(array, isVector=vector)
    lps = np.diag([-1, -1, 1, 1]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    SimpleITK.WriteImage(image, str(path), compressed)
    return path


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("compressed", [False, True])
def test_values_and_places_agree_with_itk(tmp_path, suffix, compressed):
    image = read(written_by_itk(tmp_path / f"a{suffix}", voxels(), compressed))
    np.testing.assert_array_equal(image.numpy()[0], voxels())
    np.testing.assert_allclose(image.affine[:, [2, 1, 0, 3]], ROTATED, atol=1e-9)
    assert (image.dtype, image.unit, image.header.kind) == (np.int16, None, "itk")


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
@pytest.mark.parametrize("channels", [1, 2, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_round_trip_is_exact_and_itk_reads_it(tmp_path, suffix, channels, dtype):
    array = voxels((channels, 5, 6, 7), dtype)
    image = Image(array, ROTATED[:, [2, 1, 0, 3]], "HU")
    write(tmp_path / f"a{suffix}", image)
    back = read(tmp_path / f"a{suffix}")
    assert (back.dtype, back.unit) == (dtype, "HU")
    np.testing.assert_array_equal(back.numpy(), array)
    np.testing.assert_allclose(back.affine, image.affine, atol=1e-12)
    foreign = SimpleITK.ReadImage(str(tmp_path / f"a{suffix}"))
    np.testing.assert_allclose(foreign.GetSpacing(), (0.5, 0.7, 2.5))
    np.testing.assert_allclose(foreign.GetOrigin(), (-12, 30, 7))
    np.testing.assert_array_equal(np.squeeze(np.moveaxis(array, 0, -1)), SimpleITK.GetArrayFromImage(foreign))
    assert [path.name for path in tmp_path.iterdir()] == [f"a{suffix}"]


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_equal_images_are_equal_files_and_masks_are_bytes(tmp_path, suffix):
    image = Image.from_array(voxels() > 100, (2.5, 0.7, 0.5))
    for name in ("a", "b"):
        write(tmp_path / f"{name}{suffix}", image)
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()
    assert read(tmp_path / f"a{suffix}").dtype == np.uint8


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_sheared_and_flat_images(tmp_path, suffix):
    sheared = Image(
        voxels((1, 5, 6, 7)), ROTATED[:, [2, 1, 0, 3]] @ [[1, 0, 0, 0], [0.2, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    )
    write(tmp_path / f"a{suffix}", sheared)
    np.testing.assert_allclose(read(tmp_path / f"a{suffix}").affine, sheared.affine, atol=1e-9)
    flat = SimpleITK.GetImageFromArray(voxels((6, 7)))
    flat.SetSpacing((0.5, 0.7))
    SimpleITK.WriteImage(flat, str(tmp_path / f"b{suffix}"))
    image = read(tmp_path / f"b{suffix}")
    assert (image.shape, image.spacing) == ((1, 6, 7), (1.0, 0.7, 0.5))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_time_frames_and_colours_are_channels(tmp_path, suffix):
    series = SimpleITK.GetImageFromArray(voxels((4, 5, 6, 7)), isVector=False)
    SimpleITK.WriteImage(series, str(tmp_path / f"a{suffix}"))
    np.testing.assert_array_equal(read(tmp_path / f"a{suffix}").numpy(), voxels((4, 5, 6, 7)))
    image = read(written_by_itk(tmp_path / f"b{suffix}", voxels((5, 6, 7, 3), np.uint8), vector=True))
    np.testing.assert_array_equal(image.numpy(), np.moveaxis(voxels((5, 6, 7, 3), np.uint8), -1, 0))
    assert image.header.colours


@pytest.mark.parametrize(("unit", "mm"), [("m", 1000.0), ("mm", 1.0), ("um", 0.001), ("", 1.0)])
def test_every_unit_of_length_becomes_mm(tmp_path, unit, mm):
    path = written_by_itk(tmp_path / "a.nrrd", voxels())
    units = f'space units: "{unit}" "{unit}" "{unit}"\nencoding'.encode()
    path.write_bytes(path.read_bytes().replace(b"encoding", units, 1))
    np.testing.assert_allclose(read(path).spacing, np.array([2.5, 0.7, 0.5]) * mm)
    np.testing.assert_allclose(read(path).affine[:3, 3], ROTATED[:3, 3] * mm)
    path.write_bytes(path.read_bytes().replace(f'"{unit}" '.encode(), b'"degree" ', 1))
    with pytest.raises(UserError, match=r"a\.nrrd: its distances are in"):
        read(path)


@pytest.mark.parametrize("suffix", [".mhd", ".nhdr"])
def test_voxels_beside_the_header_belong_to_the_image(tmp_path, suffix):
    written_by_itk(tmp_path / f"a{suffix}", voxels())
    (source,) = find(tmp_path)
    assert [path.name for path in source.paths] == [f"a{suffix}", "a.raw"]
    for name in ("../a.raw", "/etc/passwd", "LIST", "s%03d.raw 1 5 1", "gone.raw"):
        text = (tmp_path / f"a{suffix}").read_bytes().replace(b"a.raw", name.encode())
        (tmp_path / f"b{suffix}").write_bytes(text)
        with pytest.raises(UserError, match=rf"b\{suffix}.*(not in one file|cannot be read)"):
            read(tmp_path / f"b{suffix}")
    with pytest.raises(UserError, match=r"choose \.mha or \.nrrd"):
        write(tmp_path / f"c{suffix}", source.open())


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("compressed", [False, True])
def test_truncated_files_are_named(tmp_path, suffix, compressed):
    path = written_by_itk(tmp_path / f"a{suffix}", voxels((9, 20, 20)), compressed)
    data = max(tmp_path.iterdir(), key=lambda file: file.stat().st_size)
    data.write_bytes(data.read_bytes()[:-800])
    with pytest.raises(UserError, match=rf"a\.{suffix[1:]}|a\.z?raw"):
        read(path)


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
@pytest.mark.parametrize(
    "content", [b"", b"nothing", b"NRRD0004\n", b"ObjectType = Image\nNDims = 99\nElementDataFile = LOCAL\n"]
)
def test_other_files_are_no_images(tmp_path, suffix, content):
    (tmp_path / f"a{suffix}").write_bytes(content)
    with pytest.raises(UserError, match=rf"a\{suffix}"):
        read(tmp_path / f"a{suffix}")


def test_complex_numbers_and_volumes_of_vectors_over_time_are_refused(tmp_path):
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(voxels().astype(np.complex64)), str(tmp_path / "a.nrrd"))
    with pytest.raises(UserError, match="real numbers"):
        read(tmp_path / "a.nrrd")
    several = SimpleITK.GetImageFromArray(voxels((2, 5, 6, 7, 3)), isVector=True)
    SimpleITK.WriteImage(several, str(tmp_path / "b.mha"))
    with pytest.raises(UserError, match="2 volumes of 3 channels"):
        read(tmp_path / "b.mha")


def test_a_unit_of_the_user_holds_where_the_file_has_none(tmp_path):
    for name in ("a.nrrd", "a.nii.gz", "a.mgz"):
        write(tmp_path / name, Image.from_array(voxels()))
        assert read(tmp_path / name, meaning=RasterMeaning(unit="HU")).unit == "HU"
    write(tmp_path / "b.nii.gz", Image.from_array(voxels(), unit="a.u."))
    assert read(tmp_path / "b.nii.gz", meaning=RasterMeaning(unit="HU")).unit == "a.u."
    # A slope says that the numbers of pictures are HU, and nothing about other files.
    assert read(tmp_path / "a.nii.gz", meaning=RasterMeaning(intercept=-1024, unit="HU")).unit is None


@pytest.mark.parametrize("name", ["a.nrrd", "a.nii.gz", "a.mgz", "a.npy", "a.tif"])
def test_nan_is_replaced_where_the_user_says_by_what(tmp_path, name):
    values = voxels((5, 6, 7), np.float32)
    values[:, 0] = np.nan
    write(tmp_path / name, Image.from_array(values))
    assert np.isnan(read(tmp_path / name).numpy()).any()
    (source,) = find(tmp_path / name, meaning=RasterMeaning(nan=-1024))
    filled = np.where(np.isnan(values), -1024, values)
    np.testing.assert_array_equal(source.open().numpy()[0], filled)
    assert source.labelled().open().numpy()[0, :, 0].max() == 0


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_flipped_and_added_bits_of_compressed_voxels_are_noticed(tmp_path, suffix):
    path = written_by_itk(tmp_path / f"a{suffix}", voxels((9, 20, 20)), compressed=True)
    data = max(tmp_path.iterdir(), key=lambda file: file.stat().st_size)
    sound = data.read_bytes()
    for place in range(len(sound) - 3000, len(sound), 199):
        for damaged in (bytes([sound[place] ^ 64]) + sound[place + 1 :], b"more" + sound[place:]):
            data.write_bytes(sound[:place] + damaged)
            with pytest.raises(UserError, match=rf"a\.{suffix[1:]}"):
                read(path)


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_names_that_itk_cannot_take_are_refused_before_it_ends_the_process(tmp_path, suffix):
    write(tmp_path / f"a{suffix}", Image.from_array(np.arange(60, dtype=np.int16).reshape(3, 4, 5)))
    strange = tmp_path / f"\udcff{suffix}"
    try:
        (tmp_path / f"a{suffix}").rename(strange)
    except OSError:
        pytest.skip("this file system takes no such names")
    (source,) = find(strange)
    with pytest.raises(UserError, match="no UTF-8, which ITK needs"):
        source.open()
    with pytest.raises(UserError, match="no UTF-8, which ITK needs"):
        write(tmp_path / f"\udcfe{suffix}", Image.from_array(np.zeros((3, 4, 5), np.int16)))
