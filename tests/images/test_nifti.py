import gzip
import pickle
import struct

import nibabel
import numpy as np
import pytest

from ganatomy.errors import UserError
from ganatomy.images.frames import Frame
from ganatomy.images.image import ComputedArray, Image
from ganatomy.images.nifti import read_nifti, write_nifti

OBLIQUE = np.array([[-0.7, 0.1, 0.3, 12.0], [0.2, 0.8, -0.2, -30.0], [0.05, 0.3, 2.5, 7.0], [0, 0, 0, 1]])


def voxels(shape=(7, 6, 5), dtype=np.int16):
    return np.random.default_rng(0).integers(-1024, 3071, shape).astype(dtype)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_values_and_world_positions_agree_with_nibabel(tmp_path, suffix):
    path = tmp_path / f"scan{suffix}"
    nibabel.Nifti1Image(voxels(), OBLIQUE).to_filename(path)
    image = read_nifti(path)
    assert image.dtype == np.int16
    assert image.shape == (5, 6, 7)
    assert image.unit is None
    np.testing.assert_array_equal(image.numpy()[0], voxels().T)
    for i, j, k in [(0, 0, 0), (6, 0, 0), (3, 5, 1), (0, 2, 4)]:
        np.testing.assert_allclose(image.affine @ [k, j, i, 1], OBLIQUE @ [i, j, k, 1], atol=1e-5)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_round_trip_is_exact(tmp_path, suffix, channels, dtype):
    array = voxels((channels, 5, 6, 7), dtype)
    write_nifti(tmp_path / f"a{suffix}", Image.from_array(array, (2.5, 0.7, 0.5), "HU"))
    back = read_nifti(tmp_path / f"a{suffix}")
    assert back.dtype == dtype
    assert back.unit == "HU"
    np.testing.assert_array_equal(back.numpy(), array)
    np.testing.assert_allclose(back.spacing, (2.5, 0.7, 0.5), rtol=1e-6)
    foreign = nibabel.load(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(np.squeeze(array).T, np.asarray(foreign.dataobj))
    assert [path.name for path in tmp_path.iterdir()] == [f"a{suffix}"]


@pytest.mark.parametrize(
    ("slope", "inter", "dtype"),
    [(1, -1024, np.int32), (2, 0, np.int32), (0.5, 1, np.float32), (1, 0, np.int16)],
)
def test_scaling_applies_only_where_there_is_some(tmp_path, slope, inter, dtype):
    file = nibabel.Nifti1Image(voxels(), OBLIQUE)
    file.header.set_slope_inter(slope, inter)
    raw = bytearray(file.to_bytes())
    raw[112:120] = np.array([slope, inter], "<f4").tobytes()
    raw[352:] = np.asarray(voxels(), "<i2").tobytes("F")
    (tmp_path / "a.nii").write_bytes(raw)
    image = read_nifti(tmp_path / "a.nii")
    assert image.dtype == dtype
    np.testing.assert_array_equal(image.numpy()[0], voxels().T.astype(np.float64) * slope + inter)


def test_big_endian_files_and_flat_ones(tmp_path):
    file = nibabel.Nifti1Image(voxels((7, 6)), np.eye(4), nibabel.Nifti1Header(endianness=">"))
    file.to_filename(tmp_path / "a.nii")
    image = read_nifti(tmp_path / "a.nii")
    assert image.array.shape == (1, 1, 6, 7)
    assert image.dtype.isnative
    np.testing.assert_array_equal(image.numpy()[0, 0], voxels((7, 6)).T)


def test_qform_and_sform_survive_as_they_were(tmp_path):
    file = nibabel.Nifti1Image(voxels(), OBLIQUE)
    file.set_sform(OBLIQUE, 4)
    file.set_qform(np.diag([0.5, 0.6, 2.0, 1.0]), 2)
    file.to_filename(tmp_path / "a.nii")
    image = read_nifti(tmp_path / "a.nii")
    write_nifti(tmp_path / "b.nii", image.with_array(image.numpy()))
    before, after = (nibabel.load(tmp_path / name).header for name in ("a.nii", "b.nii"))
    for form in ("get_qform", "get_sform"):
        matrices, codes = zip(*(getattr(header, form)(coded=True) for header in (before, after)), strict=True)
        np.testing.assert_allclose(*matrices, atol=1e-5)
        assert codes[0] == codes[1]


def test_a_new_place_replaces_the_old_forms(tmp_path):
    nibabel.Nifti1Image(voxels(), OBLIQUE).to_filename(tmp_path / "a.nii")
    image = read_nifti(tmp_path / "a.nii")
    moved = image.affine.copy()
    moved[:3, 3] += 5
    write_nifti(tmp_path / "b.nii", image.with_geometry(image.numpy(), moved))
    np.testing.assert_allclose(read_nifti(tmp_path / "b.nii").affine, moved, atol=1e-4)


def test_shear_is_in_the_sform_alone(tmp_path):
    image = Image.from_array(voxels((5, 6, 7)))
    image.affine[1, 0] = 0.4
    write_nifti(tmp_path / "a.nii", image)
    header = nibabel.load(tmp_path / "a.nii").header
    assert header["qform_code"] == 0
    np.testing.assert_allclose(header.get_zooms(), image.spacing[::-1], rtol=1e-6)
    np.testing.assert_allclose(read_nifti(tmp_path / "a.nii").affine, image.affine, atol=1e-6)


@pytest.mark.parametrize("shape", [(16, 16, 40), (16, 16, 40, 3)])
def test_slabs_of_a_compressed_file_cost_one_pass(tmp_path, monkeypatch, shape):
    path = tmp_path / "a.nii.gz"
    nibabel.Nifti1Image(voxels(shape), OBLIQUE).to_filename(path)
    image = read_nifti(path)
    rewinds = []
    monkeypatch.setattr(gzip._GzipReader, "_rewind", lambda reader: rewinds.append(reader))
    parts = [image.slab(start, start + 4) for start in range(0, 40, 4)]
    assert not rewinds
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), np.atleast_3d(voxels(shape)).T.reshape(-1, 40, 16, 16))


