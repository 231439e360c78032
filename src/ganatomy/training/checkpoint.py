"""The checkpoint of a run: its fields, and how it is read without trusting its content."""

from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from ganatomy.errors import UserError, shortage

LAST = Path("checkpoints") / "last.ckpt"
BEST = Path("checkpoints") / "best.ckpt"

Count = Annotated[int, Field(ge=0, lt=2**53)]


class _Part(BaseModel):
    """Base class of the parts of a checkpoint, which holds no other values and no values of other types."""

    model_config = ConfigDict(strict=True, extra="forbid", arbitrary_types_allowed=True)


class Done(_Part):
    """How far training has come; see `ganatomy.game.Progress`."""

    round: Count
    images: Count
    stage: str
    stage_round: Count
    stage_rounds: Count


class Score(_Part):
    """The best validation score so far; see `ganatomy.training.loop.Best`."""

    score: float | None
    round: Count
    name: str
    better: Literal["lower", "higher"]


class Optimizer(_Part):
    """State of an optimiser, as PyTorch writes it."""

    state: dict[Any, Any]
    param_groups: list[dict[str, Any]]


class Heard(_Part):
    """State of the monitor."""

    pending: list[tuple[Count, str, float]]
    latest: dict[str, float]


class Past(_Part):
    """The mean of past weights; see `ganatomy.training.aids.History`."""

    rounds: Count
    means: dict[str, Tensor]


class Checkpoint(_Part):
    """Everything from which training goes on; see `ganatomy.training.loop.Trainer.state`."""

    system: str
    method: dict[str, Any]
    optimizers: dict[str, Optimizer]
    averages: dict[str, Tensor]
    history: Past | None = None
    progress: Done
    stage: Count
    drawn: Count
    noise: Tensor
    random: Tensor
    random_cuda: list[Tensor]
    best: Score
    monitor: Heard


def read_checkpoint(path: Path, system: str) -> dict[str, Any]:
    """Read a checkpoint; no code in it is executed.

    Args:
        path: file of the checkpoint.
        system: slug of the system that it must belong to.

    Raises:
        UserError: the file is damaged, or belongs to another system.
    """
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # its readers of zip files and pickles raise errors of many kinds
        if short := shortage(error, path):
            raise short from None
        raise _damaged(path, type(error).__name__) from None
    theirs = state.get("system") if isinstance(state, dict) else None
    if theirs != system:
        raise UserError(f"{path}: a checkpoint of {theirs}, but the run is of {system}")
    try:
        Checkpoint.model_validate(state)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        unknown = [".".join(map(str, one["loc"])) for one in found if one["type"] == "extra_forbidden"]
        if unknown:
            raise UserError(
                f"{path}: holds what this version of ganatomy does not know: {', '.join(unknown)}; go on with the "
                "version that made it, or start again in another --out"
            ) from None
        first = found[0]
        raise _damaged(path, f"{'.'.join(map(str, first['loc']))}: {first['msg'].lower()}") from None
    return dict(state)


def _damaged(path: Path, reason: str) -> UserError:
    return UserError(f"{path}: damaged checkpoint ({reason}); start again in another --out")
