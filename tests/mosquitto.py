# SPDX-License-Identifier: Apache-2.0
"""A real mosquitto with the configuration that is shipped, on a loopback port of its own, and those who come to it."""

import asyncio
import base64
import contextlib
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from brokers import free_port

from refloat_cli.pki.authority import COORDINATOR, OPERATOR, Role
from refloat_cli.pki.store import Store
from refloat_contract.errors import RefloatError
from refloat_service.mqtt import Link, MqttSettings, Publication

TOP = Path(__file__).parent.parent
SHIPPED = TOP / "packaging" / "mosquitto"
CLUSTER = "lab"
STAFF = (COORDINATOR, OPERATOR)
ALICE, BOB = "refloat-operator-alice", "refloat-operator-bob"
_UP_S = 10.0


def command() -> list[str] | None:
    """How to start mosquitto: that of this machine, else that of an image of the lab; None where there is neither."""
    if found := shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"):
        return [found]
    images = Path(os.environ.get("LAB_DIR") or "/var/tmp/refloat-lab", "cache", "images")
    for image in sorted(images.glob("*/usr/sbin/mosquitto")):
        root = image.parents[2]
        libraries = ":".join(str(path) for path in root.glob("usr/lib/*-linux-gnu"))
        # The image's own loader: its libraries may be newer than this machine's.
        for loader in root.glob("lib64/ld-linux*.so.*"):
            return [str(loader), "--library-path", libraries, str(image)]
    return None


def configured(folder: Path, port: int, staff_port: int, changes: Mapping[str, str] | None = None) -> Path:
    """The shipped configuration, with paths under ``folder``, other ports, and lines changed as told."""
    text = (SHIPPED / "mosquitto.conf").read_text()
    places = {
        "/etc/mosquitto/refloat": str(folder),
        "/var/lib/mosquitto/": f"{folder}/",
        "listener 8883": f"listener {port} 127.0.0.1",
        "listener 8884": f"listener {staff_port} 127.0.0.1",
    }
    for old, new in {**places, **(changes or {})}.items():
        if old not in text:
            raise AssertionError(f"{old!r} is not in the shipped configuration")
        text = text.replace(old, new)
    # What it denies and reloads is logged, too; started by root, it would become a user who cannot read this folder.
    (folder / "mosquitto.conf").write_text(f"{text}\nlog_type all\nuser root\n")
    (folder / "acl").write_text((SHIPPED / "refloat.acl").read_text().replace("@CLUSTER@", CLUSTER))
    return folder / "mosquitto.conf"


@dataclass(slots=True)
class Mosquitto:
    """The broker's process."""

    folder: Path
    port: int
    argv: list[str]
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it listens."""
        with (self.folder / "log").open("ab") as log:
            self._process = process = subprocess.Popen(
                [*self.argv, "-c", str(self.folder / "mosquitto.conf")], stderr=log
            )
        try:
            self.until(lambda: process.poll() is not None or self._listens())
            assert process.poll() is None, f"mosquitto did not start: {self.log()}"
        except AssertionError:
            self.stop()
            raise

    def _listens(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def stop(self) -> None:
        """Stop it; what it keeps stays on the disk."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(_UP_S)
            self._process = None

    def reload(self) -> None:
        """What `systemctl reload mosquitto` does."""
        if self._process is None:
            raise AssertionError("it does not run")
        before = len(self.log())
        self._process.send_signal(signal.SIGHUP)
        self.until(lambda: "Reloading config" in self.log()[before:])

    def log(self) -> str:
        """All that it has logged."""
        return (self.folder / "log").read_text()

    def logs(self, text: str, after: int = 0) -> None:
        """Wait until it has logged this, ``after`` so many characters: whom it refused may know before its log does."""
        self.until(lambda: text in self.log()[after:])

    @staticmethod
    def until(is_so: Callable[[], bool]) -> None:
        """Wait for it."""
        deadline = time.monotonic() + _UP_S
        while not is_so():
            if time.monotonic() > deadline:
                raise AssertionError("it did not happen")
            time.sleep(0.01)


