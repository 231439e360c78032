"""What every aid does to a game, on games small enough to be computed by hand."""

import math

import pytest
import torch
from lightning_fabric import Fabric
from pydantic import ValidationError
from runs import make_run
from torch import nn
from toys import Numbers, Quiet

from ganatomy.cli import main
from ganatomy.errors import UserError
from ganatomy.game import Aids, Batch, Method, MethodConfig, Player, Stage, Stream, Turn, moves, sgd
from ganatomy.inference.model import load
from ganatomy.inference.runfile import InitialSource, read_run
from ganatomy.nets.aids import EqualisedLinear
from ganatomy.nets.spectral import normalise_weights, reachable
from ganatomy.training.aids import Aided, History
from ganatomy.training.initial import initialise
from ganatomy.training.loop import Trainer

DRAWN = Stream("samples", None, 4, (1, 1, 1))


class Bilinear(Method):
    """The game min over x, max over y of x·y, whose equilibrium is the origin; moves are simultaneous or in turn."""

    def __init__(self, together: bool = True, clip: float | None = None):
        super().__init__(MethodConfig())
        self.x, self.y, self.together, self.clip = nn.Linear(1, 1, False), nn.Linear(1, 1, False), together, clip
        for one, value in ((self.x, 1.0), (self.y, 0.5)):
            nn.init.constant_(one.weight, value)

    def build_task(self):
        raise NotImplementedError

    def stages(self):
        players = [Player("x", (self.x,), sgd(0.2)), Player("y", (self.y,), sgd(0.2), adversary=True)]
        return [Stage("game", self.turns, players, 1, DRAWN)]

    def turns(self, batches):
        next(batches)
        first = Turn("x", value=(self.x.weight * self.y.weight).sum())
        if self.together:
            yield first, Turn("y", value=-(self.x.weight * self.y.weight).sum())
            return
        yield first
        yield Turn("y", value=-(self.x.weight * self.y.weight).sum())

    @property
    def place(self) -> tuple[float, float]:
        return self.x.weight.item(), self.y.weight.item()


class Judged(Method):
    """A generator that shifts noise, and a critic of which slopes can be computed by hand: w·x² summed over x."""

    def __init__(self):
        super().__init__(MethodConfig())
        self.generator, self.critic = nn.Linear(3, 3), Square()
        self.seen: list[torch.Tensor] = []
        self.critic.net.register_forward_pre_hook(lambda module, given: self.seen.append(given[0]))

    def build_task(self):
        raise NotImplementedError

    def stages(self):
        players = [
            Player("critic", (self.critic,), sgd(0.1), adversary=True),
            Player("generator", (self.generator,), sgd(0.1)),
        ]
        return [Stage("game", self.turns, players, 1, DRAWN)]

    def turns(self, batches):
        real = next(batches)["x"]
        fake = self.generator(real)
        scores = {"real": self.critic(real), "fake": self.critic(fake.detach())}
        yield Turn("critic", gap=scores["fake"].mean() - scores["real"].mean(), scores=scores)
        yield Turn("generator", adversarial=-self.critic(fake).mean())


class Square(nn.Module):
    """Critic w·Σ x², whose slope is 2·w·x."""

    def __init__(self):
        super().__init__()
        self.net, self.weight = nn.Identity(), nn.Parameter(torch.tensor(0.5))

    def forward(self, x):
        return self.weight * self.net(x).square().sum(1, keepdim=True)


def trainer(method: Method, rounds: int, aids: Aids) -> Trainer:
    game = Trainer(
        method,
        Fabric(accelerator="cpu"),
        [rounds],
        lambda stage, index, drawn: Numbers(drawn),
        Quiet([]),
        lambda trainer, ending: None,
        aids,
    )
    game.fit()
    return game


def first(method: Method, **aids: object) -> Turn:
    """The first turn of a round with aids, on the first batch."""
    ((turn,), *_) = list(Aided(method, method.stages()[0], Aids(**aids)).stage.turns(Numbers()))
    return turn


