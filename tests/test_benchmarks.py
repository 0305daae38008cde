"""The benchmarks' entry point lists what there is, and their tables go where the pages have room for them."""

import json
import math
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest
import torch

from mpdvae.errors import RunError

ROOT = Path(__file__).parents[1]
TOPICS = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py") if "\ndef main(" in path.read_text())


def benchmarks(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_it_lists_every_topic():
    done = benchmarks()
    assert (done.returncode, done.stderr) == (0, "")
    listed = [line.split()[0] for line in done.stdout.splitlines()[1:]]
    assert sorted(listed) == [topic for topic in TOPICS if topic != "__main__"]
    unknown = benchmarks("nothing")
    assert (unknown.returncode, unknown.stdout, unknown.stderr) == (2, "", done.stdout)


@pytest.mark.parametrize("topic", [topic for topic in TOPICS if topic != "__main__"])
def test_a_topic_explains_itself(topic, monkeypatch, capsys):
    monkeypatch.syspath_prepend(ROOT)
    with pytest.raises(SystemExit) as ended:
        import_module(f"benchmarks.{topic}").main(["--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: python -m benchmarks {topic} ")


def test_a_table_replaces_the_one_before_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks.pages import fill, table

    page = tmp_path / "page.md"
    page.write_text("a\n<!-- one -->\nold\nlines\n<!-- end -->\nb\n<!-- two -->\nkept\n<!-- end -->\n")
    fill(page, one=table(["x", "y"], [["1", r"\2"]], numbers_from=1))
    new = "| x | y |\n| --- | ---: |\n| 1 | \\2 |"
    assert page.read_text() == f"a\n<!-- one -->\n{new}\n<!-- end -->\nb\n<!-- two -->\nkept\n<!-- end -->\n"
    with pytest.raises(ValueError, match="has no part <!-- three -->"):
        fill(page, three="")
    assert "<!-- three -->" not in page.read_text()


def test_the_sentence_below_the_table_of_fidelity_is_that_of_its_numbers(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks.fidelity import PAGE, ranking

    text = PAGE.read_text()
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert ranking(rows) in text
    row = "| {} | a | b | c | d | {} | {} | {} |".format
    lines = [
        row("D1", "+5.00 ± 1.00", "-3.00 ± 4.00", "+0.10 ± 0.20"),
        row("D2", "-7.00 ± 1.00", "+2.00 ± 1.00", "+0.30 ± 0.60"),
    ]
    assert ranking(lines).replace("\n", " ") == (
        "The training loss is moved most by D2 (-7.00 nats) and D1 (+5.00 nats). The KL is moved most by D2 (+2.00 nats). "
        "The NLL is moved most by no switch."
    )


# On a GPU, rehearsed without one

STAND_IN_WORKER = """
import json, sys, time
print('{"ready": true}', flush=True)
for line in sys.stdin:
    name = json.loads(line)["name"]
    if name == "dies":
        sys.exit("out of luck")
    time.sleep(60 * (name == "hangs"))
    found = {"error": "RuntimeError: no", "spoilt": True} if name == "fails" else {"value": 1}
    print(json.dumps({"name": name} | found), flush=True)
"""
"""Answers as `benchmarks.gpu_parts` does."""


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    module = import_module("benchmarks.gpu")
    monkeypatch.setattr(module, "LEAST_SECONDS", 0.1)
    monkeypatch.setattr(module, "_child", lambda: module.Child([sys.executable, "-c", STAND_IN_WORKER]))
    return module


@pytest.fixture
def task(monkeypatch, tmp_path):
    """Makes tasks of the processes that measure."""
    monkeypatch.syspath_prepend(ROOT)
    parts, epochs = import_module("benchmarks.gpu_parts"), import_module("benchmarks.gpu_epochs")
    monkeypatch.setattr(import_module("benchmarks.gpu_task"), "MOST_SECONDS", 0.2)
    monkeypatch.setattr(parts, "POSTERIORS", 100)
    monkeypatch.setattr(epochs, "TEST_IMAGES", 20)
    monkeypatch.setattr(epochs, "TEST_SAMPLES", 4)
    monkeypatch.setattr(parts, "DRAWN", 10)
    return lambda part, name, seconds=60.0, **known: parts.Task(
        part, name, "cpu", "mae-digits-smoke", seconds, str(tmp_path), known
    )


def test_what_fails_hangs_or_dies_is_recorded_and_the_others_follow(gpu):
    started = time.monotonic()
    with gpu.Bench({"device": "cpu"}) as bench:
        assert all(child.ready(started + 20) for child in (bench._child, bench._spare))
        first = list(bench.measurements("a", ["works", "fails", "dies", "works"], started + 20))
        assert bench._spare.ready(time.monotonic() + 20)
        begun = time.monotonic()
        late = list(bench.measurements("b", ["hangs", "works", "hangs"], begun + 4))
        (never,) = bench.measurements("c", ["works"], time.monotonic())
        assert time.monotonic() - begun < 5
    works = {"name": "works", "value": 1}
    assert first == [
        works,
        {"name": "fails", "error": "RuntimeError: no"},
        {"name": "dies", "error": "the process ended with status 1: out of luck"},
        works,
    ]
    late_as_well = {"name": "hangs", "error": "not finished within 2 s"}
    assert late == [late_as_well, works, late_as_well]
    assert "no time was left" in never["error"]


def test_a_run_that_is_killed_keeps_what_it_has(gpu, tmp_path, monkeypatch):
    out = tmp_path / "gpu.json"

    def killed(report):
        if "sampling" in report["parts"]:
            raise KeyboardInterrupt
        return {}

    monkeypatch.setattr(gpu, "_known", killed)
    with pytest.raises(KeyboardInterrupt):
        gpu.main(["--device", "cpu", "--out", str(out), "--only", "likelihood", "sampling"])
    found = json.loads(out.read_text())["parts"]["likelihood"]["measurements"]
    assert [m["name"] for m in found] == gpu.MEASUREMENTS["likelihood"]


def test_a_process_that_cannot_start_is_recorded(gpu, monkeypatch):
    monkeypatch.setattr(gpu, "_child", lambda: gpu.Child([sys.executable, "-c", "raise ImportError('no torch')"]))
    with gpu.Bench({}) as bench:
        (found,) = bench.measurements("a", ["works"], time.monotonic() + 20)
    assert found["error"] == "the process ended with status 1: ImportError: no torch"


def test_a_device_that_torch_cannot_use_is_refused_at_once(gpu, tmp_path, monkeypatch):
    worker = STAND_IN_WORKER.replace('"fails"', '"machine"')
    monkeypatch.setattr(gpu, "_child", lambda: gpu.Child([sys.executable, "-c", worker]))
    with pytest.raises(SystemExit, match=r"--device: torch cannot use 'cuda' here \(RuntimeError: no\)"):
        gpu.main(["--out", str(tmp_path / "gpu.json")])
    assert not (tmp_path / "gpu.json").exists()


def test_only_variants_with_the_same_loss_train_the_fastest_first(gpu):
    steps = [
        {"precision": "p", "way": way, "images_per_s": rate, "seconds_per_step": 1 / rate, "loss_nats": loss}
        for way, rate, loss in (("a", 10, 100.0), ("b", 30, 101.0), ("wrong", 50, 110.0), ("broken", 60, math.nan))
    ]
    report = {"parts": {"training": {"measurements": [*steps, {"name": "x", "error": "no"}]}}}
    assert [way for _, way, _ in gpu._known(report)["ways"]] == ["b", "a"]


def test_every_part_measures_and_the_table_shows_it(gpu, task, tmp_path, capsys):
    """All that needs no compiler, in one process; with a part that fails and one without data."""
    parts = import_module("benchmarks.gpu_parts")
    assert {part: list(of) for part, of in parts.MEASUREMENTS.items() if part != "machine"} == gpu.MEASUREMENTS
    report = {"device": "cpu", "recipe": "mae-digits-smoke", "minutes": 1, "parts": {}}
    report["machine"] = parts._answer(task("machine", "machine"))
    checks = [
        {"name": "decoder a", "agrees": True, "difference": 1e-6, "drawn": 8, "drawn_otherwise": 0},
        {"name": "prior b", "agrees": False, "difference": 0.5},
        {"name": "run c", "agrees": False, "error": "RuntimeError: a | b"},
    ]
    report["parts"]["correctness"] = {"measurements": checks}
    for part, names in {
        "training": ["float32, uncompiled", "bfloat16, uncompiled", "float32, graphed callables"],
        "likelihood": ["memory budget 1 GiB"],
        "sampling": ["sampling"],
        "divergence": ["divergence"],
        "epochs": ["epochs"],
    }.items():
        known = gpu._known(report) if part == "epochs" else {}
        found = [{"name": name} | parts._answer(task(part, name, 3.0, **known)) for name in names]
        report["parts"][part] = {"measurements": found}
    out, page = tmp_path / "gpu.json", tmp_path / "page.md"
    out.write_text(json.dumps(report))
    page.write_text("a\n<!-- gpu -->\n\n<!-- end -->\nb\n")
    gpu.main(["--show", "--out", str(out), "--page", str(page)])
    text = page.read_text()
    assert capsys.readouterr().out in text.replace("<!-- end -->\n", "\n")
    assert "Measured on device `cpu`, not a GPU, torch " in text
    cells = {line.split(" | ")[0].strip("| "): line.split(" | ")[1:] for line in text.splitlines() if line[:1] == "|"}
    result, details = cells["results against the CPU (2 parts, 1 tiny runs)"]
    assert result == "1 of 3 checks agree"
    assert "largest difference 5e-01 (prior b); 0 of 8 drawn pixels differ" in details
    assert "prior b: differs by 5e-01; run c: RuntimeError: a / b" in details
    assert cells["training: float32, uncompiled"][0].endswith(" images/s")
    assert cells["training: float32, graphed callables"][0] == "failed"
    assert "CUDA graphs need a CUDA device, not 'cpu'" in cells["training: float32, graphed callables"][1]
    assert cells["likelihood: memory budget 1 GiB"][0].endswith(" decoder evaluations/s")
    assert cells["sampling"][0].endswith(" images/s")
    assert "all pairs of 100 posteriors" in cells["divergence"][1]
    assert cells["epochs"][0].startswith("NLL ")
    assert "20 test images x 4 samples" in cells["epochs"][1]
    assert "digits" in cells["epochs"][1]


def test_without_data_the_epochs_are_skipped(gpu, task, monkeypatch):
    module = import_module("benchmarks.gpu_epochs")

    def unreachable(*_):
        raise RunError("MNIST is not here and cannot be fetched.")

    monkeypatch.setattr(module, "load_data", unreachable)
    assert module.epochs(task("epochs", "epochs")) == {"skipped": "MNIST is not here and cannot be fetched."}


def test_the_comparison_with_the_cpu_sees_differences():
    from on_a_gpu import TOLERANCE, compared

    x, images = torch.linspace(-1, 1, 101), torch.ones(100)
    same = compared(([x, images], [x]), ([x, images], [x]), images=True)
    assert same == {"agrees": True, "drawn": 100, "drawn_otherwise": 0, "difference": 0.0}
    for there in (([x + 2 * TOLERANCE, images], [x]), ([x, images], [x + 2 * TOLERANCE]), ([x, 0 * images], [x])):
        assert not compared(([x, images], [x]), there, images=True)["agrees"]
    for there in (([x, images], []), ([x, images], [x[1:]]), ([x / 0, images], [x])):
        with pytest.raises(RuntimeError):
            compared(([x, images], [x]), there, images=True)


PARTS = ["correctness", "training", "likelihood", "sampling", "divergence", "epochs"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("device", "parts"),
    [("cpu", PARTS), ("elsewhere", ["correctness", "epochs"]), ("elsewhere", ["likelihood", "sampling"])],
)
def test_a_rehearsal_keeps_to_its_time(device, parts, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    out, started = tmp_path / "gpu.json", time.monotonic()
    options = ("--device", device, "--minutes", "1", "--recipe", "mae-digits-smoke", "--only", *parts)
    done = benchmarks("gpu", *options, "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - started < 62
    assert done.stdout.startswith(f"Measured on device `{device}`, not a GPU")
    report = json.loads(out.read_text())
    assert list(report["parts"]) == parts
    for part in report["parts"].values():
        assert part["seconds"] < part["limit_seconds"] + 1
    for check in report["parts"].get("correctness", {"measurements": []})["measurements"]:
        assert check.get("agrees") or "not finished within" in check["error"]
        assert check.get("difference", 0) == 0
    if device == "elsewhere":
        for name in set(parts) - {"correctness"}:
            assert "error" not in report["parts"][name]["measurements"][0]
