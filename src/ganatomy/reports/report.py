"""HTML reports: self-contained pages of text, tables and figures in one file.

All text is escaped, since it may come from file names and headers of untrusted files, and a content security policy
forbids the page to load anything.
"""

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from html import escape
from numbers import Integral, Real
from pathlib import Path
from typing import Literal, Self

from matplotlib.figure import Figure

from ganatomy.images.atomic import write_text
from ganatomy.metrics.statistics import Interval, significant_digits
from ganatomy.reports.style import to_png, to_svg
from ganatomy.reports.viewer import SCRIPT as VIEWER
from ganatomy.reports.viewer import Illustration, embedded

Outcome = Literal["better", "worse", "undecided"]
Cell = str | float | Interval | None

EXACT = 1e-6
"""Width of an interval, as share of the largest number beside it, up to which it is an error of rounding."""
LONGEST_WORD = 28
"""Number of letters of a word in a table beyond which its middle is left out; the whole word is its tooltip."""


@dataclass(frozen=True)
class Column:
    """Column of a table.

    Args:
        name: heading; for a metric its label with the variant.
        unit: unit, printed beside the heading.
        better: ``higher`` or ``lower``; the best cell is then bold.
        digits: decimals; unless given, enough to distinguish the cells.
        note: footnote below the table.
    """

    name: str
    unit: str = ""
    better: Literal["higher", "lower"] | None = None
    digits: int | None = None
    note: str = ""


class Report:
    """HTML page that is built from top to bottom, in the order of the calls.

    The recommended order is headline, figures, tables, measurement conditions and caveats. Every method returns the
    report, so calls can be chained.
    """

    def __init__(self, title: str, subtitle: str = "", made: date | None = None):
        self.title, self.subtitle, self.made = title, subtitle, made or date.today()
        self._parts: list[str] = []
        self._stacks = False

    def headline(self, text: str, outcome: Outcome | None = None) -> Self:
        """Add the verdict in a sentence or two; the outcome determines the colour of its border."""
        return self._add(f'<p class="headline {outcome or ""}">{escape(text)}</p>')

    def section(self, title: str) -> Self:
        """Add the heading of a section."""
        return self._add(f"<h2>{escape(title)}</h2>")

    def text(self, *paragraphs: str) -> Self:
        """Add plain paragraphs."""
        return self._add(*(f"<p>{escape(paragraph)}</p>" for paragraph in paragraphs))

    def figure(self, figure: Figure | bytes | Illustration, caption: str, alt: str = "") -> Self:
        """Add a figure with its caption.

        Args:
            figure: matplotlib figure, the bytes of a PNG or SVG, or an illustration with a stack of slices. Figures
                without images are drawn as vectors.
            caption: caption that is understandable without knowing this kind of figure.
            alt: alternative text; the caption unless given.
        """
        stack, kind = "", ""
        if isinstance(figure, Illustration):
            if figure.stack is not None:
                stack, kind = f'<script type="application/json">{embedded(figure.stack())}</script>', ' class="stack"'
                self._stacks = True
            figure = figure.figure
        source = _data_uri(figure if isinstance(figure, bytes) else _drawn(figure))
        return self._add(
            f'<figure{kind}><img src="{source}" alt="{escape(alt or caption)}">{stack}'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
        )

    def table(
        self,
        rows: Sequence[Sequence[Cell]],
        columns: Sequence[Column | str],
        *,
        caption: str = "",
        sortable: bool = False,
    ) -> Self:
        """Add a table whose first column names the rows.

        Args:
            rows: a cell per column: text, a number, an interval, or None for an empty cell.
            columns: headings of the columns.
            caption: caption above the table.
            sortable: whether a click on a heading sorts the table by its column.

        Raises:
            ValueError: The number of cells of a row is not that of the columns.
        """
        if any(len(row) != len(columns) for row in rows):
            raise ValueError(f"every row of the table needs {len(columns)} cells")
        headings = [Column(column) if isinstance(column, str) else column for column in columns]
        return self._add(_table(rows, headings, caption, sortable))

    def measured(self, facts: Mapping[str, str], title: str = "How this was measured") -> Self:
        """Add a section of facts, such as window, mask, data range, feature network, seeds and number of subjects."""
        items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items())
        return self.section(title)._add(f"<dl>{items}</dl>")

    def caveats(self, points: Sequence[str], title: str = "Read with care") -> Self:
        """Add a box of limitations."""
        items = "".join(f"<li>{escape(point)}</li>" for point in points)
        return self._add(f'<aside class="caveats"><h2>{escape(title)}</h2><ul>{items}</ul></aside>')

    def html(self) -> str:
        """Return the whole page as HTML."""
        scripts = [SCRIPT, VIEWER] if self._stacks else [SCRIPT]
        allowed = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
        policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src {allowed}"
        last = "".join(f"<script>{script}</script>\n" for script in scripts)
        body = "\n".join(self._parts)
        return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(self.title)}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
