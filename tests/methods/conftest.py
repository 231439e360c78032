import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(autouse=True, scope="module")
def _networks_are_small(one_thread):
    """Run torch in one thread, since networks this small spend more time on synchronisation than they gain."""
