/**
 * The engine under a running worker loses what it had acknowledged: a Redis restarted from an older snapshot, a file
 * restored from a backup. It is noticed, typed, and by choice survived.
 */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { DatabaseSync } from "node:sqlite"
import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Option, Schedule, Stream } from "effect"
import { Engine, Errors, Processor, Table, Topic, Worker } from "../../src/index.ts"
import { counting, totals, work } from "../support/chaos.ts"
import { makeServer } from "../support/redis.ts"

const some = (from: number, count: number) =>
  Array.from({ length: count }, (_, i) => ({ key: `key-${i % 10}`, n: from + i, gate: false }))

const sum = Effect.map(Stream.runCollect(Table.entries(totals)), (rows) => rows.reduce((sum, [, n]) => sum + n, 0))

const settled = (events: number) =>
  sum.pipe(
    Effect.flatMap((total) => (total === events ? Effect.void : Effect.fail(`${total} of ${events}`))),
    Effect.retry({ schedule: Schedule.spaced("50 millis"), times: 300 })
  )

const strict = counting(() => Effect.void)
const resuming = Processor.make("counting", { topic: work, tables: [totals], onLost: "resume" }, (value) =>
  Table.update(totals, value.key, (total) => total + 1)
)

/** The tag of what halted the worker, between events. */
const haltedBy = (exit: Exit.Exit<unknown, unknown>): string | undefined => {
  if (Exit.isSuccess(exit)) return undefined
  const error = Option.getOrUndefined(Cause.findErrorOption(exit.cause))
  return error instanceof Errors.ProcessorHalted ? (Cause.squash(error.cause) as { _tag: string })._tag : String(error)
}

const between = ["WentBack", "LogTruncated"]

describe("a Redis restarted from an older snapshot", () => {
  const scenario = <A, E>(
    part: Processor.Processor<any, never>,
    after: Effect.Effect<A, E, Engine.Services | Worker.Worker<unknown>>
  ) =>
    Effect.gen(function* () {
      const server = yield* makeServer(["--dbfilename", "dump.rdb"])
      return yield* Effect.gen(function* () {
        yield* Topic.publishAll(work, some(0, 200))
        yield* settled(200)
        yield* snapshot(server.port)
        yield* Topic.publishAll(work, some(200, 100))
        yield* settled(300)
        yield* server.kill
        yield* makeServer(["--dbfilename", "dump.rdb"], { port: server.port, directory: server.directory })
        return yield* after
      }).pipe(
        Effect.provide(Worker.layer([part], { lease: "2 seconds" })),
        Effect.provide(Engine.layer({ url: server.url }))
      )
    })

  it.live(
    "halts a worker, with what was lost",
    () =>
      Effect.gen(function* () {
        const exit = yield* scenario(strict, Effect.exit(Effect.timeout(Worker.join, "20 seconds")))
        assert.include(between, haltedBy(exit))
      }),
    60_000
  )

  it.live(
    "with onLost resume the worker goes on from what is stored",
    () =>
      scenario(
        resuming,
        Effect.gen(function* () {
          yield* settled(200)
          yield* Topic.publishAll(work, some(300, 50))
          yield* settled(250)
        })
      ),
    60_000
  )
})

const snapshot = (port: number) =>
  Effect.acquireUseRelease(
    Effect.promise(async () => {
      const { Redis } = await import("ioredis")
      return new Redis(port, "127.0.0.1")
    }),
    (client) => Effect.promise(() => client.call("SAVE")),
    (client) => Effect.sync(() => client.disconnect())
  )

describe("a file restored from a backup", () => {
  const directory = Effect.acquireRelease(
    Effect.sync(() => mkdtempSync(join(tmpdir(), "millrace-"))),
    (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true }))
  )

  /** Put the contents of the backup in place, in one transaction, as another process would. */
  const restore = (file: string, backup: string): void => {
    const db = new DatabaseSync(file)
    db.exec(`PRAGMA busy_timeout = 5000; ATTACH '${backup}' AS backup; BEGIN IMMEDIATE`)
    const tables = db.prepare("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'").all()
    for (const { name } of tables)
      db.exec(`DELETE FROM main."${name}"; INSERT INTO main."${name}" SELECT * FROM backup."${name}"`)
    db.exec("COMMIT")
    db.close()
  }

  const scenario = <A, E>(
    part: Processor.Processor<any, never>,
    after: Effect.Effect<A, E, Engine.Services | Worker.Worker<unknown>>
  ) =>
    Effect.gen(function* () {
      const path = yield* directory
      const file = join(path, "engine.db")
      const backup = join(path, "backup.db")
      return yield* Effect.gen(function* () {
        yield* Topic.publishAll(work, some(0, 200))
        yield* settled(200)
        new DatabaseSync(file).exec(`VACUUM INTO '${backup}'`)
        yield* Topic.publishAll(work, some(200, 100))
        yield* settled(300)
        restore(file, backup)
        yield* Topic.publishAll(work, some(300, 50))
        return yield* after
      }).pipe(
        Effect.provide(Worker.layer([part], { lease: "2 seconds" })),
        Effect.provide(Engine.layerEmbedded({ file }))
      )
    })

  it.live(
    "halts a worker, with what was lost",
    () =>
      Effect.gen(function* () {
        const exit = yield* scenario(strict, Effect.exit(Effect.timeout(Worker.join, "20 seconds")))
        assert.include(between, haltedBy(exit))
      }),
    60_000
  )

  it.live("with onLost resume the worker goes on from what is stored", () => scenario(resuming, settled(250)), 60_000)
})
