/** Several values one behind the other, each after its length (u32, big endian). */

export const frame = (values: ReadonlyArray<string | Uint8Array>): Uint8Array => {
  const parts: Array<Buffer> = []
  for (const value of values) {
    const body =
      typeof value === "string" ? Buffer.from(value) : Buffer.from(value.buffer, value.byteOffset, value.byteLength)
    const head = Buffer.alloc(4)
    head.writeUInt32BE(body.byteLength)
    parts.push(head, body)
  }
  return Buffer.concat(parts)
}

export const unframe = (data: Uint8Array): ReadonlyArray<Uint8Array> => {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength)
  const values: Array<Uint8Array> = []
  let at = 0
  while (at < data.byteLength) {
    if (at + 4 > data.byteLength) throw new Error("the batch ends inside a length")
    const length = view.getUint32(at)
    at += 4
    if (at + length > data.byteLength) throw new Error("the batch ends inside a value")
    values.push(data.subarray(at, at + length))
    at += length
  }
  return values
}
