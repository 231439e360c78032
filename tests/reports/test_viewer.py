"""Stacks of slices in reports, as they are written and as a browser shows them."""

import base64
import io
import json
import re
import shutil
import subprocess
import sys
import zlib
from dataclasses import replace
from itertools import permutations, product
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from nibabel.orientations import aff2axcodes
from PIL import Image as Pillow

sys.path.insert(0, str(Path(__file__).parents[1]))
from browser import CHROMIUM, DRIVER, browsing, driver
from ganatomy.reports import viewer
from ganatomy.reports.report import Report
from ganatomy.reports.viewer import (
    Illustration,
    Layer,
    Panel,
    Regions,
    Stack,
    averaged,
    encoded,
    kept_slices,
    packed,
    sides,
)

SLICES, ROWS, COLUMNS = 5, 24, 40
SPACING = (1.5, 0.75)
LPS = np.array([[0, 0, -0.75, 9], [0, -1.5, 0, 7], [3, 0, 0, 5], [0, 0, 0, 1]], float)
in_browser = pytest.mark.skipif(not (DRIVER and CHROMIUM), reason="Chromium and chromedriver are not installed")


def volumes():
    rng = np.random.default_rng(1)
    target = np.full((SLICES, ROWS, COLUMNS), -1000.0, np.float32)
    for number in range(SLICES):
        target[number, 4:20, 6:34] = 40 + 20 * number
    target[2, 10, 12] = 700.5
    return {
        "input": target + rng.normal(0, 30, target.shape).astype(np.float32),
        "output": target + 5,
        "target": target,
    }


def stack(**changes):
    shown, lesion = volumes(), np.zeros((SLICES, ROWS, COLUMNS), bool)
    lesion[:, 8:14, 9:20] = True
    layers = {name: Layer(list(one)) for name, one in shown.items()}
    layers["map"] = Layer([np.abs(one) for one in shown["input"] - shown["target"]], "map")
    panels = [
        Panel("input", "input", note="PSNR 30.1 dB"),
        Panel("output", "output", map="map", regions=Regions({"lesion": list(lesion)}, {"lesion": "#35c4b5"})),
        Panel("target", "target"),
        Panel("output − target", "output", "target"),
        Panel("map", "map"),
    ]
    whole = Stack(layers, panels, range(SLICES), SLICES, 2, (-160, 240), "HU", SPACING, True, LPS)
    return replace(whole, **changes)


def colours():
    pixels = np.zeros((1, ROWS, COLUMNS, 3), np.float32)
    pixels[..., :20, 0], pixels[..., 20:, 2] = 1, 0.5
    return Stack({"output": Layer(list(pixels), "colour")}, [Panel("output", "output")], [0], 1, 0, (0, 255))


def page(*stacks):
    report = Report("A </script> title").headline("Fine.", "better")
    for one in stacks:
        figure = Figure((3, 2))
        figure.subplots().imshow(np.eye(4))
        report.figure(Illustration(figure, lambda one=one: one), "A caption.")
    wide = [f"a column {number} of words" for number in range(30)]
    digest = "3f9ac1" * 12
    return report.table([[digest, *range(30)]], ["case", *wide], caption="Wide.")


