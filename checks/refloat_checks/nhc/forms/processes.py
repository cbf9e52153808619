# SPDX-License-Identifier: Apache-2.0
"""The forms of NHC's checks of processes. What they do to processes is left out: checks in TOML only look."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from refloat_checks.nhc import units
from refloat_checks.nhc.checks import services
from refloat_checks.nhc.forms.form import (
    Converted,
    Form,
    NoForm,
    Table,
    accepted,
    one,
    options,
    plain_user,
    severity,
    size,
    whole,
)

_NONE: Final = {"min_count": 0, "max_count": 0}
_ACTS: Final = ("k", "K", "r", "e")


def _service(words: Sequence[str]) -> Converted:
    service = accepted(services.read_words(words))
    read = options(services.NAME, ":0E:SVcd:e:fkm:rsu:v", words)
    return one(
        {
            "type": "process",
            **_titled(service, is_default=not read.last("m")),
            "user": plain_user(service.owner),
            **({} if service.must_run else _NONE),
            "severity": severity(is_fatal=service.is_fatal),
        },
        [f"-{letter}" for letter in "SrceEksvV" if read.has(letter)],
    )


def _titled(service: services.Service, *, is_default: bool) -> Table:
    if service.whole_line:
        return {"pattern": service.pattern}
    is_name = is_default and service.must_run and not set(service.daemon) & set("/*?[!{( ")
    return {"process": service.daemon} if is_name else {"argv0": service.pattern}


def _part(*, must_run: bool) -> Callable[[Sequence[str]], Converted]:
    def convert(words: Sequence[str]) -> Converted:
        command, owner, arguments = [*words, "", "", ""][:3]
        if not command:
            raise NoForm("it names no process")
        part = f"{command} {arguments}" if arguments else command
        return one(
            {
                "type": "process",
                "contains": part,
                "user": plain_user(owner),
                **({} if must_run else _NONE),
            }
        )

    return convert


def _usage(name: str, key: str, read_limit: Callable[[str], Any]) -> Callable[[Sequence[str]], Converted]:
    def convert(words: Sequence[str]) -> Converted:
        read = options(name, ":0AKae:fklm:r:su:", words)
        if not read.rest:
            raise NoForm("it sets no limit")
        return one(
            {
                "type": "usage",
                key: read_limit(read.rest[0]),
                "pattern" if read.has("f") else "program": read.last("m"),
                "user": read.last("u"),
                "system_users": True if read.has("A") else None,
                "severity": severity(is_fatal=not read.has("0")),
            },
            [f"-{letter}" for letter in _ACTS if read.has(letter)],
        )

    return convert


def _loadavg(words: Sequence[str]) -> Converted:
    limits = [whole(text) for text in [*words, "", "", ""][:3]]
    return one({"type": "load", **dict(zip(("below_1m", "below_5m", "below_15m"), limits, strict=True))})


def _kswapd(words: Sequence[str]) -> Converted:
    threshold, ratio, *reactions = [*words, "", ""] if len(words) < 2 else words  # noqa: PLR2004 - two limits
    limits = {"max_cpu_s": whole(threshold), "max_ratio": whole(ratio)}
    return one({"type": "kswapd", **limits, "severity": _severity(reactions)})


def _severity(reactions: Sequence[str]) -> str | None:
    """Only reported, where the words that say what is to be done end before `die`."""
    spoken = " ".join(reactions).split() or ["die"]
    before = spoken[: spoken.index("ignore")] if "ignore" in spoken else spoken
    return severity(is_fatal="die" in before)


def _strangers(name: str, kind: str) -> Callable[[Sequence[str]], Converted]:
    def convert(words: Sequence[str]) -> Converted:
        read = options(name, ":c:u:n:p:", words)
        users = " ".join(read.all("n")).split()
        left_out = ["-p"] if read.has("p") else []
        return one(
            {
                "type": kind,
                "allowed": ["root", "nobody", *users] if users else None,
                "ignore_programs": " ".join(read.all("c")).split(),
                "ignore_uids": [whole(uid) for uid in " ".join(read.all("u")).split()],
                "severity": _severity(read.rest),
            },
            [*left_out, *(word for word in " ".join(read.rest).split() if word == "kill")],
        )

    return convert


def _percent(text: str) -> int | None:
    return whole(text.removesuffix("%"))


FORMS: Final = (
    Form("check_ps_service", "check_ps_service -u root sshd", _service),
    Form("check_ps_daemon", "check_ps_daemon munged munge", _part(must_run=True)),
    Form("check_ps_blacklist", "check_ps_blacklist ypbind", _part(must_run=False)),
    Form("check_ps_cpu", "check_ps_cpu -0 -m '*/java' 90%", _usage("check_ps_cpu", "cpu_percent_below", _percent)),
    Form("check_ps_mem", "check_ps_mem -0 128G", _usage("check_ps_mem", "virtual_below", size)),
    Form("check_ps_physmem", "check_ps_physmem -0 -u '!root' 25%", _usage("check_ps_physmem", "ram_below", size)),
    Form("check_ps_time", "check_ps_time -0 -A 60m", _usage("check_ps_time", "cpu_s_below", units.parse_cputime)),
    Form("check_ps_loadavg", "check_ps_loadavg 512 384 256", _loadavg),
    Form("check_ps_kswapd", "check_ps_kswapd 1800 100 log", _kswapd),
    Form(
        "check_ps_unauth_users",
        "check_ps_unauth_users -n 'monitor backup' log",
        _strangers("check_ps_unauth_users", "users"),
    ),
    Form(
        "check_ps_userproc_lineage",
        "check_ps_userproc_lineage -c sshd: log",
        _strangers("check_ps_userproc_lineage", "lineage"),
    ),
)
