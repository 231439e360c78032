import numpy as np
import pytest
import torch

from ganatomy.errors import UserError
from ganatomy.images.frames import Frame
from ganatomy.roles.classes import UNLABELLED, ClassRole

STAGE = ClassRole("stage", ("mild", "severe", "none"))
SLICED = ClassRole("level", ("neck", "chest"), sliced=True)
WORDS = ("neck", "neck", None, "chest")


@pytest.mark.parametrize(("word", "place"), [("mild", 0), ("none", 2), ("", UNLABELLED), (None, UNLABELLED)])
def test_words_come_back(word, place):
    STAGE.check(word)
    array = STAGE.array(word, None)
    assert array.shape == (1, 1, 1, 1) and STAGE.stored(array.dtype) == array.dtype == np.int16
    assert STAGE.value(array, None, None) == (word or None)
    tensor = STAGE.tensor(STAGE.cut(array, (7, -2, 3), (1, 8, 8)), 2)
    assert tensor.shape == () and tensor.dtype == torch.int64 and tensor.item() == place
    assert STAGE.flip(array, (0, 2)) is array and STAGE.quarter_turns(array, 3) is array


@pytest.mark.parametrize("plane", ["axial", "coronal", "stored"])
def test_words_follow_their_slices(volume, plane):
    image = volume(np.arange(4.0)[:, None, None] * np.ones((4, 6, 9)))
    frame = Frame.plan(image, plane)
    if not frame.slice_wise:
        with pytest.raises(UserError, match="level: given for every slice"):
            SLICED.array(WORDS, frame)
        return
    array = SLICED.array(WORDS, frame)
    for place in range(4):
        own = int(frame.into(image).slab(place, place + 1)[0, 0, 0, 0])
        assert SLICED.value(array[:, place : place + 1], None, None) == (WORDS[own],)
    assert SLICED.value(array, frame, None) == WORDS


def test_a_patch_has_the_class_of_its_middle_slice():
    array = SLICED.array(WORDS, None)
    found = [SLICED.cut(array, (start, 0, 0), (3, 5, 5)).item() for start in (-3, -1, 0, 2, 9)]
    assert found == [0, 0, 0, 1, 1]
    assert SLICED.cut(array, (1, 0, 0), (3, 5, 5)).item() == UNLABELLED


def test_cells_of_manifests_and_files(tmp_path):
    assert STAGE.source("mild", tmp_path, lambda path: pytest.fail()).open() == "mild"
    words = SLICED.source("neck|neck||chest", tmp_path, lambda path: pytest.fail()).open()
    assert SLICED.value(SLICED.array(words, None), None, None) == WORDS
    STAGE.write(tmp_path / "a.csv", "severe")
    SLICED.write(tmp_path / "b.csv", WORDS)
    assert (tmp_path / "a.csv").read_text() == "stage\nsevere\n"
    assert (tmp_path / "b.csv").read_text() == "slice,level\n0,neck\n1,neck\n2,\n3,chest\n"


def test_what_is_no_class_is_refused(volume):
    with pytest.raises(UserError, match="stage 'sever': no such class; the classes are mild, severe, none"):
        STAGE.check("sever")
    with pytest.raises(UserError, match="'abdomen'"):
        SLICED.check(("neck", "abdomen"))
    with pytest.raises(UserError, match="2 values for 4 slices"):
        SLICED.array(("neck", "chest"), Frame.plan(volume()))


def test_all_other_names_can_be_one_class():
    level = ClassRole("level", ("rest", "neck"), sliced=True, rest="rest")
    words = ("neck", "chest", None, "rest")
    level.check(words)
    assert level.array(words, None).reshape(-1).tolist() == [1, 0, UNLABELLED, 0]
    assert level.prepared_as != ClassRole("level", ("rest", "neck"), sliced=True).prepared_as
