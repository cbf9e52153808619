# SPDX-License-Identifier: Apache-2.0
"""`refloat pki`: the certificates by which the broker knows its nodes, and they know the broker."""

# ruff: noqa: PLC0415 - a command line that imports what it does not run starts slowly

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from refloat_cli.options import Json

if TYPE_CHECKING:
    from refloat_cli.pki.store import Issued, Store

app = typer.Typer(
    no_args_is_help=True, help="Certificates for the broker and those who log in to it: a small authority of your own."
)

DEFAULT_FOLDER: Final = Path("/etc/refloat/pki")
_SOON_DAYS: Final = 30
_WORTH_A_BAR: Final = 200

Folder = Annotated[
    Path, typer.Option("--dir", envvar="REFLOAT_PKI_DIR", help="The authority's folder; keep it off the nodes.")
]
Names = Annotated[str, typer.Argument(help="Hostlist: n[1-100].", show_default=False)]
Days = Annotated[int, typer.Option(min=1, max=3650, help="How long they count.")]


class As(StrEnum):
    """Whose certificate."""

    NODE = "node"
    COORDINATOR = "coordinator"
    OPERATOR = "operator"
    BROKER = "broker"


@app.command(epilog="Example: refloat pki init")
def init(
    *,
    name: Annotated[str, typer.Option(help="The authority's name.")] = "refloat authority",
    days: Annotated[int, typer.Option(min=1, max=36500, help="How long it counts.")] = 3650,
    folder: Folder = DEFAULT_FOLDER,
    json: Json = False,
) -> None:
    """Make an authority: ca.pem for everybody, ca.key for nobody, crl.pem for the broker."""
    store = _store(folder)
    made = store.init(name, _now(), days)
    ends = made.certificate.not_valid_after_utc
    _tell(json, {"dir": str(folder), "ends": ends.timestamp()}, f"{folder}/ca.pem: good until {ends:%Y-%m-%d}")


@app.command(epilog="Example: refloat pki issue 'n[1-100]'; refloat pki issue --role broker ctl --also 10.0.0.1")
def issue(
    names: Annotated[
        str, typer.Argument(help="Hostlist n[1-100], the broker's host, or users a,b.", show_default=False)
    ] = "",
    *,
    role: Annotated[As, typer.Option(help="Whose they are; an operator without a name only looks on.")] = As.NODE,
    also: Annotated[list[str] | None, typer.Option(help="Another name or address of the broker; repeat it.")] = None,
    days: Days = 365,
    folder: Folder = DEFAULT_FOLDER,
    json: Json = False,
) -> None:
    """Issue certificates, each with a new key; names that have one that counts keep it."""
    from refloat_cli.pki.authority import Role

    chosen = _names(names, role)
    hosts = (*chosen, *(also or ())) if role is As.BROKER else ()
    issued, kept = _store(folder).issue(Role(role), chosen, _now(), days, hosts=hosts, progress=_shown)
    said = f"issued {len(issued)}, kept {len(kept)}: {folder}/issued"
    _tell(json, {"issued": _rows(issued), "kept": _rows(kept)}, said)


@app.command(epilog="Example: refloat pki renew --within 30")
def renew(
    names: Annotated[str, typer.Argument(help="Hostlist; without it all of them.", show_default=False)] = "",
    *,
    within: Annotated[int | None, typer.Option(min=0, help="Only those that end in so many days.")] = None,
    days: Days = 365,
    folder: Folder = DEFAULT_FOLDER,
    json: Json = False,
) -> None:
    """Issue new certificates, with new keys, to names that have one; the old ones count until they end.

    Without names: all that end within 30 days. Daemons take a new file at their next connection to the broker.
    """
    from refloat_cli.pki.authority import Role

    store, now = _store(folder), _now()
    days_left = within if within is not None else 36500 if names else _SOON_DAYS
    old = store.expiring(_expanded(names) if names else None, now, timedelta(days=days_left))
    renewed: list[Issued] = []
    for role in Role:
        mine = [one.name for one in old if one.role == role]
        groups = [[name] for name in mine] if role is Role.BROKER else [mine] if mine else []
        for group in groups:
            hosts = store.hosts(group[0]) if role is Role.BROKER else ()
            renewed += store.issue(role, group, now, days, hosts=hosts, progress=_shown, again=True)[0]
    _tell(json, {"issued": _rows(renewed)}, f"renewed {len(renewed)}: {folder}/issued")


