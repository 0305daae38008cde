"""Files from strangers: whatever is in them, a reader returns or raises `InputError` or `RunError` in one sentence, soon and
without taking memory. The readers are in strangers.py, the damage in mutations.py."""

import gzip
import json
import random
import tarfile
import zipfile
import zlib
from pathlib import Path

import pytest
from answering import answered
from hypothesis import given, settings
from hypothesis import strategies as st
from limits import bounds
from mutations import damaged_json
from report_folders import make_run
from small_runs import digits
from strangers import PLAIN, READERS, SURE_TO_ANSWER, cases

from mpdvae.commands.cli import main
from mpdvae.data.cifar10 import read_members
from mpdvae.data.image_folder import read_image_folder
from mpdvae.data.npz import read_npz
from mpdvae.data.unpickle import unpickle_arrays
from mpdvae.errors import InputError
from mpdvae.experiments.experiment import with_changes
from mpdvae.report import collect
from mpdvae.runs.model_folder import load
from mpdvae.runs.run_folder import Run
from mpdvae.sharing.released_import import read_state
from mpdvae.training.loop import Course


def fuzz(name: str, folder: Path, cases: int, seed: int) -> int:
    """Reads the whole file and `cases` damaged ones; returns how many were refused."""
    reader, whole = READERS[name], READERS[name].base()
    assert answered(READERS[name], folder, whole)
    refused = 0
    for case in range(cases):
        chance = f"{name} {seed} {case}"
        try:
            refused += not answered(READERS[name], folder, reader.damage(whole, random.Random(chance)))
        except BaseException as error:
            error.add_note(f"in case {chance!r}")
            raise
    return refused


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_refused_in_one_sentence(name, tmp_path):
    assert (fuzz(name, tmp_path, cases=50, seed=0) == 0) == (name in SURE_TO_ANSWER)


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_thousands_of_damaged_files_are_refused_in_one_sentence(name, tmp_path):
    assert (fuzz(name, tmp_path, cases(name), seed=1) == 0) == (name in SURE_TO_ANSWER)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=5), part, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("name", [name for name, reader in READERS.items() if reader.damage is damaged_json])
@settings(max_examples=10)
@given(value=JSON)
def test_any_json_is_answered(name, tmp_path, value):
    answered(READERS[name], tmp_path, json.dumps(value).encode())


@pytest.mark.parametrize("name", [name for name, reader in READERS.items() if reader.damage is not damaged_json])
@settings(max_examples=10)
@given(content=st.binary(max_size=100))
def test_any_bytes_are_answered(name, tmp_path, content):
    answered(READERS[name], tmp_path, content)


# -- malice, by hand ---------------------------------------------------------------------------------------------------


def refused(read, path: Path, words: str) -> None:
    with bounds(), pytest.raises(InputError, match=words):
        read(path)


def test_what_claims_more_than_memory_is_refused(tmp_path):
    path = tmp_path / "a.png"
    header = b"IHDR" + (60_000).to_bytes(4, "big") * 2 + b"\x08\x00\x00\x00\x00"
    chunks = [
        len(chunk[4:]).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big") for chunk in (header, b"IDAT")
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    refused(read_image_folder, tmp_path, r"claims 60000x60000 pixels|decompression bomb")
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }".ljust(117) + b"\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    refused(read_npz, path, r"claims 1,000,000,000,000 numbers of type float64, but has 0 bytes")
    name = tarfile.TarInfo("././@LongLink")
    name.type, name.size = tarfile.GNUTYPE_LONGNAME, 2**33
    path.write_bytes(gzip.compress(name.tobuf(tarfile.GNU_FORMAT)) + gzip.compress(bytes(2**28), 1))
    refused(lambda packed: read_members(packed, ["a"]), path, r"a number of a header is not octal")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"Nr\xff\xff\xff\x7f.", None),
        (b"]q\x00" + b"".join(b"](h%bh%be" % (bytes([k]), bytes([k])) + b"q%b" % bytes([k + 1]) for k in range(60)) + b".",
         r"over and over"),
        (b"Nq\x00\x85q\x01" + b"h\x01h\x01\x86q\x01" * 60 + b".", r"recalls a tuple"),
        (b"\x96" + (2**40).to_bytes(8, "little") + b".", r"more than arrays need"),
    ],
    ids=["place", "lists", "tuples", "length"],
)  # fmt: skip
def test_pickles_that_are_short_to_write_and_endless_to_read(content, words):
    with bounds():
        if words is None:
            assert unpickle_arrays(content, "it") is None
            return
        with pytest.raises(InputError, match=words):
            unpickle_arrays(content, "it")


