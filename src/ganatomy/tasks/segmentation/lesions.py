"""Detection of lesions by segmentation: which components of the label map are lesions, and when they count as found."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from ganatomy.case import Better, Scores, Volume
from ganatomy.errors import UserError
from ganatomy.metrics.lesions import Criterion
from ganatomy.tasks.segmentation.task import Segmentation, SegmentationConfig, Segmenter

Kept = Literal["all", "largest", "central"]


class LesionConfig(SegmentationConfig):
    """Options of segmentation, and of the lesions that are made from the label map."""

    lesion_region: str = "lesion"  # name of the region whose connected components are lesions
    smallest_lesion: int = Field(0, ge=0, le=1_000_000)  # components of fewer voxels are removed
    smallest_share: float = Field(0.0, ge=0, lt=1)  # components with a smaller share of a slice are removed
    kept: Kept = "all"  # components that are lesions: all, the largest, or the one nearest to the middle of the image


class LesionSegmentation(Segmentation):
    """Task of detection: predict a label map, of which the components of one region are lesions.

    Weights are selected by the Dice of this region.

    Args:
        config: options with the name of the region.
        criteria: criteria by which lesions count as found, the leading one first.
        arguments: further arguments of `Segmentation`.
        options: further named arguments of `Segmentation`.

    Raises:
        UserError: there is no such region among those that are judged.
    """

    predictors: ClassVar = {"segment": "ganatomy.tasks.segmentation.detecting:LesionPredictor"}
    judge = "ganatomy.tasks.segmentation.detecting:LesionJudge"
    config: LesionConfig

    def __init__(self, config: LesionConfig, criteria: Sequence[Criterion], *arguments: Any, **options: Any):
        super().__init__(config, *arguments, **options)
        self.criteria = tuple(criteria)
        learned = [name for name, labels in config.regions.items() if 0 not in labels]
        for option, names in (("--regions", learned), ("--judged", self.judged.names)):
            if config.lesion_region not in names:
                raise UserError(
                    f"--lesion-region {config.lesion_region}: no such region; {option} has {', '.join(names)}, of "
                    "which one is that of the lesions"
                )

    def smallest(self, rows: int, columns: int) -> int:
        """Return the number of voxels below which a component is removed, for slices of a size."""
        return max(self.config.smallest_lesion, math.ceil(self.config.smallest_share * rows * columns))

    @property
    def directions(self) -> Mapping[str, Better]:
        return {"dice of lesions": "higher", **super().directions}

    @property
    def selection(self) -> str:
        return "dice of lesions"

    def scores(
        self, output: Mapping[str, Volume], sample: Mapping[str, Volume], spacing: tuple[float, float, float]
    ) -> Scores:
        """Compute Dice over all slices together, for each region, on average, and once more for the lesions."""
        found = super().scores(output, sample, spacing)
        name = self.config.lesion_region
        own = found.get(f"dice {name}") if len(self.judged.names) > 1 else found.get("dice")
        return found if own is None else {"dice of lesions": own, **found}


class LesionDetector(Segmenter):
    """Base class of methods that detect lesions by segmenting them; their configuration is a `LesionConfig`."""

    config: LesionConfig
    criteria: ClassVar[tuple[Criterion, ...]]
    """Criteria by which lesions count as found, the leading one first."""

    def build_task(self) -> Segmentation:
        if self.config.instances:
            raise UserError("--instances: lesions are regions of a label map here, not numbered objects; leave it out")
        return LesionSegmentation(
            self.config,
            self.criteria,
            self.exclusive,
            self.embedded,
            self.expected,
            self.measures,
            cleaning=self.cleaning,
        )
