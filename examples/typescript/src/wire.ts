// Flight's messages, as bytes and back. Flight.proto's messages that are needed here have four fields at most, all of
// them bytes but one enum; writing them by hand keeps rows from being copied and needs no code generator at run time.

/** One message of a Flight stream: an Arrow IPC message cut in two, and what goes with it. Empty where absent. */
export interface FlightData {
  /** The flatbuffer of the IPC message; empty: the message is only what `metadata` says. */
  readonly header: Uint8Array;
  readonly metadata: Uint8Array;
  readonly body: Uint8Array;
}

const SERVICE = "/arrow.flight.protocol.FlightService/";
export const DO_GET = `${SERVICE}DoGet`;
export const DO_PUT = `${SERVICE}DoPut`;
export const DO_EXCHANGE = `${SERVICE}DoExchange`;
export const HANDSHAKE = `${SERVICE}Handshake`;

// Field numbers of FlightData; a PutResult has app_metadata at 1.
const DESCRIPTOR = 1;
const HEADER = 2;
const METADATA = 3;
const BODY = 1000;
const PATH = 1;
const CMD = 2;
const NOTHING: Uint8Array = new Uint8Array(0);

function varint(value: number): number[] {
  const bytes: number[] = [];
  for (; value > 127; value = Math.floor(value / 128)) bytes.push((value % 128) | 128);
  return [...bytes, value];
}

function field(number: number, content: Uint8Array): Uint8Array[] {
  return [Uint8Array.from([...varint(number * 8 + 2), ...varint(content.length)]), content];
}

/** A FlightDescriptor that names a dataset. */
export function pathDescriptor(dataset: string): Uint8Array {
  return Buffer.concat([Uint8Array.of(8, PATH), ...field(3, Buffer.from(dataset))]);
}

/** A FlightDescriptor that asks by a command. */
export function commandDescriptor(command: string): Uint8Array {
  return Buffer.concat([Uint8Array.of(8, CMD), ...field(2, Buffer.from(command))]);
}

/** A Ticket; here its bytes are the name of a dataset. */
export function ticket(text: string): Buffer {
  return Buffer.concat(field(1, Buffer.from(text)));
}

/** A FlightData with those of its fields that are given. */
export function flightData(parts: Partial<FlightData> & { readonly descriptor?: Uint8Array }): Buffer {
  const pieces: Uint8Array[] = [];
  if (parts.descriptor) pieces.push(...field(DESCRIPTOR, parts.descriptor));
  if (parts.header?.length) pieces.push(...field(HEADER, parts.header));
  if (parts.metadata?.length) pieces.push(...field(METADATA, parts.metadata));
  if (parts.header?.length) pieces.push(...field(BODY, parts.body ?? NOTHING));
  return Buffer.concat(pieces);
}

/** Reads a FlightData; its fields are views of the bytes. Throws where they are none. */
export function readFlightData(bytes: Uint8Array): FlightData {
  let header = NOTHING;
  let metadata = NOTHING;
  let body = NOTHING;
  for (const [number, content] of fields(bytes)) {
    if (number === HEADER) header = content;
    else if (number === METADATA) metadata = content;
    else if (number === BODY) body = content;
  }
  return { header, metadata, body };
}

/** The app_metadata of a PutResult. */
export function readPutResult(bytes: Uint8Array): Uint8Array {
  for (const [number, content] of fields(bytes)) if (number === 1) return content;
  return NOTHING;
}

/** The length-delimited fields of a message; others are stepped over. */
function* fields(bytes: Uint8Array): Generator<[number, Uint8Array]> {
  let at = 0;
  const number = (): number => {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = bytes[at++];
      if (byte === undefined || factor > 2 ** 56) throw new Error("A message of the server is cut short.");
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const tag = number();
    const kind = tag % 8;
    if (kind === 0) {
      number();
      continue;
    }
    const size = kind === 2 ? number() : kind === 1 ? 8 : 4;
    if (kind === 3 || kind === 4 || at + size > bytes.length) throw new Error("A message of the server is cut short.");
    if (kind === 2) yield [Math.floor(tag / 8), bytes.subarray(at, at + size)];
    at += size;
  }
}
