"""The one rule for names of jobs and nodes."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from ugro_py.errors import UsageError

NAME_PATTERN = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


class NameTakenError(UsageError):
    """The name is another job's."""


def check_name(name: str, kind: str = "job") -> str:
    """Return `name` unchanged if it is a valid name.

    The pattern leaves no room for path separators, shell or Jinja syntax, options (`-o…`), upper case
    (two names that differ only in case are one folder on some file systems) or anything but ASCII.

    Raises:
        UsageError: the name does not match `NAME_PATTERN`.
    """
    if not NAME_PATTERN.fullmatch(name) or ".." in name:
        shown = name if len(name) <= 70 else name[:67] + "..."
        raise UsageError(
            f"{kind} name {shown!r}",
            "is not a valid name",
            "use 1 to 63 of a-z 0-9 . _ - and start with a letter or a digit",
        )
    return name


def new_job_name(now: datetime | None = None) -> str:
    """Return the default name of a job, `job_YYYYmmdd_HHMMSS` in UTC as in the seed."""
    return (now or datetime.now(UTC)).strftime("job_%Y%m%d_%H%M%S")
