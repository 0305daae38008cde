"""results.json: every number of a report, for programs.

    {"format": 1, "generator", "version", "command", "title",
     "rows":   [{"label", "model", "dataset", "protocol", "measured", "scale", "seeds", "runs",
                 "metrics": {name: {"mean", "half_width_95", "covers": [source], "values": {seed: value}, "unit",
                                    "noise": {"subsets", "seeds", "both"} (of accuracies)}}}],
     "baselines": [{"label", "dataset", "protocol", "measured", "scale",
                    "metrics": {name: {"mean", "half_width_95", "unit", "noise"}}}],
     "claims": [{"id", "statement", "source", "whose", "about": [data set], "dataset", "protocol", "measured", "scale",
                 "verdict", "reason", "stability", "conditions": {"confirmed", "refuted", "open"},
                 "levels": {"confirming", "refuting"}, "look": {"number", "seeds", "error"},
                 "evidence": [{"metric", "relation", "left", "right", "margin", "smallest", "verdict", "sentence",
                               "differences": {seed: value}, "mean", "bracket": [low, high] or null,
                               "interval_95", "interval_confirming", "interval_refuting", "covers": [source],
                               "standard_error", "degrees_of_freedom",
                               "variance": [{"source", "variance", "degrees_of_freedom"}]}]}],
     "published": [{"model", "dataset", "binarisation", "nll_nats", "kl_nats", "source", ...}],
     "environments": [{"version", "torch", ..., "runs": [...]}], "unfinished": [{"run", "name", "status", "failure"}]}

An interval covers the noise of the sources in `covers`: seeds, test images, label subsets. `stability` is the probability
that a repeat of the whole matrix gives the same verdict. `error` is the probability of a wrong verdict at this look; 0 is the
number of a look that was the only one.

Rows with different `protocol`, `measured` or `scale` are not comparable. Paths of runs are relative to the report.
"""

import json
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mpdvae.report.collect import Collection, Run, Study, Variant
from mpdvae.report.files import MARK
from mpdvae.report.metrics import accuracy_metrics, all_metrics, over_seeds, values
from mpdvae.report.noise import Noise
from mpdvae.report.published import comparable
from mpdvae.report.scores import Baseline, baselines, noise_of
from mpdvae.report.verdicts import Evidence, Verdict
from mpdvae.runs.environment import HARMLESS
from mpdvae.version import __version__

FORMAT = 1
ENVIRONMENT = ["version", "torch", "python", "platform", "processor", "cores"]
"""Fields that manifests of every version record."""
UNKNOWN = (None, "unknown")
CHANGED = ", then "
"""Separates the values of a field that changed within a run."""


@dataclass(frozen=True)
class Environment:
    """The environment that a set of runs was made in."""

    fields: dict[str, Any]
    runs: tuple[Run, ...]


@dataclass(frozen=True)
class Results:
    """The content of a report, independent of the output format."""

    collection: Collection
    verdicts: tuple[tuple[Verdict, ...], ...]
    """The verdicts on each study, in the order of the collection."""
    command: str
    title: str
    html: Path
    markdown: Path
    json: Path

    def relative(self, folder: Path) -> str:
        """Returns the path of a run folder relative to the report."""
        return relative(folder, self.html.parent)


def relative(folder: Path, start: Path) -> str:
    """Returns the path of `folder` relative to `start`, with forward slashes."""
    return Path(os.path.relpath(folder.resolve(), start.resolve())).as_posix()


def environments(runs: list[Run]) -> list[Environment]:
    """Returns the distinct environments of these runs, the most common first.

    A field that changed within a run has all its values, in order.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(json.dumps(_environment(run)), []).append(run)
    found = [Environment(json.loads(key), tuple(group)) for key, group in groups.items()]
    return sorted(found, key=lambda environment: -len(environment.runs))


def differing(found: list[Environment]) -> list[str]:
    """Returns the fields in which environments are known to differ, or which changed within a run."""
    names = dict.fromkeys(name for e in found for name in e.fields)
    values = {name: {str(e.fields[name]) for e in found if e.fields.get(name) not in UNKNOWN} for name in names}
    changed = {name for e in found for name, value in e.fields.items() if CHANGED in str(value)}
    return [name for name in names if len(values[name]) > 1 or name in changed]


def shared(found: list[Environment]) -> dict[str, str]:
    """Returns the fields in which all environments that record them agree."""
    different = differing(found)
    fields = {name: value for e in reversed(found) for name, value in e.fields.items() if value not in UNKNOWN}
    return {name: str(value) for name, value in fields.items() if name not in different}


def to_json(results: Results) -> str:
    """Returns the text of results.json."""
    pairs = list(zip(results.collection.studies, results.verdicts, strict=True))
    content = {
        "format": FORMAT,
        "generator": MARK,
        "version": __version__,
        "command": results.command,
        "title": results.title,
        "rows": [_row(results, study, variant) for study, _ in pairs for variant in study.variants],
        "baselines": [_baseline(study, baseline) for study, _ in pairs for baseline in baselines(study)],
        "claims": [_claim(study, verdict) for study, verdicts in pairs for verdict in verdicts],
        "published": [asdict(p) for p in dict.fromkeys(p for study, _ in pairs for p in comparable(study.setting))],
        "environments": [
            {**e.fields, "runs": [results.relative(run.folder) for run in e.runs]}
            for e in environments(results.collection.runs)
        ],
        "unfinished": [
            {"run": results.relative(run.folder), "name": run.name, "status": run.status, "failure": run.failure}
            for run in results.collection.unfinished
        ],
    }
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _environment(run: Run) -> dict[str, Any]:
    """Returns the fields of a run's environment by name; for earlier versions, the few that they recorded."""
    noted = [environment.fields for environment in run.manifest.environments]
    if not noted:
        return {name: getattr(run.manifest, name) for name in ENVIRONMENT}
    names = dict.fromkeys(name for fields in noted for name in fields if name not in HARMLESS)
    return {name: _over_time([fields.get(name) for fields in noted]) for name in names}


