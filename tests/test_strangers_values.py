"""Values in the JSON files of a stranger's run: whatever they are, every command answers in a sentence, and none waits."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from command_line import call
from limits import bounds
from small_runs import tiny

from mpdvae.errors import InputError
from mpdvae.evaluation.likelihood_precision import Choice
from mpdvae.experiments.experiment import with_changes
from mpdvae.report.comparison import NAME
from mpdvae.runs import environment
from mpdvae.runs.records import PrecisionChoice, check
from mpdvae.runs.run_folder import Run, manifest_sha256
from mpdvae.sharing import load, save_pretrained
from mpdvae.system.atomic_files import read_json, write_json
from mpdvae.system.folder_lock import FILE, owned, owner_of
from mpdvae.workflows.job import data_of
from mpdvae.workflows.repetition import threads_of
from mpdvae.workflows.result_comparison import compare
from mpdvae.workflows.search import search
from mpdvae.workflows.search_space import space
from mpdvae.workflows.search_trial import Search
from mpdvae.workflows.verification import MOST, measurements, verify

NOT_COMMANDS = [
    None,
    5,
    [],
    {},
    True,
    1.5,
    "",
    "'",
    "rm -rf x",
    f"mpdvae evaluate x --samples {MOST + 1}",
]
DEEP = "[" * 100_000


@pytest.fixture(autouse=True)
def _no_input(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads the standard input fails instead of waiting."""
    monkeypatch.setattr(sys, "stdin", None)


def edit(path: Path, **entries: Any) -> None:
    """Changes a JSON file; the hash of a manifest is right again."""
    content = read_json(path) | entries
    if path.name == "manifest.json":
        content["sha256"] = manifest_sha256(content)
    write_json(path, content)


def with_threads(folder: Path, threads: object) -> None:
    noted = read_json(folder / "manifest.json")["environments"]
    for entry in noted:
        entry["fields"] |= {"threads": threads, "blas_threads": threads}
    edit(folder / "manifest.json", environments=noted)


@pytest.mark.parametrize("command", NOT_COMMANDS, ids=repr)
def test_a_command_that_is_none_is_refused(own_copy, command):
    edit(own_copy / "density.json", command=command)
    with pytest.raises(InputError, match=r"density\.json: (is damaged|records no command)"):
        measurements(own_copy)
    assert not verify(own_copy).agrees


@pytest.mark.parametrize("threads", [0, -1, 100_000, 2**31, 10**12, True, 1.5, "many"], ids=repr)
def test_threads_that_no_machine_has_are_not_started(own_copy, threads):
    with_threads(own_copy, threads)
    assert verify(own_copy, quick=True).faults == []
    assert threads_of(Run(own_copy)) is None


@pytest.mark.parametrize("threads", [0, 100_000, 2**31, 2**63])
def test_threads_that_are_asked_for_are_within_bounds(capsys, tmp_path, threads):
    code, _, err = call(capsys, "train", "vae-digits-smoke", "--out", tmp_path / "run", "--threads", str(threads))
    assert (code, f"expected a number from 1 to {environment.most_threads()}, got {threads}" in err) == (2, True)
    assert not (tmp_path / "run").exists()


OWNER = {"host": "h", "machine": "m", "started": "1", "token": "t"}


@pytest.mark.parametrize(
    "content",
    [DEEP[:1000], "{", "null", "[]",
     *(json.dumps(OWNER | {"pid": pid}) for pid in (0, -1, 2**31, 10**400, True, "1", None, []))],
    ids=lambda text: text[-30:],
)  # fmt: skip
def test_an_owner_that_is_none_is_that_of_a_folder_in_use(tmp_path, content):
    """As long as its file is fresh: it may be one that is being written."""
    (tmp_path / FILE).write_text(content)
    assert owner_of(tmp_path) is None
    with pytest.raises(Exception, match="is in use by"), owned(tmp_path):
        pass
    assert (tmp_path / FILE).read_text() == content


@pytest.mark.parametrize("content", [DEEP, json.dumps(OWNER | {"pid": 1, "host": "x" * 10**6})], ids=["deep", "long"])
def test_an_owner_of_an_insane_size_is_refused(tmp_path, content):
    (tmp_path / FILE).write_text(content)
    with pytest.raises(InputError, match="expected at most"), owned(tmp_path):
        pass
    assert (tmp_path / FILE).read_text() == content


MANIFESTS = {
    "files": [None, 5, [], {"a": 5}, {"model/model.safetensors": None}],
    "damaged_checkpoints": [None, 5, {}, [5]],
    "data": [5, [], {"sha256": 5, "protocol": "x"}, {}],
    "environments": [5, {}, [5], [{}], [{"used_for": 5, "fields": {}}]],
    "version": [5, [], {}],
    "cores": ["x", -1, 10**30],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in MANIFESTS.items() for value in values], ids=repr
)
def test_a_manifest_of_other_values_is_damaged(own_copy, name, value):
    content = read_json(own_copy / "manifest.json") | {name: value}
    (own_copy / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"manifest\.json: (is damaged|cannot be read as JSON)"):
        Run(own_copy).note(more=1)
    assert "manifest" in verify(own_copy, quick=True).faults


