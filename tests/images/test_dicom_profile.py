import datetime
import re

import numpy as np
import pydicom
import pytest
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, MRImageStorage, UltrasoundImageStorage

from dicom_kinds import KINDS, SECTIONAL, code, errors, item, write_enhanced_mr, write_file, write_series
from ganatomy.data.pseudonyms import Pseudonyms
from ganatomy.errors import UserError
from ganatomy.images.dicom_out import Derivation, write_dicom
from ganatomy.images.dicom_profile import DUMMY, BasicProfile, actions, check_burned_in
from ganatomy.images.dicom_seg import write_map, write_segmentation
from ganatomy.images.files import read

PSEUDONYMS = Pseudonyms(b"a secret of 16 bytes or more")
PROFILE = BasicProfile(PSEUDONYMS.secret, PSEUDONYMS.subject)
MADE = Derivation("Noise reduced by a network.", "wgan-vgg", "sha256:0123", "0.1.0", "Denoised", profile=PROFILE)
NUMBERED = {"LO": "Lo{}", "SH": "Sh{}", "ST": "St{}", "LT": "Lt{}", "UT": "Ut{}", "UC": "Uc{}", "PN": "Pn{}^Given{}"}
NUMBERED |= {"CS": "CS{}", "AE": "AE{}", "UR": "http://host{}/", "UI": "1.2.99.{}"}


def marked(number, kind):
    """Return a value of a kind that occurs nowhere else, and the texts to look for; None for numbers and times."""
    if kind in NUMBERED:
        value = NUMBERED[kind].replace("{}", str(70_000 + number))
        return value, [value]
    if kind in ("DA", "DT"):
        day = f"{datetime.date(1800, 1, 1) + datetime.timedelta(number):%Y%m%d}"
        return (day if kind == "DA" else f"{day}101112.5+0130"), [day]
    if kind in ("OB", "UN"):
        return f"Ob{70_000 + number} ".encode(), [f"Ob{70_000 + number}"]
    return None


def full_header():
    """Return a header with all attributes that the profile names, their action, and the texts that must not remain."""
    header, texts = Dataset(), []
    for number, tag in enumerate(sorted(actions())):
        keyword = keyword_for_tag(tag[0] << 16 | tag[1])
        kind = dictionary_VR(tag) if keyword else ""
        if kind == "SQ":
            inner, found = marked(number, "LO")
            uid, uids = marked(number, "UI")
            value = [item(CodeMeaning=inner, ReferencedSOPInstanceUID=uid, ReferencedSOPClassUID=MRImageStorage)]
            found = uids if actions()[tag] == "U" else [*found, *uids]
        elif (made := marked(number, kind)) is not None:
            value, found = made
        else:
            continue
        header.add_new(tag, kind, value)
        texts += found
    return header, texts


def bytes_of(folder):
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_the_table_is_that_of_the_standard():
    table = actions()
    assert len(table) > 600
    known = {"PatientName": "Z", "PatientID": "Z_D", "PatientAge": "X", "StudyInstanceUID": "U", "StudyDate": "Z"}
    known |= {"DetectorID": "X_D", "AcquisitionContextSequence": "X_Z", "StationName": "X_Z_D", "DeviceUID": "U"}
    known |= {"SourceImageSequence": "U", "SeriesDescription": "X", "ContentSequence": "D"}
    tags = {keyword: pydicom.tag.Tag(keyword) for keyword in known}
    assert {keyword: table[tag.group, tag.element] for keyword, tag in tags.items()} == known


@pytest.mark.parametrize("nested", [False, True])
def test_nothing_that_the_table_names_remains_in_a_header(nested):
    header, texts = full_header()
    assert len(texts) > 400
    outer = item(AnatomicRegionSequence=[header], PatientID="x1", StudyInstanceUID="1.2.99.1") if nested else header
    outer.ensure_file_meta()
    PROFILE.apply(outer)
    told = str(outer)
    assert [text for text in texts if text in told] == []
    kept = outer.AnatomicRegionSequence[0] if nested else outer
    assert kept.DetectorID == DUMMY
    assert "StudyDate" in kept and "PatientBirthDate" in kept and "SeriesDescription" not in kept
    assert kept.SourceImageSequence[0].ReferencedSOPClassUID == MRImageStorage


