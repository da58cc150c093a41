"""gRPC reflection, for admins only: a map of the service is a gift to whoever probes it."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from flightsql_auth.authenticator import Authenticator
from flightsql_auth.errors import AuthError
from flightsql_auth.policies import LivePolicies
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from flightsql_server.protocol import flight_pb2
from flightsql_server.protocol.interceptors import certificate_of, headers_of, identify

_NAMES = tuple(service.full_name for service in flight_pb2.DESCRIPTOR.services_by_name.values())


class _GuardedReflection(reflection.aio.ReflectionServicer):  # type: ignore[misc, name-defined]
    def __init__(self, authenticator: Authenticator, policies: LivePolicies, pool: ThreadPoolExecutor) -> None:
        super().__init__((*_NAMES, "grpc.health.v1.Health", reflection.SERVICE_NAME))
        self._authenticator = authenticator
        self._policies = policies
        self._pool = pool

    async def ServerReflectionInfo(self, request_iterator: AsyncIterable[Any], context: Any) -> AsyncIterator[Any]:  # noqa: N802
        try:
            headers = headers_of(context)
            certificate = certificate_of(context, headers)
            principal = await identify(self._authenticator, self._pool, headers, context.peer(), certificate)
        except AuthError as error:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, f"[28000] {error.reason}")
        if not self._policies.grants(principal.roles).admin:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "[42501] Reflection is for admins.")
        async for response in super().ServerReflectionInfo(request_iterator, context):
            yield response


def add_reflection(
    server: grpc.aio.Server, authenticator: Authenticator, policies: LivePolicies, pool: ThreadPoolExecutor
) -> None:
    """Adds the reflection service to a server that has not started."""
    servicer = _GuardedReflection(authenticator, policies, pool)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, server)
