"""Spatially conditioned GAN: layers of the release, the loss with its smoothed target, and sampling for poses."""

import csv
import json

import numpy as np
import pytest
import torch
from small import build, configured, count
from torch import nn

from ganatomy.api import sample
from ganatomy.cli import main
from ganatomy.data.cases import DataConfig
from ganatomy.errors import UserError
from ganatomy.images.files import read
from ganatomy.inference.model import load
from ganatomy.inference.sampling import sampling_ability
from ganatomy.losses.adversarial import nonsaturating_discriminator, nonsaturating_generator
from ganatomy.methods.synthesis.scgan_us import SpatiallyConditionedGAN
from ganatomy.phantoms.fetus import sweep
from ganatomy.roles.pose import PoseRole
from ganatomy.training.run import TrainConfig, train


def paper(**values):
    with torch.device("meta"):
        return SpatiallyConditionedGAN(SpatiallyConditionedGAN.Config.preset("paper", **values))


def channels(module):
    return [one.out_channels for one in module]


@pytest.mark.parametrize(
    ("options", "generator", "discriminator"),
    [
        ({}, 8_951_151, 31_468_705),
        ({"affine": True}, 8_954_151, 31_480_737),
        ({"size": (160, 120)}, 8_951_151, 31_468_705),
        ({"size": (240, 320)}, 20_327_791, 31_530_145),
    ],
)
def test_networks_have_the_numbers_of_parameters_of_the_release(options, generator, discriminator):
    method = paper(**options)
    assert (count(method.generator), count(method.discriminator)) == (generator, discriminator)


def test_layers_have_the_widths_of_the_release_and_few_biases():
    method = paper()
    network = method.generator
    assert channels(network.up) == [258, 130, 66, 34] and channels(network.mix) == [515, 261, 133, 69, 34]
    assert count(network.dense) == 4_136_960 and count(network.mix[0]) == 2_387_025 and count(network.last) == 307
    pairs = [(count(up), count(mix)) for up, mix in zip(network.up, network.mix[1:], strict=True)]
    assert pairs == [(1_195_830, 613_089), (305_370, 159_201), (79_002, 42_849), (21_114, 10_404)]
    assert [name for name, _ in network.named_parameters() if name.endswith("bias")] == ["dense.bias", "last.bias"]
    with torch.device("meta"):
        maps = method.discriminator.features(torch.empty(2, 1, 120, 160), torch.empty(2, 3, 120, 160))
    assert [tuple(one.shape[1:]) for one in maps] == [
        (32, 120, 160), (64, 60, 80), (128, 30, 40), (256, 15, 20), (512, 8, 10), (1024, 4, 5)
    ]  # fmt: skip
    assert count(method.discriminator.dense) == 20_481


def test_losses_are_sums_with_a_smoothed_target_for_real_frames():
    real, fake = torch.tensor([2.0, -1.0]), torch.tensor([-0.5, 1.0])
    assert nonsaturating_discriminator(real, fake, 0.9).item() == pytest.approx(1.663764, abs=1e-6)
    assert nonsaturating_generator(fake).item() == pytest.approx(0.643669, abs=1e-6)
    least = nonsaturating_discriminator(torch.tensor([np.log(9.0)]), torch.tensor([-1e3]), 0.9)
    assert least.item() == pytest.approx(0.325083, abs=1e-6)
    method = build("scgan-us", l1_weight=0.0)
    assert method.config.real_target == 0.9
    batch = {"image": torch.rand(2, 1, 24, 32) * 2 - 1, "pose": torch.randn(2, 12, 1, 1)}
    first, last = method.turns(iter([batch]))
    wanted = nonsaturating_discriminator(first.scores["real"], first.scores["fake"], 0.9)
    assert first.losses["adversarial"].item() == pytest.approx(wanted.item()) and set(last.losses) == {"adversarial"}


def test_rates_are_constant_and_both_players_move_once_in_a_round():
    (stage,) = paper().stages()
    assert [player.name for player in stage.players] == ["discriminator", "generator"]
    for player in stage.players:
        optimizer = player.optimizer([nn.Parameter(torch.zeros(1))])
        assert optimizer.defaults["lr"] == 2e-4 and optimizer.defaults["betas"] == (0.5, 0.999)
        assert player.schedule is None
    (stream,) = stage.streams_in_order
    assert (stream.batch_size, stream.patch, stage.rounds) == (36, (1, 120, 160), 100_000)


def test_frames_change_with_pose_and_noise_and_do_not_depend_on_others():
    # An untrained network with running statistics hardly depends on anything.
    method = build("scgan-us", statistics="own").inference_mode()
    pose = torch.from_numpy(sweep(np.random.default_rng(0), 3)[:, :3].reshape(3, 12)).float()
    draws = torch.cat([method.draw(seed) for seed in range(3)])
    with torch.no_grad():
        together = method.simulate(pose, draws)
        for place in range(3):
            alone = method.simulate(pose[place : place + 1], draws[place : place + 1])
            torch.testing.assert_close(alone, together[place : place + 1])
        assert (method.simulate(pose[:1], draws[1:2]) - together[:1]).abs().max() > 1e-6
        assert (method.simulate(pose[1:2], draws[:1]) - together[:1]).abs().max() > 1e-6
    assert torch.equal(method.draw(4), method.draw(4)) and not method.draw(4, 0.0).any()


