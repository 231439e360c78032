"""Write docs/systems/ from the catalogue and the methods' classes, or check that it is up to date.

python scripts/system_pages.py            write a page for every ready system
python scripts/system_pages.py --check    exit with 1 when a page is out of date, and change nothing
"""

import sys
from pathlib import Path

from ganatomy.catalogue import ready
from ganatomy.cli.info import page

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "systems"


def main() -> int:
    """Write or check the pages, and return the exit code."""
    wanted = {FOLDER / f"{system.slug}.md": page(system) + "\n" for system in ready()}
    stale = [path for path, text in wanted.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv[1:]:
        for path in stale:
            print(f"{path}: out of date; run python scripts/system_pages.py", file=sys.stderr)
        return 1 if stale else 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path in stale:
        path.write_text(wanted[path], encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
