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
    def contrasts(self) -> tuple[Window, Window] | None:
        """Ranges of the source and the product where their contrasts differ; None where they should look alike."""
        return None

    def same_contrast(self, output: str) -> str | None:
        """The source, unless the contrasts differ."""
        return None if self.contrasts else self.source

    def visible(self, sample: Sample) -> Image:
        """What there is to see in the source, on its own grid, for comparison with the product."""
        image: Image = sample.values[self.source]
        return image
