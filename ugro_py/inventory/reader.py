"""Reads Ansible's YAML inventory format (and the group_vars and host_vars beside it), keeping line numbers.

Only structure is known here: groups, hosts, variables and the order in which Ansible lets one
definition win over another. What the variables mean is `ugro_py.inventory.keys`' business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from ugro_py.errors import InventoryError
from ugro_py.inventory.tree import MAX_DEPTH, Group, Host, Tree, Value, Vars

# libyaml reads a file several times faster; wheels of PyYAML for rare platforms may lack it.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MAX_BYTES = 1 << 20  # an inventory of 30 machines has about 10 kB
_MAX_NESTING = 200  # of anything within anything
_VAULT = b"$ANSIBLE_VAULT"
_SECTIONS = ("hosts", "vars", "children")


def invalid(where: str, message: str, next_step: str = "") -> InventoryError:
    """Return (not raise) the error for one place of the inventory; `where` is `file:line` or a file."""
    return InventoryError(where, message, next_step)


def read_tree(file: Path, data: bytes | None = None) -> Tree:
    """Read an inventory file.

    Args:
        file: the file.
        data: what the file is about to hold, to try it before it is written; None reads the file.

    Raises:
        InventoryError: missing, not YAML, not the shape of an Ansible inventory, or a key twice.
    """
    tree = Tree(file)
    root = compose(file, read_bytes(file) if data is None else data)
    if root is None:
        raise invalid(str(file), "the inventory is empty", "see inventory/example/hosts.yml")
    for key, where, node in pairs(file, root, "the inventory", "a mapping of groups"):
        _read_group(tree, key, where, node, 0)
    return tree


def vars_beside(file: Path, folder: str, name: str) -> Vars:
    """Read `group_vars` or `host_vars` (`folder`) of the group or host `name` beside an inventory file.

    Files that Ansible Vault encrypts are left out: they hold secrets, which UGRO does not read.

    Raises:
        InventoryError: a file cannot be read, is not YAML or not a mapping.
    """
    found: Vars = {}
    base = file.parent / folder
    if not base.is_dir():
        return found
    for suffix in ("", ".yml", ".yaml", ".json"):  # the first that exists counts, as in Ansible
        path = base / f"{name}{suffix}"
        if path.exists():
            for part in _vars_files(path) if path.is_dir() else [path]:
                found.update(_read_vars_file(part))
            break
    return found


def _vars_files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.name.endswith("~"):
            continue
        if path.is_dir() and not path.suffix:
            yield from _vars_files(path)
        elif path.is_file() and path.suffix in ("", ".yml", ".yaml", ".json"):
            yield path


def _read_vars_file(path: Path) -> Vars:
    data = read_bytes(path)
    if data.startswith(_VAULT):
        return {}
    node = compose(path, data)
    return {} if node is None else _read_vars(path, node, "the file")


def read_bytes(path: Path) -> bytes:
    """Return the content of an inventory or variables file.

    Raises:
        InventoryError: it cannot be read, or is too large to be an inventory.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        reason = error.strerror or str(error)
        raise invalid(str(path), reason, "give the inventory with -i PATH or $UGRO_INVENTORY") from error
    if len(data) > _MAX_BYTES:
        raise invalid(str(path), f"is larger than {_MAX_BYTES >> 20} MiB", "is this an inventory?")
    return data


def compose(file: Path, data: bytes) -> yaml.Node | None:
    """Return the YAML nodes of `data`, which is (or will be) the content of `file`; None if it holds nothing.

    Raises:
        InventoryError: not YAML, encrypted, or nested too deeply.
    """
    if data.startswith(_VAULT):
        raise invalid(str(file), "is encrypted with Ansible Vault", "keep only secrets in vaulted files")
    try:
        _check_nesting(file, data)
        node: yaml.Node | None = yaml.compose(data, Loader=_LOADER)
    except yaml.reader.ReaderError as error:
        line = data[: error.position].count(b"\n") + 1
        raise invalid(f"{file}:{line}", f"is not YAML ({error.reason})") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{file}:{mark.line + 1}" if mark else str(file)
        raise invalid(where, f"is not YAML ({error.problem or error.context})") from error
    return None if node is None or _is_null(node) else node


