/**
 * Which partition a key belongs to. The function is part of the stored layout: it must give the same answer in every
 * process and in every release, or a key's order breaks.
 */

/** Key (in its text form) and partition count to partition. */
export type Partitioner = (key: string, partitions: number) => number

const encoder = new TextEncoder()

const scramble = (k: number): number => {
  k = Math.imul(k, 0xcc9e2d51)
  return Math.imul((k << 15) | (k >>> 17), 0x1b873593)
}

const mix = (h: number, k: number): number => {
  h ^= scramble(k)
  h = (h << 13) | (h >>> 19)
  return (Math.imul(h, 5) + 0xe6546b64) | 0
}

const finish = (h: number, length: number): number => {
  h ^= length
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}

/**
 * MurmurHash3 (x86, 32 bits, seed 0; Austin Appleby, public domain) of the key's UTF-8 bytes: any language has it, so
 * a foreign producer can place its keys alike.
 */
export const murmur3 = (key: string): number => {
  const length = key.length
  let h = 0
  let i = 0
  for (; i + 4 <= length; i += 4) {
    const a = key.charCodeAt(i)
    const b = key.charCodeAt(i + 1)
    const c = key.charCodeAt(i + 2)
    const d = key.charCodeAt(i + 3)
    if ((a | b | c | d) > 127) return murmur3Bytes(encoder.encode(key))
    h = mix(h, a | (b << 8) | (c << 16) | (d << 24))
  }
  let tail = 0
  for (let j = length - 1; j >= i; j--) {
    const code = key.charCodeAt(j)
    if (code > 127) return murmur3Bytes(encoder.encode(key))
    tail = (tail << 8) | code
  }
  if (i < length) h ^= scramble(tail)
  return finish(h, length)
}

const murmur3Bytes = (bytes: Uint8Array): number => {
  const length = bytes.length
  let h = 0
  let i = 0
  for (; i + 4 <= length; i += 4) {
    h = mix(h, bytes[i]! | (bytes[i + 1]! << 8) | (bytes[i + 2]! << 16) | (bytes[i + 3]! << 24))
  }
  let tail = 0
  for (let j = length - 1; j >= i; j--) tail = (tail << 8) | bytes[j]!
  if (i < length) h ^= scramble(tail)
  return finish(h, length)
}

/** The default: `murmur3` modulo the count. */
export const hash: Partitioner = (key, partitions) => murmur3(key) % partitions
