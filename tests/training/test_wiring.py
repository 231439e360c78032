"""Whether the loop and a run use what a player and a stage ask for: rates, limits, beginnings, averages."""

import copy
from typing import ClassVar

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
    """A convolution that learns, and another that sees what the average of the first makes of whole slices.

    The weights of the first are noted: at the beginning of every round, while it restores, and while it derives.
    """

    class Config(MethodConfig):
        pass

    noted: ClassVar[dict] = {}

    def __init__(self, config=None):
        super().__init__(config or self.Config())
        self.first, self.second = nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 1)

    def build_task(self):
        return CTDenoising(LowDoseScan(views=60), Window(low=-1000, high=1000, to=(0, 1)), "rmse", 2)

    @property
    def tiling(self):
        return Tiling(margin=(0, 1, 1))

    def note(self, what):
        self.noted.setdefault(what, {}).setdefault(self.progress.round, self.first.weight.detach().clone())

    def stages(self):
        steps = lambda parameters: torch.optim.SGD(parameters, 0.5)  # noqa: E731
        one, two = Player("one", (self.first,), steps, ema_halflife=4.0), Player("two", (self.second,), steps)
        drawn = Stream("samples", None, 2, (1, 16, 16), self.tiling.margin)
        return [
            Stage("one", self.begin, [one], 3, drawn),
            Stage("two", self.refine, [two], 2, drawn, derive={"guess": self.guess}),
        ]

    def begin(self, batches):
        self.note("live")
        batch = next(batches)
        yield Turn("one", error=(self.first(batch["input"]) - batch["target"]).square().mean())

    def guess(self, batch):
        self.note("deriving")
        return self.first(batch["input"])

    def refine(self, batches):
        self.note("live")
        batch = next(batches)
        yield Turn("two", error=(self.second(batch["guess"]) - batch["target"]).square().mean())

    def restore(self, input):
        self.note("restoring")
        return self.first(input)


@pytest.fixture(scope="module")
def two_steps(tiny, tmp_path_factory):
    """A run of five rounds, each of which is validated, and what was noted."""
    system = catalogue.System("two-steps", None, "", "denoising", "", "CT", "2D", "", None, f"{__name__}:TwoSteps")
    out = tmp_path_factory.mktemp("two-steps") / "run"
    TwoSteps.noted = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(catalogue._BY_NAME, "two-steps", system)
        # It plays the first round on shapes, whose weights are no numbers to be noted.
        patch.setattr("ganatomy.training.run.check_turns", lambda method: None)
        tiny("two-steps", out, preset="paper", rounds=5, options={"validate_every": 1, "diagnose": False})
    return out, TwoSteps.noted


def averages(live):
    """Averages after the rounds 1, 2 and 3, of two images each, from the weights before these rounds and after."""
    kept, average, found = 0.5 ** (2 / 4.0), live[0], {}
    for number in (1, 2, 3):
        average = average * kept + live[number] * (1 - kept)
        found[number] = average
    return found


def test_averages_are_validated_and_not_the_weights_of_the_moment(two_steps):
    out, noted = two_steps
    live, validated = noted["live"], noted["restoring"]
    assert list(live) == [0, 1, 2, 3, 4] and {1, 2, 3, 4, 5} <= set(validated)
    assert torch.equal(live[3], live[4]), "in the second stage it rests"
    for number, average in averages(live).items():
        torch.testing.assert_close(validated[number], average)
        assert not torch.equal(validated[number], live[number])
    assert torch.equal(validated[5], validated[3])
    assert torch.equal(load_file(out / "weights-last.safetensors")["first.weight"], validated[5]), (
        "these are used later"
    )


def test_what_is_derived_is_made_by_the_averages(two_steps):
    out, noted = two_steps
    assert list(noted["deriving"]) == [3] and len(list((out / "derived").rglob("guess.npy"))) == 3
    torch.testing.assert_close(noted["deriving"][3], averages(noted["live"])[3])
    assert not torch.equal(noted["deriving"][3], noted["live"][3])
