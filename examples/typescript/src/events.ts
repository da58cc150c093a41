// What a subscription tells, and how the messages of its stream are read.

import type { Int64, RecordBatch, Schema, TypeMap, Utf8 } from "apache-arrow";
import { BatchDecoder } from "./arrow.js";
import type { FlightData } from "./wire.js";

/** The columns of a query, and the two that a subscription adds. `_change` is `upsert` or `delete`. */
export type Told<T extends TypeMap> = T & { _seq: Int64; _change: Utf8 };

/** How far a subscription has come, once this event has been taken in. */
interface Progress {
  /**
   * The last `_seq` that has been told wholly: what to come back with as `fromSeq`. Undefined before the first snapshot
   * is complete, and for queries that are run anew.
   */
  readonly seq: number | undefined;
}

interface Rows<T extends TypeMap> {
  readonly rows: RecordBatch<Told<T>>;
  /** The snapshot, or what one commit changed, is complete with these rows. */
  readonly end: boolean;
  /** Of a query that is run anew: which of its answers this is, and how far each dataset had come at least. */
  readonly revision?: number;
  readonly versions?: Readonly<Record<string, number>>;
}

/** The stream stands. `resumed`: changes go on where they were; else a snapshot follows. */
export interface Subscribed<T extends TypeMap> extends Progress {
  readonly type: "subscribed";
  readonly id: number;
  readonly kind: "rows" | "refreshed";
  readonly mode: string;
  /** The columns that tell rows apart; none where whole answers are sent. */
  readonly key: readonly string[];
  readonly dataset?: string;
  readonly resumed: boolean;
  readonly schema: Schema<Told<T>>;
}

/** A part of the answer as it stands. With `begin` it takes the place of all that was told before. */
export interface Snapshot<T extends TypeMap> extends Progress, Rows<T> {
  readonly type: "snapshot";
  readonly begin: boolean;
}

/** Rows that came, changed or left. */
export interface Changes<T extends TypeMap> extends Progress, Rows<T> {
  readonly type: "changes";
  /** The updates of the dataset that this tells of, from the first to the last `_seq`. */
  readonly range?: readonly [first: number, last: number];
  /** How many rows were left out for newer ones of their keys. */
  readonly merged: number;
  /** Another filter, or other rights, and not a commit, made these rows come and go. */
  readonly moved: boolean;
}

/** All is well, and up to `seq` there was nothing else to tell. */
export interface Heartbeat extends Progress {
  readonly type: "heartbeat";
}

/** The filter that was wished holds; the rows that it brought and took have been told. */
export interface Granted extends Progress {
  readonly type: "granted";
}

/** A wish was not granted; the subscription goes on as before. */
export interface Refused extends Progress {
  readonly type: "refused";
  readonly error: string;
}

/** The server can't tell what happened since: a snapshot follows, and updates between were not told one by one. */
export interface Reset {
  readonly type: "reset";
  readonly reason: string;
}

/** The stream broke; it is asked for again in `delayMs`. */
export interface Reconnecting extends Progress {
  readonly type: "reconnecting";
  readonly error: Error;
  readonly delayMs: number;
}

export type StreamEvent<T extends TypeMap = any> =
  | Subscribed<T> | Snapshot<T> | Changes<T> | Heartbeat | Granted | Refused;
export type LiveEvent<T extends TypeMap = any> = StreamEvent<T> | Reset | Reconnecting;

/** What the server says of a message, as JSON in `app_metadata`. */
interface Note {
  readonly type: string;
  readonly id?: number;
  readonly kind?: "rows" | "refreshed";
  readonly mode?: string;
  readonly key?: readonly string[];
  readonly dataset?: string;
  readonly resumed?: boolean;
  readonly seq?: number | readonly [number, number];
  readonly rows?: number;
  readonly end?: boolean;
  readonly merged?: number;
  readonly moved?: boolean;
  readonly revision?: number;
  readonly versions?: Readonly<Record<string, number>>;
  readonly error?: string;
  readonly plan?: string;
  readonly more?: boolean;
}

