"""Run folders with random weights, since values do not change the time that a network takes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ganatomy import catalogue
from ganatomy.catalogue import source_of
from ganatomy.data.cases import DataConfig
from ganatomy.inference.model import WEIGHTS, build
from ganatomy.inference.runfile import RunFile, Selection, Sides, TrainConfig, digest_of, write_run


def make_run(folder: Path, slug: str, config: Mapping[str, Any]) -> Path:
    """Make a run folder of an untrained system.

    Args:
        folder: new folder.
        slug: name of the system.
        config: options of its method that differ from the paper's.
    """
    torch.manual_seed(0)
    system = catalogue.resolve(slug)
    method = build(system, config)
    tensors = {
        name: value.detach().contiguous() for name, value in method.state_dict().items() if isinstance(value, Tensor)
    }
    folder.mkdir()
    save_file(tensors, folder / WEIGHTS["best"], metadata={"system": slug, "round": "1"})
    facts = RunFile(
        system=slug,
        revision=system.cls.revision,
        source=source_of(system.cls),
        config=dict(config),
        roles={name: role.describe() for name, role in method.task.roles.items()},
        data=DataConfig(),
        training=TrainConfig(),
        rounds={stage.name: 1 for stage in method.stages()},
        split=Sides(train=(), val=(), test=(), secret="none"),
        cases={},
        validation="nothing",
        selection=Selection(score=method.task.selection, better="higher"),
        provenance={},
        versions={},
        weights={"best": digest_of(tensors)},
    )
    write_run(folder, facts)
    return folder
