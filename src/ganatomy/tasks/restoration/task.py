"""The task of turning one image into another one, which several kinds of work share."""

from typing import ClassVar

from ganatomy.case import Sample, Task
from ganatomy.images.codecs import Window
from ganatomy.images.image import Image


class Restoration(Task):
    """A task that turns an image into another one on the same grid, or on one as much finer as the method makes it."""

    predictors: ClassVar = {"restore": "ganatomy.tasks.restoration.predictor:RestorationPredictor"}

    source: str = "input"
    """Role that is shown to the method."""
    product: str = "target"
    """Role that it makes."""

    @property
    def in_channels(self) -> int:
        """Channels of the source."""
        return self.roles[self.source].channels

    @property
    def out_channels(self) -> int:
        """Channels of the product."""
        return self.roles[self.product].channels

    def contrasts(self, sample: Sample) -> tuple[Window, Window] | None:
        """Ranges of the source and the product of a case where their contrasts differ; None where they look alike."""
        return None

    def same_contrast(self, output: str) -> str | None:
        """The source, with which the product shares its contrast unless a task says otherwise."""
        return self.source

    def window(self, role: str) -> tuple[float, float]:
        """Values of a role, in physical units, that are shown and between which it is scored: those of its codec."""
        codec = self.roles[role].codec
        if not isinstance(codec, Window):
            raise TypeError(f"{role} has no window, but {codec}")
        return codec.low, codec.high

    def visible(self, sample: Sample) -> Image:
        """What there is to see in the source, on its own grid, for comparison with the product."""
        image: Image = sample.values[self.source]
        return image
