"""`ugro --master user@host VERB`: run the verb on the master over SSH, as the account that one is there.

The master's kernel then says who asks, as for anybody who works there. Files of this machine that a job needs are
copied there first.
"""

from __future__ import annotations

import io
import re
import secrets
import signal
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

from ugro_py.errors import NodeError, UsageError
from ugro_py.master_ssh import shell_there, ugro_there

_DESTINATION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(@[A-Za-z0-9_\[][A-Za-z0-9._:%\[\]-]*)?")
_SSH_FAILED = 255
_SENT = ".cache/ugro/sent"
# First what was sent a day ago or earlier goes: a launch has made its own copy within seconds. Only folders that are
# named as ours; what cannot be removed (another launch removes it too) keeps nobody from launching.
_TAKE = (
    f'[ ! -d {_SENT} ] || LC_ALL=C find {_SENT} -mindepth 1 -maxdepth 1 -type d -name "{"[0-9a-f]" * 24}" -mtime +0 '
    '-exec rm -rf -- {} + ; umask 077 && mkdir -p "$1" && exec tar -x -f - -C "$1"'
)


def run(destination: str, arguments: Sequence[str]) -> int:
    """Run a verb of `ugro` on the master; its output, exit code and Ctrl-C are those of this process.

    Raises:
        UsageError: the destination is not valid, or a file is here that cannot be sent.
        NodeError: the master cannot be reached.
    """
    if not _DESTINATION.fullmatch(destination):
        raise UsageError(f"--master {destination!r}", "is not USER@HOST", "name it as for `ssh`")
    if "dashboard" in arguments and "--open" in arguments:
        return _dashboard(destination, list(arguments))
    words = _send_code(destination, list(arguments))
    terminal = all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))
    # With a terminal Ctrl-C goes through it. Without one the verb ends as by Ctrl-C when its input ends.
    front = [] if terminal else ["--until-eof"]
    command = ugro_there(destination, [*front, *words], terminal=terminal)
    process = subprocess.Popen(command, stdin=None if terminal else subprocess.PIPE)

    def hang_up(number: int, frame: object) -> None:
        if process.stdin is not None and not process.stdin.closed:
            process.stdin.close()

    if not terminal:
        # ssh must not see the signal itself: it would leave before the verb has.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, hang_up)
    code = process.wait()
    if code == _SSH_FAILED:
        raise NodeError(f"master {destination}", "ssh could not connect", f"see that `ssh {destination} true` works")
    return code if code >= 0 else 128 - code


def _dashboard(destination: str, arguments: list[str]) -> int:
    """Lead the master's dashboard here: a browser on the master would be of no use."""
    from ugro_py.commands import dashboard

    at = arguments.index("dashboard")
    before, after = arguments[:at], arguments[at + 1 :]
    with dashboard.command.make_context("ugro dashboard", after) as context:
        dashboard.lead_here(destination, before, context.params)
    return 0


def until_eof() -> None:
    """End this process as by Ctrl-C when standard input ends: the other side of an SSH connection has gone."""
    import os
    import threading

    def wait() -> None:
        while os.read(0, 4096):
            pass
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=wait, daemon=True).start()


def _send_code(destination: str, words: list[str]) -> list[str]:
    """Copy the folder of a script that is on this machine to the master; return the arguments for there.

    A script that is not here is taken for one of the master's own.
    """
    if "launch" not in words:
        return words
    ours = words[: words.index("--")] if "--" in words else words
    for option in ("--model", "--dataset", "--resume"):
        value = _value(ours, option)
        if value is not None and value.startswith((".", "/", "~")) and Path(value).expanduser().exists():
            raise UsageError(f"{option} {value}", "is on this machine", f"copy it to {destination} first, with scp")
    script, workdir = _value(ours, "--script"), _value(ours, "--workdir")
    if script is None:
        return words
    folder = Path(workdir).expanduser() if workdir else Path(script).expanduser().parent
    path = Path(script).expanduser() if workdir is None else folder / script
    if not path.is_file():
        return words
    from ugro_py.stage import bundle

    content = bundle(folder.resolve())
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in content.files:
            tar.add(content.root / name, name, recursive=False)
    there = f"{_SENT}/{secrets.token_hex(12)}"  # new each time: nobody removes it as an old one meanwhile
    command = shell_there(destination, _TAKE, [there])
    done = subprocess.run(command, input=stream.getvalue(), capture_output=True, check=False)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise NodeError(f"copy {folder} to {destination}", said[-1] if said else "it failed", "see that `ssh` works")
    relative = str(path.resolve().relative_to(folder.resolve()))
    return _replaced(words, {"--script": f"{there}/{relative}", "--workdir": there})


def _value(words: Sequence[str], option: str) -> str | None:
    """Return the value of an option, given as `--x VALUE` or `--x=VALUE`."""
    for number, word in enumerate(words):
        if word == option and number + 1 < len(words):
            return words[number + 1]
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
    return None


def _replaced(words: list[str], values: dict[str, str]) -> list[str]:
    """Return the arguments with these options instead of those that are there."""
    end = words.index("--") if "--" in words else len(words)
    kept, skip = [], False
    for word in words[:end]:
        if skip:
            skip = False
        elif word in values:
            skip = True
        elif word.partition("=")[0] not in values:
            kept.append(word)
    return [*kept, *(part for pair in values.items() for part in pair), *words[end:]]
