"""Regions of brain tumours by the label values of the BRATS challenges, which changed with the years."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ganatomy.errors import UserError

Regions = Mapping[str, tuple[int, ...]]
"""Name of each region to its label values."""
NAMED = re.compile(r"brats-(\d{4})(-classes)?")
"""Pattern of the name of a code, whose year is that of the data; ``-classes`` for tissues that exclude each other."""


@dataclass(frozen=True)
class Code:
    """The label values of some years.

    Attributes:
        first: first year.
        last: last year.
        tissues: tissue to its label value, in the order of these.
    """

    first: int
    last: int
    tissues: Mapping[str, int]

    @property
    def classes(self) -> Regions:
        """Exclusive classes, the background first."""
        return {"background": (0,), **{name: (label,) for name, label in self.tissues.items()}}

    @property
    def regions(self) -> Regions:
        """Overlapping regions, in which the challenge is scored: the whole tumour, its core without the oedema, and the
        enhancing part of it."""
        enhancing = self.tissues["enhancing"]
        core = tuple(label for name, label in self.tissues.items() if name != "oedema")
        return {"whole": tuple(self.tissues.values()), "core": core, "enhancing": (enhancing,)}


CODES = (
    Code(2012, 2016, {"necrosis": 1, "oedema": 2, "nonenhancing": 3, "enhancing": 4}),
    Code(2017, 2022, {"necrosis": 1, "oedema": 2, "enhancing": 4}),
    Code(2023, 2023, {"necrosis": 1, "oedema": 2, "enhancing": 3}),
)
"""Codes of gliomas before treatment. From 2017 on, what does not enhance has the label of necrosis."""


def code_of(year: int) -> Code:
    """Return the code of a year.

    Raises:
        UserError: no code is known for that year.
    """
    found = next((code for code in CODES if code.first <= year <= code.last), None)
    if found is None:
        raise UserError(
            f"brats-{year}: label values are known for the years {CODES[0].first} to {CODES[-1].last}; name the "
            "regions, as in whole=1,2,4 core=1,4"
        )
    return found


def named_regions(value: Any) -> Any:
    """Return the regions of a value that is the name of a code alone, such as ``brats-2015``; others as they are.

    Args:
        value: a text, or regions by name, of which a single one without labels is the name of a code.

    Raises:
        UserError: no code is known for that year.
    """
    names = [value] if isinstance(value, str) else list(value) if isinstance(value, Mapping) else []
    match = NAMED.fullmatch(names[0]) if len(names) == 1 else None
    if match is None or (isinstance(value, Mapping) and value[names[0]]):
        return {value: ()} if isinstance(value, str) else value
    code = code_of(int(match[1]))
    return code.classes if match[2] else code.regions


def other_code(regions: Regions, found: Collection[int]) -> Code | None:
    """Return the code that label maps follow, where it is another one than that of the regions.

    Label 3 is the part that does not enhance until 2016, and the enhancing one since 2023. Other codes that do not fit
    have labels that belong to no region.

    Args:
        regions: regions that are learned.
        found: labels of all training cases.
    """
    first, last = CODES[0], CODES[-1]
    ours = {name: set(labels) for name, labels in regions.items()}
    alike = any(ours == {name: set(labels) for name, labels in own.items()} for own in (first.regions, first.classes))
    return last if alike and 3 in found and 4 not in found else None


BRATS_2015, BRATS_2015_CLASSES = code_of(2015).regions, code_of(2015).classes
BRATS_2017, BRATS_2017_CLASSES = code_of(2017).regions, code_of(2017).classes
