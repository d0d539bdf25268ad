"""The HTTP status that goes with each kind of error: the API's answers and the dashboard's forms have the same."""

from __future__ import annotations

from collections.abc import Mapping

from ugro_py import errors
from ugro_py.names import NameTakenError


class TooMuchError(errors.UsageError):
    """More was sent than is taken."""


class NoRoomError(errors.StateError):
    """The disk of the central store would be too full with what is sent."""


# The first that an error is one of counts.
_STATUS: Mapping[type[errors.UgroError], int] = {
    NameTakenError: 409,
    TooMuchError: 413,
    NoRoomError: 507,
    errors.UsageError: 400,
    errors.RightsError: 403,
    errors.NotFoundError: 404,
    errors.VerificationError: 409,
    errors.AllocationError: 409,
    errors.JobFailedError: 409,
    errors.JobStoppedError: 409,
    errors.NodeError: 502,
    errors.StateError: 503,
}


def status_of(error: errors.UgroError) -> int:
    """Return the status of the answer that tells of an error; 500 for one that is none of the caller's."""
    return next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 500)
