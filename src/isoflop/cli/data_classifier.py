"""`isoflop data classifier`: learn to tell documents apart from folders of examples, and say how far to trust it."""

from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from isoflop.cli.shell import Output, Printer, output_options
from isoflop.errors import InputError, UsageError

if TYPE_CHECKING:
    from isoflop.data.quality import Classifier


@click.group("classifier")
def classifier() -> None:
    """Quality, toxicity, domains: a classifier trained on folders of your own."""


@classifier.command()
@click.argument("examples", nargs=-1, required=True, metavar="LABEL=PATH...")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder to write.")
@click.option(
    "--penalty", type=click.FloatRange(0, min_open=True), help="Of squared weights; more learns less by heart."
)
@output_options("data.classifier.train")
def train(examples: tuple[str, ...], out: Path, penalty: float | None, output: Output) -> None:
    """Train on the documents of each LABEL, calibrate and judge on others. A label may have several paths.

    A fifth of the documents calibrates and a fifth judges, told by a hash of their ids. The folder it writes is what
    the stages `classifier` and `domains` of a recipe take as `model`, e.g. `isoflop data classifier train
    cited=encyclopedia/ other=crawl.jsonl.gz --out models/quality`.
    """
    from isoflop.data import quality
    from isoflop.data.read import documents

    paths: dict[str, list[Path]] = {}
    for label, path in map(_example, examples):
        paths.setdefault(label, []).append(path)
    if out.exists() and not (out / quality.HEADER).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out}: holds other files; name a new folder")
    given = {label: chain.from_iterable(map(documents, each)) for label, each in paths.items()}
    quality.train(given, penalty=penalty or quality.PENALTY).save(out)
    _show(quality.load(out), out, output)


@classifier.command("report")
@click.argument("folder", type=click.Path(path_type=Path))
@output_options("data.classifier.report")
def report_command(folder: Path, output: Output) -> None:
    """What a classifier keeps and drops, and whether its probabilities keep their word.

    E.g. `isoflop data classifier report models/quality`; with --html as a page with charts.
    """
    from isoflop.data import quality

    _show(quality.load(folder), folder, output)


def _example(given: str) -> tuple[str, Path]:
    label, equals, path = given.partition("=")
    if not (label and equals and path):
        raise UsageError(f"{given!r}: write LABEL=PATH, for example cited=encyclopedia/")
    return label, Path(path)


def _show(made: "Classifier", folder: Path, output: Output) -> None:
    report = made.header.report
    if report is None:
        raise InputError(f"{folder}: holds no report; train it again")
    payload = {
        "folder": str(folder),
        "labels": {label: msgspec.to_builtins(each) for label, each in report.labels.items()},
        "n_train": report.n_train,
        "n_calibrate": report.n_calibrate,
        "n_judged": report.n_judged,
        "accuracy": report.accuracy,
        "log_loss_nats": report.log_loss,
        "shares": dict(zip(made.labels, made.header.shares, strict=True)),
        "weights_sha256": made.header.weights_sha256,
    }

    def page(_: Any) -> Any:
        from isoflop.report import classifier_page

        return classifier_page.page(report)

    output.show(payload, lambda printer: _render(printer, payload), page=page)


def _render(printer: Printer, payload: dict[str, Any]) -> None:
    names = list(payload["labels"])
    rows = [
        [name, f"{each['n']:,}", f"{each['auc']:.3f}", f"{each['brier']:.3f}", f"{each['calibration_error']:.3f}",
         f"{each['calibration_noise']:.3f}"]
        for name, each in payload["labels"].items()
    ]  # fmt: skip
    right = f"{payload['accuracy']:.1%} right of {payload['n_judged']:,} documents held out"
    printer.line(f"{payload['folder']}: {right}", style="bold")
    printer.table(
        "",
        ["label", "documents", "AUC", "Brier", "calibration error", "by luck alone"],
        rows,
    )
    # With two labels the second table would be the first turned round.
    for name in names if len(names) > 2 else names[:1]:
        kept = [
            [f"{each['threshold']:g}", *(f"{each['kept'][label]:.1%}" for label in names)]
            for each in payload["labels"][name]["keeps"]
        ]
        printer.line(f"What a least probability of {name} keeps", style="bold")
        printer.table("", ["least", *(f"of {each}" for each in names)], kept)
    for name in names:
        for what, verdict in (
            ("wrongly_dropped", "dropped, though it is"),
            ("wrongly_kept", "taken, though it is not"),
        ):
            for each in payload["labels"][name][what][:2]:
                begins = " ".join(each["text"].split())[:80]
                printer.line(f"{verdict} {name} (said {each['probability']:.2f}): {each['id']}: {begins}")
    printer.line(f"trained on {payload['n_train']:,}, calibrated on {payload['n_calibrate']:,} documents")
