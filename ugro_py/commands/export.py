"""`ugro export`: experiments for other programs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click

from ugro_py.complete import job_names


@click.command()
@click.argument("jobs", metavar="JOB...", nargs=-1, required=True, shell_complete=job_names)
@click.option("-o", "target", required=True, type=click.Path(path_type=Path), metavar="PATH", help="File to write, - for standard output (csv, json); for mlflow a folder or FILE.db.")  # fmt: skip  # noqa: E501
@click.option(
    "--format", "kind", type=click.Choice(["csv", "parquet", "json", "mlflow"]), help="[default: as PATH ends]"
)
@click.option("--points", default=None, metavar="N|all", help="mlflow: of each metric at most, extremes are kept [default: 5000].")  # fmt: skip  # noqa: E501
@click.option("--force", is_flag=True, help="Replace PATH if it is a file that is there; mlflow: the jobs' runs in it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON of what was written.")
def command(
    jobs: tuple[str, ...], target: Path, kind: str | None, points: str | None, force: bool, as_json: bool
) -> None:
    """Write the metrics of JOBs for other programs.

    csv and parquet have a line for each step and rank; json has figures, tags, notes and what was run with as well;
    mlflow adds each job as a run to MLflow's store in the folder PATH, or in the SQLite file PATH if that ends in .db
    (needs `pip install 'ugro[mlflow]'`).
    """
    from ugro_py.reports import doors, export

    names = tuple(dict.fromkeys(jobs))
    chosen = export.format_of(target, kind)
    if points is not None and chosen != "mlflow":
        raise click.UsageError("--points is for --format mlflow; the others hold every line")
    found = [doors.details(job) for job in names] if chosen in ("json", "mlflow") else [{"job": job} for job in names]
    left_out = 0
    with doors.metrics_here(names):
        silent = [job for job in names if not doors.has_metrics(job)]
        if chosen == "mlflow":
            from ugro_py.reports import mlflow as report_mlflow

            written = report_mlflow.write(found, target, _points(points), force, _ticker())
            lines, left_out = written.numbers, written.left_out
        else:
            lines = export.write(found, target, chosen, force)
    aside = export.goes_to_standard_output(target, chosen)  # what is said is no part of it
    if as_json:
        import json

        said = {"path": str(target), "format": chosen, "jobs": list(names), "lines": lines, "left_out": left_out}
        click.echo(json.dumps(said), err=aside)
    else:
        what = "numbers" if chosen == "mlflow" else "lines"
        click.echo(f"{lines:,} {what} of {len(names)} {'job' if len(names) == 1 else 'jobs'} in {target}", err=aside)
    if silent:
        click.echo(f"there is no line of metrics of {', '.join(silent)}", err=True)
    if left_out and not as_json:
        were = "point was" if left_out == 1 else "points were"
        click.echo(f"{left_out:,} {were} left out, no least and no greatest ones; `--points all` writes them")


def _ticker() -> Callable[[int], None]:
    """Return what says on a terminal, once a second, how many numbers are written: MLflow may take minutes."""
    import sys
    import time

    shown_at, numbers = time.monotonic(), 0

    def tell(more: int) -> None:
        nonlocal shown_at, numbers
        numbers += more
        if sys.stderr.isatty() and time.monotonic() - shown_at > 1:
            shown_at = time.monotonic()
            click.echo(f"\r{numbers:,} numbers are in MLflow\x1b[K\r", nl=False, err=True)

    return tell


def _points(word: str | None) -> int | None:
    """Return how many points of a metric MLflow gets; None for all."""
    from ugro_py.reports.mlflow import POINTS

    if word is None or word == "all":
        return None if word else POINTS
    if not word.isdecimal() or int(word) < 4:
        raise click.BadParameter(f"{word!r} is neither `all` nor a number from 4 on", param_hint="--points")
    return int(word)
