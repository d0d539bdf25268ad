"""Runs other verbs of `ugro` beside the screen: what a key does is what the command does, with the same rights."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import suppress

_BLOCK = 1 << 16
_GRACE_S = 2.0
# -P: modules are UGRO's and the standard library's, never those of the folder it was started in.
_UGRO = [sys.executable, "-P", "-m", "ugro_py"]


def command(inventory: str | None, *words: str) -> list[str]:
    """Return the command line of a verb of `ugro` under this Python.

    Args:
        inventory: as the user gave it with `-i`.
        words: the verb and its arguments.
    """
    given = ["-i", inventory] if inventory else []
    return [*_UGRO, *given, *words]


async def run(line: list[str]) -> tuple[int, str]:
    """Run a command to its end, also beyond that of this process; return its exit code and the last line it said."""
    process = await _start(line, asyncio.subprocess.DEVNULL, asyncio.subprocess.STDOUT)
    out, _ = await process.communicate()
    said = out.decode(errors="replace").strip().splitlines()
    assert process.returncode is not None
    return process.returncode, said[-1] if said else ""


async def lines(line: list[str]) -> AsyncIterator[bytes]:
    """Yield the lines that a command writes, of any length, as they come; end it when nobody takes them any more.

    What it says on standard error comes as its last lines.
    """
    # However this process ends, the other one's input ends then too.
    line = [*line[: len(_UGRO)], "--until-eof", *line[len(_UGRO) :]]
    process = await _start(line, asyncio.subprocess.PIPE, asyncio.subprocess.PIPE)
    assert process.stdout and process.stderr
    try:
        parts: list[bytes] = []  # of a line without an end yet
        while block := await process.stdout.read(_BLOCK):
            first, *others = block.split(b"\n")
            parts.append(first)
            for following in others:
                yield b"".join(parts)
                parts = [following]
        for found in [b"".join(parts), *(await process.stderr.read()).split(b"\n")]:
            if found:
                yield found
    finally:
        await _end(process)


async def _start(line: list[str], stdin: int, errors: int) -> asyncio.subprocess.Process:
    # In a session of its own: Ctrl-C is for the screen.
    return await asyncio.create_subprocess_exec(
        *line, stdin=stdin, stdout=asyncio.subprocess.PIPE, stderr=errors, start_new_session=True
    )


async def _end(process: asyncio.subprocess.Process) -> None:
    """End a process, and let go of its pipes: those that outlive the loop complain of it when they are thrown away."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.terminate()
    try:
        # To the end of what it said: a pipe that is still full is never let go of.
        await asyncio.wait_for(process.communicate(), _GRACE_S)
    except (TimeoutError, asyncio.CancelledError) as broken_off:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()
        if isinstance(broken_off, asyncio.CancelledError):  # the screen is left at once: nothing may be left of it
            raise
