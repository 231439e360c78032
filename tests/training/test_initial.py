import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from runs import make_run
from safetensors.torch import load_file

from ganatomy import catalogue
from ganatomy.cli import main
from ganatomy.data.cases import DataConfig
from ganatomy.errors import UserError
from ganatomy.evaluation.evaluate import evaluate
from ganatomy.inference.model import build
from ganatomy.inference.runfile import InitialSource, TrainConfig, read_run
from ganatomy.training.initial import initialise

DCGAN = {"size": (16, 16), "width": 4, "stages": 2, "kernel": 4, "latent": 6}
WGAN = {"size": (16, 16), "width": 4, "stages": 2, "latent": 6}
PLAIN = {"size": (16, 16), "batch_size": 4, "width": 4, "stages": 2, "kernel": 4, "latent": 6, "preset": "paper"}


def source(run: Path, players: str) -> InitialSource:
    return InitialSource.parse(f"{run}:{players}")


@pytest.fixture
def dcgan(tmp_path: Path) -> Path:
    """A run of dcgan whose buffers of batch statistics differ from those of a new network."""

    def change(method: torch.nn.Module) -> None:
        for name, value in method.named_buffers():
            if name.endswith("running_mean"):
                value.fill_(0.25)

    return make_run(tmp_path / "dcgan", "dcgan", DCGAN, change)


def test_a_player_of_another_system_begins_with_the_weights_and_buffers_of_the_run(dcgan: Path) -> None:
    torch.manual_seed(1)
    wgan, weights = build("wgan", {**WGAN, "critic_norm": "batch"}), load_file(dcgan / "weights.safetensors")
    before = {name: value.clone() for name, value in wgan.generator.state_dict().items()}
    (told,) = initialise(wgan, [source(dcgan, "discriminator=critic")], catalogue.resolve("wgan"))
    given = wgan.critic.state_dict()
    assert given and all(torch.equal(value, weights[f"discriminator.{name}"]) for name, value in given.items())
    assert any("running_mean" in name for name in given)
    assert all(torch.equal(value, before[name]) for name, value in wgan.generator.state_dict().items())
    assert (told.player, told.of, told.system) == ("critic", "discriminator", "dcgan")
    assert told.weights == read_run(dcgan).weights["best"]


def test_random_numbers_stay_those_of_a_run_without_initial_weights(dcgan: Path) -> None:
    method = build("dcgan", DCGAN)
    torch.manual_seed(3)
    initialise(method, [source(dcgan, "generator")], catalogue.resolve("dcgan"))
    drawn = torch.rand(3)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(3))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere:generator"], "nowhere: no run here"),
        (["RUN:painter"], "RUN:painter: this system has no player painter, but discriminator, generator"),
        (["RUN:painter=generator"], "RUN:painter=generator: that run has no player painter, but discriminator, gen"),
        (["RUN:generator", "RUN:discriminator=generator"], "generator is initialised twice"),
        (["RUN:discriminator=generator"], "missing there: .*; missing here: "),
    ],
)
def test_what_cannot_be_taken_is_named(dcgan: Path, words: list[str], told: str) -> None:
    method, sources = build("dcgan", DCGAN), [InitialSource.parse(word.replace("RUN", str(dcgan))) for word in words]
    with pytest.raises(UserError, match=told.replace("RUN", str(dcgan))):
        initialise(method, sources, catalogue.resolve("dcgan"))


def test_tensors_of_another_shape_are_named(dcgan: Path) -> None:
    wider = build("dcgan", {**DCGAN, "latent": 7})
    kept = {name: value.clone() for name, value in wider.state_dict().items()}
    with pytest.raises(UserError, match=r"has another architecture than generator here \(\S+weight \(.*\) instead of"):
        initialise(wider, [source(dcgan, "generator")], catalogue.resolve("dcgan"))
    assert all(torch.equal(value, kept[name]) for name, value in wider.state_dict().items())


@pytest.mark.parametrize("word", ["generator", "RUN:", ":generator", "RUN:generator="])
def test_another_form_of_the_option_is_refused(word: str) -> None:
    with pytest.raises(UserError, match=r"--init-from .*: give RUN:PLAYER"):
        TrainConfig(init_from=(word,))


def test_a_run_tells_what_it_began_with_and_is_resumed_without_it(  # type: ignore[no-untyped-def]
    tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    begun = DataConfig(phantom_subjects=8, test_subjects=("phantom000", "phantom001"))
    tiny("dcgan", Path("a"), 1, data=begun.model_copy(update={"test_subjects": ("phantom006", "phantom007")}), **PLAIN)
    options = {"init_from": ("a:generator",), "diagnose": False}
    tiny("dcgan", Path("runs/b"), 1, data=begun, options=options, **PLAIN)
    plain = yaml.safe_load(Path("runs/b/run.yaml").read_text())
    assert plain["training"]["init_from"] == ["../../a:generator"], "as reached from the run"
    facts = read_run(Path("runs/b"))
    assert facts.training.init_from == ("a:generator",)
    assert facts.initial[0].subjects == (*read_run(Path("a")).split.train, *read_run(Path("a")).split.val)
    evaluate(Path("runs/b"))
    notes = json.loads(Path("runs/b/evaluation/metrics.json").read_text())["notes"]
    (note,) = [one for one in notes if one.startswith("the initial weights of generator, from a run of dcgan,")]
    assert "were trained on" in note and "which are judged here" in note
    shutil.rmtree("a")
    tiny("dcgan", Path("runs/b"), 2, resume=True, options=options, **PLAIN)
    assert read_run(Path("runs/b")).initial == facts.initial


def test_the_command_takes_several_sources_and_names_the_wrong_one(
    dcgan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--size", "16", "16", "--width", "4", "--stages", "2", "--kernel", "4", "--latent", "6"]
    words = ["--init-from", f"{dcgan}:generator", f"{dcgan}:judge=discriminator"]
    assert main(["train", "dcgan", "--out", str(tmp_path / "b"), *small, *words]) == 2
    assert f"--init-from {dcgan}:judge=discriminator: that run has no player judge" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()
