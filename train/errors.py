"""The one exception for what a person can put right: wrong names, missing files, full disks."""

from __future__ import annotations


class TrainingError(Exception):
    """One line: what was tried, what came back, what to do next.

    `exit_code` is 2 for a wrong option, model or data set, and 1 for what went wrong on the way.
    """

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(" ".join(message.split()))
        self.exit_code = exit_code


class WrongInput(TrainingError):
    """An option, a model or a data set that cannot be used."""

    def __init__(self, message: str) -> None:
        super().__init__(message, exit_code=2)
