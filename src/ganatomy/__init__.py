"""Ganatomy: train, evaluate and apply published generative adversarial networks on medical images.

The names of the package, such as ``ganatomy.train`` and ``ganatomy.load``, are imported when they are first used, so
that ``import ganatomy`` and the command line start at once.
"""

from importlib import import_module
from logging import NullHandler, getLogger
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ganatomy.api import apply, dataset, evaluate, list_systems, sample, study, train
    from ganatomy.data.cases import DataConfig
    from ganatomy.data.listing import Dataset
    from ganatomy.errors import Notice, UserError
    from ganatomy.images.files import find, read, write
    from ganatomy.images.image import Image
    from ganatomy.inference.model import Model, load
    from ganatomy.inference.runfile import TrainConfig

    __version__: str

getLogger(__name__).addHandler(NullHandler())  # a library is silent until a program configures the log

_HOMES = {
    "DataConfig": "ganatomy.data.cases",
    "Dataset": "ganatomy.data.listing",
    "Image": "ganatomy.images.image",
    "Model": "ganatomy.inference.model",
    "Notice": "ganatomy.errors",
    "TrainConfig": "ganatomy.inference.runfile",
    "UserError": "ganatomy.errors",
    "apply": "ganatomy.api",
    "dataset": "ganatomy.api",
    "evaluate": "ganatomy.api",
    "find": "ganatomy.images.files",
    "list_systems": "ganatomy.api",
    "load": "ganatomy.inference.model",
    "read": "ganatomy.images.files",
    "sample": "ganatomy.api",
    "study": "ganatomy.api",
    "train": "ganatomy.api",
    "write": "ganatomy.images.files",
}

__all__ = [
    "DataConfig",
    "Dataset",
    "Image",
    "Model",
    "Notice",
    "TrainConfig",
    "UserError",
    "__version__",
    "apply",
    "dataset",
    "evaluate",
    "find",
    "list_systems",
    "load",
    "read",
    "sample",
    "study",
    "train",
    "write",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("ganatomy")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'ganatomy' has no attribute {name!r}")
