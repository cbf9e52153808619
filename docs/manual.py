# SPDX-License-Identifier: Apache-2.0
"""The manual pages, made from the command lines and the models of the configuration files."""

import argparse
import enum
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

import typer
from roff import Page, bold, italic, literal

from refloat_agent import main as agent
from refloat_agent.config import AgentSettings
from refloat_cli import main as command_line
from refloat_cli.nhc import main as nhc
from refloat_cli.nhc import options as nhc_options
from refloat_cli.operator_file import OperatorSettings
from refloat_coordinator import main as coordinator
from refloat_coordinator.config import CoordinatorSettings
from refloat_service.reference import reference

_PROJECT: Final = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
_ALL: Final = (
    "refloat(1)", "refloat-agent(8)", "refloat-coordinator(8)", "nhc(8)",
    "refloat-agent.toml(5)", "refloat-coordinator.toml(5)", "refloat-operator.toml(5)",
)  # fmt: skip
_EXIT: Final = (
    ("0", "Good."),
    ("1", "The answer is bad: a node is unhealthy, a wave failed, a daemon or Slurm refused."),
    ("2", "Wrong usage or configuration."),
    ("3", "Unknown: a daemon, or Slurm, does not answer."),
)
_FILES: Final = {
    "/etc/refloat/agent.toml": "the agent's configuration, see **refloat-agent.toml**(5)",
    "/etc/refloat/coordinator.toml": "the coordinator's, see **refloat-coordinator.toml**(5)",
    "/run/refloat/agent.sock": "the agent's control socket",
    "/run/refloat/coordinator.sock": "the coordinator's",
    "/usr/share/doc/refloat-common/docs": "the whole documentation",
}


def pages(checks: str) -> dict[str, str]:
    """The text of each page by its file's name; ``checks`` is the reference of checks, in Markdown."""
    made = {"refloat.1": _refloat()}
    for name, command in sorted(_root().commands.items()):
        made[f"refloat-{name}.1"] = _command(name, command)
    made["refloat-agent.8"] = _agent()
    made["refloat-coordinator.8"] = _coordinator()
    made["nhc.8"] = _nhc()
    about = "configuration of the node agent of refloat"
    made["agent.toml.5"] = _settings("refloat-agent.toml", about, reference(AgentSettings, "keys"), checks)
    about = "configuration of the coordinator of refloat"
    made["coordinator.toml.5"] = _settings("refloat-coordinator.toml", about, reference(CoordinatorSettings, "keys"))
    about = "how an operator of refloat reaches the coordinator over MQTT"
    made["operator.toml.5"] = _settings("refloat-operator.toml", about, reference(OperatorSettings, "keys"))
    return made


def _page(name: str, section: int, about: str) -> Page:
    page = Page(name, section, _PROJECT["version"])
    page.section_head("Name")
    page.lines.append(f"{literal(name)} \\- {literal(about).replace(chr(92) + '-', '-')}")
    return page


def _end(page: Page, *more: str) -> str:
    page.section_head("See also")
    own = f"{page.name}({page.section})"
    page.raw(", ".join(_reference(name) for name in (*more, *_ALL) if name != own))
    return page.text


def _reference(name: str) -> str:
    base, _, section = name.partition("(")
    return f"{bold(base)}({section}"


# The command line


def _root() -> Any:  # typer carries a click of its own, without types
    return typer.main.get_command(command_line.app)


def _refloat() -> str:
    root = _root()
    page = _page("refloat", 1, "node health and rolling updates for Slurm clusters")
    page.section_head("Synopsis")
    page.raw(
        f"{bold('refloat')} [{bold('--version')}] [{bold('--help')}] {italic('command')} [{italic('argument')} ...]"
    )
    page.section_head("Description")
    page.paragraph(
        "Asks the daemons of refloat what they know and tells them what to do: `refloat-agent` on this compute node, "
        "or `refloat-coordinator` on this host. Every command has `--help`, and all that print have `--json`."
    )
    page.section_head("Commands")
    for name, command in sorted(root.commands.items()):
        page.item(_reference(f"refloat-{name}(1)"), command.help.split("\n\n")[0])
    page.section_head("Options")
    _options(page, root.params)
    _exit_status(page)
    _environment(page, root)
    page.section_head("Files")
    for path, what in _FILES.items():
        page.item(italic(path), f"{what}.")
    return _end(page)


