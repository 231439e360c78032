"""Make pages of docs/results that rest on real images: make results PAGE=reconstruction-mr DATA=FOLDER.

python scripts/results PAGE --data FOLDER [--out runs/results] [--seeds 3] [--threads 1]
python scripts/results PAGE --data FOLDER --trial 2 --seeds 1    few rounds and subjects; the page stays among the runs
python scripts/results --list          pages, and whether they are older than their code
python scripts/results --mark          mark pages that are older than their code, or take the mark away
"""

import argparse
import signal
import sys
from pathlib import Path

from definitions import PAGES
from making import make, marked

from ganatomy.errors import UserError
from ganatomy.images.atomic import write_text
from ganatomy.training.loop import Stopped


def main() -> int:
    """Make a page, list all pages, or mark those that are out of date; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", nargs="?", choices=PAGES)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs") / "results")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--trial", type=int)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--mark", action="store_true")
    options = parser.parse_args()
    if options.list:
        for page in PAGES.values():
            state = "missing" if not page.path.is_file() else "older than its code" if page.stale else "up to date"
            print(f"{page.slug}: {state}")
        return 0
    if options.mark:
        for page in PAGES.values():
            if page.path.is_file() and (text := marked(page)) != page.path.read_text(encoding="utf-8"):
                write_text(page.path, text)
        return 0
    if options.page is None or options.data is None:
        parser.error("name a page and the folder of the images: PAGE --data FOLDER")
    try:
        page, data = PAGES[options.page], options.data.absolute()
        print(make(page, data, options.out, options.seeds, options.threads, options.trial))
    except UserError as error:
        print(f"results: {error}", file=sys.stderr)
        return 2
    except Stopped as stop:
        print(f"results: stopped after round {stop.round} and saved; the same command continues", file=sys.stderr)
        return 128 + (stop.signal_number or signal.SIGINT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
