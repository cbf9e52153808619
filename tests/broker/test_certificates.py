# SPDX-License-Identifier: Apache-2.0
"""Who a real broker lets in, who it does not, and what both say of it."""

import asyncio
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from mosquitto import CLUSTER, Site, a_site, authority
from structlog.testing import capture_logs

from refloat_cli.pki.authority import COORDINATOR, Role
from refloat_contract.topics import Kind, Topics
from refloat_service.mqtt import Link

pytestmark = pytest.mark.broker

STATUS = Topics(CLUSTER).node("n1", Kind.STATUS)
LONG_AGO = datetime.now(UTC) - timedelta(days=60)


@pytest.fixture(scope="module")
def rogue(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates of an authority that anybody can make, with the names of others."""
    store = authority(tmp_path_factory.mktemp("rogue") / "pki")
    now = datetime.now(UTC)
    store.issue(Role.NODE, ["n1"], now, 30, progress=lambda names, _: names)
    store.issue(Role.COORDINATOR, [COORDINATOR], now, 30, progress=lambda names, _: names)
    return store.folder


@pytest.fixture(scope="module")
def odd(site: Site) -> Site:
    """The site, with certificates that do not count."""
    site.issue(Role.NODE, "late", at=LONG_AGO, days=30)
    site.issue(Role.NODE, "early", at=datetime.now(UTC) + timedelta(days=2))
    site.issue(Role.NODE, "stolen")
    stolen = [site.store.issued_folder / f"stolen.{kind}" for kind in ("pem", "key")]
    for file in stolen:
        shutil.copy(file, file.with_stem("thief"))
    site.store.revoke(["stolen"], datetime.now(UTC))
    shutil.copy(site.store.folder / "crl.pem", site.broker.folder)
    site.broker.reload()
    return site


async def complaint(link: Link) -> dict[str, Any]:
    """The first thing that a client logs."""
    with capture_logs() as logs:
        running = asyncio.create_task(link.run())
        try:
            async with asyncio.timeout(20):
                while not logs:  # noqa: ASYNC110 - a log has no event
                    await asyncio.sleep(0.01)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
    return dict(logs[0])


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
@pytest.mark.parametrize(
    ("name", "why", "advice"),
    [
        ("late", "it has expired", "refloat pki renew"),
        ("early", "it is not valid yet", "refloat pki renew"),
        ("thief", "it was revoked", "refloat pki renew"),
        ("broker", "it is not one for clients", "refloat pki renew"),
    ],
)
async def test_a_certificate_that_does_not_count_is_refused_and_both_say_so(
    odd: Site, name: str, why: str, advice: str, protocol: str
) -> None:
    before = len(odd.broker.log())

    said = await complaint(Link(odd.settings(name, protocol=protocol), client_id="c"))

    assert (said["event"], said["log_level"]) == ("broker_unreachable", "warning")
    assert f"refuses our certificate {odd.store.issued_folder / name}.pem: {why}" in said["error"]
    assert said["broker"] == f"localhost:{odd.broker.port}"
    assert advice in said["hint"]
    await asyncio.to_thread(odd.broker.logs, "certificate verify failed", before)


@pytest.mark.parametrize("name", ["n1", COORDINATOR])
async def test_the_right_name_from_another_authority_is_refused_and_both_say_so(
    odd: Site, rogue: Path, name: str
) -> None:
    before, shown = len(odd.broker.log()), rogue / "issued" / name
    settings = odd.settings(name, cert_file=f"{shown}.pem", key_file=f"{shown}.key")

    said = await complaint(Link(settings, client_id="c"))

    assert "the broker trusts another authority than the one that issued it" in said["error"]
    await asyncio.to_thread(odd.broker.logs, "certificate verify failed", before)


@pytest.mark.parametrize("name", ["n1", COORDINATOR])
async def test_a_node_cannot_come_where_the_coordinator_does_nor_the_other_way_round(site: Site, name: str) -> None:
    other = site.broker.port if name == COORDINATOR else site.staff_port

    said = await complaint(Link(site.settings(name, port=other), client_id="c"))

    assert "the broker trusts another authority" in said["error"]


async def test_who_shows_no_certificate_is_refused(site: Site) -> None:
    before = len(site.broker.log())

    said = await complaint(Link(site.settings("n1", cert_file=None, key_file=None), client_id="c"))

    assert "none was shown" in said["error"]
    assert said["hint"] == "set mqtt.cert_file and mqtt.key_file"
    await asyncio.to_thread(site.broker.logs, "peer did not return a certificate", before)


async def test_plain_text_is_refused(site: Site) -> None:
    plain = site.settings("n1", tls=False, ca_file=None, cert_file=None, key_file=None)

    said = await complaint(Link(plain, client_id="c"))

    assert "hung up before it had answered" in said["error"]
    assert "look at mqtt.tls" in said["hint"]


# paho leaves the socket of a handshake that failed to the garbage collector, which closes it and warns.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("changes", "why", "advice"),
    [
        ({"host": "127.0.0.1"}, "IP address mismatch", "one of the names in the broker's certificate"),
        ({"ca_file": "rogue"}, "self-signed certificate", "the authority that issued the broker's"),
    ],
)
async def test_a_broker_that_is_not_ours_is_told_nothing(
    site: Site, rogue: Path, changes: dict[str, str], why: str, advice: str
) -> None:
    wanted = {key: str(rogue / "ca.pem") if value == "rogue" else value for key, value in changes.items()}

    said = await complaint(Link(site.settings("n1", **wanted), client_id="c"))

    assert why in said["error"]
    assert advice in said["hint"]


async def test_a_client_whose_certificate_is_renewed_takes_the_new_one_without_a_restart(site: Site) -> None:
    site.issue(Role.NODE, "n9", at=LONG_AGO, days=30)
    link = Link(site.settings("n9"), client_id="c")
    running = asyncio.create_task(link.run())
    try:
        await asyncio.sleep(0.3)
        refused = not link.connected
        site.issue(Role.NODE, "n9", again=True)
        async with asyncio.timeout(20):
            while not link.connected:  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.01)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    assert refused


async def test_a_revoked_node_is_out_after_a_restart_and_cannot_come_back(site: Site) -> None:
    site.issue(Role.NODE, "n7")
    shown = [shutil.copy(site.store.issued_folder / f"n7.{kind}", site.folder) for kind in ("pem", "key")]
    async with site.client("n7", cert_file=shown[0], key_file=shown[1]) as n7:
        site.store.revoke(["n7"], datetime.now(UTC))
        shutil.copy(site.store.folder / "crl.pem", site.broker.folder)
        site.broker.reload()
        after_reload = await n7.says(Topics(CLUSTER).node("n7", Kind.STATUS))
        site.broker.stop()
        site.broker.start()
        async with asyncio.timeout(20):
            while n7.link.connected:  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.01)
    again = await complaint(Link(site.settings("n7", cert_file=shown[0], key_file=shown[1]), client_id="c"))
    async with site.client("n1"):
        pass

    # As docs/broker.md says: a reload leaves in who is in.
    assert after_reload == ""
    assert "it was revoked" in again["error"]


@pytest.fixture(scope="module")
def passwords(mosquitto_argv: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The shipped configuration, with passwords in place of certificates, as its comment says."""
    folder = tmp_path_factory.mktemp("passwords")
    changes = {f"\n{line}": f"\n#{line}" for line in ("crlfile", "require_certificate", "use_identity_as_username")}
    file = folder / "etc" / "passwords"
    with a_site(
        folder, mosquitto_argv, {**changes, "\n#password_file": "\npassword_file"}, passwords={"n1": "hush"}
    ) as site:
        assert file.exists()
        yield site


async def test_a_password_lets_in_who_has_it_with_the_same_rights(passwords: Site, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("hush\n")
    secret.chmod(0o600)
    plain: dict[str, Any] = {"cert_file": None, "key_file": None, "username": "n1", "password_file": secret}

    async with passwords.client("n1", **plain) as n1:
        said = await n1.says(STATUS), await n1.says(Topics(CLUSTER).node("n2", Kind.STATUS))

    assert said[0] == ""
    assert "Not authorized" in said[1]
    assert "hush" not in passwords.broker.log()


async def test_a_wrong_password_is_refused_and_not_told(passwords: Site, tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("guess\n")
    secret.chmod(0o600)
    settings = passwords.settings("n1", cert_file=None, key_file=None, username="n1", password_file=secret)

    said = await complaint(Link(settings, client_id="c"))

    assert said["hint"] == "look at mqtt.username and mqtt.password_file"
    assert "guess" not in f"{said}{passwords.broker.log()}"
