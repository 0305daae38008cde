r"""Chooses the precision of training, and whether to compile, by timing: `training.precision` auto.

Which of four variants trains fastest (float32 or bfloat16, each uncompiled or compiled) depends on the machine and on the
model: bfloat16 is faster where the processor multiplies matrices in it, and slower elsewhere. `fastest` therefore takes real
training steps of each variant, on learners of its own that are discarded, and every draw is seeded: a run starts from the
same bytes with or without the timing. The choice is written into the experiment, so that a run stays a pure function of its
configuration.

A variant is *taken* if, among those that agree, it minimises the seconds of the whole run,

.. math:: C_v + n\, t_v, \qquad \frac{|L_v - L_0|}{|L_0|} \le 2^{-8},

for n steps of t_v seconds and C_v seconds to compile. L_v is its loss on the first batch, with the initial weights and
the noise of the first step; L_0 is that of float32 uncompiled. The tolerance is the spacing of bfloat16 relative to the
number: a loss that agrees differs by no more than bfloat16 itself can resolve. Rounding within the networks mostly averages
out over pixels and images and stays below that by about a factor of 4 (at most 0.1% for mae-digits-smoke, vae- and
mae-mnist-minutes and mae-mnist-days). A loss that is not finite, at any step, never agrees.

t_v is the shortest time measured, because other work on the machine only ever adds to it. Each variant takes turns with the
fastest before it, so that a machine whose speed drifts is equally slow for both.

*Time is spent where it can pay back.* A variant whose first timed steps take much longer than those of the fastest so far
is abandoned. A compiled variant is tried only if, were it `HOPED_SPEEDUP` times as fast as uncompiled, the run would save
the time to compile it twice: once to try it, once in the run.
"""

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import isfinite, nan
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import torch

from mpdvae.data import Splits, batch_indices, training_batch
from mpdvae.errors import InputError
from mpdvae.experiments.experiment import Experiment, with_changes
from mpdvae.measures.memory_budget import shortage_ends
from mpdvae.models.acceleration import compile_networks, run_in_bfloat16
from mpdvae.runs.run_folder import Run
from mpdvae.seeding import seeded
from mpdvae.system.allocator import keep_freed_memory
from mpdvae.system.closed_folder import Inside
from mpdvae.system.process_group import any_is, of_first, world
from mpdvae.training.learner_state import Learner
from mpdvae.training.loop import batch_loss, training_step
from mpdvae.training.nonfinite_recovery import NotFinite

TOLERANCE = 2**-8
"""Largest relative difference between a variant's loss and that of float32 uncompiled; see the head of this file."""
TIMED_SECONDS = 3.0
"""Seconds for which steps of a variant are timed."""
FEWEST, MOST = 3, 200
"""Minimum and maximum number of timed steps of a variant."""
WARM_UP = 2
"""Untimed steps before: the backward pass, the optimiser and compiled code may be set up there."""
CHUNK_SECONDS = 0.25
"""Seconds of steps between two readings of the clock: reading a result keeps a GPU waiting, which a run does not do."""
ABANDONED_FROM, ABANDONED_SECONDS = 1.5, 1.0
"""A variant is abandoned if it takes this many times as long as the fastest so far, after at least `FEWEST` steps that took
this many seconds together: a single step may be slow because of other work."""
COMPILE_SECONDS = 60.0
"""Assumed time to compile the networks, before it is measured."""
HOPED_SPEEDUP = 2.0
"""Assumed upper bound on the speed-up by compiling."""

Precision = Literal["float32", "bfloat16"]


class Variant(NamedTuple):
    """A way to compute training steps."""

    precision: Precision
    compile: bool

    @property
    def name(self) -> str:
        return f"{self.precision}{' compiled' if self.compile else ''}"


VARIANTS = (
    Variant("float32", False),
    Variant("bfloat16", False),
    Variant("float32", True),
    Variant("bfloat16", True),
)
"""All variants; the first is the reference, which is taken if no other agrees."""


@dataclass(frozen=True)
class Choice:
    """The variant that was taken, and what was measured."""

    precision: Precision
    compile: bool
    step_seconds: dict[str, float] = field(default_factory=dict)
    """Seconds per step of each variant that was timed."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Why a variant could not be taken, for those that could not."""

    @property
    def variant(self) -> Variant:
        return Variant(self.precision, self.compile)

    def in_words(self) -> str:
        """Describes the choice in one line."""
        parts = []
        for variant in VARIANTS:
            seconds, why = self.step_seconds.get(variant.name), self.left_out.get(variant.name)
            if seconds is None and why is None:
                continue
            measured = "" if seconds is None else f" {seconds:.3g} s"
            parts.append(f"{variant.name}{measured}{f' ({why})' if why else ''}")
        return f"seconds per training step: {', '.join(parts)}; taken: {self.variant.name}"


