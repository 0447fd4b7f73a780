"""`isoflop train`: one recipe, one folder, one run."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from isoflop import units
from isoflop.cli.shell import Output, Printer, output_options
from isoflop.data.shards import open_shards
from isoflop.errors import DivergedError, UsageError
from isoflop.specs.recipe_file import load
from isoflop.specs.run import Run
from isoflop.train.environment import begin_anew
from isoflop.train.interrupt import listening

if TYPE_CHECKING:
    from isoflop.train.events import Event

_LOG_S = 10.0


@click.command()
@click.argument("recipe_file", metavar="RECIPE.toml", type=click.Path(path_type=Path))
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a key, e.g. model.layers=4.")
@click.option("--runs-dir", type=click.Path(path_type=Path), default=Path("runs"), show_default=True,
              help="Folder of runs.")  # fmt: skip
@click.option("--name", help="Folder in --runs-dir; default: the recipe's name.")
@output_options("train")
def train(recipe_file: Path, settings: tuple[str, ...], runs_dir: Path, name: str | None, output: Output) -> None:
    """Train one model by a recipe.

    Stop it with Ctrl-C whenever you like: the same command goes on where it stopped, to the bit. A finished run is not
    trained again. Try `isoflop train recipes/tiny.toml`.

    Optimizers: `--set optimizer.name=muon`, or adamw. Schedules: `--set schedule.name=cosine`, or linear, inverse-sqrt,
    wsd (warmup, stable, cooldown). Objectives: causal or `--set objective.name=prefix` for a decoder, masked for an
    encoder, span or prefix for an encoder-decoder. All keys: `isoflop.specs.recipe`.
    """
    recipe = load(recipe_file, settings=settings)
    open_shards(Path(recipe.shards))  # what is missing is said before torch is imported
    if recipe.layout is not None and recipe.layout.devices > 1:
        output.progress(f"planned for {recipe.layout.devices} devices; this trainer runs on one")
    begin_anew(recipe.threads)
    folder = runs_dir / _folder_name(name or recipe.name)
    log = Log(str(folder))
    with listening() as wish:  # a signal in the middle of torch's import would end in whatever code was being run
        from isoflop.train.learner import pick_device
        from isoflop.train.loop import train as run_recipe
        from isoflop.train.meter import measure_matmul

        peak = measure_matmul(threads=recipe.threads, precision=recipe.precision, device=pick_device(recipe).type)
    if wish:
        raise wish.error("before the first step")
    run = run_recipe(recipe, folder=folder, on_event=log, peak_flop_per_s=peak)
    log.end()
    if run.status == "diverged":
        raise DivergedError(f"{folder}: {run.note}. Lower optimizer.learning_rate, and remove the folder to try again")
    output.show(payload(run, folder, log.resumed_from_step), lambda printer: render(printer, run, folder))


def payload(run: Run, folder: Path, resumed_from_step: int | None) -> dict[str, Any]:
    """What `--json` prints."""
    fields = (
        "status", "loss_nats", "bits_per_byte", "n_params", "n_tokens", "compute_flop", "tokens_per_s", "mfu", "wall_s",
    )  # fmt: skip
    return {
        "run_id": run.id,
        **{name: getattr(run, name) for name in fields},
        "folder": str(folder),
        "resumed_from_step": resumed_from_step,
    }


def render(printer: Printer, run: Run, folder: Path) -> None:
    """What people read."""
    assert run.loss_nats is not None
    bits = f", {run.bits_per_byte:.4f} bits per byte" if run.bits_per_byte is not None else ""
    printer.line(f"{folder}: {run.status}, validation loss {run.loss_nats:.4f} nats per token{bits}")
    speed = f"{units.show(run.tokens_per_s, 'tokens')} tokens/s" if run.tokens_per_s else ""
    share = f", MFU {run.mfu:.0%} of the measured matmul rate" if run.mfu is not None else ""
    printer.line(
        f"{units.show(run.n_params, 'parameters')} parameters, {units.show(run.n_tokens, 'tokens')} tokens, "
        f"{units.show(run.flop, 'FLOP')} in {units.show(run.wall_s or 0.0, 's')}; {speed}{share}"
    )


class Log:
    """Progress on stderr: one line that renews itself on a terminal, a plain line every ten seconds elsewhere.

    Attributes:
        resumed_from_step: where the run went on; 0 for a fresh one, None where nothing was trained.
    """

    def __init__(self, title: str, *, stream: TextIO | None = None) -> None:
        self.title, self.stream = title, stream or sys.stderr
        self.resumed_from_step: int | None = None
        self._live = self.stream.isatty()
        self._spoke = time.monotonic()
        self._open = False

    def __call__(self, event: "Event") -> None:
        """Take in what happened."""
        match event.kind:
            case "started":
                self.resumed_from_step = event.step
                self._leave(f"{self.title}: {'from step ' + str(event.step) if event.step else 'start'}")
            case "note":
                self._leave(f"{self.title}: {event.text}")
            case "evaluation":
                self._leave(f"{self.title}: step {event.step}/{event.steps} validation loss {event.loss_nats:.4f}")
            case "step" if self._live:
                self.stream.write(f"\r\x1b[K{self._line(event)}")
                self.stream.flush()
                self._open = True
            case "step" if time.monotonic() - self._spoke >= _LOG_S:
                self._leave(self._line(event))

    def _line(self, event: "Event") -> str:
        share = f", MFU {event.mfu:.0%}" if event.mfu is not None else ""
        rate = event.tokens_per_s or 0.0
        left = (event.steps - event.step) * event.n_tokens / event.step / rate if rate and event.step else 0.0
        return (
            f"{self.title}: step {event.step}/{event.steps} loss {event.loss_nats:.4f}, "
            f"{units.show(rate, 'tokens')} tokens/s{share}, {units.show(left, 's', digits=2)} left"
        )

    def _leave(self, text: str) -> None:
        """A line that stays."""
        self.end()
        self._spoke = time.monotonic()
        print(text, file=self.stream, flush=True)

    def end(self) -> None:
        """Take the renewing line away."""
        if self._open:
            self.stream.write("\r\x1b[K")
            self._open = False


def _folder_name(name: str) -> str:
    """The name, if it is one folder's and not a path.

    Raises:
        UsageError: it leads elsewhere.
    """
    if Path(name).name != name:
        raise UsageError(f"the run's name {name!r} is a path; give one folder's name, and where with --runs-dir")
    return name
