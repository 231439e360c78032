"""Whether a network takes inputs of a size, found out without computing anything."""

from collections.abc import Sequence
from itertools import chain

import torch
from torch import nn
from torch.func import functional_call

from ganatomy.errors import UserError


def check_input(network: nn.Module, shape: Sequence[int], option: str) -> None:
    """Refuse a size of inputs that a network cannot be run on; its weights and its state stay as they are.

    Args:
        network: takes one tensor.
        shape: of the tensor, (N, channels, [D,] H, W).
        option: as the user gave it, to be named.

    Raises:
        UserError: the network fails on that shape.
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
