"""`python -m ugro_py.controller JOB`: follow a job in the background, after `ugro launch` detached or was killed."""

from __future__ import annotations

import signal
import sys

from ugro_py import secret_env
from ugro_py.errors import UgroError
from ugro_py.takeover import adopt_now


def main(job: str) -> int:
    """Take the job over and stay with it. Returns the exit code: 0, or 1 where the job failed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        if not sys.stdin.isatty():
            secret_env.from_pipe(job, sys.stdin.buffer.read())
        outcome = adopt_now(job)
    except UgroError as error:
        print(f"ugro: {error}", file=sys.stderr, flush=True)  # noqa: T201  this is the controller's log
        return error.exit_code
    return 1 if outcome is not None and outcome.status == "failed" else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