@app.command(epilog="Example: refloat pki revoke n7")
def revoke(names: Names, *, folder: Folder = DEFAULT_FOLDER, json: Json = False) -> None:
    """Let the certificates of these names count no more; copy crl.pem to the broker, and restart it, to make it so."""
    revoked = _store(folder).revoke(_expanded(names), _now())
    _tell(json, {"revoked": _rows(revoked)}, f"revoked {len(revoked)}: copy {folder}/crl.pem to the broker, restart it")


@app.command("list", epilog="Example: refloat pki list --within 30")
def list_(
    names: Annotated[str, typer.Argument(help="Hostlist; without it all of them.", show_default=False)] = "",
    *,
    within: Annotated[int | None, typer.Option(min=0, help="Only those that end in so many days.")] = None,
    folder: Folder = DEFAULT_FOLDER,
    json: Json = False,
) -> None:
    """List what was issued, and until when it counts."""
    now = _now()
    found = _store(folder).all()
    if names:
        wanted = set(_expanded(names))
        found = [one for one in found if one.name in wanted]
    if within is not None:
        last = (now + timedelta(days=within)).timestamp()
        found = [one for one in found if one.state(now) == "good" and one.ends <= last]
    rows = [{**asdict(one), "state": one.state(now)} for one in found]
    lines = "\n".join(_line(row) for row in rows)
    _tell(json, {"certificates": rows}, lines or "none")


def _line(row: dict[str, Any]) -> str:
    ends = datetime.fromtimestamp(row["ends"], UTC)
    return f"{row['name']:<24} {row['role']:<12} {row['state']:<8} until {ends:%Y-%m-%d}  serial {row['serial']}"


def _names(text: str, role: As) -> Sequence[str]:
    from refloat_cli.pki import authority
    from refloat_contract.errors import Misconfigured

    if role is As.COORDINATOR:
        fixed = authority.COORDINATOR
        if text not in {"", fixed}:
            raise Misconfigured(f"the {role}'s certificate is always {fixed}'s, since the broker knows it by that name")
        return (fixed,)
    if role is As.OPERATOR:
        return _operators(text)
    names = _expanded(text)
    if role is As.BROKER and len(names) > 1:
        raise Misconfigured("one certificate is for one broker: give its other names with --also")
    return names


def _operators(text: str) -> Sequence[str]:
    """The names at the broker of these users; without any the one that may only look on."""
    from refloat_cli.pki import authority
    from refloat_contract import operators

    if text in {"", authority.OPERATOR}:
        return (authority.OPERATOR,)
    return [operators.PREFIX + name.removeprefix(operators.PREFIX) for name in text.split(",")]


def _expanded(text: str) -> Sequence[str]:
    from refloat_coordinator import hostlists

    return hostlists.expand(text)


def _store(folder: Path) -> "Store":
    from refloat_cli.pki.store import Store

    return Store(folder)


def _now() -> datetime:
    return datetime.now(UTC)


def _rows(found: Iterable["Issued"]) -> list[dict[str, Any]]:
    return [asdict(one) for one in found]


def _shown(names: Iterable[str], total: int) -> Iterable[str]:
    """Names with a bar behind them, where there are many and somebody looks."""
    import sys

    if total < _WORTH_A_BAR or not sys.stderr.isatty():
        return names
    from rich.console import Console
    from rich.progress import track

    return track(names, "certificates", total=total, console=Console(stderr=True))


def _tell(json: bool, answer: dict[str, Any], text: str) -> None:  # noqa: FBT001 - how, not what
    if json:
        from refloat_cli.asking import write_json

        write_json(answer)
    else:
        typer.echo(text)
