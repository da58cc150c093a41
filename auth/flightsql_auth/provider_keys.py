"""The public keys of an identity provider: read from its key set, kept for a while, fetched anew when one is missing.

All fetching happens in a thread of its own, one at a time for each provider, so whoever waits for it waits for a
bounded time. A flood of tokens that name unknown keys causes one fetch in ``refetch_seconds``, beside those for age,
and at most ``MAX_WAITING`` threads wait for it; as many again wait for keys that have aged.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final

import jwt

from .errors import BadToken, ProviderUnavailable, TooBusy
from .fetching import FetchError
from .jws import parse_object

log = logging.getLogger(__name__)

MAX_WAITING: Final = 16
MAX_KEYS: Final = 100
MAX_KID_CHARACTERS: Final = 256
RSA_BITS: Final = (2048, 8192)

KINDS: Final[Mapping[str, tuple[str, str]]] = {
    "RS256": ("RSA", ""),
    "RS384": ("RSA", ""),
    "RS512": ("RSA", ""),
    "PS256": ("RSA", ""),
    "PS384": ("RSA", ""),
    "PS512": ("RSA", ""),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
}
"""The algorithms that a provider may be allowed, each with the kind of key and the curve that belong to it."""

Keys = Mapping[tuple[str, str], jwt.PyJWK]
"""Keys by id and algorithm."""


def read_keys(document: bytes, algorithms: frozenset[str]) -> Keys:
    """The keys of a JSON web key set that verify signatures under one of the algorithms, by id and algorithm.

    Leaves out what isn't such a key, what has no id, what holds a private or secret half, and what is there twice.
    Raises ``FetchError`` when the document is no key set.
    """
    try:
        entries = parse_object(document).get("keys")
    except BadToken:
        raise FetchError("the key set is no JSON object") from None
    if not isinstance(entries, list) or len(entries) > MAX_KEYS:
        raise FetchError(f"the key set is no list of at most {MAX_KEYS} keys")
    found: dict[tuple[str, str], jwt.PyJWK] = {}
    doubtful: set[tuple[str, str]] = set()
    for entry in entries:
        for algorithm in sorted(algorithms):
            key = _key(entry, algorithm)
            if key is None:
                continue
            name = (str(entry["kid"]), algorithm)
            if name in found:
                doubtful.add(name)
            found[name] = key
    return {name: key for name, key in found.items() if name not in doubtful}


def _key(entry: object, algorithm: str) -> jwt.PyJWK | None:
    if not isinstance(entry, dict) or "d" in entry or "k" in entry:
        return None
    kty, curve = KINDS[algorithm]
    kid, operations = entry.get("kid"), entry.get("key_ops", ["verify"])
    if not isinstance(kid, str) or not 0 < len(kid) <= MAX_KID_CHARACTERS:
        return None
    if entry.get("kty") != kty or entry.get("crv", "") != curve or entry.get("alg", algorithm) != algorithm:
        return None
    if entry.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        return None
    try:
        key = jwt.PyJWK(entry, algorithm)
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
    bits = getattr(key.key, "key_size", RSA_BITS[0]) if kty == "RSA" else RSA_BITS[0]
    return key if RSA_BITS[0] <= bits <= RSA_BITS[1] else None


class ProviderKeys:
    """The keys of one provider as ``load`` gives them: a document, within bounded time. Any thread may ask.

    Keys older than ``fresh_seconds`` are fetched anew before they are used, and from half that age on in the
    background. When that fails, the last ones go on until they are ``stale_seconds`` old. ``report`` gets ``ok`` or
    ``failed`` for each fetch and ``held_back`` for each that was not made since the last was too short a time ago.
    """

    def __init__(
        self,
        name: str,
        load: Callable[[], bytes],
        algorithms: frozenset[str],
        *,
        fresh_seconds: float,
        refetch_seconds: float,
        stale_seconds: float,
        wait_seconds: float,
        report: Callable[[str, str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._load = load
        self._algorithms = algorithms
        self._fresh_seconds = fresh_seconds
        self._refetch_seconds = refetch_seconds
        self._stale_seconds = stale_seconds
        self._wait_seconds = wait_seconds
        self._report = report
        self._clock = clock
        self._lock = threading.Lock()
        self._keys: Keys = {}
        self._fetched_at = -float("inf")
        # When a fetch was begun last because a key was missing, and because the keys had aged.
        self._tried_at = {True: -float("inf"), False: -float("inf")}
        self._failed = False
        self._fetching: threading.Event | None = None
        self._waiting = {True: 0, False: 0}

    def find(self, kid: str, algorithm: str) -> tuple[jwt.PyJWK, float]:
        """The key, and for how many seconds what it verifies may be believed. Blocks for one fetch at most.

        Raises ``BadToken`` if the provider has no such key, ``ProviderUnavailable`` if its keys can't be had, and
        ``TooBusy`` if too many wait for them already.
        """
        key = self._keys.get((kid, algorithm))
        age = self._clock() - self._fetched_at
        if key is None:
            self._refresh(wait=True, missing=True)
        elif age >= self._fresh_seconds:
            # Nobody waits again for a provider that has just failed, as long as its last keys are good enough.
            self._refresh(wait=not self._failed or age >= self._stale_seconds, missing=False)
        elif age >= self._fresh_seconds / 2:
            self._refresh(wait=False, missing=False)
        with self._lock:
            key, age = self._keys.get((kid, algorithm)), self._clock() - self._fetched_at
            if age >= self._stale_seconds or (key is None and self._failed):
                raise ProviderUnavailable
        if key is None:
            raise BadToken
        return key, max(self._fresh_seconds - age, min(1.0, self._refetch_seconds))

    def prefetch(self) -> None:
        """Begins to fetch, if nothing has been fetched a moment ago; does not wait."""
        self._refresh(wait=False, missing=False)

    def _refresh(self, *, wait: bool, missing: bool) -> None:
        with self._lock:
            fetching = self._fetching
            if fetching is None:
                now = self._clock()
                if now - self._tried_at[missing] < self._refetch_seconds:
                    if wait:
                        self._report(self._name, "held_back")
                    return
                self._tried_at[missing] = now
                fetching = self._fetching = threading.Event()
                threading.Thread(target=self._fetch, args=(fetching,), name="provider-keys", daemon=True).start()
            if not wait:
                return
            if self._waiting[missing] >= MAX_WAITING:
                if missing:
                    raise TooBusy
                return  # a flood of unknown keys must not lock out those whose key is known
            self._waiting[missing] += 1
        try:
            fetching.wait(self._wait_seconds)
        finally:
            with self._lock:
                self._waiting[missing] -= 1

    def _fetch(self, done: threading.Event) -> None:
        outcome, keys = "failed", None
        try:
            keys = read_keys(self._load(), self._algorithms)
            outcome = "ok"
        except FetchError as error:
            log.warning("the keys of the identity provider %s can't be had: %s", self._name, error)
        except Exception:
            log.exception("the keys of the identity provider %s can't be had", self._name)
        with self._lock:
            self._failed = keys is None
            if keys is not None:
                self._keys, self._fetched_at = keys, self._clock()
            self._fetching = None
        done.set()
        self._report(self._name, outcome)


def key_set_url(discovery: bytes, issuer: str) -> str:
    """Where a provider's discovery document says its keys are. Raises ``FetchError``, also if it is another's."""
    try:
        found = parse_object(discovery)
    except BadToken:
        raise FetchError("the discovery document is no JSON object") from None
    url = found.get("jwks_uri")
    if found.get("issuer") != issuer or not isinstance(url, str):
        raise FetchError(f"the discovery document is not that of {json.dumps(issuer)}, or names no jwks_uri")
    return url
