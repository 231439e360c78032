import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "kill_test.py"


@pytest.mark.slow
def test_killed_runs_are_resumed_bit_for_bit(cases):
    words = [sys.executable, str(SCRIPT), "--times", "2", "--only", "game", "--cache", str(cases)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith("game: 2 kills (") and done.stdout.endswith("50 rounds: equal, bit for bit\n")