IDENTITY = {
    "SpecificCharacterSet": "ISO_IR 100",
    "PatientName": "Müller^Jörg",
    "PatientID": "MRN-4711",
    "PatientBirthDate": "19610203",
    "PatientAge": "058Y",
    "PatientSex": "M",
    "OtherPatientIDs": "OLD-0815",
    "AccessionNumber": "ACC-99",
    "StudyDate": "20190405",
    "StudyTime": "101112",
    "SeriesDate": "20190405",
    "AcquisitionDate": "20190406",
    "AcquisitionDateTime": "20190406235959.5+0100",
    "StudyID": "S-17",
    "StudyDescription": "Knee of Jörg",
    "SeriesDescription": "for Dr Quack",
    "ImageComments": "patient Müller coughs",
    "ReferringPhysicianName": "Quack^Donald",
    "OperatorsName": "Operator^Olga",
    "InstitutionName": "Klinikum Nord",
    "StationName": "STATION-3",
    "DeviceSerialNumber": "SN-12345",
    "ProtocolName": "knee mueller",
    "SequenceName": "Müller_fse",
    "StudyInstanceUID": "1.2.3.777",
    "SeriesInstanceUID": "1.2.3.777.1",
    "FrameOfReferenceUID": "1.2.3.777.2",
}
"""An identity as a scanner writes it, with a sequence name that repeats the name of the patient."""
SECRETS = [
    *(
        "Müller",
        "M\xfcller".encode("latin-1"),
        "Jörg",
        "MRN-4711",
        "19610203",
        "058Y",
        "OLD-0815",
        "ACC-99",
        "20190405",
    ),
    *("20190406", "S-17", "Knee of", "Quack", "coughs", "Olga", "Klinikum", "STATION-3", "SN-12345", "mueller"),
    *("1.2.3.777", "Hidden", "777.5"),
]


def identified(**more):
    """Return attributes that identify a patient, at the top and in a sequence that is passed on."""
    inner = {"InstitutionName": "Klinikum Nord", "PerformedProcedureStepStartDate": "20190405"}
    region = code("T-D9200", "SRT", "Knee", **inner, ReferencedSOPInstanceUID="1.2.3.777.5")
    return {**IDENTITY, "AnatomicRegionSequence": [region], **more}


def private(folder):
    """Add a private attribute with the patient's name to all files of a folder."""
    for path in folder.iterdir():
        file = pydicom.dcmread(path)
        file.private_block(0x0029, "MAKER", create=True).add_new(1, "LO", "Hidden Müller")
        file.save_as(path)


@pytest.mark.parametrize("modality", sorted(KINDS))
def test_no_byte_of_an_output_tells_who_the_patient_is(tmp_path, modality):
    own = {name: value for name, value in identified().items() if modality in SECTIONAL or name[:5] != "Frame"}
    write_series(tmp_path / "in", modality, **own)
    private(tmp_path / "in")
    sources = [pydicom.dcmread(path) for path in sorted((tmp_path / "in").iterdir())]
    uids = [file.SOPInstanceUID for file in sources]
    image = read(tmp_path / "in")
    write_dicom(tmp_path / "out", image, MADE)
    told = bytes_of(tmp_path / "out")
    wanted = [text if isinstance(text, bytes) else text.encode() for text in [*SECRETS, *uids]]
    assert [text for text in wanted if text in told] == []
    assert f"{datetime.date.today():%Y%m%d}".encode() not in told
    for path in (tmp_path / "out").iterdir():
        out = pydicom.dcmread(path)
        assert out.PatientID == out.PatientName.family_name == PSEUDONYMS.subject("MRN-4711")
        assert (out.PatientIdentityRemoved, out.LongitudinalTemporalInformationModified) == ("YES", "MODIFIED")
        assert [one.CodeValue for one in out.DeidentificationMethodCodeSequence] == ["113100", "113107"]
        assert out.AnatomicRegionSequence[0].CodeMeaning == "Knee"
    assert errors(tmp_path / "out" / "00001.dcm") <= errors(tmp_path / "in" / "000.dcm")


