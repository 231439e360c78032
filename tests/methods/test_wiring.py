"""Whether the losses of every system depend on what its paper says, and on nothing else; see the tables in `wiring`."""

import importlib
import json
from functools import lru_cache

import games
import pytest
import torch
from small import READY, Samples, build, configured
from wiring import COILS, IMAGE, MASK, NOISE, NOTHING, OTHERWISE

import recorded
from ganatomy import catalogue
from ganatomy.game import Noise, moves

SECTIONS = (
    *("denoising", "reconstruction", "segmentation", "brain_segmentation", "detection", "classification", "synthesis"),
    *("frameworks", "uptake", "retina_synthesis", "filaments", "microscopy", "ultrasound"),
)
WIRINGS = [wiring for name in SECTIONS for wiring in importlib.import_module(f"wiring.{name}").WIRINGS]
PARTS = {IMAGE: slice(0, 2), MASK: slice(2, 3), COILS: slice(3, None)}
"""Channels of a scan."""


def weights_of(slug):
    """Options that are called weights."""
    return {name for name in catalogue.load(slug).Config.model_fields if "weight" in name}


def awake(method):
    """Layers that begin at zero hide what they will do: they get small numbers."""
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in method.parameters():
            if not parameter.any():
                parameter.copy_(0.05 * torch.randn(parameter.shape, generator=draw))
    return method


class Changed(Samples):
    """Batches in which one role, or one part of a scan, is that of other samples."""

    def __init__(self, method, stage, role, drawn=0, other=1000):
        super().__init__(method, stage, drawn)
        self.role, self.other = role.partition(":")[0], other
        # Roles of label maps have a method of this name.
        own = getattr(method.task.roles.get(self.role), "classes", ())
        self.classes = own if isinstance(own, tuple) else ()
        self.part = PARTS.get(role, slice(None))

    def __next__(self):
        batch, other = super().__next__(), next(Samples(self.method, self.stage, self.drawn + self.other))
        several = len(self.stage.streams_in_order) > 1
        for mine, theirs in zip(*((each.values() if several else [each]) for each in (batch, other)), strict=True):
            if self.classes and self.role in mine:
                mine[self.role] = (mine[self.role] + 1) % len(self.classes)
            elif self.role in mine:
                mine[self.role] = mine[self.role].clone()
                mine[self.role][:, self.part] = theirs[self.role][:, self.part]
        return batch


def roles_of(method, stage):
    """What the stage draws, scans by their parts."""
    batch = next(Samples(method, stage))
    several = len(stage.streams_in_order) > 1
    drawn = {name: values for each in (batch.values() if several else [batch]) for name, values in each.items()}
    kinds = {name: method.task.roles[name].kind for name in drawn if name in method.task.roles}
    found = set(drawn) - {name for name, kind in kinds.items() if kind == "undersampled scan"}
    for name in set(drawn) - found:
        assert name == "input"
        found |= {IMAGE, MASK, *([COILS] if drawn[name].shape[1] > 3 else [])}
    # Stages that draw no labels are given them by `Samples` all the same.
    asked = {role for stream in stage.streams_in_order for role in stream.roles or ()}
    return found - ({"label"} - asked)


def heard(method, index, before=0, role=None, seed=0, other=1000):
    """Loss terms of one round in the middle of a stage, of which nobody takes a step: name to values, in order."""
    stage = method.stages()[index]
    kept = {name: value.clone() for name, value in method.state_dict().items() if isinstance(value, torch.Tensor)}
    progress = method.progress
    progress.stage, progress.stage_rounds, progress.stage_round = stage.name, stage.rounds, stage.rounds // 2
    method.train()
    if stage.begin:
        stage.begin()
    found = {}
    for number in range(before + 1):
        torch.manual_seed(number)
        last = number == before
        method.noise = Noise(number + (100 * seed if last else 0))
        samples = Changed(method, stage, role, number, other) if role and last else Samples(method, stage, number)
        found = {}
        for move in moves(stage.turns(samples)):
            for turn in move:
                for name, term in turn.losses.items():
                    found.setdefault(f"{turn.player}/{name}", []).append(float(term.detach()))
    method.load_state_dict(kept)
    return found


@lru_cache(maxsize=1)
def untouched(number):
    """The method of a table, and what is heard of every stage of it."""
    wiring = WIRINGS[number]
    method = awake(build(wiring.system, **wiring.options))
    return method, [heard(method, index, wiring.rounds) for index in range(len(method.stages()))]


