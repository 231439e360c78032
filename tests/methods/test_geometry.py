"""Statements on the vessel-geometry WGAN, from its abstract and from our reconstruction of networks and losses."""

import csv

import numpy as np
import pytest
import torch
from torch import nn

from ganatomy import catalogue, phantoms
from ganatomy.data.cases import DataConfig
from ganatomy.game import moves
from ganatomy.inference.model import load
from ganatomy.inference.sampling import write_samples
from ganatomy.methods.synthesis.vessel_geometry_wgan import VesselGeometryWGAN
from ganatomy.physics.centreline import Centreline
from ganatomy.tasks.geometry.roles import CentrelineRole, read_centreline
from ganatomy.training.run import TrainConfig, train


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def paper(preset="paper", **values):
    with torch.device("meta"):
        return VesselGeometryWGAN(VesselGeometryWGAN.Config.preset(preset, **values))


def small(**values):
    torch.manual_seed(0)
    fit = {"batch_size": 3, "samples": 32, "generator_widths": (8, 8, 4), "critic_widths": (4, 8), **values}
    return VesselGeometryWGAN(VesselGeometryWGAN.Config.preset("small", **fit)).train()


class Batches:
    """Iterator of random batches that are all recorded."""

    def __init__(self, method):
        self.method, self.given = method, []
        self.draw = torch.Generator().manual_seed(1)

    def __iter__(self):
        return self

    def __next__(self):
        stream, task = self.method.stages()[0].stream, self.method.task
        rows = range(stream.batch_size)
        self.given.append(
            {name: torch.stack([task.roles[name].example([stream.patch[2]], self.draw) for _ in rows])
             for name in stream.roles}
        )  # fmt: skip
        return self.given[-1]


class Linear(nn.Module):
    """Critic that is linear in the signal and records its inputs."""

    def __init__(self, weight, of_condition=0.0):
        super().__init__()
        self.weight, self.of_condition, self.shown = nn.Parameter(weight), of_condition, []

    def forward(self, signal, condition=None):
        self.shown.append((signal, condition))
        score = (signal * self.weight).flatten(1).sum(1, keepdim=True)
        return score if condition is None else score + self.of_condition * condition


class Answers(nn.Module):
    """Critic that returns fixed scores for real and for generated signals, in turn."""

    def __init__(self, *values):
        super().__init__()
        self.values = iter(values)

    def forward(self, signal, condition=None):
        return torch.tensor(next(self.values))[:, None] + 0 * signal.flatten(1).sum(1, keepdim=True)


def played(method, batches=None):
    batches = batches or Batches(method)
    return [turn for (turn,) in moves(method.turns(batches))]


def test_networks_have_the_weights_of_the_reconstruction():
    plain, told, flat = paper(), paper(condition="length"), paper("map")
    assert [count(method.generator) for method in (plain, told, flat)] == [772_612, 776_708, 649_732]
    assert [count(method.critic) for method in (plain, told)] == [639_105, 639_425]
    assert plain.generator.base == (256, 16) and plain.critic.head.in_features == 256 * 8
    (stage,) = plain.stages()
    assert stage.stream.patch == (1, 1, 512) and stage.rounds == 100_000 and stage.stream.batch_size == 64
    assert not any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in plain.critic.modules())


def test_players_move_with_adam_and_with_clipped_weights_with_rmsprop():
    for values, kind, rate in (({}, torch.optim.Adam, 1e-4), ({"lipschitz": "clip"}, torch.optim.RMSprop, 5e-5)):
        for player in paper(**values).stages()[0].players:
            optimizer = player.optimizer([nn.Parameter(torch.ones(1))])
            assert isinstance(optimizer, kind) and optimizer.defaults["lr"] == rate
            assert optimizer.defaults.get("betas", (0.0, 0.9)) == (0.0, 0.9)


def test_every_move_of_the_critic_sees_vessels_of_its_own():
    method = small(critic_steps=4)
    batches, shown = Batches(method), []
    method.critic.register_forward_pre_hook(lambda _, given: shown.append(given[0].detach()))
    assert [turn.player for turn in played(method, batches)] == ["critic"] * 4 + ["generator"]
    assert len(batches.given) == 4, "the generator's move takes none"
    reals = shown[0:12:3]
    assert all(torch.equal(real, batch["vessel"]) for real, batch in zip(reals, batches.given, strict=True))
    fakes = [*shown[1:12:3], shown[12]]
    assert len({float(fake.sum()) for fake in fakes}) == 5, "every move draws latent numbers of its own"


def test_losses_are_those_of_wasserstein():
    method = small(critic_steps=1, batch_size=2)
    method.critic = Answers((1.0, 3.0), (0.0, -1.0), (9.0, 9.0), (0.0, -1.0))
    critic, generator = played(method)
    found = {name: float(term.detach()) for name, term in critic.losses.items()}
    assert found == pytest.approx({"wasserstein": -2.5, "penalty": 10.0}, rel=1e-5), "a flat critic pays the weight"
    assert float(generator.losses["wasserstein"].detach()) == 0.5
    assert critic.scores["real"].flatten().tolist() == [1, 3] and critic.scores["fake"].flatten().tolist() == [0, -1]


def test_the_penalty_weighs_the_slope_over_channels_and_samples():
    method = small(critic_steps=1)
    weight = torch.zeros(4, 32)
    weight[1, 3:11] = torch.arange(8) / 10
    method.critic = Linear(weight)
    penalty = played(method)[0].losses["penalty"]
    assert float(penalty.detach()) == pytest.approx(10 * (1.183216 - 1) ** 2, rel=1e-4)
    (slope,) = torch.autograd.grad(penalty, [method.critic.weight])
    assert slope.abs().max() > 0


