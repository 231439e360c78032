"""Studies from training to results, on tiny phantoms."""

import csv
import json
import shutil

import numpy as np
import pytest
from safetensors.torch import load_file

from ganatomy import catalogue
from ganatomy.catalogue import SYSTEMS
from ganatomy.data.cases import DataConfig, find_cases
from ganatomy.data.pseudonyms import Pseudonyms
from ganatomy.data.splits import Fold
from ganatomy.errors import UserError
from ganatomy.evaluation.evaluate import evaluate
from ganatomy.inference.runfile import TrainConfig, read_run
from ganatomy.metrics.statistics import contrast, crossed_interval
from ganatomy.studies.plan import STUDY_FILE
from ganatomy.studies.study import study

PLANNED = next(system.slug for system in SYSTEMS if not system.module)
"""Some system that is not ready."""

pytestmark = pytest.mark.usefixtures("one_thread")

CONFIG = catalogue.load("segan").Config.preset("small", width=2, critic_width=2, patch=32, batch_size=2)
OPTIONS = TrainConfig(rounds=2, threads=1, validation_slices=1, diagnose=False)
SHARES = (0.3, 1.0)


@pytest.fixture(scope="module")
def data(cases):
    return DataConfig(phantom_subjects=8, phantom_size=32, cache=cases)


def run(out, data, **settings):
    """Study with trained runs, shared by all tests that need one."""
    usual = {"label_fraction": SHARES, "against": ("baseline",), "seeds": 2}
    return study("segan", out, CONFIG, data, OPTIONS, **{**usual, **settings})


@pytest.fixture(scope="module")
def done(data, tmp_path_factory):
    return run(tmp_path_factory.mktemp("studies") / "study", data)


@pytest.fixture(scope="module")
def results(done):
    return json.loads((done.out / "results.json").read_text())


def state(folder):
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def test_every_arm_is_trained_with_every_seed_on_the_same_test_subjects(done):
    names = ["segan-1", "baseline-1", "segan-0.3", "baseline-0.3"]
    assert [arm.name for arm in done.arms] == names
    assert sorted(path.name for path in (done.out / "arms").iterdir()) == sorted(names)
    runs = {(name, seed): read_run(done.out / "arms" / name / f"seed{seed}") for name in names for seed in range(2)}
    assert all(facts.training.seed == seed and sum(facts.rounds.values()) == 2 for (_, seed), facts in runs.items())
    assert len({facts.split.test for facts in runs.values()}) == 1
    assert {name for (name, _), facts in runs.items() if facts.config["critics"]} == {"segan-1", "segan-0.3"}


def test_fewer_annotations_are_a_part_of_more_and_other_images_stay(done):
    for seed in range(2):
        less, more = (read_run(done.out / "arms" / f"segan-{share}" / f"seed{seed}").split for share in ("0.3", "1"))
        assert set(less.annotated) < set(more.annotated) and len(less.annotated) == 2
        assert set(more.annotated) == set(more.train) == set(less.train)
        other = read_run(done.out / "arms" / "baseline-0.3" / f"seed{seed}").split
        assert other == less, "arms are trained alike"
    one, two = (read_run(done.out / "arms" / "segan-0.3" / f"seed{seed}").split.annotated for seed in range(2))
    assert one != two, "seeds draw other subjects"


def test_numbers_are_those_of_the_runs(done, results, tmp_path):
    """Every value is found again by judging the run alone, and means and differences by computing them from values."""
    found = results["scores"]["dice"]
    names = [arm.name for arm in done.arms]
    for arm, seed in (("segan-1", 0), ("baseline-0.3", 1)):
        alone = evaluate(done.out / "arms" / arm / f"seed{seed}", out=tmp_path / f"{arm}{seed}", which="last")
        expected = alone.scores.by_subject("output", "dice")
        assert {subject: values[seed] for subject, values in found["values"][arm].items()} == pytest.approx(expected)
    assert set(found["values"]["segan-1"]) == set(results["test_subjects"])
    there = [*names, results["reference"]["name"]]
    tables = {name: np.array(list(found["values"][name].values()), float).T for name in there}
    for name in names:
        again = crossed_interval(tables[name])
        told = found["means"][name]
        assert (told["mean"], told["low"], told["high"]) == pytest.approx((again.mean, again.low, again.high))
    pairs = [(one["arm"], one["reference"]) for one in found["differences"]]
    expected_pairs = [*[(name, "segan-1") for name in names[1:]], ("baseline-0.3", "segan-0.3")]
    expected_pairs.append(("segan-1", results["reference"]["name"]))
    assert pairs == expected_pairs
    for one in found["differences"]:
        again = contrast(tables[one["arm"]], tables[one["reference"]])
        interval = again.difference
        assert (one["mean"], one["low"], one["high"]) == pytest.approx((interval.mean, interval.low, interval.high))
        assert one["outcome"] == again.outcome and again.outcome in ("undecided", "not run enough"), "two seeds"


