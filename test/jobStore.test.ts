/** Every law of the job store on memory, a file and Redis (in one shard, and in three); and long queues on SQLite. */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import * as Sqlite from "../src/embedded/client.ts"
import * as Embedded from "../src/embedded/jobStore.ts"
import { JobStore } from "../src/JobStore.ts"
import { jobOf, range } from "../src/laws/jobStore/support.ts"
import * as Laws from "../src/laws/Laws.ts"
import * as OnRedis from "../src/redis/jobStore.ts"
import { layerRedis } from "./support/redis.ts"

const layerFile = Layer.unwrap(
  Effect.map(
    Effect.acquireRelease(
      Effect.sync(() => mkdtempSync(join(tmpdir(), "millrace-jobs-"))),
      (directory) => Effect.sync(() => rmSync(directory, { recursive: true, force: true }))
    ),
    (directory) => Sqlite.layerFile({ file: join(directory, "jobs.db") })
  )
)

Laws.jobStore("memory", Layer.provide(Embedded.layer, Sqlite.layerMemory), { live: false })
Laws.jobStore("file", Layer.provide(Embedded.layer, layerFile))
Laws.jobStore("Redis", Layer.provide(OnRedis.layer, layerRedis()))
Laws.jobStore("Redis, 3 shards", Layer.provide(OnRedis.layer, layerRedis({ shards: 3 })))

/** SQLite runs in the thread of the program: what takes long holds up all else. */
it.live("a long queue is counted and paged without a look at all of its rows", () =>
  Effect.gen(function* () {
    const store = yield* JobStore
    const sqlite = yield* Sqlite.Sqlite
    const payload = "x".repeat(2_000)
    for (let block = 0; block < 30; block++) {
      yield* store.enqueue(
        "q",
        range(1_000, `${block}-`).map((id) =>
          jobOf(id, { payload, ...(block % 2 === 0 ? {} : { group: id.slice(-1) }) })
        )
      )
    }
    const quickest = <E>(effect: Effect.Effect<unknown, E>): Effect.Effect<number, E> =>
      Effect.gen(function* () {
        let least = Number.POSITIVE_INFINITY
        for (let i = 0; i < 7; i++) {
          const began = performance.now()
          yield* effect
          least = Math.min(least, performance.now() - began)
        }
        return least
      })
    const all = yield* quickest(
      sqlite.query("all", (db) => db.prepare("SELECT sum(length(data)) FROM jobs NOT INDEXED").get())
    )
    assert.strictEqual((yield* store.counts("q")).ready, 30_000)
    assert.isBelow(yield* quickest(store.counts("q")), all / 2)
    const { next } = yield* store.list("q", "ready", { name: undefined, cursor: "" })
    for (const cursor of ["", next!]) {
      assert.isBelow(yield* quickest(store.list("q", "ready", { name: undefined, cursor })), all / 4)
    }
  }).pipe(Effect.provide(Layer.provideMerge(Embedded.layer, Sqlite.layerMemory)))
)
