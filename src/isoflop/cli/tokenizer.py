"""`isoflop tokenizer`: train one, use it, measure it, and choose its size."""

import click

from isoflop.cli import LazyGroup

COMMANDS = {
    "train": ("isoflop.cli.tokenizer_train:train_command", "Learn a tokenizer from text."),
    "encode": (
        "isoflop.cli.tokenizer_encode:encode_command",
        "Text to token shards, or what comes in on stdin to ids.",
    ),
    "decode": (
        "isoflop.cli.tokenizer_encode:decode_command",
        "IDS, or those on stdin, back to the bytes they stand for.",
    ),
    "report": (
        "isoflop.cli.tokenizer_report:report_command",
        "What TOKENIZER makes of a text: compression, fertility, tokens used, numbers.",
    ),
    "advise": (
        "isoflop.cli.tokenizer_advise:advise_command",
        "Which vocabulary to take for a model, by a law and by your text.",
    ),
    "engines": (
        "isoflop.cli.tokenizer_engines:engines_command",
        "Hold the merges of both engines on one text against each other.",
    ),
}


@click.group(cls=LazyGroup, table=COMMANDS)
def tokenizer() -> None:
    """Train a tokenizer, use it, and see what it does to a text."""
