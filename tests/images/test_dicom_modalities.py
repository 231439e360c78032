import numpy as np
import pydicom
import pytest
from highdicom.legacy import (
    LegacyConvertedEnhancedCTImage,
    LegacyConvertedEnhancedMRImage,
    LegacyConvertedEnhancedPETImage,
)
from pydicom.uid import (
    CTImageStorage,
    MRImageStorage,
    RTDoseStorage,
    SecondaryCaptureImageStorage,
    UltrasoundImageStorage,
    generate_uid,
)

from dicom_kinds import KINDS, SECTIONAL, errors, write_cine, write_enhanced_mr, write_file, write_series
from ganatomy.images.dicom_out import Derivation, write_dicom
from ganatomy.images.files import find, read
from ganatomy.images.image import Image

DENOISED = Derivation("Noise reduced.", "net", "sha256:0", "0.1", "Denoised")
TRANSLATED = Derivation("Translated.", "net", "sha256:0", "0.1", "T2", new_contrast=True, window=(0.0, 900.0))


def written(folder):
    return [pydicom.dcmread(path) for path in sorted(folder.iterdir())]


@pytest.fixture(params=KINDS)
def modality(request):
    return request.param


def test_the_modality_its_class_and_the_stored_integers_stay(tmp_path, modality):
    write_series(tmp_path / "in", modality)
    image = read(tmp_path / "in")
    source = pydicom.dcmread(image.header.paths[0])
    write_dicom(tmp_path / "out", image, DENOISED)
    out = written(tmp_path / "out")[0]
    assert (out.Modality, out.SOPClassUID) == (modality, source.SOPClassUID)
    assert out.ImageType[2:] == source.ImageType[2:]
    np.testing.assert_allclose(read(tmp_path / "out").numpy(), image.numpy(), rtol=1e-4)
    if modality not in ("CT", "PT"):
        assert out.PixelData == source.PixelData
        assert out.BitsAllocated == source.BitsAllocated
        assert out.get("RescaleSlope") == source.get("RescaleSlope")


def test_a_legal_file_of_any_modality_gains_no_error(tmp_path, modality):
    write_series(tmp_path / "in", modality)
    image = read(tmp_path / "in")
    write_dicom(tmp_path / "out", image, DENOISED)
    assert errors(tmp_path / "out" / "00001.dcm") <= errors(image.header.paths[0])


def test_another_reader_gets_the_same_numbers_at_the_same_place(tmp_path, modality):
    sitk = pytest.importorskip("SimpleITK")
    write_series(tmp_path / "in", modality)
    image = read(tmp_path / "in")
    write_dicom(tmp_path / "out", image.with_array(image.numpy().astype(np.float32)), DENOISED)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames([str(path) for path in sorted((tmp_path / "out").iterdir())])
    found = reader.Execute()
    np.testing.assert_allclose(sitk.GetArrayFromImage(found), image.numpy()[0], rtol=1e-4)
    if modality in SECTIONAL:
        assert found.GetOrigin() == (-10.0, -20.0, 100.0)
        np.testing.assert_allclose(found.GetSpacing(), (0.5, 0.75, 2.0))


def test_pet_stays_primary_and_in_its_unit(tmp_path):
    write_series(tmp_path / "in", "PT")
    write_dicom(tmp_path / "out", read(tmp_path / "in"), DENOISED)
    for index, out in enumerate(written(tmp_path / "out")):
        assert out.ImageType == ["DERIVED", "PRIMARY"]
        assert (out.Units, out.DecayCorrection, out.DecayFactor) == ("BQML", "START", 1.05)
        assert (out.ImageIndex, out.NumberOfSlices, out.RescaleIntercept) == (index + 1, 3, 0)
    assert read(tmp_path / "out").unit == "Bq/mL"


def test_slices_of_pet_agree_on_the_type_of_their_numbers(tmp_path):
    write_series(tmp_path / "in", "PT")
    image = read(tmp_path / "in")
    values = np.stack([np.zeros((12, 10)), np.full((12, 10), 0.3), np.full((12, 10), 7)])[None].astype(np.float32)
    write_dicom(tmp_path / "out", image.with_array(values), DENOISED)
    assert {out.PixelRepresentation for out in written(tmp_path / "out")} == {1}


def test_real_mr_is_stored_in_integers_where_these_resolve_it(tmp_path):
    write_series(tmp_path / "in", "MR")
    image = read(tmp_path / "in")
    noise = np.random.default_rng(0).random(image.array.shape).astype(np.float32)
    write_dicom(tmp_path / "wide", image.with_array(2000 * noise), DENOISED)
    write_dicom(tmp_path / "narrow", image.with_array(noise), DENOISED)
    assert not any("RescaleSlope" in out for out in written(tmp_path / "wide"))
    assert len({out.RescaleSlope for out in written(tmp_path / "narrow")}) == 1
    np.testing.assert_allclose(read(tmp_path / "narrow").numpy(), noise, atol=2**-15)
    assert sorted(path.name for path in (tmp_path / "wide").iterdir()) == ["00001.dcm", "00002.dcm", "00003.dcm"]


