"""For Python programs: publish record batches to a dataset, subscribe to a query. Needs pyarrow alone.

::

    with subscribe("grpc://127.0.0.1:50052", "SELECT * FROM market_data", user="ann", password="…") as updates:
        for update in updates:
            print(update.type, update.rows.num_rows, update.seq)

    with publish("grpc://127.0.0.1:50052", "market_data", user="feed", password="…") as publisher:
        receipt = publisher.send(batch)

Both come back by themselves after a lost connection: a subscription goes on after the last ``_seq`` that it has given,
and a batch whose acknowledgement was lost is sent again under its number, which the server stores once.
``subscribe_async`` and ``publish_async`` are the same for asyncio.
"""

from flightsql_server.client.connection import ClientError
from flightsql_server.client.mirror import Mirror
from flightsql_server.client.publishing import Publisher, PublishError, Receipt
from flightsql_server.client.reliable import AsyncPublishing, Publishing, publish, publish_async
from flightsql_server.client.subscribing import (
    AsyncSubscription,
    SubscribeError,
    Subscription,
    Update,
    subscribe,
    subscribe_async,
)

__all__ = [
    "AsyncPublishing",
    "AsyncSubscription",
    "ClientError",
    "Mirror",
    "PublishError",
    "Publisher",
    "Publishing",
    "Receipt",
    "SubscribeError",
    "Subscription",
    "Update",
    "publish",
    "publish_async",
    "subscribe",
    "subscribe_async",
]
