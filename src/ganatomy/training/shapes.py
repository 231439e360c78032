"""Check, before any case is prepared, that a method can be trained on batches of its configured size."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import Any

import torch
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedFakeTensorException,
    UnsupportedOperatorException,
)

from ganatomy.case import Role
from ganatomy.errors import UserError
from ganatomy.game import Aids, Batch, Method, Noise, Stage, Stream, moves
from ganatomy.roles.image import ImageRole
from ganatomy.training.aids import Aided, prepare

SIZES = ("size", "patch", "patch_shape", "patch_slices", "crop")
"""Options of methods that determine the shapes of their batches."""
TRIED = 2
"""Value by which every aid that has a number is switched on, to see whether it reaches a method."""
MOST_MOVES = 12
"""Number of moves of a round that are tried, which is more than one of every player in all but unusual methods."""
TYPICAL = 1100
"""Round of a stage at which aids are tried: one of the hundredths, in which all adversaries of slow ones move."""
FEW = 2
"""Samples per batch with which a failure is tried again."""
UNKNOWN = (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedFakeTensorException,
    UnsupportedOperatorException,
)
"""Errors of a computation that depends on values, where nothing can be said about what follows."""


def check_turns(method: Method) -> None:
    """Begin a round of every stage with tensors that have a shape but no values, which takes no memory.

    The method stays unchanged. A failure counts only where a few samples with random values fail, too, since some
    computations cannot be carried out without values. Nothing is tried where a role without a grid has no example of
    its own, as roles from outside of ganatomy may.

    Raises:
        UserError: the networks cannot be trained on batches of the configured size; the message names the options.
    """
    if any(not role.on_grid and type(role).example is Role.example for role in method.task.roles.values()):
        return
    for number, stage in enumerate(method.stages()):
        if method.dims == 2 and any(stream.patch[0] != 1 for stream in stage.streams_in_order):
            raise UserError(f"{_told(method)}: this system works on slices; give rows and columns alone")
        double = copy.deepcopy(method)
        try:
            with without_log(), FakeTensorMode(allow_non_fake_inputs=True):
                begin_round(double, number)
        except UNKNOWN:
            continue
        except (RuntimeError, ValueError, ZeroDivisionError) as error:
            if _fails(copy.deepcopy(method), number):
                reason = (str(error) or type(error).__name__).splitlines()[0]
                raise UserError(f"{_told(method)}: the networks cannot be trained on such images ({reason})") from error


def check_aids(method: Method, aids: Aids) -> None:
    """Begin a round of every stage with aids and a few random samples, on the weights that training begins with.

    It is a round from the middle of the stage, since players may be taught without an adversary at first. The method
    stays unchanged.

    Raises:
        UserError: an aid cannot reach the method; the message names it and the reason.
    """
    matched = not aids.feature_matching
    for number in range(len(method.stages()) if aids.chosen else 0):
        double = copy.deepcopy(method)
        double.progress = replace(double.progress, stage_round=TYPICAL, stage_rounds=2 * TYPICAL)
        aided = Aided(double, double.stages()[number], aids)
        try:
            begin_round(double, number, FEW * aids.pack, aided)
        except (RuntimeError, ValueError) as error:
            names = ", ".join(f"--aids.{name.replace('_', '-')}" for name in aids.chosen)
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise UserError(f"{names}: no round can be played with these aids ({reason})") from error
        matched |= aided.matched
    if not matched:
        raise UserError(
            "--aids.feature-matching: no player is taught by what an adversary's network says of its samples"
        )


def refusals(method: Method) -> dict[str, str]:
    """Return which aids an untrained method refuses, and why.

    Returns:
        Name of the aid to the message for the user; aids that reach the method are absent.
    """
    found = {}
    for name, value in Aids():
        if name == "noise_until":
            continue
        aids, double = Aids.model_validate({name: value is False or TRIED}), copy.deepcopy(method)
        try:
            prepare(double, aids)
            check_aids(double, aids)
        except UserError as error:
            found[name] = str(error)
    return found


@contextmanager
def without_log() -> Iterator[None]:
    """Keep torch from logging the traceback of a failure, which is told in one line."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    before, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = before


def _fails(method: Method, number: int) -> bool:
    try:
        begin_round(method, number, FEW)
    except (RuntimeError, ValueError, ZeroDivisionError):
        return True
    return False


def begin_round(method: Method, number: int, most: int | None = None, aided: Aided | None = None) -> None:
    """Compute the losses of the first moves of a round of a stage.

    Args:
        method: copy of an untrained method, whose state is changed.
        number: of the stage.
        most: upper limit of the samples per batch; None means none.
        aided: the stage with aids; None means without any.
    """
    method.train().noise = Noise()
    stage = aided.stage if aided else method.stages()[number]
    with torch.random.fork_rng(devices=[]):
        if stage.begin:
            stage.begin()
        for move in islice(moves(stage.turns(example_batches(method, stage, most))), MOST_MOVES):
            for turn in move:
                turn.total  # noqa: B018  the sum of terms of different shapes fails
            if aided:
                aided.check_move(move)


def example_batches(method: Method, stage: Stage, most: int | None = None) -> Iterator[Batch]:
    """Yield batches of random numbers in the shapes that a stage draws, at most ``most`` samples of each stream."""
    draw = torch.Generator().manual_seed(0)
    streams = stage.streams_in_order
    while True:
        found = {stream.name: _batch(method, stage, stream, draw, most) for stream in streams}
        yield found if len(streams) > 1 else next(iter(found.values()))


def _batch(method: Method, stage: Stage, stream: Stream, draw: torch.Generator, most: int | None) -> Batch:
    """Return random numbers in the shape of a batch of a stream."""
    task, rows = method.task, min(stream.batch_size, most or stream.batch_size)
    names = stream.roles if stream.roles is not None else (*task.required, *stage.derive)
    batch: dict[str, Any] = {}
    for name in names:
        role = task.roles.get(name) or ImageRole(name)
        around = stream.margin if name in stream.wide else (0, 0, 0)
        size = [length + 2 * extra for length, extra in zip(stream.patch, around, strict=True)]
        example = role.example(size[3 - method.dims :], draw)
        batch[name] = example.expand(rows, *example.shape)
    if task.classes:
        batch["label"] = torch.arange(rows) % len(task.classes)
    return batch


def _told(method: Method) -> str:
    """Return the options that determine the shapes of batches, with their values, as they are typed."""
    values = {name: getattr(method.config, name, None) for name in SIZES}
    return " ".join(
        f"--{name.replace('_', '-')} {' '.join(map(str, value)) if isinstance(value, tuple) else value}"
        for name, value in values.items()
        if value is not None
    )