def test_frames_become_single_files_that_name_their_frame(tmp_path):
    pixels = write_enhanced_mr(tmp_path / "in" / "a.dcm")
    image = read(tmp_path / "in")
    write_dicom(tmp_path / "out", image, DENOISED)
    outputs = written(tmp_path / "out")
    np.testing.assert_array_equal([out.pixel_array for out in outputs], pixels[::-1])
    for index, out in enumerate(outputs):
        assert (out.SOPClassUID, out.Modality) == (MRImageStorage, "MR")
        assert (out.RepetitionTime, out.EchoTime, out.FlipAngle, out.EchoTrainLength) == (500, 12.5, 90, 4)
        assert (out.ScanningSequence, out.MagneticFieldStrength, out.TemporalPositionIdentifier) == ("GR", 3, 1)
        assert (out.AcquisitionNumber, out.WindowCenter) == (7, 102 - index)
        assert "PerFrameFunctionalGroupsSequence" not in out
        assert out.ImageType == ["DERIVED", "SECONDARY", "OTHER"]
        assert out.SourceImageSequence[0].ReferencedFrameNumber == 3 - index
        assert out.ImagePositionPatient == [-10, -20, 96 + 2 * index]
    assert errors(tmp_path / "out" / "00001.dcm") == set()


@pytest.mark.parametrize("modality", SECTIONAL)
def test_frames_of_a_converted_series_become_what_they_were(tmp_path, modality):
    convert = {
        "CT": LegacyConvertedEnhancedCTImage,
        "MR": LegacyConvertedEnhancedMRImage,
        "PT": LegacyConvertedEnhancedPETImage,
    }[modality]
    write_series(tmp_path / "single", modality, WindowCenter=40, WindowWidth=400)
    sources = written(tmp_path / "single")
    (tmp_path / "in").mkdir()
    convert(sources, generate_uid(), 9, generate_uid(), 1).save_as(tmp_path / "in" / "a.dcm")
    image = read(tmp_path / "in")
    write_dicom(tmp_path / "out", image, DENOISED)
    out = written(tmp_path / "out")[0]
    for keyword in ("SOPClassUID", "Modality", "KVP", "EchoTime", "Units", "DecayCorrection"):
        assert out.get(keyword) == sources[0].get(keyword)
    np.testing.assert_allclose(read(tmp_path / "out").numpy(), read(tmp_path / "single").numpy(), rtol=1e-4)
    assert read(tmp_path / "out").unit == image.unit
    assert errors(tmp_path / "out" / "00001.dcm") == set()


def test_frames_of_a_cine_become_ultrasound_images(tmp_path):
    pixels = write_cine(tmp_path / "in" / "a.dcm")
    write_dicom(tmp_path / "out", read(tmp_path / "in"), DENOISED)
    outputs = written(tmp_path / "out")
    np.testing.assert_array_equal([out.pixel_array for out in outputs], pixels)
    assert {(out.SOPClassUID, out.Modality, "FrameTime" in out) for out in outputs} == {
        (UltrasoundImageStorage, "US", False)
    }
    assert [out.SourceImageSequence[0].ReferencedFrameNumber for out in outputs] == [1, 2, 3, 4]


def test_an_image_of_another_contrast_does_not_have_its_sources_acquisition(tmp_path):
    write_series(tmp_path / "in", "MR", WindowCenter=40, WindowWidth=80, ContrastBolusAgent="Gd")
    image = read(tmp_path / "in")
    write_dicom(tmp_path / "out", image, TRANSLATED)
    out = written(tmp_path / "out")[0]
    assert (out.SOPClassUID, out.Modality, out.PatientID) == (MRImageStorage, "MR", "P-7")
    for gone in ("EchoTime", "RepetitionTime", "ScanOptions"):
        assert out.get(gone) in (None, "")
    for gone in ("FlipAngle", "ContrastBolusAgent"):
        assert gone not in out
    assert (out.ScanningSequence, out.SequenceVariant, out.SyntheticData) == ("RM", "NONE", "YES")
    assert (out.WindowCenter, out.WindowWidth) == (450, 900)
    assert errors(tmp_path / "out" / "00001.dcm") == set()


def test_a_restored_image_keeps_its_acquisition(tmp_path):
    write_series(tmp_path / "in", "MR")
    write_dicom(tmp_path / "out", read(tmp_path / "in"), DENOISED)
    out = written(tmp_path / "out")[0]
    assert (out.EchoTime, out.FlipAngle, out.ScanningSequence) == (10, 90, "SE")
    assert "SyntheticData" not in out


def test_another_contrast_of_a_radiograph_is_a_secondary_capture(tmp_path):
    write_series(tmp_path / "in", "DX")
    write_dicom(tmp_path / "out", read(tmp_path / "in"), TRANSLATED)
    out = written(tmp_path / "out")[0]
    assert (out.SOPClassUID, out.Modality) == (SecondaryCaptureImageStorage, "DX")
    assert errors(tmp_path / "out" / "00001.dcm") == set()


