"""`ugro compare`: experiments side by side."""

from __future__ import annotations

import click

from ugro_py.complete import job_names


@click.command()
@click.argument("jobs", metavar="JOB JOB...", nargs=-1, required=True, shell_complete=job_names)
@click.option("--loss", type=float, metavar="L", help="Also tell when each first reached this training loss.")
@click.option("--all", "everything", is_flag=True, help="Also show what they have in common.")
@click.option("--code", is_flag=True, help="Also show how their code differs, line by line.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def command(
    inventory: str | None, jobs: tuple[str, ...], loss: float | None, everything: bool, code: bool, as_json: bool
) -> None:
    """Compare jobs: loss, time, throughput, GPU hours, energy and its cost, and in what they differ.

    That is hyper-parameters, code, packages and hardware. The price of energy is set in the inventory
    (`ugro_energy`).
    """
    from ugro_py.reports import doors

    if len(set(jobs)) < 2:
        raise click.UsageError("name two jobs or more")
    found = doors.compared(inventory, jobs, loss=loss, everything=everything)
    if as_json:
        import json

        click.echo(json.dumps(found, indent=2))
        return
    from ugro_py.reports.text import print_comparison

    print_comparison(found, code)
