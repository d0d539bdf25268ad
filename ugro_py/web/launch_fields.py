"""The fields of the form Launch: what each means for a job, and which one an error is about."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from ugro_py.errors import UgroError, UsageError
from ugro_py.names import check_name
from ugro_py.request import options
from ugro_py.request.job import OF_TRAINING
from ugro_py.scheduler import parse_selection

LABELS: Mapping[str, str] = {
    "name": "Name", "model": "Model", "dataset": "Data set", "epochs": "Epochs", "nodes": "Nodes", "gpus": "GPUs",
    "script": "Script", "files": "Further files", "folder": "Or a folder", "archive": "Or an archive",
    "entry": "Which file to run", "code": "Or Python typed here", "args": "Arguments of the script",
    "env": "Environment variables", "secrets": "Secret variables",
    "retry": "Retries", "min_nodes": "Fewest nodes", "time_limit": "Time limit", "stall_timeout": "Stall timeout",
    "priority": "Priority", "include": "Only on", "exclude": "Not on", "resume": "Go on from", "after": "After",
    "tags": "Tags", "note": "Note", "batch_size": "Batch size", "gradient_accumulation": "Gradient accumulation",
}  # fmt: skip
FILES = ("script", "files", "folder", "archive")
"""Fields that files are chosen in."""
HIDDEN = ("secrets", "csrf")
"""Fields that no page shows again."""
_LONGEST = 1 << 15
"""Characters of a field of one line: to split 1 MB of arguments would keep a thread busy for a minute."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# How errors of the request begin that are about a field; else their first word names it: `--gpus 2x`, `epochs 0`.
_ABOUT = {
    "job name": "name", "which file": "entry", "file": "files", "selection": "include", "a GPU": "gpus",
    "request: script": "entry", "request: hold": "", "choose GPUs": "include", "an argument": "args",
    "job '": "after", "submit a job as": "exclude",
}  # fmt: skip
_FIELDS = {"secret_env": "secrets", "tag": "tags", "time_limit_s": "time_limit", "stall_timeout_s": "stall_timeout"}


def wanted(form: Mapping[str, str], own_code: bool) -> tuple[dict[str, Any], dict[str, str], dict[str, UgroError]]:
    """Return the request that a form makes, the values of its secrets, and what is wrong by field.

    What is empty is left to the defaults.

    Args:
        form: the fields.
        own_code: the job has a script of its own: what is for UGRO's training is not used.
    """
    found: dict[str, Any] = {"hold": True} if form.get("hold") == "yes" else {}
    secrets: dict[str, str] = {}
    wrong: dict[str, UgroError] = {}
    for name, reader in _READERS.items():
        text = form.get(name, "")
        if not text.strip() or (own_code and name in OF_TRAINING):
            continue
        try:
            if len(text) > _LONGEST and name not in ("env", "secrets"):
                raise UsageError(f"{text!r:.40}", f"has more than {_LONGEST} characters", "put it into a file")
            if name == "secrets":
                secrets = _variables(text, shown=False)
                found["secret_env"] = list(secrets)
            elif name == "env":
                found["env"] = _variables(text)
            else:
                found |= reader(text.strip())
        except UgroError as error:
            wrong[name] = error
    return found, secrets, wrong


def field_of(error: UgroError) -> str:
    """Return which field an error of a request is about; empty where it is about none."""
    for begins, name in _ABOUT.items():
        if error.what.startswith(begins):
            return name
    word = re.match(r"(?:request: |--)?([a-z_-]+)", error.what)
    name = word[1].replace("-", "_") if word else ""
    name = _FIELDS.get(name, name)
    return name if name in LABELS else ""


def _same(name: str) -> Callable[[str], dict[str, Any]]:
    return lambda text: {name: text}


def _number(name: str) -> Callable[[str], dict[str, Any]]:
    def read(text: str) -> dict[str, Any]:
        if not (text.isascii() and text.isdigit() and len(text) < 10):
            raise UsageError(f"{text!r:.40}", "is no whole number", "write one, such as 2")
        return {name: int(text)}

    return read


def _gpus(text: str) -> dict[str, Any]:
    found = options.gpus(text)
    values = {"gpus": found.number, "min_vram_gb": found.min_vram_gb, "max_vram_gb": found.max_vram_gb}
    return {key: value for key, value in values.items() if value is not None}


def _seconds(name: str) -> Callable[[str], dict[str, Any]]:
    def read(text: str) -> dict[str, Any]:
        try:
            return {name: options.time_limit(text)}
        except UsageError as error:
            raise UsageError(f"{text!r:.40}", error.came_back, error.next_step) from error

    return read


def _job(text: str) -> str:
    try:
        return check_name(text)
    except UsageError as error:
        raise UsageError(f"{text!r:.80}", error.came_back, error.next_step) from error


def _jobs(text: str) -> dict[str, Any]:
    return {"after": [_job(name) for name in dict.fromkeys(text.replace(",", " ").split())]}


def _places(name: str) -> Callable[[str], dict[str, Any]]:
    def read(text: str) -> dict[str, Any]:
        words = re.sub(
            r",(?![0-9]+(?:[,\s]|$))", " ", text
        ).split()  # gpu1:0,1 are two GPUs of a node; gpu1, gpu2 two nodes
        try:
            parse_selection(" ".join(words))
        except UsageError as error:
            raise UsageError(f"{text!r:.80}", error.came_back, error.next_step) from error
        return {name: words}

    return read


def _arguments(text: str) -> dict[str, Any]:
    """Split arguments as a shell would: quotes and backslashes count, nothing is expanded."""
    try:
        return {"args": shlex.split(text)}
    except ValueError as error:
        said = str(error).lower()
        raise UsageError(f"{text!r:.80}", f"has {said}", "end the quotation, or write \\ before the mark") from error


def _variables(text: str, *, shown: bool = True) -> dict[str, str]:
    """Return variables of lines `NAME=VALUE`; an error shows nothing of a secret.

    A value is what stands between the sign and the end of its line, as it is: blanks are part of it, as with `--env`.
    Browsers end lines with CRLF; all else that some take for the end of one is part of a value too.
    """
    what = "environment" if shown else "secrets"
    found: dict[str, str] = {}
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, equals, value = line.lstrip().partition("=")
        if not equals or not _VARIABLE.fullmatch(name):
            raise UsageError(
                what, f"line {number} is not NAME=VALUE", "write one variable a line, without quotes and `export`"
            )
        if name in found:
            raise UsageError(what, f"line {number} names a variable that is there already", "leave one out")
        found[name] = value
    return found


_READERS: Mapping[str, Callable[[str], dict[str, Any]]] = {
    "name": _same("name"), "model": _same("model"), "dataset": _same("dataset"), "epochs": _number("epochs"),
    "nodes": _number("nodes"), "gpus": _gpus, "args": _arguments, "env": lambda text: {},
    "secrets": lambda text: {}, "retry": _number("retry"), "min_nodes": _number("min_nodes"),
    "time_limit": _seconds("time_limit_s"), "stall_timeout": _seconds("stall_timeout_s"),
    "priority": lambda text: {"priority": options.priority(text)},
    "include": _places("include"), "exclude": _places("exclude"), "after": _jobs,
    "resume": lambda text: {"resume": _job(text)},
    "tags": lambda text: {"tags": text.replace(",", " ").split()},
    "note": lambda text: {"note": text.replace("\r\n", "\n")},
    "batch_size": _number("batch_size"), "gradient_accumulation": _number("gradient_accumulation"),
}  # fmt: skip
