"""Options of single roles, and checks of the names that users choose for the roles of a general system."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from keyword import iskeyword
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from ganatomy.errors import UserError

RESERVED = frozenset(
    {
        *("subject", "subject_id", "patient", "patient_id", "split", "label", "diagnosis", "file", "path"),
        *("ability", "baseline", "changed_data", "config", "data", "name", "out", "preset", "resume", "seed", "show"),
        *("system", "unit"),
    }
)
"""Names that no role can have: columns of manifests with another meaning, and arguments of commands and functions."""


class RoleOptions(BaseModel):
    """Options that roles of all kinds have; a kind extends them."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    noun: ClassVar[str] = "image"
    """Noun for this kind of role, which is appended to a name that cannot be used alone in order to suggest another."""

    by_name: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Options that follow from the name of a role, such as the unit of a role called ``ct``."""

    part: str | None = None  # part of the phantom; none means the part with the name of the role


def check_role_name(name: str, field: str, taken: Collection[str], noun: str = RoleOptions.noun) -> None:
    """Refuse a name that cannot be both a Python identifier and the prefix of options.

    Args:
        name: name that the user chose.
        field: configuration field that names the role.
        taken: names of the options that exist already.
        noun: noun that is appended for the suggestion.

    Raises:
        UserError: the name is no identifier, a keyword, or an existing option; the message suggests another one.
    """
    option = f"--{field.replace('_', '-')} {name}"
    if not name.isidentifier():
        usable = re.sub(r"\W+", "_", name).strip("_") or noun
        usable = usable if usable.isidentifier() else f"{noun}_{usable}"
        why = "letters, digits and underscores only, and no digit first"
    elif iskeyword(name):
        usable, why = f"{name}_{noun}", f"{name} is a word of Python"
    elif name in taken or name in RESERVED:
        usable, why = f"{name}_{noun}", f"{name} means something else on the command line or in manifests"
    else:
        return
    raise UserError(f"{option}: a role cannot be called so ({why}); call it {usable}, say")
