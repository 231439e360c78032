"""Keyed pseudonyms of subjects: the same in all runs of one user, and reversible by nobody without the secret.

Patients' names, numbers and the paths that hold them stand in no run folder and in no report. A run records of every
subject an HMAC-SHA256 under a secret that each user has once, outside of all runs, and the fingerprint of that secret.
Who has it can tell later whether a case was trained on; a list of candidate names is of no use to anybody else.
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

from ganatomy.case import Case, Sample
from ganatomy.data.folders import config_folder
from ganatomy.errors import UserError

SECRET_NAME = "secret"
FEWEST_BYTES = 16
"""Of a secret that somebody brings."""
DIGITS = 32
"""Hexadecimal digits of a pseudonym, 128 bits: no two of any number of patients agree by chance."""
SHOWN, SHOWN_OF_CASE = 8, 4
"""Hexadecimal digits that people read, more where these are not unique."""
SHORTEST_NAME = 3
"""Characters of a name that is looked for in texts; shorter ones are mostly numbers of slices."""
PATH = re.compile(r"(?<!\w)(?:[A-Za-z]:)?[/\\][^\s'\":;,()]+")
"""Absolute paths in messages."""


@dataclass(frozen=True)
class Pseudonyms:
    """Pseudonyms of subjects and cases under one secret.

    Attributes:
        secret: at least 16 bytes that nobody else knows.
    """

    secret: bytes = field(repr=False)

    @classmethod
    def of_user(cls, path: Path | None = None) -> Pseudonyms:
        """Those of the user, or of the secret in a file.

        Args:
            path: file with a secret; None means the user's own, which is made where there is none yet.

        Raises:
            UserError: no such file, one that is too short, or no place for a secret.
        """
        return cls(_given(path) if path else _own(config_folder() / SECRET_NAME))

    @classmethod
    def passing(cls) -> Pseudonyms:
        """Pseudonyms under a secret that is forgotten, for those who have no place for one."""
        return cls(os.urandom(32))

    @property
    def fingerprint(self) -> str:
        """What tells this secret from others without giving it away, 16 hexadecimal digits."""
        return self._digest("fingerprint", "")[:16]

    def subject(self, name: str) -> str:
        """The pseudonym of a subject, 32 hexadecimal digits."""
        return self._digest("subject", name)[:DIGITS]

    def case(self, name: str) -> str:
        """The pseudonym of a case, 32 hexadecimal digits."""
        return self._digest("case", name)[:DIGITS]

    def _digest(self, kind: str, name: str) -> str:
        return hmac.new(self.secret, f"{kind}\0{name}".encode(errors="surrogateescape"), sha256).hexdigest()

    def named(self, wanted: Iterable[str], subjects: Iterable[str]) -> tuple[str, ...]:
        """Subjects by their names, where they are called by their names or by pseudonyms of at least 8 digits.

        Args:
            wanted: names or pseudonyms; those that fit no subject are given back as they are.
            subjects: names of all.

        Raises:
            UserError: a shortened pseudonym fits several subjects.
        """
        names = set(subjects)
        by_pseudonym = {self.subject(name): name for name in sorted(names)}
        found = []
        for one in wanted:
            meant = [name for full, name in by_pseudonym.items() if len(one) >= SHOWN and full.startswith(one)]
            if one not in names and len(meant) > 1:
                raise UserError(f"{one}: is short for {len(meant)} subjects; give more digits")
            found.append(one if one in names or not meant else meant[0])
        return tuple(found)


def _own(path: Path) -> bytes:
    """The user's secret, made where there is none; of several processes at once, one makes it and all read it."""
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
            os.link(work, path)  # fails where another process was first, so that there is one secret for good
        except FileExistsError:
            return
        except OSError:  # file systems without hard links
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
    """Pseudonyms to their first digits, as many as it takes to tell them apart."""
    unique = sorted(set(pseudonyms))
    while len({full[:digits] for full in unique}) < len(unique):
        digits += 1
    return {full: full[:digits] for full in unique}


class Labels:
    """Names of subjects and cases in what is written: shortened pseudonyms, unless real names are asked for.

    A subject is called by 8 digits of its pseudonym, and a case by these and 4 digits of its own, the same in all
    reports of one user. Messages that name files name the case instead.

    Args:
        cases: that may be named.
        pseudonyms: of the user.
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

    def _called(self, subject: str, own: Mapping[str, str]) -> dict[str, str]:
        """Labels of the cases of a subject, by name."""
        if self.names:
            return dict(own)
        short = shortened(own.values(), SHOWN_OF_CASE)
        return {name: f"{self.subjects[subject]}-{short[full]}" for name, full in own.items()}

    def sample(self, sample: Sample) -> Sample:
        """A sample under its label, once it is prepared: its real name seeds what is simulated."""
        case = sample.case
        return replace(sample, case=replace(case, name=self.cases[case.name], subject=self.subjects[case.subject]))

    def told(self, message: str, case: Case) -> str:
        """A message about a case without what names it: its subject, its name, its files and other paths."""
        if self.names:
            return f"{case.name}: {message}"
        label = self.cases[case.name]
        paths = [path for source in case.sources.values() for path in source.paths]
        known = {name for path in paths for name in (str(path), str(path.parent), path.name, path.stem)}
        hidden = _without(message, {*known, case.name, case.subject} - {"."}, "its file")
        return f"{label}: {PATH.sub('its file', hidden)}"

    def place(self, text: str) -> str:
        """Where images come from, without names of subjects in it."""
        if self.names:
            return text
        for name, label in self.subjects.items():
            text = _without(text, {name}, label)
        return text


def _without(text: str, names: Iterable[str], instead: str) -> str:
    for name in sorted(names, key=len, reverse=True):
        if len(name) >= SHORTEST_NAME and name in text:
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", lambda match: instead, text)
    return text
