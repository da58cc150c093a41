"""Policies as data: roles, what they grant, and the union of grants that one principal holds.

Everything that isn't granted is denied. Applying the grants to statements is the planner's work, not this module's.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Final, Literal

from flightsql_auth.limits import NO_LIMITS, Limits, most_generous
from flightsql_auth.restrictions import EVERYTHING, MAIN_SCHEMA, Reader, Restriction, View, Writing, restrictions

PRIVATE_PREFIX: Final = "u_"
"""Schemas whose names begin so belong to one user each; ``*`` doesn't cover them, so that a copy can't leak."""

TEMPORARY_PREFIX: Final = "temp_"
"""Schemas whose names begin so belong to one session each and end with it; nothing but that session covers them."""

OPERATIONS_SCHEMA: Final = "ops"
"""What the server tells of itself: for administrators, and for roles that name it; ``*`` doesn't cover it."""

Action = Literal["select", "insert", "ingest", "subscribe", "create"]
"""``insert``: rows for a dataset by SQL. ``ingest``: by a stream of record batches, and by SQL as well."""

_NAME = r"[^\s.*\"']+"
_PATTERN = re.compile(rf"\*|{_NAME}|{_NAME}\.\*|{_NAME}\.{_NAME}")
_MASK = re.compile(r"null|hash|last4|round\(-?\d{1,2}\)|=.+", re.DOTALL)
_ROLE_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LIST_KEYS: Final = ("select", "insert", "ingest", "subscribe")
_FLAG_KEYS: Final = ("create", "explain", "admin")
_TABLE_KEYS: Final = ("filters", "masks", "limits")
_KEYS: Final = (*_LIST_KEYS, *_FLAG_KEYS, *_TABLE_KEYS)
_KEPT_GRANTS: Final = 10_000
_PLAIN_USER: Final = re.compile(r"[a-z0-9][a-z0-9_]{0,59}")


def own_schema(user: str) -> str:
    """The schema that belongs to the user: ``u_`` and the name, where that is plain; else with a hash of the name."""
    if _PLAIN_USER.fullmatch(user):
        return PRIVATE_PREFIX + user
    plain = re.sub(r"[^a-z0-9_]", "_", user.lower())[:40]
    # A name that an identity provider gives may have been chosen by its bearer: no other may be made to meet it.
    size = 16 if ":" in user else 6
    return f"{PRIVATE_PREFIX}{plain}_{hashlib.blake2b(user.encode(), digest_size=size).hexdigest()}"


@lru_cache(maxsize=10_000)
def temporary_schema(session_id: str) -> str:
    """The schema of a session's temporary tables; its name tells nobody the session's id."""
    return TEMPORARY_PREFIX + hashlib.blake2b(session_id.encode(), digest_size=10).hexdigest()


class PolicyError(ValueError):
    """A policy that can't be taken as it is; the message names the role and the key."""


@dataclass(frozen=True, slots=True)
class Role:
    """One role: patterns of what it may read, write and subscribe to, how much of that it is shown, whether its users
    have tables of their own, may see how the engine runs their statements, and administer the server; and how much they
    may take at a time.
    """

    name: str
    select: frozenset[str] = frozenset()
    ingest: frozenset[str] = frozenset()
    create: bool = False
    admin: bool = False
    explain: bool = False
    restrictions: tuple[Restriction, ...] = ()
    insert: frozenset[str] = frozenset()
    subscribe: frozenset[str] = frozenset()
    limits: Limits = NO_LIMITS


Claims = tuple[tuple[str, str], ...]
"""What is claimed of a principal, by name, as JSON: texts, numbers, booleans, and lists of them."""