<header><h1>{escape(self.title)}</h1><p class="subtitle">{escape(self.subtitle)}</p></header>
{body}
<footer>Made with Ganatomy on {self.made.isoformat()}. For research; not for diagnosis.</footer>
</main>
{last}</body>
</html>
"""

    def save(self, path: Path | str) -> Path:
        """Write the page atomically.

        Raises:
            UserError: The file cannot be written.
            Shortage: The disk is full.
        """
        path = Path(path)
        write_text(path, self.html())
        return path

    def _add(self, *parts: str) -> Self:
        self._parts.extend(parts)
        return self


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _drawn(figure: Figure) -> bytes:
    return to_png(figure) if any(axes.images for axes in figure.axes) else to_svg(figure)


def _data_uri(image: bytes) -> str:
    kind = "png" if image.startswith(b"\x89PNG") else "svg+xml"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


def _table(rows: Sequence[Sequence[Cell]], columns: Sequence[Column], caption: str, sortable: bool) -> str:
    notes = _Notes()
    head = "".join(_heading(column, notes) for column in columns)
    names = [f'<th scope="row">{_words(str(row[0]))}</th>' for row in rows]
    cells = [_column(column, [row[i] for row in rows], notes) for i, column in enumerate(columns[1:], start=1)]
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in zip(names, *cells, strict=True))
    titled = f"<caption>{escape(caption)}</caption>" if caption else ""
    kind = ' class="sortable"' if sortable else ""
    table = f"<table{kind}>{titled}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll">{table}</div>{notes.html()}'


class _Notes:
    """Footnotes of one table, in which equal notes share a letter."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def mark(self, note: str) -> str:
        if not note:
            return ""
        if note not in self.texts:
            self.texts.append(note)
        return f"<sup>{self._letter(self.texts.index(note))}</sup>"

    def html(self) -> str:
        items = (f"<p><sup>{self._letter(i)}</sup> {escape(text)}</p>" for i, text in enumerate(self.texts))
        return f'<div class="notes">{"".join(items)}</div>' if self.texts else ""

    @staticmethod
    def _letter(index: int) -> str:
        return chr(ord("a") + index) if index < 26 else str(index + 1)


def _heading(column: Column, notes: _Notes) -> str:
    arrow = {"higher": "↑", "lower": "↓", None: ""}[column.better]
    hint = f' title="{column.better} is better"' if column.better else ""
    unit = f' <span class="unit">{escape(column.unit)}</span>' if column.unit else ""
    return f'<th scope="col"{hint}>{escape(column.name)}{unit} {arrow}{notes.mark(column.note)}</th>'


def _column(column: Column, cells: Sequence[Cell], notes: _Notes) -> list[str]:
    numbers = [_number(cell) for cell in cells]
    finite = [number for number in numbers if math.isfinite(number)]
    best = (max if column.better == "higher" else min)(finite) if column.better and len(finite) > 1 else None
    digits = column.digits if column.digits is not None else _digits(cells, finite)
    return [_cell(cell, number, digits, number == best, notes) for cell, number in zip(cells, numbers, strict=True)]


def _cell(cell: Cell, number: float, digits: int, best: bool, notes: _Notes) -> str:
    if cell is None:
        return '<td class="nothing">–</td>'
    if isinstance(cell, str):
        return f'<td class="words">{_words(cell)}</td>'
    shown = _fixed(number, digits)
    shown = f"<strong>{shown}</strong>" if best else shown
    if isinstance(cell, Interval):
        shown += notes.mark(cell.caveat)
        if math.isfinite(cell.low):
            limits = f"{_fixed(cell.low, digits)} to {_fixed(cell.high, digits)}"
            shown += f' <span class="interval">{limits}</span>'
    value = "" if math.isnan(number) else f' data-value="{str(number).replace("inf", "Infinity")}"'
    return f"<td{value}>{shown}</td>"


