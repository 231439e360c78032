"""Downstream studies on tiny phantoms."""

import csv
import json

import numpy as np
import pytest

from ganatomy import catalogue
from ganatomy.data.cases import DataConfig, find_cases
from ganatomy.data.pseudonyms import Labels, Pseudonyms
from ganatomy.errors import UserError
from ganatomy.inference.runfile import TrainConfig, read_run
from ganatomy.metrics.classification import mcnemar
from ganatomy.metrics.statistics import crossed_interval
from ganatomy.studies.augmentation import CONTROLS, ONLY, REAL, SYNTHETIC
from ganatomy.studies.downstream import downstream

pytestmark = pytest.mark.usefixtures("one_thread")

OPTIONS = TrainConfig(rounds=2, threads=1, validation_slices=1, diagnose=False)
SAMPLING = catalogue.load("cgan").Config.preset("small", batch_size=4)
TRANSLATION = catalogue.load("pix2pix").Config.preset("small", size=(32, 32), batch_size=2)
SYSTEMS = {
    "cgan": (SAMPLING, DataConfig(phantom_subjects=30)),
    "pix2pix": (TRANSLATION, DataConfig(phantom_subjects=20, phantom_size=32)),
}


@pytest.fixture(scope="module", params=SYSTEMS)
def done(request, cases, tmp_path_factory):
    """A study of each kind of system: name, configuration, data, result."""
    config, data = SYSTEMS[request.param]
    data = data.model_copy(update={"cache": cases})
    out = tmp_path_factory.mktemp("downstream") / request.param
    return request.param, config, data, downstream(request.param, out, config, data, OPTIONS, folds=2, seeds=2, steps=2)


def times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.safetensors")}


def test_nobody_is_tested_on_whom_anything_was_trained_on(done):
    name, config, data, found = done
    task = catalogue.load(name).of(config).task
    mine = Pseudonyms.of_user()
    everybody = {mine.subject(case.subject) for case in find_cases(task, data)}
    runs = [read_run(found.out / "arms" / "generator" / f"fold{number}").split for number in range(2)]
    assert set(runs[0].test) | set(runs[1].test) == everybody and not set(runs[0].test) & set(runs[1].test)
    for split in runs:
        assert {*split.train, *split.val} == everybody - set(split.test) and split.val
    assert len(set(found.gain.patients)) == len(everybody)


def test_arms_are_compared_on_the_same_patients(done):
    name, config, data, found = done
    results = json.loads((found.out / "results.json").read_text())
    assert set(results["arms"]) == {REAL, SYNTHETIC, ONLY, *CONTROLS}
    tables = {arm: np.array(list(told["correct"].values()), float).T for arm, told in results["arms"].items()}
    patients = len(results["patients"])
    assert all(table.shape == (2, patients) for table in tables.values())
    labels = Labels(find_cases(catalogue.load(name).of(config).task, data), Pseudonyms.of_user())
    assert set(results["patients"]) == set(labels.subjects.values())
    for arm, told in results["arms"].items():
        again = crossed_interval(tables[arm])
        assert (told["accuracy"]["mean"], told["accuracy"]["low"]) == pytest.approx((again.mean, again.low))
        assert told["accuracies"] == pytest.approx(tables[arm].mean(axis=1).tolist())
    with (found.out / "table.csv").open() as stream:
        rows = {row["arm"]: row for row in csv.DictReader(stream)}
    for control in CONTROLS:
        expected = crossed_interval(tables[SYNTHETIC] - tables[control])
        assert float(rows[control]["synthetic_gains"]) == pytest.approx(expected.mean, rel=1e-4)
        arms = found.gain.arms
        assert results["mcnemar"][control]["exact_p"] == mcnemar(arms[SYNTHETIC].right, arms[control].right).exact_p
    page = (found.out / "report.html").read_text()
    assert found.gain.alone in page and results["headline"] == found.gain.words


def test_called_again_it_trains_no_system_and_finds_the_same(done):
    name, config, data, found = done
    before, results = times(found.out), (found.out / "results.json").read_text()
    again = downstream(name, found.out, config, data, OPTIONS, folds=2, seeds=2, steps=2)
    assert times(found.out) == before
    assert again.gain.words == found.gain.words and (found.out / "results.json").read_text() == results
    with pytest.raises(UserError, match="another steps"):
        downstream(name, found.out, config, data, OPTIONS, folds=2, seeds=2, steps=3)


@pytest.mark.parametrize(
    ("slug", "values", "subjects", "told"),
    [
        ("dcgan", {}, 30, "dcgan makes no images by class"),
        ("wgan-vgg", {"variant": "cnn-mse"}, 30, "wgan-vgg does ct-denoising; take a system that samples"),
        ("cgan", {}, 15, "5 patients|4 patients|3 patients|2 patients"),
        ("pix2pix", {"size": (32, 32), "fit": "patches"}, 20, "images of one size"),
    ],
)
def test_what_cannot_be_is_told_in_a_line_and_leaves_nothing(slug, values, subjects, told, cases, tmp_path):
    config = catalogue.load(slug).Config.preset("small", **values)
    data = DataConfig(phantom_subjects=subjects, phantom_size=32, cache=cases)
    with pytest.raises(UserError, match=told) as error:
        downstream(slug, tmp_path / "out", config, data, OPTIONS, folds=2, seeds=1, steps=1)
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_images_without_classes_are_told(tmp_path, cases):
    for role in ("t1", "t2"):
        (tmp_path / "data" / role).mkdir(parents=True)
        for number in range(3):
            np.save(tmp_path / "data" / role / f"p{number}.npy", np.full((32, 32), 600.0, np.float32))
    data = DataConfig(data=tmp_path / "data", unit="a.u.", cache=cases)
    with pytest.raises(UserError, match="--downstream: t2 images have no two classes"):
        downstream("pix2pix", tmp_path / "out", TRANSLATION, data, OPTIONS)
    sides = DataConfig(phantom_subjects=20, phantom_size=32, test_subjects=("phantom000",), cache=cases)
    with pytest.raises(UserError, match="leave out --test-subjects"):
        downstream("pix2pix", tmp_path / "out", TRANSLATION, sides, OPTIONS)
    with pytest.raises(UserError, match="--folds 1"):
        downstream("pix2pix", tmp_path / "out", TRANSLATION, data, OPTIONS, folds=1)
