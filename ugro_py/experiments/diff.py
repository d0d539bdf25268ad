"""What jobs were run with, side by side: hyper-parameters, code, packages, hardware, from their run capsules."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ugro_py.paths import JobPaths, is_spooled
from ugro_py.request import training
from ugro_py.request.job import TRAIN_SCRIPT, used

SECTIONS = ("hyper-parameters", "code", "packages", "hardware")
ENVIRONMENT = "env "
"""Keys of environment variables begin with this."""
_WORDS = "arguments"
"""The key of arguments that belong to no option."""
# What a request says of how a job waits and is looked after: it changes nothing of what was trained.
_NOT_TRAINED = frozenset({
    "name", "args", "env", "workdir", "retry", "stall_timeout_s", "priority", "hold", "after", "time_limit_s",
    "no_wait", "tags", "note", "include", "exclude", "min_vram_gb", "max_vram_gb", "min_nodes",
})  # fmt: skip
_Values = dict[str, Any]


@dataclass(frozen=True)
class Difference:
    """One thing that jobs were run with.

    `values` are in the order of the jobs, None where a job has none. `unknown` are the places of those of which that
    is not known, since they never started.
    """

    section: str
    key: str
    values: tuple[Any, ...]
    unknown: tuple[int, ...] = ()

    @property
    def differs(self) -> bool:
        """Whether not all jobs have the same, as far as is known."""
        known = [value for place, value in enumerate(self.values) if place not in self.unknown]
        return any(value != known[0] for value in known)

    @property
    def private(self) -> bool:
        """Whether it is an argument or a variable that was given: masked by its name alone, so not for everybody."""
        return self.section == SECTIONS[0] and (self.key == _WORDS or self.key.startswith(("-", ENVIRONMENT)))

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"section": self.section, "key": self.key, "values": list(self.values), "differs": self.differs}


def differences(jobs: Sequence[str], requests: Sequence[Mapping[str, Any]]) -> list[Difference]:
    """Return all that the jobs were run with, also what is the same, by section and key.

    Args:
        jobs: their names.
        requests: what each asked for, for one that has no run capsule because it never started.
    """
    runs = [capsule(job) for job in jobs]
    found = [_sections(run, request) for run, request in zip(runs, requests, strict=True)]
    same_code = _same_code([one for one, run in zip(found, runs, strict=True) if run])
    rows = []
    for section in SECTIONS:
        keys = dict.fromkeys(key for one in found for key in one[section])
        for key in sorted(keys) if section == "packages" else keys:
            values = tuple(one[section].get(key) for one in found)
            if (section, key) == ("code", "folder") and same_code and len(set(values)) > 1:
                continue  # the same code, wherever it lay
            if any(value is not None for value in values):
                unknown = tuple(place for place, run in enumerate(runs) if not run and values[place] is None)
                rows.append(Difference(section, key, values, unknown))
    return rows


def _same_code(found: Sequence[Mapping[str, _Values]]) -> bool:
    digests = {one["code"].get("digest") for one in found}
    return len(digests) == 1 and None not in digests


def capsule(job: str) -> Mapping[str, Any]:
    """Return the run capsule of a job; empty if it never started, or what lies there is none."""
    try:
        return _object(json.loads(JobPaths(job).config.read_bytes()))
    except (OSError, ValueError, RecursionError):
        return {}


def _sections(run: Mapping[str, Any], request: Mapping[str, Any]) -> dict[str, _Values]:
    nodes = [_object(node) for node in _list(run.get("nodes"))]
    return {
        "hyper-parameters": _parameters(run, _object(run.get("request")) or _unmasked(request)),
        "code": _code(run),
        "packages": _packages(nodes),
        "hardware": _hardware(run, nodes),
    }


def _unmasked(request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a request without what may hold secrets, which only a run capsule has masked."""
    return {key: value for key, value in request.items() if key not in ("args", "env")}


def _parameters(run: Mapping[str, Any], request: Mapping[str, Any]) -> _Values:
    found = {key: _plain(value) for key, value in request.items() if key not in _NOT_TRAINED and value not in ((), [])}
    found = used(found, request.get("script"))
    found |= {key: _plain(run[key]) for key in ("seed", "world_size") if key in run}
    own = {} if request.get("script") else _training(run)
    options = _options(_list(request.get("args")))
    # What is in force is told by one name, whether it was given or not.
    if own:
        options = {k: v for k, v in options.items() if training.name_of(k) not in own and k != "--seed"}
    found |= own | options
    return found | {f"{ENVIRONMENT}{key}": _plain(value) for key, value in sorted(_object(request.get("env")).items())}


