"""Run folders of untrained methods, for tests of code that uses runs."""

import torch
from safetensors.torch import save_file

from ganatomy import catalogue
from ganatomy.data.cases import DataConfig
from ganatomy.inference.model import WEIGHTS, build
from ganatomy.inference.runfile import RunFile, Selection, Sides, TrainConfig, digest_of, write_run


def make_run(folder, system="wgan-vgg", config=None, change=None, fitted=None, which=("best",)):
    """Write a run folder with the weights of an untrained system, after ``change`` of its method."""
    system, config = catalogue.resolve(system), config or {}
    method = build(system, config)
    if fitted:
        method.fitted.keep(fitted)
    if change:
        with torch.no_grad():
            change(method)
    folder.mkdir(parents=True)
    tensors = {
        name: value.detach().contiguous()
        for name, value in method.state_dict().items()
        if isinstance(value, torch.Tensor)
    }
    for one in which:
        save_file(tensors, folder / WEIGHTS[one], metadata={"system": system.slug, "round": "1"})
    facts = RunFile(
        system=system.slug,
        revision=system.cls.revision,
        source=catalogue.source_of(system.cls),
        config=config,
        roles={name: role.describe() for name, role in method.task.roles.items()},
        data=DataConfig(),
        training=TrainConfig(),
        rounds={stage.name: 1 for stage in method.stages()},
        split=Sides(train=(), val=(), test=(), secret="none"),
        cases={},
        validation="nothing",
        selection=Selection(score=method.task.selection, better="lower"),
        provenance={"features": "none"},
        versions={"ganatomy": "0"},
        weights=dict.fromkeys(which, digest_of(tensors)),
    )
    write_run(folder, facts)
    return folder
