# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""The disk of a lab host: the few files that differ from the machine below it.

A host's root is an overlay: `/` of this machine below, a folder on tmpfs above. This module fills
that upper folder before the first boot; nothing on the machine itself is written.
"""

from __future__ import annotations

import os
import subprocess
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

USERS = {"ob": 1001, "ollie": 1002}
"""The non-root accounts every host has, with their user ids."""

# What a host starts. The machine below may have anything enabled (databases, timers, agents); a host
# of the lab boots only what a training node needs, which also makes it quick.
TARGET = """[Unit]
Description=Lab host
Requires=basic.target
Wants=lab-network.service lab-ssh.service dbus.service systemd-logind.service systemd-user-sessions.service
After=basic.target lab-network.service lab-ssh.service
AllowIsolate=yes
"""

# One process: between two of them systemd may drop the unit's cgroup (version 1), and the second then fails.
NETWORK = """[Unit]
Description=Address of the lab network
DefaultDependencies=no
Before=lab-ssh.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -ec "ip link set lo up; ip addr replace {address}/24 dev host0; ip link set host0 up"
"""

SSH = """[Unit]
Description=SSH server
After=lab-network.service systemd-user-sessions.service dbus.socket
[Service]
ExecStart=/usr/sbin/sshd -D -f /etc/ssh/lab_sshd_config
KillMode=process
RuntimeDirectory=sshd
RuntimeDirectoryMode=0755
Restart=on-failure
"""

SSHD_CONFIG = """Port {port}
HostKey /etc/ssh/lab_host_key
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM yes
UseDNS no
PrintMotd no
PrintLastLog no
AuthorizedKeysFile .ssh/authorized_keys
MaxStartups 200
MaxSessions 200
AcceptEnv LANG LC_*
Subsystem sftp internal-sftp
"""

# Login as on a real machine (a logind session, so that user units work), without motd and mail.
PAM = """account required pam_nologin.so
account required pam_unix.so
session required pam_loginuid.so
session required pam_limits.so
session required pam_unix.so
session optional pam_systemd.so
"""

NSSWITCH = """passwd: files systemd
group: files systemd
shadow: files
hosts: files
services: files
protocols: files
networks: files
"""

# Units of a usual installation that only cost time here or reach outside the host.
MASKED = (
    "apt-daily.timer",
    "ldconfig.service",
    "networking.service",
    "systemd-binfmt.service",
    "systemd-firstboot.service",
    "systemd-hwdb-update.service",
    "systemd-journal-catalog-update.service",
    "systemd-machine-id-commit.service",
    "systemd-modules-load.service",
    "systemd-networkd.service",
    "systemd-networkd.socket",
    "systemd-pcrphase.service",
    "systemd-pcrphase-sysinit.service",
    "systemd-pstore.service",
    "systemd-random-seed.service",
    "systemd-repart.service",
    "systemd-resolved.service",
    "systemd-sysctl.service",
    "systemd-sysusers.service",
    "systemd-timesyncd.service",
    "systemd-udevd.service",
    "systemd-update-done.service",
    "systemd-update-utmp.service",
    "dev-hugepages.mount",
    "proc-sys-fs-binfmt_misc.automount",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
)


@dataclass(frozen=True)
class Identity:
    """What makes one host different from the others."""

    name: str
    address: str
    port: int
    lab: int


def write_upper(upper: Path, identity: Identity, hosts_file: str, public_key: str, traversable: list[Path]) -> str:
    """Fill the upper folder of a host and return its SSH host key (`ssh-ed25519 AAAA…`).

    Args:
        upper: an empty folder on a file system that takes `trusted.` extended attributes (tmpfs).
        hosts_file: the text of `/etc/hosts`, the same on every host of a lab.
        public_key: the key every account of the host accepts.
        traversable: folders that other users must be able to pass through (the way to the shared venv).
    """
    upper.chmod(0o755)
    for folder in (Path("/root"), Path("/home")):
        _own(upper, folder)
    _accounts(upper, public_key)
    etc = upper / "etc"
    _write(etc / "hostname", identity.name + "\n")
    _write(etc / "hosts", hosts_file)
    _write(etc / "machine-id", uuid.uuid4().hex + "\n", 0o444)
    _write(etc / "nsswitch.conf", NSSWITCH)
    _write(etc / "resolv.conf", "")
    _write(etc / "pam.d" / "sshd", PAM)
    units = etc / "systemd" / "system"
    _write(units / "lab.target", TARGET)
    _write(units / "lab-network.service", NETWORK.format(address=identity.address))
    _write(units / "lab-ssh.service", SSH)
    _link(units / "default.target", "lab.target")
    for unit in sorted({*MASKED, *_started_below()}):
        _link(units / unit, "/dev/null")
    _write(etc / "systemd" / "journald.conf.d" / "lab.conf", "[Journal]\nStorage=volatile\nForwardToConsole=no\n")
    _write(etc / "systemd" / "system.conf.d" / "lab.conf", "[Manager]\nDefaultTimeoutStopSec=5s\n")
    for stamp in (etc / ".updated", upper / "var" / ".updated"):
        # Tells systemd that /etc and /var are as new as /usr, or it rebuilds its databases at boot.
        _write(stamp, "")
        newest = time.time()
        os.utime(stamp, (newest, newest))
    for folder in traversable:
        _copy_folder(upper, folder, extra=0o005)
    key = etc / "ssh" / "lab_host_key"
    _write(etc / "ssh" / "lab_sshd_config", SSHD_CONFIG.format(port=identity.port))
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", identity.name, "-f", str(key)], check=True)
    return " ".join(key.with_suffix(".pub").read_text().split()[:2])


def _started_below() -> set[str]:
    """Return what the machine below starts beside its usual target: on a host some fail for want of their hardware."""
    folders = [
        Path(root) / "systemd" / "system" / f"{target}.target.wants"
        for root in ("/etc", "/usr/lib")
        for target in ("timers", "default")
    ]
    return {unit.name for folder in folders for unit in folder.glob("*.*")}


def _accounts(upper: Path, public_key: str) -> None:
    """Write the account files: the system accounts of the machine, root, and `USERS`; and their homes."""
    lines = {"passwd": [], "group": [], "shadow": [], "gshadow": []}
    for name, kept in lines.items():
        source = Path("/etc") / name
        own = [line for line in source.read_text().splitlines() if line] if source.exists() else []
        numbered = name in ("passwd", "group")
        people = set()
        if numbered:
            people = {line for line in own if 1000 <= int(line.split(":")[2]) < 60000}
        kept += [line for line in own if line not in people and line.split(":")[0] not in USERS]
    for user, uid in USERS.items():
        lines["passwd"].append(f"{user}:x:{uid}:{uid}::/home/{user}:/bin/bash")
        lines["group"].append(f"{user}:x:{uid}:")
        lines["shadow"].append(f"{user}:*:19000:0:99999:7:::")
        lines["gshadow"].append(f"{user}:!::")
    for name, kept in lines.items():
        secret = name.endswith("shadow")
        _write(upper / "etc" / name, "\n".join(kept) + "\n", 0o640 if secret else 0o644)
    _home(upper / "root", public_key, 0)
    for user, uid in USERS.items():
        home = upper / "home" / user
        home.mkdir()
        _home(home, public_key, uid)
        _write(upper / "var" / "lib" / "systemd" / "linger" / user, "")


def _home(home: Path, public_key: str, uid: int) -> None:
    ssh = home / ".ssh"
    ssh.mkdir(mode=0o700)
    keys = ssh / "authorized_keys"
    _write(keys, public_key + "\n", 0o600)
    for path in (home, ssh, keys):
        os.chown(path, uid, uid)
    home.chmod(0o711 if uid == 0 else 0o700)


def _own(upper: Path, folder: Path) -> None:
    """Give the host a folder of its own instead of the machine's."""
    path = _copy_folder(upper, folder)
    os.setxattr(path, "trusted.overlay.opaque", b"y")


def _copy_folder(upper: Path, folder: Path, extra: int = 0) -> Path:
    """Create `folder` and its parents above, with owner and mode from below; `extra` adds mode bits."""
    parents = [*reversed(folder.parents), folder]
    for parent in parents[1:]:
        target = upper / parent.relative_to("/")
        if not target.exists():
            target.mkdir()
            if parent.is_dir():
                below = parent.stat()
                os.chown(target, below.st_uid, below.st_gid)
                target.chmod(below.st_mode & 0o7777)
    target = upper / folder.relative_to("/")
    if extra:
        target.chmod(target.stat().st_mode & 0o7777 | extra)
    return target


def _parent(path: Path) -> None:
    """Create the parent folders of `path`, mode 755 whatever the umask."""
    for folder in reversed(path.parents):
        if not folder.exists():
            folder.mkdir()
            folder.chmod(0o755)


def _write(path: Path, text: str, mode: int = 0o644) -> None:
    _parent(path)
    path.write_text(text)
    path.chmod(mode)


def _link(path: Path, target: str) -> None:
    _parent(path)
    path.symlink_to(target)
