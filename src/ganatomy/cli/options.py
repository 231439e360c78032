"""Parse command-line options into dataclasses, and report mistakes in one line."""

import dataclasses
import io
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr
from functools import partial
from typing import Annotated, Any, TypeVar, get_args, get_origin

import tyro
from pydantic import BaseModel, ValidationError
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from ganatomy.catalogue import System, resolve
from ganatomy.cli.info import field_comments, named
from ganatomy.errors import UserError
from ganatomy.game import MethodConfig, RolesConfig, refusal

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)
REFUSED = re.compile(r"validation errors? for \w+ ([\w.]+) (.+?) \[type=\w+, input_value=(.*?), input_type=")
"""Pattern of pydantic's message for a value out of range."""
ASIDE = re.compile("Got errors:|Argument helptext:|For full helptext|For further information")
"""Pattern of where a parser's message turns from the mistake to details that users do not need."""
HELP = "│         "
"""Indentation of an option's help text in a framed message."""
RULER = re.compile("-{10,}")
"""Pattern of a line drawn with hyphens."""
NAME = re.compile(r"[A-Za-z][\w-]*")
"""Pattern of a name without values, in options that take names with several."""
MISSING = re.compile("^Missing from [^:]*:")
WRONG = re.compile(r"^(?:Value error )?Error parsing (--[\w.-]+): ")
GROUPS = ("aids",)
"""Prefixes of options of every system, which are no names of roles."""
REGISTRY = ConstructorRegistry()
"""Rules for types of options that tyro would parse in another way."""


def leading(arguments: Sequence[str], command: str, what: str, usage: str, text: str) -> str | None:
    """Return the first argument of a command, or print its help and return None where help is asked for.

    Args:
        arguments: arguments of the command.
        command: name of the command, for messages.
        what: kind of thing that the first argument names, for messages.
        usage: right form of the command, for messages.
        text: help text.

    Raises:
        UserError: there are no arguments, or the first one is another option.
    """
    if not arguments:
        raise UserError(f"{command} needs a {what}: ganatomy {usage} (see ganatomy {command} --help)")
    if not arguments[0].startswith("-"):
        return arguments[0]
    if arguments[0] not in ("-h", "--help"):
        raise UserError(f"{command} needs a {what} before {arguments[0]}: ganatomy {usage}")
    print(text)
    return None


def peek(arguments: Sequence[str], *names: str) -> dict[str, str]:
    """Return options that decide which others exist, before all are parsed: name to value, of the given ones.

    Args:
        arguments: arguments of the command.
        names: names of options with one value; an empty text stands for a missing value.
    """
    found = {}
    for position, argument in enumerate(arguments):
        name, mark, value = argument.removeprefix("--").partition("=")
        if argument.startswith("--") and name in names:
            found[name] = value if mark else next(iter(arguments[position + 1 : position + 2]), "")
    return found


def named_system(arguments: Sequence[str]) -> System | None:
    """Return the system that ``--system`` names; None where the option is not given.

    Raises:
        UserError: there is no such system, or it cannot be imported.
    """
    name = peek(arguments, "system").get("system")
    return resolve(name) if name else None


def peek_all(arguments: Sequence[str], *names: str) -> dict[str, list[str]]:
    """Return options of several values that decide which others exist: name to values, of the given ones.

    Args:
        arguments: arguments of the command.
        names: names of options; their values reach up to the next option.
    """
    found: dict[str, list[str]] = {}
    current: list[str] | None = None
    for argument in arguments:
        if not argument.startswith("--"):
            if current is not None:
                current.append(argument)
            continue
        name, mark, value = argument.removeprefix("--").partition("=")
        current = found[name] = [value] if mark else []
    return {name: found[name] for name in names if name in found}