@runtime_checkable
class Steps(Protocol):
    """Training steps of one variant."""

    def loss(self) -> tuple[float, float]:
        """Computes the loss of the first step, without performing it; returns the seconds that this took, and the loss.
        Raises `NotFinite`."""
        ...

    def take(self, count: int) -> tuple[float, float]:
        """Performs `count` steps; returns the seconds that they took, and the loss of the last one. Raises `NotFinite`."""
        ...


class Untried(Exception):
    """A variant that does not work here; the message gives the reason."""


class LearnerSteps:
    """The steps that a run of `experiment` on `data` would take, on a learner that nothing else uses.

    Raises:
        Untried: if the experiment asks for compiled networks, and torch.compile does not work here.
    """

    def __init__(self, experiment: Experiment, data: Splits) -> None:
        self.data, self.learner = data, Learner.start(experiment, data)
        self.learner.initialise(data)
        if experiment.training.precision == "bfloat16":
            run_in_bfloat16(self.learner.vae)
        if experiment.training.compile:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it names the model, which is not the run's
                works = compile_networks(self.learner.vae)
            if any_is(not works):
                raise Untried("torch.compile does not work here")

    def loss(self) -> tuple[float, float]:
        started, e = time.perf_counter(), self.learner.experiment
        indices = batch_indices(len(self.data.train), e.training.batch_size, e.seed, 0)
        x = training_batch(self.data.train, indices, e.data.protocol(), e.seed, 0)
        self.learner.vae.train()
        loss = batch_loss(self.learner, x, e.seed).total.item()
        return time.perf_counter() - started, loss

    def take(self, count: int) -> tuple[float, float]:
        started = time.perf_counter()
        for _ in range(count - 1):
            training_step(self.learner, self.data)
        loss = training_step(self.learner, self.data)[0].total.item()  # on a GPU: waits for all steps
        return time.perf_counter() - started, loss


StepsOf = Callable[[Experiment, Splits], Steps]


def is_undecided(experiment: Experiment) -> bool:
    """Returns whether the precision of `experiment` is still to be chosen."""
    return experiment.training.precision == "auto"


def with_variant(experiment: Experiment, variant: Variant | Choice) -> Experiment:
    """Returns `experiment` with the precision of `variant`, compiled or not. Raises `InputError` if it refuses that."""
    return with_changes(experiment, training__precision=variant.precision, training__compile=variant.compile)


def kept_in(folder: Path, experiment: Experiment) -> Experiment | None:
    """Returns the undecided `experiment` with the choice of the run in `folder`; None if there is no run.

    Other fields of the run may differ: `Run.check_free` reports that.
    """
    if not (Inside(folder) / "experiment.json").exists():
        return None
    kept = Run(folder).experiment.training
    try:
        return with_changes(experiment, training__precision=kept.precision, training__compile=kept.compile)
    except InputError:  # the run there is another one
        return with_variant(experiment, VARIANTS[0])


def fastest(
    experiment: Experiment,
    data: Splits,
    variants: Sequence[Variant] = VARIANTS,
    run_steps: int | None = None,
    steps_of: StepsOf = LearnerSteps,
) -> Choice:
    """Times training steps of each variant, on the device of `data` and with this process's threads, and returns the
    fastest whose loss agrees with float32 uncompiled.

    All processes of a group call it together and return the choice of the first. From then on the process keeps memory that
    it frees, as in training.

    Arguments:
        variants: variants that may be taken, besides the reference `VARIANTS[0]`; those that `experiment` refuses are not.
        run_steps: number of steps of the run that the choice is for; default: those of `experiment`.
        steps_of: returns the steps to time for a decided experiment.

    Raises:
        RunError: if a step of the reference needs more memory than is available.
    """
    keep_freed_memory()
    trials = _Trials(data, run_steps or experiment.training.steps, steps_of)
    with seeded("fastest step"):  # restores the generators, whatever a step does
        for variant in sorted({VARIANTS[0], *variants}, key=VARIANTS.index):
            try:
                decided = with_variant(experiment, variant)
            except InputError:
                continue
            trials.add(variant, decided)
    choice, compiled = trials.choice(), trials.compiled
    del trials
    if compiled:
        torch.compiler.reset()  # so that the run finds nothing compiled here
    return choice