def _words(text: str) -> str:
    """Escape a text, and shorten long words in it, such as digests and paths, to their beginning and end."""
    half = LONGEST_WORD // 2 - 1
    short = " ".join(f"{word[:half]}…{word[-half:]}" if len(word) > LONGEST_WORD else word for word in text.split(" "))
    return escape(text) if short == text else f'<span title="{escape(text)}">{escape(short)}</span>'


def _number(cell: Cell) -> float:
    if isinstance(cell, Interval):
        return cell.mean
    return float(cell) if isinstance(cell, Real) else math.nan


def _digits(cells: Sequence[Cell], finite: Sequence[float]) -> int:
    """Return the number of decimals by the narrowest interval, or else by the range of the numbers."""
    if all(isinstance(cell, Integral) for cell in cells if cell is not None):
        return 0
    error = EXACT * max(map(abs, finite), default=0)
    widths = [cell.high - cell.low for cell in cells if isinstance(cell, Interval) and cell.high - cell.low > error]
    return significant_digits(min(widths) if widths else max(finite) - min(finite) if finite else 0)


def _fixed(number: float, digits: int) -> str:
    if not math.isfinite(number):
        return {math.inf: "∞", -math.inf: "−∞"}.get(number, "–")
    return f"{number:.{digits}f}".replace("-", "−")


SCRIPT = """
for (const table of document.querySelectorAll("table.sortable"))
  table.querySelectorAll("thead th").forEach((heading, column) => {
    let rising = false;
    heading.addEventListener("click", () => {
      rising = !rising;
      const value = row => {
        const cell = row.cells[column];
        return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value);
      };
      const order = (a, b) => typeof a !== typeof b ? (typeof a === "number" ? -1 : 1)
        : typeof a === "number" ? (a > b) - (a < b)
        : a.localeCompare(b, undefined, {numeric: true});
      [...table.tBodies[0].rows]
        .sort((a, b) => order(value(a), value(b)) * (rising ? 1 : -1))
        .forEach(row => table.tBodies[0].append(row));
    });
  });
"""

