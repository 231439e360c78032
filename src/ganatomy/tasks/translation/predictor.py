"""The predictor of image translation."""

from dataclasses import replace
from functools import partial
from typing import Any

from ganatomy.inference.tiling import Tiler
from ganatomy.tasks.restoration.predictor import RestorationPredictor
from ganatomy.tasks.translation.task import Translator


class TranslationPredictor(RestorationPredictor):
    """Translates images; networks that take noise are given that of the seed, the same for all slices of a case."""

    def network(self, seed: int) -> Tiler:
        """Return the tiler of the network, with the noise of a seed where it takes any."""
        method: Any = self.method
        tiler = super().network(seed)
        # Methods of other base classes may have this task, too, and need not know of noise.
        latent = method.latent_of(seed) if isinstance(method, Translator) else None
        if latent is None:
            return tiler
        return replace(tiler, network=partial(method.restore, latent=latent.to(self.device)))