def test_one_share_mixes_all_of_a_signal():
    method = small(critic_steps=1, batch_size=5)
    method.critic = Linear(torch.randn(4, 32))
    played(method)
    (real, _), (fake, _), (mixed, _) = method.critic.shown[:3]
    shares = (mixed - real).flatten(1) / (fake - real).flatten(1)
    middle = shares.median(dim=1).values.detach()
    assert torch.allclose(mixed, real + middle[:, None, None] * (fake - real), atol=1e-5)
    assert len(set(middle.tolist())) == 5 and (middle > 0).all() and (middle < 1).all()


def test_the_length_of_the_real_vessel_is_told_of_all_and_has_no_slope():
    method = small(critic_steps=1, condition="length")
    asked = []
    method.generator.register_forward_pre_hook(lambda _, given: asked.append(given[1]))
    method.critic = Linear(torch.full((4, 32), 0.5), of_condition=100.0)
    batches = Batches(method)
    critic, _ = played(method, batches)
    length = batches.given[0]["length"]
    assert length.shape == (3, 1) and len(method.critic.shown) == 4
    assert all(torch.equal(told, length) for _, told in method.critic.shown)
    assert all(torch.equal(told, length) for told in asked) and len(asked) == 2
    assert all(not told.requires_grad for _, told in method.critic.shown)
    slope = float(method.critic.weight.norm().detach())
    assert float(critic.losses["penalty"].detach()) == pytest.approx(10 * (slope - 1) ** 2, rel=1e-4)


def test_the_networks_heed_the_length():
    method = small(condition="length").eval()
    latent = method.draw([0]).repeat(2, 1)
    length = torch.tensor([[0.2], [0.9]])
    made = method.sample(latent, length)
    assert not torch.allclose(made[0], made[1])
    same = made[:1].repeat(2, 1, 1)
    assert not torch.allclose(*method.critic(same, length))


def test_gradients_reach_the_player_that_moves_alone():
    method = small(critic_steps=1)
    critic, generator = played(method)
    of_generator, of_critic = list(method.generator.parameters()), list(method.critic.parameters())
    none = torch.autograd.grad(critic.total, of_generator, allow_unused=True, retain_graph=True)
    assert all(slope is None for slope in none)
    assert all(slope.abs().max() > 0 for slope in torch.autograd.grad(critic.losses["wasserstein"], [of_critic[0]]))
    assert all(slope is not None for slope in torch.autograd.grad(generator.total, of_generator))


def test_clipped_weights_stay_within_their_limit():
    method = small(critic_steps=2, lipschitz="clip", clip=0.003)
    for turn in method.turns(Batches(method)):
        assert set(turn.losses) == {"wasserstein"}
        if turn.player == "generator":
            assert max(float(weight.detach().abs().max()) for weight in method.critic.parameters()) == pytest.approx(
                0.003
            )


def test_vessels_may_be_turned_at_random():
    assert small().stages()[0].stream.transform is None
    assert small(rotation=10.0).stages()[0].stream.transform is not None


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Write vessels of five patients to files in a folder per patient, one of them NPZ."""
    place, role = tmp_path_factory.mktemp("vessels"), CentrelineRole("vessel")
    for seed in range(0, 50, 4):
        rows = phantoms.part(phantoms.make("coronary-centrelines", seed), "vessel")
        path = place / f"patient{seed // 10}" / f"v{seed}{'.npz' if seed == 8 else '.csv'}"
        path.parent.mkdir(exist_ok=True)
        role.write(path, Centreline(rows[:, :3], rows[:, 3]))
    return place


def trained(out, data, **values):
    config = VesselGeometryWGAN.Config.preset("small", batch_size=4, **values)
    options = TrainConfig(rounds=2, threads=1, validation_slices=2, diagnose=False)
    return train("vessel-geometry-wgan", out, config, data, options)


def test_it_learns_from_a_folder_of_files(folder, cases, tmp_path):
    trained(tmp_path / "run", DataConfig(data=folder, cache=cases))
    files = write_samples(load(tmp_path / "run"), tmp_path / "out", 2, options={"mesh": True})
    assert [path.name for path in files] == [
        f"synthetic_00000{seed}_{name}" for seed in (0, 1) for name in ("vessel.csv", "mesh.stl")
    ]
    line = read_centreline(files[0])
    assert line.points[0].tolist() == [0, 0, 0] and np.isfinite(line.points).all()
    assert (files[1].stat().st_size - 84) % 50 == 0


def test_it_learns_from_a_manifest_and_makes_lengths_that_are_asked_for(folder, cases, tmp_path):
    with (folder / "list.csv").open("w", newline="") as stream:
        lines = csv.writer(stream)
        lines.writerow(["subject", "vessel", "split"])
        for number, path in enumerate(sorted(folder.rglob("v*.*"))):
            mark = "#0" if number == 3 else ""
            split = "test" if path.parent.name == "patient4" else "train"
            lines.writerow([path.parent.name, f"{path.relative_to(folder).as_posix()}{mark}", split])
    model = trained(tmp_path / "run", DataConfig(data=folder / "list.csv", cache=cases), condition="length")
    lengths = model.method.task.fitted["lengths"]
    assert len(lengths) in range(5, 11) and lengths.min() > 20
    made = model(length=100.0, seed=4)
    assert made.facts["length_mm asked for"] == 100 and list(made) == ["vessel"]


def test_the_catalogue_knows_it():
    assert catalogue.load("vessel-geometry-wgan") is VesselGeometryWGAN
