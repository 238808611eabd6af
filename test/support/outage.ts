/** What tests ask of `outage.process.ts`. */
import { Effect } from "effect"
import type { Child } from "./processes.ts"

/** Milliseconds of processor time that it has used. */
export const used = (child: Child, asked: number) =>
  Effect.andThen(
    child.signal("SIGUSR2"),
    Effect.map(
      child.until((line) => line.what === "used" && line["asked"] === asked, "what it used"),
      (line) => Number(line["millis"])
    )
  )

export const handled = (child: Child, n: number) =>
  child.until((line) => line.what === "handled" && line["n"] === n, `${n}`)
