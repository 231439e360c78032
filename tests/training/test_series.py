import shutil

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from ganatomy import catalogue
from ganatomy.data.cases import DataConfig
from ganatomy.data.pseudonyms import Pseudonyms
from ganatomy.data.splits import Fold
from ganatomy.errors import UserError
from ganatomy.evaluation.choosing import choose_cases
from ganatomy.images.files import write
from ganatomy.images.image import Image
from ganatomy.inference.runfile import TrainConfig, read_run, write_run
from ganatomy.training.run import train
from ganatomy.training.series import check_code, finished, train_folds, train_once

SMALL = {"variant": "cnn-mse", "width": 2, "batch_size": 2, "patch": 16, "scan": {"views": 20}}
OPTIONS = TrainConfig(rounds=1, threads=1, validation_slices=1, diagnose=False)
CONFIG = catalogue.load("wgan-vgg").Config.preset("small", **SMALL)


@pytest.fixture(scope="module")
def data(cases):
    return DataConfig(phantom_subjects=5, phantom_size=48, cache=cases)


@pytest.fixture(scope="module")
def folds(data, tmp_path_factory):
    """Three folds of five phantoms."""
    out = tmp_path_factory.mktemp("series") / "folds"
    train_folds("wgan-vgg", out, 3, CONFIG, data, OPTIONS)
    return out


def state(folder):
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def test_every_subject_is_tested_in_one_fold(folds):
    runs = [read_run(folds / f"fold{number}") for number in range(3)]
    assert sorted(path.name for path in folds.iterdir()) == ["fold0", "fold1", "fold2"]
    assert [run.split.fold for run in runs] == [Fold(number=number, of=3) for number in range(3)]
    tested = [name for run in runs for name in run.split.test]
    mine = Pseudonyms.of_user()
    assert sorted(tested) == sorted(mine.subject(f"phantom{number:03d}") for number in range(5))
    for run in runs:
        assert sorted((*run.split.train, *run.split.val, *run.split.test)) == sorted(tested)
    assert all(f"fold {number} of 3" in (folds / f"fold{number}" / "card.md").read_text() for number in range(3))


def test_finished_folds_are_left_and_missing_ones_trained(folds, data, tmp_path):
    out = shutil.copytree(folds, tmp_path / "folds")
    shutil.rmtree(out / "fold1")
    before = state(out)
    models = train_folds("wgan-vgg", out, 3, CONFIG, data, OPTIONS)
    after = state(out)
    assert all(after[path] == held for path, held in before.items())
    assert [model.facts.split.fold.number for model in models] == [0, 1, 2]
    for name, values in load_file(folds / "fold1" / "weights-last.safetensors").items():
        assert np.array_equal(values, load_file(out / "fold1" / "weights-last.safetensors")[name])


def test_an_unfinished_fold_goes_on(folds, data, tmp_path):
    out = shutil.copytree(folds, tmp_path / "folds")
    for name in ("weights-last.safetensors", "weights.safetensors", "checkpoints/last.ckpt"):
        (out / "fold2" / name).unlink()
    assert not finished(out / "fold2", read_run(out / "fold2"))
    train_folds("wgan-vgg", out, 3, CONFIG, data, OPTIONS)
    assert finished(out / "fold2", read_run(out / "fold2"))
    for name, values in load_file(folds / "fold2" / "weights-last.safetensors").items():
        assert np.array_equal(values, load_file(out / "fold2" / "weights-last.safetensors")[name])


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"config": catalogue.load("wgan-vgg").Config.preset("small", **{**SMALL, "width": 3})}, "another width"),
        ({"options": OPTIONS.model_copy(update={"seed": 1})}, "another seed"),
        ({"fold": Fold(number=1, of=3)}, "another fold"),
        ({"data": {"phantom_subjects": 4}}, "another phantom_subjects"),
        ({"data": {"test_subjects": ("phantom001",)}}, "another test_subjects"),
        ({"secret": True}, "another secret"),
    ],
)
def test_other_runs_in_the_way_are_told_by_what_differs(folds, data, tmp_path, changed, told):
    wanted = {"config": CONFIG, "data": data, "options": OPTIONS, "fold": Fold(number=0, of=3), **changed}
    if "data" in changed:
        wanted["data"] = data.model_copy(update=changed["data"])
    if "secret" in changed:
        wanted["secret"] = tmp_path / "theirs"
        wanted["secret"].write_text("a secret of somebody else")
    before = state(folds)
    with pytest.raises(UserError, match=f"fold0: holds a run with {told}"):
        train_once("wgan-vgg", folds / "fold0", **wanted)
    assert state(folds) == before


