"""The judge of sampled label maps and the images that are painted over them."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ganatomy.evaluation import sets
from ganatomy.evaluation.judging import OUTPUT, Judgement, Score
from ganatomy.evaluation.sets import NEAREST_SHARE
from ganatomy.metrics.memorisation import most_informative
from ganatomy.reports.report import Report
from ganatomy.reports.style import STYLE, colours, new_figure
from ganatomy.tasks.synthesis.entries import ImageRequest
from ganatomy.tasks.synthesis.judge import Pair, SynthesisJudge
from ganatomy.tasks.synthesis.pictures import COUNTED, SEEN, name_columns, name_rows, sheet_figure, sheet_of
from ganatomy.tasks.synthesis.scores import COPYING, DIVERSITY
from ganatomy.tasks.synthesis.sets import ImageSet, planes

AREA, SHARED, COPIED_MAPS = "map area", "shared with a map", "copied maps"
BITS = 1000.0
"""Mutual information is given in units of this fraction of a bit per pixel."""
FLIPS = (2, 3)


def maps_of(one: ImageSet) -> NDArray[np.bool_]:
    """Return the label maps of a set, (n, 1, rows, columns), which are its first channel."""
    return np.asarray(planes(one.images)[:, :1] > 0)


class MapSynthesisJudge(SynthesisJudge):
    """Judges label maps and their images as one set, and searches the training map nearest to every sampled map.

    Nearest is the map that shares the most mutual information, mirrored or not, as in Costa et al., IEEE Transactions
    on Medical Imaging 37(3), 2018.
    """

    def __init__(self, task: Any, options: Any = None):
        super().__init__(task, options)
        self.scores = (
            *self.scores,
            Score(AREA, None, "%", "Share of pixels inside of the label map.", DIVERSITY),
            Score(
                SHARED,
                None,
                "mbit",
                "Mutual information per pixel of a map with the training map that shares the most with it, mirror "
                "images counted: compare with real images.",
                COPYING,
            ),
            Score(
                COPIED_MAPS,
                "lower",
                "",
                "Share of maps that share more with a training map than 99 % of held-out maps do.",
                COPYING,
            ),
        )

    def _variety(self, pair: Pair, rng: np.random.Generator) -> dict[str, float]:
        return super()._variety(pair, rng) | {AREA: 100 * float(maps_of(pair.made).mean())}

    def _against_training(self, pair: Pair, rng: np.random.Generator) -> dict[str, float]:
        found = super()._against_training(pair, rng)
        if not found:
            return {}
        known = maps_of(self.known)
        ours, natural = (most_informative(maps_of(one), known, flips=FLIPS)[1] for one in (pair.made, pair.real))
        limit = np.quantile(natural, 1 - NEAREST_SHARE)
        return {**found, SHARED: BITS * float(ours.mean()), COPIED_MAPS: float((ours > limit).mean())}

    def copied(self, judgement: Judgement, name: str = OUTPUT) -> str:
        """Return a warning where too many pairs or maps look like copies, else an empty string."""
        how = "their maps share more with a training map than 99 % of held-out maps do"
        maps = sets.copied(judgement.scores.mean(name, COPIED_MAPS), self.compared, how)
        return super().copied(judgement, name) or maps

    def illustrate(self, report: Report, judgement: Judgement) -> None:
        """Add the figures of synthesis, and the nearest training maps."""
        super().illustrate(report, judgement)
        if not len(self.known):
            return
        (own,) = (entry for entry in judgement.entries if entry.name == OUTPUT)
        made = own.run(ImageRequest(min(COUNTED, len(self.held)), 0, None, self.held, self.known))
        report.section("Nearest training maps")
        report.figure(
            nearest_maps(made, self.known),
            "Sampled maps above, below each the training map that shares the most mutual information with it (mirrored "
            "ones counted), in mbit per pixel. Equal pairs are copies.",
        )
        report.figure(
            information(made, self.held, self.known),
            "Mutual information with the nearest training map. Samples far to the right of held-out maps are copies.",
        )

    def measured(self) -> dict[str, str]:
        """Describe the features, the sizes of the sets, the resamplings, and the search for copied maps."""
        told = "mutual information of the pixels inside and outside of two maps, mirrored too"
        return super().measured() | {"Copied maps": told}


@rc_context(STYLE)
def nearest_maps(made: ImageSet, known: ImageSet) -> Figure:
    """Draw sampled maps, and below each the training map with the greatest mutual information."""
    ours, theirs = maps_of(made)[:SEEN], maps_of(known)
    index, shared = most_informative(ours, theirs, flips=FLIPS)
    rows = [[one[0].astype(np.float32) for one in maps] for maps in (ours, theirs[index])]
    sheet = sheet_of(rows)
    figure = sheet_figure(sheet)
    name_columns(figure.axes[0], [f"{BITS * value:.0f}" for value in shared], sheet.shape[1])
    name_rows(figure.axes[0], ("sample", "training"), sheet.shape[0])
    return figure


@rc_context(STYLE)
def information(made: ImageSet, held: ImageSet, known: ImageSet) -> Figure:
    """Draw histograms of the mutual information of sampled and of held-out maps with their nearest training maps."""
    theirs = maps_of(known)
    found = {
        name: BITS * most_informative(maps_of(one), theirs, flips=FLIPS)[1]
        for name, one in (("output", made), ("target", held))
    }
    figure = new_figure(6.8, 3.0)
    plot = figure.subplots()
    bins = np.linspace(0, max(float(values.max()) for values in found.values()) or 1.0, 30)
    for name, colour in colours(dict.fromkeys(found)).items():
        label = "Generated" if name == "output" else "Held-out real"
        plot.hist(found[name], bins.tolist(), density=True, histtype="step", color=colour, label=label)
    plot.set(xlabel="Mutual information (mbit per pixel)", ylabel="Share of maps")
    plot.legend()
    return figure
