"""`isoflop train`: one recipe, one folder, one run."""

import os
import shutil
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from isoflop import units
from isoflop.cli.meter_view import beside
from isoflop.cli.shell import Output, Printer, output_options
from isoflop.data.sources import open_sources
from isoflop.errors import DivergedError, UsageError
from isoflop.specs.recipe import Recipe
from isoflop.specs.recipe_file import load
from isoflop.specs.run import Run
from isoflop.train import store
from isoflop.train.cores import cores
from isoflop.train.environment import begin_anew
from isoflop.train.events import ignore
from isoflop.train.interrupt import listening
from isoflop.train.outlet import asked
from isoflop.train.team import laid_out, place

if TYPE_CHECKING:
    from isoflop.train.events import Event

_LOG_S = 10.0


@click.command()
@click.argument("recipe_file", metavar="RECIPE.toml", type=click.Path(path_type=Path))
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a key, e.g. model.layers=4.")
@click.option("--runs-dir", type=click.Path(path_type=Path), default=Path("runs"), show_default=True,
              help="Folder of runs.")  # fmt: skip
@click.option("--name", help="Folder in --runs-dir; default: the recipe's name.")
@click.option("--to", "sinks", multiple=True, metavar="SINK[:SETTING]",
              help="Show the curve there too: tensorboard, wandb[:PROJECT], trackio[:PROJECT], codecarbon:COUNTRY. "
              "Also $ISOFLOP_SINKS.")  # fmt: skip
@click.option("--resume", type=click.Choice(["auto", "never", "must"]), default="auto", show_default=True,
              help="auto: go on where the folder stands; never: refuse one with a run; must: one without.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Only say what it would take: size, memory, time, data.")
@click.option("--gpus", metavar="COUNTxDEVICE", help="With --dry-run: devices to foresee it for, e.g. 8xH100.")
@output_options("train")
def train(
    recipe_file: Path, settings: tuple[str, ...], runs_dir: Path, name: str | None, sinks: tuple[str, ...],
    resume: str, dry_run: bool, gpus: str | None, output: Output,
) -> None:  # fmt: skip
    """Train one model by a recipe.

    Stop it with Ctrl-C whenever you like: the same command goes on where it stopped, to the bit. A finished run is not
    trained again. Try `isoflop train recipes/tiny.toml`.

    Optimizers: `--set optimizer.name=muon`, or adamw. Schedules: `--set schedule.name=cosine`, or linear, inverse-sqrt,
    wsd (warmup, stable, cooldown). Objectives: causal or `--set objective.name=prefix` for a decoder, masked for an
    encoder, span or prefix for an encoder-decoder. All keys: `isoflop.specs.recipe`.
    """
    recipe = load(recipe_file, settings=settings)
    if dry_run:
        from isoflop.cli.train_dry import show

        show(recipe, gpus=gpus, output=output.of("train.dry-run"))
        return
    if gpus:
        raise UsageError("--gpus is what --dry-run foresees; training takes the devices there are")
    folder = runs_dir / folder_name(name or recipe.name)
    _check_resume(folder, resume)
    run_recipe(recipe, folder, output, sinks=sinks)


def run_recipe(recipe: Recipe, folder: Path, output: Output, *, sinks: tuple[str, ...] = ()) -> None:
    """Train it there and print what came of it.

    Raises:
        DivergedError: it diverged.
        IsoflopError: whatever stopped it.
    """
    shown, here = asked(sinks), place()
    open_sources(recipe.sources)  # what is missing is said before torch is imported
    begin_anew(recipe.threads)  # which may start this program again: what is said before is said twice
    if here.world > 1:
        laid_out(recipe, here.world)
    leads = here.rank == 0
    if leads and recipe.layout is not None and recipe.layout.devices != here.world:
        how = "one" if here.world == 1 else str(here.world)
        output.progress(f"planned for {recipe.layout.devices} devices; this trainer runs on {how}")
    if leads and recipe.threads > (usable := cores().usable):
        output.progress(f"{recipe.threads} threads on {usable} cores wait for each other; threads = {usable} is faster")
    log = Log(str(folder))
    with listening() as wish:  # a signal in the middle of torch's import would end in whatever code was being run
        from isoflop.train.engine import metered, settle
        from isoflop.train.learner import pick_device
        from isoflop.train.loop import train as train_recipe
        from isoflop.train.meter import measure_matmul

        device = pick_device(recipe)
        if here.world > 1:
            from isoflop.train.parallel import own_device

            own_device(recipe, here)
        peak = measure_matmul(
            threads=recipe.threads, precision=metered(settle(recipe, device).precision), device=device.type
        )
        if wish:
            raise wish.error("before the first step")
        with redirect_stdout(sys.stderr):  # what libraries print on the way is not the answer
            hear = log if leads else ignore
            run = train_recipe(recipe, folder=folder, on_event=hear, peak_flop_per_s=peak, sinks=shown)
    log.end()
    if run.status == "diverged":
        raise DivergedError(f"{folder}: {run.note}. Lower optimizer.learning_rate, and remove the folder to try again")
    if leads:
        output.show(payload(run, folder, log.resumed_from_step), lambda printer: render(printer, run, folder))