def parse(kind: type[T], arguments: Sequence[str], program: str, default: Any = None) -> T:
    """Parse command-line arguments into an instance of ``kind``.

    Args:
        kind: dataclass whose fields are the options.
        arguments: arguments of the command.
        program: command as it is typed, for messages.
        default: instance with the defaults; None means those of the class.

    Raises:
        UserError: an option is unknown, missing or repeated, or a value is invalid.
    """
    check_repeated(arguments)
    said = io.StringIO()
    given = {} if default is None else {"default": default}
    try:
        with redirect_stderr(said):
            parsed: T = tyro.cli(
                kind,
                args=list(arguments),
                prog=program,
                config=(tyro.conf.OmitArgPrefixes,),
                registry=REGISTRY,
                **given,
            )
            return parsed
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise UserError(f"{condense(said.getvalue())} (see {program} --help)") from None


def check_repeated(arguments: Sequence[str]) -> None:
    """Refuse options that are given twice, of which only the last would have an effect.

    Raises:
        UserError: an option is repeated.
    """
    names = [word.partition("=")[0].replace("_", "-") for word in arguments if re.match("--?[a-zA-Z]", word)]
    if repeated := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise UserError(f"{repeated[0]}: given twice; give it once, with all its values")


def condense(box: str) -> str:
    """Return the sentences of a framed error message on one line."""
    said = ASIDE.split(box)[0].splitlines()
    lines = [RULER.sub("", line).strip("│╭╮╰╯─ \t") for line in said if not line.startswith(("╭", HELP))]
    kept = " ".join(filter(None, lines))
    refused = REFUSED.search(kept)
    if refused:
        name, reason, given = refused.groups()
        return f"option --{name.replace('_', '-')}: {reason[0].lower()}{reason[1:]}, got {given}"
    kept = MISSING.sub("missing option", kept)
    kept = WRONG.sub(r"option \1: ", kept)
    return kept.replace("Perhaps you meant:", "- perhaps you meant") or "bad options"


def parsed(words: Sequence[str], read: Callable[[str], Any], several: bool) -> dict[str, Any]:
    """Parse words ``NAME=VALUE`` or ``NAME=VALUE,VALUE`` into a mapping.

    A name alone has no values, where a name may have several; the option itself refuses names that mean nothing to it.

    Args:
        words: words of the command line.
        read: converts a text to a value; raises ValueError where it cannot.
        several: whether a name has any number of values.

    Raises:
        ValueError: a word has no name or a value of another type, or a name is given twice.
    """
    what = f"NAME={read.__name__.upper()}{',...' if several else ''}"
    found: dict[str, Any] = {}
    for word in words:
        name, mark, text = word.partition("=")
        if several and NAME.fullmatch(word) and word not in found:
            found[word] = ()
            continue
        try:
            values = tuple(read(part) for part in text.split(",")) if several else read(text)
        except ValueError:
            raise ValueError(f"{word!r} is not {what}") from None
        if not (name and mark):
            raise ValueError(f"{word!r} is not {what}")
        if name in found:
            raise ValueError(f"{name} is given twice")
        found[name] = values
    return found


