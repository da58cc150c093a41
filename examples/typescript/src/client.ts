// The client: login, rows out, rows in, subscriptions.

import { once } from "node:events";
import { status } from "@grpc/grpc-js";
import type { ClientDuplexStream } from "@grpc/grpc-js";
import { Table } from "apache-arrow";
import type { RecordBatch, TypeMap } from "apache-arrow";
import { BatchDecoder, BatchEncoder } from "./arrow.js";
import { Connection, isServiceError } from "./connection.js";
import type { Login } from "./connection.js";
import { Subscription } from "./subscription.js";
import type { SubscribeOptions } from "./subscription.js";
import { DO_GET, DO_PUT, flightData, pathDescriptor, readFlightData, readPutResult, ticket } from "./wire.js";

export interface PutOptions {
  /**
   * A name of the publisher's own; its batches are numbered from `producerSeq` on. One that is sent again under its
   * number, because its acknowledgement did not come, is stored once.
   */
  readonly producerId?: string;
  readonly producerSeq?: number;
  /** `durable`, the default: acknowledged once it is on disk. `memory`: once it is queued. */
  readonly level?: "durable" | "memory";
}

/** What the server says of one batch; of one that is only queued the numbers are null. */
export interface Acknowledgement {
  readonly first_seq: number | null;
  readonly last_seq: number | null;
  readonly rows: number;
  readonly late_rows: number | null;
  readonly level: "durable" | "memory";
  readonly producer_seq?: number;
  /** It had been stored before. */
  readonly duplicate?: boolean;
}

export class FlightSqlClient {
  readonly #connection: Connection;

  /** `url`: `grpc://host:port`, or `grpc+tls://host:port`. Connects with the first call; `close` ends it. */
  constructor(url: string, login: Login) {
    this.#connection = new Connection(url, login);
  }

  /** Logs in now and not with the first call. Throws LoginRefused where user or password is wrong. */
  async login(): Promise<void> {
    await this.#connection.login();
  }

  /** The rows of a dataset as they come. */
  async *doGet<T extends TypeMap = any>(dataset: string): AsyncGenerator<RecordBatch<T>, void, undefined> {
    yield* this.#rows(dataset, new BatchDecoder<T>());
  }

  /** All rows of a dataset. */
  async table<T extends TypeMap = any>(dataset: string): Promise<Table<T>> {
    const decoder = new BatchDecoder<T>();
    const batches: RecordBatch<T>[] = [];
    for await (const batch of this.#rows(dataset, decoder)) batches.push(batch);
    if (!decoder.schema) throw new Error("The server sent no schema.");
    return new Table(decoder.schema, batches);
  }

  /**
   * Stores batches in a dataset, and gives the acknowledgement of each. Batches are asked for as the server takes them.
   *
   * Throws what the batches or the server threw; those that were acknowledged before are stored all the same.
   */
  async *doPut(
    dataset: string,
    batches: Iterable<RecordBatch> | AsyncIterable<RecordBatch>,
    options: PutOptions = {},
  ): AsyncGenerator<Acknowledgement, void, undefined> {
    const call = await this.#connection.duplex(DO_PUT);
    const { session } = this.#connection;
    const ended = new AbortController();
    let failure: unknown;
    void this.#send(call, dataset, batches, options, ended.signal).catch((error: unknown) => {
      failure ??= error;
      call.cancel();
    });
    try {
      for await (const message of call as AsyncIterable<Buffer>) {
        yield JSON.parse(Buffer.from(readPutResult(message)).toString()) as Acknowledgement;
      }
    } catch (error) {
      this.#noteError(error, session);
      throw failure ?? error;
    } finally {
      ended.abort();
      call.cancel();
    }
  }

  /** The query's answer and then its changes; nothing is asked before the first event is. */
  subscribe<T extends TypeMap = any>(query: string, options: SubscribeOptions = {}): Subscription<T> {
    return new Subscription<T>(this.#connection, query, options);
  }

  /** Ends the connection, and its subscriptions. */
  close(): void {
    this.#connection.close();
  }

  async *#rows<T extends TypeMap>(dataset: string, decoder: BatchDecoder<T>): AsyncGenerator<RecordBatch<T>> {
    for (let again = true; ; again = false) {
      const call = await this.#connection.stream(DO_GET, ticket(dataset));
      const { session } = this.#connection;
      try {
        for await (const message of call as AsyncIterable<Buffer>) {
          const batch = decoder.decode(readFlightData(message));
          if (batch) yield batch;
        }
        return;
      } catch (error) {
        // A token that is no longer believed is told before the first row.
        if (!this.#noteError(error, session) || !again || decoder.schema) throw error;
      } finally {
        call.cancel();
      }
    }
  }

  async #send(
    call: ClientDuplexStream<Uint8Array, Buffer>,
    dataset: string,
    batches: Iterable<RecordBatch> | AsyncIterable<RecordBatch>,
    { producerId, producerSeq = 1, level }: PutOptions,
    ended: AbortSignal,
  ): Promise<void> {
    const encoder = new BatchEncoder();
    let descriptor: Uint8Array | undefined = pathDescriptor(dataset);
    let number = producerSeq;
    for await (const batch of batches) {
      const named = producerId === undefined ? {} : { producer_id: producerId, producer_seq: number++ };
      const terms = { ...named, ...(level && { level }) };
      const messages = encoder.encode(batch);
      for (const [place, message] of messages.entries()) {
        const last = place === messages.length - 1; // the one with the rows
        const metadata = last && Object.keys(terms).length ? Buffer.from(JSON.stringify(terms)) : new Uint8Array(0);
        const bytes = flightData({ ...message, metadata, ...(descriptor && { descriptor }) });
        descriptor = undefined;
        if (ended.aborted) return;
        if (!call.write(bytes)) await once(call, "drain", { signal: ended });
      }
    }
    if (descriptor) call.write(flightData({ descriptor })); // a stream without batches is no error
    call.end();
  }

  /** Whether the token was refused; then the next call logs in anew. */
  #noteError(error: unknown, session: number): boolean {
    const refused = isServiceError(error) && error.code === status.UNAUTHENTICATED;
    if (refused) this.#connection.logout(session);
    return refused;
  }
}
