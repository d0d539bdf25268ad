"""Host keys: what a host shows, whether SSH trusts it already, and pinning it.

`ssh` itself fetches the key (so jump hosts and the user's ssh_config work) and itself judges it against every
known_hosts file; UGRO only shows the fingerprint and adds a line where `ssh` would.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import shlex
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ugro_py.cluster import Node
from ugro_py.errors import NodeError, UsageError
from ugro_py.ssh import describe_ssh, ssh_argv

_TIMEOUT_S = 20
_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")
# The types of key a host may have; one connection shows one of them.
_ALGORITHMS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "rsa-sha2-512")


@dataclass(frozen=True)
class HostKey:
    """A public key that a host showed. `name` is what known_hosts files call the host."""

    name: str
    type: str
    key: str
    trusted: bool

    @property
    def fingerprint(self) -> str:
        """The fingerprint as `ssh-keygen -l` prints it, `SHA256:…`."""
        digest = hashlib.sha256(base64.b64decode(self.key)).digest()
        return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def check_fingerprint(text: str) -> str:
    """Return `text` if it looks like the output of `ssh-keygen -l`.

    Raises:
        UsageError: it does not.
    """
    if not _FINGERPRINT.fullmatch(text):
        step = "on the host itself, `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` prints it"
        raise UsageError(f"fingerprint {text[:60]!r}", "is not SHA256: and 43 characters", step)
    return text


def read_host_key(node: Node, fingerprint: str | None = None) -> HostKey:
    """Ask a host for its key, without logging in.

    Args:
        node: the host, with the SSH options of its inventory.
        fingerprint: the key that the host must show, of whichever type.

    Raises:
        NodeError: the host cannot be reached, shows another key than the pinned one, or has no key with that
            fingerprint.
    """
    trusted = _is_trusted(node)
    with tempfile.TemporaryDirectory(prefix="ugro-hostkey-") as folder:
        shown = [_fetch(node, Path(folder) / "default", trusted)]
        if fingerprint is None or shown[0].fingerprint == fingerprint:
            return shown[0]
        for algorithm in _ALGORITHMS:
            try:
                shown.append(_fetch(node, Path(folder) / algorithm, trusted, algorithm))
            except NodeError:
                continue  # the host has no key of this type
            if shown[-1].fingerprint == fingerprint:
                return shown[-1]
    has = ", ".join(sorted({f"{key.fingerprint} ({key.type})" for key in shown}))
    step = "it is another machine than you think, or was reinstalled: compare on the host itself"
    raise NodeError(f"{node.name}: host key of {node.address}", f"is not {fingerprint} but {has}", step)


def temporary_trust(node: Node, key: HostKey, file: Path) -> Node:
    """Return `node` with SSH options that trust exactly `key`, written to `file`; nothing is pinned."""
    if key.trusted:
        return node
    file.write_text(f"{key.name} {key.type} {key.key}\n")
    return replace(node, ssh_args=(*_known_hosts_option(file), *node.ssh_args))


def pin(node: Node, key: HostKey) -> Path:
    """Add `key` to the known_hosts file that `ssh` uses for `node`, and return that file.

    Raises:
        NodeError: there is no such file to write to.
    """
    path, hashed = _known_hosts(node)
    name = _hash(key.name) if hashed else key.name
    line = f"{name} {key.type} {key.key}\n".encode()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600), "ab+") as stream:
            size = stream.seek(0, os.SEEK_END)
            if size:
                stream.seek(size - 1)
                if stream.read(1) != b"\n":
                    line = b"\n" + line
            stream.write(line)  # one write at the end of the file, as ssh does: nothing to interleave
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        reason = error.strerror or str(error)
        raise NodeError(f"{node.name}: pin its host key in {path}", reason, "make the file writable") from error
    return path


def _known_hosts(node: Node) -> tuple[Path, bool]:
    """Return the first known_hosts file of `node` and whether names in it are to be hashed."""
    argv = ssh_argv(node, fresh=True)
    settings = _run(node, [argv[0], "-G", *argv[1:]]).stdout.splitlines()
    found = dict(line.partition(" ")[::2] for line in settings)
    files = shlex.split(found.get("userknownhostsfile", ""))
    if not files or files[0] in ("none", "/dev/null") or "%" in files[0]:
        shown = files[0] if files else "empty"
        step = "name a file in ansible_ssh_common_args or ssh_config"
        raise NodeError(f"{node.name}: pin its host key", f"UserKnownHostsFile is {shown}", step)
    return Path(files[0]).expanduser(), found.get("hashknownhosts") == "yes"


def _hash(name: str) -> str:
    salt = os.urandom(20)
    digest = hmac.new(salt, name.encode(), "sha1").digest()  # the format of known_hosts fixes SHA-1
    return f"|1|{base64.b64encode(salt).decode()}|{base64.b64encode(digest).decode()}"


def _known_hosts_option(file: Path) -> tuple[str, ...]:
    return ("-o", f"UserKnownHostsFile={file}", "-o", "GlobalKnownHostsFile=/dev/null")


def _run(node: Node, argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        step = f"see that `{describe_ssh(node)} true` works"
        raise NodeError(f"{node.name}: {describe_ssh(node)}", f"no answer in {_TIMEOUT_S} s", step) from None
    except FileNotFoundError:
        raise NodeError(f"{node.name}: {argv[0]}", "not found", "install the OpenSSH client") from None


def _knock(node: Node, *options: str) -> tuple[bool, str]:
    """Connect without any authentication; return whether the host accepted the key exchange, and ssh's words."""
    asking = replace(node, ssh_args=("-o", "PreferredAuthentications=none", *options, *node.ssh_args))
    done = _run(node, [*ssh_argv(asking, fresh=True), "true"])
    reached = done.returncode != 255 or "Permission denied (" in done.stderr
    return reached, done.stderr


def _is_trusted(node: Node) -> bool:
    """Return whether `ssh` trusts the key that the host shows; False: no key of it is known."""
    reached, said = _knock(node, "-o", "StrictHostKeyChecking=yes")
    if reached:
        return True
    if "IDENTIFICATION HAS CHANGED" in said or "REVOKED" in said:
        sent = _FINGERPRINT.search(said)
        what = "the host key is revoked" if "REVOKED" in said else "the host key differs from the pinned one"
        offending = re.search(r"Offending .*key in (.+):\d+", said)
        removal = re.search(r"ssh-keygen -f .*", said)
        raise NodeError(
            f"{node.name}: host key of {node.address}",
            f"{what}{f' in {offending[1]}' if offending else ''}; it shows {sent[0] if sent else 'another key'}",
            f"only if the machine was reinstalled, remove the old key: {removal[0]}" if removal else "do not go on",
        )
    if "Host key verification failed" in said:
        return False
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    raise NodeError(
        f"{node.name}: {describe_ssh(node)}",
        lines[-1] if lines else "the connection was closed",
        "see that it is on, that the address is right and that it runs sshd",
    )


def _fetch(node: Node, file: Path, trusted: bool, algorithm: str | None = None) -> HostKey:
    options = ["-o", "StrictHostKeyChecking=accept-new", "-o", "HashKnownHosts=no", "-o", "CheckHostIP=no"]
    if algorithm:
        options += ["-o", f"HostKeyAlgorithms={algorithm}"]
    _, said = _knock(node, *options, *_known_hosts_option(file))
    words = file.read_text().split() if file.exists() else []
    if len(words) < 3:
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        came_back = lines[-1] if lines else "the connection was closed"
        raise NodeError(f"{node.name}: read the host key of {node.address}", came_back, "try again")
    return HostKey(words[0], words[1], words[2], trusted)
