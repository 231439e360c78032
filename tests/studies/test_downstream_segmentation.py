"""Downstream studies of a system that makes images of a label map, on tiny phantoms."""

import csv
import json

import numpy as np
import pytest

from ganatomy import catalogue
from ganatomy.data.cases import DataConfig, find_cases
from ganatomy.data.store import Store
from ganatomy.errors import UserError
from ganatomy.inference.model import load
from ganatomy.inference.runfile import TrainConfig, read_run
from ganatomy.studies.augmentation import CLASSIC, ONLY, REAL, SYNTHETIC
from ganatomy.studies.downstream import downstream
from ganatomy.studies.drawn import drawn_by, drawn_images, drawn_structure

pytestmark = pytest.mark.usefixtures("one_thread")

OPTIONS = TrainConfig(rounds=2, threads=1, validation_slices=1, diagnose=False)
CONFIG = catalogue.load("m-gan").Config.preset(
    "small", size=(32, 32), levels=4, width=4, discriminator_width=4, batch_size=2
)


@pytest.fixture(scope="module")
def done(cases, tmp_path_factory):
    data = DataConfig(phantom_subjects=6, phantom_size=32, cache=cases)
    out = tmp_path_factory.mktemp("downstream") / "study"
    return data, downstream("m-gan", out, CONFIG, data, OPTIONS, folds=2, seeds=2, steps=2)


def test_the_structure_is_the_map_that_is_made_or_given():
    assert drawn_structure(catalogue.load("m-gan").of(CONFIG).task) == "lesions"
    assert drawn_structure(catalogue.load("pix2pix").of(catalogue.load("pix2pix").Config.preset("small")).task) is None


def test_results_and_page_tell_the_same(done):
    _, found = done
    results = json.loads((found.out / "results.json").read_text())
    assert set(results["arms"]) == {REAL, CLASSIC, ONLY, SYNTHETIC} == set(found.arms) and found.score == "Dice"
    assert results["structure"] == "lesions" and len(results["patients"]) == 6 == len(set(results["patients"]))
    for name, told in results["arms"].items():
        table = np.array(list(told["by patient"].values())).T
        np.testing.assert_allclose(table, found.gain.arms[name])
        assert told["dices"] == pytest.approx(table.mean(axis=1).tolist())
    with (found.out / "table.csv").open() as stream:
        rows = {row["arm"]: row for row in csv.DictReader(stream)}
    gain = found.gain.difference(SYNTHETIC, REAL)
    assert float(rows[REAL]["synthetic_gains"]) == pytest.approx(gain.mean, rel=1e-4)
    page = (found.out / "report.html").read_text()
    assert "do its images help a segmenter?" in page and found.gain.alone.split(",")[0] in page
    assert "Fewer than 3 seeds decide nothing" in page and page.count("<img") == 2


def test_nobody_is_tested_on_whom_anything_was_trained_on(done):
    _, found = done
    runs = [read_run(found.out / "arms" / "generator" / f"fold{number}").split for number in range(2)]
    assert not set(runs[0].test) & set(runs[1].test) and len({*runs[0].test, *runs[1].test}) == 6
    assert all(not set(split.test) & {*split.train, *split.val} for split in runs)


def test_pairs_are_made_of_the_given_subjects_only(done):
    data, found = done
    model = load(found.out / "arms" / "generator" / "fold0", "last")
    samples = Store(model.method.task, data.cache_folder).get_all(find_cases(model.method.task, data))[0]
    real = drawn_images(model.method.task, "lesions", samples)
    one = real.names[0]
    made = drawn_by(model, "lesions", samples, {one}, 5)
    assert set(made.subjects) == {one} and len(made) == 5 and made.images.shape[1:] == (1, 32, 32)
    assert float(made.images.min()) >= -1 and float(made.images.max()) <= 1
    whole = drawn_by(model, "lesions", samples, set(real.names), 10_000)
    assert whole.masks.sum() == real.masks.sum() > 0, "the map that a PET is made of is its label"
    with pytest.raises(UserError, match="no training subject has ct and lesions"):
        drawn_by(model, "lesions", samples, {"nobody"}, 5)


def test_images_without_one_size_are_refused(tmp_path, cases):
    own = CONFIG.model_copy(update={"fit": "patches"})
    data = DataConfig(phantom_subjects=4, phantom_size=32, cache=cases)
    with pytest.raises(UserError, match="--fit contain"):
        downstream("m-gan", tmp_path / "out", own, data, OPTIONS, folds=2)
    assert not (tmp_path / "out").exists()


def test_sampled_maps_are_the_labels_of_the_images_painted_over_them(tmp_path, cases):
    kind = catalogue.load("retina-aae")
    config = kind.Config.preset("small", size=(32, 32), width=4, discriminator_widths=(4, 6), steps=2)
    data = DataConfig(phantom_subjects=6, phantom_size=max(config.size), cache=cases)
    found = downstream("retina-aae", tmp_path / "out", config, data, OPTIONS, folds=2, seeds=1, steps=2)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["structure"] == "vessels" and set(found.arms) == {REAL, CLASSIC, ONLY, SYNTHETIC}
    model = load(tmp_path / "out" / "arms" / "generator" / "fold0", "last")
    made = drawn_by(model, "vessels", [], set(), 4)
    assert made.images.shape == (4, 3, *config.size) and made.masks.shape == (4, *config.size)
    prediction = model.predictor().predict(model.method.task.frame({}), seed=2)
    assert np.array_equal(made.masks[2].numpy(), prediction.outputs["vessels"].numpy()[0, 0] > 0)
