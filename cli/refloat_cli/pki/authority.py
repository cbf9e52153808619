# SPDX-License-Identifier: Apache-2.0
"""Certificates and the list of revoked ones, as X.509 has them (RFC 5280). No files; all cryptography is the library's.

Whoever logs in has a certificate of its own, whose common name is its name at the broker. The extended key usage keeps
a node's certificate from being used as the broker's, and the other way round.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from refloat_contract import operators
from refloat_contract.errors import Corrupt, Refused

COORDINATOR: Final = "refloat-coordinator"
OPERATOR: Final = operators.ANY
RESERVED: Final = "refloat-"
"""How names begin that have rights of their own at the broker (packaging/mosquitto/refloat.acl): no node's does."""

MAX_NAME: Final = 64  # RFC 5280, ub-common-name
_SKEW: Final = timedelta(hours=1)
"""A node whose clock is behind must not refuse a certificate that was made a minute ago."""


class Role(StrEnum):
    """What a certificate is for."""

    NODE = "node"
    COORDINATOR = "coordinator"
    OPERATOR = "operator"
    BROKER = "broker"


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def certificate_pem(self) -> bytes:
        """The certificate, for everybody."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def key_pem(self) -> bytes:
        """The key, for its owner only."""
        none = serialization.NoEncryption()
        return self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, none)


@dataclass(frozen=True, slots=True)
class Revoked:
    """A certificate that counts no more."""

    serial: int
    at: datetime


def new_authority(name: str, now: datetime, days: int) -> Pair:
    """An authority of its own: it signs certificates and lists of revoked ones, and no other authorities."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject(name)
    certificate = (
        _begun(subject, subject, key.public_key(), now, now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Pair(certificate, key)


def issue(authority: Pair, role: Role, name: str, now: datetime, days: int, hosts: Sequence[str] = ()) -> Pair:
    """A certificate for ``name``, with a new key; ``hosts`` are the names and addresses that a broker is reached by.

    It ends with the authority, if that ends sooner.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    ends = min(now + timedelta(days=days), authority.certificate.not_valid_after_utc)
    usage = ExtendedKeyUsageOID.SERVER_AUTH if role is Role.BROKER else ExtendedKeyUsageOID.CLIENT_AUTH
    issuer_key = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        _begun(_subject(name), authority.certificate.subject, key.public_key(), now, ends)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_key), critical=False)
    )
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False)
    return Pair(builder.sign(authority.key, hashes.SHA256()), key)


def revocations(authority: Pair, revoked: Iterable[Revoked], now: datetime) -> bytes:
    """The list of revoked certificates (PEM).

    It ends with the authority: a broker refuses every client once its list has expired, which would take the whole
    cluster from the coordinator because somebody forgot to copy a file.
    """
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(now - _SKEW)
        .next_update(authority.certificate.not_valid_after_utc)
        .add_extension(x509.CRLNumber(int(now.timestamp() * 1000)), critical=False)
    )
    for one in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(one.serial).revocation_date(one.at).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(authority.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def load(certificate: bytes, key: bytes, where: str) -> Pair:
    """What was saved.

    Raises:
        Corrupt: it cannot be read, or the key is another certificate's.
    """
    try:
        found = x509.load_pem_x509_certificate(certificate)
        secret = serialization.load_pem_private_key(key, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # Not from the error: it may quote what it could not read.
        raise Corrupt(f"{where}: the certificate or its key cannot be read") from None
    if not isinstance(secret, ec.EllipticCurvePrivateKey) or secret.public_key() != found.public_key():
        raise Corrupt(f"{where}: the key does not belong to the certificate")
    return Pair(found, secret)


def hosts_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """The names and addresses that a broker's certificate is for."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(name.value) for name in names)


def check_name(role: Role, name: str) -> None:
    """See that ``name`` can be a common name of this role.

    Raises:
        Refused: it cannot.
    """
    if len(name) > MAX_NAME:
        raise Refused(f"{name!r} is longer than the {MAX_NAME} characters of a certificate's common name")
    if role is Role.NODE and name.startswith(RESERVED):
        raise Refused(f"{name!r} begins with {RESERVED}, as names with other rights do: no node can have this name")
    if role is Role.OPERATOR and name != OPERATOR and not operators.is_user(name.removeprefix(operators.PREFIX)):
        raise Refused(f"{name!r} does not end with the name of a user: letters, digits, '.', '_' and '-', at most 32")


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _begun(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, ends: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now.astimezone(UTC) - _SKEW)
        .not_valid_after(ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