def payload(run: Run, folder: Path, resumed_from_step: int | None) -> dict[str, Any]:
    """What `--json` prints."""
    fields = (
        "status", "loss_nats", "bits_per_byte", "n_params", "n_tokens", "compute_flop", "tokens_per_s", "mfu", "wall_s",
    )  # fmt: skip
    memory = ("memory_bytes", "time_shares", "expert_load", "predicted", "sources", "unique_tokens")
    return {
        "run_id": run.id,
        **{name: getattr(run, name) for name in memory},
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
    for source, one in (run.sources or {}).items():
        loss = "" if one.loss_nats is None else f", loss {one.loss_nats:.4f}"
        read = units.show(one.n_tokens, "tokens")
        printer.line(f"of {source}: {read} tokens, {one.epochs:.2g} times its text{loss}")
    for name, predicted, _, measured, ratio in beside(run):
        printer.line(f"{name}: {measured}, {predicted} predicted (x {ratio})")
    if run.time_shares:
        shares = sorted(run.time_shares.items(), key=lambda pair: -pair[1])
        printer.line("time: " + ", ".join(f"{name} {share:.0%}" for name, share in shares if share >= 0.005))


class Log:
    """Progress on stderr: one line that renews itself on a terminal, a plain line every ten seconds elsewhere.

    Attributes:
        resumed_from_step: where the run went on; 0 for a fresh one, None where nothing was trained.
    """

    def __init__(self, title: str, *, stream: TextIO | None = None) -> None:
        self.title, self.stream = title, stream or sys.stderr
        self.resumed_from_step: int | None = None
        self._live = self.stream.isatty() and os.environ.get("TERM") != "dumb"
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
                width = shutil.get_terminal_size().columns - 1  # a folded line would not be taken back whole
                self.stream.write(f"\r\x1b[K{self._line(event)[:width]}")
                self.stream.flush()
                self._open = True
            case "step" if time.monotonic() - self._spoke >= _LOG_S:
                self._leave(self._line(event))

    def _line(self, event: "Event") -> str:
        """Step, loss, gradient, rate, speed, memory, time left: what trainers have told in this order for years."""
        words = [f"{self.title}: step {event.step}/{event.steps}", f"loss {event.loss_nats:.4f}"]
        words += [f"grad norm {event.grad_norm:.3g}"] if event.grad_norm is not None else []
        words += [f"lr {event.learning_rate:.2e}"] if event.learning_rate is not None else []
        words += [f"{units.show(event.tokens_per_s, 'tokens')} tokens/s"] if event.tokens_per_s else []
        words += [f"MFU {event.mfu:.1%}"] if event.mfu is not None else []
        words += [units.show(event.memory_bytes, "bytes")] if event.memory_bytes else []
        words += [f"{units.show(event.left_s, 's', digits=2)} left"] if event.left_s else []
        return " | ".join(words)

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


def _check_resume(folder: Path, resume: str) -> None:
    """Whether the folder may be what it is.

    Raises:
        UsageError: it may not.
    """
    held = store.read(folder)
    if held is not None and resume == "never":
        raise UsageError(f"{folder}: holds a run that is {held.status}; choose another --name, or --resume auto")
    if held is None and resume == "must":
        raise UsageError(
            f"{folder}: holds no run to go on with; look with `isoflop runs list --runs-dir {folder.parent}`"
        )


def folder_name(name: str) -> str:
    """The name, if it is one folder's and not a path.

    Raises:
        UsageError: it leads elsewhere.
    """
    if Path(name).name != name:
        raise UsageError(f"the run's name {name!r} is a path; give one folder's name, and where with --runs-dir")
    return name
