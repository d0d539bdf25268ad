# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Looks at a node's clock and name. Read from stdin, prints JSON. Standard library only, Python 3.9+."""

import ipaddress
import json
import os
import shutil
import socket
import subprocess
import sys


def said(*argv):
    """Return what a program prints, or None if it is not there or fails."""
    program = shutil.which(argv[0])
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, *argv[1:]], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else None


def resolves(name):
    try:
        return bool(socket.getaddrinfo(name, None))
    except OSError:
        return False


def literal(address):
    """Return the address if it is one; a name would be no entry for /etc/hosts."""
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        return None


name = socket.gethostname()
print(
    json.dumps(
        {
            "root": os.geteuid() == 0,
            "hostname": name,
            "resolves": resolves(name),
            "address": literal(sys.argv[1]),
            # The clock of a container is that of the machine below it.
            "container": said("systemd-detect-virt", "--container") is not None,
            "ntp": said("timedatectl", "show", "--property=NTP", "--value") == "yes",
            "can_ntp": said("timedatectl", "show", "--property=CanNTP", "--value") == "yes",
        }
    )
)
