"""Regions of brain tumours by the label values of the BRATS challenges, and the phantom with such a label map."""

from collections.abc import Mapping

from ganatomy.tasks.segmentation.task import Embedded

BRATS_2017: Mapping[str, tuple[int, ...]] = {"whole": (1, 2, 4), "core": (1, 4), "enhancing": (4,)}
"""Label values of the overlapping regions in the BRATS challenge since 2017."""
BRATS_2017_CLASSES: Mapping[str, tuple[int, ...]] = {
    "background": (0,),
    "necrosis": (1,),
    "oedema": (2,),
    "enhancing": (4,),
}
"""Label values of the exclusive classes in the BRATS challenge since 2017."""
BRATS_2015: Mapping[str, tuple[int, ...]] = {
    "background": (0,),
    "necrosis": (1,),
    "oedema": (2,),
    "nonenhancing": (3,),
    "enhancing": (4,),
}
"""Label values of the exclusive classes in the BRATS challenge until 2016."""
BRAIN = Embedded("brain-tumour-mr", grid={"slices": 12}, subjects=20)
"""Phantom of patients with a tumour, in four aligned contrasts."""
