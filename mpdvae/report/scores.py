"""The table of representation scores: codes of every model next to three baselines.

The baselines are raw pixels, principal components and an untrained encoder. The first two do not depend on a seed and are
single numbers; the third is as random as a model and, like a model, gets an interval over seeds.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from mpdvae.errors import listed
from mpdvae.measures.intervals import Estimate, estimate
from mpdvae.report.collect import Run, Study
from mpdvae.report.grid import Row, Section, Table, cell
from mpdvae.report.metrics import MEASURES, accuracy_metric, counts
from mpdvae.report.noise import Noise, noise
from mpdvae.report.numbers import MISSING, number, with_interval
from mpdvae.report.schema import Scores

NAMES = {"raw_pixels": "raw pixels", "pca": "PCA", "untrained_encoder": "untrained encoder"}
SECTIONS = (
    ("Test accuracy of classifiers", ("knn10_accuracy", "linear_accuracy"), False),
    ("Clustering: test accuracy", ("kmeans_accuracy",), False),
    ("Test accuracy of support vector machines", ("linear_svm_accuracy", "rbf_svm_accuracy"), True),
    ("Clustering: other agreement with classes", ("kmeans_hungarian_accuracy", "kmeans_nmi", "kmeans_ari"), True),
)
"""Title and measures of each section, and whether it is folded."""
NOISE_TITLE = "Standard deviation of a score over subsets or restarts / over training seeds / over both"
NOTE = (
    "Baselines: raw pixels, as many principal components as the code has dimensions, and codes of the same encoder before "
    "training, scored on the same images, labels and subsets. Only a score above these baselines is a gain from training."
)
NOISE_NOTE = (
    "Standard deviations: of one run over label subsets or k-means restarts; of runs with different seeds, with the noise "
    "of subsets removed; of one run on one subset, which includes both. The intervals in the rows above cover the seeds, "
    "not the label subsets and the test images, which all models share."
)


@dataclass(frozen=True)
class Baseline:
    """Scores of the same features for the seeds of a study; one entry for features that do not depend on a seed."""

    label: str
    by_seed: Mapping[int, Scores]
    models: tuple[str, ...]
    """Labels of the models that are compared with these features."""

    def over_seeds(self, measure: str, count: str) -> Estimate | None:
        """Returns mean and interval of a score; None if it was not measured."""
        found = [score.mean for s in self.by_seed.values() if (score := getattr(s, measure).get(count))]
        numbers = [value for value in found if value is not None]
        return estimate(numbers) if numbers else None

    def noise(self, measure: str, count: str) -> Noise | None:
        """Returns the noise of a score by source."""
        return noise_of(self.by_seed.values(), measure, count)


def baselines(study: Study) -> list[Baseline]:
    """Returns the baselines of a study; features that differ between models have labels of their own."""
    groups: dict[tuple[str, str], dict[int, Scores]] = defaultdict(dict)
    models: dict[tuple[str, str], list[str]] = defaultdict(list)
    for variant in study.variants:
        for run in variant.runs:
            for name, scores in run.representation.baselines.items() if run.representation else ():
                if name in NAMES:
                    key = name, _features(name, run, scores)
                    groups[key].setdefault(run.seed if name == "untrained_encoder" else 0, scores)
                    models[key].append(variant.label)
    ordered = sorted(groups, key=lambda key: list(NAMES).index(key[0]))
    shared = [key for key in ordered if len(set(models[key])) > 1]
    found = []
    for key in ordered:
        of = tuple(dict.fromkeys(models[key]))
        alike = [other for other in ordered if other[0] == key[0]]
        rank = [other for other in shared if other in alike].index(key) if key in shared else None
        found.append(Baseline(_label(key, of, rank, alone=len(alike) == 1), groups[key], of))
    return found


def noise_of(scores: Iterable[Scores], measure: str, count: str) -> Noise | None:
    """Returns the noise of a score by source; None if it was not measured, or not in the same way for all seeds."""
    runs = [score.values for s in scores if (score := getattr(s, measure).get(count)) and score.values]
    return noise(runs) if runs and len({len(run) for run in runs}) == 1 else None


def score_table(study: Study, measures: Sequence[str] = tuple(MEASURES)) -> Table:
    """Returns the scores of one study by these measures; a table without sections if nothing was scored."""
    found = baselines(study)
    sections = [
        Section(title, tuple(row for m in measures if m in of for row in _rows(study, found, m)), folded)
        for title, of, folded in SECTIONS
    ]
    noise_rows = tuple(row for m in measures for row in _noise_rows(study, found, m))
    sections.append(Section(NOISE_TITLE, noise_rows, folded=True))
    columns = (*(baseline.label for baseline in found), *(variant.label for variant in study.variants))
    return Table("Representation", columns, tuple(s for s in sections if s.rows), tuple(_notes(study, found)))


def _features(name: str, run: Run, scores: Scores) -> str:
    if name != "untrained_encoder":
        return f"{scores.dimensions} "
    encoder = run.configuration.get("encoder")
    # Codes of a refined posterior also depend on the other parts.
    refined = isinstance(encoder, dict) and encoder.get("refinement_steps")
    others = [run.configuration.get(part) for part in ("decoder", "prior") if refined]
    return f"{scores.dimensions} {json.dumps([encoder, *others])}"


def _label(key: tuple[str, str], models: Sequence[str], rank: int | None, alone: bool) -> str:
    """Returns a short label: those of several models are counted, those of one name it, where there are others alike."""
    name, features = key
    title = f"{NAMES[name]}, {features.split()[0]} dimensions" if name == "pca" else NAMES[name]
    if alone or rank == 0:
        return title
    return f"{title} (of {models[0]})" if rank is None else f"{title} {rank + 1}"


def _whose(found: Sequence[Baseline]) -> list[str]:
    """Returns whose features each baseline of several models is, unless it is that of all."""
    every = {model for baseline in found for model in baseline.models}
    shared = [b for b in found if len(b.models) > 1 and set(b.models) != every]
    return [f"The baseline “{baseline.label}” is that of {listed(baseline.models)}." for baseline in shared]


def _rows(study: Study, found: Sequence[Baseline], measure: str) -> list[Row]:
    rows = []
    for count in counts(study.runs, measure):
        shown = accuracy_metric(measure, count)
        cells = [with_interval(baseline.over_seeds(measure, count), shown.digits) for baseline in found]
        rows.append(Row(shown.label, "", (*cells, *(cell(variant, shown) for variant in study.variants))))
    return rows


def _noise_rows(study: Study, found: Sequence[Baseline], measure: str) -> list[Row]:
    counted = counts(study.runs, measure)
    if not counted:
        return []
    count = counted[-1]
    of_models = [
        noise_of((run.representation for run in variant.runs if run.representation), measure, count)
        for variant in study.variants
    ]
    cells = tuple(_noise_cell(n) for n in (*(baseline.noise(measure, count) for baseline in found), *of_models))
    return [Row(accuracy_metric(measure, count).label, "", cells)] if set(cells) != {MISSING} else []


def _noise_cell(found: Noise | None) -> str:
    if found is None:
        return MISSING
    parts = [number(value, 3) for value in (found.subsets, found.seeds, found.both)]
    return MISSING if set(parts) == {MISSING} else " / ".join(parts)


def _notes(study: Study, found: Sequence[Baseline]) -> list[str]:
    represented = [run.representation for run in study.runs if run.representation]
    if not represented:
        return ["No representation scores: they require labels of at least two classes."]
    notes = [NOTE] if found else ["No baselines were scored (evaluation.baselines)."]
    return [
        *notes,
        *_whose(found),
        NOISE_NOTE,
        *sorted({sentence for scores in represented for sentence in scores.left_out}),
    ]
