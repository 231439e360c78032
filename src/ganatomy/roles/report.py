"""Reports of points as DICOM files, which are an output only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ganatomy.case import Array, Openable, Role
from ganatomy.errors import UserError
from ganatomy.images.dicom_out import Derivation
from ganatomy.images.dicom_sr import PointReport, write_report
from ganatomy.images.frames import Frame


@dataclass(frozen=True)
class ReportRole(Role):
    """Role of a DICOM structured report of points; values are `PointReport`."""

    kind: ClassVar[str] = "report"
    on_grid: ClassVar[bool] = False
    suffix: ClassVar[str | None] = ".dcm"

    def source(self, text: str, folder: Path, read: Callable[[Path], Openable]) -> Openable:
        """Raise a UserError, since reports are no inputs."""
        raise UserError(f"{text}: reports cannot be given; give points as CSV or JSON")

    def check(self, value: Any) -> None:
        """Refuse values that are no reports."""
        if not isinstance(value, PointReport):
            raise UserError(f"{self.name} {value!r} is no report of points")

    def array(self, value: Any, frame: Frame | None) -> Array:
        """Raise a ValueError, since reports are not prepared."""
        raise ValueError(f"{self.name} is a report, which is not prepared")

    def value(self, array: Array, frame: Frame | None, like: Any) -> PointReport:
        """Raise a ValueError, since reports are made by predictors."""
        raise ValueError(f"{self.name} is a report, which a predictor makes of points")

    def write(self, path: Path, value: Any, derivation: Any = None) -> None:
        """Write a DICOM file by the template TID 1500."""
        write_report(path, value, derivation or Derivation("Written by Ganatomy", "", "", "", ""))
