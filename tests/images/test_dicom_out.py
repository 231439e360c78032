import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, MRImageStorage, SecondaryCaptureImageStorage

from dicom_kinds import errors
from ganatomy.errors import UserError
from ganatomy.images.dicom_out import IMPLEMENTATION_UID, Derivation, write_dicom
from ganatomy.images.files import read
from ganatomy.images.image import ComputedArray, Image

DENOISED = Derivation("Noise reduced by a network.", "wgan-vgg", "sha256:0123", "0.1.0", "Denoised")


def written(folder):
    return [pydicom.dcmread(path) for path in sorted(folder.iterdir())]


def test_integers_geometry_and_order_survive(tmp_path, series):
    hu = series(tmp_path / "in")
    image = read(tmp_path / "in")
    write_dicom(tmp_path / "out", image, DENOISED)
    back = read(tmp_path / "out")
    assert back.dtype == np.int16
    np.testing.assert_array_equal(back.numpy()[0], hu)
    np.testing.assert_allclose(back.affine, image.affine)
    assert [int(data.InstanceNumber) for data in written(tmp_path / "out")] == [1, 2, 3, 4, 5, 6]


def test_every_slice_says_what_it_is(tmp_path, series):
    series(tmp_path / "in", PatientName="Müller^Jörg", SpecificCharacterSet="ISO_IR 100")
    image = read(tmp_path / "in")
    write_dicom(tmp_path / "out", image, DENOISED)
    sources = [pydicom.dcmread(path) for path in image.header.paths]
    outputs = written(tmp_path / "out")
    for source, data in zip(sources, outputs, strict=True):
        assert data.file_meta.ImplementationClassUID == IMPLEMENTATION_UID
        assert data.file_meta.MediaStorageSOPInstanceUID == data.SOPInstanceUID
        assert data.ImageType == ["DERIVED", "SECONDARY", "AXIAL"]
        assert data.DerivationDescription == "Noise reduced by a network."
        assert data.SeriesDescription == "Denoised"
        assert int(data.SeriesNumber) == 1003
        for same in "StudyInstanceUID FrameOfReferenceUID PatientID KVP WindowCenter ImagePositionPatient".split():  # noqa: SIM905
            assert data[same].value == source[same].value
        assert str(data.PatientName) == "Müller^Jörg"
        assert data.SOPInstanceUID != source.SOPInstanceUID
        assert data.SeriesInstanceUID != source.SeriesInstanceUID
        (reference,) = data.SourceImageSequence
        assert reference.ReferencedSOPInstanceUID == source.SOPInstanceUID
        assert reference.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
        (equipment,) = data.ContributingEquipmentSequence
        assert equipment.ManufacturerModelName == "wgan-vgg"
        assert equipment.SoftwareVersions == "0.1.0"
        assert "sha256:0123" in equipment.ContributionDescription
        assert "SyntheticData" not in data
    assert len({data.SeriesInstanceUID for data in outputs}) == 1
    assert len({data.SOPInstanceUID for data in outputs}) == 6


def test_generated_anatomy_is_marked(tmp_path):
    made = Derivation("Sampled.", "dcgan", "x", "0.1.0", "Samples", synthetic=True)
    write_dicom(tmp_path / "out", Image.from_array(np.zeros((4, 4), np.int16), unit="HU"), made)
    assert written(tmp_path / "out")[0].SyntheticData == "YES"


def test_what_the_new_pixels_make_untrue_goes(tmp_path, slice_file):
    data = slice_file(
        tmp_path / "in" / "a",
        np.zeros((4, 4), np.int16),
        PixelPaddingValue=-2000,
        SmallestImagePixelValue=0,
        LargestImagePixelValue=9,
        LossyImageCompression="01",
        BurnedInAnnotation="YES",
    )
    data.add_new((0x0009, 0x0010), "LO", "MAKER")
    data.add_new((0x0009, 0x1001), "LO", "secret")
    data.add_new((0x6000, 0x0010), "US", 4)
    data.add_new((0x5000, 0x0005), "US", 1)
    item = Dataset()
    item.add_new((0x0009, 0x0010), "LO", "MAKER")
    data.RequestAttributesSequence = [item]
    data.save_as(tmp_path / "in" / "a")
    write_dicom(tmp_path / "out", read(tmp_path / "in"), DENOISED)
    (out,) = written(tmp_path / "out")
    for gone in ("PixelPaddingValue", "SmallestImagePixelValue", "LargestImagePixelValue"):
        assert gone not in out
    assert not [e.tag for e in out.iterall() if e.tag.is_private or e.tag.group in (0x5000, 0x6000)]
    assert out.LossyImageCompression == "01"
    assert out.BurnedInAnnotation == "YES"


