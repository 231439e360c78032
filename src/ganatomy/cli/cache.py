"""``ganatomy cache list|clean``."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ganatomy.cli.options import leading, parse
from ganatomy.data.cache import PreparedCase, prepared_cases, remove_unused
from ganatomy.data.folders import cache_folder
from ganatomy.errors import UserError

HELP = """usage: ganatomy cache list|clean [--days 30] [--cache FOLDER]

`list` says how many prepared cases there are, how large they are, and how many have not been used for --days days.
`clean` removes these; with --days 0, all. A case that is needed again is prepared again."""


@dataclass
class Options:
    """Say how large the prepared cases are, or remove those that have not been used for long."""

    days: float = 30.0
    """Days without use after which a case counts as unused."""
    cache: Path | None = None
    """Folder of prepared cases; none means $GANATOMY_CACHE, else ~/.cache/ganatomy."""


def run(arguments: Sequence[str]) -> int:
    """List or remove prepared cases."""
    action = leading(arguments, "cache", "word list or clean", "cache list|clean", HELP)
    if action is None:
        return 0
    if action not in ("list", "clean"):
        raise UserError(f"cache {action}: say list or clean")
    options = parse(Options, arguments[1:], f"ganatomy cache {action}")
    if not options.days >= 0:
        raise UserError(f"--days {options.days:g}: give 0 or more")
    folder = options.cache or cache_folder()
    if action == "clean":
        print(f"{folder}: {_told(remove_unused(folder, options.days))} removed")
        return 0
    cases = list(prepared_cases(folder))
    unused = [case for case in cases if case.days >= options.days]
    print(f"{folder}: {_told(cases)}; not used for {options.days:g} days: {_told(unused)}")
    return 0


def _told(cases: Sequence[PreparedCase]) -> str:
    return f"{len(cases)} prepared cases, {sum(case.size for case in cases) / 1e9:.3f} GB"