def test_slabs_come_in_any_order_and_from_other_processes(tmp_path):
    path = tmp_path / "a.nii.gz"
    nibabel.Nifti1Image(voxels(), OBLIQUE).to_filename(path)
    image = read_nifti(path)
    image.slab(3, 5)
    np.testing.assert_array_equal(image.slab(0, 2)[0], voxels().T[0:2])
    again = pickle.loads(pickle.dumps(image))
    np.testing.assert_array_equal(again.slab(1, 2)[0], voxels().T[1:2])


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("keep", [100, 500])
def test_truncated_files_are_named(tmp_path, suffix, keep):
    path = tmp_path / f"broken{suffix}"
    nibabel.Nifti1Image(voxels((20, 20, 20)), OBLIQUE).to_filename(path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match="broken"):
        read_nifti(path).numpy()


def test_what_is_no_real_number_is_refused(tmp_path):
    nibabel.Nifti1Image(np.zeros((2, 2, 2), np.complex64), OBLIQUE).to_filename(tmp_path / "a.nii")
    with pytest.raises(UserError, match="real numbers"):
        read_nifti(tmp_path / "a.nii")


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_failing_slab_leaves_nothing(tmp_path, name, channels):
    def compute(start, stop):
        if start == 3:
            raise RuntimeError("killed")
        return np.zeros((channels, 1, 4, 4))

    image = Image.from_array(np.zeros((5, 4, 4))).with_array(ComputedArray((channels, 5, 4, 4), np.int16, compute))
    with pytest.raises(RuntimeError):
        write_nifti(tmp_path / name, image)
    assert not list(tmp_path.iterdir())


def test_masks_are_written_as_bytes(tmp_path):
    write_nifti(tmp_path / "a.nii", Image.from_array(np.eye(4, dtype=bool)))
    assert read_nifti(tmp_path / "a.nii").dtype == np.uint8


def test_too_many_rows_for_the_format(tmp_path):
    with pytest.raises(UserError, match="too large for NIfTI"):
        write_nifti(tmp_path / "a.nii", Image.from_array(np.zeros((1, 40000), np.uint8)))


def test_a_real_volume_is_in_hu(shared, tmp_path):
    image = read_nifti(shared / "denoise-ct-hu" / "volumes" / "lidc0314_slab32.nii.gz")
    assert image.shape == (32, 256, 256)
    assert image.dtype == np.int16
    write_nifti(tmp_path / "a.nii.gz", image)
    np.testing.assert_array_equal(read_nifti(tmp_path / "a.nii.gz").numpy(), image.numpy())


