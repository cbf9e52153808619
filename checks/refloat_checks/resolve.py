# SPDX-License-Identifier: Apache-2.0
"""Check that names are found, and soon: hosts in DNS, users and groups in LDAP or SSSD, as getent finds them."""

from enum import StrEnum
from typing import Final, Self

from pydantic import Field, model_validator

from refloat_checks.api import Finding, Limits, failed, unknown
from refloat_checks.commands import OUTPUT_CAP_BYTES, not_run
from refloat_checks.facts import Facts
from refloat_checks.nhc.match import matches
from refloat_checks.nhc.match_string import MatchString
from refloat_checks.verdicts import verdict
from refloat_contract.errors import Transient
from refloat_service import commands
from refloat_service.completed import Completed

_NOT_FOUND: Final = 2  # getent(1): a key is not in the database


class Database(StrEnum):
    """What to look up."""

    HOSTS = "hosts"
    AHOSTS = "ahosts"
    AHOSTSV4 = "ahostsv4"
    AHOSTSV6 = "ahostsv6"
    PASSWD = "passwd"  # noqa: S105 - the table's name
    GROUP = "group"
    INITGROUPS = "initgroups"
    NETGROUP = "netgroup"
    SERVICES = "services"


class ResolveLimits(Limits):
    """Which name must be found, in which time. A name that only DNS or LDAP knows tells that those answer.

    ```toml
    [[check]]
    name = "dns"
    type = "resolve"
    database = "ahosts"
    key = "fileserver.example.org"

    [[check]]
    name = "ldap"
    type = "resolve"
    database = "passwd"
    key = "canary"
    expect = "canary:*:/home/canary:*"
    answer_within_s = 2
    fail_after = 3
    ```
    """

    database: Database = Field(description="Where to look, as in `getent database key`.")
    key: str = Field(pattern=r"^[^-\s]\S*$", description="The name, number or address to look up.")
    expect: MatchString | None = Field(None, description="Match string that a line of the answer must match.")
    answer_within_s: float = Field(
        5.0, gt=0, description="The answer must be there in this time; less than `deadline_s`."
    )
    found: bool = Field(default=True, description="false: it must not be found.")

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if not self.found and self.expect is not None:
            raise ValueError("what must not be found (found = false) has no answer to expect")
        return self


def judge(done: Completed, limits: ResolveLimits, name: str) -> Finding:
    """Compare what getent answered with what is asked for."""
    what = f"{limits.database} {limits.key}"
    measures = {"answered_s": done.duration_s}
    if done.returncode == _NOT_FOUND:
        return verdict(
            name, f"{what} is not found", [f"{what} is not found"] if limits.found else [], measures=measures
        )
    if done.returncode != 0:
        return unknown(name, f"getent {what} ended with {done.returncode}: {not_run(done) or done.complaint}")
    if not limits.found:
        return verdict(name, "", [f"{what} is found, and should not be"], measures=measures)
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    if limits.expect is not None and not any(matches(limits.expect, line) for line in lines):
        wrong = [f"{what} is {lines[0] if lines else 'empty'} (should be {limits.expect})"]
        return verdict(name, "", wrong, measures=measures)
    return verdict(name, f"{what} is found in {done.duration_s:.2g} s", measures=measures)


async def look(facts: Facts, limits: ResolveLimits, name: str) -> Finding:
    """Look it up in a process of its own, as any program on the node would."""
    facts.require_running()
    argv = ("getent", limits.database.value, limits.key)
    try:
        done = await commands.run(argv, deadline_s=limits.answer_within_s, cap_bytes=OUTPUT_CAP_BYTES)
    except Transient:
        # That no answer comes is what this check is for.
        return failed(name, f"{limits.database} {limits.key}: no answer within {limits.answer_within_s:g} s")
    return judge(done, limits, name)
