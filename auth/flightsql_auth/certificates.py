"""Client certificates: which user one names. The handshake has verified it before anything here is asked."""

from __future__ import annotations

import hashlib
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable
from typing import Final, Literal, get_args

from cryptography import x509
from cryptography.x509.oid import NameOID

from .errors import BadCertificate

Source = Literal["common_name", "dns", "uri", "email"]
SOURCES: Final = get_args(Source)

MAX_KNOWN: Final = 8_192

_KINDS: Final = {"dns": x509.DNSName, "uri": x509.UniformResourceIdentifier, "email": x509.RFC822Name}


class CertificateUsers:
    """Tells the user that a certificate names. Any thread may ask; certificates seen before cost one hash.

    ``source`` is the part that holds the name: the subject's common name, or the subject's alternative names of one
    kind. ``pattern`` must match the whole of it, and its one group is the user's name. ``ValueError`` if it has not
    exactly one group or is no pattern.
    """

    def __init__(self, source: Source = "common_name", pattern: str = "(.+)", *, max_known: int = MAX_KNOWN) -> None:
        try:
            self._pattern = re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{pattern!r} is not a regular expression: {error}") from None
        if self._pattern.groups != 1:
            raise ValueError(f"{pattern!r} must have one group, which is the user's name, such as (.+)")
        self._source = source
        self._max_known = max_known
        self._known: OrderedDict[bytes, tuple[str, float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def named(self, pem: bytes, now: float) -> tuple[str, float]:
        """The user's name, and until when the certificate is valid, in seconds since the epoch.

        Raises ``BadCertificate`` if it names nobody, or more than one, or is out of its time by now: a connection may
        last longer than the certificate it was made with.
        """
        key = hashlib.sha256(pem).digest()
        with self._lock:
            found = self._known.get(key)
            if found is not None:
                self._known.move_to_end(key)
        if found is None:
            found = self._read(pem)
            with self._lock:
                self._known[key] = found
                if len(self._known) > self._max_known:
                    self._known.popitem(last=False)
        name, begins, ends = found
        if not begins <= now < ends:
            raise BadCertificate("the client certificate has expired: present a new one", outcome="expired")
        return name, ends

    def _read(self, pem: bytes) -> tuple[str, float, float]:
        try:
            certificate = x509.load_pem_x509_certificate(pem)
            values = set(self._values(certificate))
        except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
            raise BadCertificate("the client certificate can't be read") from None
        names = {match[1] for match in map(self._pattern.fullmatch, values) if match}
        if len(names) != 1:
            raise BadCertificate
        begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        return names.pop(), begins.timestamp(), ends.timestamp()

    def _values(self, certificate: x509.Certificate) -> Iterable[str]:
        if self._source == "common_name":
            return [str(one.value) for one in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        try:
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            return []
        return [str(one.value) for one in names if isinstance(one, _KINDS[self._source])]