@REGISTRY.primitive_rule
def _named_values(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Return how tyro parses mappings from names to numbers or texts, or to several of them, as ``NAME=1,2``."""
    if get_origin(info.type) is not Mapping:
        return None
    key, value = get_args(info.type)
    several = get_origin(value) is tuple and get_args(value)[1:] == (...,)
    read = get_args(value)[0] if several else value
    if key is not str or read not in (int, float, str):
        return None
    return PrimitiveConstructorSpec(
        nargs="*",
        metavar=f"NAME={read.__name__.upper()}{',...' if several else ''}",
        instance_from_str=lambda words: parsed(words, read, several),
        is_instance=lambda instance: isinstance(instance, Mapping),
        str_from_instance=named,
    )


def names_of_roles(kind: type[MethodConfig], arguments: Sequence[str]) -> dict[str, Any]:
    """Return the given options that name roles, since these decide which other options exist.

    Args:
        kind: class of the configuration.
        arguments: arguments of the command.

    Returns:
        Field of the configuration to a name, several names, or None.
    """
    found: dict[str, Any] = {}
    if not issubclass(kind, RolesConfig):
        return found
    for name in kind.role_fields:
        given = peek_all(arguments, name, name.replace("_", "-"))
        values = [value for one in given.values() for value in one]
        if get_origin(kind.model_fields[name].annotation) is tuple:
            found |= {name: tuple(values)} if given else {}
        elif values:
            found[name] = None if values[0] == "None" else values[0]
    return found


def check_prefixes(config: MethodConfig, arguments: Sequence[str]) -> None:
    """Check that options with a prefix ``--ROLE.`` belong to a role of the configuration.

    Raises:
        UserError: no role has this name; the message lists the roles and the options that name them.
    """
    if not isinstance(config, RolesConfig):
        return
    fields = type(config).named(dict(config))
    for argument in arguments:
        prefix, dot, _ = argument.removeprefix("--").partition("=")[0].partition(".")
        if argument.startswith("--") and dot and prefix.replace("-", "_") not in (*fields, *GROUPS):
            there = ", ".join(f"{role} (--{field.replace('_', '-')})" for role, field in fields.items())
            raise UserError(f"{argument.partition('=')[0]}: no role is called {prefix}; the roles are {there}")


def with_roles(config: MethodConfig) -> tuple[type[Any], Any]:
    """Return the class of a configuration's options, and an instance with the defaults.

    Where the user names roles, the class is made for them: the options of each role have its name as a prefix.
    """
    if not isinstance(config, RolesConfig):
        return type(config), config
    groups = {role: _dataclass(role, options, f"{role}.")() for role, options in config.roles.items()}
    values = {name: value for name, value in config if name != "roles"}
    kind = _dataclass(type(config).__qualname__, config, "", {**values, **groups})
    return kind, kind()


def with_groups(config: BaseModel) -> tuple[type[Any], Any]:
    """Return the class of a configuration's options, and an instance with the defaults.

    Options of a configuration within it have its name as a prefix, such as ``--aids.r1``.
    """
    groups = {name: _dataclass(name, one, f"{name}.")() for name, one in config if isinstance(one, BaseModel)}
    kind = _dataclass(type(config).__qualname__, config, "", {**dict(config), **groups})
    return kind, kind()


def ungrouped(kind: type[M], options: Any) -> M:
    """Return the configuration for options that were parsed into a class of `with_groups`.

    Raises:
        UserError: a value is invalid.
    """
    values = {name: vars(value) if dataclasses.is_dataclass(value) else value for name, value in vars(options).items()}
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise refusal(error, typed=True) from None


def _dataclass(name: str, model: BaseModel, prefix: str, values: Mapping[str, Any] | None = None) -> type[Any]:
    """Return a dataclass with the fields of a pydantic model; the comments behind the fields are the help texts.

    Args:
        name: name of the class.
        model: instance that holds the defaults.
        prefix: prefix of the options.
        values: name to default, for fields of the model and groups of options; None means all fields.
    """
    kind, comments = type(model), field_comments(type(model))
    fields: list[Any] = []
    for field, value in (dict(model) if values is None else values).items():
        # Dataclasses within a configuration are set by studies and claims, not by users.
        if dataclasses.is_dataclass(getattr(model, field, None)):
            continue
        info = kind.model_fields.get(field)
        own = tyro.conf.arg(name=f"{prefix}{field}" if prefix else None, help=comments.get(field))
        grouped = info is None or dataclasses.is_dataclass(value)
        annotation: Any = type(value) if grouped else Annotated[info.rebuild_annotation(), own]  # type: ignore[union-attr]
        fields.append((field, annotation, dataclasses.field(default_factory=partial(_same, value))))
    return dataclasses.make_dataclass(name, fields)


def _same(value: T) -> T:
    return value


def settled(kind: type[MethodConfig], options: Any) -> MethodConfig:
    """Return the configuration for options that were parsed into a class of `with_roles`.

    Raises:
        UserError: a value is invalid.
    """
    if isinstance(options, MethodConfig):
        return options
    values = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    roles = {name: vars(values.pop(name)) for name in list(values) if name not in kind.model_fields}
    try:
        return kind.model_validate({**values, "roles": roles})
    except ValidationError as error:
        raise refusal(error, typed=True) from None
