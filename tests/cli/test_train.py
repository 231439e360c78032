"""Options of training: every one of three systems can be typed, and names of roles decide which there are."""

import shutil
from collections.abc import Mapping

import pytest
from pydantic import BaseModel

import ganatomy
from ganatomy import catalogue
from ganatomy.catalogue import resolve
from ganatomy.cli import main
from ganatomy.cli.info import named
from ganatomy.cli.train import read_options
from ganatomy.data.cases import DataConfig
from ganatomy.errors import UserError
from ganatomy.game import Aids, RolesConfig
from ganatomy.inference.runfile import TrainConfig, read_run


def typed(model, prefix=""):
    """Return all options of a configuration as words of a command line."""
    for name, value in model:
        option = f"--{prefix}{name.replace('_', '-')}"
        if isinstance(model, RolesConfig) and name == "roles":
            for role, options in value.items():
                yield from typed(options, f"{role.replace('_', '-')}.")
        elif isinstance(value, BaseModel):
            yield from typed(value, "aids." if isinstance(value, Aids) else "")
        elif isinstance(value, bool):
            yield option if value else f"--{prefix}no-{name.replace('_', '-')}"
        elif isinstance(value, Mapping):
            yield from (option, *named(value))
        else:
            yield from (option, *map(str, value if isinstance(value, tuple) else (value,)))


PIX2PIX = {
    "source": "mr_t1",
    "target": "ct",
    "mr_t1": {"scale": "percentile", "percentiles": (2.0, 97.0), "over": "all", "part": "t1"},
    "ct": {"window": (-160.0, 240.0), "unit": "HU", "channels": 3, "scale": "zscore", "deviations": 2.5},
    "flips": (),
}
DCGAN = {"images": ("t1", "pd"), "t1": {"channels": 2}, "pd": {"unit": None}, "classes": ("a", "b")}


@pytest.mark.parametrize(
    ("system", "values"),
    [("pix2pix", PIX2PIX), ("wgan-vgg", {"scan": {"views": 77}, "features_file": "a.pth"}), ("dcgan", DCGAN)],
)
def test_every_option_can_be_typed(system, values):
    cls = catalogue.load(system)
    method = cls.Config.preset("small", **values)
    data = DataConfig(
        data="folder", test_subjects=("a", "b"), slope=0.5, intercept=-3.0, unit="HU", pixel_mm=0.7, uneven=True
    )
    training = TrainConfig(
        rounds=7, seed=3, precision="bf16-mixed", monitor="x", diagnose=False, init_from=("a:critic", "b/c:x=y"),
        aids=Aids(instance_noise=0.1, r1=10.0, spectral_norm=True),
    )  # fmt: skip
    words = [*typed(method), *typed(data), *typed(training), "--out", "run", "--folds", "3", "--fold", "1"]
    options = read_options(resolve(system), words)
    assert (options.method, options.data, options.training) == (method, data, training)
    assert (str(options.general.out), options.general.folds, options.general.fold) == ("run", 3, 1)
    assert len(set(words)) > len({*type(method).model_fields, *DataConfig.model_fields, *TrainConfig.model_fields})


def test_the_preset_has_options_for_roles_of_any_name():
    options = read_options(resolve("dcgan"), ["--out", "r", "--preset", "small", "--images", "first", "second"])
    assert [options.method.roles[name].window for name in ("first", "second")] == [(0, 255), (0, 255)]
    own = read_options(
        resolve("dcgan"), ["--out", "r", "--preset", "small", "--images", "a", "b", "--b.unit", "HU"]
    ).method
    assert [own.roles[name].unit for name in "ab"] == [None, "HU"]


def test_the_comparison_has_the_same_roles():
    words = ["--out", "r", "--baseline", "--preset", "small", "--source", "mr", "--mr.channels", "3"]
    method = read_options(resolve("pix2pix"), words).method
    assert method.adversarial_weight == 0 and method.roles["mr"].channels == 3


@pytest.mark.parametrize(
    "name", ["data", "rounds", "phantom_size", "levels", "preset", "secret", "label", "t1-c", "is"]
)
def test_a_role_cannot_be_called_like_something_else(name):
    with pytest.raises(UserError, match=rf"--source {name}: a role cannot be called so .*; call it \w+, say"):
        read_options(resolve("pix2pix"), ["--out", "r", "--source", name])


def test_another_run_is_repeated_with_other_names(cases, tmp_path):
    small = {
        "levels": 3,
        "size": (32, 32),
        "width": 4,
        "discriminator_width": 4,
        "discriminator_strided": 1,
        "jitter": 0,
    }
    how = {"rounds": 1, "threads": 1, "phantom_subjects": 3, "phantom_size": 32, "cache": cases, "diagnose": False}
    named = {"source": "pd", "pd": {"part": "t1"}, "t2": {"window": (0, 900)}}
    ganatomy.train("pix2pix", out=tmp_path / "run", preset="small", **named, **small, **how)
    facts = ["--out", "r", "--config", str(tmp_path / "run" / "run.yaml")]
    again = read_options(resolve("pix2pix"), facts).method
    assert again.levels == 3 and again.roles["pd"].part == "t1" and again.roles["t2"].window == (0, 900)
    other = read_options(resolve("pix2pix"), [*facts, "--target", "flair", "--pd.channels", "2"]).method
    assert list(other.roles) == ["pd", "flair"] and other.roles["flair"].window is None
    assert (other.roles["pd"].part, other.roles["pd"].channels) == ("t1", 2)


RESUMED = ["--preset", "small", "--batch-size", "2", "--patch", "32", "--views", "60", "--phantom-subjects", "4"]


def test_a_run_is_resumed_with_its_own_options_and_others_are_refused_by_name(trained, cases, tmp_path, capsys):
    out = shutil.copytree(trained, tmp_path / "run")
    resume = ["train", "wgan-vgg", "--out", str(out), "--resume", "--cache", str(cases)]
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    for given, told in {
        ("--learning-rate", "0.5"): "--learning-rate: a resumed run keeps its own options (learning_rate: ",
        ("--preset", "paper"): "(batch_size: 2); leave it out",
        ("--seed=3",): "--seed: a resumed run keeps its own options (seed: 0)",
        ("--data", str(tmp_path)): "--data: a resumed run keeps its own options (data: None)",
        ("--no-diagnose",): "--diagnose: a resumed run keeps its own options (diagnose: True)",
        ("--views", "61"): "(views: 60)",
        ("--folds", "3", "--fold", "1"): "--fold: a resumed run keeps its own options (fold: None)",
        ("--test-subjects", "anna"): "--test-subjects: a resumed run keeps its own options",
    }.items():
        assert main([*resume, *given]) == 2, given
        said = capsys.readouterr().err
        assert told in said and said.count("\n") == 1, said
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert main([*resume, *RESUMED, "--rounds", "9", "--seed", "0"]) == 0
    assert read_run(out).rounds == {"denoise": 9}


def test_changed_data_are_a_matter_of_resumed_runs(tmp_path, capsys):
    assert main(["train", "wgan-vgg", "--out", str(tmp_path / "run"), "--changed-data", "ignore"]) == 2
    assert "--changed-data ignore: is for a run that is resumed; add --resume" in capsys.readouterr().err
