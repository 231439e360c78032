"""Ganatomy: train, evaluate and apply published generative adversarial networks on medical images.

The names of the package, such as ``ganatomy.train`` and ``ganatomy.load``, are imported when they are first used, so
that ``import ganatomy`` and the command line start at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ganatomy.api import train
    from ganatomy.data.cases import DataConfig
    from ganatomy.errors import UserError
    from ganatomy.images.files import find, read, write
    from ganatomy.images.image import Image
    from ganatomy.inference.model import Model, load
    from ganatomy.inference.runfile import TrainConfig

_HOMES = {
    "DataConfig": "ganatomy.data.cases",
    "Image": "ganatomy.images.image",
    "Model": "ganatomy.inference.model",
    "TrainConfig": "ganatomy.inference.runfile",
    "UserError": "ganatomy.errors",
    "find": "ganatomy.images.files",
    "load": "ganatomy.inference.model",
    "read": "ganatomy.images.files",
    "train": "ganatomy.api",
    "write": "ganatomy.images.files",
}

__all__ = [
    "DataConfig",
    "Image",
    "Model",
    "TrainConfig",
    "UserError",
    "find",
    "load",
    "read",
    "train",
    "write",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("ganatomy")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'ganatomy' has no attribute {name!r}")
