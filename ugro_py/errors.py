"""The exceptions UGRO raises on purpose, and the exit code of each.

Every error carries what was tried, what came back and what to do next, so that the one line a
person sees is enough to act on. `ugro_py.cli.main` turns them into that line and the exit code.
"""

from __future__ import annotations


class UgroError(Exception):
    """Base of all expected errors.

    Args:
        what: what was tried, with the node or file it concerns ("gpu1: open an SSH session").
        came_back: what came back, in one line ("Connection refused").
        next_step: what the user can do ("run `ssh ob@192.168.1.101 true`").
    """

    exit_code = 1

    def __init__(self, what: str, came_back: str = "", next_step: str = "") -> None:
        self.what = what
        self.came_back = came_back
        self.next_step = next_step
        super().__init__(str(self))

    def __str__(self) -> str:
        text = self.what
        if self.came_back:
            text += f": {self.came_back}"
        if self.next_step:
            text += f"; {self.next_step}"
        return " ".join(text.split())


class UsageError(UgroError):
    """The request itself is wrong: a bad name, number, option or combination."""

    exit_code = 2


class InventoryError(UgroError):
    """The inventory cannot be read or is not valid; the text names file and line."""

    exit_code = 3


class NodeError(UgroError):
    """A node cannot be reached or cannot do what is asked of it."""

    exit_code = 4


class VerificationError(UgroError):
    """The nodes answered, but a check found something that would make the launch fail."""

    exit_code = 5


class AllocationError(UgroError):
    """The GPUs asked for are not free or do not exist."""

    exit_code = 6


class JobFailedError(UgroError):
    """The job ran and failed: a rank ended with an error or a node was lost."""

    exit_code = 7


class NotFoundError(UgroError):
    """No job, node or file of that name."""

    exit_code = 8


class StateError(UgroError):
    """The state database or the central store cannot be used."""

    exit_code = 9


class JobStoppedError(UgroError):
    """The job was stopped on request before it ended."""

    exit_code = 10


class RightsError(UgroError):
    """The caller may not do that: the job is somebody else's, it takes an admin, or a quota is used up."""

    exit_code = 11