def unpacked(text, rows, columns):
    """Reverse `packed` by its definition, pixel by pixel."""
    planes = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).reshape(-1, rows, columns).astype(int)
    folded = sum(plane * 256**number for number, plane in enumerate(planes))
    values = np.zeros((rows + 1, columns + 1), int)
    for row in range(rows):
        for column in range(columns):
            above, left, corner = values[row, column + 1], values[row + 1, column], values[row, column]
            guess = sorted((above, left, above + left - corner))[1]
            error = folded[row, column]
            values[row + 1, column + 1] = guess + (-(error + 1) // 2 if error % 2 else error // 2)
    return values[1:, 1:]


@pytest.mark.parametrize("most", [0, 1, 255, 256, 65535])
def test_values_survive_packing(most):
    values = np.random.default_rng(0).integers(0, most + 1, (7, 11))
    assert np.array_equal(unpacked(packed(values), 7, 11), values)


def test_values_are_kept_in_the_stated_steps_also_outside_the_window():
    plain = encoded(stack())
    image = plain["images"][0]
    assert plain["step"] == image["step"] == 400 / 256 and "steps of 1.56 HU" in plain["about"]
    for place, true in enumerate(volumes()["input"]):
        values = image["base"] + image["step"] * unpacked(image["data"][place], ROWS, COLUMNS)
        assert np.abs(values - true).max() <= image["step"] / 2 + 1e-4


def test_letters_agree_with_nibabel_in_every_orientation():
    for axes in permutations(range(3)):
        for signs in product((-1, 1), repeat=3):
            affine = np.eye(4)
            affine[:3, :3] = np.diag([3.0, 1.5, 0.75])[axes, :] * np.array(signs)[:, None]
            _, bottom, right = aff2axcodes(affine)
            assert (sides(affine)["bottom"], sides(affine)["right"]) == (bottom, right)


def test_letters_name_the_sides_of_the_patient():
    assert sides(LPS) == {"left": "R", "right": "L", "top": "A", "bottom": "P"}
    coronal = np.array([[0, 0, 1, 0], [1, 0, 0, 0], [0, -2, 0, 0], [0, 0, 0, 1]], float)
    assert sides(coronal) == {"left": "L", "right": "R", "top": "S", "bottom": "I"}
    tilted = LPS.copy()
    tilted[:3, 1] = [0, -1, -0.7]
    assert sides(tilted)["top"] == "AS" and sides(tilted)["bottom"] == "PI"


@pytest.mark.parametrize(("total", "first", "size"), [(5, 2, 1e3), (400, 37, 1e4), (400, 37, 2e6), (400, 0, 1e9)])
@pytest.mark.parametrize("rows", [256, 512])
def test_kept_slices_are_evenly_spaced_and_hold_the_first(total, first, size, rows):
    kept, times = kept_slices(total, first, size, (rows, rows))
    assert first in kept and len(set(np.diff(kept))) <= 1 and kept[-1] < total
    assert len(kept) <= viewer.MOST_SLICES and size * (1 + (len(kept) - 1) / times**2) <= max(viewer.MOST_BYTES, size)
    assert times == (2 if rows == 512 and size > 1e6 else 1)


def test_a_large_ct_can_be_scrolled():
    kept, times = kept_slices(60, 31, 4 * 512 * 512, (512, 512))
    assert len(kept) >= 20 and times == 2 and viewer.fits(60, 6 * 512 * 512, (512, 512))


def test_other_slices_of_a_large_stack_are_averages_and_the_first_is_not():
    plain, true = encoded(stack(times=2)), volumes()["input"]
    image = plain["images"][0]
    for place in range(SLICES):
        times = 1 if place == 2 else 2
        expected = true[place].reshape(ROWS // times, times, COLUMNS // times, times).mean((1, 3))
        values = image["base"] + image["step"] * unpacked(image["data"][place], ROWS // times, COLUMNS // times)
        assert np.abs(values - expected).max() <= image["step"] / 2 + 1e-3
    assert "Slice 3 is kept pixel by pixel, others averaged over 2 × 2." in plain["about"]
    assert averaged(np.arange(15.0).reshape(3, 5), 2).tolist() == [[3, 5, 6.5], [10.5, 12.5, 14]]


def test_a_stack_never_exceeds_its_size_and_says_what_is_missing(monkeypatch):
    whole = len(json.dumps(encoded(stack())["images"]))
    monkeypatch.setattr(viewer, "MOST_BYTES", whole // 2)
    plain = encoded(stack())
    sizes = sum(len(text) for image in plain["images"] for text in image["data"])
    assert sizes <= whole // 2 and plain["slices"][plain["first"]] == 2 and 1 <= len(plain["slices"]) < SLICES
    assert f"{len(plain['slices'])} of 5 slices are kept" in plain["about"]


def test_pages_without_stacks_have_no_viewer():
    assert "DecompressionStream" in page(stack()).html()
    assert "DecompressionStream" not in page().html()


def test_the_script_is_sound_javascript(tmp_path):
    if not (node := shutil.which("node")):
        pytest.skip("node is not installed")
    (tmp_path / "viewer.js").write_text(viewer.SCRIPT, encoding="utf-8")
    assert subprocess.run([node, "--check", tmp_path / "viewer.js"], capture_output=True).returncode == 0


def test_a_stack_in_a_page_holds_no_markup():
    hostile = "</script><script>alert(1)</script>"
    plain = replace(stack(), panels=[Panel(hostile, "input", note=hostile)], unit=hostile)
    html = page(plain).html()
    assert "alert(1)</script>" not in html
    found = json.loads(re.search(r'<script type="application/json">(.*?)</script>', html, re.DOTALL)[1])
    assert found["panels"][0]["note"] == hostile


@pytest.fixture(scope="module")
def port():
    with driver() as found:
        yield found


@pytest.fixture(scope="module")
def chromium(port):
    with browsing(port) as found:
        yield found


@pytest.fixture
def shown(chromium, tmp_path):
    def open_page(*stacks, width=1300):
        chromium.open(page(*stacks).save(tmp_path / "report.html"), width)
        chromium.until("return document.querySelectorAll('.viewer[data-slice]').length == arguments[0]", len(stacks))
        return chromium

    return open_page


def told(tab):
    return tab.run("return document.querySelector('.told').textContent")


def pixels(tab, panel):
    """Return the pixels of the canvas of a panel, (rows, columns, 3)."""
    script = """const canvas = document.querySelectorAll('canvas')[arguments[0]];
        const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
        return [canvas.height, canvas.width, [...data]]"""
    rows, columns, data = tab.run(script, panel)
    return np.array(data).reshape(rows, columns, 4)[..., :3]


def grey(values, low=-160, high=240):
    return np.clip((values - low) / (high - low) * 255, 0, 255)


@in_browser
def test_a_browser_without_webgl_shows_the_slice_with_the_most_to_see_in_the_window(shown):
    tab = shown(stack())
    assert not tab.run("return !!document.createElement('canvas').getContext('webgl')")
    assert told(tab) == "Slice 3 of 5 · Window −160 to 240 HU"
    assert np.abs(pixels(tab, 2)[..., 0] - grey(volumes()["target"][2])).max() <= 1
    names = tab.run("return [...document.querySelectorAll('.name b')].map(one => one.textContent)")
    assert names == ["Input", "Output", "Target", "Output − target", "Map"]
    letters = tab.run("return [...document.querySelector('.field').querySelectorAll('.side')].map(e => e.textContent)")
    assert letters == ["R", "L", "A", "P"]
    bars = tab.run(
        """return [...document.querySelectorAll('.bar')].map(bar =>
        [bar.textContent, bar.getBoundingClientRect().width / bar.parentNode.getBoundingClientRect().width])"""
    )
    assert [text for text, _ in bars] == ["10 mm"] and bars[0][1] == pytest.approx(10 / (COLUMNS * 0.75), rel=0.01)
    sides_ = tab.run("const b = document.querySelector('.field').getBoundingClientRect(); return b.width / b.height")
    assert sides_ == pytest.approx(COLUMNS * 0.75 / (ROWS * 1.5), rel=0.01)
    ends = tab.run("return [...document.querySelectorAll('.ends')].map(one => one.children[2].textContent)")
    assert ends[0] == "+100" and len(ends) == 2
    assert tab.run("return getComputedStyle(document.querySelector('figure.stack > img')).display") == "none"


@in_browser
def test_wheel_and_keys_move_all_panels_through_the_slices(shown):
    tab = shown(stack())
    tab.wheel(".field", 1)
    tab.until("return document.querySelector('.viewer').dataset.slice == 4")
    for panel, name in enumerate(("input", "output", "target")):
        if name != "output":  # overlays cover a part of the output
            step = 255 / 256
            assert np.abs(pixels(tab, panel)[..., 0] - grey(volumes()[name][3])).max() <= 1 + step, name
    tab.wheel(".field", -2, pixels=25)  # a touchpad
    tab.until("return document.querySelector('.viewer').dataset.slice == 3")
    tab.wheel(".field", 9)
    tab.until("return document.querySelector('.viewer').dataset.slice == 5")
    tab.press(".viewer", "\ue013\ue013")  # twice up
    tab.until("return document.querySelector('.viewer').dataset.slice == 3")
    tab.press(".viewer", "\ue010")  # end
    tab.until("return document.querySelector('.viewer').dataset.slice == 5")
    tab.press(".viewer", "r")
    tab.until("return document.querySelector('.viewer').dataset.slice == 3")


@in_browser
def test_averaged_slices_have_the_size_of_all(shown):
    odd = {name: Layer([one[:-1, :-1] for one in layer.slices]) for name, layer in stack().layers.items()}
    tab = shown(stack(layers=odd, panels=[Panel("input", "input")], times=2))
    tab.press(".viewer", "\ue015")  # down
    tab.until("return document.querySelector('.viewer').dataset.slice == 4")
    expected = averaged(odd["input"].slices[3], 2).repeat(2, 0).repeat(2, 1)[: ROWS - 1, : COLUMNS - 1]
    assert np.abs(pixels(tab, 0)[..., 0] - grey(expected)).max() <= 2


@in_browser
def test_dragging_changes_window_and_level_and_a_preset_sets_them(shown):
    tab = shown(stack())
    tab.drag(".field", 80, 0)
    low, high = window(tab)
    assert high - low == pytest.approx(400 * np.exp(80 / 200), abs=2) and low + high == pytest.approx(80, abs=2)
    assert np.abs(pixels(tab, 2)[..., 0] - grey(volumes()["target"][2], low, high)).max() <= 1.5
    tab.drag(".field", 0, 60)
    assert sum(window(tab)) < 0
    tab.run("[...document.querySelectorAll('button')].find(one => one.textContent == 'Lung').click()")
    tab.until("return document.querySelector('.told').textContent.includes('Window −1350 to 150 HU')")
    tab.press(".viewer", "\ue014")  # right: a wider window
    assert window(tab)[1] > 150


def window(tab):
    numbers = re.search(r"Window (\S+) to (\S+)", told(tab))
    return tuple(float(number.replace("−", "-")) for number in numbers.groups())


@in_browser
def test_overlays_are_outlines_and_maps_that_can_be_hidden(shown):
    tab = shown(stack())
    teal = np.array([0x35, 0xC4, 0xB5])
    with_overlay = (pixels(tab, 1) == teal).all(axis=-1)
    expected = np.zeros((ROWS, COLUMNS), bool)
    expected[8:14, 9:20] = True
    expected[9:13, 10:19] = False
    assert np.array_equal(with_overlay, expected)
    tab.press(".viewer", "o")
    plain = tab.until("return document.querySelector('[aria-pressed]').getAttribute('aria-pressed') == 'false'")
    assert plain and np.abs(pixels(tab, 1)[..., 0] - grey(volumes()["output"][2])).max() <= 1.5


@in_browser
def test_differences_are_those_of_the_kept_values_and_the_cursor_reads_them(shown):
    tab = shown(stack())
    red, _, blue = np.moveaxis(pixels(tab, 3), -1, 0)
    assert (red >= blue).all() and red.mean() > blue.mean()  # 5 HU too bright everywhere
    tab.drag(".field", 1, 0)
    values = tab.run("return [...document.querySelectorAll('.value')].map(one => one.textContent)")
    target = float(values[2].replace("−", "-").split()[0])
    assert values[2].endswith(" HU") and abs(target - 80) < 1.6
    assert abs(float(values[3].split()[0]) - 5) <= 1.6 and values[4] and "HU" not in values[4]


@in_browser
def test_a_click_shows_one_panel_in_whole_pixels_and_escape_all(shown):
    tab = shown(stack())
    tab.click(".panel:nth-child(3) .field")
    seen = "return [...document.querySelectorAll('.panel')].filter(one => !one.hidden).length"
    tab.until(seen + " == 1")
    width = tab.run("return document.querySelectorAll('canvas')[2].getBoundingClientRect().width * devicePixelRatio")
    assert width / COLUMNS == pytest.approx(round(width / COLUMNS)) and width > 600
    heading = tab.run("return document.querySelectorAll('.name b')[2].textContent")
    assert heading == f"Target, {round(width / COLUMNS)} : 1"
    tab.press(".viewer", "\ue00c")
    tab.until(seen + " == 5")


@in_browser
def test_colours_have_neither_letters_nor_millimetres(shown):
    tab = shown(colours())
    picture = pixels(tab, 0)
    assert (picture[:, :20] == [255, 0, 0]).all() and (np.abs(picture[:, 20:] - [0, 0, 128]) <= 1).all()
    assert tab.run("return document.querySelectorAll('.side, .bar').length") == 0
    assert "mm" not in tab.run("return document.querySelector('figure').innerText")


@in_browser
@pytest.mark.parametrize("width", [500, 1300])
def test_wide_tables_scroll_in_their_box_and_nothing_runs_off_the_page(shown, width):
    tab = shown(stack(), width=width)
    wide = tab.run("return [document.documentElement.scrollWidth, innerWidth]")
    assert wide[0] <= wide[1]
    box = tab.run("const b = document.querySelector('.scroll'); return [b.scrollWidth, b.clientWidth]")
    assert box[0] > box[1] + 500
    name = tab.run(
        "const n = document.querySelector('tbody th'); return [n.innerText, n.firstChild.title, n.clientWidth]"
    )
    assert len(name[0]) <= 28 and name[1] == "3f9ac1" * 12 and name[2] < 400


@in_browser
def test_a_screenshot_is_dark_around_the_body_and_bright_in_it(shown):
    tab = shown(stack())
    picture = np.asarray(Pillow.open(io.BytesIO(tab.screenshot(".panel:nth-child(3) .field"))).convert("L"), float)
    height, width = picture.shape
    body = picture[int(height * 0.3) : int(height * 0.7), int(width * 0.3) : int(width * 0.7)]
    assert body.mean() > 120 and picture[: height // 10, : width // 4].mean() < 10


@in_browser
def test_a_page_without_scripts_shows_the_still_picture(port, tmp_path):
    with browsing(port, scripts=False) as tab:
        tab.open(page(stack()).save(tmp_path / "report.html"))
        picture = np.asarray(Pillow.open(io.BytesIO(tab.screenshot("figure.stack > img"))).convert("RGB"))
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 2
        assert tab.run("return document.querySelectorAll('.viewer').length") == 0
