"""Whether a failed job is tried again, and when. Pure: how its attempts failed in, a verdict out."""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ugro_py.gang import Outcome

# What the training that UGRO ships, and argparse, exit with on input they refuse: another try would refuse it again.
REFUSED_CODE = 2
LONGEST_WAIT_S = 600.0
# Two attempts that failed alike before their first step are the same failure if neither took longer than this.
EARLY_S = 120.0
# So often in the same way at the same step is enough. A rank that is killed mostly is so from outside (a person, the
# kernel out of memory), and not always for the same reason.
_ENOUGH = {"rank": (2, "twice"), "stalled": (2, "twice"), "killed": (3, "three times")}
_KILLED = (-signal.SIGKILL, -signal.SIGTERM)

_NUMBERS = re.compile(r"0x[0-9a-fA-F]+|\d+")


@dataclass(frozen=True)
class Failed:
    """How one attempt failed.

    `kind` is rank, killed (a rank, by SIGKILL or SIGTERM), refused (its input), port (taken), node (lost), gpu (lost),
    frozen or stalled; `signature` tells failures of one kind apart; `step` is the last one that any rank told of;
    `seconds` is how long the attempt ran.
    """

    attempt: int
    kind: str
    signature: str
    step: int | None = None
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values, to be kept with the job's events."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Failed:
        """Return what `as_dict` gave."""
        return cls(**{name: values[name] for name in cls.__dataclass_fields__ if name in values})


@dataclass(frozen=True)
class Verdict:
    """Whether to try again, after how many seconds, and why not (empty where there is nothing to say)."""

    again: bool
    wait_s: float = 0.0
    why: str = ""


def failed(attempt: int, outcome: Outcome, step: int | None, seconds: float) -> Failed:
    """Return how an attempt failed, from its outcome."""
    failure = outcome.failure
    lines = [line.strip() for line in (failure.last_lines if failure else []) or outcome.last_lines if line.strip()]
    code = failure.exit_code if failure else None
    if any("EADDRINUSE" in line or "address already in use" in line.lower() for line in outcome.last_lines):
        kind = "port"
    elif code == REFUSED_CODE and failure is not None and failure.kind == "rank":
        kind = "refused"
    elif code in _KILLED and failure is not None and failure.kind == "rank":
        kind = "killed"
    else:
        kind = failure.kind if failure else "rank"
    last = _NUMBERS.sub("#", lines[-1])[:200] if lines else ""
    # By a signal: another rank's is another failure.
    whose = f" in rank {failure.rank}" if failure and code is not None and code < 0 else ""
    return Failed(attempt, kind, f"{code}{whose}: {last}", step, round(seconds, 1))


def decide(failures: Sequence[Failed], retry: int, backoff_s: float) -> Verdict:
    """Say whether a job that has just failed is tried again.

    Args:
        failures: how its attempts failed, the newest last; at least one.
        retry: how often it may be tried again (`--retry`).
        backoff_s: the wait before the second retry; it doubles with each further one. The first comes at once.
    """
    last = failures[-1]
    if last.kind == "refused":
        return Verdict(False, why=f"its input was refused (exit code {REFUSED_CODE}): another try would be too")
    ports = [failure for failure in failures if failure.kind == "port"]
    if last.kind == "port" and len(ports) == 1:
        return Verdict(True)  # once, whatever was asked: nothing of the job's own had failed
    counted = len(failures) - bool(ports)
    if counted > retry:
        return Verdict(False, why=f"it was tried again {retry} {'time' if retry == 1 else 'times'}" if retry else "")
    enough, times = _ENOUGH.get(last.kind, (0, ""))
    if enough and len(failures) >= enough and all(_same(one, last) for one in failures[-enough:-1]):
        where = "before its first step" if last.step is None else f"after step {last.step}"
        return Verdict(False, why=f"it failed {times} in the same way {where}")
    wait_s = 0.0 if counted < 2 else min(LONGEST_WAIT_S, backoff_s * 2 ** min(counted - 2, 30))
    return Verdict(True, wait_s)


def _same(one: Failed, other: Failed) -> bool:
    if (one.kind, one.signature, one.step) != (other.kind, other.signature, other.step):
        return False
    return one.step is not None or max(one.seconds, other.seconds) < EARLY_S
