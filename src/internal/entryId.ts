/**
 * Entry ids (`<millis>-<seq>`) and offsets (`<entry id>.<index>`): order, neighbours, parts. They are compared part by
 * part as numbers; halves above 2^53, which explicit ids may have, by length and text.
 */

export const zero = "0-0"

const compareHalves = (a: string, b: string): number =>
  a.length < 16 && b.length < 16
    ? Number(a) - Number(b)
    : a.length !== b.length
      ? a.length - b.length
      : a < b
        ? -1
        : a > b
          ? 1
          : 0

/** Negative, zero or positive, as for `Array.sort`. */
export const compare = (a: string, b: string): number => {
  const i = a.indexOf("-")
  const j = b.indexOf("-")
  return compareHalves(a.slice(0, i), b.slice(0, j)) || compareHalves(a.slice(i + 1), b.slice(j + 1))
}

/** The greatest id below this one; `0-0` has none and stays. */
export const before = (id: string): string => {
  const i = id.indexOf("-")
  const millis = BigInt(id.slice(0, i))
  const seq = BigInt(id.slice(i + 1))
  if (seq > 0n) return `${millis}-${seq - 1n}`
  return millis > 0n ? `${millis - 1n}-18446744073709551615` : zero
}

/** Milliseconds since 1970 of an id that the engine gave. */
export const millis = (id: string): number => Number(id.slice(0, id.indexOf("-")))

export const offset = (id: string, index: number): string => `${id}.${index}`

/** How far a loss reaches, as errors say it: up to the first entry that is left, if there is one. */
export const lostUpTo = (next: string | undefined): string =>
  next === undefined || next === zero ? "the present end" : `before ${offset(next, 0)}`

/** `<id>.<index>` to its parts; an id alone stands for its first event. */
export const parseOffset = (text: string): { readonly id: string; readonly index: number } | undefined => {
  const match = /^(\d{1,20}-\d{1,20})(?:\.(\d{1,6}))?$/.exec(text)
  return match === null ? undefined : { id: match[1]!, index: Number(match[2] ?? 0) }
}