def test_real_hu_keep_a_sixteenth(tmp_path, series):
    series(tmp_path / "in", rows=32, columns=32)
    image = read(tmp_path / "in")
    values = image.numpy().astype(np.float32) + np.random.default_rng(0).random(image.array.shape, np.float32) * 0.9
    write_dicom(tmp_path / "out", image.with_array(values), DENOISED)
    assert np.abs(read(tmp_path / "out").numpy() - values).max() <= 1 / 32
    assert {str(data.RescaleSlope) for data in written(tmp_path / "out")} == {"0.0625"}


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e5])
@pytest.mark.parametrize("unit", ["HU", "a.u.", None])
def test_real_numbers_of_any_size_keep_15_bits_of_the_range(tmp_path, scale, unit):
    values = (np.random.default_rng(0).normal(0, 1, (2, 16, 16)) * scale).astype(np.float32)
    write_dicom(tmp_path / "out", Image.from_array(values, unit=unit), DENOISED)
    error = np.abs(read(tmp_path / "out").numpy()[0] - values).max()
    assert error <= max(np.abs(values).max() / 32767, 1 / 32 if unit == "HU" else 0)


def test_numbers_that_do_not_fit_are_refused(tmp_path):
    for values, words in [
        (np.array([[-1, 40000]], np.int32), "-1 to 40000 do not fit"),
        (np.array([[0, np.nan]], np.float32), "NaN"),
        (np.zeros((2, 1, 1, 1), np.int16), "1 channel"),
    ]:
        with pytest.raises(UserError, match=words):
            write_dicom(tmp_path / "out", Image.from_array(values), DENOISED)
    assert not list(tmp_path.iterdir())


def test_unsigned_16_bit_values_are_exact(tmp_path):
    values = np.array([[0, 65535]], np.uint16)
    write_dicom(tmp_path / "out", Image.from_array(values))
    np.testing.assert_array_equal(read(tmp_path / "out").numpy()[0, 0], values)


def test_colour_is_exact_also_with_an_odd_number_of_bytes(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (3, 1, 5, 5)).astype(np.uint8)
    write_dicom(tmp_path / "out", Image.from_array(pixels))
    np.testing.assert_array_equal(read(tmp_path / "out").numpy(), pixels)


@pytest.mark.parametrize(
    ("unit", "kind", "modality"),
    [
        ("HU", CTImageStorage, "CT"),
        ("a.u.", MRImageStorage, "MR"),
        (None, SecondaryCaptureImageStorage, "OT"),
    ],
)
def test_series_from_nothing_are_legal_and_lie_right(tmp_path, unit, kind, modality):
    image = Image.from_array(np.arange(60, dtype=np.int16).reshape(3, 4, 5), (2.5, 0.75, 0.5), unit)
    write_dicom(tmp_path / "out", image, DENOISED)
    back = read(tmp_path / "out")
    np.testing.assert_array_equal(back.numpy(), image.numpy())
    np.testing.assert_allclose(back.affine, image.affine)
    assert back.unit == unit
    first = written(tmp_path / "out")[0]
    assert (first.SOPClassUID, first.Modality) == (kind, modality)
    assert errors(tmp_path / "out" / "00001.dcm") == set()


def test_synthetic_ct_from_mr_becomes_ct_in_the_same_study(tmp_path, series):
    series(tmp_path / "in", SOPClassUID=MRImageStorage, Modality="MR", EchoTime=30, KVP=None)
    image = read(tmp_path / "in")
    assert image.unit == "a.u."
    write_dicom(tmp_path / "out", image.with_array(image.numpy(), unit="HU"), DENOISED)
    out = written(tmp_path / "out")[0]
    assert (out.SOPClassUID, out.Modality) == (CTImageStorage, "CT")
    assert (out.StudyInstanceUID, out.PatientID, out.FrameOfReferenceUID) == ("1.2.3", "P-7", "1.2.3.5")
    assert "EchoTime" not in out
    assert out.SourceImageSequence[0].ReferencedSOPClassUID == MRImageStorage
    assert errors(tmp_path / "out" / "00001.dcm") == set()


