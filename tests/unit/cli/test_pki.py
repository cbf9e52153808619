# SPDX-License-Identifier: Apache-2.0
"""`refloat pki`: an authority, what it issues, and what it takes back."""

import json
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from daemons import Refloat

from refloat_cli.pki import authority
from refloat_cli.pki.authority import COORDINATOR, Role
from refloat_cli.pki.store import Store
from refloat_contract.errors import Corrupt, Misconfigured, Refused

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refloat: Refloat) -> Path:
    monkeypatch.setenv("REFLOAT_PKI_DIR", str(tmp_path / "pki"))
    assert refloat("pki", "init").status == 0
    return tmp_path / "pki"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "pki")
    made.init("test", NOW, 3650)
    return made


def certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def crl(folder: Path) -> x509.CertificateRevocationList:
    return x509.load_pem_x509_crl((folder / "crl.pem").read_bytes())


def issue(store: Store, *names: str, at: datetime = NOW, days: int = 365, again: bool = False) -> None:
    store.issue(Role.NODE, names, at, days, progress=lambda all_of, _: all_of, again=again)


def test_nobody_but_its_owner_can_read_a_key(folder: Path, refloat: Refloat) -> None:
    refloat("pki", "issue", "n[1-2]")

    keys = [folder / "ca.key", *(folder / "issued").glob("*.key")]
    assert len(keys) == 3
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_node_gets_a_certificate_of_its_name_for_clients_only(folder: Path, refloat: Refloat) -> None:
    told = json.loads(refloat("pki", "issue", "n[1-3]", "--days", "90", "--json").out)

    assert [one["name"] for one in told["issued"]] == ["n1", "n2", "n3"]
    found, ca = certificate(folder / "issued/n2.pem"), certificate(folder / "ca.pem")
    found.verify_directly_issued_by(ca)
    assert found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value == "n2"
    usage = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert timedelta(days=90) <= found.not_valid_after_utc - found.not_valid_before_utc < timedelta(days=91)


def test_the_brokers_certificate_is_for_servers_and_names_all_that_it_is_reached_by(
    folder: Path, refloat: Refloat
) -> None:
    refloat("pki", "issue", "--role", "broker", "ctl", "--also", "ctl.site", "--also", "10.0.0.1")

    found = certificate(folder / "issued/ctl.pem")
    assert list(found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.SERVER_AUTH
    ]
    assert authority.hosts_of(found) == ("ctl", "ctl.site", "10.0.0.1")


def test_the_authority_signs_certificates_and_no_other_authorities(folder: Path) -> None:
    found = certificate(folder / "ca.pem")

    limits = found.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (limits.critical, limits.value.ca, limits.value.path_length) == (True, True, 0)
    assert isinstance(found.public_key(), ec.EllipticCurvePublicKey)


def test_who_has_one_that_counts_keeps_it(folder: Path, refloat: Refloat) -> None:
    refloat("pki", "issue", "n1")
    before = (folder / "issued/n1.pem").read_bytes()

    told = json.loads(refloat("pki", "issue", "n[1-2]", "--json").out)

    assert ([one["name"] for one in told["issued"]], [one["name"] for one in told["kept"]]) == (["n2"], ["n1"])
    assert (folder / "issued/n1.pem").read_bytes() == before


def test_the_coordinator_has_one_name_and_no_node_can_have_it(folder: Path, refloat: Refloat) -> None:
    assert refloat("pki", "issue", "--role", "coordinator").status == 0
    other = refloat("pki", "issue", "--role", "coordinator", "ctl")
    node = refloat("pki", "issue", COORDINATOR)

    assert certificate(folder / f"issued/{COORDINATOR}.pem")
    assert (other.status, node.status) == (2, 1)
    assert "always refloat-coordinator's" in other.err
    assert "no node can have this name" in node.err


def test_an_operator_has_a_certificate_by_the_users_name_and_one_without_a_name_looks_on(
    folder: Path, refloat: Refloat
) -> None:
    refloat("pki", "issue", "--role", "operator")
    told = json.loads(refloat("pki", "issue", "--role", "operator", "alice,refloat-operator-bob", "--json").out)
    wrong = refloat("pki", "issue", "--role", "operator", "1x")

    assert certificate(folder / "issued/refloat-operator.pem")
    assert [one["name"] for one in told["issued"]] == ["refloat-operator-alice", "refloat-operator-bob"]
    assert {one["role"] for one in told["issued"]} == {"operator"}
    assert wrong.status == 1
    assert "does not end with the name of a user" in wrong.err


@pytest.mark.parametrize("name", ["refloat-operator", "refloat-operator-alice", "refloat-x"])
def test_no_node_has_a_name_that_begins_as_those_with_other_rights(folder: Path, refloat: Refloat, name: str) -> None:
    ended = refloat("pki", "issue", name)

    assert ended.status == 1
    assert "no node can have this name" in ended.err
    assert not (folder / f"issued/{name}.pem").exists()


def test_what_is_revoked_is_on_the_list_with_all_that_were_issued_before_it(store: Store) -> None:
    issue(store, "n1", "n2")
    issue(store, "n1", again=True)
    serials = {int(one.serial, 16) for one in store.all() if one.name == "n1"}

    store.revoke(["n1"], NOW + timedelta(days=1))

    assert {one.serial_number for one in crl(store.folder)} == serials
    assert len(serials) == 2
    assert crl(store.folder).is_signature_valid(certificate(store.folder / "ca.pem").public_key())  # type: ignore[arg-type]
    assert not (store.issued_folder / "n1.key").exists()