@dataclass(frozen=True, slots=True)
class Grants:
    """What one principal may do: the union of its roles. Immutable and hashable, so it may be part of a cache key.

    ``own``: the schema in which the principal may do everything if ``create`` is granted; empty: none. ``temporary`` is
    another such schema, of the session that asks. ``readers``: the roles one by one, where some of them show less than
    they grant; empty: none does. ``claims`` are what predicates compare rows with. ``limits``: of each limit the most
    generous of the roles.
    """

    select: frozenset[str] = frozenset()
    ingest: frozenset[str] = frozenset()
    create: bool = False
    admin: bool = False
    own: str = ""
    temporary: str = ""
    explain: bool = False
    readers: tuple[Reader, ...] = ()
    claims: Claims = ()
    insert: frozenset[str] = frozenset()
    subscribe: frozenset[str] = frozenset()
    limits: Limits = NO_LIMITS

    def views(
        self, *, schema: str, name: str, dataset: str | None, writing: Writing | None = None
    ) -> tuple[View, ...] | None:
        """The parts of a table that the principal is shown, one for each role that grants it; None: all of it.

        A row is shown if it is in any part, and wears a mask if every part that it is in has one for the column.
        ``writing``: the parts of which rows may be written in this way.
        """
        if not self.readers or (schema and schema in (self.own, self.temporary)):
            return None
        private = self._is_private(schema)
        found = [reader.view(private, writing, schema=schema, name=name, dataset=dataset) for reader in self.readers]
        views = tuple(dict.fromkeys(view for view in found if view is not None))
        whole = any(not view.predicates if writing else view.is_whole for view in views)
        return None if whole else views

    def _is_private(self, schema: str) -> bool:
        """Whether ``*`` does not cover this schema."""
        return (schema.startswith(PRIVATE_PREFIX) or schema == OPERATIONS_SCHEMA) and not self.admin

    def allows(self, action: Action, *, schema: str, name: str, dataset: str | None) -> bool:
        """Whether the action is granted on table ``schema.name``, which shows ``dataset`` (None: no dataset).

        To subscribe takes ``select`` as well.

        Patterns: ``*`` everything; ``schema.*``; ``schema.name``; a bare ``name`` is a table of schema ``main``, or a
        dataset, and then covers every table that shows it. Names are compared exactly: give them as the catalog does.
        """
        if schema and schema in (self.own, self.temporary):
            return self.create
        if schema.startswith(TEMPORARY_PREFIX):
            return False
        if action == "create":
            return False
        if action == "subscribe" and not self._covers(self.select, schema, name, dataset):
            return False
        patterns = self.insert | self.ingest if action == "insert" else getattr(self, action)
        return self._covers(patterns, schema, name, dataset)

    def _covers(self, patterns: frozenset[str], schema: str, name: str, dataset: str | None) -> bool:
        return (
            (EVERYTHING in patterns and not self._is_private(schema))
            or (schema == MAIN_SCHEMA and name in patterns)
            or (dataset is not None and dataset in patterns)
            or f"{schema}.{name}" in patterns
            or f"{schema}.*" in patterns
        )


BUILT_IN_ROLES: Final[Mapping[str, Role]] = MappingProxyType(
    {
        "admin": Role(
            "admin",
            select=frozenset({EVERYTHING}),
            ingest=frozenset({EVERYTHING}),
            create=True,
            admin=True,
            explain=True,
            subscribe=frozenset({EVERYTHING}),
        ),
        "reader": Role("reader", select=frozenset({EVERYTHING}), subscribe=frozenset({EVERYTHING})),
    }
)


