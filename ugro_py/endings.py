"""Why a gang is stopped from here: the words that its nodes are told, and by which whoever takes over knows it.

The nodes keep them in their events, so they outlive a controller that is killed in the middle of the stop.
"""

from __future__ import annotations

from dataclasses import dataclass

FAILED = "a rank failed"
"""The gang is stopped because of what happened before: no reason of its own."""

STOPPED = "stop requested"
OUT_OF_TIME = 124
"""What a job that was out of time ends with, as timeout(1) does."""

_HELD, _ROOM = "held by ", "made room for "
_LIMIT, _STALLED = ("its time limit of ", " s was reached"), ("no rank wrote anything for ", " s")


@dataclass(frozen=True)
class Ending:
    """How an attempt ends that was told to: as `gang.Outcome` and `gang.Failure` have it."""

    status: str
    text: str
    exit_code: int = 0
    kind: str = ""


def held(by: str) -> str:
    """Return what the nodes are told when somebody holds the job."""
    return _HELD + by


def made_room(other: str) -> str:
    """Return what they are told when a more urgent job needs the GPUs."""
    return _ROOM + other


def out_of_time(limit_s: float) -> str:
    """Return what they are told at the end of the job's time limit."""
    return f"{_LIMIT[0]}{limit_s:g}{_LIMIT[1]}"


def stalled(timeout_s: float) -> str:
    """Return what they are told when no rank wrote anything for so long."""
    return f"{_STALLED[0]}{timeout_s:g}{_STALLED[1]}"


def ending(told: str) -> Ending | None:
    """Return how the attempt ends whose nodes were told this; None where that was for another reason."""
    if told == STOPPED:
        return Ending("stopped", "stopped on request")
    if told.startswith((_HELD, _ROOM)):
        return Ending("preempted", told)
    if told.startswith(_LIMIT[0]) and told.endswith(_LIMIT[1]):
        return Ending("failed", told, OUT_OF_TIME)
    if told.startswith(_STALLED[0]) and told.endswith(_STALLED[1]):
        return Ending("failed", told, 1, "stalled")
    return None
