"""Whatever a writer of a run's records writes, the reader takes; what it would refuse is not written, and the file keeps its
former content."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_folders import make_run
from small_runs import digits, files, tiny

from mpdvae.errors import RunError
from mpdvae.report import schema
from mpdvae.report.explored import ExploreFile
from mpdvae.runs.records import LARGEST, Probed, ProgressNote, SearchNote, TrackerNote, check, check_written
from mpdvae.runs.run_folder import PROGRESS, Run
from mpdvae.system.atomic_files import read_json, write_json
from mpdvae.system.closed_folder import Inside
from mpdvae.training import loop
from mpdvae.training.loop import train
from mpdvae.training.nonfinite_recovery import NotFinite, check_measured

NUMBERS = st.floats() | st.sampled_from([1e15, 1.1e15, -1e16, 1e300, 2**63 - 1, 2**63, -(2**63) - 1, 10**400, -1])
VALUES = st.recursive(
    NUMBERS | st.none() | st.booleans() | st.text(max_size=3) | st.sampled_from(["\udcff", "x" * 10_001, "\x1b[31m"]),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=3), part, max_size=3),
    max_leaves=4,
)
ENTRY = {
    "step": 3,
    "verdict": "informative",
    "negative_elbo_nats": 100.0,
    "mpd_mean_nats": 1.0,
    "mpd_std_nats": 0.5,
    "information_per_dimension_nats": [0.5, 0.1],
    "gradient_norms": {"total": 1.0},
    "terms_nats": {"kl": 1.0},
}


class Record(NamedTuple):
    """How one kind of record is written and read."""

    base: Callable[[], dict[str, Any]]
    write: Callable[[Run, dict[str, Any]], None]
    read: Callable[[Run], Any]


def _state() -> dict[str, Any]:
    moved = {
        "learning_rate": 0.1,
        "best_negative_elbo_nats": 1.0,
        "stopped": "",
        "objective": {"weight": 1.0},
        "skipped": 0,
    }
    return moved | {"rollbacks": [], "inference": {}, "tally": {"terms": ["kl"], "count": 1, "skipped": 0}}


def _loaded(run: Run) -> dict[str, Any]:
    found = run.load_checkpoint()
    assert found is not None
    return {name: value for name, value in found[1].items() if name not in ("step", "experiment")}


def _noted(run: Run) -> dict[str, Any]:
    return {name: value for name, value in run.manifest.items() if name != "sha256"}


def _note_search(run: Run, content: dict[str, Any]) -> None:
    check_written(SearchNote, content, run.folder / "search.json")
    write_json(run.folder / "search.json", content)


def _note_tracker(run: Run, content: dict[str, Any]) -> None:
    check_written(TrackerNote, content, run.folder / "trackers" / "wandb.json")
    write_json(run.folder / "trackers" / "wandb.json", content)


def _recorded(name: str, *kinds: Any) -> Record:
    def read(run: Run) -> Any:
        for kind in kinds:
            if kind is not Probed:
                schema.read(kind, run.folder / name, "advice")
        content = read_json(run.folder / name)
        return check(Probed, content, name, "advice") if Probed in kinds else content

    return Record(lambda: _results()[name], lambda run, content: schema.write(kinds, run.folder / name, content), read)


def _results(made: dict[str, Any] = {}) -> dict[str, Any]:  # noqa: B006 - made once
    if not made:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            run = make_run(Path(folder) / "run", "mae", factors=True)
            made |= {path.name: json.loads(path.read_text()) for path in run.glob("*.json")}
    return made


RECORDS = {
    "history": Record(lambda: dict(ENTRY), lambda run, entry: run.write_history([entry]), lambda run: run.history[-1]),
    "manifest": Record(
        lambda: {"status": "training", "command": "mpdvae train", "training_seconds": 1.0, "environments": []},
        lambda run, content: run.note(**content),
        _noted,
    ),
    "progress": Record(
        lambda: {"phase": "training", "step": 3, "latest": dict(ENTRY)},
        lambda run, content: run.note_progress(content),
        lambda run: check(ProgressNote, read_json(run.folder / PROGRESS), "it", "advice"),
    ),
    "checkpoint": Record(_state, lambda run, state: run.save_checkpoint(3, {}, state), _loaded),
    "search": Record(
        lambda: {"experiment": {}, "fastest_step": None},
        _note_search,
        lambda run: check(SearchNote, read_json(run.folder / "search.json"), "it", "advice"),
    ),
    "tracker": Record(
        lambda: {"step": 3, "id": "abc", "results": False},
        _note_tracker,
        lambda run: check(TrackerNote, read_json(run.folder / "trackers" / "wandb.json"), "it", "advice"),
    ),
    "density": _recorded("density.json", schema.Density),
    "diagnostics": _recorded("diagnostics.json", schema.Diagnostics, Probed),
    "information": _recorded("information.json", schema.Information),
    "code use": _recorded("code_use.json", schema.CodeUse),
    "representation": _recorded("representation.json", schema.Representation),
    "disentanglement": _recorded("disentanglement.json", schema.Disentanglement),
    "codes": _recorded("codes.json", schema.Codes),
    "explorer": _recorded("explore.json", ExploreFile),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run.create(tmp_path_factory.mktemp("records") / "run", tiny())


@pytest.mark.parametrize("name", RECORDS)
@settings(max_examples=60)
@given(data=st.data())
def test_what_is_written_is_read_again(run, name, data):
    record = RECORDS[name]
    base = record.base()
    (run.path / "manifest.json").unlink(missing_ok=True)  # which keeps what was noted before
    record.write(run, base)
    assert record.read(run) == base
    before = files(run.path)
    field = data.draw(st.sampled_from(sorted(base)) | st.text(max_size=3).filter(lambda field: field not in RESERVED))
    content = base | {field: data.draw(VALUES)}
    if (refusal := refused(record, run, content)) is None:
        assert record.read(run) == content
    else:
        assert refusal.isprintable()
        assert "is not written, because it could not be read again" in refusal
        assert files(run.path) == before


def refused(record: Record, run: Run, content: dict[str, Any]) -> str | None:
    """Returns why `content` is not written; None if it is."""
    try:
        record.write(run, content)
    except RunError as error:
        return str(error)
    return None


RESERVED = {"step", "experiment", "sha256", "state_sha256", "self", "files"}
"""Fields that the writer adds itself."""


def test_a_history_that_would_be_too_long_to_read_is_not_written(run, monkeypatch):
    monkeypatch.setattr("mpdvae.runs.run_folder.LARGEST_JSON", 1_000)
    entries = [ENTRY | {"step": step} for step in range(1, 9)]
    run.write_history(entries[:1])
    with pytest.raises(RunError, match=r"history\.jsonl: is not written.*more than 1,000\); train again with a larger"):
        run.write_history(entries)
    assert run.history == entries[:1]


@pytest.mark.parametrize("value", [1.01 * LARGEST, -1e300, float("inf"), float("nan")])
def test_a_measure_that_no_record_holds_is_no_finite_number(value):
    with pytest.raises(NotFinite, match=r"of the evaluation, mpd_mean_nats has no finite number up to 1e\+15"):
        check_measured({"kl_nats": 1.0, "mpd_mean_nats": value})
    check_measured({"mpd_mean_nats": LARGEST})


def test_training_whose_measures_no_record_holds_goes_back_and_ends_in_a_sentence(tmp_path, monkeypatch):
    measured_together, calls = loop.measured_together, []

    def measured(*arguments: Any) -> dict[str, Any]:
        calls.append(1)
        found = measured_together(*arguments)
        return found if len(calls) == 1 else found | {"mpd_mean_nats": 1e16}

    monkeypatch.setattr(loop, "measured_together", measured)
    run, said = Run.create(tmp_path / "run", tiny()), []
    with pytest.raises(RunError, match=r"mpd_mean_nats has no finite number up to 1e\+15.*after 2 rollbacks"):
        train(run, digits(), say=said.append)
    assert len(said) == 2
    assert [entry["step"] for entry in run.history] == [3]
    assert run.load_checkpoint() is not None


def test_a_path_that_is_no_text_can_be_recorded(tmp_path):
    from mpdvae.system.untrusted_text import encodable

    run = Run.create(tmp_path / "run", tiny())
    run.note(command=encodable("mpdvae train --out 'r\udcff'"))
    assert run.manifest["command"] == "mpdvae train --out 'r\\udcff'"
    assert Inside(tmp_path).files() == []
