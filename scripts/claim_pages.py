"""Keep the results of claims in docs/results: copy new ones, mark those older than the code, and write the table.

python scripts/claim_pages.py                      mark pages that are older than the code, and write claims.md
python scripts/claim_pages.py --from FOLDER        copy the pages of FOLDER/SYSTEM/claim.md first
python scripts/claim_pages.py --check              exit with 1 where a page or the table is out of date
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from ganatomy import catalogue
from ganatomy.claims.decide import CLAIMS
from ganatomy.claims.queue import hours_left, plan
from ganatomy.claims.results import Page, marked, pages
from ganatomy.images.atomic import write_text

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "results"
OLDER = (
    "> The claim, its methods, the judge or the phantom have changed since: these figures must be measured again.\n\n"
)
"""Mark of a page that is older than the code."""


def table(found: list[Page]) -> str:
    """Return the page with a row for every claim."""
    lines = [
        "# Claims of the papers",
        "",
        "One row for each paper, tested on built-in phantoms with `ganatomy reproduce SYSTEM`. *Reproduced* is said of "
        "the sizes, weights and rounds of the paper; *in miniature* means that networks or loss weights are those of "
        "the preset `small`, which each page lists beside the paper's. A verdict needs three seeds of every arm, and "
        "intervals over subjects and over runs that exclude zero: *undecided* is common and no fault.",
        "",
        "| system | claim | arms | verdict | seeds | hours |",
        "|---|---|---|---|---|---|",
    ]
    for page in found:
        title = catalogue.resolve(page.slug).title
        arms = ", ".join(CLAIMS[page.slug].arms)
        verdict = "No verdict: the page is older than the code." if page.code and page.stale else page.verdict
        numbers = f"{page.runs or ''} | {'' if page.hours is None else f'{page.hours:.2f}'}"
        claim = CLAIMS[page.slug].words
        lines.append(f"| [{title}](claim-{page.slug}.md) | {claim} | {arms} | {verdict} | {numbers} |")
    return "\n".join([*lines, "", *_left(found), ""])


def _left(found: list[Page]) -> list[str]:
    """Return sentences on the claims that have no verdict of this code, and on how long they will take."""
    done = {page.slug: page for page in found if not page.stale and (page.runs or 0) >= 3}
    queue = [replace(one, done=done.get(one.slug)) for one in plan(FOLDER, 3, "small")]
    waiting = [one.slug for one in queue if not one.done]
    if not waiting:
        return ["All have a verdict of the present code."]
    told = f"{len(waiting)} of {len(queue)} wait to be run with three seeds, the cheapest first: {', '.join(waiting)}."
    hours = hours_left(queue)
    return [
        told if hours is None else f"{told} Judged by those that are done, this takes {hours:.0f} hours of a thread."
    ]


def main() -> int:
    """Copy, mark and tabulate pages, or check them, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--from", dest="source", type=Path)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    if options.source:
        for page in pages(options.source):
            write_text(FOLDER / f"claim-{page.slug}.md", page.path.read_text(encoding="utf-8"))
    found = pages(FOLDER)
    wanted = {page.path: marked(page.path.read_text(encoding="utf-8"), OLDER, older=page.stale) for page in found}
    out_of_date = [path for path, text in wanted.items() if path.read_text(encoding="utf-8") != text]
    if options.check:
        for path in out_of_date:
            print(f"{path}: older than the code; run python scripts/claim_pages.py", file=sys.stderr)
        return 1 if out_of_date else 0
    for path in out_of_date:
        write_text(path, wanted[path])
    write_text(FOLDER / "claims.md", table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
