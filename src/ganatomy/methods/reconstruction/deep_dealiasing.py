"""Deep De-Aliasing: the game that became DAGAN, before it saw frequencies."""

from collections.abc import Mapping
from typing import Any, ClassVar

from ganatomy.methods.reconstruction.dagan import DAGAN


class DeepDealiasing(DAGAN):
    """De-aliasing with pixel, perceptual and adversarial loss and a network that refines its input.

    Yu et al., Deep De-Aliasing for Fast Compressive Sensing MRI, 2017. arXiv 1705.07137. Without ``perceptual_weight``
    and ``refine`` this is the paper's PG, without ``refine`` its PPG, and else its PPGR.
    """

    class Config(DAGAN.Config):
        """As DAGAN, whose code came of this paper; the preprint's own weights are not known."""

        frequency_weight: float = 0.0  # squared difference of spectral magnitudes, which this paper does without

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = DAGAN.Config.presets
        baseline: ClassVar[Mapping[str, Any]] = {"adversarial_weight": 0.0}

    config: Config
