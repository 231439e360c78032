"""Subjects by the names of files and folders."""

import numpy as np
import pytest
from PIL import Image as Picture

from ganatomy.case import Case, Held
from ganatomy.data.cases import DataConfig, find_cases
from ganatomy.data.subjects import merged, subject_of_name, subject_of_place, with_pattern
from ganatomy.errors import Notice, UserError
from ganatomy.inference.model import build


@pytest.mark.parametrize(
    ("name", "subject"),
    [
        ("Image_01L", "Image_01"),
        ("Image_01R", "Image_01"),
        ("p12_left", "p12"),
        ("left_12", "12"),
        ("OD-0031", "0031"),
        ("patient07_t1", "patient07"),
        ("case_04_flair", "case_04"),
        ("00000061_025", "00000061"),
        ("sub-A1_ses-2_T1w", "sub-A1"),
        ("knee7_visit_2", "knee7"),
        ("0012_slice_003", "0012"),
        ("person1_virus_6", "person1"),
        # Names that tell no more than themselves.
        ("image_001", "image_001"),
        ("brain_slice_12", "brain_slice_12"),
        ("2019_01", "2019_01"),
        ("hippocampus_004", "hippocampus_004"),
        ("left", "left"),
        ("slice_3", "slice_3"),
        ("fluo_256x256_1ee4a111f0", "fluo_256x256_1ee4a111f0"),
        ("stop12", "stop12"),
    ],
)
def test_names_say_who_is_shown(name, subject):
    assert subject_of_name(name) == subject


@pytest.mark.parametrize(
    ("place", "classes", "subject"),
    [
        ("anna/scan", False, "anna"),
        ("images/7_left", False, "7"),
        ("train/7_left", False, "train_7"),
        ("train/patient7_left", False, "patient7"),
        ("a/sub-3/x", False, "sub-3"),
        ("healthy/7", True, "healthy_7"),
        ("healthy/patient7_left", True, "patient7"),
        ("ill/patient7_right", True, "patient7"),
        ("ill/patient7/3", True, "patient7"),
    ],
)
def test_folders_are_patients_unless_they_are_classes_or_have_general_names(place, classes, subject):
    assert subject_of_place(place, classes) == subject


@pytest.fixture
def eyes(tmp_path):
    for name in ("01L", "01R", "02L", "03R"):
        Picture.fromarray(np.full((9, 11, 3), len(name), np.uint8)).save(tmp_path / f"Image_{name}.png")
    return tmp_path


def test_both_eyes_are_one_subject_which_is_told(eyes):
    task = build("gan", {}).task
    with pytest.warns(Notice, match=r"4 cases are of 3 subjects by their names: Image_01L\.png and Image_01R\.png are"):
        found = find_cases(task, DataConfig(data=eyes))
    assert [case.subject for case in found] == ["Image_01", "Image_01", "Image_02", "Image_03"]


def test_a_pattern_says_otherwise(eyes):
    task = build("gan", {}).task
    for pattern, subjects in ((r"Image_\d+[LR]", 4), (r"Image_(\d)", 1), (r"[LR]$", 2)):
        found = find_cases(task, DataConfig(data=eyes, subject_pattern=pattern))
        assert len({case.subject for case in found}) == subjects
    for pattern, told in (
        ("(", "no regular expression"),
        ("(a)(b)", "2 groups"),
        ("Z", "finds no subject in Image_01L"),
    ):
        with pytest.raises(UserError, match=told):
            find_cases(task, DataConfig(data=eyes, subject_pattern=pattern))
    (eyes / "index.csv").write_text("subject,image\n1,Image_01L.png\n")
    with pytest.raises(UserError, match=r"--subject-pattern: .*index\.csv states the subjects"):
        find_cases(task, DataConfig(data=eyes, subject_pattern="x"))


def test_patterns_hold_for_assigned_files_too(tmp_path):
    for name in ("a7_t1", "a7_t2", "b7_t1", "b7_t2"):
        Picture.fromarray(np.full((9, 11), 3, np.uint8)).save(tmp_path / f"{name}.png")
    task = build("pix2pix", {"size": (32, 32), "levels": 3}).task
    config = DataConfig(data=tmp_path, roles=("t1=*_t1.png", "t2=*_t2.png"), subject_pattern=r"\d")
    assert [case.subject for case in find_cases(task, config)] == ["7", "7"]


def test_folders_of_patients_are_not_told(tmp_path):
    paths = [tmp_path / "anna" / f"{number}.png" for number in range(2)]
    cases = [Case(str(path), "anna", "train", {"image": Held(0, (path,))}) for path in paths]
    assert merged(cases) is None
    assert [case.subject for case in with_pattern(cases, tmp_path, r"anna/(\d)")] == ["0", "1"]
