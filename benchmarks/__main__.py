"""The one entry point: `python -m benchmarks TOPIC [options]`."""

import ast
import sys
from importlib import import_module
from pathlib import Path

TOPICS = ("speed", "step", "gpu", "processes", "estimator", "remedies", "fidelity", "soak")


def summary(topic: str) -> str:
    """The first sentence of a topic's module, read without importing it."""
    text = ast.get_docstring(ast.parse(Path(__file__).with_name(f"{topic}.py").read_text())) or ""
    return text.split("\n\n")[0].replace("\n", " ")


def main() -> int:
    """Runs the topic that the command line names, with the rest of its arguments."""
    if sys.argv[1:2] and sys.argv[1] in TOPICS:
        import_module(f"benchmarks.{sys.argv[1]}").main(sys.argv[2:])
        return 0
    asked_for_help = sys.argv[1:] in ([], ["-h"], ["--help"])
    print(
        "python -m benchmarks TOPIC [options]; TOPIC --help lists its options",
        file=sys.stdout if asked_for_help else sys.stderr,
    )
    for topic in TOPICS:
        print(f"  {topic:<10} {summary(topic)}", file=sys.stdout if asked_for_help else sys.stderr)
    return 0 if asked_for_help else 2


if __name__ == "__main__":
    sys.exit(main())
