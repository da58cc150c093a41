"""The identity providers that the configuration names: whose tokens count, and what of them counts."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Final

from .fetching import Fetcher, FetchError, check_url, is_loopback
from .principals import SERVICE_NAMESPACE
from .provider_keys import KINDS, key_set_url

DISCOVERY: Final = "/.well-known/openid-configuration"
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")

ClaimPath = tuple[str, ...]
"""Where a claim is: its name, or the names on the way to it through objects."""


class ProviderError(ValueError):
    """A provider that can't be taken as it is configured; the message names the provider and the key."""


@dataclass(frozen=True)
class Provider:
    """One identity provider. The fields are the keys of its table, seconds and bytes in their names.

    ``roles``: what each group gives; ``local_users``: the principal's claim names a user of this server.
    """

    name: str
    issuer: str
    audience: frozenset[str]
    jwks_url: str = ""
    jwks_file: Path | None = None
    ca_file: Path | None = None
    algorithms: frozenset[str] = frozenset({"RS256", "ES256", "EdDSA"})
    principal_claim: ClaimPath = ("sub",)
    groups_claim: ClaimPath = ("groups",)
    roles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    default_roles: tuple[str, ...] = ()
    claims: Mapping[str, ClaimPath] = field(default_factory=dict)
    local_users: bool = False
    leeway_seconds: float = 30.0
    longest_seconds: float = 86_400.0
    fresh_seconds: float = 600.0
    refetch_seconds: float = 30.0
    stale_seconds: float = 86_400.0
    fetch_seconds: float = 5.0
    fetch_bytes: int = 262_144

    @property
    def possible_roles(self) -> frozenset[str]:
        """Every role that some token of the provider could give."""
        return frozenset(self.default_roles).union(*self.roles.values())

    def load_keys(self) -> bytes:
        """The key set's document, from the file or from the provider. Blocks; raises ``FetchError``."""
        if self.jwks_file is not None:
            try:
                with self.jwks_file.open("rb") as file:
                    content = file.read(self.fetch_bytes + 1)
            except OSError as error:
                raise FetchError(f"the file can't be read: {error.strerror}") from error
            if len(content) > self.fetch_bytes:
                raise FetchError(f"the file is longer than {self.fetch_bytes} bytes")
            return content
        fetcher = Fetcher(self.fetch_seconds, self.fetch_bytes, self.ca_file, is_loopback(self.issuer))
        url = self.jwks_url or key_set_url(fetcher.fetch(self.issuer.rstrip("/") + DISCOVERY), self.issuer)
        return fetcher.fetch(url)


_KEYS: Final = tuple(one.name for one in fields(Provider) if one.name != "name")
_BOUNDS: Final = {
    "leeway_seconds": (0, 300),
    "longest_seconds": (60, 366 * 86_400),
    "fresh_seconds": (1, 86_400),
    "refetch_seconds": (0.1, 3_600),
    "stale_seconds": (1, 30 * 86_400),
    "fetch_seconds": (0.1, 30),
    "fetch_bytes": (1_024, 16 * 1024**2),
}


def providers_of(
    tables: Mapping[str, object], known_roles: Collection[str], own_issuer: str = ""
) -> tuple[Provider, ...]:
    """The providers of the ``[providers.<name>]`` tables, as ``tomllib`` gives them. Reads no file and fetches nothing.

    ``own_issuer`` is what tokens made here say, which no provider may say as well.
    Raises ``ProviderError``, naming provider and key, on anything that isn't exactly what the form allows.
    """
    found = tuple(_Table(name, table).provider(known_roles) for name, table in tables.items())
    issuers: dict[str, str] = {}
    for one in found:
        if one.issuer in issuers:
            raise ProviderError(f"providers {issuers[one.issuer]!r} and {one.name!r} have the same issuer")
        if one.issuer == own_issuer:
            raise ProviderError(f"provider {one.name!r}, key 'issuer': this is what this server calls itself")
        issuers[one.issuer] = one.name
    return found


