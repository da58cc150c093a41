// A subscription that outlives its streams: it comes back where it was, or with a snapshot where that can't be.

import { status } from "@grpc/grpc-js";
import type { ClientDuplexStream } from "@grpc/grpc-js";
import type { TypeMap } from "apache-arrow";
import { isServiceError, LoginRefused } from "./connection.js";
import type { Connection } from "./connection.js";
import { EventReader } from "./events.js";
import type { LiveEvent, StreamEvent } from "./events.js";
import { commandDescriptor, DO_EXCHANGE, flightData, readFlightData } from "./wire.js";

export interface SubscribeOptions {
  /** `conflate`: newest row of each key to a slow reader; `buffer`: every row; `interval`: at most so often. */
  readonly mode?: "conflate" | "buffer" | "interval";
  /** Of the mode `interval`. */
  readonly intervalMs?: number;
  /** Go on after this `_seq`; without it a snapshot comes first. */
  readonly fromSeq?: number;
  /** What the server told as `plan` with that `_seq`: where that has changed, a snapshot comes. */
  readonly plan?: string;
  /** Of a query that is run anew: the columns that tell rows apart, and the shortest time between two runs. */
  readonly key?: readonly string[];
  readonly minIntervalMs?: number;
  /** The dialect of the query, such as `postgres`. */
  readonly dialect?: string;
  /** A stream that is silent for so long is taken for dead; the server's heartbeat comes every 10 s. 45 s. */
  readonly silenceMs?: number;
  /** Wait at first about so long before asking again, and at most so long. */
  readonly firstDelayMs?: number;
  readonly longestDelayMs?: number;
}

/** Errors that asking again, as it was asked, can't mend. */
const LASTING = new Set<number>([
  status.INVALID_ARGUMENT, status.NOT_FOUND, status.ALREADY_EXISTS, status.PERMISSION_DENIED,
  status.FAILED_PRECONDITION, status.UNIMPLEMENTED, status.DATA_LOSS, status.UNAUTHENTICATED, status.OUT_OF_RANGE,
]);
/** Somebody has stopped it at the server, and means it. */
const STOPPED = /CANCELLED: \[57014\]/;

/** An iterator of events, for one reader, that ends with `close` or by an error that lasts. */
export class Subscription<T extends TypeMap = any> implements AsyncIterable<LiveEvent<T>> {
  readonly #connection: Connection;
  readonly #options: SubscribeOptions;
  #query: string; // as it was granted
  #seq: number | undefined;
  #plan: string | undefined;
  #paused = false;
  readonly #wishes: string[] = []; // filters that have not been answered
  #asked = false; // the first of them has been sent
  #call: ClientDuplexStream<Uint8Array, Buffer> | undefined;
  #told = false; // rows have been told that a new snapshot makes void
  #why = ""; // why one has to come
  #begun = false;
  #closed = false;
  #wake: (() => void) | undefined;

  constructor(connection: Connection, query: string, options: SubscribeOptions) {
    const { fromSeq } = options;
    if (fromSeq !== undefined && !Number.isSafeInteger(fromSeq)) throw new TypeError(`${fromSeq} is no _seq.`);
    this.#connection = connection;
    this.#options = options;
    this.#query = query;
    this.#seq = fromSeq;
    this.#plan = options.plan;
    this.#told = fromSeq !== undefined;
  }

  /** The last `_seq` that has been told wholly. */
  get seq(): number | undefined {
    return this.#seq;
  }

  /** What stands for query, rights and data: to come back with, beside `fromSeq`. */
  get plan(): string | undefined {
    return this.#plan;
  }

  /** Nothing is told until `resume`; what comes meanwhile waits at the server, as for a slow reader. */
  pause(): void {
    this.#paused = true;
    this.#send({ pause: true });
  }

  resume(): void {
    this.#paused = false;
    this.#send({ resume: true });
  }

  /**
   * Asks for another query with the same columns and key. Rows that don't belong to it come as deletes and those that
   * now do as upserts, in a `changes` event that is `moved`, and then `granted`; or `refused` says why not.
   */
  filter(query: string): void {
    this.#wishes.splice(this.#asked ? 1 : 0, Infinity, query);
    this.#wish();
  }

