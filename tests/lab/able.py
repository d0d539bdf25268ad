# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Whether this machine can hold a lab, and if not, what it lacks."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

PROGRAMS = ("systemd-nspawn", "sshd", "ssh", "ssh-keygen", "ip", "unshare", "nsenter", "mount", "dbus-daemon")

# Tries in throw-away namespaces exactly what a lab needs of the kernel.
_PROBE = """
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work overlay /mnt/root
ip link add ugroprobe type bridge
ip link add ugroprobe1 type veth peer name ugroprobe2
"""


@functools.cache
def skip_reason() -> str | None:
    """Return why the lab cannot run on this machine, or None if it can."""
    if sys.platform != "linux":
        return "the lab needs Linux"
    if os.geteuid() != 0:
        return "the lab needs root"
    missing = [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]
    if not Path("/lib/systemd/systemd").exists():
        missing.append("systemd")
    if missing:
        return f"the lab needs {', '.join(missing)} (Debian: systemd-container openssh-server iproute2 dbus)"
    probe = subprocess.run(
        ["unshare", "--mount", "--net", "--propagation", "private", "sh", "-ec", _PROBE],
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": _path()},
    )
    if probe.returncode:
        return f"the lab may not mount overlays or make networks here: {probe.stderr.strip()}"
    return None


def raise_inotify(n: int) -> None:
    """Each host's systemd takes a dozen inotify instances of the one limit that the hosts of all labs share.

    A host that gets none boots, but for ever; the margin is for labs that are just being made.
    """
    limit = Path("/proc/sys/fs/inotify/max_user_instances")
    wanted = 128 + 16 * n
    if int(limit.read_text()) < wanted:
        limit.write_text(f"{wanted}\n")


def _path() -> str:
    return os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
