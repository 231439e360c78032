"""Keyed pseudonyms of subjects, equal in all runs of one user, which cannot be reversed without the secret.

Names and numbers of patients, and paths that contain them, are written to no run folder and no report. A run records
for every subject an HMAC-SHA256 under a secret that each user has once, outside of all runs, and the fingerprint of
that secret. With the secret it can be checked later whether a case was used for training; without it, a list of
candidate names does not help.
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

from ganatomy.case import Case, Sample, Split
from ganatomy.data.folders import config_folder
from ganatomy.errors import UserError
from ganatomy.images.archives import shown

SECRET_NAME = "secret"
FEWEST_BYTES = 16
"""Smallest length in bytes of a secret that the user provides."""
DIGITS = 32
"""Hexadecimal digits of a pseudonym; with 128 bits, no two patients collide by chance."""
DIGITS_OF_CONTENT = 16
"""Hexadecimal digits of a keyed digest of content, which is only compared with that of the same case."""
SHOWN, SHOWN_OF_CASE, SHOWN_OF_SITE = 8, 4, 4
"""Hexadecimal digits of shortened pseudonyms of subjects, cases and sites; more are used where these are not unique."""
SHORTEST_NAME = 3
"""Smallest length of names that are replaced in texts; shorter ones are mostly numbers of slices."""
PATH = re.compile(r"(?<!\w)(?:[A-Za-z]:)?[/\\][^\s'\":;,()]+")
"""Regular expression of absolute paths in messages."""


@dataclass(frozen=True)
class Pseudonyms:
    """Pseudonyms of subjects and cases under one secret.

    Attributes:
        secret: at least 16 bytes that nobody else knows.
    """

    secret: bytes = field(repr=False)

    @classmethod
    def of_user(cls, path: Path | None = None) -> Pseudonyms:
        """Return the pseudonyms under the secret of the user, or under that in a file.

        Args:
            path: file with a secret; None means the user's own secret, which is created where it does not exist yet.

        Raises:
            UserError: the file does not exist or is too short, or there is no place for a secret.
        """
        return cls(_given(path) if path else _own(config_folder() / SECRET_NAME))

    @classmethod
    def passing(cls) -> Pseudonyms:
        """Return pseudonyms under a random secret that is not kept, for use without a home folder."""
        return cls(os.urandom(32))

    @property
    def fingerprint(self) -> str:
        """Digest that identifies the secret without revealing it, 16 hexadecimal digits."""
        return self._digest("fingerprint", "")[:16]

    def subject(self, name: str) -> str:
        """Return the pseudonym of a subject, 32 hexadecimal digits."""
        return self._digest("subject", name)[:DIGITS]

    def case(self, name: str) -> str:
        """Return the pseudonym of a case, 32 hexadecimal digits."""
        return self._digest("case", name)[:DIGITS]

    def site(self, name: str) -> str:
        """Return the pseudonym of a site, 32 hexadecimal digits; its name may be that of a hospital."""
        return self._digest("site", name)[:DIGITS]

    def content(self, digest: str) -> str:
        """Return the keyed form of a digest of content, 16 hexadecimal digits, in which known files cannot be found."""
        return self._digest("content", digest)[:DIGITS_OF_CONTENT]

    def _digest(self, kind: str, name: str) -> str:
        return hmac.new(self.secret, f"{kind}\0{name}".encode(errors="surrogateescape"), sha256).hexdigest()

    def named(self, wanted: Iterable[str], subjects: Iterable[str]) -> tuple[str, ...]:
        """Return the names of subjects that are given by name or by a pseudonym of at least 8 digits.

        Args:
            wanted: names or pseudonyms; those that fit no subject are returned unchanged.
            subjects: names of all subjects.

        Raises:
            UserError: a shortened pseudonym fits several subjects.
        """
        return self._named(wanted, {self.subject(name): name for name in sorted(set(subjects))}, "subjects")

    def named_sites(self, wanted: Iterable[str], sites: Iterable[str | None]) -> tuple[str, ...]:
        """Return the names of sites that are given by name or by a pseudonym, as `named` does for subjects.

        Raises:
            UserError: a shortened pseudonym fits several sites.
        """
        return self._named(wanted, {self.site(name): name for name in sorted(set(filter(None, sites)))}, "sites")

    def sites_by_side(self, cases: Iterable[Case]) -> dict[Split, tuple[str, ...]]:
        """Return side of the split to sorted pseudonyms of the sites of its cases; empty where no site is known."""
        found: dict[Split, set[str]] = {}
        for case in cases:
            if case.site:
                found.setdefault(case.split, set()).add(self.site(case.site))
        return {side: tuple(sorted(found[side])) for side in sorted(found)}

    @staticmethod
    def _named(wanted: Iterable[str], by_pseudonym: Mapping[str, str], what: str) -> tuple[str, ...]:
        names = set(by_pseudonym.values())
        found = []
        for one in wanted:
            meant = [name for full, name in by_pseudonym.items() if len(one) >= SHOWN and full.startswith(one)]
            if one not in names and len(meant) > 1:
                raise UserError(f"{one}: is short for {len(meant)} {what}; give more digits")
            found.append(one if one in names or not meant else meant[0])
        return tuple(found)


def _own(path: Path) -> bytes:
    """Return the user's secret, created where it does not exist; one of several processes creates it, all read it."""
    try:
        if not path.is_file():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _make(path)
        return _checked(path.read_bytes(), path)
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror}; this secret makes pseudonyms of subjects: give another with --secret FILE"
        ) from None


