# SPDX-License-Identifier: Apache-2.0
"""Everything of ours that reads what others wrote, as functions of bytes.

A target ends by itself or raises one of the errors that it may raise; anything else is a fault. Where a check reads a
file of the kernel or the answer of a tool, its runner turns any Exception into UNKNOWN, which drains nothing; what does
not end is a fault there, too.
"""

import contextlib
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refloat_agent import config
from refloat_agent.config import AgentSettings
from refloat_agent.effects.storage import lustre, systemd, table
from refloat_agent.events import links
from refloat_checks import gpfs, kernel_follower, kernel_lines, kernel_rules, proc, titles
from refloat_checks.kernel_faults import NOTHING, fold
from refloat_checks.nhc import lint, match, plan, registry, words
from refloat_checks.process_titles import Title
from refloat_contract import messages, reasons, topics
from refloat_contract.errors import RefloatError
from refloat_coordinator import bus, hostlists
from refloat_coordinator.config import CoordinatorSettings
from refloat_service import settings
from refloat_slurm import answers, states

Errors = type[BaseException] | tuple[type[BaseException], ...]


@dataclass(frozen=True, slots=True)
class Target:
    """One reader, the errors that it may raise, and examples of what it reads."""

    name: str
    read: Callable[[bytes], Any]
    may_raise: Errors
    examples: tuple[bytes, ...]

    def __call__(self, data: bytes) -> None:
        """Read; an error that may be raised is none."""
        with contextlib.suppress(*(self.may_raise if isinstance(self.may_raise, tuple) else (self.may_raise,))):
            self.read(data)


def _text(data: bytes) -> str:
    # As subprocess and files are decoded: what is no UTF-8 becomes surrogates.
    return data.decode("utf-8", "surrogateescape")


def _reason(data: bytes) -> None:
    text = _text(data)
    reasons.parse(text)
    reasons.one_line(text)
    reasons.write_hold(text, "c1", text)
    reasons.write_health([("check", text)])


_NODE_READERS: Mapping[str, Callable[[str], Any]] = {
    "sinfo": lambda text: answers.read_sinfo(text, "n1"),
    "scontrol show node": lambda text: answers.read_node(text, "n1"),
    "scontrol show nodes": answers.read_nodes,
    "squeue": answers.read_squeue,
    "squeue -a": answers.read_all_jobs,
    "partitions": answers.read_partitions,
    "sacctmgr": lambda text: answers.read_admin_level(text, "alice"),
}


def _slurm(data: bytes) -> None:
    text = _text(data)
    for read in _NODE_READERS.values():
        with contextlib.suppress(RefloatError):
            read(text)
    with contextlib.suppress(ValueError):  # who asks for flags makes it an error of ours
        states.parse_flags(text)


def _nhc_conf(data: bytes) -> None:
    text = _text(data)
    plan.make(text, "n1", {}, registry.is_native)
    lint.lint(text, ())


def _nhc_words(data: bytes) -> None:
    command = words.parse(_text(data))
    if command is not None:
        list(words.names(command))
        for word in command.words:
            words.expand(word, {"HOSTNAME": "n1"}.get)


def _match_string(data: bytes) -> None:
    pattern, _, text = _text(data).partition("\n")
    match.matches(pattern, text[:4096])