def real() -> torch.Tensor:
    values: Batch = next(Numbers())
    return values["x"]


def test_a_stage_without_aids_or_without_an_adversary_stays_as_it_is() -> None:
    method = Judged()
    (stage,) = method.stages()
    assert Aided(method, stage, Aids(noise_until=0.5)).stage is stage
    alone = Stage("alone", method.turns, [stage.players[1]], 1, DRAWN)
    assert Aided(method, alone, Aids(r1=1)).stage is alone


def test_r1_is_half_its_weight_times_the_mean_squared_slope_at_real_samples() -> None:
    method = Judged()
    turn = first(method, r1=10.0)
    assert set(turn.losses) == {"gap", "r1"}
    assert turn.losses["r1"].item() == pytest.approx(5 * float((2 * 0.5 * real()).square().sum(1).mean()))
    (slope,) = torch.autograd.grad(turn.losses["r1"], method.critic.weight)
    assert slope.item() == pytest.approx(2 * turn.losses["r1"].item() / 0.5), "the critic learns from it"


def test_the_gradient_penalty_lies_between_real_and_generated_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    method = Judged()
    monkeypatch.setattr(method.noise, "uniform", lambda rows: torch.full((rows,), 0.25))
    between = real() + 0.25 * (method.generator(real()) - real())
    expected = 10 * (between.norm(dim=1) - 1).square().mean()
    found = first(method, gradient_penalty=10.0).losses["gradient_penalty"]
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_dragan_looks_around_real_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    method = Judged()
    monkeypatch.setattr(method.noise, "normal", lambda *shape: torch.ones(shape))
    around = real() + 0.5 * real().std()
    expected = 10 * (around.norm(dim=1) - 1).square().mean()
    assert first(method, dragan=10.0).losses["dragan"].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize(("done", "level"), [(0, 0.4), (25, 0.2), (50, 0.0), (100, 0.0)])
def test_instance_noise_meets_all_that_is_judged_and_fades(done: int, level: float) -> None:
    method = Judged()
    method.progress.stage_rounds, method.progress.stage_round = 100, done
    nn.init.zeros_(method.generator.weight)
    nn.init.zeros_(method.generator.bias)
    aided = Aided(method, method.stages()[0], Aids(instance_noise=0.4, noise_until=0.5))
    assert aided.noise_level == pytest.approx(level)
    list(aided.stage.turns(Numbers(size=4000)))
    clean, judged, fooling = method.seen
    assert float((clean - next(Numbers(size=4000))["x"]).std()) == pytest.approx(level, rel=0.05)
    for made in (judged, fooling):
        assert made.std().item() == pytest.approx(level, rel=0.05)
    assert level == 0 or not torch.equal(judged, fooling)


class Features(Judged):
    """A critic with a hidden layer and batch norm, before which the generator moves where it is ``first``."""

    def __init__(self, first: bool = False, seen: bool = True):
        super().__init__()
        self.first, self.told = first, seen
        self.critic = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 1))

    def turns(self, batches):
        real = next(batches)["x"]
        fake = self.generator(real)
        if self.first:
            yield Turn("generator", adversarial=-self.critic(fake).mean())
        scores = {"real": self.critic(real), "fake": self.critic(fake.detach())}
        yield Turn("critic", gap=scores["fake"].mean() - scores["real"].mean(), scores=scores)
        if not self.first:
            yield Turn("generator", adversarial=-self.critic(fake if self.told else fake.detach()).mean())

    def hidden(self, x: torch.Tensor) -> torch.Tensor:
        return self.critic[:3](x)


def played(method: Method, rounds: int = 1, **aids: object) -> list[Turn]:
    """All turns of a few rounds with aids in which nobody moves."""
    aided, batches = Aided(method, method.stages()[0], Aids(**aids)), Numbers()
    return [turn for _ in range(rounds) for move in moves(aided.stage.turns(batches)) for turn in move]


