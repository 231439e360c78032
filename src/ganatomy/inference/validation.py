"""Scores of a method while it is being trained."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from ganatomy.case import Scores
from ganatomy.data.batches import Range
from ganatomy.game import Method
from ganatomy.inference.predictor import predictor_of


@contextmanager
def used(method: Method) -> Iterator[None]:
    """The method in its inference mode; its modes and all random numbers come back as they were."""
    training = {module: module.training for module in method.modules()}
    noise = method.noise.generator.get_state()
    with torch.random.fork_rng():
        method.inference_mode()
        try:
            yield
        finally:
            method.noise.generator.set_state(noise)
            for module, mode in training.items():
                module.training = mode


@torch.no_grad()
def validate(method: Method, ranges: Sequence[Range], slices: int, device: torch.device | str = "cpu") -> Scores:
    """Scores on validation data, in physical units, with the method in its inference mode.

    Args:
        method: left in the mode it was in.
        ranges: validation slices.
        slices: how many to score altogether; of generated images, several times as many.
        device: of the method.
    """
    with used(method):
        return predictor_of(method, device).validate(ranges, slices)
