"""Deep De-Aliasing: the predecessor of DAGAN, without its frequency loss."""

from collections.abc import Mapping
from typing import Any, ClassVar

from ganatomy.methods.reconstruction.dagan import DAGAN


class DeepDealiasing(DAGAN):
    """De-aliasing with pixel, perceptual and adversarial losses and a network that refines its input.

    Yu et al., Deep De-Aliasing for Fast Compressive Sensing MRI, 2017. arXiv 1705.07137. Without ``perceptual_weight``
    and ``refine`` this is the paper's PG, without ``refine`` its PPG, and otherwise its PPGR.
    """

    stated_augmentation = (
        "mirrored, turned by up to 10°, shifted and enlarged by up to 10 %, deformed, brightened (code of DAGAN)"
    )

    class Config(DAGAN.Config):
        """The numbers of DAGAN, whose code evolved from this paper; the preprint's own weights are not known."""

        frequency_weight: float = 0.0  # weight of the squared difference of spectral magnitudes; not in this paper

        presets: ClassVar[Mapping[str, Mapping[str, Any]]] = DAGAN.Config.presets
        baseline: ClassVar[Mapping[str, Any]] = {"adversarial_weight": 0.0}

    config: Config