def test_feature_matching_compares_what_the_last_layer_is_told_of_real_and_generated_samples() -> None:
    method = Features()
    critic, generator = played(method, feature_matching=3.0)
    averages = {name: value.clone() for name, value in method.critic.named_buffers()}
    fake = method.generator(real())
    wanted = 3 * (method.hidden(fake).mean(0) - method.hidden(real()).mean(0)).square().sum()
    assert set(critic.losses) == {"gap"}
    assert set(generator.losses) == {"adversarial", "feature_matching"}
    assert generator.losses["feature_matching"].item() == pytest.approx(wanted.item(), rel=1e-5)
    given = torch.autograd.grad(generator.losses["feature_matching"], method.generator.weight)[0]
    assert torch.allclose(given, torch.autograd.grad(wanted, method.generator.weight)[0], atol=1e-6)
    plain = Features()
    plain.generator.load_state_dict(method.generator.state_dict())
    for name, value in method.critic.named_parameters():
        plain.critic.get_parameter(name).data.copy_(value)
    played(plain)
    for name in ("1.running_mean", "1.running_var"):
        assert torch.allclose(averages[name], plain.critic.get_buffer(name)), name


def test_feature_matching_waits_for_the_first_real_samples() -> None:
    first, _, second, _ = played(Features(first=True), rounds=2, feature_matching=1.0)
    assert first.losses["feature_matching"].item() == 0
    assert second.losses["feature_matching"].item() > 0


def test_feature_matching_leaves_players_alone_that_the_adversary_does_not_teach() -> None:
    _, generator = played(Features(seen=False), feature_matching=1.0)
    assert set(generator.losses) == {"adversarial"}


def test_networks_are_left_as_they_were() -> None:
    method = Judged()
    before = dict(vars(method.critic))
    list(Aided(method, method.stages()[0], Aids(instance_noise=0.1, r1=1)).stage.turns(Numbers()))
    assert vars(method.critic).keys() == before.keys() and method.critic.forward.__func__ is Square.forward


def test_penalties_name_an_adversary_whose_scores_they_cannot_find() -> None:
    method = Judged()
    original = method.turns

    def turns(batches):
        for turn in original(batches):
            scores = {name: one.detach() for name, one in turn.scores.items()}
            yield Turn(turn.player, turn.losses, scores=scores)

    method.turns = turns
    with pytest.raises(UserError, match=r"--aids\.r1: the scores of critic are not those of one of its networks"):
        first(method, r1=1.0)
    method.turns = lambda batches: (Turn(turn.player, turn.losses) for turn in original(batches))
    with pytest.raises(UserError, match=r"--aids\.dragan: critic gives no scores of real and of generated samples"):
        first(method, dragan=1.0)


def test_plain_descent_circles_and_extragradient_and_consensus_arrive() -> None:
    places = {name: Bilinear() for name in ("plain", "extragradient", "consensus")}
    trainer(places["plain"], 50, Aids())
    trainer(places["extragradient"], 50, Aids(extragradient=True))
    trainer(places["consensus"], 50, Aids(consensus=1.0))
    distances = {name: math.hypot(*method.place) for name, method in places.items()}
    begun = math.hypot(1.0, 0.5)
    assert distances["plain"] == pytest.approx(begun * 1.04**25, rel=1e-4)
    assert distances["extragradient"] == pytest.approx(begun * (1 - 0.2**2 + 0.2**4) ** 25, rel=1e-4)
    assert distances["consensus"] == pytest.approx(begun * (0.8**2 + 0.2**2) ** 25, rel=1e-4)


@pytest.mark.parametrize("aids", [Aids(extragradient=True), Aids(consensus=0.7)])
def test_moves_that_are_planned_together_do_not_depend_on_whose_turn_is_first(aids: Aids) -> None:
    together, in_turn = Bilinear(True), Bilinear(False)
    trainer(together, 3, aids)
    trainer(in_turn, 3, aids)
    assert together.place == pytest.approx(in_turn.place, rel=1e-6)


