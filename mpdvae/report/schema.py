"""Schema of the files of a run folder, as far as the report needs them.

Files may contain more: unknown fields are ignored. The fields below are validated, because a report on partially read
numbers is worse than no report. Numbers that are null, NaN or infinite become None and are reported as missing.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from mpdvae.errors import InputError, RunError
from mpdvae.system.atomic_files import write_atomically
from mpdvae.system.closed_folder import Inside
from mpdvae.system.untrusted_files import LARGEST_JSON, check_values, in_short, parse_json, read_bytes

LARGEST = 1e15
"""Numbers of larger magnitude cannot be measurements, and their sums and squares would not be finite."""


def _finite(value: float | None) -> float | None:
    return value if value is not None and abs(value) <= LARGEST else None


Number = Annotated[float | None, AfterValidator(_finite)]
Whole = Annotated[int, Field(ge=-(10**15), le=10**15)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
"""Any seed of an experiment."""
Real = Annotated[float, Field(ge=-LARGEST, le=LARGEST, allow_inf_nan=False)]


class Part(BaseModel):
    """Base of all parts: frozen; ignores unknown fields."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Experiment(Part):
    """experiment.json: the fields that identify the run. The complete configuration is kept separately as plain JSON."""

    name: str
    model: str
    scale: str
    seed: Seed
    reproduces: str = ""


class DataOrigin(Part):
    name: str
    sha256: str = ""
    protocol: str
    class_names: list[str] = []
    """Names of the classes, in the order of their numbers; absent if they have none, and from earlier versions."""


class NotedEnvironment(Part):
    """The environment of one part of the run."""

    used_for: list[str] = []
    fields: dict[str, str | int | float | bool | None] = {}


class Manifest(Part):
    """manifest.json: the provenance of the run."""

    status: str
    version: str = "unknown"
    torch: str = "unknown"
    python: str = "unknown"
    platform: str = "unknown"
    processor: str = "unknown"
    cores: Whole | None = None
    environments: list[NotedEnvironment] = []
    """In chronological order; absent from manifests of earlier versions."""
    data: DataOrigin = DataOrigin(name="unknown", sha256="", protocol="not measured yet")
    """Recorded when a run is trained or first measured; an imported model has none before."""
    parameters: dict[str, Whole] = {}
    command: str = ""
    started: str | None = None
    finished: str | None = None
    training_seconds: Number = None
    evaluation_seconds: Number = None
    skipped_steps: int = 0
    rollbacks: list[str] = []
    """Descriptions of the returns to an earlier checkpoint."""
    damaged_checkpoints: list[str] = []

    @property
    def troubles(self) -> str:
        """Problems during training from which the run recovered, in words; empty for most runs."""
        skipped = [f"{self.skipped_steps} steps skipped because of a non-finite loss or gradient"]
        damaged = [f"checkpoint {name} was damaged" for name in self.damaged_checkpoints]
        return "; ".join([*(skipped if self.skipped_steps else []), *self.rollbacks, *damaged])


class EncoderLag(Part):
    """How far the encoder lags behind; see mpdvae/measures/encoder_lag.py."""

    gain_nats: Number = None
    gain_standard_error_nats: Number = None


class Probed(Part):
    """Results from gradients and swapped codes, in history.jsonl and diagnostics.json; absent from earlier versions."""

    gradient_norms: dict[str, Number] = {}
    encoder_lag: EncoderLag = EncoderLag()
    code_use_nats: Number = None

    @property
    def encoder_lag_nats(self) -> float | None:
        return self.encoder_lag.gain_nats

    @property
    def pull_ratio(self) -> float | None:
        """Gradient norm of the reconstruction divided by the largest gradient norm of the other terms; None if a norm is
        unknown: an estimate of 0 says no more than that it lies within its noise (`mpdvae.objectives.term_gradients`)."""
        norms = {name: norm for name, norm in self.gradient_norms.items() if name != "total"}
        reconstruction, others = norms.pop("reconstruction", None), [norm or 0.0 for norm in norms.values()]
        return reconstruction / max(others) if reconstruction and others and min(others) > 0 else None