@pytest.mark.parametrize(("place", "value"), [((1, 1), 0.0), ((0, 0), np.nan), ((2, 3), np.inf)])
def test_an_affine_that_places_nothing_is_refused(tmp_path, place, value):
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    affine[place] = value
    header = nibabel.Nifti1Header()
    header.set_data_shape((4, 5, 6))
    header.set_sform(affine, 1)
    header["vox_offset"] = 352
    (tmp_path / "a.nii").write_bytes(header.binaryblock + bytes(4 + 4 * 5 * 6 * 4))
    with pytest.raises(UserError, match=r"a\.nii: its affine places no voxels"):
        read_nifti(tmp_path / "a.nii")


def header(shape=(4, 5, 6), kind=nibabel.Nifti1Header, **fields):
    made = kind()
    made.set_data_shape(shape)
    made.set_data_dtype(np.int16)
    made["vox_offset"] = made.single_vox_offset
    made["magic"] = made.single_magic
    for name, value in fields.items():
        made[name] = value
    return made


def put(path, made, count=120, more=b""):
    begin = made.binaryblock
    path.write_bytes(begin + bytes(made.single_vox_offset - len(begin)) + bytes(2 * count) + more)
    return path


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"pixdim": [1, 0, 1, 1, 1, 1, 1, 1]}, "voxels of"),
        ({"pixdim": [1, np.nan, 1, 1, 1, 1, 1, 1]}, "voxels of"),
        ({"pixdim": [1, -1, 1, 1, 1, 1, 1, 1], "qform_code": 1}, "voxels of"),
        ({"pixdim": [1, np.inf, 1, 1, 1, 1, 1, 1], "qform_code": 1}, "voxels of"),
        ({"sform_code": 1}, "its affine places no voxels"),
        ({"sform_code": 1, "qform_code": 1, "srow_x": [1, 0, 0, 0], "srow_y": [1, 0, 0, 0]}, "places no voxels"),
        ({"qform_code": 1, "qoffset_x": np.nan}, "places no voxels"),
        ({"dim": [3, 4, 0, 6, 1, 1, 1, 1]}, "axes"),
        ({"dim": [3, 4, -5, 6, 1, 1, 1, 1]}, "axes"),
        ({"dim": [0, 4, 5, 6, 1, 1, 1, 1]}, "axes"),
        ({"dim": [7, 30000, 30000, 30000, 30000, 30000, 30000, 30000]}, "truncated"),
        ({"dim": [3, 4, 5, 5, 1, 1, 1, 1]}, "holds more voxels"),
        ({"vox_offset": np.float32(1e30)}, "truncated|cannot be read"),
        ({"vox_offset": np.nan}, "cannot be read"),
        ({"magic": b"ni1"}, "another file"),
        ({"magic": b"xxx"}, "cannot be read"),
        ({"datatype": 4096}, "cannot be read"),
        ({"scl_slope": 1, "scl_inter": np.inf}, "cannot be read"),
        ({"intent_code": 3006}, "CIFTI"),
    ],
)
def test_headers_that_state_no_volume_are_refused(tmp_path, capfd, fields, words):
    with pytest.raises(UserError, match=rf"a\.nii.*({words})"):
        read_nifti(put(tmp_path / "a.nii", header(**fields))).numpy()
    assert not capfd.readouterr().err


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_volume_with_more_voxels_than_stated_is_not_shortened(tmp_path, name):
    write_nifti(tmp_path / name, Image.from_array(voxels((5, 6, 7))))
    opened = gzip.open if name.endswith("gz") else open
    with opened(tmp_path / name, "ab") as stream:
        stream.write(b"more")
    with pytest.raises(UserError, match="holds more voxels"):
        read_nifti(tmp_path / name).numpy()


def test_a_flipped_bit_of_a_compressed_volume_is_noticed(tmp_path):
    write_nifti(tmp_path / "a.nii.gz", Image.from_array(voxels((5, 6, 7))))
    sound = (tmp_path / "a.nii.gz").read_bytes()
    for place in range(len(sound) - 300, len(sound), 17):  # behind the name that gzip stores
        (tmp_path / "a.nii.gz").write_bytes(sound[:place] + bytes([sound[place] ^ 64]) + sound[place + 1 :])
        with pytest.raises(UserError, match=r"a\.nii\.gz"):
            read_nifti(tmp_path / "a.nii.gz").numpy()


