"""The Markdown notes of an experiment: UGRO's figures between two markers, a person's words around them."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ugro_py import paths
from ugro_py.display import duration, number
from ugro_py.errors import StateError
from ugro_py.results import JobResults, LossPoint

BEGIN = "<!-- ugro: figures, rewritten by ugro; write outside of these marks -->"
END = "<!-- ugro: end of figures -->"


def write(results: JobResults, more: Mapping[str, Any] | None = None, tags: Sequence[str] = (), note: str = "") -> Path:
    """Write the notes of a job, or refresh the figures in them; return their path.

    Args:
        results: its figures.
        more: what `ugro_py.experiment_figures` adds to them.
        tags: of the job.
        note: what `ugro results note` keeps with the job.

    Raises:
        StateError: the notes cannot be read or written.
    """
    path = paths.experiment_notes(results.job)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        old = path.read_text(encoding="utf-8") if path.exists() else None
        block = f"{BEGIN}\n{figures(results, more or {}, tags, note)}\n{END}"
        if old is None:
            _replace(path, f"# {results.job}\n\n{block}\n\n## Notes\n\n")
        elif old.count(BEGIN) == old.count(END) == 1 and old.index(BEGIN) < old.index(END):
            before, _, rest = old.partition(BEGIN)
            _replace(path, f"{before}{block}{rest.partition(END)[2]}")
    except (OSError, UnicodeDecodeError) as error:
        raise StateError(f"{path}: write the experiment's notes", str(error), "check the file and the disk") from error
    return path


def figures(results: JobResults, more: Mapping[str, Any], tags: Sequence[str] = (), note: str = "") -> str:
    """Return the figures of a job as a Markdown table, and what it ran."""
    rows = [
        ("Status", f"{results.status} {results.reason}"),
        ("Started", f"{results.started_at:%Y-%m-%d %H:%M:%S} UTC" if results.started_at else "-"),
        ("Duration", duration(results.duration_s)),
        ("Ranks", f"{results.ranks} on {', '.join(results.nodes) or '-'}"),
        ("Attempts", str(results.attempts)),
        ("Steps", number(results.steps)),
        ("Loss, first", loss(results.loss_first)),
        ("Loss, last", loss(results.loss_last)),
        ("Loss, best", loss(results.loss_best)),
        ("Throughput", number(results.throughput_tokens_sec, "tokens/s")),
        ("GPU utilisation, mean", number(results.gpu_util_percent, "%")),
        ("GPU memory, mean", number(results.gpu_mem_gb, "GB")),
        ("GPU hours", number(more.get("gpu_hours"))),
        ("GPU energy", number(more.get("energy_kwh"), "kWh")),
        ("Tags", ", ".join(tags) or "-"),
        ("Checkpoint", results.checkpoint or "-"),
        ("TensorBoard", results.tensorboard or "-"),
        ("Files", results.store),
    ]
    text = "| | |\n|---|---|\n" + "\n".join(f"| {name} | {_cell(value)} |" for name, value in rows)
    if note:
        rows_of_note = "\n".join(f"> {_cell(line)}".rstrip() for line in note.splitlines())
        text += f"\n\n{rows_of_note}"
    program = _capsule(results.job).get("program")
    if isinstance(program, list) and all(isinstance(word, str) for word in program):
        text += f"\n\n{_fenced(shlex.join(program))}"
    return text


def loss(point: LossPoint | None) -> str:
    """Return a loss and its step for people."""
    return f"{point.loss:.4f} at step {point.step}" if point else "-"


def _capsule(job: str) -> dict[str, Any]:
    try:
        value = json.loads(paths.JobPaths(job).config.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _cell(text: str) -> str:
    """Return text that cannot end a cell, nor be read as HTML."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\|`*_\[\]])", r"\\\1", text)


def _fenced(text: str) -> str:
    """Return a code block; its fence is longer than any run of backticks in it, and it holds no marker."""
    text = text.replace("<!--", "<! --")
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}console\n{text}\n{fence}"


def _replace(path: Path, text: str) -> None:
    """Replace the file in one step; where a person made it a link, the file it leads to."""
    target = path.resolve()
    temporary = target.with_name(f".{target.name}.new")
    temporary.write_text(text, encoding="utf-8")
    if target.exists():
        temporary.chmod(target.stat().st_mode & 0o7777)
    temporary.replace(target)
