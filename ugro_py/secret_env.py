"""Values of `--secret-env`: kept in the memory of the process that controls the job, and nowhere else.

A request holds the names alone. The values go from here over a node's session into a file on its tmpfs, which the
ranks' starter reads and removes (`module_utils/secret_files.py`). A process that takes a job over gets them through a
pipe, or has none: then the job needs them again from its owner (`ugro resume JOB --secret-env NAME`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence

from ugro_py.errors import UsageError

_LONGEST = 1 << 20
_kept: dict[str, dict[str, str]] = {}


class SecretsLostError(UsageError):
    """The process that held a job's secrets has ended; its owner has to give them again."""


def from_environment(names: Sequence[str], environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the values of the named variables of the caller's environment.

    Raises:
        UsageError: one is not set there, or cannot be a value.
    """
    here = os.environ if environment is None else environment
    for name in names:
        if name not in here:
            raise UsageError(f"--secret-env {name}", "is not set in your environment", f"run `export {name}` first")
        if "\0" in here[name] or len(here[name]) > _LONGEST:
            raise UsageError(f"--secret-env {name}", "cannot be a variable's value", "at most 1 MiB, no NUL byte")
    return {name: here[name] for name in names}


def keep(job: str, values: Mapping[str, str]) -> None:
    """Keep a job's secrets in this process until `forget`."""
    if values:
        _kept[job] = dict(values)


def of(job: str, names: Sequence[str]) -> dict[str, str]:
    """Return the values of a job's secrets.

    Raises:
        SecretsLostError: this process does not have one of them.
    """
    have = _kept.get(job, {})
    missing = [name for name in names if name not in have]
    if missing:
        words = " --secret-env ".join(names)
        raise SecretsLostError(
            f"secrets of job {job}", f"{', '.join(missing)} ended with the process that held them",
            f"give them again: `ugro resume {job} --secret-env {words}`",
        )  # fmt: skip
    return {name: have[name] for name in names}


def forget(job: str) -> None:
    """Drop a job's secrets: it has ended, or another process has them."""
    _kept.pop(job, None)


def to_pipe(job: str) -> bytes:
    """Return what the process that takes the job over reads on its standard input."""
    return json.dumps(_kept.get(job, {})).encode()


def from_pipe(job: str, data: bytes) -> None:
    """Keep what `to_pipe` gave; no data means that there are none.

    Raises:
        UsageError: it is something else.
    """
    try:
        values = json.loads(data or b"{}")
    except ValueError as error:
        raise UsageError(f"secrets of job {job}", "cannot be read", "give them again") from error
    keep(job, {str(name): str(value) for name, value in values.items()})
