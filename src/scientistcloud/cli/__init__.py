"""The commands. The files of this folder are the commands; each is imported only when it is called."""

from __future__ import annotations

import sys
from importlib import import_module

import click

from scientistcloud import __version__
from scientistcloud.errors import CallersMistake, ScientistCloudError

# name -> (module in this folder, the line that --help shows)
COMMANDS = {
    "demo": ("demo", "One data set all the way: uploaded, converted, shown."),
    "serve": ("serve", "The portal, with a worker beside it."),
    "worker": ("worker", "A background service alone, for another machine."),
    "upload": ("upload", "Send files to a running portal; resumes where it broke off."),
    "import": ("importing", "Have the server fetch files: https, S3, SFTP …"),
    "datasets": ("datasets", "Your data sets: list, show, download, delete, share."),
    "register": ("register", "Data sets that stay where they are, under REGISTER_ROOTS."),
    "convert": ("convert", "Convert files without server or database."),
    "reproduce": ("reproduce", "Convert a data set again and compare every file."),
    "inspect": ("inspect", "What would be read from a file, and why."),
    "sensors": ("sensors", "The kinds of source data known here."),
    "jobs": ("jobs", "The operator's view of the queue: list, watch, cancel …"),
    "stats": ("stats", "The figures of the queue."),
    "doctor": ("doctor", "What is wrong with this installation."),
    "migrate-legacy": ("migrate_legacy", "Turn the older system's records into ours."),
    "verify": ("verify", "The three checks of the architecture of record."),
}


class Commands(click.Group):
    """A group whose commands are imported when they are called, and whose errors are one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"scientistcloud.cli.{COMMANDS[cmd_name][0]}")
        command = module.command
        assert isinstance(command, click.Command)
        return command

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.format_commands(ctx, formatter)
        formatter.write_text("Each takes --help. --version shows the version.")

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(version)s")
def group() -> None:
    """Scientific data sets in, a form that a browser can fly through out."""


def main() -> None:
    """Run the command line; one line on standard error and status 2 or 1 where it cannot."""
    try:
        status = group.main(standalone_mode=False)
        sys.exit(status if isinstance(status, int) else 0)
    except click.ClickException as wrong:
        _say(wrong.format_message())
        sys.exit(2)
    except click.Abort:
        _say("interrupted")
        sys.exit(130)
    except CallersMistake as wrong:
        _say(str(wrong))
        sys.exit(2)
    except ScientistCloudError as failed:
        _say(str(failed))
        sys.exit(1)


def _say(message: str) -> None:
    click.echo(f"scientistcloud: {' '.join(message.split())}", err=True)