def test_resampled_images_refer_to_the_nearest_source(tmp_path, series):
    series(tmp_path / "in", slices=4, rows=4, columns=4)
    image = read(tmp_path / "in")
    affine = image.affine @ np.diag([0.5, 0.5, 0.5, 1])
    write_dicom(tmp_path / "out", image.with_geometry(np.zeros((1, 8, 8, 8), np.int16), affine), DENOISED)
    back = read(tmp_path / "out")
    np.testing.assert_allclose(back.spacing, (1.0, 0.375, 0.25))
    np.testing.assert_allclose(back.affine, affine, atol=1e-9)
    uids = [pydicom.dcmread(path).SOPInstanceUID for path in image.header.paths]
    outputs = written(tmp_path / "out")
    assert [uids.index(data.SourceImageSequence[0].ReferencedSOPInstanceUID) for data in outputs[::2]] == [
        0,
        1,
        2,
        3,
    ]
    assert float(outputs[0].SliceThickness) == 1.0


def test_uneven_slices_keep_their_places(tmp_path, series):
    series(tmp_path / "in", slices=7, skip=(2,))
    image = read(tmp_path / "in", uneven=True)
    write_dicom(tmp_path / "out", image, DENOISED)
    back = read(tmp_path / "out", uneven=True)
    np.testing.assert_allclose(back.slice_positions, image.slice_positions)
    np.testing.assert_array_equal(back.numpy(), image.numpy())


def test_seeds_make_uids_repeatable_and_nothing_else_does(tmp_path):
    image = Image.from_array(np.zeros((2, 4, 4), np.int16), unit="HU")
    uids = []
    for name, seed in (("a", "s"), ("b", "s"), ("c", None), ("d", None)):
        write_dicom(tmp_path / name, image, seed=seed)
        uids.append([data.SOPInstanceUID for data in written(tmp_path / name)])
    assert uids[0] == uids[1]
    assert len({*uids[0], *uids[2], *uids[3]}) == 6


def test_a_failing_slab_leaves_nothing(tmp_path):
    def compute(start, stop):
        if start:
            raise RuntimeError("killed")
        return np.zeros((1, 1, 4, 4))

    image = Image.from_array(np.zeros((3, 4, 4))).with_array(ComputedArray((1, 3, 4, 4), np.int16, compute))
    with pytest.raises(RuntimeError):
        write_dicom(tmp_path / "out", image)
    assert not list(tmp_path.iterdir())


def test_hostile_header_fields_stay_out_of_paths(tmp_path, series):
    series(tmp_path / "in", PatientID="../../escape", SeriesDescription="../../../etc/x")
    write_dicom(tmp_path / "place" / "out", read(tmp_path / "in"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "place"]


def test_a_legal_series_stays_legal(tmp_path, series):
    series(tmp_path / "in")
    image = read(tmp_path / "in")
    assert errors(image.header.paths[0]) == set()
    write_dicom(tmp_path / "out", image, DENOISED)
    assert errors(tmp_path / "out" / "00001.dcm") == set()


@pytest.mark.parametrize("name", ["totalseg", "lidc0314", "gehead"])
def test_real_series_gain_no_error(shared, tmp_path, name):
    image = read(shared / "dicom-ct-series" / name, uneven=True)
    write_dicom(tmp_path / "out", image, DENOISED)
    np.testing.assert_array_equal(read(tmp_path / "out", uneven=True).numpy(), image.numpy())
    assert errors(tmp_path / "out" / "00004.dcm") <= errors(image.header.paths[3])


def test_blank_uids_get_the_same_study_each_time(shared, tmp_path):
    image = read(shared / "dicom-ct-series" / "totalseg")
    for name in ("a", "b"):
        write_dicom(tmp_path / name, image.with_array(np.zeros(image.array.shape, np.int16)), DENOISED)
    first, second = (written(tmp_path / name)[0] for name in ("a", "b"))
    assert first.StudyInstanceUID == second.StudyInstanceUID != ""
    assert first.SeriesInstanceUID != second.SeriesInstanceUID
    meta = pydicom.dcmread(image.header.paths[0]).file_meta
    assert first.SourceImageSequence[0].ReferencedSOPInstanceUID == meta.MediaStorageSOPInstanceUID
