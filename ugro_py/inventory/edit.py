"""Adds hosts to an inventory and removes them, without touching another byte of it.

The text is edited at the places the YAML parser reports, so comments, quotes, blank lines and order stay as they
are. (A load and dump, even a comment-keeping one as ruamel.yaml does, moves comments and loses those that follow a
removed host.) The result is read again and must say exactly what was intended, else nothing is written.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import yaml

from ugro_py.cluster import Cluster
from ugro_py.errors import InventoryError, NotFoundError, UsageError
from ugro_py.inventory import GROUP, parse_cluster
from ugro_py.inventory.reader import compose, invalid, pairs, read_tree

Variables = Mapping[str, str | int | float]

_BY_HAND = "edit it by hand"


def add_host(file: Path, data: bytes, name: str, variables: Variables) -> bytes:
    """Return the inventory `data` with one more host at the end of `ugro_nodes`.

    Args:
        file: the inventory file, for messages and for the variables beside it.
        data: its content.
        name: the new host.
        variables: its variables, in the order they are to be written.

    Raises:
        UsageError: there is such a host already.
        InventoryError: the inventory is not valid, now or with the host.
    """
    before = _parse(file, data)
    tree = read_tree(file, data)
    if name in tree.hosts:
        next_step = f"choose another name, or `ugro nodes rm {name}` first"
        raise UsageError(f"node {name!r}", f"is already in {tree.hosts[name].where}", next_step)
    last = tree.members(GROUP)[-1]
    group = next(group for group in tree.descendants(GROUP) if last in tree.groups[group].hosts)
    section = next(node for where, node in _sections(file, data) if where == group and _key_of(node, last))
    insert = _insert_in_braces if section.flow_style else _insert_lines
    new = insert(data.decode(), section, name, variables).encode()
    after = parse_cluster(file, new)
    _check_rest(file, before, after, name)
    if name not in [node.name for node in after.nodes]:
        raise invalid(str(file), f"{name} cannot be added in this form of the file", _BY_HAND)
    return new


def remove_host(file: Path, data: bytes, name: str) -> bytes:
    """Return the inventory `data` without the host `name`, wherever it is listed.

    Raises:
        NotFoundError: there is no such node.
        UsageError: it is the master.
        InventoryError: the inventory is not valid, now or without the host.
    """
    before = _parse(file, data)
    if before.node(name).role == "master":
        next_step = "give another node `ugro_role: master` first" if len(before.nodes) > 1 else f"delete {file}"
        raise UsageError(f"{file}: remove {name}", "it is the master, without which there is no cluster", next_step)
    new = data
    try:
        while section := next((node for _, node in _sections(file, new) if _key_of(node, name)), None):
            delete = _delete_in_braces if section.flow_style else _delete_lines
            new = delete(new.decode(), section, name).encode()
        after = parse_cluster(file, new)
    except InventoryError as error:
        raise invalid(str(file), f"without {name} it would not be valid ({error})", _BY_HAND) from error
    _check_rest(file, before, after, name)
    if name in [node.name for node in after.nodes]:
        raise NotFoundError(f"node {name!r}", f"is not listed in {file} itself", _BY_HAND)
    return new


def host_block(name: str, variables: Variables, column: int) -> str:
    """Return a host and its variables as lines of YAML in block style that start at `column`."""
    text = yaml.safe_dump({name: dict(variables)}, sort_keys=False, width=1000, allow_unicode=True)
    return "".join(" " * column + line + "\n" for line in text.splitlines())


def _parse(file: Path, data: bytes) -> Cluster:
    cluster = parse_cluster(file, data)
    if b"\0" in data:  # valid YAML with zero bytes is UTF-16 or UTF-32
        raise invalid(str(file), "is not UTF-8", "save it as UTF-8")
    return cluster


def _check_rest(file: Path, before: Cluster, after: Cluster, name: str) -> None:
    rest = [[node for node in cluster.nodes if node.name != name] for cluster in (before, after)]
    if rest[0] != rest[1] or replace(before, nodes=()) != replace(after, nodes=()):
        raise invalid(str(file), f"an edit of {name} would change other nodes too", _BY_HAND)


def write_inventory(file: Path, old: bytes | None, new: bytes) -> None:
    """Replace the content of an inventory in one step that survives a crash.

    Args:
        file: the inventory; a symbolic link keeps pointing to the file it names.
        old: the content the edit started from, None for a file that did not exist.
        new: the content to write.

    Raises:
        InventoryError: the file was changed meanwhile, or cannot be written.
    """
    target = Path(os.path.realpath(file))
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)  # two `ugro nodes add` at once: the second sees the first's work
            present = target.read_bytes() if target.exists() else None
            if present != old:
                raise invalid(str(file), "was changed by somebody else meanwhile", "run the command again")
            _replace(target, new, folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise invalid(str(file), error.strerror or str(error), "make the file writable") from error


def _replace(target: Path, new: bytes, folder: int) -> None:
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(new)
            if target.exists():
                status = target.stat()
                os.fchmod(stream.fileno(), status.st_mode & 0o7777)
                if os.geteuid() == 0:
                    os.fchown(stream.fileno(), status.st_uid, status.st_gid)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).replace(target)
        os.fsync(folder)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _sections(file: Path, data: bytes) -> list[tuple[str, yaml.MappingNode]]:
    """Return every `hosts:` mapping below `ugro_nodes` or anywhere else, with the name of its group."""
    found: list[tuple[str, yaml.MappingNode]] = []

    def walk(group: str, node: yaml.Node) -> None:
        for section, _, content in pairs(file, node, group, "a group"):
            if section == "hosts" and isinstance(content, yaml.MappingNode):
                found.append((group, content))
            elif section == "children":
                for child, _, inner in pairs(file, content, group, "groups"):
                    walk(child, inner)

    root = compose(file, data)
    if root is not None:
        for group, _, node in pairs(file, root, "the inventory", "groups"):
            walk(group, node)
    return found


def _key_of(section: yaml.MappingNode, name: str) -> yaml.Node | None:
    return next((key for key, _ in section.value if key.value == name), None)


def _insert_lines(text: str, section: yaml.MappingNode, name: str, variables: Variables) -> str:
    lines = text.splitlines(keepends=True)
    starts = [key.start_mark.line for key, _ in section.value]
    column = section.value[0][0].start_mark.column
    at = _end_of(lines, section.value[-1], column)
    newline = "\r\n" if lines[0].endswith("\r\n") else "\n"
    if not lines[at - 1].endswith("\n"):
        lines[at - 1] += newline
    block = [line + newline for line in host_block(name, variables, column).splitlines()]
    if any(not line.strip() for line in lines[starts[0] : starts[-1]]):
        block.insert(0, newline)  # the hosts are set apart by blank lines, so is the new one
    return "".join([*lines[:at], *block, *lines[at:]])


def _delete_lines(text: str, section: yaml.MappingNode, name: str) -> str:
    lines = text.splitlines(keepends=True)
    names = [key.value for key, _ in section.value]
    index = names.index(name)
    column = section.value[0][0].start_mark.column
    start = section.value[index][0].start_mark.line
    end = _end_of(lines, section.value[index], column)
    # A comment right above a host is about this host; above the first one it may be about all of them.
    while index and lines[start - 1].startswith(" " * column + "#"):
        start -= 1
    if start and not lines[start - 1].strip() and (end == len(lines) or not lines[end].strip()):
        start -= 1  # of the blank lines around it one is enough
    return "".join([*lines[:start], *lines[end:]])


def _end_of(lines: list[str], pair: tuple[yaml.Node, yaml.Node], column: int) -> int:
    """Return the number of the line after an entry in block style, its deeper indented comments included."""
    end = _last_line(pair) + 1
    for number in range(end, len(lines)):
        text = lines[number].strip()
        if text and not (text.startswith("#") and len(lines[number]) - len(lines[number].lstrip()) > column):
            break
        if text:
            end = number + 1
    return end


def _last_line(pair: tuple[yaml.Node, yaml.Node]) -> int:
    key, value = pair
    last: int = key.end_mark.line
    # Where the value is an alias, its marks are those of the anchor, further up; the key's line wins then.
    if isinstance(value, yaml.CollectionNode) and not value.flow_style:
        inner = value.value
        if inner:
            tail = inner[-1] if isinstance(value, yaml.MappingNode) else (inner[-1], inner[-1])
            return max(last, _last_line(tail))
        return last
    end = value.end_mark
    # A block scalar (`|`) ends at the start of the line after it.
    return max(last, end.line - 1 if end.column == 0 else end.line)


def _insert_in_braces(text: str, section: yaml.MappingNode, name: str, variables: Variables) -> str:
    brace = _offset(text, section.end_mark) - 1
    host = yaml.safe_dump({name: dict(variables)}, sort_keys=False, width=100_000, default_flow_style=True)
    before = text[:brace].rstrip()
    comma = "" if before.endswith(("{", ",")) else ","
    space = " " if comma or before.endswith(",") else ""
    return before + comma + space + host.strip()[1:-1] + text[len(before) :]


def _delete_in_braces(text: str, section: yaml.MappingNode, name: str) -> str:
    keys = [key for key, _ in section.value]
    index = [key.value for key in keys].index(name)
    start = _offset(text, keys[index].start_mark)
    if index + 1 < len(keys):
        return text[:start] + text[_offset(text, keys[index + 1].start_mark) :]
    brace = _offset(text, section.end_mark) - 1
    last = len(text[:brace].rstrip())
    return text[:start].rstrip().removesuffix(",") + text[last:]


def _offset(text: str, mark: yaml.Mark) -> int:
    return sum(map(len, text.splitlines(keepends=True)[: mark.line])) + mark.column