@pytest.mark.parametrize(("count", "told"), [(1, "give at least 2"), (6, "there are only 5 subjects")])
def test_impossible_numbers_of_folds_are_refused_before_anything_is_made(data, tmp_path, count, told):
    with pytest.raises(UserError, match=f"--folds {count}: {told}"):
        train_folds("wgan-vgg", tmp_path / "out", count, CONFIG, data, OPTIONS)
    assert not (tmp_path / "out").exists()


def test_weights_that_do_not_say_their_round_are_damaged(folds, tmp_path):
    run = shutil.copytree(folds / "fold0", tmp_path / "run")
    assert finished(run, read_run(run))
    save_file(load_file(run / "weights-last.safetensors"), run / "weights-last.safetensors")
    with pytest.raises(UserError, match=r"weights-last\.safetensors: damaged weights"):
        finished(run, read_run(run))


SITES = {"Nordklinik": 3, "Ostklinik": 2, "Westklinik": 1}


@pytest.fixture(scope="module")
def scanned(tmp_path_factory, cases):
    """Six CT images from three sites of different sizes."""
    folder = tmp_path_factory.mktemp("scanned")
    lines = ["subject,target,scanner"]
    for site, count in SITES.items():
        for number in range(count):
            name = f"{site[:1].lower()}{number}"
            values = np.random.default_rng([count, number]).normal(40, 200, (2, 24, 20)).astype(np.float32)
            values[:, :4] = -1000
            write(folder / f"{name}.nii.gz", Image.from_array(values, (3.0, 1.25, 1.25), unit="HU"))
            lines.append(f"subject{name},{name}.nii.gz,{site}")
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    return DataConfig(data=folder / "list.csv", cache=cases)


def sites_of_subjects(scanned):
    rows = [line.split(",") for line in scanned.data.read_text().splitlines()[1:]]
    return {Pseudonyms.of_user().subject(row[0]): Pseudonyms.of_user().site(row[2]) for row in rows}


def test_each_site_of_the_data_is_left_out_by_one_fold_and_named_nowhere(scanned, tmp_path):
    models = train_folds("wgan-vgg", tmp_path / "cv", "sites", CONFIG, scanned, OPTIONS)
    site, tested = sites_of_subjects(scanned), []
    for number, facts in enumerate(model.facts for model in models):
        assert facts.split.fold == Fold(number=number, of=3, by="sites")
        (left,) = facts.split.sites["test"]
        assert {one for one in site if site[one] == left} == set(facts.split.test)
        assert left not in (*facts.split.sites["train"], *facts.split.sites.get("val", ()))
        tested.append(left)
        for path in (tmp_path / "cv" / f"fold{number}").rglob("*"):
            assert path.is_dir() or not any(name.encode() in path.read_bytes() for name in SITES), path
        card = (tmp_path / "cv" / f"fold{number}" / "card.md").read_text()
        assert f"fold {number} of 3, which are sites" in card and "1 site, 1 of them not trained on" in card
    assert tested == sorted(Pseudonyms.of_user().site(name) for name in SITES)
    again = train_once("wgan-vgg", tmp_path / "cv" / "fold1", CONFIG, scanned, OPTIONS, fold=models[1].facts.split.fold)
    assert again.identity == models[1].identity


