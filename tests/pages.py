"""What the judge of a kind of task says, draws and counts, in plain values that can be compared with recorded ones.

    python tests/pages.py                    record all pages anew in tests/fixtures/pages
    python tests/pages.py segan dcgan        record these only

A small system is judged untrained, with the weights of a seed, on a few patients of its phantom; what judges train
themselves, they train for a moment. Recorded are the
prepared case, what was fitted, what the network makes of the case, all scores, the verdict, and the page with every
sentence, table and picture. Of arrays a few numbers are kept. A record is looked through before it is committed: it
holds what is said and drawn today, and whether that is right is up to other tests and to whoever reads it.
"""

import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from matplotlib.collections import Collection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent / "methods")]
from small import build  # noqa: E402

import recorded  # noqa: E402
from ganatomy.case import Prediction, slab  # noqa: E402
from ganatomy.data.batches import Range  # noqa: E402
from ganatomy.data.cases import DataConfig, find_cases  # noqa: E402
from ganatomy.data.store import Store  # noqa: E402
from ganatomy.evaluation.judging import OUTPUT, Entry, Judgement, Scores, judge_of  # noqa: E402
from ganatomy.evaluation.references import choose, tune  # noqa: E402
from ganatomy.inference.model import Model  # noqa: E402
from ganatomy.physics.ct import LowDoseScan  # noqa: E402
from ganatomy.reports.report import Report  # noqa: E402
from ganatomy.reports.viewer import Illustration, Stack  # noqa: E402
from ganatomy.tasks.anomaly_detection import attribution  # noqa: E402
from ganatomy.tasks.restoration import semantics  # noqa: E402
from ganatomy.tasks.restoration.judge import RestorationJudge  # noqa: E402
from ganatomy.tasks.segmentation.judge import SegmentationJudge  # noqa: E402
from recorded import numbers, plain  # noqa: E402

FOLDER = recorded.FOLDER / "pages"
PAGES: Mapping[str, Mapping[str, Any]] = {
    "wgan-vgg": {"features": "substitute", "scan": {"views": 60}},
    "brain-manifold-dcgan:small-denoiser": {},
    "dagan": {"features": "substitute"},
    "saliency-srgan": {"features": "substitute"},
    "pcle-cycle-sr": {},
    "pix2pix": {},
    "vess2ret": {},
    "scgan-us": {},
    "cyclegan": {},
    "segan": {},
    "rib-cage-gan": {},
    "anovaegan": {},
    "va-gan": {},
    "dcgan": {},
    "retina-aae": {},
    "ac-gan": {},
    "prostate-lesion-dcgan": {},
    "vessel-geometry-wgan": {},
}
"""System, perhaps with its preset, to the options that make it quick."""
SEARCHING = {"dagan"}
"""Systems whose classical baseline takes too long."""
SUBJECTS, SIZE = 3, 48
"""Patients of each side, and rows and columns of their images."""


def measured(self: LowDoseScan, line_integrals: Any, blank: float, rng: np.random.Generator) -> Any:
    """Return line integrals with normally distributed counts: Poisson's branch on the last bit, as processors round."""
    counts = blank * np.exp(-line_integrals.astype(np.float64))
    noisy = counts + rng.normal(0, 1, counts.shape) * np.sqrt(counts + self.electronic_noise)
    return np.asarray(-np.log(np.maximum(noisy, self.min_counts) / blank), np.float32)


@patch.object(LowDoseScan, "_measured", measured)
@patch.object(semantics, "STEPS", 6)
@patch.object(attribution, "STEPS", 6)
def record(model: str) -> dict[str, Any]:
    """Judge an untrained system and return everything that is made on the way, as plain values."""
    method = build(model, **PAGES[model]).eval()
    task, judge = method.task, judge_of(method.task)
    with tempfile.TemporaryDirectory() as folder:
        cases = find_cases(task, DataConfig(phantom_subjects=2 * SUBJECTS, phantom_size=SIZE))
        subjects = sorted({case.subject for case in cases})
        store, first = Store(task, Path(folder)), set(subjects[:SUBJECTS])
        training = store.get_all([case for case in cases if case.subject in first])[0]
        tested = store.get_all([case for case in cases if case.subject not in first])[0]
        fitted = {name: numbers(value) for name, value in task.fit(training).items()}
        method.fit(training)
        trained = Model(method.inference_mode())
        known = [Range(case, 0, case.shape[0]) for case in training]
        trained.calibration = trained.predictor().calibrate(known, 0.05, "the training cases")
        entries = [judge.entry(trained, OUTPUT)]
        if isinstance(judge, RestorationJudge):
            entries.append(Entry("between", between(task)))
        if isinstance(judge, SegmentationJudge):
            entries.append(Entry("shifted", shifted(task)))
        judge.cache = Path(folder)
        judge.learn(training)
        classical = () if model in SEARCHING else judge.classical()
        tuned = tune(judge, classical, judge.references()[0], training[:1])
        entries = judge.with_references(*entries, *tuned.entries)
        rows = [row for case in tested for row in judge.score_case(entries, case)]
        rows += judge.score_all(entries, tested, training)
        simple = [entry.name for entry in (*judge.references()[0], *tuned.entries)]
        reference = choose(judge, tuned, simple, Scores(rows))
        judgement = Judgement(entries, tested, Scores(rows), reference.name)
        page = Page("", made=None)
        judge.illustrate(page, judgement)
        predictor = trained.predictor()
        pieces = [Range(case, 0, case.shape[0]) for case in tested[:2]]
        return plain(
            {
                "prepared": {name: numbers(values) for name, values in tested[0].arrays.items()},
                "fitted": fitted,
                "calibrated": trained.calibration,
                "predicted": told(predictor.predict(tested[0], 3)),
                "validated": predictor.validate(pieces, 4),
                "scores": [[row.case, row.method, list(row.slices), dict(row.scores)] for row in rows],
                "verdict": judge.verdict(judgement),
                "measured": judge.measured(),
                "caveats": judge.caveats(judgement),
                "page": page.parts,
            }
        )


