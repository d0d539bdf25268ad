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
    """Copy logs, metrics, checkpoints and everything else of JOB into DIR, which must not exist or be empty.

    Who has no store of their own gets from the agent what all may read: logs, metrics and checkpoints.
    """
    import sys

    from ugro_py.api.client import connect
    from ugro_py.pull import Progress as Tell
    from ugro_py.pull import Pulled

    client = connect(reading=True)
    if client is None:
        from ugro_py.reconcile import reconcile
        from ugro_py.state import Store

        with Store.open() as store:
            store.job(job)
            reconcile(store, job)

    def copy(tell: Tell | None = None) -> Pulled:
        if client is not None:
            from ugro_py.api.fetch import fetch

            return fetch(client, job, folder, force=force, progress=tell)
        from ugro_py.pull import pull

        return pull(job, folder, force=force, progress=tell)

    if sys.stderr.isatty() and not as_json:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

        with Progress(BarColumn(), DownloadColumn(), TransferSpeedColumn(), console=Console(stderr=True)) as bar:
            task = bar.add_task(job)
            pulled = copy(lambda done, total: bar.update(task, completed=done, total=total))
    else:
        pulled = copy()
    for path in pulled.skipped:
        click.echo(f"left out {path}: it leads out of the job's folder, is no file, or is gone", err=True)
    if as_json:
        import json

        values = {"job": job, "folder": str(pulled.target), "files": pulled.files, "bytes": pulled.size}
        click.echo(json.dumps(values | {"left_out": [str(path) for path in pulled.skipped]}, indent=2))
    else:
        from ugro_py.display import counted

        click.echo(f"{counted(pulled.files, 'file')} ({pulled.size / 1e6:,.1f} MB) in {pulled.target}")
