"""The table of readers of untrusted files: for each, a small intact file, how to read it and how to damage it.

If a format has a checksum or is compressed, damage to its content has an entry of its own ("..., inside"): `seal` makes the
file consistent again around the damaged content, as an attacker would.
"""

import gzip
import hashlib
import io
import json
import pickle
import random
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
import torch
from data_files import (
    BLACK_AND_WHITE,
    amat,
    chardata,
    cifar_pickle,
    mat,
    png,
    python2_array,
    silhouettes,
    tarred,
    zipped,
)
from mutations import damaged, damaged_json
from PIL import Image
from report_folders import make_run
from safetensors.torch import save
from small_runs import digits, files, tiny, trained

from mpdvae.commands.diagnose import diagnose
from mpdvae.data import covariates
from mpdvae.data.caltech101 import read_silhouettes
from mpdvae.data.cifar10 import batch_from_pickle, batch_from_records, read_members
from mpdvae.data.conditions import NOTHING
from mpdvae.data.frey_faces import faces_from_mat, faces_from_npz, faces_from_pickle
from mpdvae.data.idx import idx_bytes, read_idx
from mpdvae.data.image_folder import read_image_folder
from mpdvae.data.npz import read_npz
from mpdvae.data.omniglot import read_drawings
from mpdvae.data.omniglot_burda import read_chardata
from mpdvae.data.own import load_own
from mpdvae.data.static_mnist import read_amat
from mpdvae.evaluation.example_images import ABOUT, SHEET, Examples, read_examples, write
from mpdvae.evaluation.result_cache import shared
from mpdvae.evaluation.resumable_parts import ResumableParts
from mpdvae.experiments.experiment import Origin, from_json
from mpdvae.measures.density import forms
from mpdvae.report import collect
from mpdvae.runs.model_card import model_card
from mpdvae.runs.model_folder import METADATA, load
from mpdvae.runs.run_folder import Run
from mpdvae.sharing.released_config import experiment_of
from mpdvae.sharing.released_import import read_state
from mpdvae.sharing.shipped import recorded
from mpdvae.system.atomic_files import read_json
from mpdvae.system.closed_folder import Inside
from mpdvae.training.loop import train

Damage = Callable[[bytes, random.Random], bytes]


@dataclass(frozen=True)
class Reader:
    """One reader of one file.

    Arguments:
        base: returns the content to damage: that of an intact file, or what `seal` wraps into one.
        read: the reader, called with the path of the file.
        name: name of the file, in a folder of its own.
        damage: damages the content.
        seal: returns the file around the damaged content.
        beside: writes the other files that the folder needs, called with the folder.
    """

    base: Callable[[], bytes]
    read: Callable[[Path], object]
    name: str = "file"
    damage: Damage = damaged
    seal: Callable[[bytes], bytes] = bytes
    beside: Callable[[Path], object] = lambda folder: None