def test_a_round_of_consensus_by_hand() -> None:
    method = Bilinear()
    trainer(method, 1, Aids(consensus=3.0))
    x, y = 1.0, 0.5
    assert method.place == pytest.approx((x - 0.2 * (y + 3 * x), y - 0.2 * (-x + 3 * y)))


def test_adversaries_move_at_a_rate_of_their_own() -> None:
    method = Bilinear()
    game = trainer(method, 1, Aids(adversary_rate=4.0))
    assert method.place == pytest.approx((1 - 0.2 * 0.5, 0.5 + 4 * 0.2 * 1.0))
    assert [state.optimizer.param_groups[0]["lr"] for state in game.players.values()] == pytest.approx([0.2, 0.8])


def test_a_rate_of_its_own_lasts_when_the_optimiser_restarts() -> None:
    method = Bilinear()
    players = [Player("y", (method.y,), sgd(0.2), restart=lambda progress: True, adversary=True)]
    method.stages = lambda: [Stage("game", method.turns, players, 1, DRAWN)]
    method.turns = lambda batches: iter([Turn("y", value=method.y.weight.sum() + 0 * next(batches)["x"].sum())])
    trainer(method, 2, Aids(adversary_rate=3.0))
    assert method.place[1] == pytest.approx(0.5 - 2 * 0.6)


def test_historical_averaging_pulls_to_the_mean_of_past_weights() -> None:
    method = Bilinear()
    aided = Aided(method, method.stages()[0], Aids(historical_averaging=2.0))
    ((one, other),) = aided.stage.turns(Numbers())
    assert one.losses["history"].item() == 0, "there is no past"
    for value in (1.0, 4.0):
        nn.init.constant_(method.x.weight, value)
        aided.history.update()
    nn.init.constant_(method.x.weight, 3.0)
    ((one, other),) = aided.stage.turns(Numbers())
    assert one.losses["history"].item() == pytest.approx(2 * (3 - 2.5) ** 2) and other.losses["history"].item() == 0
    (slope,) = torch.autograd.grad(one.losses["history"], method.x.weight)
    assert slope.item() == pytest.approx(2 * 2 * (3 - 2.5))


def test_past_weights_are_saved_and_resumed() -> None:
    method = Bilinear()
    once = History(method, method.stages()[0].players)
    once.update()
    again = History(method, method.stages()[0].players)
    again.load_state(once.state())
    nn.init.constant_(method.x.weight, 0.0)
    assert again.distance("x").item() == once.distance("x").item() == 1.0


def test_spectral_norm_makes_the_largest_singular_value_one() -> None:
    network = nn.Sequential(nn.Conv2d(2, 5, 3), nn.Flatten(), nn.Linear(5, 4))
    shapes = [tuple(layer.weight.shape) for layer in (network[0], network[2])]
    normalise_weights(network)
    for _ in range(100):
        network(torch.randn(1, 2, 3, 3))
    for layer, shape in zip((network[0], network[2]), shapes, strict=True):
        assert tuple(layer.weight.shape) == shape
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1.0, abs=1e-4)


def test_weights_that_spectral_norm_cannot_bound_are_told_apart() -> None:
    assert reachable(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)))
    assert not reachable(nn.Sequential(nn.Linear(2, 2), EqualisedLinear(2, 1)))
    assert not reachable(nn.Sequential(nn.Linear(2, 2), nn.Bilinear(2, 2, 1)))