STYLE = """
:root {
  --paper: #fff; --ink: #22262b; --soft: #626a73; --line: #e2e5e9; --card: #f6f7f9;
  --better: #2e8b6f; --worse: #c0504d; --undecided: #b8860b;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #15181c; --ink: #e4e7eb; --soft: #9aa3ad; --line: #2d333a; --card: #1e2329;
    --better: #55c2a0; --worse: #e58683; --undecided: #e0b44c;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--paper); color: var(--ink); overflow-wrap: break-word;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
main { max-width: 76rem; margin: 0 auto; padding: 2.5rem 1.5rem 3rem; }
h1 { font-size: 1.9rem; line-height: 1.2; letter-spacing: -.01em; margin: 0; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .6rem; }
p, dl, ul { max-width: 46rem; }
.subtitle { color: var(--soft); margin: .4rem 0 0; }
.headline {
  font-size: 1.2rem; line-height: 1.5; margin: 1.6rem 0 1.8rem; padding: .3rem 0 .3rem 1.1rem;
  border-left: 4px solid var(--soft);
}
.headline.better { border-color: var(--better); }
.headline.worse { border-color: var(--worse); }
.headline.undecided { border-color: var(--undecided); }
figure { margin: 1.4rem 0 1.8rem; }
figure img {
  display: block; max-width: 100%; height: auto; background: #fff; padding: .6rem;
  border: 1px solid var(--line); border-radius: 8px;
}
figcaption { color: var(--soft); font-size: .92rem; max-width: 46rem; margin-top: .55rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .8rem 0 .4rem; }
caption { text-align: left; color: var(--soft); font-size: .92rem; padding-bottom: .4rem; }
th, td { padding: .45rem 1.1rem .45rem 0; text-align: right; vertical-align: baseline; white-space: nowrap; }
tr > :first-child { text-align: left; }
tbody th { font-weight: 400; position: sticky; left: 0; background: var(--paper); min-width: 8rem; max-width: 24rem; }
tbody th, td.words { white-space: normal; overflow-wrap: break-word; }
td.words { max-width: 22rem; }
thead th { font-size: .9rem; border-bottom: 2px solid var(--line); vertical-align: bottom; }
tbody tr { border-bottom: 1px solid var(--line); }
.sortable thead th { cursor: pointer; }
.sortable thead th:hover { color: var(--soft); }
.unit, .interval, .nothing { color: var(--soft); font-weight: 400; }
.interval { font-size: .85em; margin-left: .35em; }
sup { line-height: 0; font-size: .72em; font-weight: 400; padding-left: .1em; }
.notes { color: var(--soft); font-size: .85rem; }
.notes p { margin: .15rem 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .35rem 1.4rem; margin: 0; }
dt { color: var(--soft); }
dd { margin: 0; min-width: 0; overflow-wrap: anywhere; }
.viewer { display: none; outline-offset: 4px; }
.live > .viewer { display: block; }
.live > img { display: none; }
.live.still > img { display: block; margin-top: .8rem; }
.panels { display: grid; grid-template-columns: repeat(var(--across), minmax(0, 1fr)); gap: .9rem .7rem; }
.panels { touch-action: pan-y; user-select: none; }
.panel { min-width: 0; }
.single .panels { display: block; }
.name { display: flex; justify-content: space-between; gap: .5rem; font-size: .88rem; }
.name b { white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.value { color: var(--soft); font-variant-numeric: tabular-nums; white-space: nowrap; }
.field { position: relative; background: #000; cursor: crosshair; overflow: hidden; }
.field canvas { display: block; width: 100%; height: 100%; }
.single .field canvas { image-rendering: pixelated; }
.side, .bar {
  position: absolute; color: #fff; font-size: .75rem; line-height: 1; text-shadow: 0 0 3px #000, 0 0 3px #000;
}
.side.left { left: .25rem; top: 50%; }
.side.right { right: .25rem; top: 50%; }
.side.top { top: .25rem; left: 50%; }
.side.bottom { bottom: .25rem; left: 50%; }
.bar { left: .4rem; bottom: .4rem; border-bottom: 2px solid #fff; padding-bottom: .15rem; white-space: nowrap; }
.scale { font-size: .75rem; color: var(--soft); padding-top: .3rem; max-width: 24rem; }
.colours { height: .5rem; }
.ends { display: flex; justify-content: space-between; font-variant-numeric: tabular-nums; }
.panel .note { color: var(--soft); font-size: .82rem; }
.mark { display: inline-block; width: .6em; height: .6em; border-radius: 2px; }
.controls { display: flex; flex-wrap: wrap; align-items: center; gap: .5rem; font-size: .88rem; margin-top: .3rem; }
.slider { flex: 0 1 16rem; accent-color: var(--better); }
.told { min-width: 21rem; font-variant-numeric: tabular-nums; }
.told:empty { display: none; }
.controls button {
  font: inherit; color: inherit; background: var(--card); border: 1px solid var(--line); border-radius: 6px;
  padding: .15rem .6rem; cursor: pointer;
}
.controls button[aria-pressed="false"] { opacity: .55; }
.hint { color: var(--soft); font-size: .82rem; margin: .4rem 0 0; max-width: none; }
.caveats {
  background: var(--card); border: 1px solid var(--line); border-radius: 8px;
  padding: 1.1rem 1.4rem; margin: 2.6rem 0 0; max-width: 50rem;
}
.caveats h2 { font-size: 1rem; margin: 0 0 .4rem; }
.caveats ul { margin: 0; padding-left: 1.2rem; }
footer { color: var(--soft); font-size: .85rem; margin-top: 3rem; }
@media (max-width: 40rem) {
  .panels { grid-template-columns: 1fr 1fr; }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: .6rem; }
}
@media print {
  :root { --paper: #fff; --ink: #000; --soft: #444; --line: #ccc; --card: #fff; }
  body { font-size: 11px; }
  main { max-width: none; padding: 0; }
  .live > .viewer { display: none; }
  .live > img { display: block; }
  figure, table, .caveats { break-inside: avoid; }
  h2 { break-after: avoid; }
}
"""
