"""Pages of results that were written before: what they found, and whether they are older than the code."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ganatomy.claims.code import claim_digest
from ganatomy.claims.decide import CLAIMS
from ganatomy.claims.reproduction import arms_of
from ganatomy.errors import UserError

CODE = re.compile(r"^\| code \| `([0-9a-f]+)`", re.MULTILINE)
RUNS = re.compile(r"^\| runs of every arm \| (\d+)", re.MULTILINE)
HOURS = re.compile(r"^\| hours of training \| ([\d.]+)", re.MULTILINE)
VERDICT = re.compile(r"^\*\*(?!Claim\.)(.+)\*\*$", re.MULTILINE)
CLAIM = re.compile(r"^\*\*Claim\.\*\* (.+)$", re.MULTILINE)
ARMS = re.compile(r"^\| rounds \| (.+) \|$", re.MULTILINE)


@dataclass(frozen=True)
class Page:
    """A page of results of a claim, as far as it can be read again.

    Attributes:
        slug: slug of the system whose claim was tested.
        path: the page.
        claim: the claim in words.
        arms: names of the compared methods; empty on pages from before they were written there.
        verdict: the verdict as a sentence.
        runs: runs of every arm; None on pages from before they were written there.
        hours: hours of training; None likewise.
        code: digest of the code; None likewise.
    """

    slug: str
    path: Path
    claim: str
    arms: Sequence[str]
    verdict: str
    runs: int | None
    hours: float | None
    code: str | None

    @cached_property
    def stale(self) -> bool:
        """Whether the claim, a method, the judge or the phantom has changed since the page was written."""
        claim = CLAIMS[self.slug]
        return self.code is None or self.code != claim_digest(claim, arms_of(claim, "small"))


def code_of(text: str) -> str | None:
    """Return the digest of the code that a page of results names; None where it names none."""
    found = CODE.search(text)
    return found[1] if found else None


def marked(text: str, mark: str, *, older: bool) -> str:
    """Return the text of a page with a mark below its title if it is older than its code, else without.

    A page without a digest is never marked, since it says itself that it decides nothing.

    Args:
        text: text of the page, with the mark or without.
        mark: paragraph with an empty line behind it.
        older: whether the code has changed since the page was written.
    """
    text = text.replace(mark, "")
    title, gap, rest = text.partition("\n\n")
    return title + gap + (mark if older and code_of(text) else "") + rest


def pages(folder: Path) -> list[Page]:
    """Return the pages of results below a folder, in the order of the claims.

    These are files ``claim-SYSTEM.md``, as in the documentation, and ``SYSTEM/claim.md``, as written by `reproduce`.

    Raises:
        UserError: the folder holds none.
    """
    places = {slug: (folder / f"claim-{slug}.md", folder / slug / "claim.md") for slug in CLAIMS}
    found = [(slug, path) for slug, both in places.items() for path in both if path.is_file()]
    if not found:
        raise UserError(f"{folder}: no results of claims there (claim-SYSTEM.md or SYSTEM/claim.md)")
    return [read_page(slug, path) for slug, path in found]


def read_page(slug: str, path: Path) -> Page:
    """Read a page of results.

    Raises:
        UserError: the page states no claim and verdict.
    """
    text = path.read_text(encoding="utf-8")
    claim, verdict = CLAIM.search(text), VERDICT.search(text)
    if not claim or not verdict:
        raise UserError(f"{path}: not a page of results of a claim")
    runs, hours, arms = (pattern.search(text) for pattern in (RUNS, HOURS, ARMS))
    return Page(
        slug,
        path,
        claim[1],
        [part.partition(":")[0] for part in arms[1].split("; ")] if arms else [],
        verdict[1],
        int(runs[1]) if runs else None,
        float(hours[1]) if hours else None,
        code_of(text),
    )