def _make(path: Path) -> None:
    work = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(work, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            stream.write(os.urandom(32).hex() + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        try:
            os.link(work, path)  # fails where another process was first, so that all processes use one secret
        except FileExistsError:
            return
        except OSError:  # the file system has no hard links
            work.replace(path)
    finally:
        work.unlink(missing_ok=True)


def _given(path: Path) -> bytes:
    try:
        return _checked(path.read_bytes(), path)
    except OSError as error:
        raise UserError(
            f"--secret {path}: {error.strerror}; give the file of the user who trained, or make one of 64 random "
            "hexadecimal digits and keep it"
        ) from None


def _checked(content: bytes, path: Path) -> bytes:
    secret = content.strip()
    if len(secret) < FEWEST_BYTES:
        raise UserError(f"{path}: a secret has at least {FEWEST_BYTES} bytes, this one has {len(secret)}; restore it")
    return secret


def shortened(pseudonyms: Iterable[str], digits: int = SHOWN) -> dict[str, str]:
    """Return pseudonyms to their first digits, as many as are needed to distinguish them."""
    unique = sorted(set(pseudonyms))
    while len({full[:digits] for full in unique}) < len(unique):
        digits += 1
    return {full: full[:digits] for full in unique}


class Labels:
    """Names of subjects and cases for reports: shortened pseudonyms, or real names where these are asked for.

    The label of a subject is 8 digits of its pseudonym, that of a case these and 4 digits of its own, that of a site 4
    digits of its pseudonym; labels are equal in all reports of one user. Messages that name files name the
    case instead.

    Args:
        cases: cases that may be named.
        pseudonyms: pseudonyms of the user.
        names: whether real names are written.
    """

    def __init__(self, cases: Iterable[Case], pseudonyms: Pseudonyms, names: bool = False):
        cases = list(cases)
        self.names = names
        own: dict[str, dict[str, str]] = {}
        for case in cases:
            own.setdefault(case.subject, {})[case.name] = case.name if names else pseudonyms.case(case.name)
        full = {subject: subject if names else pseudonyms.subject(subject) for subject in own}
        short = {one: one for one in full.values()} if names else shortened(full.values())
        self.subjects: Mapping[str, str] = {subject: short[one] for subject, one in full.items()}
        self.cases: Mapping[str, str] = {
            name: label for subject in own for name, label in self._called(subject, own[subject]).items()
        }

        sites = {case.site for case in cases if case.site}
        hidden = {site: site if names else pseudonyms.site(site) for site in sorted(sites)}
        given = {one: one for one in hidden.values()} if names else shortened(hidden.values(), SHOWN_OF_SITE)
        self.sites: Mapping[str, str] = {site: given[one] for site, one in hidden.items()}

    def _called(self, subject: str, own: Mapping[str, str]) -> dict[str, str]:
        """Return the labels of the cases of a subject, by name."""
        if self.names:
            return dict(own)
        short = shortened(own.values(), SHOWN_OF_CASE)
        return {name: f"{self.subjects[subject]}-{short[full]}" for name, full in own.items()}

    def sample(self, sample: Sample) -> Sample:
        """Return a prepared sample under its label; earlier, its real name is needed as the seed of the simulation."""
        case = sample.case
        site = self.sites[case.site] if case.site else None
        named = replace(case, name=self.cases[case.name], subject=self.subjects[case.subject], site=site)
        return replace(sample, case=named)

    def told(self, message: str, case: Case) -> str:
        """Return a message about a case without its subject, its name, its files and other paths, after its label."""
        return f"{self.cases[case.name]}: {message if self.names else self.hidden(message, case)}"

    @staticmethod
    def hidden(message: str, case: Case) -> str:
        """Return a message about a case without its subject, its name, its files and other paths."""
        paths = [one for source in case.sources.values() for path in source.paths for one in {path, shown(path)}]
        known = {name for path in paths for name in (str(path), str(path.parent), path.name, path.stem)}
        return PATH.sub("its file", _without(message, {*known, case.name, case.subject} - {"."}, "its file"))

    def place(self, text: str) -> str:
        """Return the location of images without the names of subjects and sites in it."""
        if self.names:
            return text
        for name, label in (*self.subjects.items(), *self.sites.items()):
            text = _without(text, {name}, label)
        return text


def _without(text: str, names: Iterable[str], instead: str) -> str:
    for name in sorted(names, key=len, reverse=True):
        if len(name) >= SHORTEST_NAME and name in text:
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", lambda match: instead, text)
    return text