def test_the_table_and_the_page_say_what_the_results_say(done, results):
    with (done.out / "table.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    own = [row for row in rows if row["arm"] == "baseline-0.3" and row["score"] == "dice"]
    assert [row["reference"] for row in own] == ["segan-1", "segan-0.3"]
    told = results["scores"]["dice"]["differences"]
    for row in own:
        one = next(one for one in told if (one["arm"], one["reference"]) == (row["arm"], row["reference"]))
        assert float(row["difference"]) == pytest.approx(one["mean"], rel=1e-4)
    assert {row["label_fraction"] for row in own} == {"0.3"} and own[0]["system"] == "segan"
    page = (done.out / "report.html").read_text()
    assert done.headline in page.replace("&#x27;", "'") and "With fewer annotations" in page
    assert "annotations of 2" in page and "Only 2 test subjects" in page


def test_nobody_is_called_by_name(done, data):
    task = catalogue.load("segan").of(CONFIG).task
    names = {case.subject for case in find_cases(task, data)}
    texts = [path.read_text() for path in done.out.rglob("*") if path.suffix in (".yaml", ".json", ".csv", ".html")]
    assert len(texts) > 10 and not [name for name in names for text in texts if name in text]


def test_called_again_it_leaves_what_is_done_and_trains_what_is_missing(done, data, tmp_path):
    begun, before = done.out / "arms" / "segan-1" / "seed1", state(done.out / "arms")
    weights = load_file(begun / "weights-last.safetensors")
    for name in ("weights-last.safetensors", "weights.safetensors", "checkpoints/last.ckpt"):
        (begun / name).unlink()
    # Where prepared cases are kept and how often progress is told has no part in what is found.
    moved, options = data.model_copy(update={"cache": tmp_path}), OPTIONS.model_copy(update={"log_every": 1})
    again = study("segan", done.out, CONFIG, moved, options, label_fraction=SHARES, against=("baseline",), seeds=2)
    after = state(done.out / "arms")
    assert all(after[path] == held for path, held in before.items() if begun not in path.parents)
    for name, values in load_file(begun / "weights-last.safetensors").items():
        assert np.array_equal(values, weights[name]), "an unfinished run goes on to the same weights"
    assert again.found == done.found and again.headline == done.headline


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"label_fraction": (0.5, 1.0)}, "another label-fraction"),
        ({"against": ()}, "another against"),
        ({"seeds": 3}, "another seeds"),
        ({"folds": 2}, "another data|another folds|test-subjects"),
        ({"data": {"phantom_size": 48}}, "another phantom-size"),
        ({"options": {"rounds": 3}}, "another rounds"),
        ({"options": {"seed": 1}}, "another seed"),
        ({"config": {"width": 3}}, "another width"),
        ({"system": "pix2pix"}, "another system"),
    ],
)
def test_other_settings_are_refused_and_change_nothing(done, data, changed, told):
    before = state(done.out)
    settings = {"label_fraction": SHARES, "against": ("baseline",), "seeds": 2}
    settings |= {name: changed[name] for name in changed if name in ("label_fraction", "against", "seeds", "folds")}
    config = CONFIG.model_copy(update=changed.get("config", {}))
    if "system" in changed:
        config = catalogue.load(changed["system"]).Config.preset("small")
    data, options = (
        one.model_copy(update=changed.get(name, {})) for name, one in (("data", data), ("options", OPTIONS))
    )
    with pytest.raises(UserError, match=told) as error:
        study(changed.get("system", "segan"), done.out, config, data, options, **settings)
    assert "\n" not in str(error.value)
    assert state(done.out) == before


