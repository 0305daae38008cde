"""What messages say and where there is more about them."""

import re
from pathlib import Path

from command_line import call

import mpdvae
from mpdvae.commands.explain import topics

SOURCES = sorted(Path(mpdvae.__file__).parent.rglob("*.py"))


def test_topics_that_errors_name_are_explained():
    named = {topic for path in SOURCES for topic in re.findall(r'topic="([\w-]+)"', path.read_text())}
    assert named
    assert named <= topics().keys()


def test_an_error_with_a_topic_says_where_there_is_more(capsys, tmp_path):
    (tmp_path / "something").write_text("mine")
    code, _, err = call(capsys, "train", "vae-digits-smoke", "--out", tmp_path)
    assert code == 2
    assert "`mpdvae explain taken` says more." in err


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