def _content(write: Callable[[Path], object]) -> bytes:
    """Returns the content that `write` writes to a file."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.mat"
        write(path)
        return path.read_bytes()


# data -----------------------------------------------------------------------------------------------------------------

FACES = np.random.default_rng(0).integers(0, 256, (2, 28, 20)).astype(np.uint8)
ROWS = FACES.reshape(2, 560)
DRAWING = "set/Greek/character01/0001_01.png"


def _covariates_of_two(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # rows of no picture are left out with a warning
        return covariates.of_folder(path.parent, ["a.png", "b.png"])


def _npz(**arrays: np.ndarray) -> bytes:
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)
    return packed.getvalue()


def _npy(array: np.ndarray) -> bytes:
    packed = io.BytesIO()
    np.save(packed, array)
    return packed.getvalue()


def _zip_of(name: str, content: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return packed.getvalue()


def _mat5(compress: bool) -> bytes:
    return _content(lambda path: scipy.io.savemat(path, {"ff": ROWS.T}, do_compression=compress))


def _picture(kind: str, mode: str = "RGB") -> bytes:
    packed = io.BytesIO()
    Image.fromarray(FACES[0]).convert(mode).save(packed, kind)
    return packed.getvalue()


def _folder_reader(kind: str, ending: str) -> Reader:
    return Reader(partial(_picture, kind), lambda path: read_image_folder(path.parent), f"a.{ending}")


def _pages_reader(kind: str, ending: str) -> Reader:
    def pages() -> bytes:
        packed, images = io.BytesIO(), [Image.fromarray(face) for face in FACES]
        images[0].save(packed, kind, save_all=True, append_images=images[1:])
        return packed.getvalue()

    return Reader(pages, lambda path: read_image_folder(path.parent), f"a.{ending}")


def _turned() -> bytes:
    packed, image = io.BytesIO(), Image.fromarray(FACES[0])
    image.getexif()[0x0112] = 6
    image.save(packed, "JPEG", exif=image.getexif())
    return packed.getvalue()


def _append_to_npz(name: str, array: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("x.npy", _npy(FACES))
        archive.writestr(name, array)
    return packed.getvalue()


def _tar() -> bytes:
    return gzip.decompress(_content(lambda path: tarred(path, {"a": bytes(600), "b": b"x"})))


def _read_bytes(read: Callable[[bytes, str], object]) -> Callable[[Path], object]:
    return lambda path: read(path.read_bytes(), path.name)


DATA = {
    "idx": Reader(lambda: idx_bytes(FACES), lambda path: read_idx(path, 3)),
    "idx, gzipped": Reader(lambda: gzip.compress(idx_bytes(FACES), mtime=0), lambda path: read_idx(path, 3)),
    "idx, gzipped, inside": Reader(lambda: idx_bytes(FACES), lambda path: read_idx(path, 3), seal=gzip.compress),
    "amat": Reader(lambda: amat(BLACK_AND_WHITE[:1]), read_amat),
    "mat, packed": Reader(lambda: _mat5(True), faces_from_mat),
    "mat": Reader(lambda: _mat5(False), faces_from_mat),
    "mat, version 4": Reader(
        lambda: _content(lambda path: scipy.io.savemat(path, {"ff": ROWS.T}, format="4")), faces_from_mat
    ),
    "mat, silhouettes": Reader(lambda: _content(lambda path: mat(path, **silhouettes())), read_silhouettes),
    "mat, chardata": Reader(
        lambda: _content(lambda path: mat(path, **chardata())), lambda path: read_chardata(path, lying=False)
    ),
    "npz": Reader(lambda: _npz(x=FACES), faces_from_npz),
    "npz, inside": Reader(lambda: _npy(FACES), read_npz, seal=partial(_zip_of, "x.npy")),
    "npz, labels inside": Reader(lambda: _npy(np.arange(2)), read_npz, seal=partial(_append_to_npz, "y.npy")),
    "npz, covariates inside": Reader(lambda: _npy(np.eye(2)), read_npz, seal=partial(_append_to_npz, "covariates.npy")),
    "covariates": Reader(
        lambda: b"file,age\na.png,3.5\nb.png,1e-3\n",
        _covariates_of_two,
        covariates.TABLE,
    ),
    "pickle": Reader(lambda: pickle.dumps([ROWS], protocol=3), faces_from_pickle),
    "pickle, protocol 4": Reader(lambda: pickle.dumps([ROWS], protocol=4), faces_from_pickle),
    "pickle, Python 2": Reader(lambda: f"(l{python2_array(ROWS)}a.".encode("latin1"), faces_from_pickle),
    "batch": Reader(lambda: cifar_pickle(np.resize(ROWS, (1, 3072)), [1]), _read_bytes(batch_from_pickle)),
    "records": Reader(lambda: bytes(3073 * 2), _read_bytes(batch_from_records)),
    "drawings": Reader(
        lambda: _content(lambda path: zipped(path, {DRAWING: png(np.eye(105, dtype=np.uint8))})),
        lambda path: read_drawings(path, "set", 1),
    ),
    "drawings, inside": Reader(
        lambda: png(np.eye(105, dtype=np.uint8)),
        lambda path: read_drawings(path, "set", 1),
        seal=partial(_zip_of, DRAWING),
    ),
    "tar": Reader(lambda: gzip.compress(_tar(), mtime=0), lambda path: read_members(path, ["a", "b"])),
    "tar, inside": Reader(_tar, lambda path: read_members(path, ["a", "b"]), seal=gzip.compress),
    "pictures, png": _folder_reader("PNG", "png"),
    "pictures, jpeg": _folder_reader("JPEG", "jpg"),
    "pictures, gif": _folder_reader("GIF", "gif"),
    "pictures, bmp": _folder_reader("BMP", "bmp"),
    "pictures, tiff": _folder_reader("TIFF", "tif"),
    "pictures, webp": _folder_reader("WEBP", "webp"),
    "pictures, ppm": _folder_reader("PPM", "ppm"),
    "pages, tiff": _pages_reader("TIFF", "tif"),
    "pages, gif": _pages_reader("GIF", "gif"),
    "pages, png": _pages_reader("PNG", "png"),
    "picture, turned": Reader(_turned, lambda path: read_image_folder(path.parent), "a.jpg"),
    "npy": Reader(lambda: _npy(np.resize(FACES, (12, 28, 20))), lambda path: load_own(path, None, 0), "a.npy"),
}


# models and runs ------------------------------------------------------------------------------------------------------

PLAIN = tiny(
    "vae-digits-smoke",
    latent_dim=2,
    encoder={"kind": "mlp", "hidden_features": (3,)},
    decoder={"kind": "mlp", "hidden_features": (3,)},
)
"""The smallest model."""


@cache
def _weights() -> bytes:
    about = {"format": "1", "image_shape": [1, 8, 8], "version": "1"}
    tensors = {name: tensor.contiguous() for name, tensor in PLAIN.build((1, 8, 8)).state_dict().items()}
    return save(tensors, {METADATA: json.dumps(about)})


def _header_of(weights: bytes) -> bytes:
    return weights[8 : 8 + int.from_bytes(weights[:8], "little")]


def _with_header(header: bytes) -> bytes:
    """Returns the weights with another JSON header, whose length is stated correctly."""
    weights = _weights()
    return len(header).to_bytes(8, "little") + header + weights[8 + int.from_bytes(weights[:8], "little") :]


def _about(about: bytes) -> bytes:
    """Returns the weights with other metadata."""
    header = json.loads(_header_of(_weights()))
    header["__metadata__"] = {METADATA: about.decode("utf-8", "replace")}
    return _with_header(json.dumps(header).encode())


def _model_beside(folder: Path) -> None:
    (folder / "experiment.json").write_text(PLAIN.to_json())
    (folder / "model.safetensors").write_bytes(_weights())


@cache
def _run_files() -> dict[str, bytes]:
    """Returns the files of a finished run as the report reads them, with an experiment that can be built."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        run = make_run(Path(folder) / "run", "mae", factors=True)
        content = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    lines = content["history.jsonl"].splitlines()
    return content | {"history.jsonl": b"\n".join(lines[-3:]) + b"\n", "experiment.json": PLAIN.to_json().encode()}


