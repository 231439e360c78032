"""Cases with several images in folders and in DICOM studies."""

import numpy as np
import pydicom
import pytest

from ganatomy.data.layouts import by_patterns, by_series, parse_patterns
from ganatomy.errors import Notice, UserError
from ganatomy.images.files import find, write
from ganatomy.images.image import Header, Image

ROLES = {"flair": "*_flair.nii.gz", "t1": "*_t1.nii.gz"}


def save(path, value=1.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.full((2, 5, 7), value, np.float32)
    values[0, 0, 0] = 0
    write(path, Image.from_array(values, (3.0, 1.0, 2.0)))


def placed(cases):
    return {name: {role: source.paths[0].name for role, source in sources.items()} for name, _, sources in cases}


def test_files_of_one_folder_are_one_case(tmp_path):
    for patient in ("anna", "ben"):
        for role in ROLES:
            save(tmp_path / patient / f"{patient}_x_{role}.nii.gz")
    cases = by_patterns(tmp_path, ROLES)
    assert placed(cases) == {name: {role: f"{name}_x_{role}.nii.gz" for role in ROLES} for name in ("anna", "ben")}
    assert [subject for _, subject, _ in cases] == ["anna", "ben"]


def test_files_of_many_cases_in_one_folder_are_told_apart_by_their_stars(tmp_path):
    for number in (1, 2, 3):
        for role in ROLES:
            save(tmp_path / f"p{number}_{role}.nii.gz")
    assert placed(by_patterns(tmp_path, ROLES)) == {
        f"p{number}": {role: f"p{number}_{role}.nii.gz" for role in ROLES} for number in (1, 2, 3)
    }


def test_roles_may_have_folders_of_their_own(tmp_path):
    for number in (1, 2):
        save(tmp_path / "images" / f"{number}.nii.gz")
        save(tmp_path / "labels" / f"{number}.nii.gz")
    cases = by_patterns(tmp_path, {"t1": "images/*.nii.gz", "mask": "labels/*.nii.gz"})
    assert [sorted(sources) for _, _, sources in cases] == [["mask", "t1"]] * 2
    for _, _, sources in cases:
        assert sources["t1"].paths[0].name == sources["mask"].paths[0].name


def test_wildcards_are_compared_one_by_one_and_not_as_one_text(tmp_path):
    names = ("p1_s23", "p12_s3")
    for name in names:
        for role in ROLES:
            save(tmp_path / f"{name}_{role}.nii.gz")
    patterns = {role: f"p*_s*_{role}.nii.gz" for role in ROLES}
    cases = by_patterns(tmp_path, patterns)
    assert sorted(placed(cases).values(), key=str) == [
        {role: f"{name}_{role}.nii.gz" for role in ROLES} for name in sorted(names)
    ]
    assert {subject for _, subject, _ in cases} == {"1_23", "12_3"}
    (tmp_path / "p1_s23_flair.nii.gz").unlink()
    (tmp_path / "p12_s3_t1.nii.gz").unlink()
    save(tmp_path / "p2_s4_flair.nii.gz")
    with pytest.raises(UserError, match="give a pattern that fits one of them"):
        by_patterns(tmp_path, patterns)


def test_adjacent_wildcards_are_one(tmp_path):
    for role in ROLES:
        for number in ("01", "02"):
            save(tmp_path / f"p{number}_{role}.nii.gz")
    cases = by_patterns(tmp_path, {"flair": "p??_flair.nii.gz", "t1": "p*_t1.nii.gz"})
    assert placed(cases) == {n: {role: f"p{n}_{role}.nii.gz" for role in ROLES} for n in ("01", "02")}
    with pytest.raises(UserError, match=r"no image fits --roles flair=p\?\?\?_flair"):
        by_patterns(tmp_path, {"flair": "p???_flair.nii.gz"})


def test_folders_whose_names_become_equal_keep_apart(tmp_path):
    for folder in ("a b", "a_b", "a/b"):
        for role in ROLES:
            save(tmp_path / folder / f"{role}_{role}.nii.gz")
    cases = by_patterns(tmp_path, ROLES)
    assert len({name for name, _, _ in cases}) == 3 == len(cases)
    assert all(len({source.paths[0].parent for source in sources.values()}) == 1 for _, _, sources in cases)


@pytest.mark.parametrize("other", ["a", "A\u0301"])
def test_names_that_differ_in_case_or_accents_only_are_refused_where_a_role_is_missing(tmp_path, other):
    one = "A" if other == "a" else "\u00c1"
    for name in ("b", one):
        save(tmp_path / f"{name}_flair.nii.gz")
    for name in ("b", other):
        save(tmp_path / f"{name}_t1.nii.gz")
    with pytest.raises(UserError, match="differ in case or accents only") as told:
        by_patterns(tmp_path, ROLES)
    assert f"{one}_flair" in str(told.value) and f"{other}_t1" in str(told.value)
    save(tmp_path / f"{one}_t1.nii.gz")
    save(tmp_path / f"{other}_flair.nii.gz")
    assert len(placed(by_patterns(tmp_path, ROLES))) == 3


def test_a_case_may_lack_a_role(tmp_path):
    save(tmp_path / "a" / "a_flair.nii.gz")
    save(tmp_path / "a" / "a_t1.nii.gz")
    save(tmp_path / "b" / "b_flair.nii.gz")
    assert [sorted(sources) for _, _, sources in by_patterns(tmp_path, ROLES)] == [["flair", "t1"], ["flair"]]


def test_a_pattern_that_fits_two_files_of_a_case_is_refused_with_both_names(tmp_path):
    for name in ("flair", "T1", "T1_POST"):
        save(tmp_path / "anna" / f"{name}.nii.gz")
    with pytest.raises(UserError, match=r"t1=\*T1\* fits both T1\.nii\.gz and T1_POST\.nii\.gz in .*anna"):
        by_patterns(tmp_path, {"flair": "*flair*", "t1": "*T1*"})


def test_images_that_cannot_be_read_and_fit_no_pattern_are_named(tmp_path):
    for role in ROLES:
        save(tmp_path / "anna" / f"anna_{role}.nii.gz")
    (tmp_path / "anna" / "anna_flari.nii.gz").write_bytes(b"")
    (tmp_path / "anna" / "anna_t2.nii.gz").write_bytes(b"")
    with pytest.warns(Notice, match=r"fit no pattern of --roles \(2\): \S*anna_flari\.nii\.gz, \S*anna_t2.* is empty"):
        assert len(by_patterns(tmp_path, ROLES)) == 1


def test_damaged_dicom_files_that_belong_to_no_series_are_named(study, tmp_path):
    study("AX T1")
    (tmp_path / "study" / "lost.dcm").write_bytes(b"")
    with pytest.warns(Notice, match=r"fit no pattern of --series \(1\): \S*lost\.dcm"):
        assert len(by_series(find(tmp_path / "study"), {"t1": "AX T1"})) == 1


def test_a_pattern_that_fits_nothing_is_named(tmp_path):
    save(tmp_path / "a_flair.nii.gz")
    with pytest.raises(UserError, match=r"no image fits --roles t1=\*_t1\.nii\.gz"):
        by_patterns(tmp_path, ROLES)


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        (["flair"], "give NAME=PATTERN, such as flair="),
        (["t2=*"], "there is no role 't2'; this system has flair, t1"),
        (["t1=a", "t1=b"], "t1 is given twice"),
    ],
)
def test_patterns_that_say_nothing_are_refused(texts, told):
    with pytest.raises(UserError, match=told):
        parse_patterns(texts, "--roles", ["flair", "t1"])


