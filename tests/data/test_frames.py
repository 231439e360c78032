"""Recordings over time, whose time frames become cases."""

import nibabel
import numpy as np
import pytest
import tifffile

from ganatomy.case import Case
from ganatomy.data.frames import in_frames, parse_frames
from ganatomy.errors import UserError
from ganatomy.images.files import find, write
from ganatomy.images.image import Image


def recording(path, frames=4):
    values = np.zeros((7, 6, 3, frames), np.int16) + np.arange(frames, dtype=np.int16) * 10
    nibabel.save(nibabel.Nifti1Image(values if frames > 1 else values[..., 0], np.diag([1.5, 1.2, 8, 1])), path)
    return find(path)[0]


def heart(tmp_path, frames=4):
    sources = {"image": recording(tmp_path / "cine.nii.gz", frames), "mask": recording(tmp_path / "ed.nii.gz", 1)}
    return Case("anna", "anna", "train", sources)


def test_every_time_frame_is_a_case_of_the_subject(tmp_path):
    cases = in_frames([heart(tmp_path)], ["all"])
    assert [case.name for case in cases] == [f"anna_{n}" for n in range(4)]
    assert {case.subject for case in cases} == {"anna"} and [case.frame for case in cases] == list("0123")
    images = [case.sources["image"].open() for case in cases]
    assert [image.shape for image in images] == [(3, 6, 7)] * 4 and all(image.channels == 1 for image in images)
    assert [int(image.numpy().max()) for image in images] == [0, 10, 20, 30]
    assert len({case.fingerprint for case in cases}) == 4


def test_time_frames_may_have_names(tmp_path):
    cases = in_frames([heart(tmp_path)], ["ed=0", "es=3"])
    assert [(case.name, case.frame) for case in cases] == [("anna_ed", "ed"), ("anna_es", "es")]
    assert int(cases[1].sources["image"].open().numpy().max()) == 30
    assert cases[1].sources["mask"].frame is None


def test_a_case_of_one_time_frame_stays_as_it_is(tmp_path):
    case = heart(tmp_path, 1)
    assert in_frames([case], ["all"]) == in_frames([case], ["0"]) == [case]
    with pytest.raises(UserError, match="1 time frame, numbered from 0; there is no 1"):
        in_frames([case], ["1"])


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        (["ed=4"], "4 time frames, numbered from 0; there is no ed"),
        (["end"], "give all, numbers"),
        (["=3"], "give all"),
        (["a/../b=3"], "give all"),
        (["ed=0", "ed=3"], "there is a frame ed already; give every frame its own name"),
    ],
)
def test_frames_that_are_not_there_are_told(tmp_path, texts, told):
    with pytest.raises(UserError, match=told):
        in_frames([heart(tmp_path)], texts)


def test_images_of_different_length_are_told(tmp_path):
    case = heart(tmp_path)
    sources = {**case.sources, "other": recording(tmp_path / "other.nii.gz", 3)}
    with pytest.raises(UserError, match="different numbers of time frames: image 4, other 3"):
        in_frames([Case("anna", "anna", "train", sources)], ["all"])


def test_a_time_frame_does_not_take_the_name_of_another_case(tmp_path):
    single = Case("anna_1", "ben", "train", {"image": recording(tmp_path / "single.nii.gz", 1)})
    cases = in_frames([heart(tmp_path), single], ["all"])
    assert [case.name for case in cases] == ["anna_0", "anna_1_2", "anna_2", "anna_3", "anna_1"]
    assert [case.subject for case in cases] == ["anna"] * 4 + ["ben"]


def test_a_damaged_recording_does_not_stop_the_others(tmp_path):
    (tmp_path / "bad.nii.gz").write_bytes(b"no image")
    (source,) = find(tmp_path / "bad.nii.gz")
    bad = Case("bad", "bad", "train", {"image": source})
    assert [case.name for case in in_frames([bad, heart(tmp_path)], ["ed=0"])] == ["bad", "anna_ed"]


def test_parse():
    assert parse_frames(["all"]) is None and parse_frames(["2", "es=5"]) == {"2": 2, "es": 5}


@pytest.mark.parametrize("name", ["cine.nrrd", "cine.mgz", "cine.tif"])
def test_recordings_in_other_formats_are_split_and_colours_are_not(tmp_path, name):
    values = np.arange(3 * 2 * 6 * 7, dtype=np.uint8).reshape(3, 2, 6, 7)
    if name == "cine.tif":
        tifffile.imwrite(tmp_path / name, values, imagej=True, metadata={"axes": "TZYX"})
    else:
        write(tmp_path / name, Image.from_array(values.astype(np.int16)))
    case = Case("anna", "anna", "train", {"image": find(tmp_path / name)[0]})
    images = [one.sources["image"].open().numpy() for one in in_frames([case], ["all"])]
    np.testing.assert_array_equal(np.concatenate(images), values)
    tifffile.imwrite(tmp_path / "rgb.tif", np.moveaxis(values[:, :1], 0, -1), photometric="rgb")
    picture = Case("anna", "anna", "train", {"image": find(tmp_path / "rgb.tif")[0]})
    assert in_frames([picture], ["all"]) == [picture]
