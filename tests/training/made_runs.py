"""Run folders without training, for tests of what uses them."""

import torch
from safetensors.torch import save_file

from ganatomy import catalogue
from ganatomy.data.cases import DataConfig
from ganatomy.data.pseudonyms import Pseudonyms
from ganatomy.inference.model import WEIGHTS, build, described
from ganatomy.inference.runfile import RunFile, Selection, Sides, TrainConfig, digest_of, write_run

ROUNDS = 3


def facts_of(method, system="wgan-vgg", **changed):
    """The run file of a method, of this user and with three phantoms, in which some fields may be changed."""
    mine = Pseudonyms.of_user()
    names = [mine.subject(f"phantom{number:03d}") for number in range(3)]
    usual = {
        "system": system,
        "revision": catalogue.load(system).revision,
        "config": method.config.model_dump(mode="json"),
        "roles": described(method),
        "data": DataConfig(phantom_subjects=3),
        "training": TrainConfig(),
        "rounds": {stage.name: ROUNDS for stage in method.stages()},
        "split": Sides(train=names[:1], val=(), test=names[1:], secret=mine.fingerprint),
        "validation": "slices held out of the training subjects",
        "selection": Selection(score="rmse", better="lower"),
        "provenance": {"features": "none"},
        "versions": {"ganatomy": "0.2.0", "torch": "2", "python": "3"},
    }
    return RunFile.model_validate({**usual, **changed})


def make_run(folder, system="wgan-vgg", config=None, change=None, **changed):
    """A run folder with one set of weights, the best and the last, as if it had been trained.

    Args:
        folder: made.
        system: slug.
        config: values of its configuration.
        change: is called with the method before its weights are written.
        changed: fields of the run file.
    """
    method = build(system, config or {})
    if change:
        with torch.no_grad():
            change(method)
    folder.mkdir(parents=True)
    tensors = {name: value for name, value in method.state_dict().items() if isinstance(value, torch.Tensor)}
    for name in WEIGHTS.values():
        save_file(tensors, folder / name, metadata={"system": system, "round": str(ROUNDS)})
    write_run(folder, facts_of(method, system, weights=dict.fromkeys(WEIGHTS, digest_of(tensors)), **changed))
    return folder