def test_statistics_of_norms_may_be_those_of_each_frame():
    poses = torch.randn(2, 12)
    plain, own = (build("scgan-us", statistics=how).inference_mode() for how in ("running", "own"))
    with torch.no_grad():
        apart = (plain.simulate(poses) - own.simulate(poses)).abs().max()
        alone = own.simulate(poses[:1])
        torch.testing.assert_close(own.simulate(poses)[:1], alone)
    assert apart > 1e-4


def test_without_the_game_there_is_no_discriminator():
    method = build("scgan-us", adversarial_weight=0.0)
    assert method.discriminator is None and not method.adversarial
    with pytest.raises(UserError, match="adversarial"):
        configured("scgan-us", adversarial_weight=0.0, l1_weight=0.0)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scgan-us")
    config = configured("scgan-us", statistics="own")
    data = DataConfig(phantom_subjects=4, phantom_size=24, cache=folder / "cache")
    train("scgan-us", folder / "run", config, data, TrainConfig(rounds=2, device="cpu", threads=1, diagnose=False))
    matrices = sweep(np.random.default_rng(3), 3)
    PoseRole("pose").write(folder / "poses.csv", matrices)
    PoseRole("pose").write(folder / "one.csv", matrices[:1])
    return folder / "run"


def test_a_sweep_of_poses_gives_series_of_frames_of_the_size_learned(run, tmp_path, capsys):
    given = f"pose={run.parent / 'poses.csv'}"
    assert main(["sample", str(run), "-n", "2", "--given", given, "--out", str(tmp_path / "s")]) == 0
    frames = [read(tmp_path / "s" / f"synthetic_00000{seed}.nii.gz") for seed in (0, 1)]
    assert frames[0].shape == (3, 24, 32) and frames[0].spacing[1:] == pytest.approx((4.5, 4.5))
    assert (frames[0].numpy() != frames[1].numpy()).any()
    with (tmp_path / "s" / "samples.csv").open() as stream:
        assert [row["seed"] for row in csv.DictReader(stream)] == ["0", "1"]
    note = json.loads((tmp_path / "s" / "synthetic.json").read_text())
    assert note["given"] == {"pose": str(run.parent / "poses.csv")} and "from noise and a pose by" in note["what"]
    # The first pose alone gives the first frame, as a picture of 8 bits.
    one = f"pose={run.parent / 'one.csv'}"
    assert main(["sample", str(run), "-n", "1", "--given", one, "--out", str(tmp_path / "o")]) == 0
    alone = read(tmp_path / "o" / "synthetic_000000.png").numpy()[0, 0]
    assert np.abs(alone - frames[0].numpy()[0, 0]).max() <= 0.51
    capsys.readouterr()


def test_poses_in_memory_give_the_same_frames_as_their_file(run, tmp_path):
    matrices = sweep(np.random.default_rng(3), 3)
    (file,) = sample(run, tmp_path / "a", 1, given={"pose": matrices})
    made = load(run)(pose=run.parent / "poses.csv")
    np.testing.assert_allclose(read(file).numpy(), made["image"].numpy(), atol=1e-4)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ([], "are sampled for a pose: give --given pose=FILE"),
        (["pose=no.csv"], "no.csv does not exist"),
        (["no.csv"], "--given no.csv: give NAME=FILE, such as pose=pose.csv"),
        (["image=a.png"], "there is no 'image' to give; there is pose"),
        (["pose=a.txt"], "a.txt: cannot read .txt"),
    ],
)
def test_conditions_that_cannot_be_used_are_named(run, tmp_path, capsys, monkeypatch, given, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("1 2 3")
    arguments = ["--given", *given] if given else []
    assert main(["sample", str(run), *arguments, "--out", str(tmp_path / "s")]) == 2
    assert told in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "s").exists()


def test_twice_the_same_condition_is_refused_and_help_needs_none(run, tmp_path, capsys):
    twice = ["--given", f"pose={run.parent / 'poses.csv'}", f"pose={run.parent / 'one.csv'}"]
    assert main(["sample", str(run), *twice, "--out", str(tmp_path / "s")]) == 2
    assert "pose is given twice" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["sample", str(run), "--help"])
    assert "--truncation" in capsys.readouterr().out


def test_apply_says_that_frames_are_sampled(run, tmp_path, capsys):
    assert main(["apply", str(run), f"pose={run.parent / 'poses.csv'}", "--out", str(tmp_path / "s")]) == 2
    assert "use `ganatomy sample RUN --given pose=FILE`" in " ".join(capsys.readouterr().err.split())


def test_systems_without_conditions_refuse_them():
    with pytest.raises(UserError, match="--given pose: this system samples from noise alone"):
        sampling_ability(build("dcgan"), given=("pose",))
    with pytest.raises(UserError, match="give images to `ganatomy apply`"):
        sampling_ability(build("pix2pix"))
