"""The card of a model, in Markdown."""

from collections.abc import Mapping
from typing import Any

from ganatomy import catalogue
from ganatomy.training.loop import Best


def model_card(facts: Mapping[str, Any], best: Best, latest: Mapping[str, float]) -> str:
    """What the model was trained on, what it may not be used for, how it did; Markdown."""
    system = catalogue.find(facts["system"])
    data = facts["data"]["data"] or "the embedded phantom"
    lines = [
        f"# {system.title} ({system.slug})",
        "",
        f"{system.what}. {system.authors}, {system.doi_or_arxiv or 'no identifier'}.",
        "",
        f"- Trained on: {data}; {len(facts['subjects']['train'])} subjects, seed {facts['training']['seed']}, "
        f"rounds {', '.join(f'{name} {count}' for name, count in facts['rounds'].items())}.",
        f"- Kept for testing: {', '.join(facts['subjects']['test']) or 'none'}.",
        f"- Weights chosen at round {best.round} by {best.name} on {facts['validation']}"
        + (f" ({best.score:.4g})." if best.score is not None else "."),
        *[f"- {name}: {value}." for name, value in facts["provenance"].items()],
        "",
        "## Validation at the last reading",
        "",
        *[
            f"- {name.removeprefix('validation/')}: {value:.4g}"
            for name, value in latest.items()
            if name.startswith("validation/")
        ],
        "",
        "## Not for",
        "",
        "Diagnosis or any clinical decision. The network changes image content and may remove or invent structure; it "
        "has been judged only on the data named here and not on other scanners, doses, body regions or patients.",
        "",
    ]
    return "\n".join(lines)
