"""Every preset of every system plays a round, at the sizes that it states."""

from collections.abc import Callable

import pytest
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode

from ganatomy import catalogue
from ganatomy.game import Method
from ganatomy.training.shapes import FEW, UNKNOWN, begin_round, without_log

PRESETS = [(system.slug, name) for system in catalogue.ready() for name in system.cls.Config.presets]
MANY_STEPS = {("mgan", "paper"), ("mgan", "small"), ("va-gan", "volumes")}
"""Presets with so many steps in a round that even those on tensors without values take longer than five seconds."""
VALUES_AT_FULL_SIZE = {
    ("csmri-refinement", "paper"),
    ("cyclegan", "paper"),
    ("polyphase-cyclegan", "paper"),
    ("refinegan", "paper"),
    ("refinegan", "code"),
    ("polyphase-cyclegan", "paper"),
    ("ssnet", "paper"),
    ("btrfly-net", "paper"),
}
"""Presets whose turns depend on values, so that networks of the paper's size are computed."""


class WithoutDraws(TorchFunctionMode):
    """Random weights are zeros, since only their shapes matter and drawing a hundred million of them takes seconds."""

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if getattr(func, "__name__", "") in ("normal_", "uniform_", "trunc_normal_"):
            weight = args[0] if args else kwargs["tensor"]
            weight.data.zero_()
            return weight
        return func(*args, **(kwargs or {}))


def marked(slow):
    """All presets, of which those named, and most that are not small, are slow: each takes a second or more."""
    there = catalogue.ready()
    seldom = {(one.slug, name) for one in there[::4] for name in one.cls.Config.presets}
    quick = {one for one in PRESETS if one[1] == "small" or one in seldom} - slow
    return [pytest.param(*one, marks=() if one in quick else pytest.mark.slow, id=":".join(one)) for one in PRESETS]


def play(make: Callable[[], Method]) -> None:
    """Begin a round of every stage, as far as possible on tensors without values.

    Where networks can be built or turns be computed with values alone, so are they, the latter with few samples.
    """
    try:
        with without_log(), FakeTensorMode(allow_non_fake_inputs=True):
            return begin_all(make())
    except (*UNKNOWN, RuntimeError):
        pass
    try:
        with WithoutDraws():
            method = make()
        with without_log(), FakeTensorMode(allow_non_fake_inputs=True):
            return begin_all(method)
    except (*UNKNOWN, RuntimeError):
        return begin_all(make(), FEW)


def begin_all(method: Method, most: int | None = None) -> None:
    for number in range(len(method.stages())):
        begin_round(method, number, most)


@pytest.mark.parametrize(("slug", "preset"), marked(MANY_STEPS | VALUES_AT_FULL_SIZE))
def test_every_preset_plays_a_round(slug: str, preset: str) -> None:
    kind = catalogue.load(slug)
    play(lambda: kind.of(kind.Config.preset(preset)))


def test_a_preset_that_cannot_be_played_is_found() -> None:
    kind = catalogue.load("cgan")
    broken = kind.Config.preset("small", size=(4, 4, 4))
    with pytest.raises(RuntimeError, match="Calculated padded input size"):
        play(lambda: kind.of(broken))


def test_networks_of_a_paper_take_no_memory() -> None:
    """The tensors of a whole round would take terabytes."""
    kind = catalogue.load("gan")
    config = kind.Config.preset("paper", hidden=(4,), units=(4,), size=(2000, 2000), batch_size=1_000_000)
    play(lambda: kind.of(config))