def between(task: Any) -> Any:
    """Three quarters of the way from input to target."""

    def run(case: Any, start: int, stop: int) -> Any:
        shown = case.slices(start, stop, task.out_channels)
        target, given = shown[task.output], shown.get(task.input, shown[task.output])
        return 0.75 * target + 0.25 * given if given.shape == target.shape else 0.9 * target

    return run


def shifted(task: Any) -> Any:
    """Label maps one row and two columns away from where they belong."""

    def run(case: Any, start: int, stop: int) -> Any:
        return np.roll(task.inside(slab(case.arrays[task.labels], start, stop)[0]), (1, 2), (-2, -1))

    return run


class Page(Report):
    """Remembers what it is given."""

    def __init__(self, *given: Any, **named: Any):
        super().__init__(*given, **named)
        self.parts: list[Any] = []

    def section(self, title: str) -> "Page":
        self.parts.append({"section": title})
        return self

    def text(self, *paragraphs: str) -> "Page":
        self.parts.append({"text": list(paragraphs)})
        return self

    def figure(self, figure: Any, caption: str, alt: str = "") -> "Page":
        self.parts.append({"caption": caption, "alt": alt, "figure": drawn(figure)})
        return self

    def table(self, rows: Any, columns: Any, *, caption: str = "", sortable: bool = False) -> "Page":
        self.parts.append({"table": caption, "columns": list(columns), "rows": [list(row) for row in rows]})
        return self


def told(prediction: Prediction) -> dict[str, Any]:
    """Return arrays, tables and facts of a prediction."""
    return {
        "arrays": {name: numbers(values) for name, values in prediction.arrays.items()},
        "facts": dict(prediction.facts),
    }


def scrolled(stack: Stack) -> dict[str, Any]:
    """Return what a viewer is given to scroll through."""
    return {
        "panels": [[one.name, one.shows, one.minus, one.map, one.note] for one in stack.panels],
        "outlines": [[one.name, *one.regions.masks] for one in stack.panels if one.regions],
        "layers": {name: [one.kind, numbers(np.stack(one.slices))] for name, one in stack.layers.items()},
        "slices": [list(stack.numbers), stack.total, stack.first],
        "window": [*stack.window, stack.unit],
        "grid": [*stack.spacing_mm, stack.sized, stack.affine is not None],
    }


def drawn(figure: Figure) -> Any:
    """Return what is seen of a figure: its size, and of all axes texts, limits, lines, images and collections."""
    if isinstance(figure, Illustration):
        return {**drawn(figure.figure), "stack": scrolled(figure.stack()) if figure.stack else None}
    if isinstance(figure, bytes):
        return len(figure)
    return {
        "inches": figure.get_size_inches(),
        "texts": [text.get_text() for text in figure.texts],
        "legends": [entry.get_text() for legend in figure.legends for entry in legend.get_texts()],
        "axes": [seen(axes) for axes in figure.axes],
    }


def seen(axes: Any) -> dict[str, Any]:
    """Return what is seen of axes."""
    legend = axes.get_legend()
    found = {
        "titles": [axes.get_title(where) for where in ("left", "center", "right")],
        "labels": [axes.get_xlabel(), axes.get_ylabel(), axes.get_xscale(), axes.get_yscale()],
        "limits": [*axes.get_xlim(), *axes.get_ylim()],
        "aspect": axes.get_aspect(),
        "frame": [axes.axison, *axes.get_position().bounds],
        "ticks": [[one.get_text() for one in ticks] for ticks in (axes.get_xticklabels(), axes.get_yticklabels())],
        "texts": [[text.get_text(), *text.get_position(), text.get_fontsize()] for text in axes.texts],
        "legend": [entry.get_text() for entry in legend.get_texts()] if legend else [],
        "lines": [
            [
                line.get_label(),
                to_hex(line.get_color()),
                line.get_linewidth(),
                line.get_linestyle(),
                str(line.get_marker()),
                line.get_markersize(),
                numbers(line.get_xdata()),
                numbers(line.get_ydata()),
            ]
            for line in axes.lines
        ],
        "images": [
            [numbers(image.get_array()), image.get_extent(), image.get_clim(), image.get_cmap().name]
            for image in axes.images
        ],
        "patches": [
            [type(one).__name__, to_hex(one.get_facecolor()), *one.get_extents().bounds] for one in axes.patches
        ],
        "collections": [gathered(one) for one in axes.collections],
    }
    return {name: value for name, value in found.items() if not isinstance(value, list) or value}


def gathered(one: Collection) -> list[Any]:
    """Return what is seen of many lines or points."""
    corners = [path.vertices for path in one.get_paths()]
    return [
        type(one).__name__,
        one.get_label(),
        numbers(np.concatenate(corners) if corners else []),
        numbers(one.get_offsets()),
        numbers(one.get_linewidth()),
        [to_hex(colour) for colour in [*one.get_edgecolor()[:1], *one.get_facecolor()[:1]]],
    ]


def differences(model: str) -> list[str]:
    """Return a line for everything that differs from what is recorded."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return recorded.differences(file(model), record(model))
    finally:
        torch.set_num_threads(threads)


def file(model: str) -> Path:
    """Return the file of a record."""
    return FOLDER / f"{model.replace(':', '-')}.json"


def main(models: Sequence[str]) -> None:
    """Record pages anew."""
    torch.set_num_threads(1)
    for model in models or PAGES:
        recorded.write(file(model), record(model))


if __name__ == "__main__":
    main(sys.argv[1:])
