"""Initial weights of a player's networks from another run, such as a discriminator that was trained before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ganatomy.catalogue import System
from ganatomy.data.splits import some
from ganatomy.errors import UserError
from ganatomy.game import Method
from ganatomy.inference.model import WEIGHTS, build_run, check_weights, read_weights
from ganatomy.inference.runfile import Initial, InitialSource, is_run_of, read_run
from ganatomy.nets.enlarging import restore_enlarged
from ganatomy.nets.spectral import restore_norms


def initialise(method: Method, sources: Sequence[InitialSource], system: System) -> tuple[Initial, ...]:
    """Give players of an untrained method the best weights of players of other runs, and return where they come from.

    Parameters and buffers are taken; optimisers begin anew.

    Args:
        method: untrained method.
        sources: players of other runs.
        system: system of the method; runs of it may be of a method from outside.

    Raises:
        UserError: a run or a player is unknown, a player is initialised twice, or its networks have other tensors.
    """
    own = players_of(method)
    for source in sources:
        if source.own not in own:
            raise UserError(f"{source.option}: this system has no player {source.own}, but {', '.join(own)}")
        if [one.own for one in sources].count(source.own) > 1:
            raise UserError(f"{source.option}: {source.own} is initialised twice; name one run for it")
    return tuple(_take(own[source.own], source, system) for source in sources)


def players_of(method: Method) -> dict[str, tuple[nn.Module, ...]]:
    """Return the modules of every player of a method, over all its stages and each once, by the player's name."""
    found: dict[str, dict[int, nn.Module]] = {}
    for stage in method.stages():
        for player in stage.players:
            found.setdefault(player.name, {}).update({id(module): module for module in player.modules})
    return {name: tuple(modules.values()) for name, modules in found.items()}


def _take(modules: Sequence[nn.Module], source: InitialSource, system: System) -> Initial:
    """Copy the weights of a player of a run into modules."""
    facts = read_run(source.run)
    path = source.run / WEIGHTS["best"]
    if not path.is_file():
        raise UserError(f"{source.option}: {path} is missing; train that run first")
    # The networks of the other run are built with random weights, which must not change those of this run.
    with torch.random.fork_rng():
        other = build_run(source.run, facts, system if is_run_of(facts, system) else None)
    tensors = read_weights(path)
    digest = check_weights(source.run, facts, "best", tensors)
    restore_enlarged(other, tensors)
    restore_norms(other, tensors)
    other.load_state_dict(tensors, strict=False)
    theirs = players_of(other)
    if source.player not in theirs:
        raise UserError(f"{source.option}: that run has no player {source.player}, but {', '.join(theirs)}")
    given, wanted = _tensors(theirs[source.player]), _tensors(modules)
    if differing := _differing(given, wanted):
        raise UserError(
            f"{source.option}: has another architecture than {source.own} here ({'; '.join(differing)}); train both "
            "runs with the same networks"
        )
    with torch.no_grad():
        for name, value in wanted.items():
            value.copy_(given[name])
    return Initial(
        player=source.own,
        system=facts.system,
        of=source.player,
        weights=digest,
        subjects=(*facts.split.train, *facts.split.val),
        secret=facts.split.secret,
        earlier=facts.initial,
    )


def _tensors(modules: Sequence[nn.Module]) -> dict[str, Tensor]:
    """Return parameters and buffers of modules by their names within them, after the number of the module."""
    return {
        f"{number}.{name}" if len(modules) > 1 else name: value
        for number, module in enumerate(modules)
        for name, value in module.state_dict().items()
        if isinstance(value, Tensor)
    }


def _differing(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """Return in words which tensors of two networks differ; nothing where all fit."""
    shapes = [
        f"{name} {tuple(given[name].shape)} instead of {tuple(value.shape)}"
        for name, value in wanted.items()
        if name in given and given[name].shape != value.shape
    ]
    parts = {
        "": shapes,
        "missing there: ": [name for name in wanted if name not in given],
        "missing here: ": [name for name in given if name not in wanted],
    }
    return [f"{before}{some(names)}" for before, names in parts.items() if names]
