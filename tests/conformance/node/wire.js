// What the programs here share: the lines they print, and just enough of the wire to call without any library's settings.
"use strict";

const SERVICE = "/arrow.flight.protocol.FlightService/";

// Prints the case's outcome as one JSON line: {"case": …, "value": …} or {"case": …, "error": …}.
async function report(name, run) {
  const line = { case: name };
  try {
    line.value = await run();
  } catch (error) {
    line.error = `${error.name}: ${error.message}`;
  }
  // 64-bit integers are bigint here, which JSON can't write.
  console.log(JSON.stringify(line, (_, value) => (typeof value === "bigint" ? Number(value) : value)));
}

function varint(value) {
  const bytes = [];
  for (; value > 127; value >>>= 7) bytes.push((value & 127) | 128);
  return [...bytes, value];
}

function field(number, content) {
  return Buffer.concat([Buffer.from([...varint((number << 3) | 2), ...varint(content.length)]), content]);
}

// The content of the first length-delimited field of that number; other kinds of field are stepped over.
function read(message, wanted) {
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = message[at++];
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
  };
  while (at < message.length) {
    const tag = varint();
    if ((tag & 7) === 2) {
      const size = varint();
      if (tag >>> 3 === wanted) return message.subarray(at, at + size);
      at += size;
    } else {
      varint();
    }
  }
  return Buffer.alloc(0);
}

const asIs = (bytes) => bytes;

module.exports = { asIs, field, read, report, SERVICE };
