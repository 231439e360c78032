"""The file that describes a run, and the identity of its weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ganatomy.errors import UserError

RUN_FILE = "run.yaml"


def read_run(folder: Path) -> dict[str, Any]:
    """The ``run.yaml`` of a run.

    Raises:
        UserError: no run there, or the file is damaged.
    """
    path = folder / RUN_FILE
    if not path.is_file():
        raise UserError(
            f"{folder}: no run here (run.yaml is missing); give the folder that `ganatomy train --out` made"
        )
    try:
        facts = yaml.safe_load(path.read_text(encoding="utf-8"))
        return {"system": str(facts["system"]), "config": dict(facts["config"]), **facts}
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: damaged or not a run ({type(error).__name__}); restore it, or train again") from None


def digest_of(tensors: Mapping[str, Any]) -> str:
    """A digest of weights that depends on names, types, shapes and values alone, not on how a file orders them.

    Args:
        tensors: name to tensor.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        values = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{values.dtype}|{tuple(values.shape)}|".encode())
        digest.update(values.flatten().view(-1).numpy().tobytes())
    return f"sha256:{digest.hexdigest()}"
