import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent / "training"))
torch.set_num_threads(2)

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture
def shared():
    """Folder with real images, where there is one."""
    if not SHARED.is_dir():
        pytest.skip("no real images here")
    return SHARED


@pytest.fixture(autouse=True)
def _reproducible():
    torch.manual_seed(0)