@dataclass(frozen=True)
class Policies:
    """Every role by name. A changed policy is a new object; ``version`` is a hash of the content, for cache keys."""

    roles: Mapping[str, Role] = field(default_factory=lambda: BUILT_IN_ROLES)
    version: str = field(init=False)
    _known: dict[tuple[tuple[str, ...], str, str, Claims], Grants] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        content = [
            [
                *(role.name, sorted(role.select), sorted(role.ingest), role.create, role.admin, role.explain),
                [[one.pattern, one.predicate, one.masks] for one in role.restrictions],
                *(sorted(role.insert), sorted(role.subscribe), astuple(role.limits)),
            ]
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

    def grants(
        self,
        role_names: Iterable[str],
        user: str = "",
        temporary: str = "",
        claims: Mapping[str, object] = MappingProxyType({}),
    ) -> Grants:
        """The union of what the named roles grant ``user``. A name that no role has grants nothing.

        ``temporary``: the schema of the asking session's temporary tables; empty: it has none. ``claims`` count only
        where some role's rows depend on them.
        """
        names = tuple(role_names)
        restricted = any(role.restrictions for name in names if (role := self.roles.get(name)) is not None)
        key = (names, user, temporary, _plain(claims) if restricted else ())
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= _KEPT_GRANTS:
                self._known.clear()
            known = self._known[key] = self._grants(*key)
        return known

    def _grants(self, role_names: tuple[str, ...], user: str, temporary: str, claims: Claims) -> Grants:
        found = [role for name in role_names if (role := self.roles.get(name)) is not None]
        return Grants(
            select=frozenset().union(*(role.select for role in found)),
            ingest=frozenset().union(*(role.ingest for role in found)),
            create=any(role.create for role in found),
            admin=any(role.admin for role in found),
            explain=any(role.explain for role in found),
            readers=tuple(Reader(role.select, role.restrictions, role.ingest, role.insert) for role in found)
            if any(role.restrictions for role in found)
            else (),
            claims=claims,
            own=own_schema(user) if user else "",
            temporary=temporary,
            insert=frozenset().union(*(role.insert for role in found)),
            subscribe=frozenset().union(*(role.subscribe for role in found)),
            limits=most_generous(role.limits for role in found),
        )


class LivePolicies:
    """The policies in force. ``replace`` puts others in their place, for every call from then on; safe for threads."""

    def __init__(self, policies: Policies) -> None:
        self._current = policies

    @property
    def version(self) -> str:
        """The version of those in force."""
        return self._current.version

    def replace(self, policies: Policies) -> None:
        """Puts these in force."""
        self._current = policies

    def grants(
        self,
        role_names: Iterable[str],
        user: str = "",
        temporary: str = "",
        claims: Mapping[str, object] = MappingProxyType({}),
    ) -> Grants:
        """See ``Policies.grants``."""
        return self._current.grants(role_names, user, temporary, claims)


def _role(name: str, table: Mapping[str, object]) -> Role:
    for key in table:
        if key not in _KEYS:
            raise PolicyError(f"role {name!r}: unknown key {key!r}; a role has {', '.join(_KEYS)}")
    patterns = {key: _patterns(name, key, table.get(key, [])) for key in _LIST_KEYS}
    flags = {key: table.get(key, False) for key in _FLAG_KEYS}
    for key, flag in flags.items():
        if not isinstance(flag, bool):
            raise PolicyError(f"role {name!r}, key {key!r}: give true or false")
    try:
        limits = Limits.from_table(table.get("limits", {}))
    except ValueError as error:
        raise PolicyError(f"role {name!r}, key 'limits': {error}") from error
    return Role(
        name,
        select=patterns["select"],
        ingest=patterns["ingest"],
        create=flags["create"] is True,
        admin=flags["admin"] is True,
        explain=flags["explain"] is True,
        restrictions=_restrictions(name, table),
        insert=patterns["insert"],
        subscribe=patterns["subscribe"],
        limits=limits,
    )


def _restrictions(role: str, table: Mapping[str, object]) -> tuple[Restriction, ...]:
    filters, masks = table.get("filters", {}), table.get("masks", {})
    if not isinstance(filters, Mapping) or not all(isinstance(text, str) and text for text in filters.values()):
        raise PolicyError(f"role {role!r}, key 'filters': write [roles.{role}.filters] with orders = \"a predicate\"")
    if not isinstance(masks, Mapping) or not all(isinstance(columns, Mapping) for columns in masks.values()):
        raise PolicyError(f"role {role!r}, key 'masks': write [roles.{role}.masks.orders] with note = \"null\"")
    for pattern in (*filters, *masks):
        if not _PATTERN.fullmatch(pattern):
            raise PolicyError(f"role {role!r}: {pattern!r} means no tables")
    for pattern, columns in masks.items():
        for column, mask in columns.items():
            if not isinstance(mask, str) or not _MASK.fullmatch(mask):
                known = "null, hash, last4, round(2), = expression"
                raise PolicyError(f"role {role!r}: the mask of {pattern}.{column} is none of {known}")
    return restrictions(filters, masks)


def _plain(claims: Mapping[str, object]) -> Claims:
    """The claims that a predicate can compare with, in a form that can be part of a key; all others count as absent."""
    simple = (str, bool, int, float)
    return tuple(
        (name, json.dumps(value))
        for name, value in sorted(claims.items())
        if isinstance(value, simple)
        or (isinstance(value, (list, tuple)) and all(isinstance(item, simple) for item in value))
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
