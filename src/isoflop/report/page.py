"""The report of a closed loop: the proof, the law, the runs, the plan, in one HTML file."""

from pathlib import Path

from isoflop import files, units
from isoflop.report import tables, words
from isoflop.report.content import Content, Forecast, Law, Plan
from isoflop.report.document import Drawing, document, drawn, fact, grid, section, warnings
from isoflop.report.figures import FIGURES
from isoflop.report.markup import bullets, element, escape, formula, paragraph


def write(content: Content, path: Path) -> None:
    """Write the page to `path`, whole or not at all.

    Raises:
        InputError: a time in `content` is not one.
        ResourceError: no room, or no permission to write.
    """
    files.write_atomic(path, render(content))


def render(content: Content) -> str:
    """The page as HTML; equal content gives equal bytes."""
    specs: dict[str, object] = {}
    sections = [
        _proof(content, specs),
        _law(content, specs),
        _trust(content, specs),
        _made(content),
        _runs(content, specs),
        _plan(content),
        _origin(content),
    ]
    return document(
        title=content.title, header=_header(content), sections=sections, footer=_footer(content), specs=specs
    )


def _header(content: Content) -> str:
    """The answer first: the law, forecast against measurement, the ratio, and what to be careful about."""
    law = f'<p class="law">{formula(content.law.formula, words.with_numbers(content.law))}</p>' if content.law else ""
    answers = "".join([*map(_answer, content.forecasts), *(law_facts(content.law) if content.law else [])])
    return (
        f'<header><p class="eyebrow">isoflop report</p><h1>{escape(content.title)}</h1>'
        f"{paragraph(words.answer(content), class_='lead')}{law}"
        f"{element('dl', answers, class_='answers') if answers else ''}"
        f"{paragraph(words.made_of(content), class_='made-of')}{warnings(content.warnings)}</header>"
    )


def _answer(forecast: Forecast) -> str:
    said, got = forecast.forecast_nats, forecast.measured_nats
    tone = {None: "open", True: "good", False: "bad"}[forecast.held]
    value = f"{words.loss(said.value)} → {words.loss(got)}" if got is not None else words.loss(said.value)
    note = f"{said.level:.0%} interval {words.loss(said.lo)} to {words.loss(said.hi)}: {words.verdict(forecast)}"
    return fact("Forecast → measured, nats", value, note, tone)


def law_facts(law: Law) -> list[str]:
    """How the best size grows with compute and how many tokens a parameter wants, as facts of a header."""
    facts = []
    for how, a in list(law.exponents.items())[:1]:
        others = "; ".join(f"{name}: {words.number(value.value)}" for name, value in list(law.exponents.items())[1:])
        between = f", {words.number(a.lo)} to {words.number(a.hi)}" if a.hi > a.lo else ""
        note = f"a of N* ∝ Cᵃ{between} from {how}"
        note += f"; {others}" if others else ""
        facts.append(fact("Best size grows as compute to the", words.number(a.value), note))
    if ratio := law.tokens_per_parameter:
        at = f" at {units.show(law.compute_flop, 'FLOP')}" if law.compute_flop else ""
        note = f"{words.number(ratio.lo)} to {words.number(ratio.hi)}{at}"
        facts.append(fact("Best tokens per parameter", words.number(ratio.value), note))
    return facts


def _proof(content: Content, specs: dict[str, object]) -> str:
    said = "".join(
        paragraph(f"{words.proof(forecast, content)} {words.order(forecast)}", class_="proof")
        for forecast in content.forecasts
    )
    nothing = paragraph("No run was kept out of the fit, so nothing on this page has been put to the proof.")
    drawn = ["loss-against-compute", *(["forecast-errors"] if content.forecasts else [])]
    return section("proof", "The proof", said or nothing, *(_figure(name, content, specs) for name in drawn))


def _law(content: Content, specs: dict[str, object]) -> str:
    law = content.law
    if law is None:
        said = paragraph("No law has been fitted to these runs.")
    else:
        source = f" ({escape(law.source)})" if law.source else ""
        counted = f" N counts {escape(law.counts.replace('_', '-'))} parameters." if law.counts != "unknown" else ""
        said = f"<p>{escape(law.name)}: {formula(law.formula)}{source}.{counted}</p>"
        said += grid(tables.coefficients_table(law), tables.exponents_table(law))
    figures = [_figure(name, content, specs) for name in ("isoflop-profiles", "best-allocation", "plane")]
    return section("law", "The law", said, *figures)


def _trust(content: Content, specs: dict[str, object]) -> str:
    """Residuals and the backtest; nothing without a law."""
    law = content.law
    if law is None:
        return ""
    worst = words.worst_residual(content)
    said = "Measured minus fitted loss of every run; a pattern would mean that the law has the wrong shape."
    if worst is not None:
        said += f" The largest residual in the fit is {worst:.3f} nats."
    if law.backtests:
        said += " The backtest fits the cheaper runs alone and judges that fit on the dearer ones."
    names = [f"residuals-{name}" for name in ("parameters", "tokens", "compute")]
    charts = grid(*(_figure(name, content, specs) for name in names))
    return section(
        "trust", "How well it fits", paragraph(said), charts, tables.backtests_table(law) if law.backtests else ""
    )


def _made(content: Content) -> str:
    """How the loop came to its runs; nothing where it has nothing to show."""
    parts = [tables.sheet_table(sheet) + (paragraph(sheet.note) if sheet.note else "") for sheet in content.sheets]
    return section("made", "How the runs were made", *parts) if parts else ""


def _runs(content: Content, specs: dict[str, object]) -> str:
    if not content.runs:
        return section("runs", "The runs", paragraph("There are no runs yet."))
    curves = grid(*(_figure(name, content, specs) for name in ("training-loss", "validation-loss")))
    return section("runs", "The runs", curves, tables.runs_table(content))


def _plan(content: Content) -> str:
    if not content.plans:
        return ""
    notes = [_plan_note(plan, text) for plan in content.plans for text in plan.warnings]
    return section("plan", "The plan", tables.plans_table(content), bullets(notes) if notes else "")


def _plan_note(plan: Plan, text: str) -> str:
    return f"{plan.law}: {text}"


def _origin(content: Content) -> str:
    parts = [tables.stages_table(content)] if content.stages else []
    parts += [tables.stamp_table(content.stamp)] if content.stamp else []
    return section("origin", "Time and origin", grid(*parts)) if parts else ""


def _figure(name: str, content: Content, specs: dict[str, object]) -> str:
    figure = next(figure for figure in FIGURES if figure.name == name)
    drawing = Drawing(
        name=figure.name,
        title=figure.title,
        said=figure.said(content),
        chart=figure.draw(content),
        caption=figure.caption,
        absent=figure.absent,
        key=figure.key,
    )
    return drawn(drawing, specs)


def _footer(content: Content) -> str:
    stamp = content.stamp
    made = f"isoflop {stamp.isoflop}, {words.clock(stamp.time)}" if stamp else "isoflop"
    return paragraph(f"{made}. This file holds all it shows and asks the network for nothing.")
