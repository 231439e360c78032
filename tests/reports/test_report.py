import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from ganatomy.errors import Shortage
from ganatomy.metrics.statistics import Interval
from ganatomy.reports.report import Column, Report

EVIL = '<script>alert("1")</script>&'
PNG = b"\x89PNG\r\n\x1a\n"


class Page(HTMLParser):
    """Parser that collects tags and text and requires tags to be closed in order."""

    void = frozenset({"meta", "img"})

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


def cells(html: str) -> list[str]:
    body = re.search(r"<tbody>(.*?)</tbody>", html, re.DOTALL)
    assert body
    return [re.sub(r"<(?!/?strong)[^>]*>", "", cell) for cell in re.findall(r"<t[dh].*?</t[dh]>", body[1])]


def full_report() -> Report:
    figure = Figure()
    figure.subplots().plot([0, 1])
    return (
        Report(EVIL, EVIL)
        .headline(EVIL, "better")
        .section(EVIL)
        .text(EVIL, EVIL)
        .figure(figure, EVIL)
        .figure(PNG, EVIL, EVIL)
        .table([[EVIL, 1.0]], [EVIL, Column(EVIL, EVIL, "higher", note=EVIL)], caption=EVIL, sortable=True)
        .measured({EVIL: EVIL})
        .caveats([EVIL])
    )


def test_strangers_text_stays_text() -> None:
    page = Page(full_report().html())
    assert page.count("script") == 1
    assert "".join(page.words).count(EVIL) == 18
    assert next(attributes["alt"] for tag, attributes in page.tags if tag == "img") == EVIL


def test_the_page_needs_nothing_from_elsewhere() -> None:
    html = full_report().html()
    page = Page(html)
    sources = [a[key] for _, a in page.tags for key in ("src", "href") if key in a]
    assert len(sources) == 2 and all(source and source.startswith("data:image/") for source in sources)
    assert "default-src 'none'" in html and "sha256-" in html
    assert "@import" not in html and "url(" not in html


def test_plots_are_vectors_and_images_are_pixels() -> None:
    picture = Figure()
    picture.subplots().imshow(np.zeros((4, 4)))
    plot = Figure()
    plot.subplots().plot([0, 1])
    html = Report("r").figure(picture, "a").figure(plot, "b").html()
    assert re.findall(r'src="data:image/(\S+?);', html) == ["png", "svg+xml"]


def test_tables_mark_the_best_and_show_intervals() -> None:
    rows = [
        ["input", Interval(23.17, 22.6, 23.64, 6), 1.3, None],
        ["output", Interval(27.97, 27.0, 28.9, 6), 0.1, 3],
        ["none", math.nan, math.inf, 4],
    ]
    columns = [
        "",
        Column("psnr", "dB", "higher", digits=1),
        Column("error", better="lower", digits=2),
        Column("n"),
    ]
    html = Report("r").table(rows, columns).html()
    assert cells(html) == [
        *("input", "23.2 22.6 to 23.6", "1.30", "–"),
        *("output", "<strong>28.0</strong> 27.0 to 28.9", "<strong>0.10</strong>", "3"),
        *("none", "–", "∞", "4"),
    ]
    assert "higher is better" in html and "↑" in html and "↓" in html


def test_decimals_suit_the_numbers() -> None:
    rows = [["a", 0.0123, 1234.5, Interval(0.5, 0.49, 0.51, 9)], ["b", 0.0345, -12.0, None]]
    html = Report("r").table(rows, ["", "x", "y", "z"]).html()
    assert cells(html)[1:4] == ["0.012", "1234", "0.500 0.490 to 0.510"]
    assert cells(html)[6] == "−12"


def test_errors_of_rounding_lend_a_column_no_decimals() -> None:
    rows = [["a", Interval(0.59, 0.49, 0.68, 9)], ["constant", Interval(1e-17, 0.0, 3e-17, 9)]]
    html = Report("r").table(rows, ["", "bits"]).html()
    assert cells(html)[1] == "0.59 0.49 to 0.68" and cells(html)[3] == "0.00 0.00 to 0.00"


def test_numbers_of_every_kind_are_shown() -> None:
    html = Report("r").table([["a", np.float32(0.5), np.int64(7)]], ["", "x", "n"]).html()
    assert cells(html) == ["a", "0.50", "7"]


def test_equal_footnotes_share_a_letter_and_caveats_become_footnotes() -> None:
    lonely = Interval(1, 0.5, 1.5, 9, "slice")
    rows = [["a", lonely, lonely], ["b", lonely, 2.0]]
    html = Report("r").table(rows, ["", Column("x", note="clipped"), Column("y", note="clipped")]).html()
    notes = re.search(r'<div class="notes">(.*?)</div>', html)
    assert notes and len(re.findall("<p>", notes[1])) == 2
    assert "interval over slices, not over patients" in notes[1]
    assert html.count("<sup>a</sup>") == 3 and html.count("<sup>b</sup>") == 4


def test_ragged_tables_are_refused() -> None:
    with pytest.raises(ValueError, match="2 cells"):
        Report("r").table([["a"]], ["", "x"])


def test_saving_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Report("first").save(tmp_path / "runs" / "report.html")
    assert "first" in path.read_text(encoding="utf-8")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(Shortage, match=r"report\.html: the disk is full; free some space"):
        Report("second").save(path)
    assert "first" in path.read_text(encoding="utf-8")
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_undecodable_header_text_does_not_stop_the_report(tmp_path: Path) -> None:
    path = Report("M\udcfcller").save(tmp_path / "r.html")
    assert "M\\udcfcller" in path.read_text(encoding="utf-8")
