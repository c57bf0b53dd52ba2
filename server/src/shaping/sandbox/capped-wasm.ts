/** Bytes of a page of WebAssembly memory. */
const PAGE_BYTES = 65_536;
const MEMORY_SECTION = 5;
const HEADER_BYTES = 8;

/**
 * The binary of a WebAssembly module whose memory can grow to `bytesMax` and no further: the compiler that made it left
 * that open, which is 4 GiB. The module must have one memory of its own.
 */
export function capMemory(binary: Buffer, bytesMax: number): Buffer {
  let at = HEADER_BYTES;
  while (at < binary.length) {
    const [length, content] = readNumber(binary, at + 1);
    if (binary[at] === MEMORY_SECTION) {
      // Section: the number of memories, 1; its limits: whether there is a most, the least, the most.
      const [least] = readNumber(binary, content + 2);
      const limits = [1, 1, ...writeNumber(least), ...writeNumber(Math.floor(bytesMax / PAGE_BYTES))];
      const section = Buffer.from([MEMORY_SECTION, ...writeNumber(limits.length), ...limits]);
      return Buffer.concat([binary.subarray(0, at), section, binary.subarray(content + length)]);
    }
    at = content + length;
  }
  throw new Error('the module has no memory of its own');
}

/** LEB128, unsigned: the number, and the index behind it. */
function readNumber(binary: Buffer, from: number): [value: number, end: number] {
  let value = 0;
  for (let at = from, shift = 0; ; at += 1, shift += 7) {
    const byte = binary[at] ?? 0;
    value |= (byte & 0x7f) << shift;
    if (byte < 0x80) return [value, at + 1];
  }
}

function writeNumber(value: number): number[] {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...writeNumber(value >>> 7)];
}