def _over_time(values: list[Any]) -> Any:
    """Returns the value, or all successive values joined if they differ."""
    different = list(dict.fromkeys(values))
    return values[0] if len(different) == 1 else CHANGED.join("unknown" if v is None else str(v) for v in different)


def _row(results: Results, study: Study, variant: Variant) -> dict[str, Any]:
    metrics: dict[str, Any] = {}
    for metric in all_metrics(study.runs):
        mean = over_seeds(variant, metric.name)
        if mean is not None:
            by_seed = {str(seed): number for seed, number in values(variant, metric.name).items()}
            metrics[metric.name] = {
                "mean": mean.mean,
                "half_width_95": mean.half_width,
                "covers": ["seeds"],
                "values": by_seed,
                "unit": metric.unit,
            }
            if (found := _noise(variant, metric.name)) is not None:
                metrics[metric.name]["noise"] = asdict(found)
    return {
        "label": variant.label,
        "model": variant.model,
        **_where(study),
        "seeds": variant.seeds,
        "runs": [results.relative(run.folder) for run in variant.runs],
        "metrics": metrics,
    }


def _noise(variant: Variant, name: str) -> Noise | None:
    """Returns the noise of a representation score by source; None for any other metric."""
    measure, _, count = name.partition("/")
    represented = [run.representation for run in variant.runs if run.representation]
    return noise_of(represented, measure, count) if count else None


def _baseline(study: Study, baseline: Baseline) -> dict[str, Any]:
    """Returns the scores of one baseline, that is, of features that were not learned by training the models."""
    metrics: dict[str, Any] = {}
    for metric in accuracy_metrics(study.runs):
        measure, _, count = metric.name.partition("/")
        mean, found = baseline.over_seeds(measure, count), baseline.noise(measure, count)
        if mean is not None:
            metrics[metric.name] = {"mean": mean.mean, "half_width_95": mean.half_width, "unit": metric.unit}
            metrics[metric.name]["noise"] = None if found is None else asdict(found)
    return {"label": baseline.label, **_where(study), "metrics": metrics}


def _claim(study: Study, verdict: Verdict) -> dict[str, Any]:
    claim, look = verdict.claim, verdict.look
    named = {"confirmed": "holds", "refuted": "does not hold", "open": "cannot tell"}
    levels = {"confirming": 1 - look.alpha, "refuting": 1 - look.alpha / len(claim.conditions)}
    return {
        "id": claim.id,
        "statement": claim.statement,
        "source": claim.source,
        "whose": claim.whose,
        "about": list(claim.about),
        **_where(study),
        "verdict": verdict.word,
        "reason": verdict.reason,
        "stability": verdict.stability,
        "conditions": {name: [e.short for e in verdict.evidence if e.word == word] for name, word in named.items()},
        "levels": levels,
        "look": {"number": look.number, "seeds": list(look.seeds), "error": look.alpha},
        "evidence": [_evidence(item, levels) for item in verdict.evidence],
    }


def _evidence(item: Evidence, levels: dict[str, float]) -> dict[str, Any]:
    condition, found = item.condition, item.contrast
    low = None if found is None else found.low
    return {
        "metric": item.metric,
        "relation": condition.relation,
        "left": condition.left,
        "right": condition.right,
        "margin": condition.margin,
        "smallest": condition.smallest,
        "verdict": item.word,
        "sentence": item.sentence,
        "differences": {} if low is None else {str(seed): value for seed, value in low.by_seed.items()},
        "mean": None if found is None else found.mean,
        "bracket": [found.low.mean, found.high.mean] if found is not None and found.is_bracket else None,
        "interval_95": None if found is None else found.interval(),
        **{f"interval_{name}": None if found is None else found.interval(level) for name, level in levels.items()},
        "covers": [] if found is None else found.covers,
        "standard_error": None if low is None else low.standard_error,
        "degrees_of_freedom": None if low is None else _finite(low.degrees),
        "variance": [
            {"source": term.source, "variance": term.variance, "degrees_of_freedom": _finite(term.degrees)}
            for term in (low.terms or () if low is not None else ())
        ],
    }


def _finite(degrees: float) -> float | None:
    """Returns degrees of freedom for JSON; None for infinitely many."""
    return degrees if math.isfinite(degrees) else None


def _where(study: Study) -> dict[str, Any]:
    setting = study.setting
    return {
        "dataset": setting.dataset,
        "protocol": setting.protocol,
        "measured": setting.measured,
        "scale": setting.scale,
    }
