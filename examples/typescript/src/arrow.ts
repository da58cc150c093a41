// Record batches ⇄ the Arrow IPC messages that Flight carries.

import {
  makeData, Message, MessageHeader, RecordBatch, RecordBatchReader, RecordBatchStreamWriter, Struct,
} from "apache-arrow";
import type { RecordBatchStreamReader, Schema, TypeMap } from "apache-arrow";
import type { FlightData } from "./wire.js";

const NOTHING = new Uint8Array(0);
const CONTINUATION = 8; // ff ff ff ff and the length of the header

/** The messages of one stream → its batches. */
export class BatchDecoder<T extends TypeMap> {
  readonly #waiting: Uint8Array[] = [];
  #reader: RecordBatchStreamReader<T> | undefined;

  /** What the stream's first message said of its columns; undefined before it. */
  get schema(): Schema<T> | undefined {
    return this.#reader?.schema;
  }

  /** The batch of a message, which may have no rows; undefined where it carries none (schema, dictionary, note). */
  decode({ header, body }: FlightData): RecordBatch<T> | undefined {
    if (!header.length) return undefined;
    const message = Message.decode(header);
    if (Number(message.bodyLength) !== body.length) throw new Error("A message of the server has another length.");
    const prefix = Buffer.alloc(CONTINUATION, 0xff);
    const padding = -header.length & 7;
    prefix.writeInt32LE(header.length + padding, 4);
    this.#waiting.push(prefix, header, new Uint8Array(padding), body);
    if (message.headerType === MessageHeader.Schema) {
      if (this.#reader) throw new Error("The server sent a second schema.");
      const source = { [Symbol.iterator]: () => ({ next: () => this.#next() }) };
      const reader = RecordBatchReader.from(source as Iterable<Uint8Array>) as RecordBatchStreamReader<T>;
      this.#reader = reader.open({ autoDestroy: false });
      return undefined;
    }
    if (!this.#reader) throw new Error("The server sent rows before their schema.");
    // The reader would wait for a batch behind a dictionary, so it is asked only once that is there.
    return message.headerType === MessageHeader.RecordBatch ? (this.#reader.next().value as RecordBatch<T>) : undefined;
  }

  // The reader looks one chunk ahead; nothing yet is an empty chunk, for the end of the stream is told by the call.
  #next(): IteratorResult<Uint8Array> {
    return { done: false, value: this.#waiting.shift() ?? NOTHING };
  }
}

/** Batches of one schema → the messages of one stream. */
export class BatchEncoder {
  #schema: Schema | undefined;

  /**
   * The batch's messages, the last of which has its rows; the stream's first call begins with the schema.
   *
   * Throws when the columns are not those of the first batch. Each batch brings its own dictionaries: those that
   * apache-arrow makes of texts have another number each time, which therefore doesn't matter.
   */
  encode(batch: RecordBatch): Omit<FlightData, "metadata">[] {
    const begins = this.#schema === undefined;
    const schema = (this.#schema ??= batch.schema);
    if (shape(schema) !== shape(batch.schema)) {
      throw new TypeError(`The batch has the columns ${shape(batch.schema)} and not ${shape(schema)}.`);
    }
    const { length, nullCount, children } = batch.data;
    const data = makeData({ type: new Struct(schema.fields), length, nullCount, children });
    const writer = new RecordBatchStreamWriter();
    writer.write(new RecordBatch(schema, data));
    writer.finish();
    const messages = [...cut(writer.toUint8Array(true))];
    return begins ? messages : messages.slice(1);
  }
}

function shape(schema: Schema): string {
  return schema.fields.map((field) => `${field.name}: ${field.type}`).join(", ");
}

/** The messages of Arrow's stream format. */
function* cut(stream: Uint8Array): Generator<Omit<FlightData, "metadata">> {
  const view = new DataView(stream.buffer, stream.byteOffset, stream.byteLength);
  for (let at = 0; at + CONTINUATION <= stream.length; ) {
    const length = view.getInt32(at + 4, true);
    if (length === 0) return;
    const start = at + CONTINUATION;
    const header = stream.subarray(start, start + length);
    const size = Number(Message.decode(header).bodyLength);
    at = start + length + size;
    yield { header, body: stream.subarray(start + length, at) };
  }
}
