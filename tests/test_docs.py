import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_pages_of_the_systems_are_up_to_date():
    result = subprocess.run(
        [sys.executable, ROOT / "scripts" / "system_pages.py", "--check"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_imports_point_down():
    result = subprocess.run(
        [Path(sys.executable).parent / "lint-imports"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout
