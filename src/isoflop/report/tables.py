"""The report's tables: runs, coefficients, backtests, plans, stages, the stamp."""

from collections.abc import Callable

from isoflop import units
from isoflop.report.content import Content, Law, Plan, Sheet, measured
from isoflop.report.markup import Cell, greek, table
from isoflop.report.words import NONE, clock, loss, number, signed, times
from isoflop.specs.interval import Interval
from isoflop.specs.run import Run
from isoflop.stamp import Stamp

_STANDING = {"fitted": "", "held_out": "kept out", "left_out": "not in the fit"}


def runs_table(content: Content) -> str:
    """Every run, whatever became of it, by compute and size."""
    ordered = sorted(content.runs, key=lambda run: (run.flop, run.n_params, run.id))
    columns = ["run", "N", "D", "D/N", "FLOP", "steps", "peak lr", "loss (nats)", "bits/byte", "tokens/s", "MFU",
               "time", "status"]  # fmt: skip
    return table("Runs", columns, [_run(run, content) for run in ordered], sortable=True, kind="dense")


def _run(run: Run, content: Content) -> list[Cell]:
    shown = run.loss_nats if measured(run) else None
    ratio = run.n_tokens / run.n_params if run.n_params else None
    return [
        Cell(text=run.id),
        _cell(run.n_params, lambda v: units.show(v, "parameters")),
        _cell(run.n_tokens, lambda v: units.show(v, "tokens")),
        _cell(ratio, lambda v: number(v, 3)),
        _cell(run.flop, lambda v: units.show(v, "FLOP")),
        _cell(run.steps, lambda v: f"{v:,.0f}"),
        _cell(run.learning_rate, lambda v: f"{v:.3g}"),
        _cell(shown, loss),
        _cell(run.bits_per_byte, loss),
        _cell(run.tokens_per_s, lambda v: units.show(v, "tokens")),
        _cell(run.mfu, lambda v: f"{v:.0%}"),
        _cell(run.wall_s, lambda v: units.show(v, "s")),
        _status(run, _STANDING[content.standing(run)]),
    ]


def _status(run: Run, standing: str) -> Cell:
    parts = [run.status, standing if run.status == "finished" else "", run.note]
    tone = "" if run.status == "finished" else "bad" if run.status in {"diverged", "failed"} else "open"
    return Cell(text="; ".join(part for part in parts if part), tone=tone)


def _cell(value: float | None, show: Callable[[float], str]) -> Cell:
    return Cell(text=NONE) if value is None else Cell(text=show(value), order=float(value))


def sheet_table(sheet: Sheet) -> str:
    """A table of a loop's own."""
    rows = [
        [Cell(text=value) if isinstance(value, str) else Cell(text=number(value, 4), order=value) for value in row]
        for row in sheet.rows
    ]
    return table(sheet.caption, sheet.columns, rows)


def coefficients_table(law: Law) -> str:
    """The law's coefficients with their intervals."""
    return _intervals("Coefficients", [(greek(name), value) for name, value in law.coefficients.items()])


def exponents_table(law: Law) -> str:
    """How the best size and data grow with compute, by each way of fitting, and their ratio."""
    rows = [(f"a of N* ∝ Cᵃ, {how}", value) for how, value in law.exponents.items()]
    rows += [(f"b of D* ∝ Cᵇ, {how}", value) for how, value in law.token_exponents.items()]
    if law.tokens_per_parameter is not None:
        at = f" at {units.show(law.compute_flop, 'FLOP')}" if law.compute_flop else ""
        rows.append((f"tokens per parameter{at}", law.tokens_per_parameter))
    return _intervals("Best allocation", rows)


def _intervals(caption: str, rows: list[tuple[str, Interval]]) -> str:
    if not rows:
        return ""
    cells = [
        [
            Cell(text=name),
            Cell(text=number(value.value, 4), order=value.value),
            Cell(text=f"{number(value.lo)} to {number(value.hi)}"),
        ]
        for name, value in rows
    ]
    return table(caption, ["", "value", f"{rows[0][1].level:.0%} interval"], cells)


def backtests_table(law: Law) -> str:
    """How the same procedure did when it saw the cheaper runs only."""
    rows = [
        [
            Cell(text=f"up to {units.show(test.max_compute_flop, 'FLOP')}"),
            Cell(text=str(test.n_runs), order=test.n_runs),
            Cell(text=str(test.n_ahead), order=test.n_ahead),
            Cell(text=f"{test.median_error:.2%}", order=test.median_error),
            Cell(text=signed(test.bias, ".2%"), order=test.bias),
        ]
        for test in law.backtests
    ]
    columns = ["fit saw runs", "runs seen", "runs forecast", "median error of loss", "bias of forecast"]
    return table("Backtest", columns, rows)


def plans_table(content: Content) -> str:
    """What each law says the budget should train, one column a law."""
    plans = content.plans
    lines: list[tuple[str, Callable[[Plan], str]]] = [
        ("parameters N", lambda p: _spread(p.n_params, lambda v: units.show(v, "parameters"))),
        ("tokens D", lambda p: _spread(p.n_tokens, lambda v: units.show(v, "tokens"))),
        ("tokens per parameter", lambda p: number(_middle(p.n_tokens) / _middle(p.n_params))),
        ("loss (nats per token)", lambda p: _spread(p.loss_nats, loss)),
        ("compute", lambda p: _shown(p.compute_flop, lambda v: units.show(v, "FLOP"))),
        ("compute over the law’s largest run", lambda p: _shown(p.extrapolation, times)),
        ("memory per device", lambda p: _shown(p.memory_bytes, lambda v: units.show(v, "bytes"))),
        ("time", lambda p: _shown(p.wall_s, lambda v: units.show(v, "s"))),
        ("device-hours", lambda p: _shown(p.device_hours, lambda v: number(v, 4))),
        ("cost", lambda p: _spread(p.cost_usd, lambda v: units.show(v, "USD"))),
        ("carbon (t CO₂e)", lambda p: _spread(p.carbon_kg, lambda v: number(v / 1000))),
    ]
    rows = [[Cell(text=name), *(Cell(text=show(plan)) for plan in plans)] for name, show in lines]
    caption = f"What should {content.plan_question} train?" if content.plan_question else "The plan"
    known = [row for row in rows if any(cell.text != NONE for cell in row[1:])]
    return table(caption, ["", *(plan.law for plan in plans)], known, kind="plan")


def _middle(value: float | Interval) -> float:
    return value.value if isinstance(value, Interval) else value


def _shown(value: float | None, show: Callable[[float], str]) -> str:
    return NONE if value is None else show(value)


def _spread(value: float | Interval | None, show: Callable[[float], str]) -> str:
    if isinstance(value, Interval):
        return f"{show(value.value)} [{show(value.lo)}, {show(value.hi)}]"
    return _shown(value, show)


def stages_table(content: Content) -> str:
    """Where the time went."""
    total = sum(stage.wall_s for stage in content.stages)
    rows = [
        [
            Cell(text=stage.name),
            Cell(text=units.show(stage.wall_s, "s"), order=stage.wall_s),
            Cell(text=f"{stage.wall_s / total:.0%}" if total else NONE, order=stage.wall_s),
            Cell(text=stage.note),
        ]
        for stage in content.stages
    ]
    rows.append([Cell(text="together"), Cell(text=units.show(total, "s"), order=total),
                 Cell(text="100%", order=total), Cell(text="")])  # fmt: skip
    return table("Where the time went", ["stage", "time", "share", ""], rows, kind="total")


def stamp_table(stamp: Stamp) -> str:
    """Where the report came from."""
    rows = [
        ("command", " ".join(stamp.argv)),
        ("written", clock(stamp.time)),
        ("isoflop", f"{stamp.isoflop}{f', commit {stamp.git}' if stamp.git else ''}"),
        ("machine", stamp.machine),
        ("packages", ", ".join(f"{name} {version}" for name, version in sorted(stamp.packages.items()))),
        *((f"sha256 of {name}", digest) for name, digest in stamp.inputs.items()),
    ]
    return table(
        "Origin", ["", ""], [[Cell(text=name), Cell(text=value)] for name, value in rows if value], kind="origin"
    )
