"""A certificate authority for one sandbox: its key is in this process's memory, and ends with it."""

import datetime as dt
import os
import ssl
from collections import OrderedDict

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from hibernaut.models.network import as_address

KEPT = 100
"""Hosts whose certificates are kept: with a wildcard, names are the sandbox's to choose."""
VALID = dt.timedelta(days=365)
RENEWED = dt.timedelta(days=30)
EARLIER = dt.timedelta(days=1)
"""A sandbox's clock may be behind."""


class Authority:
    """Makes the certificates by which a sandbox knows the proxy as one of its hosts."""

    def __init__(self) -> None:
        """With a key of its own."""
        self._key = ec.generate_private_key(ec.SECP256R1())
        # All hosts of a sandbox are the same process.
        self._leaf_key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Hibernaut egress proxy of this sandbox")])
        self._certificate = (
            self._begun(self._name, self._key.public_key(), VALID * 10)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(certificates=True), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self._contexts: OrderedDict[str, tuple[dt.datetime, ssl.SSLContext]] = OrderedDict()

    @property
    def pem(self) -> str:
        """The certificate that is to be trusted in the sandbox."""
        return self._certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")

    def context(self, host: str) -> ssl.SSLContext:
        """What a server of this name needs."""
        now = dt.datetime.now(dt.UTC)
        made, context = self._contexts.pop(host, (now, None))
        if context is None or now - made > RENEWED:
            made, context = now, self._made(host)
        self._contexts[host] = (made, context)
        while len(self._contexts) > KEPT:
            self._contexts.popitem(last=False)
        return context

    def _made(self, host: str) -> ssl.SSLContext:
        address = as_address(host)
        name = x509.DNSName(host) if address is None else x509.IPAddress(address)
        # A common name has at most 64 characters, and nobody reads it any more.
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Hibernaut egress proxy")])
        certificate = (
            self._begun(subject, self._leaf_key.public_key(), VALID)
            .add_extension(x509.SubjectAlternativeName([name]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # What is said here is taken apart as HTTP/1.1.
        context.set_alpn_protocols(["http/1.1"])
        _load(context, certificate, self._leaf_key)
        return context

    def _begun(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, valid: dt.timedelta
    ) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - EARLIER)
            .not_valid_after(now + valid)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )


def _usage(*, certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificates,
        crl_sign=certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _load(context: ssl.SSLContext, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    """Give a context what `ssl` reads from files alone: from a file that has no name and lies in memory."""
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    descriptor = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, private + certificate.public_bytes(pem))
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