/**
 * The messages of one stream → its events.
 *
 * Rows that are too many for one message come in several, each with a note. Of changes each tells its own range; where
 * only all of them together make sense, all but the last say `more`, and count as told with the last of them.
 */
export class EventReader<T extends TypeMap> {
  readonly #decoder = new BatchDecoder<Told<T>>();
  #seq: number | undefined;
  #note: Note | undefined;
  #missing = 0; // rows that the note has announced and that have not come
  #inSnapshot = false;
  #plan: string | undefined;

  /** `seq`: where the stream goes on, if it does. */
  constructor(seq: number | undefined) {
    this.#seq = seq;
  }

  /** What stands for query, rights and data: what to come back with as `plan`. */
  get plan(): string | undefined {
    return this.#plan;
  }

  /** The event of a message; undefined where it is none. */
  read(data: FlightData): StreamEvent<T> | undefined {
    const rows = this.#decoder.decode(data);
    if (data.metadata.length) {
      if (this.#missing) throw new Error("The server left out rows that it had announced.");
      this.#note = JSON.parse(Buffer.from(data.metadata).toString()) as Note;
      this.#missing = this.#note.rows ?? 0;
      this.#plan = (this.#note.more ? undefined : this.#note.plan) ?? this.#plan;
    }
    const note = this.#note;
    if (!note && !rows) return undefined; // the schema
    if (!note) throw new Error("The server did not say what its message is.");
    if (note.type === "subscribed") return this.#subscribed(note);
    if (note.type === "snapshot" && rows) return this.#snapshot(note, rows);
    if (note.type === "changes" && rows) return this.#changes(note, rows);
    if (note.type === "heartbeat") {
      if (typeof note.seq === "number") this.#seq = note.seq;
      return { type: "heartbeat", seq: this.#seq };
    }
    if (note.type === "granted") return { type: "granted", seq: this.#seq };
    if (note.type === "refused") return { type: "refused", error: note.error ?? "", seq: this.#seq };
    return undefined; // a later server may tell more
  }

  #subscribed(note: Note): Subscribed<T> {
    const { id = 0, kind = "rows", mode = "", key = [], dataset, resumed = false } = note;
    const schema = this.#decoder.schema;
    if (!schema) throw new Error("The server sent no schema.");
    if (!resumed) this.#seq = undefined;
    const which = dataset === undefined ? {} : { dataset };
    return { type: "subscribed", id, kind, mode, key, ...which, resumed, schema, seq: this.#seq };
  }

  #snapshot(note: Note, rows: RecordBatch<Told<T>>): Snapshot<T> {
    const begin = !this.#inSnapshot;
    if (begin) this.#seq = undefined;
    const complete = this.#came(rows, note);
    const end = complete && note.end === true;
    this.#inSnapshot = !end;
    if (end && typeof note.seq === "number") this.#seq = note.seq;
    return { type: "snapshot", begin, end, rows, ...answer(note), seq: this.#seq };
  }

  #changes(note: Note, rows: RecordBatch<Told<T>>): Changes<T> {
    const end = this.#came(rows, note);
    const range = typeof note.seq === "object" ? note.seq : undefined;
    if (end && range) this.#seq = range[1];
    const { merged = 0, moved = false } = note;
    return { type: "changes", end, rows, merged, moved, ...(range && { range }), ...answer(note), seq: this.#seq };
  }

  #came(rows: RecordBatch, note: Note): boolean {
    this.#missing -= rows.numRows;
    if (this.#missing < 0) throw new Error("The server sent more rows than it had announced.");
    return this.#missing === 0 && !note.more;
  }
}

function answer({ revision, versions }: Note): { revision?: number; versions?: Readonly<Record<string, number>> } {
  return { ...(revision !== undefined && { revision }), ...(versions && { versions }) };
}