class _Table:
    """One table, read key by key."""

    def __init__(self, name: str, table: object) -> None:
        self._name = name
        if not _NAME.fullmatch(name):
            raise ProviderError(
                f"provider {name!r}: a name is 1 to 32 small letters, digits, '_' or '-', a letter at first"
            )
        if not isinstance(table, Mapping):
            raise ProviderError(f"provider {name!r}: write it as a table [providers.{name}]")
        if f"{name}:" == SERVICE_NAMESPACE:
            raise ProviderError(f"provider {name!r}: that is what service tokens are called: choose another name")
        for key in table:
            if key not in _KEYS:
                raise ProviderError(f"provider {name!r}: unknown key {key!r}; a provider has {', '.join(_KEYS)}")
        self._table = table

    def provider(self, known_roles: Collection[str]) -> Provider:
        issuer, audience = self._text("issuer"), frozenset(self._texts("audience"))
        jwks_url, jwks_file = self._text("jwks_url", ""), self._text("jwks_file", "")
        if not issuer or not audience or "" in audience:
            raise self._wrong("issuer" if not issuer else "audience", "give it, as the provider's tokens say it")
        if jwks_url and jwks_file:
            raise self._wrong("jwks_file", "give this or jwks_url, not both")
        for key, url in (("jwks_url", jwks_url), ("issuer", "" if jwks_url or jwks_file else issuer)):
            try:
                if url:
                    check_url(url, plain=is_loopback(url))
            except FetchError as error:
                raise self._wrong(key, str(error)) from None
        ca_file = self._text("ca_file", "")
        local_users = self._table.get("local_users", False)
        if not isinstance(local_users, bool):
            raise self._wrong("local_users", "give true or false")
        found = Provider(
            name=self._name,
            issuer=issuer,
            audience=audience,
            jwks_url=jwks_url,
            jwks_file=Path(jwks_file) if jwks_file else None,
            ca_file=Path(ca_file) if ca_file else None,
            algorithms=self._algorithms(),
            principal_claim=self._path("principal_claim", self._table.get("principal_claim", "sub")),
            groups_claim=self._path("groups_claim", self._table.get("groups_claim", "groups")),
            roles={group: self._roles("roles", roles) for group, roles in self._mapping("roles").items()},
            default_roles=self._roles("default_roles", self._table.get("default_roles", [])),
            claims={name: self._path("claims", path) for name, path in self._claims().items()},
            local_users=local_users,
            fetch_bytes=int(self._number("fetch_bytes", Provider.fetch_bytes)),
            **{key: self._number(key, getattr(Provider, key)) for key in _BOUNDS if key.endswith("_seconds")},
        )
        if unknown := sorted(found.possible_roles - set(known_roles)):
            raise self._wrong("roles", f"there is no role {unknown[0]!r}")
        if local_users and (found.possible_roles or found.claims):
            raise self._wrong("local_users", "then roles and claims are those of the users here: leave them out")
        if found.stale_seconds < found.fresh_seconds:
            raise self._wrong("stale_seconds", "give at least as much as fresh_seconds")
        return found

    def _wrong(self, key: str, what: str) -> ProviderError:
        return ProviderError(f"provider {self._name!r}, key {key!r}: {what}")

    def _text(self, key: str, default: str | None = None) -> str:
        value = self._table.get(key, "" if default is None else default)
        if not isinstance(value, str):
            raise self._wrong(key, "give a text")
        return value

    def _texts(self, key: str) -> tuple[str, ...]:
        value = self._table.get(key, ())
        if isinstance(value, str):
            return (value,)
        if not isinstance(value, list | tuple) or not all(isinstance(one, str) for one in value):
            raise self._wrong(key, "give a text or a list of texts")
        return tuple(value)

    def _algorithms(self) -> frozenset[str]:
        found = frozenset(self._texts("algorithms")) or Provider.algorithms
        if not found <= KINDS.keys():
            raise self._wrong("algorithms", f"give some of {', '.join(KINDS)}: what others sign, anybody could")
        return found

    def _path(self, key: str, value: object) -> ClaimPath:
        names = (value,) if isinstance(value, str) else value
        if not isinstance(names, list | tuple) or not names or not all(isinstance(one, str) and one for one in names):
            raise self._wrong(key, 'give a claim\'s name, or the way to it, such as ["realm_access", "roles"]')
        return tuple(names)

    def _mapping(self, key: str) -> Mapping[str, object]:
        value = self._table.get(key, {})
        if not isinstance(value, Mapping):
            raise self._wrong(key, f"write a table [providers.{self._name}.{key}]")
        return value

    def _claims(self) -> Mapping[str, object]:
        value = self._table.get("claims", {})
        return {str(name): name for name in value} if isinstance(value, list) else self._mapping("claims")

    def _roles(self, key: str, value: object) -> tuple[str, ...]:
        names = (value,) if isinstance(value, str) else value
        if not isinstance(names, list | tuple) or not all(isinstance(one, str) for one in names):
            raise self._wrong(key, "give a role's name or a list of them")
        return tuple(names)

    def _number(self, key: str, default: float) -> float:
        value = self._table.get(key, default)
        low, high = _BOUNDS[key]
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise self._wrong(key, f"give a number of {low:g} to {high:.0f}")
        return float(value) if math.isfinite(value) else float(high)
