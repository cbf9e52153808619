# SPDX-License-Identifier: Apache-2.0
"""The command line of `nhc`: NHC's options, variables as `NAME=value`, and two of refloat's own."""

from __future__ import annotations

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Final

HELP: Final = """\
usage: nhc [-adfhqvx] [-c FILE] [-D DIR] [-e CHECK] [-l LOG] [-n NAME] [-t SECONDS] [--fresh] [--local] [NAME=value ...]

  -a          look at all checks, and do not end with the first that fails (NHC_CHECK_ALL=1)
  -c FILE     configuration (CONFFILE; default DIR/NAME.conf)
  -D DIR      folder of the configuration (CONFDIR; default /etc/nhc)
  -d          log what is done (DEBUG=1)
  -e CHECK    look at one check only; no configuration, no log file, and the node is not marked
  -f          accepted, and needs nothing: no check can take the others with it (NHC_CHECK_FORKED=1)
  -h          print this
  -l LOG      log to a path, to a redirection as in '>>/var/log/nhc.log 2>&1', or with '-' to standard output (LOGFILE)
  -n NAME     name of the program, which gives the default paths (NAME)
  -q          print nothing (SILENT=1)
  -t SECONDS  for the whole run (TIMEOUT; default 30, and at most 45 unless it is given here)
  -v          log each check (VERBOSE=1)
  -x          trace what bash runs
  --fresh     where the agent runs: have it look now, and do not take its last results
  --local     look from here, also where the agent runs

All other arguments are variables of NHC. Drop-in for the Node Health Check; see docs/nhc.md.
"""
_VARIABLES: Final = {
    "a": ("NHC_CHECK_ALL", "1"),
    "c": ("CONFFILE", None),
    "D": ("CONFDIR", None),
    "d": ("DEBUG", "1"),
    "f": ("NHC_CHECK_FORKED", "1"),
    "l": ("LOGFILE", None),
    "n": ("NAME", None),
    "q": ("SILENT", "1"),
    "t": ("TIMEOUT", None),
    "v": ("VERBOSE", "1"),
}
_WITH_VALUE: Final = frozenset("Dcelnt")
_FLAGS: Final = {"h": "help", "x": "trace"}
_LONG: Final = frozenset({"fresh", "local"})


class BadUsage(Exception):
    """The command line is wrong."""


class Asked:
    """What the command line asks for; `variables` in the order in which they were given."""

    def __init__(self) -> None:
        self.variables: dict[str, str] = {}
        self.check: str | None = None
        self.help = False
        self.trace = False
        self.fresh = False
        self.local = False


def parse(arguments: Sequence[str]) -> Asked:
    """Read a command line. Raises BadUsage."""
    asked = Asked()
    rest = list(arguments)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        word = rest.pop(0)
        if word == "--":
            break
        if word.startswith("--"):
            if word[2:] not in _LONG:
                raise BadUsage(f"Invalid option:  {word}")
            setattr(asked, word[2:], True)
        else:
            _take_letters(asked, word[1:], rest)
    for argument in rest:
        _assign(asked, argument)
    return asked


def _take_letters(asked: Asked, letters: str, rest: list[str]) -> None:
    """Take single-letter options, bundled or not; an argument is what follows a letter, or else the next word."""
    while letters:
        letter, letters = letters[0], letters[1:]
        value = ""
        if letter in _WITH_VALUE:
            if not letters and not rest:
                raise BadUsage(f"Option -{letter} requires an argument.")
            value, letters = letters or rest.pop(0), ""
        if letter in _VARIABLES:
            name, fixed = _VARIABLES[letter]
            asked.variables[name] = value if fixed is None else fixed
        elif letter == "e":
            asked.check = value
        elif letter in _FLAGS:
            setattr(asked, _FLAGS[letter], True)
        else:
            raise BadUsage(f"Invalid option:  -{letter}")


def _assign(asked: Asked, argument: str) -> None:
    name, equals, value = argument.partition("=")
    if not equals or not name.isidentifier():
        raise BadUsage(f"not a variable:  {argument}")
    from refloat_checks.nhc import words  # noqa: PLC0415 - slurmd gives no such argument

    command = words.parse(argument)
    # NHC evaluates the argument; what is more than plain text is taken as it stands here, for it may be data.
    plain = dict(command.assignments) if command is not None else {}
    known = words.joined(plain[name], asked.variables.get) if len(plain) == 1 and name in plain else None
    asked.variables[name] = value if known is None else known
