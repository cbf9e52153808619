# SPDX-License-Identifier: Apache-2.0
"""The folder of an authority: its key, what it has issued, what it has revoked.

ca.pem  ca.key        the authority; the key never leaves this folder
crl.pem               revoked certificates, for the broker
index.jsonl           every certificate ever issued, one line each, written before the certificate is
issued/NAME.pem .key  the newest of each name, to be copied to where it is used
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, TypeAlias

from cryptography import x509

from refloat_cli.pki import authority
from refloat_cli.pki.authority import Pair, Revoked, Role
from refloat_contract.errors import Corrupt, Misconfigured, Refused, Transient
from refloat_service import atomic, secret_files
from refloat_service.alone import alone

Progress: TypeAlias = Callable[[Iterable[str], int], Iterable[str]]

_SECRET_MODE: Final = 0o600
_PUBLIC_MODE: Final = 0o644
_NO_AUTHORITY: Final = " has no authority: make one (refloat pki init), or name its folder (--dir)"


@dataclass(frozen=True, slots=True)
class Issued:
    """A line of the index."""

    name: str
    role: str
    serial: str
    ends: float
    revoked: float | None = None

    def state(self, now: datetime) -> str:
        """Whether it counts."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if self.ends <= now.timestamp() else "good"


class Store:
    """An authority and what it keeps."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.issued_folder = folder / "issued"
        self._index = folder / "index.jsonl"

    def init(self, name: str, now: datetime, days: int) -> Pair:
        """Make a new authority.

        Raises:
            Refused: there is one already; all that it has issued would count no more.
            Misconfigured: the folder cannot be made.
        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.issued_folder.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise Misconfigured(f"cannot make {self.folder}: {error.strerror}") from error
        with self._locked():
            if (self.folder / "ca.key").exists():
                raise Refused(f"{self.folder} has an authority already; a new one would void all its certificates")
            made = authority.new_authority(name, now, days)
            atomic.write(self.folder / "ca.pem", made.certificate_pem(), mode=_PUBLIC_MODE)
            atomic.write(self.folder / "crl.pem", authority.revocations(made, (), now), mode=_PUBLIC_MODE)
            # Last: whoever finds it finds all of it.
            atomic.write(self.folder / "ca.key", made.key_pem(), mode=_SECRET_MODE)
        return made

    def issue(
        self,
        role: Role,
        names: Sequence[str],
        now: datetime,
        days: int,
        *,
        hosts: Sequence[str] = (),
        progress: Progress,
        again: bool = False,
    ) -> tuple[list[Issued], list[Issued]]:
        """Give each name a certificate and a new key; answers with what was issued, and what there was.

        With ``again`` those that have one get a new one; the old one counts until it ends or is revoked.
        """
        for name in names:
            authority.check_name(role, name)
        with self._locked():
            ca, current = self._authority(), self._current(now)
            kept = [] if again else [current[name] for name in names if name in current]
            wanted = [name for name in names if again or name not in current]
            self._refuse_other_role(role, wanted, current)
            issued = [self._one(ca, role, name, now, days, hosts) for name in progress(wanted, len(wanted))]
            os.sync()
        return issued, kept

    def expiring(self, names: Iterable[str] | None, now: datetime, within: timedelta) -> list[Issued]:
        """The certificates that count and end soon; of these names only, or of all.

        Raises:
            Refused: a name has none that counts.
        """
        current = self._current(now)
        chosen = list(current) if names is None else list(names)
        missing = [name for name in chosen if name not in current]
        if missing:
            raise Refused(f"no certificate that counts: {', '.join(missing[:10])}; make one: refloat pki issue")
        ends = (now + within).timestamp()
        return [current[name] for name in chosen if current[name].ends <= ends]

    def hosts(self, name: str) -> tuple[str, ...]:
        """The names and addresses in the newest certificate of ``name``."""
        try:
            return authority.hosts_of(x509.load_pem_x509_certificate((self.issued_folder / f"{name}.pem").read_bytes()))
        except (OSError, ValueError) as error:
            raise Corrupt(f"{self.issued_folder / name}.pem cannot be read") from error

    def revoke(self, names: Sequence[str], now: datetime) -> list[Issued]:
        """Let no certificate of these names count any more, also those that were renewed since; write the list.

        Raises:
            Refused: a name has none that counts.
        """
        with self._locked():
            ca, everything = self._authority(), self.all()
            doomed = [one for one in everything if one.name in set(names) and one.state(now) == "good"]
            missing = [name for name in names if name not in {one.name for one in doomed}]
            if missing:
                raise Refused(f"no certificate that counts: {', '.join(missing[:10])}")
            revoked = [replace(one, revoked=now.timestamp()) for one in doomed]
            self._append(revoked)
            self._write_revocations(ca, now)
            for name in names:
                (self.issued_folder / f"{name}.key").unlink(missing_ok=True)
                (self.issued_folder / f"{name}.pem").unlink(missing_ok=True)
        return revoked

    def all(self) -> list[Issued]:
        """Every certificate that was ever issued, in that order, as it is now.

        Raises:
            Corrupt: the index cannot be read.
        """
        found: dict[str, Issued] = {}
        try:
            for line in self._index.read_text().splitlines():
                one = Issued(**json.loads(line))
                found[one.serial] = one
        except FileNotFoundError:
            return []
        except (OSError, ValueError, TypeError) as error:
            raise Corrupt(f"{self._index} cannot be read ({error}): restore it from a backup") from error
        return list(found.values())

    def _current(self, now: datetime) -> dict[str, Issued]:
        """The newest certificate of each name, where it counts."""
        newest = {one.name: one for one in self.all() if one.state(now) != "revoked"}
        return {name: one for name, one in newest.items() if one.state(now) == "good"}

    @staticmethod
    def _refuse_other_role(role: Role, names: Iterable[str], current: dict[str, Issued]) -> None:
        other = [name for name in names if name in current and current[name].role != role]
        if other:
            raise Refused(f"{other[0]} has a certificate as {current[other[0]].role}: revoke that first")

    def _one(self, ca: Pair, role: Role, name: str, now: datetime, days: int, hosts: Sequence[str]) -> Issued:
        pair = authority.issue(ca, role, name, now, days, hosts)
        ends = pair.certificate.not_valid_after_utc.timestamp()
        one = Issued(name, role, f"{pair.certificate.serial_number:x}", ends)
        # First the index: there must be no certificate that cannot be revoked.
        self._append([one])
        try:
            _put(self.issued_folder / f"{name}.key", pair.key_pem(), _SECRET_MODE)
            _put(self.issued_folder / f"{name}.pem", pair.certificate_pem(), _PUBLIC_MODE)
        except OSError as error:
            raise Transient(f"cannot write {error.filename}: {error.strerror}") from error
        return one

    def _append(self, lines: Iterable[Issued]) -> None:
        text = "".join(json.dumps(asdict(one)) + "\n" for one in lines)
        try:
            handle = os.open(self._index, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, _SECRET_MODE)
            with os.fdopen(handle, "w") as file:
                file.write(text)
        except OSError as error:
            raise Transient(f"cannot write {self._index}: {error.strerror}") from error

    def _write_revocations(self, ca: Pair, now: datetime) -> None:
        revoked = [
            Revoked(int(one.serial, 16), datetime.fromtimestamp(one.revoked, UTC))
            for one in self.all()
            if one.revoked is not None
        ]
        atomic.write(self.folder / "crl.pem", authority.revocations(ca, revoked, now), mode=_PUBLIC_MODE)

    def _authority(self) -> Pair:
        key = self.folder / "ca.key"
        if not key.exists():
            raise Misconfigured(
                f"{self.folder} has no authority: make one (refloat pki init), or name its folder (--dir)"
            )
        secret = secret_files.read(key, "the authority's key").encode()
        return authority.load((self.folder / "ca.pem").read_bytes(), secret, str(self.folder))

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        if not self.folder.is_dir():
            raise Misconfigured(
                f"{self.folder} has no authority: make one (refloat pki init), or name its folder (--dir)"
            )
        with alone(self.folder / ".lock"):
            yield


def _put(path: Path, data: bytes, mode: int) -> None:
    """Replace a file; thousands are written in one go, so the disk is told once, at the end."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(data)
    temporary.replace(path)
