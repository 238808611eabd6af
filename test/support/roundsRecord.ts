/**
 * What the processes of a chaos round write down, each into files of its own that nobody else touches: a store that is
 * independent of the engine under test. A line is written whole before the process goes on, so a kill cannot take it back.
 */
import { existsSync, openSync, readFileSync, writeSync } from "node:fs"

/** A handler began with an event, or came to its end with it. */
export interface Handled {
  readonly what: "began" | "ended"
  readonly processor: string
  readonly partition: number
  readonly epoch: bigint
  readonly offset: string
  readonly key: string
  readonly n: number
}

/** A publisher is about to publish an event, was told where it is stored, or was told that it may not be. */
export interface Published {
  readonly what: "tried" | "stored" | "failed"
  readonly key: string
  readonly n: number
  /** Where it is stored. */
  readonly partition: number
  readonly offset: string
}

export type Write<A> = (facts: ReadonlyArray<A>) => void

const appender = (file: string): ((lines: ReadonlyArray<string>) => void) => {
  const descriptor = openSync(file, "a")
  return (lines) => void writeSync(descriptor, lines.map((line) => `${line}\n`).join(""))
}

const linesOf = (file: string): ReadonlyArray<ReadonlyArray<string>> => {
  if (!existsSync(file)) return []
  const lines = readFileSync(file, "utf8").split("\n")
  // Behind the last line break stands nothing.
  return lines.slice(0, -1).map((line) => line.split(" "))
}

export const handledWriter = (file: string): Write<Handled> => {
  const append = appender(file)
  return (facts) =>
    append(
      facts.map(
        ({ epoch, key, n, offset, partition, processor, what }) =>
          `${what} ${processor} ${partition} ${epoch} ${offset} ${key} ${n}`
      )
    )
}

export const readHandled = (file: string): ReadonlyArray<Handled> =>
  linesOf(file).map(([what, processor, partition, epoch, offset, key, n]) => ({
    what: what as Handled["what"],
    processor: processor!,
    partition: Number(partition),
    epoch: BigInt(epoch!),
    offset: offset!,
    key: key!,
    n: Number(n)
  }))

export const publishedWriter = (file: string): Write<Published> => {
  const append = appender(file)
  return (facts) =>
    append(facts.map(({ key, n, offset, partition, what }) => `${what} ${key} ${n} ${partition} ${offset}`))
}

export const readPublished = (file: string): ReadonlyArray<Published> =>
  linesOf(file).map(([what, key, n, partition, offset]) => ({
    what: what as Published["what"],
    key: key!,
    n: Number(n),
    partition: Number(partition),
    offset: offset!
  }))