def test_nifti_2_and_damaged_forms_that_are_not_used(tmp_path):
    path = put(tmp_path / "b.nii", header(kind=nibabel.Nifti2Header))
    assert read_nifti(path).numpy().shape == (1, 6, 5, 4)
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    made = header(sform_code=1, qform_code=1, quatern_b=np.nan, qoffset_x=np.nan)
    for name, row in zip(("srow_x", "srow_y", "srow_z"), affine, strict=False):
        made[name] = row
    image = read_nifti(put(tmp_path / "a.nii", made))
    write_nifti(tmp_path / "c.nii", image)
    np.testing.assert_allclose(read_nifti(tmp_path / "c.nii").affine, image.affine)


def test_files_stay_open_only_where_they_are_compressed(tmp_path):
    path = put(tmp_path / "a.nii", header())
    image = read_nifti(path)
    image.numpy()
    assert not image.array._streams


@pytest.mark.parametrize("channels", [1, 2])
def test_equal_images_are_equal_files(tmp_path, channels):
    image = Image.from_array(np.arange(channels * 60, dtype=np.int16).reshape(channels, 3, 4, 5), (3.0, 2.0, 1.0), "HU")
    for name in ("one", "other"):
        write_nifti(tmp_path / name / "scan.nii.gz", image)
    packed = [(tmp_path / name / "scan.nii.gz").read_bytes() for name in ("one", "other")]
    assert packed[0] == packed[1] and b"part" not in packed[0]


def raw(path):
    """Return what the bytes of an uncompressed NIfTI-1 file say: distances, unit, and the codes of both forms."""
    data = path.read_bytes()
    return struct.unpack("<3f", data[80:92]), data[123] & 7, struct.unpack("<2h", data[252:256])


def in_itk(path):
    """Return distances and (4, 4) matrix from (column, row, slice) to mm in RAS+, as ITK reads them."""
    itk = pytest.importorskip("SimpleITK").ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(itk.GetDirection(), (3, 3)) * itk.GetSpacing()
    affine[:3, 3] = itk.GetOrigin()
    return itk.GetSpacing(), np.diag([-1, -1, 1, 1]) @ affine


ROTATED = nibabel.affines.from_matvec(nibabel.eulerangles.euler2mat(0.3, -0.2, 0.5) * [0.5, 0.7, 2.5], [12, -30, 7])


def test_distances_of_a_file_without_a_qform_are_those_of_its_sform(tmp_path):
    nibabel.Nifti1Image(voxels(), ROTATED).to_filename(tmp_path / "a.nii")
    assert raw(tmp_path / "a.nii")[2] == (0, 2)
    write_nifti(tmp_path / "b.nii", read_nifti(tmp_path / "a.nii"))
    pixdim, unit, codes = raw(tmp_path / "b.nii")
    np.testing.assert_allclose(pixdim, (0.5, 0.7, 2.5), rtol=1e-6)
    assert (unit, codes) == (2, (0, 2))
    spacing, affine = in_itk(tmp_path / "b.nii")
    np.testing.assert_allclose(spacing, (0.5, 0.7, 2.5), rtol=1e-6)
    np.testing.assert_allclose(affine, ROTATED, atol=1e-5)
    np.testing.assert_allclose(nibabel.load(tmp_path / "b.nii").affine, ROTATED, atol=1e-5)


@pytest.mark.parametrize("forms", ["qform", "sform", "both"])
@pytest.mark.parametrize(("unit", "mm"), [("meter", 1000.0), ("mm", 1.0), ("micron", 0.001), ("unknown", 1.0)])
def test_every_unit_of_length_becomes_mm(tmp_path, forms, unit, mm):
    file = nibabel.Nifti1Image(voxels(), None)
    stored = np.diag([1 / mm, 1 / mm, 1 / mm, 1]) @ ROTATED
    file.set_qform(stored if forms != "sform" else None, int(forms != "sform"))
    file.set_sform(stored if forms != "qform" else None, int(forms != "qform"))
    file.header.set_xyzt_units(unit)
    file.to_filename(tmp_path / "a.nii")
    image = read_nifti(tmp_path / "a.nii")
    np.testing.assert_allclose(image.affine[:, [2, 1, 0, 3]], ROTATED, atol=1e-5)
    np.testing.assert_allclose(image.spacing, (2.5, 0.7, 0.5), rtol=1e-5)
    write_nifti(tmp_path / "b.nii", image)
    pixdim, code, codes = raw(tmp_path / "b.nii")
    np.testing.assert_allclose(pixdim, (0.5, 0.7, 2.5), rtol=1e-5)
    assert (code, codes) == (2, raw(tmp_path / "a.nii")[2])
    np.testing.assert_allclose(in_itk(tmp_path / "b.nii")[1], ROTATED, atol=1e-4)


