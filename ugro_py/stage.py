"""Copy code, data sets and models to the nodes: by rsync, once per content, without NFS.

A folder goes to `<node_dir>/<node>/code/<digest>`; a node that has the digest already gets nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shlex
import tempfile
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from ugro_py import paths
from ugro_py.cluster import Node
from ugro_py.errors import NodeError, UsageError
from ugro_py.ssh import describe_ssh, ssh_argv
from ugro_py.transport import Session

# Never of use to a rank, and often large or nobody else's business.
# A `.ugroignore` in the folder adds patterns, one a line.
EXCLUDED = (
    *(".git", ".venv", "venv", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".ipynb_checkpoints"),
    *(".cache", ".ssh", ".gnupg", ".ugro", "ugro_data"),
)


@dataclass(frozen=True)
class Bundle:
    """A folder of the controller as it is copied to nodes; if `single`, its first file is what counts.

    `files` are relative to `root`.
    """

    root: Path
    files: tuple[str, ...]
    digest: str
    size: int
    single: bool = False


def bundle(root: Path) -> Bundle:
    """Return the files of `root` that go to the nodes, and a digest of their names, contents and modes.

    Raises:
        UsageError: a file cannot be read.
    """
    if root.is_file():
        return bundle_of(root.parent, [(root.name, root)], single=True)
    return bundle_of(root, list(_files(root, _patterns(root))))


def checkpoint_bundle(path: Path) -> Bundle:
    """Return a checkpoint as it goes to the nodes: a folder, or a file with the manifest that vouches for it."""
    if path.is_dir():
        return bundle(path)
    manifest = path.with_name(path.name + ".json")
    found = [file for file in (path, manifest) if file.is_file()]
    return bundle_of(path.parent, [(file.name, file) for file in found], single=True)


def bundle_of(base: Path, pairs: Sequence[tuple[str, Path]], single: bool = False) -> Bundle:
    """Return the named files of a folder as a bundle.

    Raises:
        UsageError: one cannot be read.
    """
    digest = hashlib.sha256()
    size = 0
    for name, path in pairs:
        try:
            digest.update(os.fsencode(name) + b"\0")
            if path.is_symlink():
                digest.update(b"link\0" + os.fsencode(path.readlink()))
                continue
            status = path.stat()
            digest.update(f"{status.st_mode & 0o111:o}\0{status.st_size}\0".encode())
            size += status.st_size
            with path.open("rb") as file:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
        except OSError as error:
            raise UsageError(
                f"read {path}", str(error.strerror), "make it readable or list it in .ugroignore"
            ) from error
    return Bundle(base, tuple(name for name, _path in pairs), digest.hexdigest()[:32], size, single)


def _patterns(root: Path) -> tuple[str, ...]:
    ignore = root / ".ugroignore"
    lines = ignore.read_text("utf-8", "surrogateescape").splitlines() if ignore.is_file() else []
    return EXCLUDED + tuple(line.strip().rstrip("/") for line in lines if line.strip() and not line.startswith("#"))


def _files(root: Path, patterns: Sequence[str]) -> Iterable[tuple[str, Path]]:
    store, top = paths.data_dir().resolve(), root.resolve()  # the store may have another name than those excluded
    within = store.relative_to(top).as_posix() if store.is_relative_to(top) else None

    def ignored(name: str, relative: str) -> bool:
        return relative == within or any(fnmatch(name, pattern) or fnmatch(relative, pattern) for pattern in patterns)

    for folder, folders, names in os.walk(root):
        here = Path(folder)
        prefix = "" if here == root else f"{here.relative_to(root)}/"
        links = [name for name in folders if (here / name).is_symlink()]
        folders[:] = sorted(name for name in folders if name not in links and not ignored(name, prefix + name))
        for name in sorted([*names, *links]):
            # Sockets, pipes and devices cannot be copied, and to open one may wait for ever.
            if not ignored(name, prefix + name) and ((here / name).is_symlink() or (here / name).is_file()):
                yield prefix + name, here / name


async def stage(session: Session, content: Bundle) -> str:
    """Copy `content` to the node unless it is there, and return its folder on the node.

    Raises:
        NodeError: the copy failed; the text is rsync's own.
    """
    place = await session.call("has_code", digest=content.digest)
    if place["here"]:
        return str(place["path"])
    await _rsync(session.node, content, place["path"])
    taken = await session.call("take_code", digest=content.digest)
    return str(taken["path"])


async def stage_source(session: Session, content: Bundle) -> str:
    """Stage a data set, model or checkpoint and return its path on the node: the folder, or the first file in it."""
    place = await stage(session, content)
    return f"{place}/{content.files[0]}" if content.single else place


async def _rsync(node: Node, content: Bundle, target: str) -> None:
    """Copy the files of `content` into the folder `target` of the node."""
    with tempfile.NamedTemporaryFile("wb", prefix="ugro-files-") as listing:
        listing.write(b"\0".join(os.fsencode(name) for name in content.files))
        listing.flush()
        options = ["--from0", f"--files-from={listing.name}"]
        if node.connection == "local":
            given_up = threading.Event()
            try:
                await asyncio.to_thread(_copy_here, content, Path(target), given_up)
            finally:
                given_up.set()  # a thread is not cancelled with who waits for it
            return
        await rsync(node, [*options, f"{content.root}/", remote(node, f"{target}/")], f"copy {content.root}")


def _copy_here(content: Bundle, target: Path, given_up: threading.Event) -> None:
    """Copy on this machine, which need not have rsync to train by itself; not on where that is given up."""
    import shutil

    for name in content.files:
        if given_up.is_set():
            return
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(content.root / name, target / name, follow_symlinks=False)


def remote(node: Node, path: str) -> str:
    """Return `path` on the node as rsync names it; an IPv6 address stands in brackets."""
    address = f"[{node.address}]" if ":" in node.address else node.address
    return f"{address}:{path}"


async def rsync(node: Node, arguments: Sequence[str], what: str) -> None:
    """Run rsync with this node's SSH options.

    Raises:
        NodeError: rsync is missing here, or it failed; the text is its own.
    """
    # No devices and pipes: a job could leave them for the agent to wait at. What arrives is the receiver's own: numbers
    # and names of accounts mean somebody else on another machine.
    # rsync appends the host itself, so the destination and the `--` before it are left out.
    shell = shlex.join(ssh_argv(node)[:-2])
    try:
        process = await asyncio.create_subprocess_exec(
            *("rsync", "--archive", "--no-D", "--no-owner", "--no-group", "--chmod=u-s,g-s"),
            *("--protect-args", "--rsh", shell, *arguments),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
    except FileNotFoundError as error:
        raise NodeError(f"{node.name}: {what}", "rsync is not installed here", "install the package rsync") from error
    try:
        _out, stderr = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        lines = [line for line in stderr.decode(errors="replace").splitlines() if line.strip()]
        said = lines[0] if lines else f"rsync ended with code {process.returncode}"
        raise NodeError(f"{node.name}: {what}", said, f"see that `{describe_ssh(node)} rsync --version` works")
