"""Schemas of the records of a run, validated before use: manifest, history, diagnostics, the state of a checkpoint.

A run folder is untrusted input. Code that reads one of these records works with plain dictionaries and relies on what the
schemas guarantee: which fields exist and their types, that numbers are finite, that entries are consistent with each other.
Fields that are not named here are kept unchanged. Records of earlier versions have fewer fields: those that may be missing
have a default.

What is written is checked by the same schemas (`check_written`), after a passage through JSON: a value that could not be read
again ends the run in a sentence, and the file keeps its former content.
"""

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mpdvae.errors import InputError, RunError
from mpdvae.runs.recorded_names import LONGEST_NAME, MOST_NAMES
from mpdvae.system.untrusted_files import LARGEST_JSON, in_short, parse_json

LARGEST = 1e15
"""Largest magnitude of a recorded number: sums and squares of such numbers are still finite."""
Real = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]
Step = Annotated[int, Field(ge=0, le=10**12)]
Word = Annotated[str, Field(max_length=10_000)]
ClassNames = Annotated[list[Annotated[str, Field(max_length=LONGEST_NAME)]], Field(max_length=MOST_NAMES)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class _Exact(_Record):
    model_config = ConfigDict(extra="forbid")


class DataOrigin(_Record):
    sha256: Word
    protocol: Word
    class_names: ClassNames | None = None
    """Names of the classes, in the order of their numbers; absent if they have none, and from earlier versions."""


class Environment(_Record):
    """The environment of a part of a run; see `mpdvae.runs.environment`."""

    used_for: list[Word]
    fields: dict[Word, Word | Real | bool | None]


class FastestStep(_Record):
    """Seconds per training step of each variant that was timed, and why others were left out; see
    `mpdvae.training.fastest_step`."""

    precision: Literal["float32", "bfloat16"]
    compile: bool
    step_seconds: dict[Word, Real] = {}
    left_out: dict[Word, Word] = {}


class Manifest(_Record):
    """manifest.json"""

    status: Word = "new"
    version: Word = ""
    python: Word = ""
    torch: Word = ""
    platform: Word = ""
    processor: Word = ""
    cores: Step | None = None
    data: DataOrigin | None = None
    sha256: Word | None = None
    files: dict[Word, Word] = {}
    """SHA-256 by path; see `mpdvae.runs.checksums`."""
    damaged_checkpoints: list[Word] = []
    command: Word = ""
    time_budget_seconds: Real | None = None
    """What set the number of epochs of an estimator's fit."""
    training_seconds: Real = 0.0
    environments: list[Environment] | None = None
    fastest_step: FastestStep | None = None
    """Exists if the precision was chosen by timing."""


class SearchNote(_Record):
    """search.json: the definition of a search. Training determines whether `experiment` is one."""

    experiment: dict[str, Any]
    fastest_step: FastestStep | None = None


class Lag(_Record):
    """See `mpdvae.measures.encoder_lag`."""

    gain_nats: Real
    gain_standard_error_nats: Real
    steps: Step
    images: Step


class LinearThreshold(_Record):
    """See `mpdvae.measures.linear_threshold`."""

    threshold: Real
    largest_eigenvalue: Real
    directions_above: Step
    units: Step
    linear_rate_nats: Real


class Probed(_Record):
    """Fields that history entries and diagnostics.json have in common."""

    verdict: Word = "not known"
    information_per_dimension_nats: Annotated[list[Real], Field(min_length=1)] = []
    mutual_information_nats: Real = 0.0
    mutual_information_ceiling_nats: Real = 0.0
    mutual_information_upper_nats: Real = 0.0
    mpd_mean_nats: Real = 0.0
    mpd_std_nats: Real = 0.0
    active_units: Real = 0.0
    active_units_by_variance: dict[Word, Real] = {}
    gradient_norms: dict[Word, Real] = {"total": 0.0}
    encoder_lag: Lag = Lag(gain_nats=0.0, gain_standard_error_nats=0.0, steps=0, images=0)
    code_use_nats: Real = 0.0
    linear_threshold: LinearThreshold | None = None
    """Exists in diagnostics.json if pixels are Gaussian."""

    @model_validator(mode="after")
    def _whole(self) -> "Probed":
        if "total" not in self.gradient_norms:
            raise ValueError("gradient_norms has no total")
        if len({"mpd_mean_nats", "mpd_std_nats"} & self.model_fields_set) == 1:
            raise ValueError("mpd_mean_nats and mpd_std_nats must be given together")
        return self


class HistoryEntry(Probed):
    """A line of history.jsonl."""

    step: Step
    verdict: Word  # pyright: ignore[reportGeneralTypeIssues]
    verdict_since_step: Step | None = None
    idle_units: Step | None = None
    negative_elbo_nats: Real = 0.0
    kl_nats: Real = 0.0
    latent_dim: Step = 0


class ProgressNote(_Record):
    """progress.json of a run in progress."""

    phase: Word
    step: Step
    latest: HistoryEntry | None


class Rollback(_Record):
    """A rollback to an earlier checkpoint; see `mpdvae.training.nonfinite_recovery`."""

    from_step: Step
    to_step: Step
    learning_rate: Real
    because: Word


class MeanAndError(_Record):
    mean: Real | None = None
    standard_error: Real | None = None


class MeasuredDensity(_Record):
    """density*.json: what measures it again, and what a model card states."""

    command: Word = ""
    images: Step = 0
    samples: Step = 0
    split: Word = ""
    protocol: Word = ""
    nll_nats: MeanAndError | None = None
    negative_elbo_nats: MeanAndError | None = None
    kl_nats: MeanAndError | None = None
    bits_per_dim: MeanAndError | None = None


class MeasuredCodes(_Record):
    """diagnostics.json, as far as a model card states it."""

    split: Word = ""
    mutual_information_nats: Real | None = None
    mutual_information_upper_nats: Real | None = None
    mpd_mean_nats: Real | None = None
    active_units: Real | None = None


class MeasuredScores(_Record):
    """representation.json, as far as a model card states it."""

    knn10_accuracy: dict[Word, MeanAndError] = {}
    linear_accuracy: dict[Word, MeanAndError] = {}


class PrecisionErrors(_Exact):
    """See `mpdvae.evaluation.likelihood_precision.Errors`."""

    images: Step
    per_image: Real
    per_image_monte_carlo: Real
    mean: Real
    mean_standard_error: Real
    mean_monte_carlo: Real


class PrecisionChoice(_Exact):
    """choice.json beside the parts of a measurement; see `mpdvae.evaluation.likelihood_precision.Choice`."""

    precision: Literal["float32", "bfloat16"]
    compile: bool
    reason: Word
    evaluations_per_second: dict[Word, Real]
    errors: PrecisionErrors | None


class LossSums(_Record):
    """Sums since the last evaluation point; see `mpdvae.training.loss_sums`."""

    terms: list[Word] = []
    count: Step = 0
    skipped: Step = 0


class TrackerNote(_Record):
    """trackers/NAME.json; the id is passed to the tracker, where it becomes part of URLs and file names."""

    step: Step
    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")]
    results: bool = False


class CheckpointState(_Record):
    """step-N.json, beside the tensors. Training determines which of its fields are required."""

    step: Step
    experiment: dict[str, Any]
    learning_rate: Real = 0.0
    best_negative_elbo_nats: Real | None = None
    evaluations_without_progress: Step = 0
    plateaus: Step = 0
    stopped: Word = ""
    objective: dict[str, Real] = {}
    inference: dict[str, Real] = {}
    skipped: Step = 0
    skipped_in_a_row: Step = 0
    rollbacks: list[Rollback] = []
    tally: LossSums = LossSums()


def check(kind: type[_Record], content: Any, origin: str, advice: str) -> dict[str, Any]:
    """Returns `content` unchanged. Raises `InputError`, with `origin`, the field and `advice`, if it is not of `kind`."""
    try:
        kind.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{origin}: is damaged ({_first(error)}); {advice}.", topic="damaged") from None
    return content


def check_written(kind: type[_Record], content: Any, origin: object) -> None:
    """Raises `RunError`, naming the field, unless the file `origin` can hold `content` and be read by `check`."""
    try:
        text = json.dumps(content, allow_nan=False)
        if len(text) > LARGEST_JSON:
            raise ValueError(f"it would have {len(text):,} bytes, more than {LARGEST_JSON:,}")
        kind.model_validate(parse_json(text))
    except ValidationError as error:
        raise _unwritable(origin, _first(error)) from None
    except (ValueError, TypeError) as error:
        raise _unwritable(origin, in_short(error)) from None


def _unwritable(origin: object, reason: str) -> RunError:
    return RunError(
        f"{origin}: is not written, because it could not be read again ({reason}); its former content is intact; if a value "
        "is too large, train again with a smaller training.learning-rate, in another --out.",
        topic="not-a-number",
    )


def _first(error: ValidationError) -> str:
    """Describes the first fault, with its field."""
    first = error.errors(include_url=False, include_input=False)[0]
    field = ".".join(in_short(part, 100) for part in first["loc"])
    what = in_short(first["msg"].removeprefix("Value error, "))
    return f"{field}: {what}" if field else what


def check_course(entries: Sequence[dict[str, Any]], origin: str, advice: str) -> None:
    """Raises `InputError` unless the entries of one run, each valid in itself, are consistent with each other."""
    units = {len(noted) for entry in entries if (noted := entry.get("information_per_dimension_nats")) is not None}
    if len(units) > 1:
        raise InputError(
            f"{origin}: is damaged (entries differ in the number of units: {sorted(units)[:5]}); {advice}.",
            topic="damaged",
        )
