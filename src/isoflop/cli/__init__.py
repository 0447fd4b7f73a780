"""The command line: one thin file per verb, found when it is called.

The table below is all that `isoflop --help` needs, so help answers before numpy or torch are imported; a test holds
each summary against the docstring of its command.
"""

import importlib

import click

from isoflop import __version__
from isoflop.cli.shell import guarded

COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("isoflop.cli.demo:demo", "The whole loop on this machine: text to law to plan to page."),
    "data": ("isoflop.cli.data:data", "From text to token shards."),
    "tokenizer": ("isoflop.cli.tokenizer:tokenizer", "Train a tokenizer, use it, and see what it does to a text."),
    "train": ("isoflop.cli.train:train", "Train one model by a recipe."),
    "continue": ("isoflop.cli.continue_run:continue_run", "Go on from a checkpoint: more, a cooldown, other data."),
    "ladder": ("isoflop.cli.ladder:ladder", "Train a ladder of small runs and fit its law."),
    "law": ("isoflop.cli.law:law", "Fit scaling laws to runs and use them."),
    "plan": ("isoflop.cli.plan:plan", "What a budget can train, what it costs, and how sure that is."),
    "count": ("isoflop.cli.count:count", "Parameters, work and memory of a model, without building it."),
    "check": ("isoflop.cli.check:check", "Numbers in circulation, right and wrong, computed again."),
    "runs": ("isoflop.cli.runs:runs", "The runs on this disk."),
    "calibrate": ("isoflop.cli.calibrate:calibrate", "Measure this machine, so that plans know it."),
    "doctor": ("isoflop.cli.doctor:doctor", "What this machine has and can do."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when called; their summaries stand in a table."""

    def __init__(self, *, table: dict[str, tuple[str, str]], **settings: object) -> None:
        super().__init__(**settings)  # type: ignore[arg-type]
        self.table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the loop, not of the alphabet."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command now."""
        if cmd_name not in self.table:
            return None
        module, _, attribute = self.table[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, but a wrong name is answered with the nearest ones."""
        if args and not args[0].startswith("-") and args[0] not in self.table:
            from isoflop.errors import UnknownNameError

            raise UnknownNameError("command", args[0], self.table)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from the table, importing none."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in self.table.items()])


class DefaultGroup(LazyGroup):
    """A group that takes arguments which begin with none of its commands for those of the first one in its table.

    Attributes:
        options_only: that one takes options alone, so that a word in their place is a mistyped command.
    """

    def __init__(self, *, table: dict[str, tuple[str, str]], options_only: bool = False, **settings: object) -> None:
        super().__init__(table=table, **settings)
        self.options_only = options_only

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """`count llama3-8b --json` is `count model llama3-8b --json`; two words of which the first is all but a command
        are a slip.
        """
        if args and args[0] not in {*self.table, "-h", "--help"} and not self._slip(args):
            args = [next(iter(self.table)), *args]
        return super().parse_args(ctx, args)

    def _slip(self, args: list[str]) -> bool:
        """Its first word is a mistyped command, and will be answered as one."""
        from difflib import get_close_matches

        words = [arg for arg in args[:2] if not arg.startswith("-")]
        if self.options_only:
            return args[0] in words
        return len(words) == 2 and bool(get_close_matches(words[0], self.table, cutoff=0.75))


@click.group(cls=LazyGroup, table=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="isoflop")
def app() -> None:
    """From a compute budget to a language model you can defend.

    text -> shards -> a ladder of small real runs -> a fitted scaling law -> a plan for the budget -> the training run.
    """


def main() -> None:
    """Entry point of the `isoflop` command."""
    guarded(app)
