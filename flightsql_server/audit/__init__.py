"""The audit trail: one JSON line for each decision, chained by hashes, kept in files that only the server's user reads.

``AuditTrail`` takes what the rooms tell it and writes from a thread of its own; ``verify`` proves the files afterwards.
"""

from __future__ import annotations

from flightsql_server.audit.chain import key_id
from flightsql_server.audit.facts import Outcome, time_text
from flightsql_server.audit.files import AuditError, open_key, read_key
from flightsql_server.audit.trail import AuditOptions, AuditTrail
from flightsql_server.audit.verify import Report, verify

__all__ = [
    "AuditError",
    "AuditOptions",
    "AuditTrail",
    "Outcome",
    "Report",
    "key_id",
    "open_key",
    "read_key",
    "time_text",
    "verify",
]
