"""`ugro results`: what a job achieved, all experiments, and what people say of them."""

from __future__ import annotations

import json
import sys
from typing import Any

import click
from click.shell_completion import CompletionItem

from ugro_py.complete import job_names


class _JobOrVerb(click.Group):
    """A group that takes a job where another would want the name of a command: `ugro results JOB`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Let a word that is no command stand for a job; options may stand before it."""
        return super().parse_args(ctx, self.arranged(args))

    def arranged(self, args: list[str]) -> list[str]:
        """Return the arguments with the command first that they mean: `JOB --json` is `show JOB --json`.

        Options that only the list has, as in `--sort loss`, are the list's.
        """
        of_list = {name for one in ls.params for name in one.opts} - {name for one in show.params for name in one.opts}
        if args and args[0].partition("=")[0] in of_list:
            return ["ls", *args]
        place = next((place for place, word in enumerate(args) if not word.startswith("-")), None)
        if place is None:
            return args
        if args[place] not in self.commands or "--" in args[:place]:
            return ["show", *args]
        return [args[place], *args[:place], *args[place + 1 :]]

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete jobs as well as commands."""
        return [*super().shell_complete(ctx, incomplete), *job_names(ctx, self.params[0], incomplete)]


@click.group(cls=_JobOrVerb, invoke_without_command=True, subcommand_metavar="[JOB | COMMAND [ARGS]...]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Show what JOB achieved, as `ugro results show JOB`; without a job list all experiments, as `ugro results ls`.

    A job that is called like one of the commands is shown by `ugro results show NAME`.
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(ls, as_json=as_json)


@command.command("show")
@click.argument("job", shell_complete=job_names)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--width", type=click.IntRange(40, 500), metavar="N", help="Columns of the curve [default: the terminal's]."
)
def show(job: str, as_json: bool, width: int | None) -> None:
    """Show what JOB achieved: loss, throughput, time, GPU use, checkpoint, and its loss curve."""
    from ugro_py import results
    from ugro_py.api.client import connect, job_path

    client = connect(reading=True)
    if client is not None:
        found = results.from_json(**client.get(job_path(job, "results")))
    else:
        from ugro_py.reconcile import reconcile
        from ugro_py.state import Store

        with Store.open() as store:
            store.job(job)
            reconcile(store, job)
            found = results.summary(job, store)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
        return

    from ugro_py.results.text import text

    click.echo(text(found, width))


@command.command("ls")
@click.option(
    "--filter", "filters", multiple=True, metavar="KEY=VALUE", help="Only such: user=eva, loss<3.2, model~7b."
)
@click.option("--status", metavar="STATUS", help="Only jobs with this status.")
@click.option("--user", metavar="USER", help="Only jobs of this user.")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="Only jobs with this tag (may be repeated).")
@click.option(
    "--search", default="", metavar="TEXT", help="Only jobs with this in name, model, data set, tags or note."
)
@click.option("--sort", default="-created", metavar="KEY", help="loss, best, steps, …; -KEY: greatest first.")
@click.option("-n", "limit", type=click.IntRange(1, 10_000), default=50, metavar="N", help="At most N [default: 50].")
@click.option("--offset", type=click.IntRange(0), default=0, metavar="N", help="Leave out the first N.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def ls(
    filters: tuple[str, ...] = (),
    status: str | None = None,
    user: str | None = None,
    tags: tuple[str, ...] = (),
    search: str = "",
    sort: str = "-created",
    limit: int = 50,
    offset: int = 0,
    as_json: bool = False,
) -> None:
    """List experiments, the newest first, with their figures, tags and notes.

    KEY is status, user, model, dataset, tag (= != and ~ for "contains"), or steps, duration, loss, best, throughput,
    gpu_hours, energy (= != < <= > >=). To sort there are created and job too.
    """
    from ugro_py.reports import doors

    given = [f"status={status}"] if status is not None else []
    given += [f"user={user}"] if user is not None else []
    found = doors.listed(
        [*filters, *given, *(f"tag={tag}" for tag in tags)], search, sort, limit, offset
    )  # fmt: skip
    if as_json:
        click.echo(json.dumps(found, indent=2))
    elif not found["experiments"]:
        click.echo("No such experiment." if given or filters or tags or search or offset else "No experiment yet.")
    else:
        from ugro_py.reports.text import print_experiments

        print_experiments(found["experiments"], found["total"])


class _Changes(click.Command):
    """A command whose words may begin with `-`: `-paper` is one word, not the options -p, -a, …, of which -h is one."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Have options first: those with two dashes, and `-h` alone."""
        place = args.index("--") if "--" in args else len(args)
        before, after = args[:place], args[place + 1 :]
        options = [word for word in before if word == "-h" or word.startswith("--")]
        return super().parse_args(ctx, [*options, "--", *(word for word in before if word not in options), *after])


@command.command("tag", cls=_Changes)
@click.argument("job", shell_complete=job_names)
@click.argument("changes", metavar="+TAG|-TAG...", nargs=-1, type=click.UNPROCESSED)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def tag(job: str, changes: tuple[str, ...], as_json: bool) -> None:
    """Give JOB tags (`+good`, or `good`), or take some away (`-bad`); with neither list those it has."""
    from ugro_py.reports import doors

    changed, tags = doors.tag(job, changes) if changes else (False, doors.tags(job))
    if as_json:
        click.echo(json.dumps({"job": job, "changed": changed, "tags": tags}))
    elif not changes:
        click.echo("\n".join(tags) if tags else f"job {job} has no tag", err=not tags)
    else:
        has = "has" if changed else "had already"
        click.echo(f"job {job} {has} {'the tags ' + ' '.join(tags) if tags else 'no tag'}")


@command.command("note")
@click.argument("job", shell_complete=job_names)
@click.argument("text", nargs=-1)
@click.option("--remove", is_flag=True, help="Remove the note.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def note(job: str, text: tuple[str, ...], remove: bool, as_json: bool) -> None:
    """Keep TEXT as the note of JOB (`-`: what standard input says); without a text show the note."""
    from ugro_py.reports import doors

    words = " ".join(text)
    if remove and text:
        raise click.UsageError("give either a text or --remove")
    if text and not words.strip():
        raise click.UsageError("the text is empty; --remove removes the note")
    if not remove and not words.strip():
        found: Any = doors.note(job)
        if not found and not as_json:
            click.echo(f"job {job} has no note", err=True)
            return
        click.echo(json.dumps({"job": job, "text": found}, indent=2) if as_json else found)
        return
    if words == "-":
        words = sys.stdin.read()
    changed = doors.set_note(job, "" if remove else words)
    done = "removed" if remove else "kept"
    click.echo(json.dumps({"job": job, "changed": changed}) if as_json else f"note of job {job} {done}")
