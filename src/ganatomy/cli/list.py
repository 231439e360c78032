"""``ganatomy list [PATTERN]``."""

from collections.abc import Sequence
from itertools import groupby

from ganatomy import catalogue
from ganatomy.errors import UserError


def run(arguments: Sequence[str]) -> int:
    """Print the systems by section, each with its state."""
    if any(argument in ("-h", "--help") for argument in arguments):
        print(
            "usage: ganatomy list [PATTERN]\n\n"
            "Lists the systems by section of the survey, and whether each can be used (ready) or not yet (planned).\n"
            "PATTERN chooses systems by a part of their name, section or modality: denois; or with wildcards: 'seg*'."
        )
        return 0
    if len(arguments) > 1:
        raise UserError(f"list takes one pattern, not {len(arguments)}; quote wildcards")
    entries = {} if arguments else catalogue.registered(catalogue.METHODS)
    systems = catalogue.match(arguments[0]) if arguments else list(catalogue.SYSTEMS)
    if not systems:
        raise UserError(f"no system matches {arguments[0]!r}; `ganatomy list` shows all")
    for section, members in groupby(systems, key=lambda system: system.section):
        print(f"\n{section}")
        for system in members:
            mark = "ready  " if system.state == "ready" else "planned"
            print(f"  {system.slug:<22} {mark}  {system.dims:<5}  {system.what} ({system.authors})")
    if entries:
        print("\nregistered by installed packages")
    for name, entry in entries.items():
        print(f"  {name:<22} {entry.value}")
    return 0
