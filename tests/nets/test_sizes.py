import pytest
import torch
from torch import nn

from ganatomy.errors import UserError
from ganatomy.nets.sizes import check_input


def test_sizes_are_tried_without_touching_the_network():
    network = nn.Sequential(nn.Conv2d(3, 4, 5), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 4, stride=2))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    check_input(network, (2, 3, 9, 11), "--patch 9")
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    with pytest.raises(UserError, match=r"^--patch 6: Sequential takes no input of \(2, 3, 6, 11\): "):
        check_input(network, (2, 3, 6, 11), "--patch 6")
    with pytest.raises(UserError, match=r"--patch 5: .*more than 1 value per channel"):
        check_input(network, (1, 3, 5, 5), "--patch 5")
