// The columns of market_data, typed, and quotes to send.

import {
  Field, Float64, Int64, makeData, RecordBatch, Schema, Struct, TimestampMicrosecond, Utf8, vectorFromArray,
} from "apache-arrow";

export type MarketData = {
  symbol: Utf8;
  bid_price: Float64;
  ask_price: Float64;
  last_price: Float64;
  volume: Int64;
  timestamp: TimestampMicrosecond;
};

export interface Quote {
  readonly symbol: string;
  readonly bid_price?: number | null;
  readonly ask_price?: number | null;
  readonly last_price?: number | null;
  readonly volume?: bigint | null;
  readonly timestamp: Date;
}

const COLUMNS: MarketData = {
  symbol: new Utf8(),
  bid_price: new Float64(),
  ask_price: new Float64(),
  last_price: new Float64(),
  volume: new Int64(),
  timestamp: new TimestampMicrosecond("UTC"),
};
const SCHEMA = new Schema<MarketData>(
  Object.entries(COLUMNS).map(([name, type]) => new Field(name, type, name !== "symbol" && name !== "timestamp")),
);

/** The quotes as a batch for `doPut("market_data", …)`. */
export function quoteBatch(quotes: readonly Quote[]): RecordBatch<MarketData> {
  const children = SCHEMA.names.map((name) => {
    const values = quotes.map((quote) => quote[name] ?? null);
    return vectorFromArray(values, COLUMNS[name]).data[0] ?? makeData({ type: COLUMNS[name] });
  });
  return new RecordBatch(SCHEMA, makeData({ type: new Struct(SCHEMA.fields), length: quotes.length, children }));
}