def _run_beside(folder: Path) -> None:
    for name, content in _run_files().items():
        (folder / name).write_bytes(content)


def _reported(path: Path) -> object:
    return collect([path.parent])


def _run_reader(name: str, read: Callable[[Path], object] = _reported) -> Reader:
    return Reader(lambda: _run_files()[name], read, name, damaged_json, beside=_run_beside)


def _diagnosed(path: Path) -> object:
    return diagnose(path.parent)


def _recorded() -> dict[str, Any]:
    results = {name: json.loads(_run_files()[f"{name}.json"]) for name in ("density", "diagnostics", "representation")}
    results["density"] |= {"images_of_split": 10_000}
    return results | {"licence": "mit", "manifest": json.loads(_run_files()["manifest.json"])}


def _carded(path: Path) -> object:
    """Makes a card of recorded results."""
    return model_card(PLAIN, (1, 8, 8), recorded(path.parent))


@cache
def _examples() -> dict[str, bytes]:
    """Returns the files of three images."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        write(
            Inside(Path(folder)),
            Examples(torch.eye(8).expand(3, 1, 8, 8), [2, 0, 1], NOTHING, [-1.0], False),
            PLAIN.data,
        )
        return files(Path(folder))


def _examples_beside(folder: Path) -> None:
    for name, content in _examples().items():
        (folder / name).write_bytes(content)


def _shown(path: Path) -> object:
    return read_examples(Inside(path.parent), Origin(PLAIN, (1, 8, 8)))


def _noted(path: Path) -> object:
    """Uses a manifest as commands do."""
    run = Run(path.parent)
    run.note(more=1)
    return run.status


RUNS = {
    "weights": Reader(_weights, lambda path: load(path.parent), "model.safetensors", beside=_model_beside),
    "weights, header": Reader(
        lambda: _header_of(_weights()),
        lambda path: load(path.parent),
        "model.safetensors",
        damaged_json,
        _with_header,
        _model_beside,
    ),
    "weights, about": Reader(
        lambda: b'{"format": "1", "image_shape": [1, 8, 8], "version": "1"}',
        lambda path: load(path.parent),
        "model.safetensors",
        damaged_json,
        _about,
        _model_beside,
    ),
    "experiment of a model": Reader(
        lambda: PLAIN.to_json().encode(),
        lambda path: load(path.parent),
        "experiment.json",
        damaged_json,
        beside=_model_beside,
    ),
    "experiment": Reader(
        lambda: tiny().to_json().encode(), lambda path: from_json(path.read_bytes(), path.name), damage=damaged_json
    ),
    "results of a model": Reader(
        lambda: json.dumps(_recorded()).encode(), _carded, "results.json", damaged_json, beside=_model_beside
    ),
    "example images": Reader(lambda: _examples()[ABOUT], _shown, ABOUT, damaged_json, beside=_examples_beside),
    "example images, sheet": Reader(lambda: _examples()[SHEET], _shown, SHEET, beside=_examples_beside),
    "manifest": _run_reader("manifest.json", _noted),
    "history, diagnosed": _run_reader("history.jsonl", _diagnosed),
    "diagnostics, diagnosed": _run_reader("diagnostics.json", _diagnosed),
} | {
    f"report, {name}": _run_reader(name)
    for name in (
        *("experiment.json", "manifest.json", "history.jsonl", "density.json", "diagnostics.json", "information.json"),
        *("code_use.json", "representation.json", "disentanglement.json", "codes.json"),
    )
}

# state dicts of the released code -------------------------------------------------------------------------------------

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.zeros(2, dtype=torch.int64)}


def _saved(old: bool = False) -> bytes:
    packed = io.BytesIO()
    torch.save(TENSORS, packed, _use_new_zipfile_serialization=not old)
    return packed.getvalue()


def _saved_pickle() -> bytes:
    with zipfile.ZipFile(io.BytesIO(_saved())) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))


def _saved_around(content: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(_saved())) as whole, zipfile.ZipFile(packed, "w") as archive:
        for name in whole.namelist():
            archive.writestr(name, content if name.endswith("data.pkl") else whole.read(name))
    return packed.getvalue()


RELEASED = {
    "encoder": {
        "type": "gaussian",
        "core": {"type": "resnet_binary_28x28", "nz": 4, "ngpu": 1},
        "prior_flow": {"type": "af_made", "input_size": 4, "num_blocks": 1, "num_hiddens": 1, "hidden_size": 8},
    },
    "decoder": {"type": "pixelcnn_binary_28x28", "nz": 4, "mode": "small", "ngpu": 1},
}

# checkpoints, parts of measurements, shared results -------------------------------------------------------------------


@cache
def _trained() -> dict[str, bytes]:
    """Returns the files of a run that is trained to its last step but still has the status "training"."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        run = trained(Path(folder) / "run", PLAIN)
        run.note(status="training")
        return files(run.path)


