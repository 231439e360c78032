"""Number of floating-point operations of a training, counted on its first round without training anything."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from ganatomy.game import Method
from ganatomy.training.shapes import UNKNOWN, begin_round, without_log

BACKWARD = 3
"""Operations of a forward and a backward pass, in those of a forward pass (a rule of thumb)."""


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Count the operations of convolutions and matrix products.

    The counter of torch also attributes them to modules, by hooks that forbid gradient penalties.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0

    def __torch_dispatch__(
        self, func: OpOverload, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if (count := flop_registry.get(func._overloadpacket)) is not None:
            self.flops += count(*args, **(kwargs or {}), out_val=result)
        return result


def training_flops(method: Method, rounds: int | None = None) -> float:
    """Estimate the floating-point operations of a whole training, to tell cheap trainings from expensive ones.

    The first moves of a round of every stage are played, on tensors without values where that is possible. What is
    not counted is whatever is no convolution or matrix product, and all that happens between rounds.

    Args:
        method: untrained method, which stays as it is.
        rounds: rounds of the whole training; None means those of the method's stages.
    """
    total, whole = 0.0, 0
    for number, stage in enumerate(method.stages()):
        total += BACKWARD * _forward_flops(method, number) * stage.rounds
        whole += stage.rounds
    return total if rounds is None else total * rounds / whole


def _forward_flops(method: Method, number: int) -> int:
    double, counter = copy.deepcopy(method), _Counter()
    try:
        with without_log(), FakeTensorMode(allow_non_fake_inputs=True), counter:
            begin_round(double, number)
    except (*UNKNOWN, RuntimeError):  # values are needed, so that the round is played with random ones
        counter = _Counter()
        with counter:
            begin_round(copy.deepcopy(method), number)
    return counter.flops