@pytest.mark.parametrize("modality", ["CT", "CR"])
def test_an_image_that_is_shown_inverted_stays_so_with_the_same_numbers(tmp_path, modality):
    shown = {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"}
    write_series(tmp_path / "in", modality, WindowCenter=90, WindowWidth=180, **shown)
    image = read(tmp_path / "in")
    write_dicom(tmp_path / "out", image, DENOISED)
    out, source = written(tmp_path / "out")[0], pydicom.dcmread(image.header.paths[0])
    assert out.pixel_array.tolist() == source.pixel_array.tolist() or modality == "CT"
    np.testing.assert_array_equal(read(tmp_path / "out").numpy(), image.numpy())
    assert (out.PhotometricInterpretation, out.PresentationLUTShape) == ("MONOCHROME1", "INVERSE")
    assert (out.WindowCenter, out.WindowWidth) == (90, 180)
    assert errors(tmp_path / "out" / "00001.dcm") <= errors(image.header.paths[0])


def test_another_contrast_of_an_inverted_image_is_not_inverted(tmp_path):
    write_series(tmp_path / "in", "CR", PhotometricInterpretation="MONOCHROME1")
    write_dicom(tmp_path / "out", read(tmp_path / "in"), TRANSLATED)
    assert written(tmp_path / "out")[0].PhotometricInterpretation == "MONOCHROME2"


@pytest.mark.parametrize("name", ["Müller^Jörg".encode(), "Müller^Jörg".encode("latin-1")])
@pytest.mark.parametrize("declared", [None, "ISO_IR 192", "ISO_IR 100"])
def test_no_byte_of_a_name_is_lost_to_a_wrong_character_set(tmp_path, name, declared):
    given = {"SpecificCharacterSet": declared} if declared else {}
    path, room = tmp_path / "in" / "a.dcm", b"A^B           "
    write_file(path, "CR", np.zeros((4, 4), np.uint16), PatientName=room.decode(), **given)
    path.write_bytes(path.read_bytes().replace(room, name.ljust(len(room))))
    write_dicom(tmp_path / "out", read(tmp_path / "in"), DENOISED)
    found = str(written(tmp_path / "out")[0].PatientName)
    assert name in (found.encode(), found.encode("latin-1"))


def test_several_outputs_of_a_source_have_different_series_numbers(tmp_path):
    write_series(tmp_path / "in", "MR")
    for number in (1, 2):
        write_dicom(tmp_path / str(number), read(tmp_path / "in"), Derivation("x", "", "", "", "y", number=number))
    assert [written(tmp_path / name)[0].SeriesNumber for name in ("1", "2")] == [1003, 2003]


def test_wide_integers_have_one_type_for_the_whole_series(tmp_path):
    values = np.array([[[-5, 3]], [[0, 30000]]], np.int32)
    write_dicom(tmp_path / "out", Image.from_array(values, unit="HU"), DENOISED)
    assert {(out.PixelRepresentation, out.RescaleSlope) for out in written(tmp_path / "out")} == {(1, 1)}
    np.testing.assert_array_equal(read(tmp_path / "out").numpy()[0], values)
    assert written(tmp_path / "out")[0].SOPClassUID == CTImageStorage


def test_a_dose_grid_becomes_an_image_of_the_same_doses(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 60000, (2, 8, 8)).astype(np.uint32)
    dose = {"SOPClassUID": RTDoseStorage, "DoseGridScaling": 0.001, "DoseUnits": "GY", "NumberOfFrames": 2}
    place = {"ImagePositionPatient": [0, 0, 0], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": [2, 2]}
    write_file(tmp_path / "in" / "a.dcm", "RTDOSE", pixels, GridFrameOffsetVector=[0, 3], **dose, **place)
    image = read(tmp_path / "in")
    write_dicom(tmp_path / "out", image, DENOISED)
    assert {out.Modality for out in written(tmp_path / "out")} == {"OT"}
    found = np.concatenate([source.open().numpy() for source in find(tmp_path / "out")], axis=1)
    np.testing.assert_allclose(found, image.numpy(), atol=60 / 32767)


def test_volumes_of_a_series_keep_their_index_and_get_series_of_their_own(tmp_path):
    for time in (1, 2):
        for index in range(3):
            at = {"ImagePositionPatient": [0, 0, 2 * index], "TemporalPositionIdentifier": time}
            number = {"InstanceNumber": 3 * (time - 1) + index + 1, "NumberOfTemporalPositions": 2}
            path = tmp_path / "in" / f"{time}{index}.dcm"
            write_file(path, "MR", np.full((8, 8), 100 * time, np.uint16), **at, **number)
    sources = find(tmp_path / "in")
    assert len(sources) == 2
    for source, derivation, name in ((sources[0], DENOISED, "a"), (sources[1], TRANSLATED, "b")):
        write_dicom(tmp_path / name, source.open(), derivation)
    first, second = (written(tmp_path / name) for name in ("a", "b"))
    assert {out.TemporalPositionIdentifier for out in first} == {1}
    assert {out.TemporalPositionIdentifier for out in second} == {2}
    assert (first[0].SeriesNumber, second[0].SeriesNumber) == (11003, 41003)
