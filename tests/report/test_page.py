"""The page tells the whole story, escapes everything, asks the network for nothing, and really draws."""

import re
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest

from isoflop.errors import InputError
from isoflop.report import export, page
from isoflop.report.content import Content, Plan
from isoflop.report.figures import FIGURES
from isoflop.report.markup import escape
from isoflop.specs.run import Run

HEADLESS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--virtual-time-budget=8000",
]  # fmt: skip
STILL = '<img class="still"'
NASTY = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


@pytest.fixture(scope="module")
def html(content: Content) -> str:
    return page.render(content)


@pytest.fixture(scope="module")
def visible(html: str) -> str:
    """The page without scripts, styles and pictures."""
    return re.sub(r"<script.*?</script>|<style.*?</style>|<img[^>]*>", "", html, flags=re.DOTALL)


def in_browser(path: Path, folder: Path) -> str:
    """The page's DOM after its scripts ran, in a browser that reaches no host."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium on PATH to open the page in")
    command = [chromium, *HEADLESS, "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={folder}", "--dump-dom"]
    done = subprocess.run([*command, path.as_uri()], capture_output=True, text=True, timeout=600, check=True)
    return done.stdout


def test_every_chart_draws_in_a_browser_without_network(content: Content, tmp_path: Path) -> None:
    page.write(content, tmp_path / "report.html")
    dom = in_browser(tmp_path / "report.html", tmp_path / "profile")
    assert len(re.findall(r'<svg [^>]*class="marks"', dom)) == len(FIGURES)
    assert 'data-drawn="all"' in dom
    assert "data-error" not in dom
    assert dom.count('class="drawn"') == len(FIGURES)


def test_a_click_on_a_heading_sorts_the_runs(content: Content, tmp_path: Path) -> None:
    html = page.render(msgspec.structs.replace(content, curves={}, law=None, profiles=[], forecasts=[]))
    click = "<script>document.querySelectorAll('.sortable th button')[7].click()</script></body>"
    unguarded = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", html).replace("</body>", click)
    (tmp_path / "report.html").write_text(unguarded)
    dom = in_browser(tmp_path / "report.html", tmp_path / "profile")
    body = dom[dom.index("<caption>Runs</caption>") :].partition("</table>")[0]
    losses = re.findall(r"<tr><th.*?</th>(?:<td.*?</td>){6}<td[^>]*>(.*?)</td>", body)
    finished = sorted(f"{run.loss_nats:.3f}" for run in content.runs if run.loss_nats is not None)
    assert losses == [*finished, "–"]
    assert 'aria-sort="ascending"' in body


def test_a_hostile_note_stays_text_in_a_browser(content: Content, tmp_path: Path) -> None:
    hostile = _hostile(content)
    page.write(hostile, tmp_path / "report.html")
    dom = in_browser(tmp_path / "report.html", tmp_path / "profile")
    assert 'src="x"' not in dom
    assert "data-error" not in dom
    assert len(re.findall(r'<svg [^>]*class="marks"', dom)) == len(FIGURES)


def test_nothing_of_a_hostile_note_becomes_markup(content: Content) -> None:
    html = page.render(_hostile(content))
    assert "alert(1)" in html
    assert NASTY not in html
    assert "<script>alert" not in html
    assert "<img src=x" not in html
    assert escape(NASTY) in html
    assert html.count("<script") == html.count("</script>") == 3


def _hostile(content: Content) -> Content:
    first = msgspec.structs.replace(content.runs[0], note=NASTY, id=f"a{NASTY}")
    return msgspec.structs.replace(
        content, title=NASTY, warnings=[NASTY], text_source=NASTY, tokenizer=NASTY, plan_question=NASTY,
        runs=[first, *content.runs[1:]],
    )  # fmt: skip


def test_no_element_refers_to_the_network(html: str) -> None:
    assert not re.search(r"""(?:src|href|action|data)\s*=\s*["']?\s*(?:https?:)?//""", html)
    assert not re.search(
        r"@import|url\(\s*['\"]?(?:https?:)?//", re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)
    )
    assert "default-src &#x27;none&#x27;" in html


def test_equal_content_gives_equal_bytes(content: Content, html: str) -> None:
    assert page.render(content) == html


def test_the_answer_stands_first_with_both_numbers(content: Content, visible: str) -> None:
    forecast = content.forecasts[0]
    assert forecast.measured_nats is not None
    header = visible[: visible.index("<main>")]
    assert f"{forecast.forecast_nats.value:.3f} → {forecast.measured_nats:.3f}" in header
    assert "inside the interval" in header
    assert content.warnings[0] in header


def test_a_diverged_run_is_in_the_table_with_its_reason(visible: str) -> None:
    assert "diverged; loss rose above ln V at step 903" in visible


def test_every_run_has_a_row(content: Content, visible: str) -> None:
    rows = visible[visible.index("<caption>Runs</caption>") :]
    assert all(f">{run.id}</th>" in rows for run in content.runs)


def test_plans_stand_side_by_side(content: Content, visible: str) -> None:
    table = visible[visible.index("What should 8xH100 for 7 days train?") :]
    assert table.index("fitted here") < table.index("besiroglu-2024") < table.index("parameters N")
    assert "9.1B [3.64B, 14.6B]" in table
    assert "8.5 × 10⁹" in table