def test_a_run_with_spectral_norm_is_loaded_resumed_and_begun_with(tiny, tmp_path) -> None:  # type: ignore[no-untyped-def]
    small = {"size": (16, 16), "batch_size": 4, "width": 4, "stages": 2, "latent": 6, "preset": "paper"}
    options = {"aids": Aids(spectral_norm=True, historical_averaging=0.1), "diagnose": False}
    tiny("dcgan", tmp_path / "a", 1, options=options, **small)
    tiny("dcgan", tmp_path / "a", 2, resume=True, **small)
    tiny("dcgan", tmp_path / "b", 2, options=options, **small)
    assert read_run(tmp_path / "a").weights == read_run(tmp_path / "b").weights, "a resumed run is the undisturbed run"
    method = load(tmp_path / "a").method
    parametrised = [name for name, _ in method.discriminator.named_parameters() if "parametrizations" in name]
    assert parametrised and not [name for name, _ in method.generator.named_parameters() if "parametrizations" in name]
    other = load(tmp_path / "b").method.train()
    with torch.no_grad():
        for value in other.discriminator.parameters():
            value.zero_()
    initialise(other, [InitialSource.parse(f"{tmp_path / 'a'}:discriminator")], load(tmp_path / "a").system)
    for ours, theirs in zip(other.discriminator.parameters(), method.discriminator.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_run_with_an_enlarged_adversary_is_loaded_resumed_and_begun_with(tiny, tmp_path) -> None:  # type: ignore[no-untyped-def]
    small = {"size": (16, 16), "batch_size": 4, "width": 4, "stages": 2, "latent": 6, "preset": "paper"}
    options = {"aids": Aids(pack=2, minibatch_discrimination=3), "diagnose": False}
    tiny("dcgan", tmp_path / "a", 1, options=options, **small)
    tiny("dcgan", tmp_path / "a", 2, resume=True, **small)
    tiny("dcgan", tmp_path / "b", 2, options=options, **small)
    assert read_run(tmp_path / "a").weights == read_run(tmp_path / "b").weights, "a resumed run is the undisturbed run"
    method = load(tmp_path / "a").method
    image = torch.zeros(4, method.config.channels, 16, 16)
    assert method.discriminator(image).shape == (2, 1) and len(method.discriminator.head.closeness.bias) == 3
    other = load(tmp_path / "b").method
    with torch.no_grad():
        for value in other.discriminator.parameters():
            value.zero_()
    initialise(other, [InitialSource.parse(f"{tmp_path / 'a'}:discriminator")], load(tmp_path / "a").system)
    for ours, theirs in zip(other.discriminator.parameters(), method.discriminator.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("joint", ["pack", "minibatch_discrimination"])
@pytest.mark.parametrize("slope", ["r1", "dragan", "gradient_penalty"])
def test_slopes_of_samples_that_are_judged_together_are_refused(joint: str, slope: str) -> None:
    with pytest.raises(ValidationError, match="need the slope of each sample's score"):
        Aids.model_validate({joint: 2, slope: 1.0})


def test_two_ways_to_move_are_refused() -> None:
    with pytest.raises(ValidationError, match="choose one"):
        Aids(extragradient=True, consensus=1.0)


def test_a_system_without_an_adversary_has_nothing_to_aid(tiny, tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match=r"--aids\.r1: nothing to aid, since this system is trained without an adv"):
        tiny("wgan-vgg", tmp_path / "run", options={"aids": Aids(r1=1.0)}, variant="cnn-mse")
    assert not (tmp_path / "run").exists()


def test_batch_norm_is_named_with_the_option_that_replaces_it(tmp_path, capsys) -> None:  # type: ignore[no-untyped-def]
    assert main(["train", "dcgan", "--out", str(tmp_path / "run"), "--aids.dragan", "10"]) == 2
    assert "--aids.dragan: needs the slope of each sample's score" in (said := capsys.readouterr().err)
    assert "add --discriminator-norm layer" in said


def test_a_resumed_run_keeps_its_aids(tmp_path, capsys) -> None:  # type: ignore[no-untyped-def]
    run = make_run(tmp_path / "run", "dcgan", {"size": (16, 16), "width": 4, "stages": 2})
    assert main(["train", "dcgan", "--out", str(run), "--resume", "--aids.consensus", "1"]) == 2
    assert "--aids.consensus: a resumed run keeps its own options" in capsys.readouterr().err