def test_sites_that_are_held_out_are_recorded_by_pseudonym_and_judged_where_they_are_named(scanned, tmp_path):
    data = scanned.model_copy(update={"hold_out_site": ("Ostklinik", "Westklinik")})
    model = train("wgan-vgg", tmp_path / "run", CONFIG, data, OPTIONS)
    mine = Pseudonyms.of_user()
    ost, west = map(mine.site, data.hold_out_site)
    assert model.facts.data.hold_out_site == (ost, west) and model.facts.split.sites["test"] == tuple(
        sorted((ost, west))
    )
    assert sorted(sites_of_subjects(scanned)[one] for one in model.facts.split.test) == sorted([ost, ost, west])
    again = data.model_copy(update={"hold_out_site": (ost[:8], "Westklinik")})
    assert train_once("wgan-vgg", tmp_path / "run", CONFIG, again, OPTIONS).identity == model.identity
    with pytest.raises(UserError, match="another hold_out_site"):
        train_once("wgan-vgg", tmp_path / "run", CONFIG, scanned, OPTIONS)

    def judged(*sites, **options):
        asked = scanned.model_copy(update={"hold_out_site": sites, **options})
        return sorted(case.subject for case in choose_cases(model.method.task, model.facts, asked, mine).cases)

    assert judged(*model.facts.data.hold_out_site) == ["subjecto0", "subjecto1", "subjectw0"]
    assert judged("Westklinik") == ["subjectw0"] == judged(west[:8])
    copied = shutil.copytree(scanned.data.parent, tmp_path / "other")
    assert judged("Ostklinik", data=copied / "list.csv") == ["subjecto0", "subjecto1"]
    with pytest.raises(UserError, match=r"--hold-out-site Bern: no case in .* is of it"):
        judged("Bern")


METHOD = "ganatomy.methods.denoising.wgan_vgg"


@pytest.fixture
def checked(folds, data, tmp_path):
    """Copies of the folds, and a function that compares their code with the present one: (found, what was said)."""
    out, method = shutil.copytree(folds, tmp_path / "folds"), catalogue.load("wgan-vgg")(CONFIG)
    runs = {out / name: method for name in ("fold0", "fold1", "never")}

    def check(**options):
        said = []
        return check_code(runs, data, said.append, **options), said

    return out, check


def rewrite(folder, **changes):
    write_run(folder, read_run(folder).model_copy(update=changes))


def test_runs_of_the_present_code_are_used_in_silence(checked):
    _, check = checked
    assert check(retrain=False) == check(retrain=True) == ([], [])


def test_runs_of_other_code_are_refused_by_name(checked, edited):
    out, check = checked
    edited(METHOD, "return", "pass;return")
    before = state(out)
    with pytest.raises(UserError, match=r"fold0 and 1 more: trained before the code .* add --retrain"):
        check(retrain=False)
    with pytest.raises(UserError, match="choose another --out") as refused:
        check()
    assert "--retrain" not in str(refused.value) and state(out) == before


def test_folds_of_other_code_are_not_joined_by_new_ones(folds, data, tmp_path, edited):
    out = shutil.copytree(folds, tmp_path / "folds")
    shutil.rmtree(out / "fold2")
    edited(METHOD, "return", "pass;return")
    with pytest.raises(UserError, match="fold0 and 1 more: trained before the code"):
        train_folds("wgan-vgg", out, 3, CONFIG, data, OPTIONS)
    assert not (out / "fold2").exists()


def test_runs_of_unknown_code_are_used_and_named(checked):
    out, check = checked
    rewrite(out / "fold1", code=None)
    found, said = check(retrain=False)
    assert found == [out / "fold1"]
    assert len(said) == 1 and "fold1: trained by code that is not known" in said[0] and "--retrain" in said[0]


def test_old_runs_are_moved_aside_and_never_lost(checked):
    out, check = checked
    rewrite(out / "fold0", code="0" * 16)
    rewrite(out / "fold1", code=None)
    (out / "fold1-earlier1").mkdir()
    weights = {name: (out / name / "weights-last.safetensors").read_bytes() for name in ("fold0", "fold1")}
    found, said = check(retrain=True)
    assert found == [] and len(said) == 2 and not (out / "fold0").exists() and not (out / "fold1").exists()
    assert (out / "fold0-earlier1" / "weights-last.safetensors").read_bytes() == weights["fold0"]
    assert (out / "fold1-earlier2" / "weights-last.safetensors").read_bytes() == weights["fold1"]


def test_a_run_that_other_code_goes_on_with_is_of_no_known_code(folds, data, tmp_path, edited):
    out = shutil.copytree(folds / "fold0", tmp_path / "run")
    assert len(read_run(out).code) == 16
    rounds = TrainConfig(rounds=2)
    train("wgan-vgg", out, data=data, options=rounds, resume=True)
    assert read_run(out).code == read_run(folds / "fold0").code
    edited(METHOD, "return", "pass;return")
    train("wgan-vgg", out, data=data, options=TrainConfig(rounds=3), resume=True)
    assert read_run(out).code is None