def test_what_is_written_from_one_patient_fits_together(tmp_path):
    write_series(tmp_path / "in", "MR", **identified())
    image = read(tmp_path / "in")
    mask = image.with_array(np.where(image.numpy() > 100, 3, 0).astype(np.uint8), unit=None)
    write_dicom(tmp_path / "out", image, MADE)
    write_segmentation(tmp_path / "mask", mask, {3: "lesion"}, MADE)
    write_map(tmp_path / "map", image.with_array(image.numpy() / np.float32(200), unit=None), MADE)
    told = b"".join(bytes_of(tmp_path / name) for name in ("out", "mask", "map"))
    wanted = [text if isinstance(text, bytes) else text.encode() for text in SECRETS]
    assert [text for text in wanted if text in told] == []
    assert f"{datetime.date.today():%Y%m%d}".encode() not in told
    slices = [pydicom.dcmread(path) for path in sorted((tmp_path / "out").iterdir())]
    mask, map = (pydicom.dcmread(tmp_path / name / "00001.dcm") for name in ("mask", "map"))
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientIdentityRemoved", "StudyDate"):
        assert len({str(file[keyword].value) for file in (*slices, mask, map)}) == 1
    sources = [file.SourceImageSequence[0].ReferencedSOPInstanceUID for file in slices]
    originals = [pydicom.dcmread(path).SOPInstanceUID for path in image.header.paths]
    assert sources == [PROFILE.uid(uid) for uid in originals]
    for file in (mask, map):
        (series,) = file.ReferencedSeriesSequence
        assert {one.ReferencedSOPInstanceUID for one in series.ReferencedInstanceSequence} == set(sources)
        assert [one.CodeValue for one in file.DeidentificationMethodCodeSequence] == ["113100", "113107"]
        assert file.LongitudinalTemporalInformationModified == "MODIFIED"


def day(text):
    return datetime.datetime.strptime(str(text)[:8], "%Y%m%d").date()


def test_dates_of_a_patient_keep_their_distances_and_times_their_values(tmp_path):
    found = {}
    for number, (patient, date) in enumerate([("A", "20190301"), ("A", "20200229"), ("B", "20190301")]):
        place = tmp_path / f"in{number}"
        write_series(
            place, "CT", PatientID=patient, StudyDate=date, StudyTime="101112", AcquisitionDateTime=f"{date}08"
        )
        write_dicom(tmp_path / f"out{number}", read(place), MADE)
        found[number] = pydicom.dcmread(tmp_path / f"out{number}" / "00001.dcm")
    assert day(found[1].StudyDate) - day(found[0].StudyDate) == datetime.timedelta(365)
    assert 366 <= (datetime.date(2019, 3, 1) - day(found[0].StudyDate)).days <= 3652
    assert found[0].StudyDate != found[2].StudyDate
    assert found[0].AcquisitionDateTime == f"{found[0].StudyDate}08"
    assert found[0].StudyTime == "101112"
    age = datetime.date.today() - day(found[0].InstanceCreationDate)
    assert age == datetime.date(2019, 3, 1) - day(found[0].StudyDate)


def test_another_secret_gives_other_identities():
    other = Pseudonyms(b"another secret of 16 bytes")
    profile = BasicProfile(other.secret, other.subject)
    assert profile.uid("1.2.3") != PROFILE.uid("1.2.3") == BasicProfile(PSEUDONYMS.secret, str).uid("1.2.3")
    assert re.fullmatch(r"2\.25\.[1-9]\d{1,38}", PROFILE.uid("1.2.3"))
    assert len({BasicProfile(bytes([n]) * 16, str).days("A") for n in range(20)}) > 10
    assert "secret" not in repr(profile)


