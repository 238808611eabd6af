/**
 * Crash loops: whether an owner of a partition died with an event in hand. It is kept beside the epoch, in `trial`, which
 * every commit empties as it counts: empty after a commit or a release; `-` after a claim; `/<count>` on probation, with so
 * many owners that died; `m` behind it when an event was handed out.
 */
import type { Statements } from "./client.ts"

/** The trial of a new ownership. Without anything to handle, or when this very start was the owner, nobody died of it. */
export const installed = (trial: string, same: boolean, pending: () => boolean): string => {
  if (same || trial === "" || !pending()) return "-"
  if (trial === "-") return "/0"
  return `/${countOf(trial)! + (trial.endsWith("m") ? 1 : 0)}`
}

/** The count that a trial tells its owner. */
export const countOf = (trial: string): number | undefined =>
  trial.startsWith("/") ? Number.parseInt(trial.slice(1), 10) : undefined

/** An event is handed out; only on probation does that matter. */
export const mark = (db: Statements, processor: string, partition: number): void => {
  db.prepare(
    "UPDATE fences SET trial = trial || 'm' WHERE processor = ? AND partition = ? AND trial GLOB '/*' AND trial NOT GLOB '*m'"
  ).run(processor, partition)
}

export const release = (db: Statements, processor: string, partition: number): void => {
  db.prepare("UPDATE fences SET trial = '' WHERE processor = ? AND partition = ?").run(processor, partition)
}
