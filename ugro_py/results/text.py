"""The figures of a job and its loss curve, for a terminal."""

from __future__ import annotations

import shutil
import sys

from ugro_py.display import curve, duration, number
from ugro_py.experiments.notes import last_loss, loss, no_number
from ugro_py.results import JobResults, thin

_WIDEST_BY_ITSELF = 120


def text(results: JobResults, width: int | None = None) -> str:
    """Return what `ugro results` prints.

    Args:
        width: columns of the curve; default those of the terminal, 80 where there is none.
    """
    columns = width or min(shutil.get_terminal_size((80, 24)).columns, _WIDEST_BY_ITSELF)
    on = f"{results.ranks} on {', '.join(results.nodes)}" if results.nodes else str(results.ranks)
    rows = [
        ("status", f"{results.status} ({results.reason})" if results.reason else results.status),
        ("ranks", on),
        ("attempts", str(results.attempts)),
        ("steps", number(results.steps)),
        ("time", duration(results.duration_s)),
        ("loss first", loss(results.loss_first)),
        ("loss last", last_loss(results)),
        ("loss best", loss(results.loss_best)),
        ("throughput", number(results.throughput_tokens_sec, "tokens/s")),
        ("GPU utilisation", _mean(results.gpu_util_percent, "%")),
        ("GPU memory", _mean(results.gpu_mem_gb, "GB")),
        ("CPU", _mean(results.cpu_percent, "% of each node")),
        ("node memory", _mean(results.node_mem_gb, "GB")),
        ("checkpoint", results.checkpoint or "none"),
        ("tensorboard", results.tensorboard or "none"),
        ("files", results.store),
    ]
    if results.nonfinite_steps:
        rows.insert(8, ("loss NaN/inf", no_number(results.nonfinite_steps)))
    lines = [results.job, *(f"  {name:<17}{value}" for name, value in rows), ""]
    if results.curve:
        points = [(point.step, point.loss) for point in thin(results.curve)]
        lines.append(curve(points, width=columns, title="training loss, mean of the ranks", braille=_has_unicode()))
    elif results.folder_gone:
        rest = "" if results.loss_first is None else "; the figures are those that the state database keeps"
        lines.append(f"There is no folder {results.store} any more, and so no curve{rest}.")
    elif results.nonfinite_steps:
        lines.append("No loss was a finite number, and so there is no curve.")
    else:
        active = results.status not in ("completed", "failed", "stopped", "unknown")
        found = "yet" if active else "was found in what the ranks printed or wrote to UGRO_METRICS_FILE"
        lines.append(f"No loss {found}.")
    return "\n".join(lines)


def _mean(value: float | None, unit: str) -> str:
    return "no reading" if value is None else f"{value:,.1f} {unit} on average"


def _has_unicode() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