def test_a_file_without_an_origin_stays_without_one(tmp_path):
    file = nibabel.Nifti1Image(voxels(), None)
    file.header.set_zooms((0.5, 0.7, 2.5))
    file.to_filename(tmp_path / "a.nii")
    image = read_nifti(tmp_path / "a.nii")
    assert raw(tmp_path / "a.nii")[2] == (0, 0)
    for name, slices in (("same", image.numpy()), ("finer", np.repeat(image.numpy(), 2, axis=1))):
        frame = Frame.plan(image, "stored").finer((slices.shape[1] // 5, 1, 1))
        write_nifti(tmp_path / f"{name}.nii", image.with_geometry(slices, frame.affine))
        pixdim, unit, codes = raw(tmp_path / f"{name}.nii")
        np.testing.assert_allclose(pixdim, (0.5, 0.7, 2.5 * 5 / slices.shape[1]), rtol=1e-6)
        assert (unit, codes) == (2, (0, 0))
        np.testing.assert_allclose(read_nifti(tmp_path / f"{name}.nii").affine, frame.affine, atol=1e-5)
    np.testing.assert_array_equal(in_itk(tmp_path / "a.nii")[1], in_itk(tmp_path / "same.nii")[1])


def test_a_part_of_a_volume_without_an_origin_is_aligned_to_it(tmp_path):
    file = nibabel.Nifti1Image(voxels(), None)
    file.header.set_zooms((0.5, 0.7, 2.5))
    file.to_filename(tmp_path / "a.nii")
    image = read_nifti(tmp_path / "a.nii")
    later = image.affine.copy()
    later[:3, 3] = (image.affine @ [2, 0, 0, 1])[:3]
    write_nifti(tmp_path / "b.nii", image.with_geometry(image.slab(2, 5), later))
    assert raw(tmp_path / "b.nii")[2] == (2, 2)
    np.testing.assert_allclose(read_nifti(tmp_path / "b.nii").affine, later, atol=1e-5)


def test_small_changes_of_small_voxels_replace_the_forms_of_the_file(tmp_path):
    file = nibabel.Nifti1Image(voxels(), np.diag([0.5, 0.5, 0.5, 1]))
    file.header.set_xyzt_units("micron")
    file.to_filename(tmp_path / "a.nii")
    image = read_nifti(tmp_path / "a.nii")
    write_nifti(tmp_path / "b.nii", image.with_geometry(image.numpy(), image.affine * [[1.01], [1.01], [1.01], [1]]))
    np.testing.assert_allclose(raw(tmp_path / "b.nii")[0], [0.000505] * 3, rtol=1e-5)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("colours", ["RGB", "RGBA"])
def test_colours_of_a_voxel_are_channels_and_stay_colours(tmp_path, suffix, colours):
    stored = np.random.default_rng(0).integers(0, 256, (7, 6, 5, len(colours)), np.uint8)
    kind = np.dtype([(name, np.uint8) for name in colours])
    nibabel.Nifti1Image(stored.view(kind)[..., 0], OBLIQUE).to_filename(tmp_path / f"a{suffix}")
    image = read_nifti(tmp_path / f"a{suffix}")
    assert (image.channels, image.shape, image.dtype) == (len(colours), (5, 6, 7), np.uint8)
    np.testing.assert_array_equal(image.numpy(), stored.transpose(3, 2, 1, 0))
    np.testing.assert_array_equal(image.slab(2, 4), stored.transpose(3, 2, 1, 0)[:, 2:4])
    write_nifti(tmp_path / f"b{suffix}", image)
    back = nibabel.load(tmp_path / f"b{suffix}")
    np.testing.assert_array_equal(np.stack([np.asarray(back.dataobj)[name] for name in colours], axis=-1), stored)
    np.testing.assert_allclose(back.affine, OBLIQUE, atol=1e-5)


def test_volumes_in_colours_over_time_are_refused(tmp_path):
    kind = np.dtype([(name, np.uint8) for name in "RGB"])
    nibabel.Nifti1Image(np.zeros((3, 3, 3, 2), kind), OBLIQUE).to_filename(tmp_path / "a.nii")
    with pytest.raises(UserError, match=r"a\.nii holds 2 volumes in colours"):
        read_nifti(tmp_path / "a.nii")