def test_a_revoked_name_can_have_a_new_certificate_and_the_old_one_stays_revoked(store: Store) -> None:
    issue(store, "n1")
    store.revoke(["n1"], NOW)
    issue(store, "n1")

    assert [one.state(NOW) for one in store.all()] == ["revoked", "good"]
    assert len(list(crl(store.folder))) == 1


def test_the_list_of_the_revoked_ends_with_the_authority_lest_it_locks_everybody_out(store: Store) -> None:
    assert crl(store.folder).next_update_utc == certificate(store.folder / "ca.pem").not_valid_after_utc


def test_renewing_gives_new_keys_to_what_ends_soon_and_leaves_the_rest(store: Store) -> None:
    issue(store, "n1", days=20)
    issue(store, "n2", days=200)

    assert [one.name for one in store.expiring(None, NOW, timedelta(days=30))] == ["n1"]
    assert [one.name for one in store.expiring(["n2"], NOW, timedelta(days=36500))] == ["n2"]


def test_the_renewed_broker_keeps_its_names_and_gets_a_new_key(folder: Path, refloat: Refloat) -> None:
    refloat("pki", "issue", "--role", "broker", "ctl", "--also", "localhost")
    refloat("pki", "issue", "n1")
    before = (folder / "issued/ctl.key").read_bytes()

    told = json.loads(refloat("pki", "renew", "ctl", "--json").out)

    assert [one["name"] for one in told["issued"]] == ["ctl"]
    assert authority.hosts_of(certificate(folder / "issued/ctl.pem")) == ("ctl", "localhost")
    assert (folder / "issued/ctl.key").read_bytes() != before


def test_a_certificate_does_not_outlive_its_authority(store: Store) -> None:
    issue(store, "n1", at=NOW + timedelta(days=3600))

    ends = certificate(store.issued_folder / "n1.pem").not_valid_after_utc
    assert ends == certificate(store.folder / "ca.pem").not_valid_after_utc


def test_a_second_authority_is_refused_where_there_is_one(folder: Path, refloat: Refloat) -> None:
    before = (folder / "ca.key").read_bytes()

    ended = refloat("pki", "init")

    assert (ended.status, (folder / "ca.key").read_bytes()) == (1, before)
    assert "has an authority already" in ended.err


def test_an_authority_whose_key_others_can_read_signs_nothing(store: Store) -> None:
    (store.folder / "ca.key").chmod(0o644)

    with pytest.raises(Misconfigured, match="can be used by everybody"):
        issue(store, "n1")
    assert store.all() == []


def test_an_index_that_cannot_be_read_stops_all_of_it(store: Store) -> None:
    issue(store, "n1")
    with (store.folder / "index.jsonl").open("a") as index:
        index.write("{half a li")

    with pytest.raises(Corrupt, match="restore it from a backup"):
        store.revoke(["n1"], NOW)


def test_a_key_of_another_is_not_taken_for_the_authoritys(store: Store, tmp_path: Path) -> None:
    other = Store(tmp_path / "other")
    other.init("other", NOW, 10)
    (store.folder / "ca.key").write_bytes((other.folder / "ca.key").read_bytes())

    with pytest.raises(Corrupt, match="does not belong"):
        issue(store, "n1")


@pytest.mark.parametrize("name", ["n1/../../etc/x", "n+", "#", "", "..", "n" * 65, "a b"])
def test_what_cannot_be_a_node_gets_no_certificate(folder: Path, refloat: Refloat, name: str) -> None:
    ended = refloat("pki", "issue", "--", name)

    assert ended.status in {1, 2}
    assert list((folder / "issued").iterdir()) == []


def test_who_has_no_certificate_cannot_be_revoked_or_renewed(folder: Path, refloat: Refloat) -> None:
    assert "no certificate that counts: n1" in refloat("pki", "revoke", "n1").err
    assert "no certificate that counts: n1" in refloat("pki", "renew", "n1").err


def test_a_node_is_not_renamed_into_another_role(store: Store) -> None:
    issue(store, "ctl")

    with pytest.raises(Refused, match="has a certificate as node"):
        store.issue(Role.BROKER, ["ctl"], NOW, 1, hosts=("ctl",), progress=lambda names, _: names, again=True)


def test_where_there_is_no_authority_it_says_how_to_make_one(tmp_path: Path, refloat: Refloat) -> None:
    ended = refloat("pki", "issue", "n1", "--dir", tmp_path / "none")

    assert (ended.status, "make one (refloat pki init)" in ended.err) == (2, True)


def test_the_list_tells_what_counts_until_when(folder: Path, refloat: Refloat) -> None:
    refloat("pki", "issue", "n[1-2]")
    refloat("pki", "revoke", "n2")

    listed = json.loads(refloat("pki", "list", "--json").out)["certificates"]

    assert [(one["name"], one["state"]) for one in listed] == [("n1", "good"), ("n2", "revoked")]
    assert "n1" in refloat("pki", "list", "n1", "--within", "400").out
    assert refloat("pki", "list", "--within", "30").out == "none\n"


@pytest.mark.parametrize("program", ["refloat_agent.main", "refloat_coordinator.main", "refloat_cli.main"])
def test_no_daemon_loads_what_only_this_command_needs(program: str) -> None:
    code = f"import sys, {program}; sys.exit('cryptography' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
