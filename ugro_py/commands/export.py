"""`ugro export`: experiments for other programs."""

from __future__ import annotations

from pathlib import Path

import click

from ugro_py.complete import job_names


@click.command()
@click.argument("jobs", metavar="JOB...", nargs=-1, required=True, shell_complete=job_names)
@click.option("-o", "target", required=True, type=click.Path(path_type=Path), metavar="PATH", help="File to write; for mlflow a folder.")  # fmt: skip  # noqa: E501
@click.option(
    "--format", "kind", type=click.Choice(["csv", "parquet", "json", "mlflow"]), help="[default: as PATH ends]"
)
@click.option("--force", is_flag=True, help="Replace PATH if it is a file that is there.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON of what was written.")
def command(jobs: tuple[str, ...], target: Path, kind: str | None, force: bool, as_json: bool) -> None:
    """Write the metrics of JOBs for other programs.

    csv and parquet have a line for each step and rank; json has figures, tags, notes and what was run with as well;
    mlflow adds each job as a run to MLflow's file store in the folder PATH (needs `pip install 'ugro[mlflow]'`).
    """
    from ugro_py import report_doors, report_export

    names = tuple(dict.fromkeys(jobs))
    chosen = report_export.format_of(target, kind)
    found = (
        [report_doors.details(job) for job in names]
        if chosen in ("json", "mlflow")
        else [{"job": job} for job in names]
    )
    with report_doors.metrics_here(names):
        if chosen == "mlflow":
            from ugro_py import report_mlflow

            lines = report_mlflow.write(found, target)
        else:
            lines = report_export.write(found, target, chosen, force)
    if as_json:
        import json

        click.echo(json.dumps({"path": str(target), "format": chosen, "jobs": list(names), "lines": lines}))
    else:
        what = "numbers" if chosen == "mlflow" else "lines"
        click.echo(f"{lines:,} {what} of {len(names)} {'job' if len(names) == 1 else 'jobs'} in {target}")
