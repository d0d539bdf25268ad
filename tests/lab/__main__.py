# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The lab for people: `python -m tests.lab up 3`, `ls`, `inventory`, `ssh gpu1`, `down`."""

from __future__ import annotations

import argparse
import os
import sys

from tests.lab.able import skip_reason
from tests.lab.lab import Lab, labs


def main(argv: list[str] | None = None) -> int:
    """Run one command of the lab and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="boot N hosts that stay until `down`")
    up.add_argument("n", type=int, nargs="?", default=3)
    up.add_argument("--users", default="root", help="root, mixed, or names separated by commas")
    up.add_argument("--port", type=int, action="append", default=[], help="SSH port of the next host")
    for name, text in (("down", "remove labs"), ("ls", "list hosts"), ("inventory", "print its path")):
        command = commands.add_parser(name, help=text)
        command.add_argument("--lab", type=int, help="number of the lab [default: all, or the newest]")
    ssh = commands.add_parser("ssh", help="log in to a host, or run a command there")
    ssh.add_argument("--lab", type=int)
    ssh.add_argument("host")
    ssh.add_argument("argv", nargs=argparse.REMAINDER)
    options = parser.parse_args(argv)

    if options.command == "up":
        reason = skip_reason()
        if reason:
            print(reason, file=sys.stderr)
            return 1
        users = options.users if options.users in ("root", "mixed") else options.users.split(",")
        lab = Lab.up(options.n, users=users, ports=options.port, persistent=True)
        _list([lab])
        print(f"\nugro -i {lab.inventory_file()} check")
        return 0

    chosen = [lab for lab in labs() if options.lab in (None, lab.number)]
    if not chosen:
        print("no lab is up", file=sys.stderr)
        return 1
    if options.command == "ls":
        _list(chosen)
    elif options.command == "inventory":
        print(chosen[-1].inventory_file())
    elif options.command == "down":
        for lab in chosen:
            if options.lab is not None or lab.owner is None:
                lab.down()
    else:
        host = chosen[-1].host(options.host)
        command = [*host.ssh_command(), *options.argv]
        os.execvp(command[0], command)
    return 0


def _list(chosen: list[Lab]) -> None:
    for lab in chosen:
        for host in lab.hosts:
            state = "on" if host.is_on() else "off"
            print(f"{lab.number}  {host.name:<11} {host.user}@{host.address}:{host.port}  {state}")


if __name__ == "__main__":
    sys.exit(main())
