import numpy as np
import pydicom
import pytest

from dicom_kinds import errors, item, write_series
from ganatomy.errors import UserError
from ganatomy.images.codecs import Window
from ganatomy.images.dicom_out import Derivation, write_dicom
from ganatomy.images.files import find, read
from ganatomy.images.image import Image
from ganatomy.images.uptake import in_uptake
from ganatomy.roles.image import ImageOptions, ImageRole

HALF_LIFE = 6586.2
PATIENT = {"PatientWeight": 70.0, "SeriesDate": "20200301", "AcquisitionDate": "20200301"}
# An hour passes: 370 MBq leave 253.3 MBq, so that 1 kBq/mL is an SUV of 70 / 253.3.
FACTOR = 70_000 / (370e6 * 2 ** (-3600 / HALF_LIFE))
MADE = Derivation("Made for a test", "model", "1", "0", "PET", synthetic=True, new_contrast=True)


def pet(folder, **attributes):
    """Write a series with the tags that an SUV needs, and return its image."""
    isotope = {
        "RadionuclideTotalDose": 370e6,
        "RadionuclideHalfLife": HALF_LIFE,
        "RadiopharmaceuticalStartTime": "113000",
        "RadionuclideCodeSequence": [],
    }
    isotope |= {name: attributes.pop(name) for name in list(attributes) if name.startswith("Radio")}
    write_series(
        folder,
        "PT",
        **{
            **PATIENT,
            "SeriesTime": "123000",
            "AcquisitionTime": "123000",
            "RadiopharmaceuticalInformationSequence": [item(**isotope)],
            **attributes,
        },
    )
    return read(folder)


def factor(image: Image) -> float:
    found = in_uptake(image)
    assert found.unit == "SUV" and found.dtype == np.float32
    return float((found.numpy().astype(np.float64).sum()) / image.numpy().astype(np.float64).sum())


def test_an_uptake_computed_by_hand(tmp_path):
    assert pytest.approx(2.7634e-4, rel=1e-3) == FACTOR
    image = pet(tmp_path)
    assert image.unit == "Bq/mL"
    assert factor(image) == pytest.approx(FACTOR, rel=1e-5)
    np.testing.assert_allclose(in_uptake(image).slab(1, 3), image.slab(1, 3) * FACTOR, rtol=1e-5)


def test_series_that_were_processed_later_count_from_the_first_acquisition(tmp_path):
    late = pet(tmp_path / "late", SeriesTime="180000")
    assert factor(late) == pytest.approx(FACTOR, rel=1e-5)
    early = pet(tmp_path / "early", AcquisitionTime="130000.5")
    assert factor(early) == pytest.approx(FACTOR, rel=1e-5)


def test_injections_before_midnight_and_with_a_date(tmp_path):
    night = pet(tmp_path / "a", SeriesTime="003000", AcquisitionTime="003000", RadiopharmaceuticalStartTime="233000")
    assert factor(night) == pytest.approx(FACTOR, rel=1e-5)
    dated = pet(
        tmp_path / "b", RadiopharmaceuticalStartTime="010000", RadiopharmaceuticalStartDateTime="20200301113000.00"
    )
    assert factor(dated) == pytest.approx(FACTOR, rel=1e-5)


def test_a_dose_that_decay_is_corrected_to_is_taken_as_it_is(tmp_path):
    assert factor(pet(tmp_path, DecayCorrection="ADMIN")) == pytest.approx(70_000 / 370e6, rel=1e-5)


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"PatientWeight": None}, "without PatientWeight"),
        ({"PatientWeight": 0.0, "RadionuclideTotalDose": None}, "without PatientWeight, RadionuclideTotalDose"),
        ({"CorrectedImage": ["DECY"]}, "without ATTN in CorrectedImage"),
        ({"DecayCorrection": "NONE"}, "without DecayCorrection START or ADMIN"),
        ({"RadionuclideTotalDose": 370.0}, "must be in Bq, not in MBq"),
        ({"RadiopharmaceuticalStartTime": None}, "no RadiopharmaceuticalStartTime"),
        ({"RadiopharmaceuticalStartDateTime": "20200201113000"}, "injected 697.0 hours before the scan"),
        ({"RadiopharmaceuticalStartDateTime": "20200301133000"}, "injected -1.0 hours before the scan"),
    ],
)
def test_headers_that_tell_no_uptake_are_named(tmp_path, attributes, words):
    image = pet(tmp_path / "scan", **attributes)
    with pytest.raises(UserError, match=words) as told:
        in_uptake(image)
    assert "scan" in str(told.value)