class HistoryPoint(Probed):
    """A line of history.jsonl: one evaluation point during training."""

    step: Whole
    loss_nats: Number = None
    negative_elbo_nats: Number = None
    reconstruction_nats: Number = None
    kl_nats: Number = None
    active_units: Number = None
    mutual_information_nats: Number = None
    information_per_dimension_nats: list[Number] | None = None
    verdict: str = ""
    verdict_since_step: Whole | None = None

    @property
    def information_nats(self) -> float | None:
        """Information summed over all dimensions."""
        information = self.information_per_dimension_nats
        return None if information is None else sum(nats for nats in information if nats is not None)


class MeanAndError(Part):
    mean: Number
    standard_error: Number = None


class EffectiveSampleSize(Part):
    median: Number = None
    min: Number = None


class ParetoShape(Part):
    median: Number = None
    share_above_fixed: Number = Field(default=None, alias="share_above_0.7")
    share_above_threshold: Number = None
    """Above the threshold for the number of samples; runs of version 0.1 lack it."""

    @property
    def share_above(self) -> float | None:
        """Fraction of images whose weights are too heavy-tailed."""
        return self.share_above_fixed if self.share_above_threshold is None else self.share_above_threshold


class RefereeOnImages(Part):
    annealed: MeanAndError = Field(alias="annealed_nll_nats")
    weighted: MeanAndError = Field(alias="importance_weighted_nll_nats")


class RefereeOnSimulated(Part):
    at_least: MeanAndError = Field(alias="nll_at_least_nats")
    weighted: MeanAndError = Field(alias="importance_weighted_nll_nats")
    at_most: MeanAndError = Field(alias="nll_at_most_nats")


class Referee(Part):
    """Likelihood check: annealed importance sampling compared with the importance-weighted estimate."""

    images: Whole
    chains: Whole
    steps: Whole
    of_split: RefereeOnImages
    simulated: RefereeOnSimulated


class Density(Part):
    """density.json"""

    split: str
    protocol: str = ""
    images: Whole
    samples: Whole
    proposal: str = "encoder"
    """Where samples come from; earlier versions, whose files do not tell, had the encoder only."""
    tolerance_nats: Number = None
    negative_elbo_nats: MeanAndError
    nll_nats: MeanAndError
    nll_monte_carlo_error_nats: Number = None
    kl_nats: MeanAndError
    reconstruction_nats: MeanAndError | None = None
    bits_per_dim: MeanAndError | None = None
    effective_sample_size: EffectiveSampleSize = EffectiveSampleSize()
    pareto_k: ParetoShape = ParetoShape()
    referee: Referee | None = None
    command: str = ""


class Diagnostics(Probed):
    """diagnostics.json"""

    images: Whole
    latent_dim: Whole
    kl_per_dimension_nats: list[Number] | None = None
    information_per_dimension_nats: list[Number]
    active_units: Number
    active_units_by_variance: dict[str, Number] | None = None
    mutual_information_nats: Number
    mutual_information_ceiling_nats: Number
    mutual_information_saturated: bool
    mpd_mean_nats: Number
    mpd_std_nats: Number
    mpd_per_dimension_nats: list[Number] | None = None
    verdict: str = ""
    command: str = ""


class Estimate(Part):
    """A Monte-Carlo estimate."""

    nats: Number
    standard_error_nats: Number = None


class MutualInformation(Part):
    lower_bound: Estimate
    lower_bound_ceiling_nats: Number = None
    upper_bound: Estimate


class Information(Part):
    """information.json"""

    mutual_information: MutualInformation
    aggregate_kl: Estimate
    total_correlation: Estimate
    dimension_wise_kl: Estimate | None = None
    lautum_information: Estimate
    identity_residual_in_standard_errors: Number = None
    command: str = ""


class Increases(Part):
    """Increase in distortion, in nats, when the image's own code is replaced by another."""

    another: MeanAndError
    prior: MeanAndError
    mean: MeanAndError


class IncreasesPerDimension(Part):
    swapped: list[MeanAndError]
    averaged: list[MeanAndError]


class CodeUse(Part):
    """code_use.json"""

    images: Whole
    increase_nats: Increases
    increase_per_dimension_nats: IncreasesPerDimension
    command: str = ""


class Accuracy(Part):
    """A score, with its values by label subset or by k-means seed."""

    mean: Number
    std: Number = None
    subsets: list[Real] = []
    seeds: list[Real] = []

    @property
    def values(self) -> list[Real]:
        """The score of each subset or seed."""
        return self.subsets or self.seeds