def test_a_pattern_may_hold_an_equals_sign():
    assert parse_patterns(["t1=a=b*"], "--roles", ["t1"]) == {"t1": "a=b*"}


@pytest.fixture
def study(tmp_path):
    """Return a function that writes a DICOM study of series with given descriptions."""

    def make(*descriptions, modality="MR"):
        import pydicom
        from pydicom.uid import generate_uid

        shared = generate_uid()
        for number, description in enumerate(descriptions):
            values = np.random.default_rng(number).integers(1, 900, (3, 5, 7)).astype(np.int16)
            folder = tmp_path / "study" / f"s{number}"
            header = Header(modality=modality, subject="anna")
            write(folder, Image.from_array(values, (3.0, 1.0, 1.0), "a.u.", header))
            for path in folder.iterdir():
                file = pydicom.dcmread(path)
                file.SeriesDescription, file.StudyInstanceUID, file.PatientID = description, shared, "anna"
                file.SeriesNumber = number
                file.save_as(path)
        return find(tmp_path / "study")

    return make


def test_series_of_a_study_are_chosen_by_their_descriptions(study):
    sources = study("AX FLAIR", "AX T1", "AX T1 POST")
    ((name, subject, chosen),) = by_series(sources, {"flair": "*flair*", "t1": "ax t1"})
    assert subject == "anna" and name == "anna"
    assert {role: source.frames[0].description for role, source in chosen.items()} == {
        "flair": "AX FLAIR", "t1": "AX T1"
    }  # fmt: skip


def test_series_may_be_chosen_by_modality_or_uid(study):
    sources = study("one", modality="MR")
    uid = sources[0].frames[0].series
    for pattern in ("MR", uid, "on?"):
        assert by_series(sources, {"t1": pattern})[0][2]["t1"] is sources[0]


def test_a_pattern_that_fits_two_series_is_refused_with_both_names(study):
    sources = study("AX T1", "AX T1 POST")
    with pytest.raises(UserError, match=r"--series t1=\*T1\*: fits 'AX T1' \(number 0\) and 'AX T1 POST' \(number 1\)"):
        by_series(sources, {"t1": "*T1*"})


def test_a_pattern_that_fits_no_series_is_told_with_those_there_are(study):
    with pytest.raises(UserError, match=r"--series t2=\*T2\*: fits no series; there are 'AX T1'"):
        by_series(study("AX T1"), {"t2": "*T2*"})


def test_sessions_of_a_patient_are_of_one_subject(tmp_path):
    for patient, session in (("sub-00", 1), ("sub-00", 2), ("sub-01", 1)):
        for role in ROLES:
            save(tmp_path / patient / "anat" / f"{patient}_ses-{session}_{role}.nii.gz")
    for prefix in ("*/anat/", ""):
        cases = by_patterns(tmp_path, {role: prefix + pattern for role, pattern in ROLES.items()})
        assert [subject for _, subject, _ in cases] == ["sub-00", "sub-00", "sub-01"]
        assert len({name for name, _, _ in cases}) == 3


def test_the_patient_of_a_dicom_series_is_the_subject(tmp_path):
    for patient in ("anna", "ben"):
        for session in (1, 2):
            folder = tmp_path / f"{patient}{session}" / "flair"
            values = np.arange(70, dtype=np.int16).reshape(2, 5, 7)
            write(folder, Image.from_array(values, (3.0, 1.0, 2.0), header=Header(modality="MR")))
            for path in folder.iterdir():
                file = pydicom.dcmread(path)
                file.PatientID = patient
                file.save_as(path)
    cases = by_patterns(tmp_path, {"flair": "*/flair"})
    assert [subject for _, subject, _ in cases] == ["anna", "anna", "ben", "ben"]
