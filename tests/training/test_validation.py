"""Training and validation cases that a run begins with: enough of them, and none lost in silence."""

import errno

import numpy as np
import pytest

from ganatomy.data.cases import DataConfig
from ganatomy.errors import LeftOut, Notice, Shortage, UserError
from ganatomy.images.files import Source, write
from ganatomy.images.image import Image
from ganatomy.inference.runfile import read_run
from ganatomy.tasks.synthesis.task import Synthesis

SMALL = {
    "batch_size": 2, "size": (32, 32), "width": 2, "latent": 4,
    "roles": {"images": {"channels": 1, "window": (0.0, 255.0), "unit": None}},
}  # fmt: skip


@pytest.fixture
def pictures(tmp_path):
    """Folder of eight pictures, each of a subject of its own."""
    for number in range(8):
        values = np.random.default_rng(number).integers(0, 255, (32, 32), np.uint8)
        write(tmp_path / "pictures" / f"p{number}.png", Image.from_array(values))
    return tmp_path / "pictures"


def test_a_system_that_compares_sets_of_images_validates_on_two(tiny, pictures, cases, tmp_path):
    data = DataConfig(data=pictures, cache=cases)
    tiny("dcgan", tmp_path / "run", rounds=1, preset="paper", data=data, **SMALL)
    assert len(read_run(tmp_path / "run").split.val) == 2


def test_one_named_validation_image_is_refused_before_training(tiny, pictures, cases, tmp_path):
    data = DataConfig(data=pictures, val_subjects=("p0",), cache=cases)
    with pytest.raises(UserError, match="validation: 1 image, but the scores compare sets of at least 2; name more"):
        tiny("dcgan", tmp_path / "run", rounds=1, preset="paper", data=data, **SMALL)
    assert not (tmp_path / "run").exists()


def test_lost_cases_are_named_and_counted_before_training_starts(tiny, pictures, cases, tmp_path):
    (pictures / "q.png").write_bytes(b"no picture")
    data = DataConfig(data=pictures, test_subjects=("p0",), cache=cases)
    with pytest.warns(LeftOut) as told:
        tiny("dcgan", tmp_path / "run", rounds=1, preset="paper", data=data, **SMALL)
    lost, counted = (str(notice.message) for notice in told if issubclass(notice.category, LeftOut))
    assert lost.startswith("left out: q: ") and str(pictures / "q.png") in lost
    assert counted == "1 of 8 cases are left out, for the reasons above"
    assert len(read_run(tmp_path / "run").left_out) == 1


def test_cases_without_a_slice_to_learn_from_are_named(tiny, pictures, cases, tmp_path, monkeypatch):
    monkeypatch.setattr(Synthesis, "trainable_slices", lambda self, sample: np.array([sample.case.name != "p3"]))
    data = DataConfig(data=pictures, test_subjects=("p0",), val_subjects=("p1", "p2"), cache=cases)
    with pytest.warns(Notice, match="1 of 7 cases have no slice that may be learned from: p3"):
        tiny("dcgan", tmp_path / "run", rounds=1, preset="paper", data=data, **SMALL)


def test_a_lack_of_open_files_stops_a_run_before_it_starts(tiny, pictures, cases, tmp_path, monkeypatch):
    def lacking(self):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(Source, "open", lacking)
    with pytest.raises(Shortage, match=r"p\d: too many open files; raise the limit"):
        tiny("dcgan", tmp_path / "run", rounds=1, preset="paper", data=DataConfig(data=pictures, cache=cases), **SMALL)
    assert not (tmp_path / "run").exists()
