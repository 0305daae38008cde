"""What messages say and where there is more about them."""

import ast
import pickle
import re
import traceback
from importlib.util import find_spec
from pathlib import Path

import pytest
from command_line import call

import mpdvae
from mpdvae.commands.explain import topics
from mpdvae.errors import InputError, RunError

SOURCES = sorted(Path(mpdvae.__file__).parent.rglob("*.py"))


def needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(find_spec(package) is None, reason=f"{package} is not installed")


def topics_named() -> set[str]:
    """Of all errors that are raised, and of sentences that name one themselves."""
    named = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = node.func.id if isinstance(node.func, ast.Name) else ""
                values = [keyword.value for keyword in node.keywords if keyword.arg == "topic"]
                values += node.args[:1] if name == "said_by" else node.args[1:2] if name == "_tell" else []
                named |= {v.value for v in values if isinstance(v, ast.Constant) and isinstance(v.value, str)}
    return named


def test_every_topic_has_its_section_and_every_section_is_named():
    assert topics_named() == topics().keys()


@pytest.mark.parametrize("topic", topics())
def test_a_section_is_a_question_and_what_to_do(topic):
    question, rest = re.match(r"\*(.+?)\*\s+(.+)", topics()[topic], flags=re.DOTALL).groups()  # type: ignore[union-attr]
    assert question.endswith("?")
    assert len(rest.split()) >= 10


@pytest.mark.parametrize(
    ("arguments", "topic"),
    [
        (("train", "vae-digits-smok", "--out", "new"), "options"),
        (("train", "vae-digits-smoke", "--out", "new", "--objective.diversity-weight", "-1"), "options"),
        (("train", "vae-digits-smoke", "--out", "new", "--prior.kind", "vam"), "options"),
        (("train", "vae-digits-smoke", "--out", "taken"), "taken"),
        (("train", "vae-digits-smoke", "--out", "new", "--device", "cuda:77"), "device"),
        (("train", "vae-digits-smoke", "--out", "new", "--data.dataset", "own", "--data.path", "nowhere"), "own-data"),
        (("train", "vae-digits-smoke", "--out", "new", "--encoder.channels", "4", "4", "4", "4"), "image-shape"),
        (("evaluate", "nowhere"), "not-a-run"),
        (("sample", "nowhere", "--out", "x.png"), "not-a-run"),
        (("report", "taken", "--out", "r.html"), "not-a-run"),
        pytest.param(("explore", "taken", "--port", "0"), "port", marks=needs("panel")),
        pytest.param(("export", "owner/none", "--out", "x.onnx"), "hub", marks=needs("huggingface_hub")),
    ],
)
def test_errors_of_commands_name_their_section_in_a_line(capsys, tmp_path, monkeypatch, arguments, topic):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "something").write_text("mine")
    code, _, err = call(capsys, *arguments)
    assert code in {1, 2}
    assert err.count("\n") == 1
    assert err.endswith(f" `mpdvae explain {topic}` says more.\n")


@pytest.mark.parametrize("kind", [InputError, RunError])
def test_a_traceback_ends_with_the_way_to_the_section(kind):
    error = pickle.loads(pickle.dumps(kind("the sentence.", topic="memory")))
    assert (str(error), error.topic) == ("the sentence.", "memory")
    assert traceback.format_exception(error)[-1] == "`mpdvae explain memory` says more.\n"
    assert not hasattr(kind("the sentence."), "__notes__")


def test_explain_prints_a_topic_or_all(capsys):
    code, out, _ = call(capsys, "explain", "downloads")
    assert code == 0
    assert "mpdvae data path" in re.sub(r"\s+", " ", out)
    assert "Pareto" not in out
    assert all(topic in call(capsys, "explain")[1] for topic in topics())


def test_explain_suggests_a_topic(capsys):
    code, _, err = call(capsys, "explain", "memorry")
    assert code == 2
    assert "did you mean 'memory'" in err
