"""Cross-validation and secrets on the command line."""

import signal

import numpy as np
import pytest

from ganatomy.catalogue import resolve
from ganatomy.cli import main
from ganatomy.cli.train import read_options
from ganatomy.data.pseudonyms import Pseudonyms
from ganatomy.data.splits import Fold
from ganatomy.images.files import write
from ganatomy.images.image import Image
from ganatomy.inference.runfile import read_run
from ganatomy.training.loop import Stopped

SYSTEM = "--preset small --variant cnn-mse --width 2 --batch-size 2 --patch 16 --views 20"
TRAINING = "--rounds 1 --threads 1 --validation-slices 1 --no-diagnose"
DATA = "--phantom-subjects 4 --phantom-size 48"


@pytest.fixture
def words(cases):
    return ["train", "wgan-vgg", *f"{SYSTEM} {TRAINING} {DATA}".split(), "--cache", str(cases)]


def told(capsys, *arguments):
    """Run a command that must fail, and return its error message."""
    capsys.readouterr()
    assert main(["--quiet", *arguments]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    return lines[0]


def test_all_folds_are_trained_one_after_another(words, tmp_path, capsys):
    assert main([*words, "--folds", "2", "--out", str(tmp_path / "cv")]) == 0
    assert "2 folds are done" in capsys.readouterr().out
    runs = [read_run(tmp_path / "cv" / f"fold{number}") for number in range(2)]
    assert sorted(runs[0].split.test) == sorted((*runs[1].split.train, *runs[1].split.val))
    before = (tmp_path / "cv" / "fold1" / "run.yaml").stat().st_mtime_ns
    assert main([*words, "--folds", "2", "--out", str(tmp_path / "cv")]) == 0
    assert (tmp_path / "cv" / "fold1" / "run.yaml").stat().st_mtime_ns == before, "finished folds are left"


def test_one_fold_is_trained_into_the_folder_itself_and_repeated_with_its_run_file(words, tmp_path):
    one = tmp_path / "one"
    assert main([*words, "--folds", "2", "--fold", "1", "--out", str(one)]) == 0
    assert read_run(one).split.fold == Fold(number=1, of=2)
    options = read_options(resolve("wgan-vgg"), ["--config", str(one / "run.yaml"), "--out", "x"])
    assert (options.general.folds, options.general.fold) == (2, 1)
    assert main(["train", "wgan-vgg", "--config", str(one / "run.yaml"), "--out", str(tmp_path / "again")]) == 0
    again = read_run(tmp_path / "again")
    assert again.split == read_run(one).split and again.weights == read_run(one).weights


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--fold", "1"], "--fold 1: give --folds"),
        (["--folds", "1"], "--folds 1: give at least 2"),
        (["--folds", "5"], "--folds 5: there are only 4 subjects"),
        (["--folds", "3", "--fold", "3"], "--fold 3 --folds 3: folds are at least 2, counted from 0"),
        (["--folds", "2", "--test-subjects", "phantom001"], "--folds 2: the sides of subjects are given by"),
        (["--secret", "nowhere"], "--secret nowhere: No such file"),
    ],
)
def test_mistakes_are_told_in_a_line_and_leave_nothing(words, tmp_path, capsys, more, says):
    assert says in told(capsys, *words, *more, "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_stopped_fold_goes_on_with_the_same_command(words, tmp_path, capsys, monkeypatch):
    def stopped(*arguments, **options):
        raise Stopped(signal.SIGTERM, 3)

    monkeypatch.setattr("ganatomy.cli.train.train_folds", stopped)
    assert main([*words, "--folds", "2", "--out", str(tmp_path / "cv")]) == 128 + signal.SIGTERM
    assert "go on with: the same command" in capsys.readouterr().err


def test_runs_of_one_secret_name_subjects_alike_whoever_trains(words, tmp_path, capsys):
    (tmp_path / "shared").write_text("a secret of the whole group")
    secret = ["--secret", str(tmp_path / "shared")]
    assert main([*words, *secret, "--test-subjects", "phantom002", "--out", str(tmp_path / "run")]) == 0
    shared = Pseudonyms.of_user(tmp_path / "shared")
    assert read_run(tmp_path / "run").split.test == (shared.subject("phantom002"),)
    assert "made with another secret" in told(capsys, "train", "wgan-vgg", "--resume", "--out", str(tmp_path / "run"))
    again = ["train", "wgan-vgg", "--resume", "--rounds", "2", *secret, "--out", str(tmp_path / "run")]
    assert main([*again, "--cache", words[-1]]) == 0
    assert read_run(tmp_path / "run").rounds == {"denoise": 2}
    assert "kept for testing cannot be told" in told(capsys, "evaluate", str(tmp_path / "run"))
    assert "--secret nowhere: No such file" in told(capsys, "evaluate", str(tmp_path / "run"), "--secret", "nowhere")


def test_sites_as_folds_need_data_that_name_them(words, tmp_path, capsys):
    out = str(tmp_path / "out")
    assert "--folds sites: each site is a fold" in told(capsys, *words, "--folds", "sites", "--out", out)
    assert "no case says its site" in told(capsys, *words, "--folds", "sites", "--fold", "1", "--out", out)
    assert "no case is of site 'Nord'" in told(capsys, *words, "--hold-out-site", "Nord", "--out", out)
    assert not (tmp_path / "out").exists()


def test_one_of_the_sites_is_left_out_and_the_run_repeated_and_resumed(tmp_path, cases, capsys):
    lines = ["subject,target,site"]
    for number, site in enumerate(("Nord", "Nord", "Ost", "Nord", "Süd")):
        values = np.random.default_rng(number).normal(40, 200, (2, 24, 20)).astype(np.float32)
        write(tmp_path / f"{number}.nii.gz", Image.from_array(values, (3.0, 1.25, 1.25), unit="HU"))
        lines.append(f"p{number},{number}.nii.gz,{site}")
    (tmp_path / "list.csv").write_text("\n".join(lines) + "\n")
    plain = ["train", "wgan-vgg", *f"{SYSTEM} {TRAINING}".split(), "--cache", str(cases)]
    data = ["--data", str(tmp_path / "list.csv")]
    one, two = tmp_path / "one", tmp_path / "two"
    assert main([*plain, *data, "--folds", "sites", "--fold", "2", "--out", str(one)]) == 0
    assert "sites (subjects for): Nord (" in capsys.readouterr().err
    facts = read_run(one)
    assert facts.split.fold == Fold(number=2, of=3, by="sites")
    assert "--fold 3 --folds sites" in told(capsys, *plain, *data, "--folds", "sites", "--fold", "3", "--out", str(two))
    words = ["train", "wgan-vgg", "--config", str(one / "run.yaml"), "--cache", str(cases)]
    assert main([*words, "--out", str(two)]) == 0 and read_run(two).split == facts.split
    more = ["--folds", "sites", "--fold", "2", "--resume", "--rounds", "2", "--out", str(two)]
    assert main(["train", "wgan-vgg", *more, "--cache", str(cases)]) == 0
    held = ["--hold-out-site", "Nord", "--out", str(tmp_path / "three")]
    assert main([*plain, *data, *held]) == 0 and len(read_run(tmp_path / "three").split.test) == 3
    assert main(["train", "wgan-vgg", *held, "--resume", "--cache", str(cases)]) == 0
    capsys.readouterr()
    other = ["train", "wgan-vgg", "--hold-out-site", "Ost", *held[2:], "--resume"]
    assert "--hold-out-site: a resumed run keeps its own" in told(capsys, *other)
