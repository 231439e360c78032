"""Damage to the files of a run folder: seeded changes of bytes, of fields and of whole files."""

import copy
import json
import random
import shutil

import torch
import yaml
from safetensors.torch import load_file, save_file

VALUES = (None, "x", "", -1, 0.5, 10**30, float("nan"), True, [], [1], {}, {"a": {"b": 1}}, "../../../etc", "[/b]")
"""Values that are put in place of the fields of a file."""


def leaves(plain, path=()):
    """Iterate over the paths of all values in nested mappings and lists, containers included."""
    yield path
    items = plain.items() if isinstance(plain, dict) else enumerate(plain) if isinstance(plain, list | tuple) else ()
    for key, value in items:
        yield from leaves(value, (*path, key))


def replaced(plain, path, value, remove=False):
    """Return a copy of nested mappings and lists in which the value at a path is replaced or removed."""
    if not path:
        return value
    plain = copy.copy(list(plain) if isinstance(plain, tuple) else plain)
    if remove and len(path) == 1:
        del plain[path[0]]
    else:
        plain[path[0]] = replaced(plain[path[0]], path[1:], value, remove)
    return plain


def fields(plain, dice, count):
    """Iterate over copies with a changed, a removed or a strange field, with descriptions."""
    paths = [path for path in leaves(plain) if path]
    for path in dice.sample(paths, min(count, len(paths))):
        if dice.random() < 0.2:
            yield f"without {path}", replaced(plain, path, None, remove=True)
        else:
            value = dice.choice(VALUES)
            yield f"{path} = {value!r}", replaced(plain, path, value)
    yield "with a strange field", {**plain, "strange": 1}


def of_bytes(content, dice):
    """Iterate over damaged contents of a file, with descriptions."""
    yield "empty", b""
    yield "cut", content[: dice.randrange(len(content) or 1)]
    yield "longer", content + dice.randbytes(20)
    yield "noise", dice.randbytes(200)
    for _ in range(3):
        place = dice.randrange(len(content) or 1)
        yield (
            f"byte {place} flipped",
            content[:place] + bytes([content[place] ^ (1 << dice.randrange(8))]) + content[place + 1 :],
        )


def of_file(path, dice, other, count):
    """Iterate over functions that damage a file of a run, with descriptions.

    Args:
        path: file in a run folder.
        dice: source of chance.
        other: run folder of another system.
        count: number of fields to change.
    """
    content = path.read_bytes()
    for told, changed in of_bytes(content, dice):
        yield told, lambda path, changed=changed: path.write_bytes(changed)
    yield "deleted", lambda path: path.unlink()
    yield "a folder", lambda path: (path.unlink(), path.mkdir())
    yield "a dangling link", lambda path: (path.unlink(), path.symlink_to("nowhere"))
    if (theirs := other / path.name).is_file():
        yield "of another system", lambda path: shutil.copy(theirs, path)
    if path.suffix == ".yaml":
        for told, plain in fields(yaml.safe_load(content), dice, count):
            yield told, lambda path, plain=plain: path.write_text(yaml.safe_dump(plain, sort_keys=False))
    if path.suffix == ".json":
        for told, plain in fields(json.loads(content), dice, count):
            yield told, lambda path, plain=plain: path.write_text(json.dumps(plain))
    if path.suffix == ".ckpt":
        for told, plain in fields(torch.load(path, weights_only=True), dice, count):
            yield told, lambda path, plain=plain: torch.save(plain, path)
    if path.suffix == ".safetensors":
        tensors = load_file(path)
        first = next(name for name, value in tensors.items() if value.ndim)
        yield "without metadata", lambda path: save_file(tensors, path)
        yield "strange round", lambda path: save_file(tensors, path, {"round": "1e9"})
        for value in (tensors[first].double(), tensors[first] * float("nan"), tensors[first][:0], torch.zeros(())):
            told = f"{value.dtype} {tuple(value.shape)}"
            yield told, lambda path, value=value: save_file({**tensors, first: value}, path, {"round": "2"})
    if path.suffix == ".csv":
        lines = content.decode().splitlines()
        place = dice.randrange(len(lines))
        for line in ("", "x", "1,2,3", "²,1,a,b/c,1", "-1,0,a,b/c,nan", '"', "\0"):
            text = "\n".join([*lines[:place], line, *lines[place + 1 :]])
            yield f"line {place} = {line!r}", lambda path, text=text: path.write_text(text)


def damages(run, other, seed, count):
    """Return all damages of a run: (name of the file, description, function of the file's path).

    Args:
        run: run folder.
        other: run folder of another system.
        seed: seed of all choices.
        count: number of changed fields per file.
    """
    dice = random.Random(seed)
    files = [path for path in sorted(run.rglob("*")) if path.is_file() and not path.name.startswith("events.")]
    return [
        (path.relative_to(run), told, change) for path in files for told, change in of_file(path, dice, other, count)
    ]
