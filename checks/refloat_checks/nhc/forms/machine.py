# SPDX-License-Identifier: Apache-2.0
"""The forms of NHC's checks of hardware, networks and programs."""

from collections.abc import Callable, Sequence
from typing import Final

from refloat_checks.nhc.arithmetic import evaluate
from refloat_checks.nhc.checks import cmd, net_ping, net_sockets
from refloat_checks.nhc.forms.form import Converted, Form, NoForm, Table, accepted, one, options, severity, size, whole
from refloat_checks.nhc.native import BadWords

_SOCKET: Final = {
    "p": "protocol",
    "l": "local",
    "r": "remote",
    "s": "state",
    "t": "socket_type",
    "u": "user",
    "d": "program",
}
_NONE: Final = {"min_count": 0, "max_count": 0}


def _cpuinfo(words: Sequence[str]) -> Converted:
    counts = [whole(text) for text in [*words, "", "", ""][:3]]
    return one({"type": "cpu", **dict(zip(("sockets", "cores", "threads"), counts, strict=True))})


def _total(what: str) -> Callable[[Sequence[str]], Converted]:
    def convert(words: Sequence[str]) -> Converted:
        least, most, fudge = [*words, "", "", ""][:3]
        if not most:
            raise NoForm("without a largest size NHC's check always fails")
        return one({"type": "memory", f"min_{what}": size(least), f"max_{what}": size(most), "tolerance": size(fudge)})

    return convert


def _free(key: str) -> Callable[[Sequence[str]], Converted]:
    def convert(words: Sequence[str]) -> Converted:
        text = words[0] if words else ""
        if not text or text.endswith("%"):
            raise NoForm("it names no size")
        return one({"type": "memory", key: size(text)})

    return convert


def _infiniband(words: Sequence[str]) -> Converted:
    rate, device = [*words, "", ""][:2]
    if rate and not rate.replace(".", "", 1).isdigit():
        raise NoForm(f"{rate!r} is not a rate in Gb/s")
    table = {"port": device, "min_active": 1, "rate_gbps": float(rate) if rate else None, "umad": True}
    return one({"type": "infiniband", **table})


def _ethernet(words: Sequence[str]) -> Converted:
    return one({"type": "link", "interface": "".join(words[:1]), "up": False})


def _myrinet(words: Sequence[str]) -> Converted:
    return one({"type": "link", "interface": "".join(words[:1]), "up": False, "module": "gm"})


def _socket(words: Sequence[str]) -> Converted:
    wanted = accepted(net_sockets.read_words(words))
    table = {_SOCKET[letter]: pattern for letter, pattern in wanted.patterns.items()}
    acts = ((wanted.action, "-e"), (wanted.found_action, "-E"))
    return one(
        {
            "type": "socket",
            **table,
            **(_NONE if wanted.negated else {}),
            "severity": severity(is_fatal=wanted.is_fatal),
        },
        (letter for is_asked, letter in acts if is_asked),
    )


def _ping(words: Sequence[str]) -> Converted:
    try:
        wanted = accepted(net_ping.read_words(words))
    except BadWords as error:
        raise NoForm(str(error)) from error
    ping = wanted.ping
    table = {"count": ping.count, "timeout_s": ping.deadline_s, "ttl": ping.ttl, "source": ping.source}
    spaced = {"spacing_s": ping.interval_s} if "-i" in wanted.options else {}
    sized = {"size_bytes": ping.size} if "-s" in wanted.options else {}
    left_out = ("-W",) if "-W" in wanted.options else ()
    return one({"type": "ping", "hosts": list(wanted.hosts), **table, **spaced, **sized}, left_out)


def _command(words: Sequence[str], spec: str, name: str) -> tuple[Table, list[str], list[str]]:
    """Read what runs, and give its table, its patterns, and what is left out."""
    read = options(name, spec, words)
    argv = read.last("e").split() or list(read.rest)
    status, seconds = read.last("r"), read.last("t")
    table: Table = {"argv": argv, "exit_status": whole(status) or None, "deadline_s": float(whole(seconds) or 5)}
    return table, list(read.all("m")), [f"-{letter}" for letter in "MO" if read.has(letter)]


def _output(words: Sequence[str]) -> Converted:
    table, patterns, left_out = _command(words, ":C:M:O:e:m:r:t:", "check_cmd_output")
    if not table["argv"]:
        raise NoForm("it names no command")
    return one({"type": "command", **table, "output": patterns}, left_out)