class Scores(Part):
    """Scores of one set of features, by number of labels or clusters."""

    knn10_accuracy: dict[str, Accuracy] = {}
    linear_accuracy: dict[str, Accuracy] = {}
    linear_svm_accuracy: dict[str, Accuracy] = {}
    rbf_svm_accuracy: dict[str, Accuracy] = {}
    kmeans_accuracy: dict[str, Accuracy] = {}
    kmeans_hungarian_accuracy: dict[str, Accuracy] = {}
    kmeans_nmi: dict[str, Accuracy] = {}
    kmeans_ari: dict[str, Accuracy] = {}
    dimensions: Whole | None = None


class Representation(Scores):
    """representation.json: scores of the codes and of the baselines."""

    baselines: dict[str, Scores] = {}
    left_out: list[str] = []
    command: str = ""


class Score(Part):
    """A measure that is one number."""

    score: Number = None


class UnitImportance(Part):
    """Measures that follow from the importances of units for factors."""

    disentanglement: Number = None
    completeness: Number = None
    informativeness: Number = None


class Disentanglement(Part):
    """disentanglement.json"""

    factors: list[str]
    mig: Score
    dci: UnitImportance
    sap: Score
    modularity: Score
    explicitness: Score
    command: str = ""


class Codes(Part):
    """codes.json: the first two principal components of a sample of test codes."""

    x: list[Real]
    y: list[Real]
    labels: list[Whole] | None = None
    explained_variance: list[Real] = []


P = TypeVar("P", bound=Part)


def read_text(path: Path | Inside, advice: str) -> str:
    """Returns the file's text. Raises `InputError` with the advice if it is missing, unreadable or too large."""
    if not path.exists():
        raise InputError(f"{path} is missing: {advice}.", topic="not-a-run")
    try:
        return read_bytes(path, LARGEST_JSON).decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} cannot be read ({type(error).__name__}): {advice}.", topic="damaged") from None


def parse(kind: type[P], text: str, origin: str, advice: str) -> P:
    """Parses JSON as `kind`. Raises `InputError`, naming `origin`, the field and what to do, if it does not validate."""
    try:
        check_values(text)
        return kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(in_short(part, 100) for part in first["loc"])
        said = in_short(first["msg"])
        what = f"{field}: {said}" if field else said
        raise InputError(f"{origin} is broken ({what}): {advice}.", topic="damaged") from None
    except ValueError as error:
        raise InputError(f"{origin} is broken ({in_short(error)}): {advice}.", topic="damaged") from None


def read(kind: type[P], path: Path | Inside, advice: str) -> P:
    """Reads a JSON file as `kind`. Raises `InputError`, naming the file and what to do, if it is missing or broken."""
    return parse(kind, read_text(path, advice), str(path), advice)


def write(kinds: Sequence[type[BaseModel]], path: Inside, content: dict[str, Any]) -> None:
    """Writes a result as JSON, atomically. Raises `RunError` if a reader, one of `kinds`, would refuse it; the file then
    keeps its former content."""
    try:
        text = json.dumps(content, indent=2, allow_nan=False) + "\n"
        value = parse_json(text)
        for kind in kinds:
            kind.model_validate(value)
    except ValueError as error:  # a ValidationError is one
        first = error.errors(include_url=False)[0] if isinstance(error, ValidationError) else None
        reason = in_short(f"{'.'.join(map(str, first['loc']))}: {first['msg']}" if first else error)
        raise RunError(
            f"{path}: is not written, because it could not be read again ({reason}); check that training did not diverge.",
            topic="not-a-number",
        ) from None
    write_atomically(path, text)


def read_object(path: Path | Inside, advice: str) -> dict[str, Any]:
    """Reads a JSON file, which must contain an object, without further validation."""
    try:
        value = parse_json(read_text(path, advice))
    except ValueError as error:
        raise InputError(f"{path} is broken ({in_short(error)}): {advice}.", topic="damaged") from None
    if not isinstance(value, dict):
        raise InputError(
            f"{path} is broken (expected an object, got {type(value).__name__}): {advice}.", topic="damaged"
        )
    return value