@pytest.mark.parametrize(
    "changes",
    [
        {"latent_dim": 10**6, "encoder": {"kind": "mlp", "hidden_features": (500,)}},
        {"encoder": {"kind": "mlp", "hidden_features": (10**6, 10**6)}},
        {"prior": {"kind": "flow", "blocks": 100, "hidden_features": 10**5, "hidden_layers": 2}},
        {"decoder": {"kind": "pixelcnn", "channels": 10**6}},
    ],
)
def test_networks_of_terabytes_are_refused_before_memory_is_taken(changes):
    experiment = with_changes(PLAIN, **changes)
    with bounds(1 << 30), pytest.raises(InputError, match=r"network of more than 268,435,456 numbers"):
        experiment.build((1, 8, 8))


@pytest.mark.parametrize(("field", "most"), [("blocks", 100), ("hidden_features", 2**20)])
def test_layers_without_end_are_refused_with_the_configuration(field, most):
    with pytest.raises(InputError, match=rf"prior\.{field}: expected at most {most}, got 1000000000"):
        with_changes(PLAIN, prior={"kind": "flow", field: 10**9})


def test_links_out_of_a_folder_are_not_followed(tmp_path):
    (tmp_path / "pictures").mkdir()
    (tmp_path / "private.png").write_bytes(READERS["pictures, png"].base())
    (tmp_path / "pictures" / "a.png").symlink_to(tmp_path / "private.png")
    refused(read_image_folder, tmp_path / "pictures", r"a\.png is a symbolic link that leads out of its folder")
    run = make_run(tmp_path / "run", "mae")
    shown = run / "figures" / "samples.png"
    shown.unlink()
    shown.symlink_to(tmp_path / "private.png")
    refused(collect, [run], r"samples\.png: is a link, which is neither followed nor replaced there")


def test_no_picture_is_given_to_an_interpreter(tmp_path):
    """PostScript under the name of a picture."""
    (tmp_path / "a.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    )
    refused(read_image_folder, tmp_path, r"cannot be read as a picture")


def test_state_dicts_are_not_unpacked(tmp_path):
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}.")
        archive.writestr("a/data/0", bytes(10**7))
    refused(read_state, path, r"holds compressed members")


def test_names_from_strangers_do_not_reach_the_terminal(capsys, tmp_path):
    path = tmp_path / "experiment.json"
    path.write_text(json.dumps({"\x1b[31mfield": 1}))
    assert main(["train", str(path), "--out", str(tmp_path / "new")]) == 2
    assert "\x1b" not in capsys.readouterr().err


def extend(path: Path, size: int) -> None:
    """Makes a file claim `size` bytes, which take no room on the disk."""
    with path.open("r+b") as file:
        file.truncate(size)


@pytest.mark.parametrize("size", [1 << 32, 1 << 42])
def test_weights_that_claim_more_than_the_model_needs_are_not_read(tmp_path, size):
    READERS["weights"].beside(tmp_path)
    weights = tmp_path / "model.safetensors"
    load(tmp_path)  # imports what takes longer than reading
    extend(weights, size)
    refused(lambda path: load(path.parent), weights, r"model\.safetensors: expected at most [\d,]+ bytes")
    weights.write_bytes((1 << 60).to_bytes(8, "little"))
    extend(weights, size)
    refused(lambda path: load(path.parent), weights, r"not a readable safetensors file \(it has no header\)")


def test_a_checkpoint_larger_than_its_model_is_not_read(own_copy):
    run, said = Run(own_copy), []
    assert Course.begin(run, digits(), said.append).progress.step == 6
    extend(own_copy / "checkpoints" / "step-00000006.safetensors", 1 << 42)
    with bounds():
        assert Course.begin(run, digits(), said.append).progress.step == 3
    assert [line.rpartition("/")[2] for line in said] == [
        "step-00000006.json: this checkpoint is damaged; resuming from that of step 3"
    ]