@pytest.mark.parametrize("text", [DEEP, "5", "{", '{"a": ' * 60 + "1" + "}" * 60], ids=lambda text: text[:6])
@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.csv"])
def test_results_that_are_no_results_are_not_compared(tmp_path, name, text):
    for folder in ("one", "other"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(f"{text}\n" if name != "a.csv" else f"a,b\n1,{'9' * 10**6}\n")
    if (name, text) == ("a.json", "5"):
        assert compare(name, tmp_path / "one", tmp_path / "other").equal
        return
    with pytest.raises(InputError, match=f"{name}: cannot be read as"):
        compare(name, tmp_path / "one", tmp_path / "other")


@pytest.mark.parametrize(
    ("name", "entries"),
    [
        ("density", {"images": "x"}), ("density", {"nll_nats": 5}), ("density", {"nll_nats": {"mean": []}}),
        ("density", {"samples": 10**18}), ("diagnostics", {"active_units": {}}), ("diagnostics", {"split": 5}),
        ("representation", {"knn10_accuracy": [5]}), ("representation", {"linear_accuracy": {"100": 5}}),
        ("manifest", {"data": {"sha256": 5, "protocol": "x"}}),
    ],
    ids=repr,
)  # fmt: skip
def test_a_card_is_not_made_of_other_values(own_copy, tmp_path, name, entries):
    vae = load(own_copy)
    content = read_json(own_copy / f"{name}.json") | entries
    (own_copy / f"{name}.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=rf"{name}\.json: is damaged"):
        save_pretrained(vae, tmp_path / "shared")
    assert not (tmp_path / "shared").exists()


CHOICE = dataclasses.asdict(Choice("float32", False, "as requested", {"float32": 1.0}))


@pytest.mark.parametrize(
    "changes",
    [{"precision": "x"}, {"errors": 5}, {"errors": {"images": 1}}, {"evaluations_per_second": {"a": "b"}}, {"more": 1}],
    ids=repr,
)
def test_a_choice_of_other_values_is_damaged(changes):
    assert Choice.from_dict(check(PrecisionChoice, CHOICE, "choice.json", "")) == Choice(**CHOICE)
    with pytest.raises(InputError, match=r"choice\.json: is damaged"):
        check(PrecisionChoice, CHOICE | changes, "choice.json", "")


@pytest.mark.parametrize(
    "content",
    [[], {}, 5, {"experiment": 5}, {"experiment": {}, "fastest_step": 5},
     {"experiment": {}, "fastest_step": {"precision": "x", "compile": True}}],
    ids=repr,
)  # fmt: skip
def test_a_search_of_other_values_is_damaged(tmp_path, content):
    experiment = tiny()
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "search.json").write_text(json.dumps(content))
    job = Search(experiment, space(experiment, ("latent_dim=2,3",)), tmp_path / "search", 1, "", "none", None, "mpdvae")
    with pytest.raises(InputError, match=r"search\.json: (is damaged|\w+)|holds another search"):
        search(job, 1, "loky", None)


MANY = {
    "density.json": b'{"a": [' + b"[]," * 2_000_000 + b"[]]}",
    "density.csv": b"image,draw,log_prob_nats\n" + b"1\n" * 2_000_000,
    "codes.json": b'{"x": [' + b"0," * 2_000_000 + b"0]}",
}


@pytest.mark.parametrize("name", MANY)
def test_files_of_millions_of_values_take_no_memory(capsys, own_copy, tmp_path, name):
    """Each value has two bytes in the file, and a hundred in memory."""
    (own_copy / name).write_bytes(MANY[name])
    with bounds():
        code, _, err = call(capsys, "report", own_copy, "--out", tmp_path / "report.html")
    assert (code, f"{name} is broken (more than" in err) == (2, True), err
    with bounds(), pytest.raises(InputError, match=f"{name}: cannot be read as"):
        compare(name, own_copy, own_copy)


@pytest.mark.parametrize("rows", [5, {}, [5], [{"label": 5}], [{}]], ids=repr)
def test_a_report_of_other_values_is_not_compared(capsys, tmp_path, rows):
    (tmp_path / NAME).write_text(json.dumps({"rows": rows, "claims": []}))
    code, _, err = call(capsys, "compare", tmp_path, tmp_path)
    assert (code, "is broken" in err) == (2, True)


def test_images_of_a_user_who_does_not_exist_are_refused(tmp_path):
    own = with_changes(tiny(), data__dataset="own", data__path="~nobody-of-this-name/x", data__binarisation="dynamic")
    with pytest.raises(InputError, match="there is no such user"):
        data_of(Run.create(tmp_path / "run", own))
