"""Models and data sets by name: presets, embedded ones, paths of this machine, ids of the Hugging Face hub."""

from __future__ import annotations

import ast
import functools
import os
import re
import threading
from pathlib import Path

from ugro_py import paths
from ugro_py.errors import UsageError

EMBEDDED_DATASET = "python-docs"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")
_HUB_TIMEOUT_S = 5.0
# Python 3.11 fails where two threads make syntax trees at once (SystemError: recursion depth mismatch).
_PARSING = threading.Lock()


def presets() -> tuple[str, ...]:
    """Return the names of the model presets, read off train/model.py without importing torch."""
    source = paths.train_dir() / "model.py"
    return _presets(source, source.stat().st_mtime_ns)


def parsed(source: Path) -> ast.Module:
    """Return the syntax tree of a file of the training."""
    with _PARSING:
        return ast.parse(source.read_text(encoding="utf-8"))


@functools.lru_cache(maxsize=4)  # the agent asks for every job
def _presets(source: Path, _changed_ns: int) -> tuple[str, ...]:
    for statement in parsed(source).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Dict):
            names = [target.id for target in statement.targets if isinstance(target, ast.Name)]
            if names == ["PRESETS"]:
                return tuple(str(ast.literal_eval(key)) for key in statement.value.keys if key is not None)
    raise RuntimeError("train/model.py defines no PRESETS")


def check_source(kind: str, name: str, known: tuple[str, ...], ask_hub: bool) -> str:
    """Return the name of a model or data set, absolute if it is a path on this machine.

    Args:
        kind: `model` or `dataset`.
        name: as a person gave it.
        known: the names that need no look-up.
        ask_hub: look a name that is neither known nor a path up on the hub.

    Raises:
        UsageError: there is no such model or data set.
    """
    if name in known:
        return name
    path = Path(name).expanduser()
    if name and path.exists():  # Path("") is the present folder
        if kind == "model" and not (path / "config.json").is_file():
            raise UsageError(f"--model {name}", "holds no config.json", "give a folder saved by transformers")
        return str(path.resolve())
    listed = ", ".join(known)
    if not _HUB_ID.fullmatch(name) or name.startswith((".", "/")):
        raise UsageError(f"--{kind} {name!r}", "is no preset, no path here and no hub name", f"known: {listed}")
    if kind == "model" and "/" not in name:
        raise UsageError(
            f"--model {name}", "unknown model", f"presets: {listed}; or give a path or a hub id owner/name"
        )
    if ask_hub and not _cached(kind, name):
        _ask_hub(kind, name, listed)
    return name


def _cached(kind: str, name: str) -> bool:
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    folder = f"{kind}s--" + name.replace("/", "--")
    return (home / "hub" / folder).is_dir() or (home / "datasets" / name.replace("/", "___")).is_dir()


def _ask_hub(kind: str, name: str, listed: str) -> None:
    """Ask the Hugging Face hub whether it has `name`.

    Raises:
        UsageError: it does not, or it cannot be reached.
    """
    import urllib.error
    import urllib.request

    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    if not endpoint.startswith(("https://", "http://")):
        raise UsageError(f"HF_ENDPOINT {endpoint}", "is not an http(s) address", "correct it")
    try:
        urllib.request.urlopen(f"{endpoint}/api/{kind}s/{name}", timeout=_HUB_TIMEOUT_S).close()  # noqa: S310
    except urllib.error.HTTPError as error:
        if error.code == 404:
            raise UsageError(f"--{kind} {name}", f"{endpoint} has no such {kind}", f"embedded: {listed}") from error
        return  # private, gated or busy: the node's own token decides
    except OSError as error:
        raise UsageError(
            f"--{kind} {name}",
            f"not on this machine, and the hub cannot be reached ({getattr(error, 'reason', error)})",
            f"give a local path or one of: {listed}",
        ) from error