def _trained_beside(folder: Path) -> None:
    for name, content in _trained().items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
    for path in (folder / "checkpoints").glob("step-00000003*"):
        path.unlink()


def _goes_on(path: Path) -> object:
    """Does what `mpdvae resume` does first: loads the newest checkpoint; there are no steps left."""
    run = Run(path.parent.parent)
    run.note(status="training")
    return train(run, digits())


NEWEST = "checkpoints/step-00000006"


def _checkpoint_header(header: bytes) -> bytes:
    weights = _trained()[f"{NEWEST}.safetensors"]
    return len(header).to_bytes(8, "little") + header + weights[8 + int.from_bytes(weights[:8], "little") :]


def _read_sealed(path: Path) -> object:
    state = json.loads((path.parent / "step-00000006.json").read_text())
    state["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (path.parent / "step-00000006.json").write_text(json.dumps(state))
    return _goes_on(path)


PART = {name: torch.zeros(shape, dtype=dtype) for name, (shape, dtype) in forms(3, 4).items()}


def _part(path: Path) -> object:
    """Returns a part of a measurement, as stored or recomputed."""
    partial = ResumableParts(Inside(path.parent), {})
    partial.folder = Inside(path.parent)
    found = partial.get(path.stem, lambda: PART, forms(3, 4))
    assert {name: (tuple(t.shape), t.dtype) for name, t in found.items()} == forms(3, 4)
    return found


KEY = {"a": 1}


def _remembered(path: Path) -> object:
    """Returns a shared result, as stored or recomputed."""
    place = path.parent / f"{hashlib.sha256(json.dumps(KEY, sort_keys=True).encode()).hexdigest()}.json"
    place.write_bytes(path.read_bytes())
    (found,) = shared(path.parent, {"it": (KEY, lambda: {"x": 1})}).values()
    assert isinstance(found, dict)
    return found


OTHERS = {
    "checkpoint": Reader(
        lambda: _trained()[f"{NEWEST}.json"],
        _goes_on,
        "checkpoints/step-00000006.json",
        damaged_json,
        beside=_trained_beside,
    ),
    "checkpoint, tensors": Reader(
        lambda: _header_of(_trained()[f"{NEWEST}.safetensors"]),
        _read_sealed,
        "checkpoints/step-00000006.safetensors",
        damaged_json,
        _checkpoint_header,
        _trained_beside,
    ),
    "part of a measurement": Reader(lambda: save(PART), _part, "density-0.safetensors"),
    "shared result": Reader(
        lambda: json.dumps({"key": KEY, "result": {"x": 1}}).encode(), _remembered, "it.json", damaged_json
    ),
    "state": Reader(_saved, read_state),
    "state, pickle inside": Reader(_saved_pickle, read_state, seal=_saved_around),
    "state, old": Reader(partial(_saved, old=True), read_state),
    "state, safetensors": Reader(lambda: save(TENSORS), read_state, "state.safetensors"),
    "released configuration": Reader(
        lambda: json.dumps(RELEASED).encode(), lambda path: experiment_of(read_json(path)), damage=damaged_json
    ),
}

READERS: dict[str, Reader] = DATA | RUNS | OTHERS
SURE_TO_ANSWER = {"part of a measurement", "shared result"}
"""Readers that recompute damaged content."""


def cases(name: str) -> int:
    """Returns the number of damaged files in the long test: 2,000 per reader, split among its forms, at least 500 each."""
    forms_of = [other for other in READERS if other.split(",")[0] == name.split(",")[0]]
    return max(500, 2_000 // len(forms_of))