  /** Ends the iteration and the stream. */
  close(): void {
    this.#closed = true;
    this.#call?.cancel();
    this.#wake?.();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<LiveEvent<T>, void, undefined> {
    if (this.#begun) throw new Error("A subscription has one reader; subscribe again for another.");
    this.#begun = true;
    const forget = this.#connection.onClose(() => this.close());
    let failures = 0;
    let loggedInAnew = false;
    try {
      while (!this.#closed) {
        let failure: Error;
        try {
          for await (const event of this.#stream()) {
            if (event.type !== "subscribed" && event.type !== "reset") [failures, loggedInAnew] = [0, false];
            yield event;
          }
          failure = new Error("The server ended the stream.");
        } catch (error) {
          failure = error instanceof Error ? error : new Error(String(error));
        }
        if (this.#closed) return;
        const code = isServiceError(failure) ? failure.code : status.UNAVAILABLE;
        if (code === status.OUT_OF_RANGE && this.#seq !== undefined) {
          this.#forget(failure.message);
        } else if (code === status.UNAUTHENTICATED && !loggedInAnew && !(failure instanceof LoginRefused)) {
          loggedInAnew = true;
        } else if (LASTING.has(code) || STOPPED.test(failure.message)) {
          throw failure;
        } else {
          const delayMs = this.#delay(failures++);
          yield { type: "reconnecting", error: failure, delayMs, seq: this.#seq };
          await this.#sleep(delayMs);
        }
      }
    } finally {
      forget();
      this.close();
    }
  }

  /** What one stream tells, until it ends or breaks. */
  async *#stream(): AsyncGenerator<LiveEvent<T>, void, undefined> {
    const call = await this.#connection.duplex(DO_EXCHANGE);
    const { session } = this.#connection;
    const reader = new EventReader<T>(this.#seq);
    const messages = call[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
    this.#call = call;
    let waiting = true;
    let silent = false;
    const { intervalMs = 0, silenceMs = 45_000 + intervalMs } = this.#options;
    const timer = setTimeout(() => {
      silent = waiting;
      if (silent) call.cancel();
    }, silenceMs);
    try {
      if (this.#closed) return;
      this.#ask(call);
      for (;;) {
        waiting = true;
        timer.refresh();
        const next = await messages.next();
        waiting = false; // how long the reader takes is no silence of the server
        if (next.done) return;
        const event = reader.read(readFlightData(next.value));
        this.#plan = reader.plan ?? this.#plan;
        if (!event) continue;
        const reset = this.#note(event);
        if (reset) yield reset;
        yield event;
      }
    } catch (error) {
      if (isServiceError(error) && error.code === status.UNAUTHENTICATED) this.#connection.logout(session);
      throw silent ? new Error(`The server has said nothing for ${silenceMs} ms.`) : error;
    } finally {
      clearTimeout(timer);
      call.cancel();
      this.#call = undefined;
    }
  }

  /** The first message, and what has been wished before there was a stream. */
  #ask(call: ClientDuplexStream<Uint8Array, Buffer>): void {
    if (this.#asked && this.#seq !== undefined) {
      this.#forget("The stream broke while another filter was asked for."); // which of two it had told is not known
    }
    const { mode, intervalMs, key, minIntervalMs, dialect } = this.#options;
    const command = {
      subscribe: this.#query, mode, interval_ms: intervalMs, from_seq: this.#seq, key,
      min_interval_ms: minIntervalMs, dialect, plan: this.#seq === undefined ? undefined : this.#plan,
    };
    call.write(flightData({ descriptor: commandDescriptor(JSON.stringify(command)) }));
    if (this.#paused) this.#send({ pause: true });
    this.#wishes.splice(0, this.#wishes.length - 1); // the last one counts
    this.#asked = false;
    this.#wish();
  }

  /** Takes note of an event before it is told; gives what has to be told first. */
  #note(event: StreamEvent<T>): LiveEvent<T> | undefined {
    this.#seq = event.seq;
    if (event.type === "granted" || event.type === "refused") {
      const wish = this.#wishes.shift();
      if (wish !== undefined && event.type === "granted") this.#query = wish;
      this.#asked = false;
      this.#wish();
    }
    if (event.type === "snapshot" || event.type === "changes") this.#told = true;
    if (event.type !== "subscribed" || event.resumed || !this.#told) return undefined;
    this.#told = false;
    const reason = this.#why || "The stream broke where it can't go on.";
    this.#why = "";
    return { type: "reset", reason };
  }

  /** One filter at a time: the answer to each says which is meant. */
  #wish(): void {
    const [query] = this.#wishes;
    if (query === undefined || this.#asked || !this.#call) return;
    this.#asked = true;
    this.#send({ filter: query });
  }

  #forget(why: string): void {
    this.#seq = undefined;
    this.#why = why;
  }

  #send(wish: object): void {
    this.#call?.write(flightData({ metadata: Buffer.from(JSON.stringify(wish)) }));
  }

  /** Twice as long from one failure to the next, and each client at another time. */
  #delay(failures: number): number {
    const { firstDelayMs = 200, longestDelayMs = 10_000 } = this.#options;
    return Math.round(Math.min(longestDelayMs, firstDelayMs * 2 ** failures) * (0.5 + Math.random() / 2));
  }

  async #sleep(milliseconds: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#wake = undefined;
  }
}