def _command(name: str, command: Any) -> str:
    full = f"refloat {name}"
    page = _page(full.replace(" ", "-"), 1, _one_line(command.help))
    page.section_head("Synopsis")
    parts = {full: command} if not getattr(command, "commands", {}) or command.invoke_without_command else {}
    parts |= {f"{full} {sub}": found for sub, found in getattr(command, "commands", {}).items()}
    for words, part in parts.items():
        page.raw(_synopsis(words, part))
    page.section_head("Description")
    _prose(page, command)
    _options(page, command.params, "Options" if command.params else "")
    for words, part in parts.items():
        if part is not command:
            page.section_head(words)
            _prose(page, part)
            _options(page, part.params)
    _exit_status(page)
    _environment(page, command)
    return _end(page)


def _one_line(text: str) -> str:
    """The first sentence of a help, as the line by which apropos(1) finds the page."""
    sentence = re.split(r"[.:;](?:\s|$)", " ".join(text.split()))[0]
    return sentence[0].lower() + sentence[1:] if not sentence[1].isupper() else sentence


def _prose(page: Page, command: Any) -> None:
    for paragraph in (command.help or "").split("\n\n"):
        words = paragraph.split()
        if words and words[0] in {"scontrol", "squeue", "sacct", "SLURM_TIME_FORMAT=%s"}:
            page.example([" ".join(words)])
        else:
            page.paragraph(paragraph)
    if command.epilog:
        before, _, after = command.epilog.partition("Example: ")
        if before:
            page.paragraph(before)
        if after:
            page.paragraph("Example:")
            page.example([after])


def _synopsis(words: str, command: Any) -> str:
    parts = [bold(words)]
    if any(_is_option(parameter) for parameter in command.params):
        parts.append(f"[{italic('option')} ...]")
    for parameter in command.params:
        if not _is_option(parameter):
            name = italic(_shown(parameter)) + (" ..." if parameter.nargs != 1 or parameter.multiple else "")
            parts.append(name if parameter.required else f"[{name}]")
    return " ".join(parts)


def _options(page: Page, parameters: Iterable[Any], title: str = "") -> None:
    if title:
        page.section_head(title)
    for parameter in sorted(parameters, key=_is_option):
        if parameter.hidden or parameter.name in {"install_completion", "show_completion"}:
            continue
        if not _is_option(parameter):
            page.item(italic(_shown(parameter)), parameter.help or "-")
            continue
        value = "" if parameter.is_flag else f" {italic(_value(parameter))}"
        tag = ", ".join(f"{bold(option)}{value}" for option in (*parameter.opts, *parameter.secondary_opts))
        page.item(tag, _what(parameter))


def _is_option(parameter: Any) -> bool:
    return hasattr(parameter, "is_flag")


def _shown(parameter: Any) -> str:
    return str(parameter.metavar or parameter.name)


def _value(parameter: Any) -> str:
    if parameter.metavar:
        return str(parameter.metavar)
    kind = parameter.type_descriptor.annotation
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return "|".join(str(member.value) for member in kind)
    if get_origin(kind) is Literal:
        return "|".join(map(str, get_args(kind)))
    return {Path: "path", int: "number", float: "number"}.get(kind, "text")


def _what(parameter: Any) -> str:
    text = str(parameter.help or "-")
    shown = parameter.show_default
    if isinstance(shown, str):
        text += f" Default: {shown}."
    elif shown and not parameter.is_flag and parameter.default not in {None, ""}:
        text += f" Default: {getattr(parameter.default, 'value', parameter.default)}."
    return text + (f" Environment: {parameter.envvar}." if parameter.envvar else "")


def _exit_status(page: Page) -> None:
    page.section_head("Exit status")
    for status, what in _EXIT:
        page.item(bold(status), what)


def _environment(page: Page, command: Any) -> None:
    found = {
        parameter.envvar: parameter.help
        for part in _parts(command)
        for parameter in part.params
        if _is_option(parameter) and parameter.envvar
    }
    if found:
        page.section_head("Environment")
    for name, what in sorted(found.items()):
        page.item(bold(name), what)


def _parts(command: Any) -> Iterable[Any]:
    yield command
    for part in getattr(command, "commands", {}).values():
        yield from _parts(part)


# The daemons


