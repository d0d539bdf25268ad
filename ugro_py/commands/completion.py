"""`ugro completion`: the script that makes a shell complete `ugro`."""

from __future__ import annotations

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script of a shell.

    \b
    bash: echo 'eval "$(ugro completion bash)"' >> ~/.bashrc
    zsh:  echo 'eval "$(ugro completion zsh)"' >> ~/.zshrc
    fish: ugro completion fish > ~/.config/fish/completions/ugro.fish
    """
    from click.shell_completion import get_completion_class

    from ugro_py.cli import cli

    completer = get_completion_class(shell)
    assert completer is not None  # Click knows these three
    click.echo(completer(cli, {}, "ugro", "_UGRO_COMPLETE").source())
