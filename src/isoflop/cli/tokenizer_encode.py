"""`isoflop tokenizer encode` and `decode`: text to shards, bytes to ids and back."""

import sys
from collections.abc import Sequence
from pathlib import Path

import click

from isoflop.cli.data import write_shards
from isoflop.cli.shell import Output, output_options
from isoflop.errors import InputError, UsageError

TOKENIZER = click.argument("tokenizer", type=click.Path(path_type=Path))


@click.command("encode")
@TOKENIZER
@click.option("--text", type=click.Path(path_type=Path), help="File or folder for --out; default: stdin, to ids.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder of shards to write.")
@click.option(
    "--validation", default=0.08, show_default=True, help="Share of documents held out, by hash of their ids."
)
@click.option("--index-words", type=int, help="Index runs of so many words for `data contamination`, such as 13.")
@click.option("--force", is_flag=True, help="Write over a folder that holds other shards.")
@click.option("--special", is_flag=True, help="Read special tokens on stdin as such, not as text.")
@click.option("--pieces", is_flag=True, help="Show what each id stands for.")
@output_options("tokenizer.encode")
def encode_command(
    tokenizer: Path, text: Path | None, out: Path | None, validation: float, index_words: int | None, force: bool,
    special: bool, pieces: bool, output: Output,
) -> None:  # fmt: skip
    """Text to token shards, or what comes in on stdin to ids.

    TOKENIZER is a tokenizer.json, a folder that holds one, or shards. `isoflop tokenizer encode tok --text corpus --out
    shards` writes what `isoflop data tokenize --tokenizer tok` does; `echo hello | isoflop tokenizer encode tok` prints
    ids. Bytes on stdin that are not UTF-8 are encoded one by one and come back exactly; a corpus must be text.
    """
    if (text is None) != (out is None):
        raise UsageError(
            "--text and --out go together: a text becomes a folder of shards. Without them stdin is encoded"
        )
    if text is None and index_words is not None:
        raise UsageError("--index-words goes with --text and --out: an index lies in a folder of shards")
    if text is not None and out is not None:
        write_shards(text, out, tokenizer, validation=validation, index_words=index_words, force=force, output=output)
    else:
        _stdin(tokenizer, special=special, pieces=pieces, output=output)


def _stdin(tokenizer: Path, *, special: bool, pieces: bool, output: Output) -> None:
    from isoflop.data.spelling import shown
    from isoflop.data.tokenizer_training import tokenizer_at

    taken = tokenizer_at(tokenizer)
    content = sys.stdin.buffer.read()
    text = _text(content)
    if special and text is None:
        raise InputError("stdin: not UTF-8, so there are no special tokens to read in it; leave out --special")
    found = taken.encode(text, special=True) if special and text is not None else taken.encode_bytes(content)
    ids = found.tolist()
    cut = [shown(taken.decode_bytes([number])) for number in ids]
    payload = {
        "ids": ids,
        "pieces": cut,
        "n_tokens": len(ids),
        "n_bytes": len(content),
        "bytes_per_token": len(content) / len(ids) if ids else None,
        "utf8": text is not None,
    }
    lines = "\n".join(f"{number}\t{piece!r}" for number, piece in zip(ids, cut, strict=True)) if pieces \
        else " ".join(map(str, ids))  # fmt: skip
    output.show(payload, lambda printer: click.echo(lines))


def _text(content: bytes) -> str | None:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


@click.command("decode")
@TOKENIZER
@click.argument("ids", nargs=-1)
@output_options("tokenizer.decode")
def decode_command(tokenizer: Path, ids: Sequence[str], output: Output) -> None:
    """IDS, or those on stdin, back to the bytes they stand for.

    `isoflop tokenizer decode tok 104 105`, or `isoflop tokenizer encode tok < file | isoflop tokenizer decode tok`.
    """
    from isoflop.data.tokenizer_training import tokenizer_at

    taken = tokenizer_at(tokenizer)
    numbers = [_number(word) for word in (ids or sys.stdin.read().split())]
    content = taken.decode_bytes(numbers)
    payload = {
        "text": content.decode("utf-8", "replace"),
        "utf8": _text(content) is not None,
        "hex": content.hex(),
        "n_tokens": len(numbers),
        "n_bytes": len(content),
    }
    output.show(payload, lambda printer: click.echo(content, nl=False))


def _number(word: str) -> int:
    if not word.isascii() or not word.isdigit():
        raise InputError(f"{word[:40]!r} is no id; ids are whole numbers from 0 up, with blanks between them")
    return int(word)
