/** `millrace schedules` and `millrace workers`: who runs what, and when next. */
import { Effect } from "effect"
import { Command } from "effect/cli"
import * as Admin from "../Admin.ts"
import { withEngine } from "./engine.ts"
import { list } from "./pages.ts"

export const schedules = Command.make(
  "schedules",
  {},
  Effect.fn(function* () {
    const all = yield* withEngine()(Admin.schedules)
    yield* list(all, ["schedule", "kind", "runs on", "last", "next", "running"], (one) => [
      one.name,
      one.kind ?? undefined,
      one.onLeader ? `the leader${one.leader === null ? "" : ` (${one.leader})`}` : one.workers.join(", "),
      one.last ?? undefined,
      one.next ?? undefined,
      one.running
    ])
  })
).pipe(Command.withDescription("Schedules, with their last and next runs"))

export const workers = Command.make(
  "workers",
  {},
  Effect.fn(function* () {
    const all = yield* withEngine()(Admin.workers)
    yield* list(all, ["worker", "host", "process", "partitions", "jobs", "MiB", "processors", "said so"], (one) => [
      one.member,
      one.report?.host,
      one.report?.pid,
      one.report?.partitions.length,
      one.report?.jobs.length,
      one.report === null ? undefined : Math.round(one.report.memory / 1024 / 1024),
      one.processors.join(", "),
      one.reportedAt ?? undefined
    ])
  })
).pipe(Command.withDescription("Workers that live, and what they do"))