def _training(run: Mapping[str, Any]) -> _Values:
    """Return the options of UGRO's own training that were in force; of older capsules, those that were given."""
    recorded = _object(run.get("training"))
    if recorded:
        return {str(key): _plain(value) for key, value in recorded.items()}
    words = [str(word) for word in _list(run.get("program"))]
    return training.given(words[1:]) if words[:1] == [TRAIN_SCRIPT] else {}


def _options(words: Sequence[Any]) -> _Values:
    """Return the arguments of a script by option: `--lr 0.1 --fp16 x` is `--lr` 0.1, `--fp16` x."""
    found: dict[str, list[str]] = {}
    option = ""
    for word in map(str, words):
        if word.startswith("-") and not _is_number(word):
            option, equals, value = word.partition("=")
            found.setdefault(option, []).extend([value] if equals else [])
            option = "" if equals else option
        else:
            found.setdefault(option or _WORDS, []).append(word)
    return {key: " ".join(values) or "given" for key, values in found.items()}


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _code(run: Mapping[str, Any]) -> _Values:
    code = _object(run.get("code"))
    git = _object(code.get("git"))
    diff = git.get("diff")
    changes = f"yes ({hashlib.sha256(diff.encode('utf-8', 'replace')).hexdigest()[:12]})" if diff else "none"
    return {
        "folder": None if is_spooled(code.get("folder")) else _plain(code.get("folder")),
        "digest": _plain(code.get("digest")),
        "git commit": _plain(git.get("commit")),
        "git branch": _plain(git.get("branch")),
        "uncommitted changes": changes if git else None,
        "UGRO": _plain(run.get("ugro_version")),
    }


def _packages(nodes: Sequence[Mapping[str, Any]]) -> _Values:
    names: dict[str, dict[str, str]] = {}
    for node in nodes:
        python = _object(node.get("packages"))
        said = {"Python": python.get("python"), "CUDA of torch": python.get("cuda"), "NCCL": python.get("nccl")}
        for name, version in {**_object(python.get("packages")), **said}.items():
            if version is not None:
                names.setdefault(str(name), {})[str(node.get("name"))] = str(version)
    return {name: _agreed(versions, len(nodes)) for name, versions in names.items()}


def _hardware(run: Mapping[str, Any], nodes: Sequence[Mapping[str, Any]]) -> _Values:
    ranks = [_object(rank) for rank in _list(run.get("ranks"))]
    cards = Counter(_card(rank.get("gpu_name"), rank.get("vram_gb")) for rank in ranks)
    found: _Values = {
        "GPUs of the ranks": _counted(cards),
        "nodes": ", ".join(str(node.get("name")) for node in nodes) or None,
    }
    for key, name in (("driver", "driver"), ("cuda", "CUDA of the driver"), ("kernel", "kernel")):
        said = {str(node.get("name")): str(node[key]) for node in nodes if node.get(key) is not None}
        found[name] = _agreed(said, len(nodes)) if said else None
    for node in nodes:
        here = Counter(
            _card(gpu.get("name"), gpu.get("vram_total_gb")) for gpu in map(_object, _list(node.get("gpus")))
        )
        found[f"GPUs of {node.get('name')}"] = _counted(here) or "none"
    return found


def _agreed(values: Mapping[str, str], nodes: int) -> str:
    """Return what all nodes have, or what each has."""
    if len(values) == nodes and len(set(values.values())) == 1:
        return next(iter(values.values()))
    return ", ".join(f"{node}: {value}" for node, value in values.items())


def _card(name: Any, vram_gb: Any) -> str:
    return f"{name} {vram_gb:g} GB" if isinstance(vram_gb, int | float) and not isinstance(vram_gb, bool) else str(name)


def _counted(cards: Mapping[str, int]) -> str | None:
    return ", ".join(f"{count} x {card}" for card, count in cards.items()) or None


def _plain(value: Any) -> Any:
    """Return a value that can be compared and shown in a cell."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else json.dumps(value, default=str)


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def shown(rows: Iterable[Difference], everything: bool) -> list[Difference]:
    """Return the rows to show: by default those in which the jobs differ."""
    return [row for row in rows if everything or row.differs]
