"""Whether cases that are prepared in other ways have other keys, and the segmenter looks at what was made."""

import numpy as np
import pytest
import torch

from ganatomy.evaluation.judging import judge_of
from ganatomy.physics.sampling import Undersampling
from ganatomy.tasks.mr_reconstruction.task import MRReconstruction, ReconstructionConfig
from ganatomy.tasks.restoration.semantics import DICE, INTERPRETABILITY

OTHER = {
    "scan": Undersampling(fraction=0.4),
    "size": (96, 128),
    "fit": "cover",
    "phase": 0.7,
    "coils": 2,
    "percentile": 99.0,
}
"""Options that change prepared cases, each with a value that is not its default."""
OF_THE_PHANTOM = {"phantom", "part", "structure"}
"""Options that change which cases there are, not how one is prepared."""


def digest(**values):
    return MRReconstruction(ReconstructionConfig(**values), True).preparation.digest


def test_every_option_that_changes_prepared_cases_changes_their_key():
    asked = [digest(), *(digest(**{name: value}) for name, value in OTHER.items())]
    coils = [digest(coils=2, sensitivities=how) for how in ("estimated", "known")]
    assert len(set(asked)) == len(asked) and len(set(coils)) == 2
    assert set(ReconstructionConfig.model_fields) == {*OTHER, "sensitivities", *OF_THE_PHANTOM}, "a new option: which?"


@pytest.mark.parametrize("size", [(6, 9), (5, 8)])
def test_the_segmenter_looks_at_the_output(size):
    judge = judge_of(MRReconstruction(ReconstructionConfig(size=(32, 32)), True))
    judge.segmenter = lambda images: images > 0.5
    mask = np.zeros((2, *size), np.float32)
    mask[:, 1:5, 2:7] = 1
    sample = {"target": mask.copy(), "mask": mask}
    half = mask.copy()
    half[1] = 0
    assert judge.interpreted(mask, sample) == {DICE: 1, INTERPRETABILITY: 1}
    assert judge.interpreted(half, sample) == pytest.approx({DICE: 2 / 3, INTERPRETABILITY: 2 / 3})
    assert judge.interpreted(0 * mask, sample) == {DICE: 0, INTERPRETABILITY: 0}
    # What cannot be found in the complete image says nothing about the output.
    assert judge.interpreted(mask, {**sample, "target": 0 * mask}) == {DICE: 1}
    judge.segmenter = lambda images: torch.zeros_like(images, dtype=torch.bool)
    assert judge.interpreted(mask, sample) == {DICE: 0}
