"""Colours that colour-blind readers can distinguish (Okabe & Ito 2008), and shapes as a second cue.

Black is omitted because it is invisible on a dark page; yellow is used only for classes, together with a shape.
"""

from collections.abc import Sequence

from mpdvae.report.collect import ORDER, Study

MODELS = ["#D55E00", "#009E73", "#E69F00", "#0072B2", "#CC79A7", "#56B4E9"]
DASHES = ["solid", "dash", "dot", "dashdot"]
CLASSES = ["#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#B8A800", "#888888", "#882255", "#44AA99"]
SYMBOLS = ["circle", "square", "diamond", "triangle-up", "x", "cross", "star", "triangle-down", "hexagon", "pentagon"]


def model_styles(labels: Sequence[str], models: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Returns colour and dash style of each label: models of the matrix have fixed colours, others the remaining ones."""
    fixed = dict(zip(ORDER, MODELS, strict=True))
    taken: set[tuple[str, str]] = set()
    styles: dict[str, tuple[str, str]] = {}
    for label, model in zip(labels, models, strict=True):
        wanted = (fixed.get(model, MODELS[0]), DASHES[0])
        free = [(colour, dash) for dash in DASHES for colour in MODELS if (colour, dash) not in taken]
        styles[label] = wanted if wanted not in taken else (free or [wanted])[0]
        taken.add(styles[label])
    return styles


def variant_styles(study: Study) -> dict[str, tuple[str, str]]:
    """Returns colour and dash style of each variant by label, the same in all charts of a page."""
    return model_styles([v.label for v in study.variants], [v.model for v in study.variants])


def symbol(dash: str) -> str:
    """Returns the marker that stands for a dash style where nothing can be dashed."""
    return SYMBOLS[DASHES.index(dash)]


def class_style(label: int) -> tuple[str, str]:
    """Returns colour and marker of a class."""
    return CLASSES[label % len(CLASSES)], SYMBOLS[label % len(SYMBOLS)]