@dataclass(slots=True)
class Client:
    """One who logs in, and what it heard."""

    link: Link
    heard: list[tuple[str, bytes]] = field(default_factory=list)

    async def says(self, topic: str, payload: bytes = b"{}", *, retain: bool = False) -> str:
        """Publish; empty, or what the broker said against it."""
        try:
            await self.link.publish(Publication(topic, payload, retain=retain), 5.0)
        except RefloatError as error:
            return str(error)
        return ""

    async def hears(self, topic: str) -> bytes:
        """What came on this topic; waits for it."""
        async with asyncio.timeout(20):
            while topic not in dict(self.heard):  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.01)
        return dict(self.heard)[topic]


@dataclass(slots=True)
class Site:
    """Both authorities, a broker, and certificates for all who are named in the access list."""

    folder: Path
    broker: Mosquitto
    store: Store
    staff: Store
    staff_port: int

    def settings(self, name: str, **changes: Any) -> MqttSettings:
        """How ``name`` reaches the broker, with MQTT 5, which says what it refuses."""
        is_staff = name in {*STAFF, ALICE, BOB}
        issued = (self.staff if is_staff else self.store).issued_folder / name
        keys: dict[str, Any] = {
            "host": "localhost",
            "port": self.staff_port if is_staff else self.broker.port,
            "tls": True,
            "ca_file": self.store.folder / "ca.pem",
            "cert_file": f"{issued}.pem",
            "key_file": f"{issued}.key",
            "protocol": "5",
            "reconnect_min_s": 0.05,
            "reconnect_max_s": 0.1,
        }
        keys.update(changes)
        return MqttSettings.model_validate({key: value for key, value in keys.items() if value is not None})

    @contextlib.asynccontextmanager
    async def client(self, name: str, *topics: str, **options: Any) -> AsyncIterator[Client]:
        """``name``, logged in and subscribed."""
        client_id = options.pop("client_id", f"test-{name}")
        persistent = options.pop("persistent", False)
        heard: list[tuple[str, bytes]] = []
        link = Link(
            self.settings(name, **options),
            client_id=client_id,
            subscriptions=topics,
            on_message=lambda topic, payload, _: heard.append((topic, payload)),
            persistent=persistent,
        )
        running = asyncio.create_task(link.run())
        try:
            async with asyncio.timeout(20):
                while not link.connected:  # noqa: ASYNC110 - what is waited for has no event
                    await asyncio.sleep(0.01)
            yield Client(link, heard)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    def issue(self, role: Role, *names: str, at: datetime | None = None, days: int = 30, **more: Any) -> None:
        """Certificates, made at another time if need be."""
        store = self.staff if role in {Role.COORDINATOR, Role.OPERATOR} else self.store
        store.issue(role, names, at or datetime.now(UTC), days, progress=lambda all_of, _: all_of, **more)


def hashed(name: str, password: str) -> str:
    """A line of a password file, as mosquitto_passwd writes it: PBKDF2 with SHA-512."""
    salt, rounds = os.urandom(12), 101
    found = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, rounds)
    return f"{name}:$7${rounds}${base64.b64encode(salt).decode()}${base64.b64encode(found).decode()}\n"


def authority(folder: Path) -> Store:
    """An authority that was made long ago."""
    store = Store(folder)
    store.init("test authority", datetime.now(UTC) - timedelta(days=100), 3650)
    return store


@contextlib.contextmanager
def a_site(
    folder: Path,
    argv: list[str],
    changes: Mapping[str, str] | None = None,
    passwords: Mapping[str, str] | None = None,
) -> Iterator[Site]:
    """A broker that runs, and everybody's certificates."""
    store, staff, etc = authority(folder / "pki"), authority(folder / "staff"), folder / "etc"
    etc.mkdir()
    site = Site(folder, Mosquitto(etc, free_port(), argv), store, staff, free_port())
    site.issue(Role.BROKER, "broker", hosts=("localhost",))
    site.issue(Role.COORDINATOR, COORDINATOR)
    site.issue(Role.OPERATOR, OPERATOR, ALICE, BOB)
    site.issue(Role.NODE, "n1", "n2")
    for name in ("ca.pem", "crl.pem", "issued/broker.pem", "issued/broker.key"):
        shutil.copy(store.folder / name, etc)
    for name in ("ca.pem", "crl.pem"):
        shutil.copy(staff.folder / name, etc / f"staff-{name}")
    configured(etc, site.broker.port, site.staff_port, changes)
    (etc / "passwords").write_text("".join(hashed(*each) for each in (passwords or {}).items()))
    (etc / "passwords").chmod(0o600)
    site.broker.start()
    try:
        yield site
    finally:
        site.broker.stop()
