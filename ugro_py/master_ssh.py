"""The command lines that run something on the master over SSH, for `ugro --master USER@HOST VERB`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

# A login shell, because that has the PATH on which people install `ugro`.
_UGRO = 'exec ugro "$@"'


def ugro_there(destination: str, arguments: Sequence[str], *, terminal: bool = False) -> list[str]:
    """Return the command that runs `ugro` with these arguments on the master, with a terminal or without one."""
    return shell_there(destination, _UGRO, arguments, terminal=terminal)


def shell_there(destination: str, script: str, words: Sequence[str], *, terminal: bool = False) -> list[str]:
    """Return the command that runs `script` there with `words` as its arguments, each quoted for the shell."""
    line = shlex.join(["sh", "-lc", script, "ugro", *words])
    # A process group of its own without a terminal: Ctrl-C here is told to the verb, not to ssh.
    alone = [] if terminal else ["setsid", "-w"]
    return [*alone, "ssh", *(["-t"] if terminal else []), "--", destination, line]
