"""``ganatomy info SYSTEM``."""

import inspect
from collections.abc import Sequence

from ganatomy import catalogue
from ganatomy.errors import UserError


def run(arguments: Sequence[str]) -> int:
    """Print what a system is, and the numbers of its presets."""
    if len(arguments) != 1 or arguments[0] in ("-h", "--help"):
        print("usage: ganatomy info SYSTEM\n\n`ganatomy list` shows the systems.")
        if not arguments or arguments[0].startswith("-"):
            return 0
        raise UserError(f"info takes one system, not {len(arguments)}")
    system = catalogue.find(arguments[0])
    print(f"{system.title} ({system.slug}): {system.what}")
    print(f"{system.authors}; survey {system.section}" + (f" [{system.reference}]" if system.reference else ""))
    print(f"{system.modality}, {system.dims}, {system.state}" + (f", {system.url}" if system.url else ""))
    if system.state != "ready":
        return 0
    cls = catalogue.load(system.slug)
    print(f"\n{inspect.getdoc(cls)}\n\n{inspect.getdoc(cls.Config)}\n")
    comments = field_comments(cls.Config)
    for name, value in cls.Config():
        print(f"  {name:<26} {str(value) if not hasattr(value, 'model_dump') else '...':<24} {comments.get(name, '')}")
    for preset, values in cls.Config.presets.items():
        print(f"\npreset {preset}: " + (", ".join(f"{k}={v}" for k, v in values.items()) or "the numbers above"))
    print("baseline: " + ", ".join(f"{k}={v}" for k, v in cls.Config.baseline.items()))
    return 0


def field_comments(config: type) -> dict[str, str]:
    """The comment behind each field in the source of a configuration."""
    found = {}
    for line in inspect.getsource(config).splitlines():
        field, mark, comment = line.partition("  # ")
        name = field.split(":")[0].strip()
        if mark and name.isidentifier():
            found[name] = comment.strip()
    return found
