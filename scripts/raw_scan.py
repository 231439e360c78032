"""Draw a measured MR scan reconstructed in four ways, and print the data-consistency residual of each.

    python scripts/raw_scan.py RUN SCAN PICTURE.png

RUN is the run folder of a system that reconstructs MR; SCAN is raw data of the size that it was trained with. There is
no complete scan to compare with, so each image is compared with the measured k-space. The network gives magnitudes;
their phase is taken from the total-variation reconstruction.
"""

import sys
from pathlib import Path

import matplotlib
import numpy as np
import torch
from torch import Tensor

from ganatomy.case import slab
from ganatomy.images.files import read
from ganatomy.inference.model import load
from ganatomy.physics.consistency import consistency_residual, consistent_with
from ganatomy.reports.style import new_figure, show_image
from ganatomy.tasks.mr_reconstruction.judge import total_variation
from ganatomy.tasks.mr_reconstruction.scan import Scan

STEPS = 30
"""Steps of conjugate gradients, which fit noise if they are not stopped (Pruessmann et al., doi 10.1002/mrm.1241)."""


def main(run: Path, path: Path, picture: Path) -> None:
    """Reconstruct the middle slice of a scan in four ways, print their residuals, and save the picture."""
    matplotlib.use("Agg")
    model = load(run)
    raw = read(path)
    sample = model.predictor().sample_of({"input": raw})
    middle = sample.shape[0] // 2
    packed = sample.role("input").encoded(slab(sample.arrays["input"], middle, middle + 1))
    shown = torch.from_numpy(packed).transpose(0, 1)
    scan = Scan.of(shown)
    with torch.no_grad():
        smooth = total_variation(scan)
        found: dict[str, Tensor] = {
            "Zero-filled": scan.image,
            "Conjugate gradients": consistent_with(0 * scan.image, scan.image, scan.encoding, steps=STEPS),
            "Total variation": smooth,
            "Network": torch.polar(model.method.restore(shown), smooth.angle()),
        }
    bright = 1.3 * float(np.percentile(scan.image.abs(), 99.7))
    figure = new_figure(4 * len(found), 4.6)
    for axes, (name, made) in zip(figure.subplots(1, len(found)), found.items(), strict=True):
        show_image(axes, made.abs()[0, 0].numpy(), (0, bright), raw.spacing[1:])
        axes.set_title(name)
        residual = float(consistency_residual(made, scan.image, scan.encoding)[0])
        print(f"{name}: data-consistency residual {residual:.4f}")
    figure.savefig(picture, dpi=75)


if __name__ == "__main__":
    main(*(Path(argument) for argument in sys.argv[1:]))
