"""What the command line tells about itself: explanations of messages, completion in shells."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
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


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["tr"], {"train", "traverse"}),
        (
            ["train", "mae-digits-smoke", "--objective.div"],
            {"--objective.diversity-weight"},
        ),
    ],
)
def test_bash_completes_commands_and_options(capsys, tmp_path, typed, offered):
    script = tmp_path / "mpdvae.bash"
    code, out, _ = call(capsys, "completion", "bash")
    assert code == 0
    script.write_text(out)
    words = " ".join(f"'{word}'" for word in ["mpdvae", *typed])
    program = (
        f"source {script}; COMP_WORDS=({words}); COMP_CWORD={len(typed)}; "
        """f=$(complete -p mpdvae | sed 's/.*-F \\([^ ]*\\).*/\\1/'); $f; echo "${COMPREPLY[@]}" """
    )
    done = subprocess.run([shutil.which("bash") or "bash", "-c", program], capture_output=True, text=True, check=True)
    assert offered <= set(done.stdout.split())
    assert done.stderr == ""


@pytest.mark.parametrize(("shell", "sign"), [("zsh", "#compdef mpdvae"), ("fish", "complete --no-files --command")])
def test_other_shells_get_a_script_of_theirs(capsys, shell, sign):
    code, out, _ = call(capsys, "completion", shell)
    assert code == 0
    assert sign in out
    assert "diversity-weight" in out
