import numpy as np
import pytest
from matplotlib.figure import Figure

from ganatomy.metrics.regions import Box
from ganatomy.reports.strip import comparison_strip, detail_boxes
from ganatomy.reports.style import to_png

ABDOMEN = (-160.0, 240.0)
SPACING = (1.5, 0.75)


@pytest.fixture
def images() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    target = np.full((40, 60), 50.0)
    target[10:30, 20:40] = 150
    noise = rng.normal(0, 30, target.shape)
    return {"input": target + noise, "output": target + noise / 3, "baseline": target + 5, "target": target}


def pictures(figure: Figure) -> list[tuple[np.ndarray, tuple[float, float]]]:
    return [(np.asarray(i.get_array()), i.get_clim()) for axes in figure.axes for i in axes.images]


def words(figure: Figure) -> list[str]:
    inside = [text.get_text() for axes in figure.axes for text in axes.texts]
    return [text.get_text() for text in figure.texts] + inside


def test_the_strip_shows_every_column_in_one_window_and_the_signed_difference(
    images: dict[str, np.ndarray],
) -> None:
    figure = comparison_strip(images, window=ABDOMEN, spacing_mm=SPACING, notes={"output": "31.2 dB"})
    *columns, difference, _ = pictures(figure)
    assert [clim for _, clim in columns] == [ABDOMEN] * 4
    for (shown, _), image in zip(columns, images.values(), strict=True):
        assert np.array_equal(shown, image)
    assert difference[0] == pytest.approx(images["output"] - images["target"])
    assert difference[1] == (-100, 100)
    assert {"Input", "Output − target", "31.2 dB", "Window −160 to 240 HU", "HU"} <= set(words(figure))


def test_the_strip_keeps_proportions_and_scale(images: dict[str, np.ndarray]) -> None:
    box = Box(5, 10, 12, 16)
    figure = comparison_strip(images, window=ABDOMEN, spacing_mm=SPACING, zooms=[box])
    width, height = figure.get_size_inches()
    whole, detail, *_ = (axes.get_position() for axes in figure.axes)
    assert whole.height * height / (whole.width * width) == pytest.approx(40 * 1.5 / (60 * 0.75))
    assert detail.height * height / (detail.width * width) == pytest.approx(12 * 1.5 / (16 * 0.75))
    assert np.array_equal(pictures(figure)[1][0], images["input"][5:17, 10:26])
    bar = next(line for axes in figure.axes for line in axes.lines)
    assert "10 mm" in words(figure)
    assert np.ptp(bar.get_xdata()) == pytest.approx(whole.width * width * 10 / 45)


def test_a_tall_image_stays_on_the_page() -> None:
    figure = comparison_strip({"input": np.zeros((900, 100))}, window=ABDOMEN)
    assert figure.get_size_inches()[1] < 6


def test_names_with_dollar_signs_are_not_formulas(images: dict[str, np.ndarray]) -> None:
    hostile = r"$\nonsense{$ and $"
    figure = comparison_strip({hostile: images["input"]}, window=ABDOMEN, notes={hostile: hostile})
    assert to_png(figure).startswith(b"\x89PNG")


def test_a_strip_needs_neither_target_nor_spacing(images: dict[str, np.ndarray]) -> None:
    figure = comparison_strip({"input": images["input"]}, window=ABDOMEN)
    assert len(pictures(figure)) == 1 and not any("mm" in text for text in words(figure))


@pytest.mark.parametrize(("scale", "kind"), [(1, np.float64), (255, np.uint8)])
def test_colours_are_shown_as_they_are(scale: float, kind: type) -> None:
    target = (np.random.default_rng(0).random((20, 20, 3)) * scale / 2).astype(kind)
    figure = comparison_strip({"output": target * 2, "target": target}, window=(0, 1), unit="")
    (shown, _), _, (difference, _), _ = pictures(figure)
    assert np.array_equal(shown, target * 2)
    assert difference == pytest.approx(target.astype(float).mean(axis=-1))
    assert to_png(figure).startswith(b"\x89PNG")


def test_details_lie_inside_the_window_and_apart() -> None:
    image = np.full((100, 100), -1000.0)
    image[5:95, 5:95] = 40
    image[20:35:3, 20:35] = 120
    image[60:75:3, 60:75] = 110
    first, second = detail_boxes(image, ABDOMEN, (1, 1), size_mm=20)
    assert abs(first.row - second.row) >= 20
    for box, centre in ((first, 27), (second, 67)):
        assert box.row <= centre < box.row + box.rows and box.column <= centre < box.column + box.columns
    assert detail_boxes(np.full((50, 50), -1000.0), ABDOMEN, (1, 1)) == []
