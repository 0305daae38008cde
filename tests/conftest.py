"""What all tests share: one thread, a fixed seed, reproducible examples from hypothesis, float64 on request."""

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background; commands that tests start inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)
settings.register_profile(
    "mpdvae",
    derandomize=True,
    deadline=None,
    max_examples=25,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # ours hold no state that examples could share
)
settings.load_profile("mpdvae")


@pytest.fixture(autouse=True)
def same_start() -> Iterator[None]:
    """Every test starts from the same state of torch's generator, with one thread. Commands set the number of threads, on
    which the last digits of small convolutions depend: it is put back."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def no_stated_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands print as into a pipe, wherever the tests run: pytest-xdist states a width of 80 columns."""
    monkeypatch.delenv("COLUMNS", raising=False)


@pytest.fixture(scope="session", autouse=True)
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The user's data sets, by links, in a folder of our own: nothing that tests keep goes into theirs."""
    from mpdvae.data import data_dir  # imports the package, which must come after its type checks are set up

    folder, users = tmp_path_factory.mktemp("data"), data_dir()
    for path in users.iterdir() if users.is_dir() else ():
        if path.is_dir() and path.name != "baselines":
            (folder / path.name).symlink_to(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPDVAE_DATA", str(folder))
        yield folder


@pytest.fixture
def float64() -> Iterator[None]:
    """New tensors and modules are in double precision: `pytestmark = pytest.mark.usefixtures("float64")`."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one finished run (`small_runs.tiny()`), shared by all tests: to be read only."""
    from small_runs import finish, tiny  # imports the package, which must come after its type checks are set up

    return finish(tmp_path_factory.mktemp("shared") / "mae", tiny())


@pytest.fixture
def own_copy(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be changed."""
    return Path(shutil.copytree(finished, tmp_path / "copy"))
