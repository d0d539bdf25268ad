"""`ugro pull`: a job's results into a folder."""

from __future__ import annotations

from pathlib import Path

import click

from ugro_py.complete import job_names


@click.command()
@click.argument("job", shell_complete=job_names)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace DIR if it holds an earlier pull.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(job: str, folder: Path, force: bool, as_json: bool) -> None:
    """Copy logs, metrics, checkpoints and everything else of JOB into DIR, which must not exist or be empty."""
    import sys

    from ugro_py.pull import pull
    from ugro_py.reconcile import reconcile
    from ugro_py.state import Store

    with Store.open() as store:
        store.job(job)
        reconcile(store, job)
    if sys.stderr.isatty() and not as_json:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

        with Progress(BarColumn(), DownloadColumn(), TransferSpeedColumn(), console=Console(stderr=True)) as bar:
            task = bar.add_task(job)
            pulled = pull(
                job, folder, force=force, progress=lambda done, total: bar.update(task, completed=done, total=total)
            )
    else:
        pulled = pull(job, folder, force=force)
    for path in pulled.skipped:
        click.echo(f"left out {path}: it leads out of the job's folder or is no file", err=True)
    if as_json:
        import json

        values = {"job": job, "folder": str(pulled.target), "files": pulled.files, "bytes": pulled.size}
        click.echo(json.dumps(values | {"left_out": [str(path) for path in pulled.skipped]}, indent=2))
    else:
        click.echo(f"{pulled.files} files ({pulled.size / 1e6:,.1f} MB) in {pulled.target}")
