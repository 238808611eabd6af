/**
 * What goes to standard output: JSON for programs, tables and lines for people. Columns are as wide as their widest cell,
 * and nothing is cut: a terminal folds what does not fit.
 */
import { Console, Effect, Stdio, Stream } from "effect"
import { Json } from "./globals.ts"

/** As it is sent to `JSON.stringify`: bigints and dates have a text form. */
const plain = (_key: string, value: unknown): unknown => (typeof value === "bigint" ? value.toString() : value)

export const toJson = (value: unknown, indent?: number): string => JSON.stringify(value, plain, indent) ?? "null"

export type Cell = string | number | boolean | undefined

/** In one line, and without what a terminal would obey: keys and headers are anybody's. */
export const printable = (text: string): string =>
  text.replace(/\p{Cc}/gu, (char) => (char === "\n" ? "\\n" : `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`))

const text = (cell: Cell): string => (cell === undefined || cell === "" ? "-" : printable(String(cell)))

/** Rows under a heading; numbers stand right. */
export const table = (
  heading: ReadonlyArray<string>,
  rows: ReadonlyArray<ReadonlyArray<Cell>>
): ReadonlyArray<string> => {
  const isNumber = heading.map((_, i) => rows.length > 0 && rows.every((row) => typeof row[i] === "number"))
  const cells = [heading, ...rows].map((row) => heading.map((_, i) => text(row[i])))
  const widths = heading.map((_, i) => Math.max(...cells.map((row) => row[i]!.length)))
  return cells.map((row) =>
    row
      .map((cell, i) => (isNumber[i] ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!)))
      .join("  ")
      .trimEnd()
  )
}

/** One answer: a JSON document, or lines. */
export const show = (value: unknown, lines: () => ReadonlyArray<string>) =>
  Effect.flatMap(Json, (json) => {
    const out = json ? [toJson(value, 2)] : lines()
    return out.length === 0 ? Effect.void : Console.log(out.join("\n"))
  })

/** One line for each value, as they come; whoever closes the pipe ends it, and that is no failure. */
export const lines = <A, E, R>(values: Stream.Stream<A, E, R>, toLine: (value: A, json: boolean) => string) =>
  Effect.gen(function* () {
    const json = yield* Json
    const stdio = yield* Stdio.Stdio
    yield* values.pipe(
      Stream.map((value) => `${toLine(value, json)}\n`),
      Stream.run(stdio.stdout())
    )
  }).pipe(Effect.catchTag("PlatformError", () => Effect.void))