def _toml(data: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        for model, prefix in ((AgentSettings, config.ENV_PREFIX), (CoordinatorSettings, "REFLOAT_COORDINATOR")):
            with contextlib.suppress(RefloatError):
                settings.load(model, Path(file.name), env_prefix=prefix, env={})


def _mqtt(data: bytes) -> None:
    topic, _, payload = data.partition(b"\n")
    with contextlib.suppress(RefloatError):
        topics.parse(_text(topic))
    with contextlib.suppress(RefloatError):
        bus.read(_text(topic), payload)
    for model in (
        messages.NodeStatus,
        messages.Event,
        messages.Request,
        messages.Order,
        messages.SlurmView,
        messages.CoordinatorStatus,
        messages.WaveReport,
        messages.OperatorRequest,
        messages.OperatorAnswer,
    ):
        with contextlib.suppress(RefloatError):
            messages.encode(messages.decode(model, payload))


_NEEDLES = kernel_follower.by_needle(kernel_rules.RULES)


def _kernel_log(data: bytes) -> None:
    records = data.split(b"\0")
    found = kernel_follower.suspects(records, _NEEDLES)
    fold(NOTHING, ((kernel_lines.message(record), kernel_lines.logged_at_s(record), rules) for record, rules in found))
    for record in records:
        kernel_lines.number(record)


def _titles(data: bytes) -> None:
    title = " ".join(proc.parse_cmdline(data))
    shown = {title.partition(" ")[0]: [Title(1, title)]}
    for pattern in ("sshd", "/^sshd/", "*d*", "{n[1-9]}"):
        list(titles.with_line(shown, pattern))
        list(titles.with_word(shown, pattern, "sshd"))
    titles.is_session(title, "sshd")
    proc.parse_stat(_text(data))


def _tables(data: bytes) -> None:
    text = _text(data)
    for read in (
        proc.parse_mountinfo,
        proc.parse_mounts,
        table.parse,
        systemd.parse_show,
        lustre.parse_imports,
        gpfs.parse,
    ):
        with contextlib.suppress(Exception):
            read(text)


TARGETS = (
    Target(
        "reason",
        _reason,
        (),
        (b"reboot: kernel image=i wave=w", b"rebooting refloat=c1 was: ", b"refloat-hold: x refloat=c was: "),
    ),
    Target("slurm", _slurm, (), (b"NodeName=n1 State=IDLE+DRAIN Reason=reboot [root@2026-01-01T00:00:00]\n",)),
    Target(
        "nhc_conf",
        _nhc_conf,
        RefloatError,
        (b"* || check_fs_mount_rw -f /scratch\n{n[1-9]} || check_ps_service sshd\n",),
    ),
    Target("nhc_words", _nhc_words, RefloatError, (b'check_fs_free "$FOO" 3% `id` $(( 1 + 2 ))', b"a || b && c")),
    Target(
        "match_string", _match_string, RefloatError, (b"/^n(od)*e[0-9]+$/\nnode12", b"*[!a-z]?\nn1", b"{n[1-4,7]}\nn3")
    ),
    Target(
        "hostlist",
        lambda data: hostlists.expand(_text(data)),
        RefloatError,
        (b"n[1-4,7]", b"n[1-2]m[3-4]", b"@all", b"4[-66666666666666661]", b"n[-]"),
    ),
    Target("toml", _toml, (), (b'cluster = "c"\n[mqtt]\nhost = "h"\n[[check]]\ntype = "mount"\npath = "/"\n',)),
    Target("mqtt", _mqtt, (), (b'refloat/v1/c/node/n1/order\n{"v":1,"id":"o","node":"n1","kind":"grant","epoch":1}',)),
    Target(
        "operator",
        _mqtt,
        (),
        (
            b'refloat/v1/c/operator/refloat-operator-a/request\n{"v":1,"id":"0123456789abcdef","ticket":"t"}',
            b'refloat/v1/c/operator/refloat-operator-a/answer\n{"v":1,"request":"r","answer":"a","part":1,"text":"{"}',
            b'refloat/v1/c/operator/o/request\n{"operator":"o","command":"wave_start","arguments":{"spec":{}}}',
        ),
    ),
    Target(
        "kernel_log", _kernel_log, OSError, (b"6,1,100,-;EDAC MC0: 1 CE\0003,2,200,-;nfs: server x not responding",)
    ),
    Target("titles", _titles, Exception, (b"/usr/sbin/sshd\0-D\0", b"sshd: alice@pts/0\0")),
    Target("tables", _tables, (), (b"22 1 0:21 / /proc rw,nosuid shared:5 - proc proc rw\n",)),
    Target("netlink", lambda data: list(links.parse(data)), Exception, (b"\x20\0\0\0\x10\0\0\0" + bytes(24),)),
)
