# Copyright (c) 2026 The UGRO developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""What torchrun starts for each rank: puts the rank's output and files in place, then becomes the script.

``python -S rank_exec.py ATTEMPT_DIR PROGRAM [ARG...]``. It replaces itself by execve, so the script runs unmodified
and its process is the one torchrun and the supervisor watch. Run as a script on purpose: no package import, few ms.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys


def take_secrets(rank: str) -> None:
    """Put the job's secrets into this rank's environment and remove the file they came in (secret_files.py)."""
    folder = os.environ.pop("UGRO_SECRETS", None)
    if folder is None:
        return
    import json

    path = os.path.join(folder, rank)
    with open(path, encoding="utf-8") as file:
        values = json.load(file)
    os.unlink(path)
    os.environ.update(values)


def main(argv: list) -> None:
    attempt_dir, program = argv[0], argv[1:]
    rank = os.environ["RANK"]
    # SIGKILL of torchrun must not leave a worker training on as an orphan (prctl PR_SET_PDEATHSIG).
    ctypes.CDLL(None).prctl(1, int(signal.SIGKILL), 0, 0, 0)
    os.environ["UGRO_METRICS_FILE"] = os.path.join(attempt_dir, "metrics", "rank_%s.jsonl" % rank)
    log = os.open(
        os.path.join(attempt_dir, "logs", "rank_%s.log" % rank), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600
    )
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    pid_file = os.path.join(attempt_dir, "pids", rank)
    with open(pid_file + ".new", "w", encoding="ascii") as file:
        file.write(str(os.getpid()))
    os.rename(pid_file + ".new", pid_file)
    take_secrets(rank)
    os.chdir(os.path.join(attempt_dir, "code"))
    os.execvp(program[0], program)


if __name__ == "__main__":
    main(sys.argv[1:])
