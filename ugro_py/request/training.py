"""The options of UGRO's own training that are in force, read off train/ without importing torch."""

from __future__ import annotations

import ast
import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ugro_py import paths
from ugro_py.request.sources import parsed

# What names the job, its model and data, which the request has, and what changes nothing of what is trained.
_LEFT_OUT = frozenset({
    "model_name", "dataset_name", "job_id", "resume", "seed", "num_workers", "checkpoint_every", "keep_checkpoints",
    "log_every",
})  # fmt: skip
_NAMES = {"num_epochs": "epochs"}
"""Options that a request calls otherwise."""


def in_force(words: Sequence[str], model: str, folder: Path | None = None) -> dict[str, Any]:
    """Return what the training makes of its arguments: what is given, else by the model, else its defaults.

    Args:
        words: the arguments of the training.
        model: a preset, a path, or a name on the hub.
        folder: where the code of the training is that the job runs, which may be an older one; by default UGRO's own.
            Nothing is returned of code that is too different.
    """
    try:
        options, presets, pretrained = _known(folder)
    except (OSError, SyntaxError, ValueError, LookupError):
        if folder is None:
            raise
        return {}
    found = {name: default for name, (default, _) in options.items() if default is not None}
    found |= {name: value for name, value in presets.get(model, pretrained).items() if name in options}
    found |= _given(words, options)
    return {name: found[name] for name in options if name in found}


def given(words: Sequence[str]) -> dict[str, Any]:
    """Return those of the training's options that its arguments give; of no other word anything is returned."""
    return _given(words, _known()[0])


def _given(words: Sequence[str], options: _Options) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for place, word in enumerate(words):
        option, equals, value = word.partition("=")
        name = _name_of(option, options)
        if name is None or not (equals or place + 1 < len(words)):
            continue
        text = value if equals else words[place + 1]
        number = _number(text)
        if number is not None or text in options[name][1]:
            found[name] = text if number is None else number
    return found


def name_of(option: str) -> str | None:
    """Return what an option of the training (`--learning-rate`) is called here; None if it is none of them."""
    return _name_of(option, _known()[0])


def _name_of(option: str, options: _Options) -> str | None:
    name = option[2:].replace("-", "_") if option.startswith("--") else ""
    name = _NAMES.get(name, name)
    return name if name in options else None


_Options = dict[str, tuple[Any, tuple[str, ...]]]
_Presets = Mapping[str, Mapping[str, Any]]


def _known(folder: Path | None = None) -> tuple[_Options, _Presets, Mapping[str, Any]]:
    """Return the options with default and choices, and what presets and pretrained models set."""
    folder = folder or paths.train_dir()
    return _read(folder, *((folder / name).stat().st_mtime_ns for name in ("options.py", "model.py")))


@functools.lru_cache(maxsize=4)
def _read(folder: Path, *_changed_ns: int) -> tuple[_Options, _Presets, Mapping[str, Any]]:
    options: _Options = {}
    for call in ast.walk(parsed(folder / "options.py")):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "add":
            name = str(ast.literal_eval(call.args[0])).removeprefix("--").replace("-", "_")
            if name not in _LEFT_OUT:
                said = _constants(call)
                options[_NAMES.get(name, name)] = (said.get("default"), tuple(said.get("choices", ())))
    usual: dict[str, Any] = {}
    presets: dict[str, dict[str, Any]] = {}
    pretrained: dict[str, Any] = {}
    for statement in parsed(folder / "model.py").body:
        if isinstance(statement, ast.ClassDef) and statement.name == "Preset":
            fields = (line for line in statement.body if isinstance(line, ast.AnnAssign) and line.value is not None)
            usual = {line.target.id: _constant(line.value) for line in fields if isinstance(line.target, ast.Name)}
        elif isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            if statement.targets[0].id == "PRESETS" and isinstance(statement.value, ast.Dict):
                pairs = zip(statement.value.keys, statement.value.values, strict=True)
                presets = {str(_constant(key)): usual | _constants(value) for key, value in pairs}
            elif statement.targets[0].id == "_PRETRAINED":
                pretrained = usual | _constants(statement.value)
    return options, presets, pretrained


def _constants(call: ast.expr) -> dict[str, Any]:
    """Return the keyword arguments of a call that are written out."""
    keywords = call.keywords if isinstance(call, ast.Call) else []
    found = {str(keyword.arg): _constant(keyword.value) for keyword in keywords}
    return {name: value for name, value in found.items() if value is not None}


def _constant(value: ast.expr | None) -> Any:
    try:
        return None if value is None else ast.literal_eval(value)
    except ValueError:
        return None


def _number(text: str) -> int | float | None:
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        return number if math.isfinite(number) else None
    return None
