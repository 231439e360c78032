import copy
import itertools
import math

import pytest
import torch
from torch import nn
from toys import Numbers, Toy

from ganatomy.game import Method, MethodConfig, Player, Stage, Stream, Turn
from ganatomy.training.diagnostics import dry_round, duality_gap, vector_field


class Plane(Method):
    """Two players with one number each, x = 3 and y = 4."""

    Config = MethodConfig

    def __init__(self, first, second, repeats=1):
        super().__init__(MethodConfig())
        self.x, self.y = (nn.ParameterList([nn.Parameter(torch.tensor(start))]) for start in (3.0, 4.0))
        self.losses = {"x": first, "y": second}
        self.repeats = repeats

    def build_task(self):
        raise NotImplementedError

    def stages(self):
        sgd = lambda parameters: torch.optim.SGD(parameters, 0.1)  # noqa: E731
        players = [Player("x", (self.x,), sgd), Player("y", (self.y,), sgd)]
        return [Stage("play", self.turns, players, 1, Stream("samples", None, 1, (1, 1, 1)))]

    def turns(self, batches):
        for player, loss in self.losses.items():
            for weight in range(1, self.repeats + 1):
                yield Turn(player, value=weight * loss(self.x[0], self.y[0]))


def field(first, second, **options):
    game = Plane(first, second, **options)
    return vector_field(game, game.stages()[0], itertools.repeat({}))


def test_a_bilinear_game_turns_in_circles():
    found = field(lambda x, y: x * y, lambda x, y: -x * y)
    assert found.norms == pytest.approx({"x": 4.0, "y": 3.0})
    assert found.rotation == pytest.approx(90, abs=0.5)


def test_the_dirac_gan_turns_in_circles_at_its_equilibrium():
    """Mescheder et al., arXiv 1801.04406: log-sigmoid scores of a linear discriminator and a point."""
    score = lambda x, y: -nn.functional.softplus(-x * y * 1e-4)  # noqa: E731
    found = field(score, lambda x, y: -score(x, y))
    assert found.rotation == pytest.approx(90, abs=1)


def test_players_that_share_a_landscape_do_not_turn():
    bowl = lambda x, y: (x * x + y * y) / 2  # noqa: E731
    found = field(bowl, bowl)
    assert found.norms == pytest.approx({"x": 3.0, "y": 4.0})
    assert found.rotation == pytest.approx(0, abs=1.5)


def test_players_that_drive_apart_turn_by_more_than_a_right_angle():
    hill = lambda x, y: -(x * x + y * y) / 2  # noqa: E731
    assert field(hill, hill).rotation == pytest.approx(180, abs=1.5)


def test_a_mixture_lies_between():
    loss = lambda sign: lambda x, y: sign * x * y + (x * x if sign > 0 else y * y) / 2  # noqa: E731
    assert field(loss(1), loss(-1)).rotation == pytest.approx(45, abs=1)


def test_the_turns_of_a_player_are_averaged():
    bowl = lambda x, y: (x * x + y * y) / 2  # noqa: E731
    assert field(bowl, bowl, repeats=3).norms == pytest.approx({"x": 6.0, "y": 8.0})


def test_a_field_of_zero_has_no_rotation():
    found = field(lambda x, y: 0 * x, lambda x, y: 0 * y)
    assert (found.norms, found.rotation) == ({"x": 0.0, "y": 0.0}, 0.0)


def snapshot(method):
    return {
        "state": copy.deepcopy(method.state_dict()),
        "noise": method.noise.generator.get_state(),
        "random": torch.get_rng_state(),
        "modes": [module.training for module in method.modules()],
        "progress": copy.copy(method.progress),
    }


def assert_same(before, after):
    assert before["modes"] == after["modes"] and before["progress"] == after["progress"]
    assert torch.equal(before["noise"], after["noise"]) and torch.equal(before["random"], after["random"])
    for name, value in before["state"].items():
        assert torch.equal(value, after["state"][name]), name


@pytest.mark.parametrize("stage", [0, 1])
@pytest.mark.parametrize("look", [dry_round, vector_field, duality_gap])
def test_looking_changes_nothing(stage, look):
    """The toy has batch statistics, dropout, noise, weight clipping and a pool."""
    torch.manual_seed(2)
    method = Toy().train()
    before = snapshot(method)
    look(method, method.stages()[stage], Numbers())
    assert_same(before, snapshot(method))
    assert all(parameter.grad is None for parameter in method.parameters())


def test_a_game_that_fails_midway_is_given_back_as_it_was():
    class Broken(Toy):
        def second(self, batches):
            yield from itertools.islice(super().second(batches), 2)
            raise ArithmeticError

    method = Broken().train()
    before = snapshot(method)
    with pytest.raises(ArithmeticError):
        dry_round(method, method.stages()[1], Numbers())
    assert_same(before, snapshot(method))


def test_norms_are_those_of_gradients_taken_by_hand():
    torch.manual_seed(5)
    method = Toy().train()
    by_hand = copy.deepcopy(method)
    x = next(Numbers())["x"]
    (by_hand.generator(x) - x).square().mean().backward()
    norm = math.sqrt(sum(float(p.grad.square().sum()) for p in by_hand.generator.parameters()))
    assert vector_field(method, method.stages()[0], Numbers()).norms["generator"] == pytest.approx(norm, rel=1e-6)


def test_nobody_gains_at_an_equilibrium():
    game = Plane(lambda x, y: (x - 3) ** 2 + x * (y - 4), lambda x, y: (y - 4) ** 2 - y * (x - 3))
    assert duality_gap(game, game.stages()[0], itertools.repeat({})) == pytest.approx({"x": 0, "y": 0}, abs=1e-6)


def test_the_gain_is_what_a_player_wins_by_moving_alone():
    game = Plane(lambda x, y: x * x, lambda x, y: y * x)
    gains = duality_gap(game, game.stages()[0], itertools.repeat({}), steps=4)
    assert gains["x"] == pytest.approx(9 - (3 * 0.8**4) ** 2, rel=1e-5)
    assert gains["y"] == pytest.approx(4 * 0.1 * 3 * 3, rel=1e-5), "x stays where it was"


def test_all_players_are_judged_on_the_same_batches():
    drawn = []

    def batches():
        for number in itertools.count():
            drawn.append(number)
            yield {"value": torch.tensor(float(number))}

    class Fed(Plane):
        def turns(self, batches):
            value = next(batches)["value"]
            yield Turn("x", value=(self.x[0] - value) ** 2)
            yield Turn("y", value=(self.y[0] - value) ** 2)

    game = Fed(None, None)
    gains = duality_gap(game, game.stages()[0], batches(), steps=3)
    assert drawn == [0, 1, 2, 3]
    assert gains["x"] > 0 and gains["y"] > 0