def test_every_picture_has_an_alternative_text(html: str) -> None:
    pictures = re.findall(STILL + r"[^>]*>", html)
    assert len(pictures) == len(FIGURES)
    assert all(re.search(r'alt="[^"]{20,}"', picture) for picture in pictures)


def test_a_page_without_runs_says_so(tmp_path: Path) -> None:
    html = page.render(Content(title="Nothing yet", runs=[]))
    assert "There are no runs yet." in html
    assert "No law has been fitted" in html
    assert STILL not in html


@pytest.mark.parametrize(
    "missing",
    [
        {"law": None, "curves": {}},
        {"profiles": [], "forecasts": [], "curves": {}},
        {"plans": [], "stages": [], "stamp": None, "warnings": [], "text_source": "", "tokenizer": "", "curves": {}},
    ],
    ids=["law", "proof", "surroundings"],
)
def test_the_page_stands_without_a_part(content: Content, missing: dict[str, object]) -> None:
    html = page.render(msgspec.structs.replace(content, **missing))
    assert "</html>" in html
    assert "None" not in re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)


def test_runs_that_never_finished_still_make_a_page() -> None:
    runs = [
        Run(id="a", n_params=1e5, n_tokens=2e6, status="running"),
        Run(id="b", n_params=1e5, n_tokens=2e6, status="diverged", loss_nats=float("nan"), note="nan at step 3"),
        Run(id="c", n_params=1e5, n_tokens=0, status="failed"),
    ]
    html = page.render(Content(title="Broken", runs=runs))
    assert "diverged; nan at step 3" in html
    assert "1 diverged, 1 failed, 1 running" in html


def test_one_run_alone_can_be_drawn() -> None:
    html = page.render(Content(title="One", runs=[Run(id="a", n_params=1e5, n_tokens=2e6, loss_nats=3.0)]))
    assert html.count(STILL) == 2  # loss against compute, and the plane


def test_two_runs_of_one_name_are_refused() -> None:
    twin = Run(id="a", n_params=1e5, n_tokens=2e6)
    with pytest.raises(InputError, match="two runs are called 'a'"):
        Content(title="Twins", runs=[twin, twin])


def test_unknown_costs_leave_their_rows_out() -> None:
    html = page.render(Content(title="Plan", runs=[], plans=[Plan(law="x", n_params=1e9, n_tokens=2e10)]))
    assert "tokens per parameter" in html
    assert ">cost<" not in html


def test_pictures_are_small_enough_for_a_readme(content: Content, tmp_path: Path) -> None:
    written = export.figures_png(content, tmp_path)
    assert {path.stem for path in written} == {figure.name for figure in FIGURES}
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in written)
    assert max(path.stat().st_size for path in written) < 300_000


@pytest.mark.parametrize("loss_nats", [None, 9.5, 2.0])
def test_a_diverged_run_stands_in_both_loss_figures_wherever_it_ended(
    content: Content, loss_nats: float | None
) -> None:
    runs = [
        msgspec.structs.replace(run, loss_nats=loss_nats) if run.status == "diverged" else run for run in content.runs
    ]
    changed = msgspec.structs.replace(content, runs=runs)
    for figure in FIGURES:
        if figure.name in {"loss-against-compute", "isoflop-profiles"}:
            chart = figure.draw(changed)
            assert chart is not None
            picture = export.svg(export.spec(chart), width=700)
            assert picture.count('stroke="#5c6570"') == 1


def test_a_kept_out_run_stands_on_the_residual_charts_however_far_it_missed(content: Content) -> None:
    assert content.law is not None
    far = content.law.predicted_nats | {content.runs[-1].id: 9.0}
    changed = msgspec.structs.replace(content, law=msgspec.structs.replace(content.law, predicted_nats=far))
    chart = next(figure for figure in FIGURES if figure.name == "residuals-compute").draw(changed)
    assert chart is not None
    scales = [layer["encoding"]["y"].get("scale", {}) for layer in export.spec(chart)["layer"]]
    assert max(scale["domain"][1] for scale in scales if "domain" in scale) > 9.0 - (content.runs[-1].loss_nats or 0)


def test_the_band_of_a_law_that_knows_little_takes_half_of_the_axis_at_most(content: Content) -> None:
    assert content.law is not None
    frontier = [
        msgspec.structs.replace(point, loss_nats=msgspec.structs.replace(point.loss_nats, lo=1e-6))
        for point in content.law.frontier
    ]
    changed = msgspec.structs.replace(content, law=msgspec.structs.replace(content.law, frontier=frontier))
    chart = next(figure for figure in FIGURES if figure.name == "loss-against-compute").draw(changed)
    assert chart is not None
    scales = [layer["encoding"].get("y", {}).get("scale", {}) for layer in export.spec(chart)["layer"]]
    low, high = next(scale["domain"] for scale in scales if "domain" in scale)
    lowest = min(
        *(point.loss_nats.value for point in frontier),
        *(run.loss_nats for run in content.runs if run.loss_nats),
        *(forecast.forecast_nats.lo for forecast in content.forecasts),
    )
    assert low < lowest < high
    assert lowest / low < 1.1 * high / lowest
