// An answer as its events make it: what a screen shows, or a program looks up.

import type { StructRowProxy, TypeMap } from "apache-arrow";
import type { LiveEvent, Told } from "./events.js";

/** Keeps the rows of a subscription by their keys. Give it every event, in order. */
export class Mirror<T extends TypeMap = any> {
  readonly rows = new Map<string, StructRowProxy<Told<T>>>();
  #key: readonly string[] = [];
  #upcoming: Map<string, StructRowProxy<Told<T>>> | undefined;

  /** Takes an event in; the rows of a snapshot show once it is complete. */
  apply(event: LiveEvent<T>): void {
    if (event.type === "subscribed") this.#key = event.key;
    if (event.type === "snapshot") {
      if (event.begin) this.#upcoming = new Map();
      if (this.#upcoming) this.#take(this.#upcoming, event.rows);
      if (!event.end || !this.#upcoming) return;
      this.rows.clear();
      for (const [key, row] of this.#upcoming) this.rows.set(key, row);
      this.#upcoming = undefined;
    } else if (event.type === "changes") {
      this.#take(this.rows, event.rows);
    }
  }

  #take(rows: Map<string, StructRowProxy<Told<T>>>, told: Iterable<StructRowProxy<Told<T>>>): void {
    for (const row of told) {
      // Without a key answers come whole, so that the place of a row tells it apart.
      const key = this.#key.length ? JSON.stringify(this.#key.map((name) => String(row[name]))) : String(rows.size);
      if (row["_change"] === "delete") rows.delete(key);
      else rows.set(key, row);
    }
  }
}
