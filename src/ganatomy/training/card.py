"""The model card of a run, in Markdown."""

from collections.abc import Mapping, Sequence

from ganatomy.case import Split
from ganatomy.catalogue import System
from ganatomy.data.pseudonyms import shortened
from ganatomy.data.splits import Fold, some
from ganatomy.inference.runfile import RunFile
from ganatomy.metrics.statistics import count
from ganatomy.reports.measures import Measure
from ganatomy.training.loop import Best


def model_card(system: System, facts: RunFile, data: str, best: Best, latest: Mapping[Measure, float]) -> str:
    """Return the card of a trained model as Markdown: training data, validation scores and limits of its use.

    Args:
        system: system that was trained.
        facts: run file.
        data: description of the images, without names of subjects.
        best: best validation score and its round.
        latest: last value of each measure of the run.
    """
    split = facts.split
    short = shortened([*split.train, *split.val, *split.test])
    tested = (
        f"{len(split.test)} subjects, by pseudonym {some(short[one] for one in split.test)}" if split.test else "none"
    )
    fold = f" (fold {split.fold.number} of {split.fold.of}{_sites(split.fold)})" if split.fold else ""
    lines = [
        f"# {system.title} ({system.slug})",
        "",
        f"{system.what}. {system.citation}.",
        "",
        f"- Trained on: {data}; {len(split.train)} subjects{fold}, seed {facts.training.seed}, "
        f"rounds {', '.join(f'{name} {count}' for name, count in facts.rounds.items())}.",
        *[f"- Initial weights of {one.player}: those of {one.of} in a run of {one.system}." for one in facts.initial],
        *([f"- Annotations learned from: those of {len(split.annotated)} subjects."] if split.annotated else []),
        f"- Kept for testing: {tested}.",
        f"- Weights chosen at round {best.round} by {best.name} on {facts.validation}"
        + (f" ({best.score:.4g})." if best.score is not None else "."),
        *([f"- Augmentation: {facts.augmentation}."] if facts.augmentation else []),
        *([f"- Resolution: {facts.resolution}."] if facts.resolution else []),
        *([_scanners(split.sites)] if split.sites else []),
        *[f"- {name}: {value}." for name, value in facts.provenance.items()],
        "",
        "## Validation at the last reading",
        "",
        *[f"- {measure.name}: {value:.4g}" for measure, value in latest.items() if measure.kind == "validation"],
        "",
        "## Not for",
        "",
        "Diagnosis or any clinical decision. The network changes image content and may remove or invent structure; it "
        "has been judged only on the data named here and not on other scanners, doses, body regions or patients.",
        "",
    ]
    return "\n".join(lines)


def _sites(fold: Fold) -> str:
    return ", which are sites" if fold.by == "sites" else ""


def _scanners(sites: Mapping[Split, Sequence[str]]) -> str:
    """Return a line on the sites of training and of testing."""
    learned = {*sites.get("train", ()), *sites.get("val", ())}
    kept = set(sites.get("test", ()))
    new = f", {len(kept - learned)} of them not trained on" if kept else ""
    return f"- Sites: {count(len(learned), 'site')} trained on; test subjects of {count(len(kept), 'site')}{new}."
