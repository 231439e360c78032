import json

import numpy as np
import pytest

from ganatomy.data.cases import DataConfig, discover, names_of_images
from ganatomy.errors import Notice, UserError
from ganatomy.images.files import write
from ganatomy.images.image import Image
from ganatomy.inference.model import build


def image(path, value):
    write(path, Image.from_array(np.full((3, 16, 20), value, np.int16), (3.0, 1.0, 0.5)))


def segmentation(*inputs):
    return build("segan", {"inputs": inputs, "variant": "S3-1C", "regions": {"all": (1,)}}).task


@pytest.fixture
def decathlon(tmp_path):
    """Three cases of two channels with labels, a test case with labels, and one without."""
    for number in range(3):
        for channel in range(2):
            image(tmp_path / "imagesTr" / f"BRATS_{number:03d}_{channel:04d}.nii.gz", 10 * number + channel)
        image(tmp_path / "labelsTr" / f"BRATS_{number:03d}.nii.gz", 1)
    for channel in range(2):
        image(tmp_path / "imagesTs" / f"BRATS_900_{channel:04d}.nii.gz", 900 + channel)
    image(tmp_path / "labelsTs" / "BRATS_900.nii.gz", 1)
    (tmp_path / "dataset.json").write_text(json.dumps({"channel_names": {"1": "T1-w", "0": "FLAIR"}}))
    return tmp_path


def test_channels_are_the_roles_of_their_names_and_folders_the_split(decathlon):
    found = discover(segmentation("t1_w", "flair"), DataConfig(data=decathlon))
    assert {case.name: case.split for case in found} == {
        "BRATS_000": "train",
        "BRATS_001": "train",
        "BRATS_002": "train",
        "BRATS_900": "test",
    }
    case = next(case for case in found if case.name == "BRATS_002")
    assert {role: source.paths[0].name for role, source in case.sources.items()} == {
        "flair": "BRATS_002_0000.nii.gz",
        "t1_w": "BRATS_002_0001.nii.gz",
        "tumour": "BRATS_002.nii.gz",
    }
    assert names_of_images(DataConfig(data=decathlon)) == ["flair", "t1_w"]


def test_channels_of_other_names_are_taken_in_order_where_their_number_fits(decathlon):
    case = discover(segmentation("a", "b"), DataConfig(data=decathlon))[0]
    assert case.sources["a"].paths[0].name.endswith("_0000.nii.gz")
    with pytest.raises(
        UserError, match=r"imagesTr: 2 channels \(flair, t1_w\), but the images of this system are a, b, c"
    ):
        discover(segmentation("a", "b", "c"), DataConfig(data=decathlon))


def test_images_for_testing_without_labels_are_named_and_left_out(decathlon):
    (decathlon / "labelsTs" / "BRATS_900.nii.gz").unlink()
    (decathlon / "labelsTs").rmdir()
    with pytest.warns(Notice, match="imagesTs: 1 images without labels are not used"):
        found = discover(segmentation("flair", "t1_w"), DataConfig(data=decathlon))
    assert len(found) == 3 and {case.split for case in found} == {"train", "test"}


def test_a_damaged_description_is_named(decathlon):
    (decathlon / "dataset.json").write_text('{"channel_names": {"x": 1}}')
    with pytest.raises(UserError, match=r"dataset\.json: cannot be read as the description of a data set"):
        names_of_images(DataConfig(data=decathlon))


@pytest.fixture
def pairs(tmp_path):
    """Pairs for training and testing, which have the same names, as in public collections."""
    for side, numbers in (("train", 3), ("test", 2)):
        for letter, value in (("A", 100), ("B", 200)):
            for number in range(numbers):
                image(tmp_path / f"{side}{letter}" / f"{number}_{letter}.nii.gz", value + number)
    return tmp_path


def test_folders_a_and_b_are_the_two_images_of_the_system(pairs):
    task = build("pix2pix", {"source": "mr", "target": "pet", "size": (32, 32), "levels": 3}).task
    found = discover(task, DataConfig(data=pairs))
    assert sorted(case.split for case in found) == ["test"] * 2 + ["train"] * 3
    assert len({case.subject for case in found}) == 5, "equal names of different sides are different subjects"
    for case in found:
        names = {role: "/".join(source.paths[0].parts[-2:]) for role, source in case.sources.items()}
        number = names["mr"].partition("/")[2][0]
        assert names == {
            "mr": f"{case.split}A/{number}_A.nii.gz",
            "pet": f"{case.split}B/{number}_B.nii.gz",
        }


def test_unpaired_images_of_folders_a_and_b_are_cases_of_their_own(pairs):
    (pairs / "trainB" / "0_B.nii.gz").rename(pairs / "trainB" / "other.nii.gz")
    task = build("cyclegan", {"size": (32, 32)}).task
    found = discover(task, DataConfig(data=pairs))
    sides = [set(case.sources) for case in found if case.split == "train"]
    assert sorted(map(len, sides)) == [1, 1, 2, 2]


def test_two_images_of_one_name_are_refused(pairs):
    image(pairs / "trainA" / "0_A.nii", 7)
    with pytest.raises(UserError, match=r"0_A\.nii.* and .*0_A\.nii.*: two images of one name"):
        discover(build("pix2pix", {"size": (32, 32), "levels": 3}).task, DataConfig(data=pairs))


def test_systems_with_another_number_of_images_are_told_so(pairs):
    with pytest.raises(UserError, match="trainA: two kinds of images, but this system has flair, t1, t2"):
        discover(segmentation("flair", "t1", "t2"), DataConfig(data=pairs))


def test_files_called_by_the_roles_are_cases_of_their_folders(tmp_path):
    for number, patient in enumerate(("anna", "ben")):
        for name in ("flair", "T1", "lesions"):
            image(tmp_path / patient / f"{name}.nii.gz", number)
    image(tmp_path / "ben" / "localiser.nii.gz", 9)
    image(tmp_path / "cleo" / "flair.nii.gz", 9)
    task = build("segan", {"inputs": ("flair", "t1"), "labels": "lesions", "regions": {"all": (1,)}}).task
    with pytest.warns(Notice) as told:
        found = discover(task, DataConfig(data=tmp_path))
    assert {case.subject: {role: one.paths[0].name for role, one in case.sources.items()} for case in found} == {
        patient: {"flair": "flair.nii.gz", "t1": "T1.nii.gz", "lesions": "lesions.nii.gz"}
        for patient in ("anna", "ben")
    }
    assert any("1 images are left out: no role is called as they are" in str(one.message) for one in told)
    assert any("cleo" in str(one.message) for one in told)


def test_folders_of_a_series_each_may_be_called_by_the_roles_too(tmp_path):
    for patient in ("anna", "ben"):
        for name in ("mr", "ct"):
            image(tmp_path / patient / name.upper() / "series.nii.gz", 1)
    task = build("pix2pix", {"source": "mr", "target": "ct", "size": (32, 32), "levels": 3}).task
    found = discover(task, DataConfig(data=tmp_path))
    assert {case.subject: {role: one.paths[0].parent.name for role, one in case.sources.items()} for case in found} == {
        patient: {"mr": "MR", "ct": "CT"} for patient in ("anna", "ben")
    }


def test_a_folder_without_all_images_of_any_case_has_another_layout(tmp_path):
    for patient in ("anna", "ben"):
        image(tmp_path / patient / "mr.nii.gz", 1)
    task = build("pix2pix", {"source": "mr", "target": "ct", "size": (32, 32), "levels": 3}).task
    with pytest.raises(UserError):
        discover(task, DataConfig(data=tmp_path))
