"""Validation scores of a method that is being trained."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from ganatomy.case import Scores
from ganatomy.data.batches import Range
from ganatomy.game import Method
from ganatomy.inference.predictor import predictor_of


@contextmanager
def in_inference_mode(method: Method) -> Iterator[None]:
    """Put a method into its inference mode within the context, and restore its modes and all random states after it."""
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
    """Score a method on validation data, in physical units and in its inference mode.

    Args:
        method: left in the mode it was in.
        ranges: validation slices.
        slices: number of slices to score altogether; generated images are several times as many.
        device: device of the method.
    """
    with in_inference_mode(method):
        return predictor_of(method, device).validate(ranges, slices)
