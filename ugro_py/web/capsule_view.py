"""The run capsule of a job as a page shows it: rows of names and values; the code itself is for its owner alone."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ugro_py.api.beneath import open_beneath
from ugro_py.display import plain_line
from ugro_py.errors import NotFoundError
from ugro_py.paths import JobPaths, is_spooled
from ugro_py.request.job import used

_LARGEST = 4 << 20
_LONGEST = 500
_MOST_ROWS = 200


@dataclass(frozen=True)
class Section:
    """A part of the capsule: its title, and its rows of name and value."""

    title: str
    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class CapsuleView:
    """A capsule to be shown. `diff` and `raw` are None for who may not see the code that was submitted."""

    sections: tuple[Section, ...]
    diff: str | None
    raw: str | None
    hidden: bool


def capsule_view(job: str, *, owner: bool) -> CapsuleView | None:
    """Return the capsule of a job; None if it has none yet, or one that is damaged.

    Args:
        owner: whether it is shown to who submitted the job, or to an admin.
    """
    paths = JobPaths(job)
    try:
        descriptor = open_beneath(paths.root, paths.config.name)
    except NotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        raw = file.read(_LARGEST).decode("utf-8", "replace")
    try:
        values = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict):
        return None
    code = _mapping(values.get("code"))
    git = _mapping(code.get("git"))
    diff = git.get("diff")
    return CapsuleView(
        tuple(section for section in _sections(values, code, git, owner) if section.rows),
        diff if owner and isinstance(diff, str) and diff else None,
        json.dumps(values, indent=2, ensure_ascii=False) if owner else None,
        not owner,
    )


def _sections(
    values: Mapping[str, Any], code: Mapping[str, Any], git: Mapping[str, Any], owner: bool
) -> Iterator[Section]:
    run = {
        key: values.get(key)
        for key in (
            "model", "dataset", "seed", "world_size", "world_size_wanted", "attempt", "created", "user",
            "ugro_version", "cluster",
        )
    }  # fmt: skip
    request = _mapping(values.get("request"))
    script = request.get("script")
    run, request = used(run, script), used(request, script)
    if owner:
        run["program"] = _shell_line(values.get("program"))
    else:  # arguments and environment are masked by their names alone: an address may have a password in it
        request = {key: value for key, value in request.items() if key not in ("args", "env")}
    if "args" in request:
        request = {**request, "args": _shell_line(request["args"])}
    if is_spooled(request.get("workdir")):
        request = {key: value for key, value in request.items() if key != "workdir"}
    yield Section("Run", _rows(run))
    yield Section("Request", _rows(request))
    folder = code.get("folder")
    shown = {"folder": None if is_spooled(folder) else folder, "digest": code.get("digest")}
    yield Section("Code", _rows(shown | {"commit": git.get("commit"), "branch": git.get("branch")}))
    for node in _list(values.get("nodes")):
        rows = {key: node.get(key) for key in ("address", "hostname", "kernel", "driver", "cuda", "interface")}
        rows["gpus"] = [gpu.get("name") for gpu in _list(node.get("gpus"))]
        yield Section(f"Node {_text(node.get('name'))}", _rows(rows))
        packages = _mapping(node.get("packages"))
        yield Section(f"Packages of {_text(node.get('name'))}", _rows(_mapping(packages.get("packages")) or packages))


def _shell_line(words: Any) -> Any:
    """Return a command as it would be typed; what is no list of words, as it is."""
    return shlex.join(map(str, words)) if isinstance(words, list) else words


def _rows(values: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return what is there, in short; nothing of what was not given."""
    rows = ((_text(key), _text(value)) for key, value in values.items() if value not in (None, "", [], {}, ()))
    return tuple(row for row, _ in zip(rows, range(_MOST_ROWS), strict=False))


def _text(value: Any) -> str:
    if isinstance(value, list) and not any(isinstance(item, list | dict) for item in value):
        value = ", ".join(str(item) for item in value)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    shown = plain_line(text.replace("\n", " "))
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]} …"


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
