import matplotlib
import numpy as np
import pytest

from ganatomy.metrics.regions import Box, region_statistics
from ganatomy.metrics.texture import noise_power_spectrum
from ganatomy.reports.figures import nps_plot, paired_plot, profile_plot, region_plot
from ganatomy.reports.style import ROLES, colours, to_svg

ABDOMEN = (-160.0, 240.0)
SPACING = (1.5, 0.75)


@pytest.fixture
def images() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    target = np.full((40, 60), 50.0)
    target[10:30, 20:40] = 150
    noise = rng.normal(0, 30, target.shape)
    return {"input": target + noise, "output": target + noise / 3, "baseline": target + 5, "target": target}


def test_a_profile_has_a_line_per_image_in_millimetres(images: dict[str, np.ndarray]) -> None:
    place, plot = profile_plot(images, (20, 5), (20, 45), window=ABDOMEN, spacing_mm=SPACING).axes
    assert [line.get_label() for line in plot.lines] == ["Input", "Output", "Baseline", "Target"]
    target = plot.lines[3]
    assert target.get_xdata()[-1] == pytest.approx(40 * 0.75)
    assert target.get_ydata().max() == 150
    assert [*place.lines[0].get_xdata(), *place.lines[0].get_ydata()] == [5, 45, 20, 20]


def test_spectra_regions_and_patients_are_drawn_with_their_values(images: dict[str, np.ndarray]) -> None:
    spectra = {name: noise_power_spectrum(images[name], SPACING) for name in ("input", "output")}
    (plot,) = nps_plot(spectra, nyquist=0.3).axes
    assert plot.lines[0].get_color() == ROLES["input"]
    assert plot.lines[0].get_xdata().max() <= 0.3
    assert "Input: SD" in plot.get_legend().get_texts()[0].get_text()

    boxes = {"liver": Box(0, 0, 8, 8), "spleen": Box(12, 22, 8, 8)}
    figure = region_plot({name: region_statistics(image, boxes) for name, image in images.items()})
    means, sds = figure.axes
    assert [bar.get_height() for bar in means.patches[-2:]] == pytest.approx([5, 5])
    wanted = region_statistics(images["input"], boxes)[0].sd
    assert sds.patches[0].get_height() == pytest.approx(wanted)

    scores = {"input": {"a": 20.0, "b": 22.0}, "output": {"a": 30.0, "b": 31.0}}
    (plot,) = paired_plot(scores, metric="psnr", unit="dB", better="higher").axes
    assert list(plot.lines[0].get_ydata()) == [20, 30]
    assert plot.get_title(loc="left") == "psnr (dB), higher is better"
    assert [text.get_text() for text in plot.texts] == ["21.0", "30.5"]


def test_colours_belong_to_roles_and_do_not_repeat() -> None:
    assert colours(["input", "CNN", "output", "BM3D"])["output"] == ROLES["output"]
    assert len(set(colours(["input", "CNN", "output", "BM3D", "target"]).values())) == 5
    assert len(colours([str(i) for i in range(20)])) == 20


def test_figures_leave_no_trace_and_svg_is_reproducible(images: dict[str, np.ndarray]) -> None:
    before = dict(matplotlib.rcParams)
    spectra = {"input": noise_power_spectrum(images["input"], SPACING)}
    first, second = (to_svg(nps_plot(spectra)) for _ in range(2))
    assert first == second and first.lstrip().startswith(b"<?xml")
    assert dict(matplotlib.rcParams) == before