def stages(method, wiring):
    named = [stage.name for stage in method.stages()]
    assert set(wiring.stages) <= {*named, "*"}, f"{wiring.name}: the stages are {named}"
    missing = [name for name in named if name not in wiring.stages and "*" not in wiring.stages]
    assert not missing, f"{wiring.name}: say what the losses of the stages {missing} depend on"
    return [wiring.stages.get(name) or wiring.stages["*"] for name in named]


def differing(first, second):
    assert first.keys() == second.keys()
    return {name for name in first if first[name] != second[name]}


@pytest.mark.parametrize("slug", READY)
def test_every_ready_system_has_a_table_of_all_its_weights(slug):
    section = catalogue.load(slug).__module__.split(".")[-2]
    tables = [wiring for wiring in WIRINGS if wiring.slug == slug]
    assert tables, (
        f"write a Wiring of {slug} in tests/methods/wiring/{section}.py: for every stage, role -> loss terms "
        "(player/term) that depend on it, and weight option -> {term: factor by which it grows when doubled}, both "
        "from the paper's formulas"
    )
    told = {option for table in tables for losses in table.stages.values() for option in losses.weights}
    for table in tables:
        assert set(table.unused) <= weights_of(slug), f"{table.name}: no such weights"
    silent = weights_of(slug) - told - {option for table in tables for option in table.unused}
    assert not silent, f"{slug}: say which terms {sorted(silent)} weigh, or under unused why they weigh none"


@pytest.mark.parametrize("number", range(len(WIRINGS)), ids=[wiring.name for wiring in WIRINGS])
def test_a_game_is_as_recorded(number):
    name = WIRINGS[number].name
    recorded_game = json.loads(games.FILE.read_text(encoding="utf-8"))[name]
    found = list(recorded.apart(recorded_game, games.game(*untouched(number)), name))
    assert found[:10] == [], "if it is meant to differ, run tests/methods/games.py and look through what changes"


@pytest.mark.parametrize("number", range(len(WIRINGS)), ids=[wiring.name for wiring in WIRINGS])
def test_terms_depend_on_the_roles_of_the_paper(number):
    wiring = WIRINGS[number]
    method, plain = untouched(number)
    for index, losses in enumerate(stages(method, wiring)):
        stage = method.stages()[index]
        assert set(plain[index]) == losses.terms, f"stage {stage.name}: other terms than in its table"
        roles = set(losses.roles) - {NOISE, NOTHING}
        assert roles == roles_of(method, stage), f"stage {stage.name}: say which terms depend on these roles"
        for role in roles:
            found = set()
            # A small effect may be lost in the rounding of one sample, but what has no effect never shows one.
            for other in (1000, 2000, 3000, 4000):
                found |= differing(plain[index], heard(method, index, wiring.rounds, role, other=other))
                if found >= set(losses.roles[role]):
                    break
            assert found == set(losses.roles[role]), f"stage {stage.name}: what depends on {role}"
        found = differing(plain[index], heard(method, index, wiring.rounds, seed=1))
        assert found == set(losses.roles.get(NOISE, ())), f"stage {stage.name}: what depends on noise"


@pytest.mark.parametrize("number", range(len(WIRINGS)), ids=[wiring.name for wiring in WIRINGS])
def test_a_weight_scales_its_terms(number):
    wiring = WIRINGS[number]
    method, plain = untouched(number)
    tables = stages(method, wiring)
    options = weights_of(wiring.slug) | {option for losses in tables for option in losses.weights}
    for option in sorted(options - set(wiring.unused)):
        value = getattr(configured(wiring.system, **wiring.options), option)
        twice = tuple(2 * each for each in value) if isinstance(value, tuple) else 2 * value
        assert twice != value, f"{option} is {value}: give it a value in the options of the table, or say why unused"
        heavier = awake(build(wiring.system, **{**wiring.options, option: twice}))
        for index, losses in enumerate(tables):
            name, want = heavier.stages()[index].name, losses.weights.get(option, {})
            found = heard(heavier, index, wiring.rounds)
            assert differing(plain[index], found) == set(want), f"stage {name}: what {option} weighs"
            for term, factor in want.items():
                if factor != OTHERWISE:
                    wanted = [factor * value for value in plain[index][term]]
                    assert found[term] == pytest.approx(wanted, rel=1e-4), f"stage {name}: {term} by {option}"
