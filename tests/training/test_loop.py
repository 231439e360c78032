import copy

import pytest
import torch
from lightning_fabric import Fabric
from torch import nn
from toys import Numbers, Quiet, Toy

from ganatomy.game import Method, MethodConfig, Player, Stage, Stream, Turn
from ganatomy.training.loop import Trainer, plan_rounds


def trainer(method, rounds=None, after_round=lambda trainer, ending: None):
    rounds = rounds or [stage.rounds for stage in method.stages()]
    return Trainer(
        method,
        Fabric(accelerator="cpu"),
        rounds,
        lambda stage, index, drawn: Numbers(drawn),
        Quiet([]),
        after_round,
    )


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def fresh():
    torch.manual_seed(3)
    return Toy()


def test_order_of_turns_is_the_order_of_the_code():
    game = trainer(fresh(), [1, 2])
    game.fit()
    assert game.observer.turns == [
        (0, "generator"),
        *[(1, "critic"), (1, "critic"), (1, "generator")],
        *[(2, "critic"), (2, "critic"), (2, "generator")],
    ]
    assert game.progress.images == 4 * (1 + 3 + 3)


def test_lines_after_a_yield_run_after_the_step():
    method = fresh()
    trainer(method).fit()
    assert max(p.abs().max().item() for p in method.critic.parameters()) <= 0.5


def test_matches_a_loop_written_by_hand():
    by_hand = fresh()
    optimizer = torch.optim.Adam(by_hand.generator.parameters(), 1e-2, fused=True)
    stream = Numbers()
    for _ in range(5):
        x = next(stream)["x"]
        optimizer.zero_grad()
        (by_hand.generator(x) - x).square().mean().backward()
        optimizer.step()
    for a, b in zip(method_after(5).generator.parameters(), by_hand.generator.parameters(), strict=True):
        assert torch.equal(a, b)


class Restarting(Method):
    """A player with one parameter and momentum, whose gradient is 1 and then -1."""

    def __init__(self, restart=None):
        super().__init__(MethodConfig())
        self.x, self.restart = nn.Linear(1, 1, bias=False), restart
        nn.init.zeros_(self.x.weight)

    def build_task(self):
        raise NotImplementedError

    def stages(self):
        sgd = lambda parameters: torch.optim.SGD(parameters, 1.0, momentum=0.5)  # noqa: E731
        halved = lambda progress: 0.5  # noqa: E731
        player = Player("x", (self.x,), sgd, halved, restart=self.restart)
        return [Stage("walk", self.turns, [player], 4, Stream("samples", None, 1, (1, 1, 1)))]

    def turns(self, batches):
        sign = 1 if self.progress.stage_round < 2 else -1
        yield Turn("x", slope=sign * self.x.weight.sum())


@pytest.mark.parametrize(
    ("restart", "place"),
    [
        (None, -0.5 * (1 + 1.5 - 0.25 - 1.125)),
        (lambda progress: progress.stage_round == 2, -0.5 * (1 + 1.5 - 1 - 1.5)),
        (lambda progress: True, 0.0),
    ],
)
def test_a_player_may_begin_afresh_before_a_round(restart, place):
    method = Restarting(restart)
    trainer(method).fit()
    assert method.x.weight.item() == pytest.approx(place)

    saved = {}
    with pytest.raises(StopIteration):
        trainer(Restarting(restart), after_round=keep(saved, 2)).fit()
    other = Restarting(restart)
    resumed = trainer(other)
    resumed.load_state(saved)
    resumed.fit()
    assert torch.equal(other.x.weight, method.x.weight)


def keep(saved, round):
    def check(game, ending):
        if game.progress.round == round:
            saved.update(copy.deepcopy(game.state()))
            raise StopIteration

    return check


def stop_at(round):
    def check(game, ending):
        if game.progress.round == round:
            raise StopIteration

    return check


def method_after(round):
    method = fresh()
    with pytest.raises(StopIteration):
        trainer(method, after_round=stop_at(round), rounds=[round, 1]).fit()
    return method