@pytest.mark.parametrize(
    ("keyword", "stated", "wanted"),
    [
        ("StudyDate", "20190301", "20140917"),
        ("StudyDate", "2019.03.01", "20140917"),
        ("StudyDate", "20190231", ""),
        ("StudyDate", "unknown", ""),
        ("StudyDate", "", ""),
        ("FrameAcquisitionDateTime", "20190301235959.25-0330", "20140917235959.25"),
        ("FrameAcquisitionDateTime", "2019", "2014"),
        ("FrameAcquisitionDateTime", "201903", "201409"),
        ("FrameAcquisitionDateTime", "2019.03.01", "20140917"),
        ("FrameAcquisitionDateTime", "2019.03", ""),
        ("DateOfLastCalibration", ["20190301", "20190302"], ["20140917", "20140918"]),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value")
def test_dates_are_as_exact_as_before_and_blank_where_they_are_none(keyword, stated, wanted):
    header = item(PatientID="A", **{keyword: stated})
    assert PROFILE.apply(header) == 1626
    assert header[keyword].value == wanted


def test_what_other_programs_removed_is_stated_together_with_what_is_removed_here():
    known = code("113108", "DCM", "Retain Patient Characteristics Option")
    made = item(DeidentificationMethod="by hand", DeidentificationMethodCodeSequence=[known])
    made.LongitudinalTemporalInformationModified = "REMOVED"
    for _ in range(2):
        PROFILE.mark(made)
    assert next(iter(made.DeidentificationMethod)) == "by hand" and len(made.DeidentificationMethod) == 2
    assert [one.CodeValue for one in made.DeidentificationMethodCodeSequence] == ["113108", "113100", "113107"]
    assert made.LongitudinalTemporalInformationModified == "REMOVED"


def test_a_file_without_name_and_number_gets_none():
    header = item(PatientID="", PatientName="", StudyInstanceUID="1.2.3")
    PROFILE.apply(header)
    assert header.PatientID == "" and str(header.PatientName) == ""


def test_unknown_and_private_attributes_and_overlays_are_removed():
    header = item(PatientID="A", Manufacturer="Maker")
    header.add_new(0x00091001, "LO", "private")
    header.add_new(0x00280001, "LO", "unknown")
    header.add_new(0x60023000, "OW", b"overlay ")
    PROFILE.apply(header)
    assert sorted(element.keyword for element in header) == ["Manufacturer", "PatientID", "PatientName"]


def test_frames_of_enhanced_files_are_deidentified_in_their_groups(tmp_path):
    write_enhanced_mr(tmp_path / "in.dcm")
    file = pydicom.dcmread(tmp_path / "in.dcm")
    file.PatientID, file.StudyDate = "MRN-4711", "20190405"
    for groups in file.PerFrameFunctionalGroupsSequence:
        groups.FrameContentSequence[0].FrameAcquisitionDateTime = "20190405101112"
        groups.FrameContentSequence[0].FrameComments = "Müller coughs"
    file.SpecificCharacterSet = "ISO_IR 192"
    file.save_as(tmp_path / "in.dcm")
    write_dicom(tmp_path / "out", read(tmp_path / "in.dcm"), MADE)
    told = bytes_of(tmp_path / "out")
    assert not any(text in told for text in (b"MRN-4711", b"20190405", b"coughs", file.SOPInstanceUID.encode()))
    out = pydicom.dcmread(tmp_path / "out" / "00001.dcm")
    assert out.SOPClassUID == MRImageStorage and out.AcquisitionTime == "101112"
    assert out.AcquisitionDate == out.StudyDate


def test_text_in_pixels_is_refused_where_it_is_stated_and_told_where_it_may_be(tmp_path):
    pixels = np.zeros((4, 5), np.uint8)
    stated = {"yes": "YES", "no": "NO", "silent": None}
    for name, value in stated.items():
        write_file(tmp_path / name, "US", pixels, SOPClassUID=UltrasoundImageStorage, BurnedInAnnotation=value)
    write_file(tmp_path / "ct", "CT", pixels, SOPClassUID=CTImageStorage)
    with pytest.raises(UserError, match=r"yes says that text is burned into its pixels"):
        list(check_burned_in([tmp_path / "no", tmp_path / "yes"]))
    assert list(check_burned_in([tmp_path / "no", tmp_path / "ct"])) == []
    (told,) = check_burned_in([tmp_path / "no", tmp_path / "silent"])
    assert told.startswith("1 of 2 DICOM files do not say")