def _status(words: Sequence[str]) -> Converted:
    table, _, _ = _command(words, ":C:r:t:", "check_cmd_status")
    if not table["argv"] or table["argv"][0] in cmd.BUILTINS:
        raise NoForm("only the shell knows that command")
    return one({"type": "command", **table})


def _dmesg(words: Sequence[str]) -> Converted:
    table, patterns, left_out = _command(words, ":M:e:m:r:t:", "check_cmd_dmesg")
    if not patterns or table.pop("exit_status"):
        raise NoForm("it asks for no line, or for dmesg to fail")
    return one({"type": "dmesg", "lines": patterns, **table}, left_out)


def _dmi(words: Sequence[str]) -> Converted:
    read = options("check_dmi_data_match", ":!h:nt:", words)
    is_marked = read.rest[:1] == ("!",)
    handles = [evaluate(handle) for handle in read.last("h").split()]
    if None in handles:
        raise NoForm("a handle that is no number")
    return one(
        {
            "type": "dmi",
            "line": " ".join(read.rest[1:] if is_marked else read.rest),
            "structure": read.last("t"),
            "handles": handles,
            "exists": False if is_marked or read.has("!") or read.has("n") else None,
        }
    )


def _dmi_raw(words: Sequence[str]) -> Converted:
    is_marked = words[:1] == ["!"]
    line = " ".join(words[1:] if is_marked else words)
    return one({"type": "dmi", "line": line, "raw": True, "exists": False if is_marked else None})


def _nothing(**table: str) -> Callable[[Sequence[str]], Converted]:
    return lambda _: one(dict(table))


def _moab(ask: str, spec: str) -> Callable[[Sequence[str]], Converted]:
    def convert(words: Sequence[str]) -> Converted:
        read = options("check_moab", spec, words)
        seconds = float(whole(read.last("t")) or 5)
        table = {"version": read.last("v"), "alert": read.last("a"), "deadline_s": seconds}
        return one({"type": "moab", "ask": ask, **table}, ("-m",) if read.has("m") else ())

    return convert


FORMS: Final = (
    Form("check_hw_cpuinfo", "check_hw_cpuinfo 2 128 256", _cpuinfo),
    Form("check_hw_physmem", "check_hw_physmem 500G 512G 3%", _total("total")),
    Form("check_hw_physmem_free", "check_hw_physmem_free 1G", _free("min_free")),
    Form("check_hw_swap", "check_hw_swap 8G 8G", _total("swap")),
    Form("check_hw_swap_free", "check_hw_swap_free 1G", _free("min_swap_free")),
    Form("check_hw_mem", "check_hw_mem 508G 520G 3%", _total("with_swap")),
    Form("check_hw_mem_free", "check_hw_mem_free 2G", _free("min_with_swap_free")),
    Form("check_hw_ib", "check_hw_ib 200 mlx5_0:1", _infiniband),
    Form("check_hw_eth", "check_hw_eth eth0", _ethernet),
    Form("check_hw_gm", "check_hw_gm myri0", _myrinet),
    Form("check_hw_mcelog", "check_hw_mcelog", _nothing(type="mcelog")),
    Form("check_net_socket", "check_net_socket -p tcp -s LISTEN -l '*:22' -d 'sshd*'", _socket),
    Form("check_net_ping", "check_net_ping -c 3 -w 5 mds1 mds2", _ping),
    Form("check_cmd_output", "check_cmd_output -t 10 -m '*Disabled*' -m '!*Error*' getenforce", _output),
    Form("check_cmd_status", "check_cmd_status -t 10 -r 0 /usr/local/sbin/site-check --all", _status),
    Form("check_cmd_dmesg", "check_cmd_dmesg -m '!*I/O error, dev sd*'", _dmesg),
    Form("check_dmi_data_match", "check_dmi_data_match -t 'BIOS Information' '*: Version: 2.19.1'", _dmi),
    Form("check_dmi_raw_data_match", "check_dmi_raw_data_match '*Version: 2.19.1'", _dmi_raw),
    Form("check_nv_healthmon", "check_nv_healthmon", _nothing(type="nvidia_tool", tool="nvidia-healthmon")),
    Form("check_nvsmi_healthmon", "check_nvsmi_healthmon", _nothing(type="nvidia_tool", tool="nvidia-smi")),
    Form("check_moab_sched", "check_moab_sched -v '9.1.*' -a '*'", _moab("scheduler", ":a:m:t:v:")),
    Form("check_moab_rm", "check_moab_rm", _moab("resource_managers", ":m:t:")),
    Form("check_moab_torque", "check_moab_torque", _moab("torque", ":m:t:")),
)
