"""The command `compare`, which sets two reports of one matrix side by side."""

from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import Positional

from mpdvae.errors import RunError
from mpdvae.system.untrusted_text import tell

if TYPE_CHECKING:
    from mpdvae.report.comparison import Claim, Comparison

SHOWN = 20
"""Maximum number of differing numbers printed."""


def compare(one: Positional[Path], other: Positional[Path]) -> None:
    """Compare two reports: which verdicts agree, which numbers differ.

    Exits with code 0 if no two verdicts contradict each other, with code 1 if any two do.

    One that cannot tell contradicts none.

    Args:
        one: results.json of `mpdvae reproduce`, or its folder.
        other: The other one, for example with other seeds or of another machine.
    """
    from mpdvae.report import comparison

    found = comparison.compare(comparison.read_results(one), comparison.read_results(other))
    _print_words(found)
    _print_numbers(found)
    if found.unmatched:
        tell("", f"Not compared, because only one report has them: {'; '.join(found.unmatched)}.")
    opposed = [words.claim for words in found.words if not words.agree]
    if opposed:
        raise RunError(f"{one} and {other}: the verdicts on {', '.join(opposed)} contradict each other.")
    tell("", f"{one} and {other}: no verdict contradicts another.")


def _print_words(found: "Comparison") -> None:
    from mpdvae.workflows.progress_display import plain, stdout, table_of

    table = table_of("claim", "data set", "one", "other", "agree")
    for words in found.words:
        same = words.one.verdict == words.other.verdict
        agree = "yes" if same else "one cannot tell" if words.agree else "NO"
        cells = [words.claim, words.dataset, _word(words.one), _word(words.other), agree]
        table.add_row(*map(plain, cells))
    stdout().print(table)


def _word(claim: "Claim") -> str:
    from mpdvae.report.numbers import percent

    return claim.verdict if claim.stability is None else f"{claim.verdict}, {percent(claim.stability)} of repeats"


def _print_numbers(found: "Comparison") -> None:
    from mpdvae.workflows.progress_display import plain, print_sentence, stdout, table_of

    shown = [*found.differing, *found.doubtful][:SHOWN]
    if shown:
        table = table_of("number", "one", "other", "z", "p", "")
        for n in shown:
            differs = "differs" if n.p < found.limit else "chance?"
            cells = [n.name, f"{n.one.value:.4g}", f"{n.other.value:.4g}", f"{n.z:+z.1f}", f"{n.p:.1g}", differs]
            table.add_row(*map(plain, cells))
        tell("")
        stdout().print(table)
    chance = 0.05 * len(found.numbers)
    tell("")
    print_sentence(
        f"{len(found.numbers)} numbers compared: {len(found.differing)} differ by more than both errors allow (p below "
        f"{found.limit:.1g}); {len(found.doubtful)} more lie beyond 5%, where chance puts about {chance:z.0f}.",
    )