def test_every_subject_is_tested_once_in_folds(data, tmp_path):
    small = data.model_copy(update={"phantom_subjects": 5})
    found = study("segan", tmp_path / "folds", CONFIG, small, OPTIONS, against=("baseline",), folds=2, seeds=1)
    everybody = {Pseudonyms.of_user().subject(f"phantom{number:03d}") for number in range(5)}
    for arm in ("segan", "baseline"):
        runs = [read_run(found.out / "arms" / arm / "seed0" / f"fold{number}") for number in range(2)]
        assert [facts.split.fold for facts in runs] == [Fold(number=number, of=2) for number in range(2)]
        assert sorted(name for facts in runs for name in facts.split.test) == sorted(everybody)
    results = json.loads((found.out / "results.json").read_text())
    assert len(results["test_subjects"]) == 5
    values = results["scores"]["dice"]["values"]["segan"]
    assert set(values) == set(results["test_subjects"]) and all(len(one) == 1 for one in values.values())
    for number in range(2):
        run = found.out / "arms" / "segan" / "seed0" / f"fold{number}"
        alone = evaluate(run, out=tmp_path / f"{number}", which="last")
        for subject, value in alone.scores.by_subject("output", "dice").items():
            assert values[subject] == pytest.approx([value])
    assert "One seed" in (found.out / "report.html").read_text()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"against": ("unett",)}, "--against unett: unknown system"),
        ({"against": (PLANNED,)}, f"--against {PLANNED}: system '{PLANNED}' is planned"),
        ({"against": ("cyclegan",)}, "--against cyclegan: cyclegan does translation, but segan does segmentation"),
        ({"against": ("baseline", "baseline")}, "--against baseline: an arm already"),
        ({"against": ("segan",)}, "--against segan: an arm already"),
        ({"label_fraction": (0.0, 1.0)}, "--label-fraction 0: a share is above 0 and at most 1"),
        ({"label_fraction": (1.5,)}, "--label-fraction 1.5: a share"),
        ({"label_fraction": (0.5, 0.5)}, "--label-fraction 0.5: given twice"),
        ({"folds": 9}, "--folds 9: there are only 8 subjects"),
        ({"folds": 1}, "--folds 1: give at least 2"),
        ({"seeds": 0, "folds": 2}, "--seeds 0: at least one"),
    ],
)
def test_what_cannot_be_is_told_in_a_line_and_leaves_nothing(data, tmp_path, settings, told):
    with pytest.raises(UserError) as error:
        study("segan", tmp_path / "out", CONFIG, data, OPTIONS, **settings)
    assert told in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_systems_without_annotations_or_baseline_say_so(data, tmp_path):
    system = catalogue.load("anogan")
    config = system.Config.preset("small")
    with pytest.raises(UserError, match="learns from no annotations"):
        study("anogan", tmp_path / "out", config, data, OPTIONS, label_fraction=(0.5, 1.0))
    with pytest.raises(UserError, match="--against baseline: anogan has no baseline"):
        study("anogan", tmp_path / "out", config, data, OPTIONS, against=("baseline",))


def test_other_things_in_the_folder_are_left_alone(data, tmp_path):
    (tmp_path / "letters.txt").write_text("dear")
    with pytest.raises(UserError, match=r"holds other things \(letters\.txt\)"):
        study("segan", tmp_path, CONFIG, data, OPTIONS, against=("baseline",))
    assert [path.name for path in tmp_path.iterdir()] == ["letters.txt"]
    (tmp_path / STUDY_FILE).write_text("format: 7")
    with pytest.raises(UserError, match=r"damaged or no study \(format: "):
        study("segan", tmp_path, CONFIG, data, OPTIONS, against=("baseline",))
    (tmp_path / STUDY_FILE).write_text("format: 1\nshuffled: true\n")
    with pytest.raises(UserError, match="settings that this version of ganatomy does not have: shuffled"):
        study("segan", tmp_path, CONFIG, data, OPTIONS, against=("baseline",))


def test_one_arm_with_a_scale_that_is_learned_is_compared_with_the_simple_methods(cases, tmp_path):
    """The scale of the target is known to trained models only; a map of values was the strongest reference here."""
    config = catalogue.load("pix2pix").Config.preset("small", width=2, discriminator_width=2, levels=3, size=(16, 24))
    data = DataConfig(phantom_subjects=5, phantom_size=32, cache=cases)
    found = study("pix2pix", tmp_path / "out", config, data, OPTIONS, seeds=3)
    told = json.loads((found.out / "results.json").read_text())
    assert told["reference"]["name"] in ("constant", "linear map", "monotone map", "tissue classes", "input")
    differences = told["scores"]["psnr[window]"]["differences"]
    assert [(one["arm"], one["reference"]) for one in differences] == [("pix2pix", told["reference"]["name"])]
    assert found.outcome is None and told["reference"]["name"] in found.headline
    values = told["scores"]["psnr[window]"]["values"]
    assert all(np.isfinite(one).all() for one in values["pix2pix"].values())


def test_runs_of_other_code_are_not_used_again(done, data, tmp_path, edited):
    out = shutil.copytree(done.out, tmp_path / "study")
    page = (out / "report.html").read_bytes()
    edited("ganatomy.nets.segan", "return", "pass;return")
    with pytest.raises(UserError, match=r"segan-1.seed0 and 7 more: trained before the code .* add --retrain"):
        run(out, data)
    assert (out / "report.html").read_bytes() == page


def test_runs_of_other_code_are_trained_again_where_that_is_asked_for(data, tmp_path, edited):
    out = tmp_path / "study"
    run(out, data, against=(), label_fraction=(), seeds=1)
    first = read_run(out / "arms" / "segan" / "seed0")
    edited("ganatomy.nets.segan", "return", "pass;return")
    run(out, data, against=(), label_fraction=(), seeds=1, retrain=True)
    assert read_run(out / "arms" / "segan" / "seed0").code not in (None, first.code)
    assert read_run(out / "arms" / "segan" / "seed0-earlier1") == first
    assert json.loads((out / "results.json").read_text())["of_unknown_code"] == []
