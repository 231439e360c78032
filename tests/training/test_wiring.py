"""Whether the loop and a run use what a player and a stage ask for: rates, limits, beginnings, averages."""

import copy

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file
from torch import nn
from toys import Numbers, Quiet

from ganatomy import catalogue
from ganatomy.game import Method, MethodConfig, Player, Stage, Stream, Tiling, Turn
from ganatomy.images.codecs import Window
from ganatomy.physics.ct import LowDoseScan
from ganatomy.tasks.ct_denoising.task import CTDenoising
from ganatomy.training import run as running
from ganatomy.training.loop import Best, Trainer


def sgd(parameters):
    return torch.optim.SGD(parameters, 1.0)


class Walk(Method):
    """Two numbers that walk down slopes of 3 and -4, in two stages."""

    def __init__(self, **asked):
        super().__init__(MethodConfig())
        self.place, self.asked, self.begun = nn.Linear(2, 1, bias=False), asked, []
        nn.init.zeros_(self.place.weight)

    def build_task(self):
        raise NotImplementedError

    def stages(self):
        def begin(name):
            # Where the numbers are tells that nobody has moved in this stage.
            return lambda: self.begun.append((name, self.progress.stage, self.where))

        drawn, player = Stream("samples", None, 4, (1, 1, 1)), Player("walker", (self.place,), sgd, **self.asked)
        return [Stage(name, self.turns, [player], 3, drawn, begin=begin(name)) for name in ("there", "on")]

    def turns(self, batches):
        next(batches)
        yield Turn("walker", slope=(self.place.weight * torch.tensor([3.0, -4.0])).sum())

    @property
    def where(self):
        return tuple(self.place.weight.detach().view(-1).tolist())


def walked(rounds, state=None, after_round=lambda game, ending: None, **asked):
    method = Walk(**asked)
    game = Trainer(
        method, Fabric(accelerator="cpu"), rounds, lambda stage, index, drawn: Numbers(drawn), Quiet([]), after_round
    )
    if state:
        game.load_state(state)
    game.fit()
    return method


def test_the_rate_of_every_round_is_that_of_the_schedule():
    half = walked([4, 1], schedule=lambda progress: 0.5**progress.round)
    assert half.where == pytest.approx([-3 * (1 + 0.5 + 0.25 + 0.125 + 0.0625), 4 * 1.9375])
    by_stage = walked([4, 2], schedule=lambda progress: 1 - progress.fraction)
    assert by_stage.where == pytest.approx([-3 * (2.5 + 1.5), 4 * 4.0])


def test_a_gradient_longer_than_the_limit_is_shortened_as_a_whole():
    assert walked([1, 1], max_gradient_norm=1.0).where == pytest.approx([-2 * 0.6, 2 * 0.8], rel=1e-5)
    assert walked([1, 1], max_gradient_norm=6.0).where == (-6, 8), "a short one is left as it is"
    assert walked([1, 1]).where == (-6, 8)


def test_a_stage_begins_once_before_anybody_moves_and_not_when_it_goes_on():
    assert walked([2, 1]).begun == [("there", "there", (0, 0)), ("on", "on", (-6, 8))]
    saved = {}
    walked([2, 1], after_round=lambda game, ending: saved.update(saved or copy.deepcopy(game.state())))
    assert walked([2, 1], state=saved).begun == [("on", "on", (-6, 8))]


@pytest.mark.parametrize(("better", "kept"), [("lower", [3.0, 2.0, 1.0]), ("higher", [3.0, 4.0, 5.0])])
def test_the_best_score_is_the_lowest_or_the_highest(better, kept):
    best, found = Best(name="score", better=better), []
    for score in (float("nan"), 3.0, 2.0, 4.0, float("nan"), 1.0, 5.0, 3.0):
        if best.improved_by(score):
            best.score = score
            found.append(score)
    assert found == kept and not best.improved_by(best.score), "what is equal is no improvement"


class TwoSteps(Method):
    """A convolution that learns, and another that sees what the average of the first makes of whole slices."""

    class Config(MethodConfig):
        pass

    def __init__(self, config=None):
        super().__init__(config or self.Config())
        self.first, self.second = nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 1)

    def build_task(self):
        return CTDenoising(LowDoseScan(views=60), Window(low=-1000, high=1000, to=(0, 1)), "rmse", 2)

    @property
    def tiling(self):
        return Tiling(margin=(0, 1, 1))

    def stages(self):
        steps = lambda parameters: torch.optim.SGD(parameters, 0.5)  # noqa: E731
        one, two = Player("one", (self.first,), steps, ema_halflife=4.0), Player("two", (self.second,), steps)
        drawn = Stream("samples", None, 2, (1, 16, 16), self.tiling.margin)
        return [
            Stage("one", self.begin, [one], 3, drawn),
            Stage("two", self.refine, [two], 2, drawn, derive={"guess": lambda batch: self.first(batch["input"])}),
        ]

    def begin(self, batches):
        batch = next(batches)
        yield Turn("one", error=(self.first(batch["input"]) - batch["target"]).square().mean())

    def refine(self, batches):
        batch = next(batches)
        yield Turn("two", error=(self.second(batch["guess"]) - batch["target"]).square().mean())

    def restore(self, input):
        return self.first(input)


@pytest.fixture(scope="module")
def two_steps(tiny, tmp_path_factory):
    """A run whose weights were noted: of every round, of every validation, and of the derivation."""
    noted = {"live": [], "validated": [], "derived": []}
    weights = lambda method: method.first.weight.detach().clone()  # noqa: E731

    class Noting(Trainer):
        def _play_round(self):
            super()._play_round()
            noted["live"].append(weights(self.method))

    def noting(name, function):
        def called(method, *rest):
            noted[name].append(weights(method))
            return function(method, *rest)

        return called

    system = catalogue.System("two-steps", None, "", "denoising", "", "CT", "2D", "", None, f"{__name__}:TwoSteps")
    out = tmp_path_factory.mktemp("two-steps") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(catalogue._BY_NAME, "two-steps", system)
        patch.setattr(running, "Trainer", Noting)
        patch.setattr(running, "validate", noting("validated", running.validate))
        patch.setattr(running, "derived", noting("derived", running.derived))
        tiny("two-steps", out, preset="paper", rounds=5, options={"validate_every": 1, "diagnose": False})
    return out, noted


def test_averages_are_validated_and_not_the_weights_of_the_moment(two_steps):
    out, noted = two_steps
    assert len(noted["live"]) == len(noted["validated"]) == 5
    _, second, third = noted["live"][:3]
    kept = 0.5 ** (2 / 4.0)
    for live, seen in zip(noted["live"], noted["validated"], strict=True):
        assert not torch.equal(live, seen)
    # After the second round the average has moved from that of the first towards the second.
    one, two, three = noted["validated"][:3]
    torch.testing.assert_close(two, one * kept + second * (1 - kept))
    torch.testing.assert_close(three, two * kept + third * (1 - kept))
    assert torch.equal(load_file(out / "weights-last.safetensors")["first.weight"], three), "these are used later"


def test_what_is_derived_is_made_by_the_averages(two_steps):
    out, noted = two_steps
    assert len(noted["derived"]) == len(list((out / "derived").rglob("guess.npy"))) == 3
    for seen in noted["derived"]:
        assert torch.equal(seen, noted["validated"][2]) and not torch.equal(seen, noted["live"][2])
    assert all(np.isfinite(np.load(path)).all() for path in (out / "derived").rglob("guess.npy"))
