"""Check whether a network accepts inputs of a given size, on shapes alone (torch's meta device)."""

from collections.abc import Sequence
from itertools import chain

import torch
from torch import nn
from torch.func import functional_call

from ganatomy.errors import UserError


def check_input(network: nn.Module, shape: Sequence[int], option: str) -> None:
    """Raise an error if a network cannot be run on inputs of a given shape; weights and buffers stay unchanged.

    Args:
        network: network that takes one tensor.
        shape: shape of the tensor, (N, channels, [D,] H, W).
        option: option that determines the shape, for the error message.

    Raises:
        UserError: The network fails on that shape.
    """
    state = {
        name: torch.empty_like(value, device="meta")
        for name, value in chain(network.named_parameters(), network.named_buffers())
    }
    try:
        functional_call(network, state, (torch.empty(*shape, device="meta"),))
    except (RuntimeError, ValueError, ZeroDivisionError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{option}: {type(network).__name__} takes no input of {tuple(shape)}: {reason}") from error