@dataclass
class _Trial:
    """Steps of a variant, and what was measured of them."""

    variant: Variant
    steps: Steps
    set_up_seconds: float = 0.0
    """Seconds of the loss and the warm-up, including the time to compile."""
    step_seconds: list[float] = field(default_factory=list)

    @property
    def shortest(self) -> float:
        return min(self.step_seconds)

    @property
    def compile_seconds(self) -> float:
        return max(0.0, self.set_up_seconds - (WARM_UP + 1) * self.shortest) if self.variant.compile else 0.0

    def loss(self) -> float:
        """Returns the loss on the first batch, in the first process. Raises `NotFinite`."""
        seconds, loss = self.steps.loss()
        self.set_up_seconds += of_first(seconds)
        return _finite(of_first(loss))

    def warm_up(self) -> None:
        """Takes a few steps untimed. Raises `NotFinite`."""
        for _ in range(WARM_UP):
            self.set_up_seconds += self._take(1)

    def time(self, count: int) -> float:
        """Takes `count` steps; returns their seconds. Raises `NotFinite`."""
        seconds = self._take(count)
        self.step_seconds.append(seconds / count)
        return seconds

    def _take(self, count: int) -> float:
        seconds, loss = self.steps.take(count)
        _finite(of_first(loss))
        return of_first(seconds)


class _Trials:
    """Trials of the variants, one after the other; each uses what is known of those before."""

    def __init__(self, data: Splits, run_steps: int, steps_of: StepsOf) -> None:
        self.data, self.run_steps, self.steps_of = data, run_steps, steps_of
        self.reference_loss = nan
        self.step_seconds: dict[Variant, float] = {}
        self.left_out: dict[Variant, str] = {}
        self.best: _Trial | None = None
        """The fastest of those that can be taken."""
        self.compiled = False
        """Whether anything was compiled."""

    def add(self, variant: Variant, experiment: Experiment) -> None:
        """Tries `variant`, and records its time or why it cannot be taken."""
        if variant.compile and not self._may_pay_back(variant):
            self.left_out[variant] = "not tried: could not pay back compiling it"
            return
        self.compiled = self.compiled or variant.compile
        try:
            with shortage_ends("train with a smaller training.batch_size or decoder."):
                self._try(variant, experiment)
        except NotFinite:
            self.left_out[variant] = "left out: its loss is not finite"
        except Untried as why:
            self.left_out[variant] = f"not tried: {why}"
        except Exception as error:  # compilers and devices have no common base class of errors
            if variant == VARIANTS[0] or world() > 1:  # the other processes may be waiting in the same step
                raise
            self.left_out[variant] = f"left out: it fails with {type(error).__name__}"

    def choice(self) -> Choice:
        """Returns the fastest, or the reference if none can be taken."""
        taken = self.best.variant if self.best else VARIANTS[0]
        return Choice(
            taken.precision,
            taken.compile,
            {variant.name: seconds for variant, seconds in self.step_seconds.items()},
            {variant.name: why for variant, why in self.left_out.items()},
        )

    def _may_pay_back(self, compiled: Variant) -> bool:
        seconds = self.step_seconds.get(Variant(compiled.precision, False))
        if seconds is None or self.best is None:
            return False
        return self._run_seconds(self.best) - self.run_steps * seconds / HOPED_SPEEDUP >= 2 * COMPILE_SECONDS

    def _run_seconds(self, trial: _Trial) -> float:
        return trial.compile_seconds + self.run_steps * trial.shortest

    def _try(self, variant: Variant, experiment: Experiment) -> None:
        trial = _Trial(variant, self.steps_of(experiment, self.data))
        loss = trial.loss()
        if variant == VARIANTS[0]:
            self.reference_loss = loss
        if not abs(loss - self.reference_loss) <= TOLERANCE * abs(self.reference_loss):
            self.left_out[variant] = f"left out: its loss is {loss:.6g} nats instead of {self.reference_loss:.6g}"
            return
        trial.warm_up()
        self._take_turns(trial)
        self.step_seconds[variant] = trial.shortest
        if self.best is None or self._run_seconds(trial) < self._run_seconds(self.best):
            self.best = trial

    def _take_turns(self, trial: _Trial) -> None:
        """Times the steps of `trial` in turn with those of the fastest before it."""
        done, seconds = 0, 0.0
        while done < FEWEST or (seconds < TIMED_SECONDS and done < MOST):
            count = 1 if done < FEWEST else max(1, min(round(CHUNK_SECONDS / (trial.shortest + 1e-9)), MOST - done))
            seconds += trial.time(count)
            done += count
            if self.best is None:
                continue
            try:
                self.best.time(count)
            except NotFinite:
                self.left_out[self.best.variant], self.best = "left out: its loss is not finite", None
                continue
            self.step_seconds[self.best.variant] = self.best.shortest
            slow = trial.shortest > ABANDONED_FROM * self.best.shortest
            if slow and done >= FEWEST and seconds >= ABANDONED_SECONDS:
                self.left_out[trial.variant] = f"abandoned after {done} steps"
                return


def _finite(loss: float) -> float:
    if not isfinite(loss):
        raise NotFinite("the loss")
    return loss
