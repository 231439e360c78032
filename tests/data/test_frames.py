"""Recordings over time, whose time frames become cases."""

import nibabel
import numpy as np
import pytest

from ganatomy.case import Case
from ganatomy.data.frames import in_frames, parse_frames
from ganatomy.errors import UserError
from ganatomy.images.files import find


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


def test_parse():
    assert parse_frames(["all"]) is None and parse_frames(["2", "es=5"]) == {"2": 2, "es": 5}
