"""Policies as data: roles, what they grant, and the union of grants that one principal holds.

Everything that isn't granted is denied. Applying the grants to statements is the planner's work, not this module's.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal

MAIN_SCHEMA: Final = "main"
EVERYTHING: Final = "*"

PRIVATE_PREFIX: Final = "u_"
"""Schemas whose names begin so belong to one user each; ``*`` doesn't cover them, so that a copy can't leak."""

Action = Literal["select", "ingest", "create"]

_NAME = r"[^\s.*\"']+"
_PATTERN = re.compile(rf"\*|{_NAME}|{_NAME}\.\*|{_NAME}\.{_NAME}")
_ROLE_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LIST_KEYS: Final = ("select", "ingest")
_FLAG_KEYS: Final = ("create", "admin")
_KEYS: Final = (*_LIST_KEYS, *_FLAG_KEYS)
_KEPT_GRANTS: Final = 10_000
_PLAIN_USER: Final = re.compile(r"[a-z0-9][a-z0-9_]{0,59}")


def own_schema(user: str) -> str:
    """The schema that belongs to the user: ``u_`` and the name, where that is plain; else with a hash of the name."""
    if _PLAIN_USER.fullmatch(user):
        return PRIVATE_PREFIX + user
    plain = re.sub(r"[^a-z0-9_]", "_", user.lower())[:40]
    return f"{PRIVATE_PREFIX}{plain}_{hashlib.blake2b(user.encode(), digest_size=6).hexdigest()}"


class PolicyError(ValueError):
    """A policy that can't be taken as it is; the message names the role and the key."""


@dataclass(frozen=True, slots=True)
class Role:
    """One role: patterns of what it may read and write, whether its users have tables of their own, and whether it
    administers the server.
    """

    name: str
    select: frozenset[str] = frozenset()
    ingest: frozenset[str] = frozenset()
    create: bool = False
    admin: bool = False


@dataclass(frozen=True, slots=True)
class Grants:
    """What one principal may do: the union of its roles. Immutable and hashable, so it may be part of a cache key.

    ``own``: the schema in which the principal may do everything if ``create`` is granted; empty: none.
    """

    select: frozenset[str] = frozenset()
    ingest: frozenset[str] = frozenset()
    create: bool = False
    admin: bool = False
    own: str = ""

    def allows(self, action: Action, *, schema: str, name: str, dataset: str | None) -> bool:
        """Whether the action is granted on table ``schema.name``, which shows ``dataset`` (None: no dataset).

        Patterns: ``*`` everything; ``schema.*``; ``schema.name``; a bare ``name`` is a table of schema ``main``, or a
        dataset, and then covers every table that shows it. Names are compared exactly: give them as the catalog does.
        """
        if self.own and schema == self.own:
            return self.create
        if action == "create":
            return False
        patterns = self.select if action == "select" else self.ingest
        private = schema.startswith(PRIVATE_PREFIX) and not self.admin
        return (
            (EVERYTHING in patterns and not private)
            or (schema == MAIN_SCHEMA and name in patterns)
            or (dataset is not None and dataset in patterns)
            or f"{schema}.{name}" in patterns
            or f"{schema}.*" in patterns
        )


BUILT_IN_ROLES: Final[Mapping[str, Role]] = MappingProxyType(
    {
        "admin": Role("admin", select=frozenset({EVERYTHING}), ingest=frozenset({EVERYTHING}), create=True, admin=True),
        "reader": Role("reader", select=frozenset({EVERYTHING})),
    }
)


@dataclass(frozen=True)
class Policies:
    """Every role by name. A changed policy is a new object; ``version`` is a hash of the content, for cache keys."""

    roles: Mapping[str, Role] = field(default_factory=lambda: BUILT_IN_ROLES)
    version: str = field(init=False)
    _known: dict[tuple[tuple[str, ...], str], Grants] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        content = [
            [role.name, sorted(role.select), sorted(role.ingest), role.create, role.admin]
            for role in sorted(self.roles.values(), key=lambda role: role.name)
        ]
        digest = hashlib.blake2b(json.dumps(content).encode(), digest_size=8)
        object.__setattr__(self, "version", digest.hexdigest())

    @classmethod
    def from_toml(cls, roles_table: Mapping[str, object]) -> Policies:
        """The built-in roles and those of the ``[roles.<name>]`` tables, as ``tomllib`` gives them.

        Raises ``PolicyError``, naming role and key, on anything that isn't exactly what the form allows.
        """
        roles = dict(BUILT_IN_ROLES)
        for name, table in roles_table.items():
            if name in BUILT_IN_ROLES:
                raise PolicyError(f"role {name!r} is built in and can't be redefined: choose another name")
            if not _ROLE_NAME.fullmatch(name):
                raise PolicyError(f"role {name!r}: a role's name is 1 to 64 letters, digits, '_' or '-'")
            if not isinstance(table, Mapping):
                raise PolicyError(f"role {name!r}: write it as a table [roles.{name}]")
            roles[name] = _role(name, table)
        return cls(MappingProxyType(roles))

    def grants(self, role_names: Iterable[str], user: str = "") -> Grants:
        """The union of what the named roles grant ``user``. A name that no role has grants nothing."""
        key = (tuple(role_names), user)
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= _KEPT_GRANTS:
                self._known.clear()
            known = self._known[key] = self._grants(*key)
        return known

    def _grants(self, role_names: tuple[str, ...], user: str) -> Grants:
        found = [role for name in role_names if (role := self.roles.get(name)) is not None]
        return Grants(
            select=frozenset().union(*(role.select for role in found)),
            ingest=frozenset().union(*(role.ingest for role in found)),
            create=any(role.create for role in found),
            admin=any(role.admin for role in found),
            own=own_schema(user) if user else "",
        )


def _role(name: str, table: Mapping[str, object]) -> Role:
    for key in table:
        if key not in _KEYS:
            raise PolicyError(f"role {name!r}: unknown key {key!r}; a role has {', '.join(_KEYS)}")
    patterns = {key: _patterns(name, key, table.get(key, [])) for key in _LIST_KEYS}
    flags = {key: table.get(key, False) for key in _FLAG_KEYS}
    for key, flag in flags.items():
        if not isinstance(flag, bool):
            raise PolicyError(f"role {name!r}, key {key!r}: give true or false")
    return Role(
        name,
        select=patterns["select"],
        ingest=patterns["ingest"],
        create=flags["create"] is True,
        admin=flags["admin"] is True,
    )


def _patterns(role: str, key: str, value: object) -> frozenset[str]:
    if not isinstance(value, list):
        raise PolicyError(f'role {role!r}, key {key!r}: give a list of patterns, such as ["market_data", "main.*"]')
    for pattern in value:
        if not isinstance(pattern, str) or not _PATTERN.fullmatch(pattern):
            raise PolicyError(
                f'role {role!r}, key {key!r}: {pattern!r} is none of "*", "schema.*", "schema.name", "name"'
            )
    return frozenset(value)
