"""What replay keeps and costs: a model of one text goes on with another, some of whose tokens are the old text's.

    python benchmarks/replay.py --new my/text --runs-dir replay-runs              # about 6 minutes on two quiet cores

recipes/tiny.toml learns Python's standard library (or --old), then half as many tokens of --new, re-warmed to its old
peak or to a share of it, with each share of the old text, for each seed. All are judged by the same validation text of
both. Beside them the same work from scratch: one run of both texts in the proportions that the last ones saw in all.
Interrupted, the same command goes on. Losses do not depend on how busy the machine is.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

from msgspec.structs import replace
from transfer import tell

from isoflop.cli.continue_run import read_trunk
from isoflop.data import corpus
from isoflop.data.shards import Shards
from isoflop.data.tokenization import tokenize
from isoflop.specs import recipe_file
from isoflop.specs.data import Data, Source
from isoflop.specs.recipe import Recipe
from isoflop.specs.run import Run
from isoflop.train import continuation
from isoflop.train.cores import cores
from isoflop.train.sweep import sweep

TINY = Path(__file__).parents[1] / "recipes" / "tiny.toml"
PEAKS = (1.0, 0.3)


def texts(arguments: argparse.Namespace, vocabulary: int) -> dict[str, Shards]:
    """Both as shards, in the old one's tokens."""
    made: dict[str, Shards] = {}
    for name, path in (("old", arguments.old), ("new", arguments.new)):
        source = corpus.source(path)
        made[name] = tokenize(
            source.documents,
            folder=arguments.runs_dir / "shards" / name,
            vocabulary=vocabulary,
            validation_fraction=0.08,
            source=source.description,
            tokenizer=made["old"].tokenizer if made else None,
        )
    return made


def mixed(recipe: Recipe, shards: dict[str, Shards], old: float) -> Recipe:
    """The recipe with this share of the old text; a text without a share is judged all the same."""
    weights = {"old": old, "new": 1 - old}
    sources = tuple(Source(name=name, shards=str(shards[name].folder), weight=weights[name]) for name in shards)
    return replace(recipe, shards="", data=Data(sources=sources))


def trained(recipes: Sequence[Recipe], folder: Path) -> list[Run]:
    """One process a core."""
    return sweep(
        recipes,
        runs_dir=folder,
        workers=len(cores().slices(workers=2, threads=1)),
        threads=1,
        peak_flop_per_s=None,
        on_event=tell,
    )


def row(name: str, runs: Sequence[Run]) -> str:
    """Means over seeds and their standard deviations; a run that failed has its say instead."""
    cells = []
    for text in ("old", "new"):
        losses = [run.sources[text].loss_nats for run in runs if run.sources is not None]
        known = [loss for loss in losses if loss is not None]
        if len(known) < len(runs):
            return f"{name:<34}{'; '.join(run.note for run in runs if run.note)}"
        cells.append(f"{mean(known):>9.3f}" + (f" +-{stdev(known):.3f}" if len(known) > 1 else ""))
    return f"{name:<34}{''.join(cells)}"


def main() -> None:
    """Run as a program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", type=Path)
    parser.add_argument("--new", type=Path, required=True)
    parser.add_argument("--runs-dir", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.0, 0.01, 0.05, 0.25, 0.5])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "replay.txt")
    arguments = parser.parse_args()
    tiny = replace(recipe_file.load(TINY), device="cpu", evaluations=1)
    shards = texts(arguments, tiny.model.vocabulary)
    seeds, folder, tokens = range(arguments.seeds), arguments.runs_dir, tiny.n_tokens // 2
    before = trained([replace(mixed(tiny, shards, 1.0), name=f"old-{seed}", seed=seed) for seed in seeds], folder)
    after: dict[str, list[Recipe]] = {}
    for peak in PEAKS:
        for share in arguments.shares:
            name = f"{share:.0%} old text, {peak:g} of the peak"
            for run in before:
                made = continuation.anew(read_trunk(run.id, folder), n_tokens=tokens, peak_share=peak)
                called = f"on-{share:g}-{peak:g}-{run.seed}"
                after.setdefault(name, []).append(replace(mixed(made, shards, share), name=called))
    last = arguments.shares[-1]
    both = (tiny.n_tokens + tokens * last) / (tiny.n_tokens + tokens)
    scratch = replace(mixed(tiny, shards, both), n_tokens=tiny.n_tokens + tokens)
    after[f"from scratch, {both:.0%} old text"] = [replace(scratch, name=f"both-{s}", seed=s) for s in seeds]
    runs = trained([recipe for each in after.values() for recipe in each], folder)
    old = arguments.old.stem if arguments.old else shards["old"].header.source
    lines = [
        f"{tiny.n_tokens} tokens of {old}, then {tokens} that are {arguments.new.stem} but for the share said; "
        f"{arguments.seeds} seeds. Nats a token of each one's validation text, mean and standard deviation",
        "",
        f"{'':<34}{'old text':>9}{'':>8}{'new text':>9}",
        row("before", before),
    ]
    for at, name in enumerate(after):
        lines.append(row(name, runs[at * len(seeds) : (at + 1) * len(seeds)]))
    text = "\n".join(lines) + "\n"
    print(text)
    arguments.out.write_text(text)


if __name__ == "__main__":
    main()