def _check_nesting(file: Path, data: bytes) -> None:
    """Refuse nesting that would overflow the C stack of libyaml's composer, which ends the whole process.

    Only brackets and dashes can nest deeply within the size limit, so other files are not read twice.
    """
    if sum(data.count(mark) for mark in (b"[", b"{", b"-", b"?")) < _MAX_NESTING:
        return
    depth = 0
    for event in yaml.parse(data, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _MAX_NESTING:
                where = f"{file}:{event.start_mark.line + 1}" if event.start_mark else str(file)
                raise invalid(where, f"is not an inventory (nested more than {_MAX_NESTING} deep)")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _is_null(node: yaml.Node) -> bool:
    return bool(node.tag == "tag:yaml.org,2002:null")


def _where(file: Path, node: yaml.Node) -> str:
    return f"{file}:{node.start_mark.line + 1}"


def pairs(file: Path, node: yaml.Node, what: str, expected: str, depth: int = 0) -> list[tuple[str, str, yaml.Node]]:
    """Return (key, place, value) of a mapping, with merge keys (`<<`) resolved; an empty value is no pair."""
    if _is_null(node):
        return []
    if not isinstance(node, yaml.MappingNode):
        kind = "a list" if isinstance(node, yaml.SequenceNode) else f"{str(node.value)[:60]!r}"
        raise invalid(_where(file, node), f"{what} is {kind}", f"write {expected}")
    own: dict[str, tuple[str, str, yaml.Node]] = {}
    merged: dict[str, tuple[str, str, yaml.Node]] = {}
    for key_node, value_node in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            sources = value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
            for source in sources:
                if not isinstance(source, yaml.MappingNode):
                    raise invalid(_where(file, key_node), "`<<` does not name a mapping")
                if depth > MAX_DEPTH:
                    raise invalid(_where(file, key_node), f"`<<` is nested more than {MAX_DEPTH} deep")
                for inner in pairs(file, source, what, expected, depth + 1):
                    merged.setdefault(inner[0], inner)
            continue
        pair = _pair(file, key_node, value_node)
        if pair[0] in own:
            first = own[pair[0]][1]
            raise invalid(pair[1], f"{pair[0]!r} is already in {what} at {first}", "keep one of the two")
        own[pair[0]] = pair
    return [*own.values(), *(pair for key, pair in merged.items() if key not in own)]


def _pair(file: Path, key: yaml.Node, value: yaml.Node) -> tuple[str, str, yaml.Node]:
    if not isinstance(key, yaml.ScalarNode):
        raise invalid(_where(file, key), "a key is not plain text", "is a template missing its quotes?")
    return str(key.value), _where(file, key), value


def _read_vars(file: Path, node: yaml.Node, what: str) -> Vars:
    return {
        key: Value(where, _loader(where, key, value), partial(_read_vars, file, value, key))
        for key, where, value in pairs(file, node, what, "a mapping, `key: value`")
    }


def _loader(where: str, key: str, node: yaml.Node) -> Callable[[], Any]:
    """Values are built on demand: those that UGRO does not use may carry tags such as `!vault`."""

    def load() -> Any:
        try:
            return yaml.constructor.SafeConstructor().construct_document(node)
        except yaml.constructor.ConstructorError as error:
            if node.tag.startswith("!"):
                raise invalid(where, f"{key} has the tag {node.tag}", "UGRO needs it as plain text") from error
            raise invalid(where, f"{key}: {error.problem}") from error
        except (ValueError, RecursionError) as error:
            raise invalid(where, f"{key}: {error}") from error

    return load


def _read_group(tree: Tree, name: str, where: str, node: yaml.Node, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise invalid(where, f"groups are nested more than {MAX_DEPTH} deep")
    group = tree.groups.setdefault(name, Group(name, where))
    what = f"group {name!r}"
    for section, place, content in pairs(tree.file, node, what, "`hosts:`, `vars:` or `children:` below it"):
        if section not in _SECTIONS:
            raise invalid(place, f"{what}: {section!r} is not hosts, vars or children", closest(section, _SECTIONS))
        inner = f"{section} of {what}"
        if section == "vars":
            group.vars.update(_read_vars(tree.file, content, inner))
            continue
        for key, key_where, value in pairs(tree.file, content, inner, "one name a line, each ended by a colon"):
            if section == "children":
                _read_group(tree, key, key_where, value, depth + 1)
                if key not in group.children:
                    group.children.append(key)
            else:
                host = tree.hosts.setdefault(key, Host(key, key_where))
                host.vars.update(_read_vars(tree.file, value, f"host {key!r}"))
                if key not in group.hosts:
                    group.hosts.append(key)


def closest(word: str, known: tuple[str, ...] | list[str]) -> str:
    """Return `did you mean 'x'?` for the known word nearest to `word`, or the known words if none is near."""
    import difflib  # only errors need it

    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else "known: " + ", ".join(known)
