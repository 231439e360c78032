"""Plain values that are recorded in tests/fixtures, and whether others are equal to them but for rounding."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent / "fixtures"
TOLERANCE = 2e-3
"""Of numbers, relative to themselves, and of arrays relative to their greatest value."""
POINTS = 1000
"""Points of a curve from which on their number may differ by as much, since scores that are equal share a point."""
SENTENCE = 4
"""Spaces of a text from which on its words may be chosen anew."""
NUMBER = re.compile(r"(?<![\w.])[-−+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?")


def numbers(values: Any) -> Any:
    """Return shape and a few numbers of an array; single values as they are."""
    array = np.asarray(values)
    if array.dtype.kind not in "fiub" or array.size < 2:
        return array.tolist()
    flat = np.nan_to_num(array.astype(np.float64).ravel(), posinf=1e30, neginf=-1e30)
    waves = np.cos(0.7 * np.arange(flat.size) + 0.3)
    return {
        "shape": list(array.shape),
        "all": [flat.mean(), flat.std(), flat.min(), flat.max(), flat[0], flat[-1]],
        "wave": float((flat * waves).mean()),
    }


def plain(value: Any) -> Any:
    """Return values as JSON has them, numbers with six digits."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, np.ndarray | list | tuple | set | range):
        return [plain(one) for one in value]
    if isinstance(value, bool | np.bool_ | str | int) or value is None:
        return bool(value) if isinstance(value, np.bool_) else value
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(f"{value:.6g}") if math.isfinite(value) else str(value)
    return str(value)


def differences(file: Path, found: Any) -> list[str]:
    """Return a line for everything that differs from what a file records, at most ten."""
    return list(apart(json.loads(file.read_text(encoding="utf-8")), plain(found), ""))[:10]


def write(file: Path, found: Any) -> None:
    """Record plain values."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(plain(found), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def apart(was: Any, now: Any, where: str) -> Iterator[str]:
    """Yield where two plain values differ by more than rounding."""
    if isinstance(was, dict) and isinstance(now, dict) and {"shape", "all"} <= was.keys() & now.keys():
        scale = max(abs(number) for number in was["all"])
        pairs = zip([*was["all"], was["wave"]], [*now["all"], now["wave"]], strict=True)
        if not alike_in_shape(was["shape"], now["shape"]) or any(abs(a - b) > TOLERANCE * scale / 2 for a, b in pairs):
            yield f"{where}: {now}, was {was}"
    elif isinstance(was, dict) and isinstance(now, dict):
        if list(was) != list(now):
            yield f"{where}: has {list(now)}, had {list(was)}"
        for name in was.keys() & now.keys():
            yield from apart(was[name], now[name], f"{where}/{name}")
    elif isinstance(was, list) and isinstance(now, list):
        if len(was) != len(now):
            yield f"{where}: {len(now)} there, were {len(was)}"
        for place, (a, b) in enumerate(zip(was, now, strict=False)):
            yield from apart(a, b, f"{where}/{place}")
    elif not same(was, now):
        yield f"{where}: {now}, was {was}"


def alike_in_shape(was: list[int], now: list[int]) -> bool:
    """Whether two arrays have one shape, or are long curves of almost as many points."""
    long = len(was) == len(now) == 1 and was[0] > POINTS
    return was == now or (long and math.isclose(was[0], now[0], rel_tol=TOLERANCE))


def same(was: Any, now: Any) -> bool:
    """Whether two words or numbers are equal but for rounding; of sentences only the numbers are compared."""
    if isinstance(was, str) and isinstance(now, str):
        first, second = NUMBER.findall(was), NUMBER.findall(now)
        if len(first) != len(second) or not all(alike(a, b) for a, b in zip(first, second, strict=True)):
            return False
        return min(was.count(" "), now.count(" ")) >= SENTENCE or NUMBER.sub("#", was) == NUMBER.sub("#", now)
    numbers = (int, float)
    if isinstance(was, numbers) and isinstance(now, numbers) and float in (type(was), type(now)):
        return math.isclose(was, now, rel_tol=TOLERANCE, abs_tol=1e-6)
    return type(was) is type(now) and was == now


def alike(was: str, now: str) -> bool:
    """Whether two numbers in a sentence are equal, those with decimals up to the last one."""
    if "." not in was or "." not in now:
        return was == now
    first, second = (float(one.replace("−", "-")) for one in (was, now))
    step = 10.0 ** -len(was.partition(".")[2])
    return abs(first - second) <= max(1.01 * step, TOLERANCE * abs(first))
