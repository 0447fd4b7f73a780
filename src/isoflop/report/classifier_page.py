"""The page of a classifier: does it tell labels apart, do its probabilities keep their word, what does it get wrong."""

from isoflop.data.quality_report import LabelReport, QualityReport, Sample
from isoflop.report.document import Drawing, fact, grid
from isoflop.report.figures import classifier as figures
from isoflop.report.law_page import Page, Part
from isoflop.report.markup import Cell, element, escape, paragraph, table


def page(report: QualityReport) -> Page:
    """What the page shows beside the words; equal reports give equal pages but for their stamp."""
    answers = [
        fact("Right", f"{report.accuracy:.1%}", f"of {report.n_judged:,} documents held out"),
        fact("Log-loss", f"{report.log_loss:.3f}", "nats a document"),
        fact("Trained on", f"{report.n_train:,}", f"documents, calibrated on {report.n_calibrate:,}"),
    ]
    # With two labels the second is the first turned round.
    names = list(report.labels) if len(report.labels) > 2 else list(report.labels)[:1]
    return Page(
        title=f"A classifier of {', '.join(report.labels)}",
        lead="Judged on documents that neither trained nor calibrated it.",
        answers=answers,
        parts=[_label(name, report.labels[name]) for name in names],
    )


def _label(name: str, label: LabelReport) -> Part:
    said = [(each.predicted, each.observed, each.n) for each in label.reliability]
    kept = [(each.threshold, other, share) for each in label.keeps for other, share in each.kept.items()]
    charts = [
        Drawing(
            name=f"reliability-{name}",
            title=f"Said and true: {name}",
            said=f"Mean distance {label.calibration_error:.3f}; {label.calibration_noise:.3f} by luck alone.",
            chart=figures.reliability(said),
            caption="Each point is a tenth of the documents: the probability said on average and the share it was "
            "true of. On the line, probabilities keep their word.",
        ),
        Drawing(
            name=f"keeps-{name}",
            title=f"What a least probability of {name} keeps",
            said="; ".join(f"{least:g} keeps {share:.0%} of {other}" for least, other, share in kept),
            chart=figures.kept(kept),
            caption=f"Share of each label's documents whose probability of {name} reaches the bound.",
        ),
    ]
    left = _samples(f"Held for something else than {name}", label.wrongly_dropped)
    right = _samples(f"Held for {name}", label.wrongly_kept)
    text = f"AUC {label.auc:.3f}: the chance that a document of {name} gets a higher probability than another one."
    return Part(name=f"label-{name}", title=name, charts=[charts], text=text, tables=grid(left, right))


def _samples(title: str, samples: list[Sample]) -> str:
    if not samples:
        return element("div", element("h3", escape(title)) + paragraph("None."))
    rows = [
        [Cell(text=each.id), Cell(text=each.label), Cell(text=f"{each.probability:.2f}", order=each.probability),
         Cell(text=" ".join(each.text.split()))]
        for each in samples
    ]  # fmt: skip
    return table(title, ["document", "is", "said", "begins"], rows)
