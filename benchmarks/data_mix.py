"""A mixture chosen by law on real text, put to the proof: proxies, choice, blind forecast, check at equal compute.

    python benchmarks/data_mix.py ../shared/data/text runs/bench-mix            # 24 proxies of 50 thousand parameters
    python benchmarks/data_mix.py FOLDER OUT --tokens 1000000 --check-seeds 3   # longer proxies, a sharper verdict

Two targets share the proxies: the mean over all domains, where even mixtures are hard to beat, and one domain alone.
Stopped anywhere, the same command goes on. Prints a table and, with --json, one object.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

BUDGET = 8e12  # pays the size of the proxies; --tokens says how long they really are
SUFFIXES = (".jsonl.gz", ".jsonl", ".txt", ".parquet")


def chosen(domains: list[Path], out: Path, *, target: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """What `isoflop data mix` answers."""
    command = [
        sys.executable, "-m", "isoflop", "data", "mix", *map(str, domains), "--target", target, "--json",
        "--budget", f"{arguments.budget:g}", "--proxies", str(arguments.proxies),
        "--check-seeds", str(arguments.check_seeds), "--set", f"n_tokens={arguments.tokens}",
        "--runs-dir", str(out), "--html", str(out / f"report-{target}.html"),
    ]  # fmt: skip
    answer: dict[str, Any] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return answer


def show(target: str, answer: dict[str, Any]) -> None:
    """One target's choice and check."""
    law = answer["law"]
    print(
        f"\n{target}: {law['n_runs']} proxies of {answer['n_params']:,} parameters, {answer['run_tokens']:,} tokens; "
        f"left-one-out error {law['left_out_error']:.2%} where runs scatter by {law['scatter']:.2%}, noise "
        f"{law['noise_sd']:.2%}; {answer['compute_flop']:.3g} FLOP"
    )
    for name, each in answer["proportions"].items():
        natural, flat = answer["domains"][name]["natural"], f"{each['flat_lo']:.3f} to {each['flat_hi']:.3f}"
        print(f"  {name:24} {each['share']:6.3f}  as good {flat}  by size {natural:.3f}")
    for each in answer["checks"]:
        measured = each["measured_nats"]
        print(
            f"  {each['mixture']:12} forecast {each['forecast_nats']:.4f} ({each['forecast_nats_lo']:.4f} to "
            f"{each['forecast_nats_hi']:.4f})  measured {measured and f'{measured:.4f}'}  "
            f"{'inside' if each['held'] else 'outside'}  choice is {each['chosen_is'] or '-'}"
        )
    for sentence in answer["verdicts"]:
        print(f"  {sentence}")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", type=Path, help="a folder with a file or folder for each domain")
    parser.add_argument("out", type=Path)
    parser.add_argument("--targets", nargs="+", help="losses that count; default: average, and the second domain")
    parser.add_argument("--budget", type=float, default=BUDGET)
    parser.add_argument("--tokens", type=int, default=300_032)
    parser.add_argument("--proxies", type=int, default=24)
    parser.add_argument("--check-seeds", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    named = [path for path in sorted(arguments.text.iterdir()) if path.is_dir() or path.name.endswith(SUFFIXES)]
    domains = [path for path in named if path.stem != "tinyshakespeare"]  # 1 MB: less than a proxy reads
    targets = arguments.targets or ["average", domains[1].name.partition(".")[0]]
    answers = {target: chosen(domains, arguments.out, target=target, arguments=arguments) for target in targets}
    if arguments.json:
        print(json.dumps(answers))
        return
    for target, answer in answers.items():
        show(target, answer)


if __name__ == "__main__":
    main()
