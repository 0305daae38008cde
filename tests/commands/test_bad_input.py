"""Mistakes at the command line: exit code 2 (or 1), one clear sentence, no traceback, nothing made and nothing lost."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from command_line import call, start
from data_files import picture, put, tiny_idx_files
from small_runs import TINY_OPTIONS, files, replace_weights, tiny

from mpdvae.runs.run_folder import Run

TRAIN = "train vae-digits-smoke --out NEW "

MISTAKES = {
    "unknown command": ("sampel", r"unknown command 'sampel': did you mean 'sample', 'models' or 'compare'\?"),
    "far command": ("xyzzy", r"unknown command 'xyzzy': expected one of: reproduce, recipes"),
    "no recipe": ("train", r"train: expected the name of a recipe first; `mpdvae recipes` lists them"),
    "option for recipe": ("train --out NEW", r"train: expected the name of a recipe first"),
    "unknown recipe": ("train mae-mnist-minute --out NEW", r"unknown recipe .*: did you mean 'mae-mnist-minutes'"),
    "missing experiment file": ("train no.json --out NEW", r"no\.json: no such file; expected a recipe's name or an"),
    "missing --out": ("train vae-digits-smoke", r"--out PATH"),
    "misspelt field": (TRAIN + "--objective.diversity-weigth 1",
                       r"unknown option --objective\.diversity-weigth: did you mean --objective\.diversity-weight"),
    "stray word": (TRAIN + "thing", r"got the further argument 'thing'"),
    "negative weight": (
        TRAIN + "--objective.diversity-weight -1",
        r"--objective\.diversity-weight: expected at least 0, got -1\.0\. `",
    ),
    "wrong type": (TRAIN + "--latent-dim many", r"--latent-dim: expected a whole number, got 'many'"),
    "value missing": (TRAIN + "--latent-dim", r"--latent-dim"),
    "latent_dim 0": (TRAIN + "--latent-dim 0", r"--latent-dim: expected at least 1, got 0\. `"),
    "no steps": (TRAIN + "--training.steps 0", r"--training\.steps: expected at least 1, got 0\. `"),
    "not finite": (
        TRAIN + "--training.learning-rate nan",
        r"--training\.learning-rate: expected a finite number, got nan\. `",
    ),
    "unknown choice": (TRAIN + "--training.optimizer sgd", r"--training\.optimizer: expected adam or adamax, got 'sgd'"),
    "no layers": (TRAIN + "--encoder.channels", r"--encoder\.channels: tuple should have at least 1 item"),
    "static draws": (TRAIN + "--data.binarisation static", r"evaluation_draws: static .* expected 1, got 5; set it to 1"),
    "no threads": (TRAIN + "--threads 0", r"--threads: expected a number from 1 to \d+, got 0"),
    "batch larger than data": (TRAIN + "--training.batch-size 2000", r"batch_size is 2000, but there are only 1297"),
    "too many halvings": (TRAIN + "--encoder.channels 4 4 4 4 4", r"needs images of at least 17x17 pixels, got 8x8"),
    "unknown data": (TRAIN + "--data.dataset minst", r"unknown data set 'minst': did you mean 'mnist'"),
    "own data without path": (TRAIN + "--data.dataset own", r"data set 'own' needs a path: an \.npz file, an \.npy file"),
    "path without own data": (TRAIN + "--data.path x.npz", r"choose data set 'own'"),
    "own data not there": (TRAIN + "--data.dataset own --data.path no.npz", r"no\.npz does not exist: give an \.npz"),
    "validation too large": (TRAIN + "--data.validation-size 1497", r"1497 images cannot be split"),
    "resume nothing": ("resume NEW", r"no such folder; give the folder that `mpdvae train \.\.\. --out` made"),
    "resume no run": ("resume EMPTY", r"not a run folder \(it has no experiment\.json\)"),
    "evaluate untrained": ("evaluate UNTRAINED", r"expected a fully trained run, .*; `mpdvae resume .*untrained` resumes it"),
    "evaluate no samples": ("evaluate DONE --samples 0", r"samples: expected a number >= 1, got 0"),
    "evaluate unknown split": ("evaluate DONE --split tset", r"--split: expected one of train, validation, test, got 'tset'"),
    "evaluate too many images": ("evaluate DONE --images 301", r"images: expected a number from 1 to 300, .*, got 301"),
    "evaluate no tolerance": ("evaluate DONE --tolerance 0", r"tolerance: expected a number of nats > 0, got 0\.0"),
    "evaluate unknown protocol": ("evaluate DONE --protocol papers",
                                  r"--protocol: expected paper or None, got 'papers': did you mean 'paper'\?"),
    "evaluate contradiction": ("evaluate DONE --protocol paper --samples 3", r"--protocol paper: .*leave out --samples"),
    "evaluate too many refereed": ("evaluate DONE --referee 11", r"--referee: expected 1 to 10 images, .* got 11"),
    "sample nothing": ("sample NEW --out X.png", r"no such folder; give the folder of a run or of a model"),
    "sample untrained": ("sample UNTRAINED --out X.png", r"has no model\.safetensors; has the run reached its first"),
    "sample without --out": ("sample DONE", r"--out PATH"),
    "sample no PNG": ("sample DONE --out X.jpg", r"--out: expected the name of a file that ends in \.png, got '.*jpg'"),
    "sample none": ("sample DONE --out X.png --count 0", r"count: expected a number >= 1, got 0"),
    "sample below a file": ("sample DONE --out FILE/X.png", r"cannot be a folder, .*file\.txt is a file"),
    "reconstruct none": ("reconstruct DONE --out X.png --count 0", r"--count: expected 1 to 300 images, got 0"),
    "reconstruct too many": ("reconstruct DONE --out X.png --count 301", r"--count: expected 1 to 300 images, got 301"),
    "traverse too many": ("traverse DONE --out X.png --dimensions 9", r"--dimensions: expected 1 to 8 .*, got 9"),
    "traverse less than no columns": (
        "traverse DONE --out X.png --columns -1",
        r"--columns: expected a number >= 1, got -1",
    ),
    "traverse no columns": ("traverse DONE --out X.png --columns 0", r"--columns: expected a number >= 1, got 0"),
    "encode with no model": ("encode NEW FILE --out X.csv", r"no such folder; give the folder of a run or of a model"),
    "encode no images": ("encode DONE NEW --out X.csv", r"does not exist: give a folder of pictures, a picture, an \.npz"),
    "encode an unknown data set": ("encode DONE digit --out X.csv", r"digit does not exist: .* did you mean 'digits'"),
    "encode no picture": ("encode DONE FILE --out X.csv", r"file\.txt cannot be read as a picture"),
    "encode an empty folder": ("encode DONE EMPTY --out X.csv", r"is empty: it holds no pictures"),
    "encode to no table": ("encode DONE digits --out X.xlsx", r"--out: expected the name of a file that ends in \.npz"),
    "encode no samples": ("encode DONE digits --out X.csv --samples 0", r"samples: expected a number >= 1, got 0"),
    "encode an unknown part": ("encode DONE digits --out X.csv --split tset",
                               r"--split: expected train, validation or test, got 'tset'"),
    "encode own data": ("encode DONE own --out X.csv", r"own does not exist"),
    "report on nothing": ("report --out X.html", r"report: expected at least one run folder"),
    "report on no run": ("report NEW --out X.html", r"new"),
    "report no HTML": ("report DONE --out X.pdf", r"expected a file name that ends in \.html, got .*X\.pdf"),
    "unknown data action": ("data fetsh", r"action: expected list, fetch, check or path, got 'fetsh'"),
    "fetch what": ("data fetch", r"data fetch: expected the name of a data set: mnist, .*digits"),
    "fetch unknown": ("data fetch minst", r"unknown data set 'minst': did you mean 'mnist'"),
    "check missing": ("data check mnist --data-dir EMPTY", r"MNIST is not in .*; run `mpdvae data fetch mnist`"),
    "reproduce unknown scale": ("reproduce --scale smok --out NEW", r"unknown scale 'smok': did you mean 'smoke'"),
    "reproduce unknown data": ("reproduce --scale smoke --datasets mnist --out NEW",
                               r"at scale smoke there are recipes for digits, got 'mnist'"),
    "reproduce no seeds": ("reproduce --scale smoke --seeds 0 --out NEW", r"--seeds: expected a number >= 1, got 0"),
    "reproduce no first seed": ("reproduce --scale smoke --first-seed -1 --out NEW",
                                r"--first-seed: expected a number >= 0, got -1"),
    "compare nothing": ("compare NEW NEW", r"is missing: give a results\.json of `mpdvae reproduce`, or its folder"),
    "compare one": ("compare EMPTY", r"OTHER|PATH"),
    "reproduce no jobs": ("reproduce --scale smoke --jobs 0 --out NEW", r"--jobs: expected a number >= 1, got 0"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_ends_with_2_and_one_sentence(mistake, capsys, finished, tmp_path):
    words, message = MISTAKES[mistake]
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("mine")
    Run.create(tmp_path / "untrained", tiny())
    before = files(tmp_path) | files(finished)
    places = {
        "NEW": tmp_path / "new",
        "EMPTY": tmp_path / "empty",
        "UNTRAINED": tmp_path / "untrained",
        "DONE": finished,
    }
    for name, place in {**places, "FILE": tmp_path / "file.txt", "X.": f"{tmp_path}/X."}.items():
        words = words.replace(name, str(place))
    code, _, err = call(capsys, *words.split())
    assert code == 2
    assert_clear(err, message)
    assert files(tmp_path) | files(finished) == before
    assert not (tmp_path / "new").exists()


def assert_clear(err: str, message: str) -> None:
    """`message` is found in what was said, which is one sentence (or tyro's frame around one), without a traceback."""
    import re

    assert "Traceback" not in err
    assert "pydantic" not in err
    framed = "---" in err or "───" in err
    said = " ".join(err.translate({ord(c): " " for c in "│╭╮╰╯─"}).split())
    assert re.search(message, said), said
    assert framed or (err.startswith("mpdvae: ") and err.count("\n") == 1)


def test_mistakes_show_no_traceback_in_a_process_of_their_own(tmp_path):
    process = start("train", "vae-digits-smoke", "--out", tmp_path / "new", "--objective.diversity-weight", "-1")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    sentence = "--objective.diversity-weight: expected at least 0, got -1.0."
    assert err == f"mpdvae: {sentence} `mpdvae explain options` says more.\n"


# -- folders -----------------------------------------------------------------------------------------------------------


def test_a_folder_that_holds_another_run_is_left_alone(capsys, own_copy):
    before = files(own_copy)
    code, _, err = call(capsys, "train", "mae-digits-smoke", "--out", own_copy, *TINY_OPTIONS, "--seed", "7")
    assert code == 2
    assert_clear(err, r"already holds another run \(it differs in seed\); choose another --out, or delete that folder")
    assert files(own_copy) == before


def test_a_folder_that_holds_something_else_is_left_alone(capsys, tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    code, _, err = call(capsys, "train", "mae-digits-smoke", "--out", tmp_path)
    assert code == 2
    assert_clear(err, r"is not empty and not a run; choose another --out")
    assert files(tmp_path) == {"thesis.tex": b"x"}


def test_a_file_that_is_a_folder_for_the_run(capsys, tmp_path):
    (tmp_path / "file").write_text("x")
    code, _, err = call(capsys, "train", "mae-digits-smoke", "--out", tmp_path / "file")
    assert code == 2
    assert_clear(err, r"cannot be a folder, .* is a file; choose another --out")


DAMAGED = {
    "experiment": (lambda f: (f / "experiment.json").write_text('{"seed": -1}'), "resume", 2, r"\.json: seed: .*got -1"),
    "experiment no JSON": (lambda f: (f / "experiment.json").write_bytes(b"\xff"), "resume", 2, r"not the JSON of an"),
    "manifest": (lambda f: (f / "manifest.json").write_text("{"), "evaluate", 2, r"manifest\.json: cannot be read as JSON"),
    "weights": (lambda f: (f / "model" / "model.safetensors").write_bytes(b"x" * 99), "sample", 2, r"not a readable"),
    "other weights": (lambda f: replace_weights(f, other="1"), "reconstruct", 2, r"has no valid model metadata"),
    "model of another": (
        lambda f: (f / "model" / "experiment.json").write_text(tiny(latent_dim=3).to_json()),
        "traverse", 2, r"does not fit experiment\.json beside it",
    ),
    "history": (
        lambda f: ((f / "history.jsonl").write_text("{\n"), Run(f).note(status="training")),
        "resume", 2, r"history\.jsonl: line 1 is damaged",
    ),
    "checkpoint of another": (
        lambda f: (Run(f).note(status="training"), (f / "experiment.json").write_text(tiny(seed=9).to_json())),
        "resume", 2, r"belongs to another experiment than experiment\.json \(it differs in seed\)",
    ),
    "all checkpoints": (
        lambda f: (Run(f).note(status="training"), [p.write_bytes(b"") for p in (f / "checkpoints").iterdir()]),
        "resume", 1, r"every checkpoint is damaged .*; delete that folder to train this run from the beginning",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_runs_are_told_and_left_as_they_are(case, capsys, own_copy, tmp_path):
    damage, command, expected, message = DAMAGED[case]
    damage(own_copy)
    before = files(own_copy)
    drawing = [] if command in {"resume", "evaluate"} else ["--out", tmp_path / "x.png"]
    code, _, err = call(capsys, command, own_copy, *drawing)
    assert code == expected
    assert_clear(err, message)
    assert files(own_copy) == before


# -- data folders ------------------------------------------------------------------------------------------------------


def mnist(folder: Path, damage: str) -> None:
    contents = tiny_idx_files()
    if damage == "truncated":
        contents = {name: content[:-3] for name, content in contents.items()}
    put(folder / "mnist", contents, zipped=damage == "broken gzip")
    if damage == "broken gzip":
        for path in (folder / "mnist").iterdir():
            path.write_bytes(gzip.compress(path.read_bytes())[:40])


@pytest.mark.parametrize("damage", ["truncated", "other file", "broken gzip"])
@pytest.mark.parametrize("command", ["train mae-mnist-minutes --out NEW", "data check mnist", "reproduce --out NEW"])
def test_damaged_data_is_told_before_anything_is_trained(damage, command, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("MPDVAE_DATA", str(tmp_path / "data"))
    mnist(tmp_path / "data", damage)
    before = files(tmp_path / "data")
    code, _, err = call(capsys, *command.replace("NEW", str(tmp_path / "new")).split())
    assert code == 2
    assert_clear(
        err,
        r"(is damaged or a different file: .* delete it and run `mpdvae data fetch mnist`|cannot be .*unpacked|gzip)",
    )
    assert files(tmp_path / "data") == before
    assert not (tmp_path / "new" / "checkpoints").exists()


GREY = np.random.default_rng(0).random((60, 8, 8))
LABELS = np.arange(60) % 3


def with_nan() -> np.ndarray:
    x = GREY.copy()
    x[7, 0, 0] = np.nan
    return x


OWN_MISTAKES = {
    "NaN": ({"x": with_nan()}, r"x in .* has NaN pixels in 1 of 60 images, the first is image 7"),
    "range": ({"x": GREY * 3 - 1}, r"has values from -0\.9.* to 1\.9.*: floats must lie in 0\.\.1 \(divide by 255\?\)"),
    "channels": ({"x": np.zeros((60, 8, 8, 8))}, r"the channels, up to 64 .* cannot be told from height and width; give"),
    "colour for a PixelCNN": ({"x": np.zeros((60, 3, 8, 8))}, r"is for grey images, but these have 3 channels; use"),
    "labels missing": ({"x": GREY, "y": LABELS[:50]}, r"labels are missing: .* holds 60 images in x, 50 labels in y"),
    "fractional labels": ({"x": GREY, "y": LABELS + 0.5}, r"y in .* must be one integer per image"),
    "no images": ({"y": LABELS}, r"holds no images: expected an array x"),
    "too few": ({"x": GREY[:5]}, r"has too few images: 5"),
    "few": ({"x": GREY[:12]}, r"batch_size is 20, but there are only 8 training images"),
    "too small": ({"x": GREY[:, :2, :2]}, r"needs images of at least 3x3 pixels, got 2x2"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", OWN_MISTAKES)
def test_own_data_that_cannot_be_used_is_told_before_a_folder_is_made(mistake, capsys, tmp_path):
    arrays, message = OWN_MISTAKES[mistake]
    np.savez(tmp_path / "mine.npz", **arrays)
    own = ["--data.dataset", "own", "--data.path", tmp_path / "mine.npz"]
    code, _, err = call(capsys, "train", "mae-digits-smoke", "--out", tmp_path / "new", *TINY_OPTIONS, *own)
    assert code == 2
    assert_clear(err, message)
    assert not (tmp_path / "new").exists()


def test_a_truncated_archive_is_told(capsys, tmp_path):
    np.savez(tmp_path / "mine.npz", x=GREY)
    (tmp_path / "mine.npz").write_bytes((tmp_path / "mine.npz").read_bytes()[:300])
    own = ["--data.dataset", "own", "--data.path", tmp_path / "mine.npz"]
    code, _, err = call(capsys, "train", "vae-digits-smoke", "--out", tmp_path / "new", *own)
    assert code == 2
    assert_clear(err, r"mine\.npz cannot be read as a numpy archive; it may be truncated")


SMALL = ["--training.batch-size", "20", "--evaluation.label-counts", "30", "--threads", "1"]
NETWORKS = ["--encoder.channels", "4", "--decoder.channels", "4", "--latent-dim", "2"]


def own_npz(folder: Path) -> Path:
    np.savez(folder / "mine.npz", x=GREY, y=LABELS)
    return folder / "mine.npz"


def own_pictures(folder: Path) -> Path:
    for i in range(60):
        picture(folder / "pictures" / "abc"[i % 3] / f"{i}.png", (8, 8), value=4 * i)
    return folder / "pictures"


@pytest.mark.parametrize("make", [own_npz, own_pictures])
def test_own_data_is_trained_on(make, capsys, tmp_path):
    """What works, beside what does not; and the run knows its data again when they change."""
    own = ["--data.dataset", "own", "--data.path", str(make(tmp_path))]
    arguments = ["train", "vae-mnist-minutes", "--out", str(tmp_path / "run"), *TINY_OPTIONS, *SMALL, *NETWORKS, *own]
    assert call(capsys, *arguments)[0] == 0
    run = Run(tmp_path / "run")
    assert run.status == "finished"
    assert run.manifest["data"]["protocol"].startswith("own data ")
    assert (run.path / "representation.json").exists()
    assert call(capsys, "reconstruct", run.path, "--out", tmp_path / "r.png", "--count", "3")[0] == 0
    assert (
        call(capsys, "reconstruct", run.path, "--out", tmp_path / "few.png")[0] == 0
    )  # fewer than ten, none asked for
    if make is own_npz:
        np.savez(tmp_path / "mine.npz", x=GREY[:, ::-1], y=LABELS)
        for command in (["evaluate", run.path], ["reconstruct", run.path, "--out", tmp_path / "s.png"]):
            code, _, err = call(capsys, *command)
            assert code == 2
            assert_clear(err, r"was made on other data .*; put the former data back, or train in another --out")