def test_other_images_stay_as_they_are(tmp_path):
    write_series(tmp_path, "CT")
    image, memory = read(tmp_path), Image.from_array(np.ones((2, 3), np.float32), unit="Bq/mL")
    assert in_uptake(image) is image and in_uptake(memory) is memory


def test_a_role_in_suv_takes_pet_in_either_unit_and_others_take_it_as_it_is(tmp_path):
    image = pet(tmp_path / "pet")
    window = Window(low=0, high=20, unit="SUV")
    (source,) = find(tmp_path / "pet")
    role = ImageRole("pet", window)
    opened = role.adopt(source).open()
    assert opened.unit == "SUV"
    np.testing.assert_allclose(opened.numpy(), in_uptake(image).numpy())
    role.check(opened)
    plain = ImageRole("pet", Window(low=0, high=5000, unit="Bq/mL"))
    assert plain.adopt(source).open().unit == "Bq/mL"
    assert role.prepared_as != plain.prepared_as


def test_a_role_called_pet_is_in_suv():
    options = ImageOptions.model_validate(dict(ImageOptions.by_name["pet"]))
    codec = options.role("pet").codec
    assert (codec.unit, codec.low, codec.high) == ("SUV", 0, 20)


def written(folder) -> list[pydicom.Dataset]:
    return [pydicom.dcmread(path) for path in sorted(folder.iterdir())]


@pytest.mark.parametrize("source", ["CT", "memory"])
def test_a_virtual_pet_is_pet_in_suv_and_synthetic(tmp_path, source):
    suv = np.random.default_rng(0).uniform(0, 9, (1, 3, 12, 10)).astype(np.float32)
    if source == "CT":
        write_series(tmp_path / "in", "CT")
        image = read(tmp_path / "in").with_array(suv, "SUV")
    else:
        image = Image.from_array(suv, (3.0, 2.0, 2.0), "SUV")
    write_dicom(tmp_path / "out", image, MADE)
    for number, file in enumerate(written(tmp_path / "out"), 1):
        assert (file.Modality, file.Units, file.SUVType, file.SyntheticData) == ("PT", "GML", "BW", "YES")
        assert (file.ImageIndex, file.NumberOfSlices, file.RescaleIntercept) == (number, 3, 0)
        assert file.SOPClassUID == pydicom.uid.PositronEmissionTomographyImageStorage
    again = read(tmp_path / "out")
    assert again.unit == "SUV"
    np.testing.assert_allclose(again.numpy(), suv, atol=3e-4)
    np.testing.assert_allclose(again.spacing, image.spacing)


def test_a_virtual_pet_is_a_legal_file(tmp_path):
    write_dicom(tmp_path / "out", Image.from_array(np.ones((2, 5, 6), np.float32), unit="SUV"), MADE)
    assert errors(tmp_path / "out" / "00001.dcm") == set()


def test_a_virtual_pet_is_in_suv_in_nifti_too(tmp_path):
    suv = np.random.default_rng(1).uniform(0, 9, (3, 5, 4)).astype(np.float32)
    Image.from_array(suv, (3.0, 2.0, 1.5), "SUV").save(tmp_path / "pet.nii.gz")
    np.testing.assert_array_equal(read(tmp_path / "pet.nii.gz").numpy()[0], suv)


def test_pet_that_was_read_in_bq_is_written_in_the_unit_that_it_has(tmp_path):
    image = pet(tmp_path / "in")
    plain = Derivation("Denoised", "model", "1", "0", "PET")
    write_dicom(tmp_path / "suv", in_uptake(image), plain)
    write_dicom(tmp_path / "bq", image, plain)
    assert {(file.Units, file.SUVType) for file in written(tmp_path / "suv")} == {("GML", "BW")}
    assert {file.Units for file in written(tmp_path / "bq")} == {"BQML"}
    assert not any("SUVType" in file for file in written(tmp_path / "bq"))
    np.testing.assert_allclose(read(tmp_path / "suv").numpy(), in_uptake(image).numpy(), atol=1e-5)
