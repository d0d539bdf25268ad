"""The run capsule: everything needed to tell, or repeat, what a job was. Kept as the job's `config.json`."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ugro_py import __version__
from ugro_py.cluster import Cluster, Node
from ugro_py.paths import JobPaths
from ugro_py.plan import Gang, program
from ugro_py.request import training
from ugro_py.request.job import JobRequest

_LARGEST_DIFF = 1 << 20
_DEFAULT_SEED = 42
_SECRET = re.compile(r"(token|secret|pass|passwd|password|passphrase|key|auth|credentials?)$", re.IGNORECASE)


def write(
    gang: Gang,
    request: JobRequest,
    cluster: Cluster,
    nodes: Mapping[str, Node],
    reports: Mapping[str, Mapping[str, Any]],
    user: str,
    code_digest: str,
    code_git: dict[str, Any] | None,
    code_root: Path | None = None,
) -> Path:
    """Write `config.json` of an attempt (whole or not at all) and return its path.

    `code_git` is from `git`; `code_root` is where the code is that runs, as it was when the job was submitted.
    """
    target = JobPaths(gang.job).config
    words = program(request, cluster)
    values = {
        "job_id": gang.job,
        "attempt": gang.attempt,
        "created": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "user": user,
        "ugro_version": __version__,
        "cluster": cluster.name,
        "inventory": str(cluster.source),
        "request": replace(request, tags=(), note="").as_dict()  # they are no part of how it was run, and change
        | {
            "env": {key: _masked(key, value) for key, value in request.env.items()},
            "args": _masked_words(request.args),
        },
        "model": request.model if request.script is None else None,
        "dataset": request.dataset if request.script is None else None,
        "program": _masked_words(words),
        "training": training.in_force(words[1:], request.model, code_root) if request.script is None else None,
        "seed": seed(request.args),
        "world_size": gang.world_size,
        "world_size_wanted": gang.world_size_wanted or gang.world_size,
        "master_addr": gang.master_addr,
        "master_port": gang.master_port,
        "ranks": [
            {
                "rank": place.rank, "node": place.node, "local_rank": place.local_rank,
                "gpu": place.gpu.uuid, "gpu_name": place.gpu.name, "vram_gb": place.gpu.vram_gb,
            }
            for place in gang.placements
        ],
        "nodes": [_node(nodes[name], reports[name]) for name in gang.nodes],
        "code": {
            "folder": request.workdir or "train/",
            "digest": code_digest,
            "git": code_git,
        },
    }  # fmt: skip
    part = target.with_suffix(".new")
    part.touch(mode=0o600)
    part.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    part.replace(target)
    return target


def _masked(key: str, value: str) -> str:
    """Keep what looks like a secret out of a file that people share."""
    return "***" if _SECRET.search(key) else value


def _masked_words(words: Sequence[str]) -> list[str]:
    """Return arguments with the values of options that look like secrets masked: `--hf-token X`, `--password=X`."""
    result: list[str] = []
    for word in words:
        name, equals, value = word.partition("=")
        if result and result[-1].startswith("-") and "=" not in result[-1] and not word.startswith("-"):
            result.append(_masked(result[-1], word))
        else:
            result.append(f"{name}={_masked(name, value)}" if equals and name.startswith("-") else word)
    return result


def seed(args: tuple[str, ...]) -> int:
    """Return the seed among a script's arguments, else the training's default."""
    for position, word in enumerate(args):
        value = word.removeprefix("--seed=") if word.startswith("--seed=") else None
        if word == "--seed" and position + 1 < len(args):
            value = args[position + 1]
        if value is not None and value.isdigit():
            return int(value)
    return _DEFAULT_SEED


def _node(node: Node, report: Mapping[str, Any]) -> dict[str, Any]:
    reading = report["node"]
    return {
        "name": node.name,
        "address": node.address,
        "user": reading["user"],
        "hostname": reading["hostname"],
        "kernel": reading["kernel"],
        "interface": reading["interface"],
        "driver": report["gpu"]["driver"],
        "cuda": report["gpu"]["cuda"],
        "gpus": [
            {key: gpu[key] for key in ("index", "uuid", "name", "vram_total_gb")} for gpu in report["gpu"]["gpus"]
        ],
        "packages": reading["train_python"],
    }


def git(folder: Path) -> dict[str, Any] | None:
    """Return commit, branch and uncommitted diff of the repository `folder` is in; None outside one."""

    def ask(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, timeout=10, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.decode(errors="replace") if done.returncode == 0 else None

    commit = ask("rev-parse", "HEAD")
    if commit is None:
        return None
    diff = ask("diff", "HEAD", "--", ".") or ""
    return {
        "commit": commit.strip(),
        "branch": (ask("rev-parse", "--abbrev-ref", "HEAD") or "").strip(),
        "diff": diff[:_LARGEST_DIFF],
        "diff_truncated": len(diff) > _LARGEST_DIFF,
    }