@pytest.mark.parametrize("stop", range(1, 10))
def test_resumed_run_is_the_undisturbed_run_bit_for_bit(stop):
    whole = fresh()
    undisturbed = trainer(whole)
    undisturbed.fit()

    saved = {}

    def save(game, ending):
        if game.progress.round == stop:
            saved.update(copy.deepcopy(game.state()))
            raise StopIteration

    torch.manual_seed(3)
    with pytest.raises(StopIteration):
        trainer(fresh(), after_round=save).fit()

    torch.manual_seed(99)
    other = Toy()
    resumed = trainer(other)
    resumed.load_state(saved)
    resumed.fit()
    assert same(whole.state_dict(), other.state_dict())
    assert same(undisturbed.averages.values, resumed.averages.values)
    assert resumed.progress == undisturbed.progress


def test_averages_are_counted_in_images():
    method = fresh()
    game = trainer(method, [1, 1])
    start = copy.deepcopy(dict(method.named_parameters()))
    method_halfway = []
    game.after_round = lambda game, ending: method_halfway.append(copy.deepcopy(dict(method.named_parameters())))
    game.fit()
    decay = 0.5 ** (4 / 8.0)
    name = "generator.0.weight"
    first = start[name] * decay + method_halfway[0][name] * (1 - decay)
    decay = 0.5 ** (12 / 8.0)
    second = first * decay + method_halfway[1][name] * (1 - decay)
    assert torch.allclose(game.averages.values[name], second, atol=1e-6)
    assert not any(name.startswith("critic") for name in game.averages.values)


def test_averages_come_and_go():
    method = fresh()
    game = trainer(method)
    game.fit()
    live = copy.deepcopy(dict(method.named_parameters()))
    with game.averages.in_place():
        assert not torch.equal(method.generator[0].weight, live["generator.0.weight"])
    assert same(live, dict(method.named_parameters()))


class Simultaneous(Method):
    """Two players on one graph: L1 = xy, L2 = -xy."""

    Config = MethodConfig

    def __init__(self, together):
        super().__init__(MethodConfig())
        self.x, self.y = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
        nn.init.ones_(self.x.weight)
        nn.init.ones_(self.y.weight)
        self.together = together

    def build_task(self):
        raise NotImplementedError

    def stages(self):
        sgd = lambda parameters: torch.optim.SGD(parameters, 0.5)  # noqa: E731
        players = [Player("x", (self.x,), sgd), Player("y", (self.y,), sgd)]
        return [Stage("play", self.turns, players, 1, Stream("samples", None, 1, (1, 1, 1)))]

    def turns(self, batches):
        product = (self.x.weight * self.y.weight).sum()
        if self.together:
            yield Turn("x", value=product), Turn("y", value=-product)
        else:
            yield Turn("x", value=product)
            yield Turn("y", value=-(self.x.weight * self.y.weight).sum())


def test_turns_yielded_together_move_together():
    method = Simultaneous(True)
    trainer(method).fit()
    assert (method.x.weight.item(), method.y.weight.item()) == (0.5, 1.5)
    method = Simultaneous(False)
    trainer(method).fit()
    assert (method.x.weight.item(), method.y.weight.item()) == (0.5, 1.25)


def test_only_the_moving_player_receives_gradients():
    method = fresh()

    class Watch(Quiet):
        def round(self, progress): ...

    game = trainer(method, [1, 1])
    seen = []
    take = game._take

    def watched(move, watch):
        movers = {turn.player for turn in move}
        before = [p.clone() for name, state in game.players.items() if name not in movers for p in state.parameters]
        take(move)
        after = [p for name, state in game.players.items() if name not in movers for p in state.parameters]
        seen.append(all(torch.equal(a, b) for a, b in zip(before, after, strict=True)))
        assert all(p.grad is None for p in method.parameters())

    game._take = watched
    game.fit()
    assert seen == [True] * 4


@pytest.mark.parametrize(("total", "planned"), [(None, [4, 6]), (5, [2, 3]), (1, [1, 1]), (20, [8, 12])])
def test_a_total_is_shared_by_the_stages(total, planned):
    assert plan_rounds(Toy().stages(), total) == planned
