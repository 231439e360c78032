"""Damaged and edited run folders: they are refused in one line and left as they are, or work."""

import random
import shutil
import warnings

import numpy as np
import pytest
from damage import damages
from runs import make_run

from ganatomy.errors import UserError
from ganatomy.images.files import find, write
from ganatomy.images.image import Image
from ganatomy.inference.apply import Applier, Output
from ganatomy.training.run import TrainConfig, train

EACH = 6
"""Damages that are tried of every file."""


def state(folder):
    """Return all files of a folder, with their contents, and all folders."""
    return {path.relative_to(folder): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("other") / "run", "sagan-ct", {"width": 2}, which=("best", "last"))


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("image") / "ct.nii"
    write(path, Image.from_array(np.random.default_rng(0).normal(0, 200, (1, 32, 32)).astype(np.float32), unit="HU"))
    return path


@pytest.mark.parametrize(
    "name", ["run.yaml", "metrics.csv", "weights.safetensors", "weights-last.safetensors", "card.md", "last.ckpt"]
)
def test_a_damaged_file_is_told_in_one_line_or_does_no_harm(trained, other, image, tmp_path, name):
    found = [one for one in damages(trained, other, seed=16, count=12) if one[0].name == name]
    for number, (file, told, change) in enumerate(random.Random(16).sample(found, EACH)):
        run = shutil.copytree(trained, tmp_path / str(number) / "run")
        change(run / file)
        before = state(run)
        for use in (resume, apply):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    use(run, image)
            except UserError as error:
                assert str(run) in str(error) and "\n" not in str(error), told
                assert state(run) == before, told
            before = state(run)


def resume(run, image):
    return train("wgan-vgg", run, resume=True, options=TrainConfig(rounds=8))


def apply(run, image):
    return Applier(run)({"input": find(image)[0]}, Output(run.parent / "out.nii", "nifti"))


@pytest.mark.parametrize("name", ["metrics.csv", "card.md", "calibration.json", "events", "checkpoints"])
def test_what_stands_in_the_way_of_a_file_is_told_before_anything_is_written(trained, tiny, tmp_path, name):
    run = shutil.copytree(trained, tmp_path / "run")
    path = run / name
    if path.is_dir():
        shutil.rmtree(path)
        path.write_text("mine")
    else:
        path.unlink(missing_ok=True)
        path.mkdir()
    before = state(run)
    with pytest.raises(UserError, match=rf"{name}: a (file|folder) is in the way; remove it"):
        tiny("wgan-vgg", run, rounds=9, resume=True)
    assert state(run) == before


@pytest.mark.parametrize("which", ["weights.safetensors", "weights-last.safetensors"])
def test_weights_of_another_run_are_refused_wherever_they_are_used(trained, tiny, image, tmp_path, which):
    run = shutil.copytree(trained, tmp_path / "run")
    tiny("wgan-vgg", tmp_path / "theirs", rounds=1, options={"seed": 7})
    shutil.copy(tmp_path / "theirs" / which, run / which)
    before = state(run)
    with pytest.raises(UserError, match="was changed or comes from another run"):
        tiny("wgan-vgg", run, rounds=9, resume=True)
    with pytest.raises(UserError, match="was changed or comes from another run"):
        Applier(run, "best" if which == "weights.safetensors" else "last")
    assert state(run) == before