def _agent() -> str:
    page = _daemon("refloat-agent", agent.parser(), "node agent of refloat")
    page.section_head("Signals")
    page.item(bold("SIGHUP"), "Read the configuration again, and take over changed checks (`systemctl reload`).")
    page.item(bold("SIGTERM"), "End. A cycle that is under way is gone on with by the next start.")
    page.section_head("Exit status")
    page.item(bold("1"), "Something failed that a restart may mend.")
    page.item(bold(str(agent.EX_CONFIG)), "The configuration is wrong; the unit does not restart on it.")
    _variables(page, "REFLOAT_AGENT", "SLURM__POLL_S=10")
    return _end(page)


def _coordinator() -> str:
    page = _daemon("refloat-coordinator", coordinator.parser(), "coordinator of refloat")
    page.section_head("Signals")
    page.item(bold("SIGTERM"), "End. Waves and permits are on disk, and are gone on with by the next start.")
    page.section_head("Exit status")
    page.item(bold(str(coordinator.EX_FAILED)), "Something failed that a restart may mend.")
    page.item(bold(str(coordinator.EX_USAGE)), "`--check-config`: the configuration is wrong.")
    page.item(bold(str(coordinator.EX_CONFIG)), "The configuration is wrong; the unit does not restart on it.")
    _variables(page, "REFLOAT_COORDINATOR", "FEED__PERIOD_S=2")
    return _end(page)


def _daemon(name: str, parser: argparse.ArgumentParser, about: str) -> Page:
    page = _page(name, 8, about)
    page.section_head("Synopsis")
    page.raw(f"{bold(name)} [{italic('option')} ...]")
    page.section_head("Description")
    page.paragraph(parser.description or "")
    page.section_head("Options")
    for action in parser._get_optional_actions():  # noqa: SLF001 - argparse shows them in no other way
        value = f" {italic(str(action.metavar or action.dest))}" if action.nargs is None else ""
        text = str(action.help or "").replace("%(default)s", str(action.default))
        page.item(", ".join(f"{bold(option)}{value}" for option in action.option_strings), text)
    return page


def _variables(page: Page, prefix: str, example: str) -> None:
    page.section_head("Environment")
    page.item(
        bold(f"{prefix}__KEY"),
        f"Overrides a key of the configuration; a table's keys are joined by two underscores: `{prefix}__{example}`.",
    )
    page.section_head("Files")
    for path, what in _FILES.items():
        page.item(italic(path), f"{what}.")


def _nhc() -> str:
    usage, _, rest = nhc_options.HELP.partition("\n\n")
    options, _, after = rest.partition("\n\n")
    page = _page("nhc", 8, "drop-in for the Node Health Check")
    page.section_head("Synopsis")
    page.raw(f"{bold('nhc')} {literal(usage.removeprefix('usage: nhc '))}")
    page.section_head("Description")
    page.paragraph(
        "Looks at the checks of an nhc.conf and marks the node in Slurm by what they find, with the options, "
        "variables, output and exit status of NHC. Where refloat-agent runs on the node with this nhc.conf, it answers."
    )
    page.paragraph(after.replace("docs/nhc.md", "`/usr/share/doc/refloat-common/docs/nhc.md`"))
    page.section_head("Options")
    for line in options.splitlines():
        tag, what = re.split(r"\s{2,}", line.strip(), maxsplit=1)
        option, _, value = tag.partition(" ")
        page.item(bold(option) + (f" {italic(value)}" if value else ""), what[0].upper() + what[1:] + ".")
    page.section_head("Exit status")
    page.item(bold("0"), "All checks passed.")
    page.item(bold(str(nhc.BAD_USAGE)), "The command line is wrong.")
    page.item(bold(str(nhc.TIMED_OUT)), "Not done in time; the node is left as it is.")
    page.item("other", "That of the check that failed, 1 for most.")
    return _end(page)


# The configuration files


def _settings(name: str, about: str, keys: str, checks: str = "") -> str:
    page = _page(name, 5, about)
    page.section_head("Description")
    file = name.removeprefix("refloat-")
    page.paragraph(
        f"`/etc/refloat/{file}` is TOML. An unknown key is an error that names the nearest known one; "
        f"`refloat config check /etc/refloat/{file}` tells before the daemon does."
    )
    page.markdown(keys)
    if checks:
        page.markdown(checks)
    return _end(page, "refloat-config(1)")
