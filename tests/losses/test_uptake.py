"""The loss of tracer uptake."""

import pytest
import torch
from torch.nn.functional import mse_loss

from ganatomy.losses.uptake import split_squared_error

TRUE, MADE = torch.tensor([0.0, 1.0, 3.0, 5.0]), torch.tensor([1.0, 1.0, 2.0, 7.0])


def test_high_and_low_uptake_are_averaged_apart():
    assert split_squared_error(MADE, TRUE, 2.5).item() == pytest.approx(3.0)
    assert mse_loss(MADE, TRUE).item() == pytest.approx(1.5)
    coded = [image / 10 - 1 for image in (MADE, TRUE)]
    assert split_squared_error(*coded, 2.5 / 10 - 1).item() == pytest.approx(0.030, abs=1e-6)


@pytest.mark.parametrize(("threshold", "error"), [(10.0, 1.5), (-1.0, 1.5)])
def test_a_part_without_voxels_is_nothing(threshold, error):
    assert split_squared_error(MADE, TRUE, threshold).item() == pytest.approx(error)


def test_the_threshold_itself_is_high():
    true = torch.tensor([2.5, 0.0])
    assert split_squared_error(true + torch.tensor([2.0, 0.0]), true, 2.5).item() == pytest.approx(4.0)
