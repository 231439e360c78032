"""Calibration of the weights of a run, such as its thresholds, on data that it was not trained on."""

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ganatomy.catalogue import System
from ganatomy.data.batches import Range
from ganatomy.errors import NotCalibrated, Notice
from ganatomy.images.atomic import write_text
from ganatomy.inference.model import CALIBRATION, WEIGHTS, Which, load


def calibrate_run(
    folder: Path,
    ranges: Sequence[Range],
    rate: float,
    source: str,
    device: str = "cpu",
    system: System | None = None,
) -> None:
    """Calibrate the best and the last weights of a run and write ``calibration.json`` into its folder.

    Weights for which no numbers can be found get none, and a `Notice` says why. Results are stored under the digest of
    the weights, so that equal weights are calibrated once, also where a finished run is resumed. Those of weights that
    training has replaced since are dropped. A system without calibration gets no file.

    Args:
        folder: run folder.
        ranges: validation slices.
        rate: share of healthy pixels and images that may be called abnormal, 0 to 1.
        source: description of the slices in words.
        device: device of the networks.
        system: system of the run, as in `load`.
    """
    found: dict[str, Any] = {}
    which: Which
    for which in ("best", "last"):
        if not (folder / WEIGHTS[which]).is_file():
            continue
        model = load(folder, which, device, system)
        if model.identity in found:
            continue
        if model.calibration is not None:
            found[model.identity] = dict(model.calibration)
            continue
        predictor = model.predictor()
        if not predictor.calibrates:
            return
        try:
            numbers = predictor.calibrate(ranges, rate, source)
        except NotCalibrated as error:  # weights that took days of training can be used without thresholds
            warnings.warn(f"the {which} weights get no thresholds: {error}", Notice, stacklevel=2)
            numbers = None
        found[model.identity] = None if numbers is None else dict(numbers)
    write_text(folder / CALIBRATION, json.dumps(found, indent=1) + "\n")
