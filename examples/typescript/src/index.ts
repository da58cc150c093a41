// What a program imports: see README.md.

export { FlightSqlClient } from "./client.js";
export type { Acknowledgement, PutOptions } from "./client.js";
export { LoginRefused } from "./connection.js";
export type { Login } from "./connection.js";
export type {
  Changes, Granted, Heartbeat, LiveEvent, Reconnecting, Refused, Reset, Snapshot, StreamEvent, Subscribed, Told,
} from "./events.js";
export { quoteBatch } from "./market.js";
export type { MarketData, Quote } from "./market.js";
export { Mirror } from "./mirror.js";
export { Subscription } from "./subscription.js";
export type { SubscribeOptions } from "./subscription.js";
