"""Shell completion scripts: lookup tables that the shell itself reads, so that a key press does not start Python.

The first word is a command; a word after an option that takes a value is that value; any other word that begins with a dash
is an option; the remaining words are positional arguments, in order.
"""

from collections.abc import Mapping

from mpdvae.commands.offers import Offers, Value

BASH = """\
# bash completion for mpdvae
_mpdvae() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]}
    local options= flags= words= files= place=0 i
    [[ $word == = ]] && word=
    [[ $before == = ]] && before=${COMP_WORDS[COMP_CWORD-2]}
    [[ $word == = || ${COMP_WORDS[COMP_CWORD]} == = ]] && before=${COMP_WORDS[COMP_CWORD-1]}
    COMPREPLY=()
    if (( COMP_CWORD == 1 )); then
        COMPREPLY=($(compgen -W "@COMMANDS@" -- "$word"))
        return
    fi
    case $command in
@OPTIONS@
    esac
    if [[ " $options " == *" $before "* ]]; then
        place=$before
    elif [[ $word == -* ]]; then
        COMPREPLY=($(compgen -W "$options $flags" -- "$word"))
        return
    else
        for (( i = 2; i < COMP_CWORD; i++ )); do
            if [[ " $options " == *" ${COMP_WORDS[i]} "* ]]; then
                (( i++ ))
                [[ ${COMP_WORDS[i]} == = ]] && (( i++ ))
            elif [[ ${COMP_WORDS[i]} != -* ]]; then
                (( place++ ))
            fi
        done
    fi
    case "$command $place" in
@VALUES@
    esac
    COMPREPLY=($(compgen -W "$words" -- "$word"))
    if [[ $files ]]; then
        compopt -o filenames 2> /dev/null
        COMPREPLY+=($(compgen -f -- "$word"))
    fi
}
complete -F _mpdvae mpdvae
"""

ZSH = """\
#compdef mpdvae
_mpdvae() {
    local -a commands
    commands=(
@COMMANDS@
    )
    if (( CURRENT == 2 )); then
        _describe 'command' commands
        return
    fi
    local command=$words[2]
    shift words
    (( CURRENT-- ))
    case $command in
@OPTIONS@
    esac
}
if [[ $funcstack[1] == _mpdvae ]]; then
    _mpdvae "$@"
else
    compdef _mpdvae mpdvae
fi
"""


def bash(commands: Mapping[str, Offers]) -> str:
    """Returns the completion script for bash."""
    options, values = [], []
    for name, offered in commands.items():
        options.append(f"{name}) options='{' '.join(offered.options)}' flags='{' '.join(offered.flags)}' ;;")
        taken = {f"{name} {option}": value for option, value in offered.options.items()}
        for i, value in enumerate(offered.positions):
            pattern = f'"{name} "[0-9]*' if value.repeats else f'"{name} {i}"'
            values.append(f"{pattern}) {_in_bash(value)} ;;")
        values += [f'"{key}") {_in_bash(value)} ;;' for key, value in taken.items() if value.choices or value.files]
    return _filled(BASH, COMMANDS=" ".join(commands), OPTIONS=_indented(options, 8), VALUES=_indented(values, 8))


def _in_bash(value: Value) -> str:
    return f"words='{' '.join(value.choices)}'{' files=yes' if value.files else ''}"


def zsh(commands: Mapping[str, Offers]) -> str:
    """Returns the completion script for zsh."""
    described = [f"{_quoted(f'{name}:{offered.summary}')}" for name, offered in commands.items()]
    cases = []
    for name, offered in commands.items():
        specs = [f"{flag}[{_plain(about)}]" for flag, about in offered.flags.items()]
        specs += [
            f"{'*' if value.repeats else ''}{option}=[{_plain(value.help)}]:{option.lstrip('-')}:{_in_zsh(value)}"
            for option, value in offered.options.items()
        ]
        specs += [f"{'*' if value.repeats else ''}:{name}:{_in_zsh(value)}" for value in offered.positions]
        cases.append(f"{name}) _arguments {' '.join(_quoted(spec) for spec in specs)} ;;")
    return _filled(ZSH, COMMANDS=_indented(described, 8), OPTIONS=_indented(cases, 8))


def _in_zsh(value: Value) -> str:
    if value.choices and value.files:
        return f"{{ compadd -- {' '.join(value.choices)}; _files }}"
    return "_files" if value.files else f"({' '.join(value.choices)})"


def fish(commands: Mapping[str, Offers]) -> str:
    """Returns the completion script for fish."""
    lines = ["# fish completion for mpdvae", "complete --command mpdvae --no-files"]
    for name, offered in commands.items():
        lines.append(f"complete -c mpdvae -n __fish_use_subcommand -a {name} -d {_quoted(offered.summary)}")
    for name, offered in commands.items():
        start = f"complete -c mpdvae -n '__fish_seen_subcommand_from {name}'"
        lines += [f"{start} -l {flag[2:]} -d {_quoted(about)}" for flag, about in offered.flags.items()]
        for option, value in offered.options.items():
            lines.append(f"{start} -l {option[2:]} -r{_in_fish(value)} -d {_quoted(value.help)}")
        lines += [f"{start}{_in_fish(value)}" for value in offered.positions]
    return "\n".join(lines) + "\n"


def _in_fish(value: Value) -> str:
    words = f" -a {_quoted(' '.join(value.choices))}" if value.choices else ""
    return f"{' -F' if value.files else ' -f'}{words}"


def _filled(template: str, **parts: str) -> str:
    for name, part in parts.items():
        template = template.replace(f"@{name}@", part)
    return template


def _indented(lines: list[str], by: int) -> str:
    return "\n".join(" " * by + line for line in lines)


def _plain(text: str) -> str:
    """Replaces or escapes the characters that are special to zsh's `_arguments`."""
    return text.translate(str.maketrans({"[": "(", "]": ")", ":": r"\:"}))


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
