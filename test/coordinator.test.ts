/** The laws of ownership on all engines: memory on the test clock, a file and Redis on the real one. */
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Stream } from "effect"
import { Coordinator } from "../src/Coordinator.ts"
import * as Sqlite from "../src/embedded/client.ts"
import * as Embedded from "../src/embedded/coordinator.ts"
import { FakeMember } from "../src/laws/coordinator/fakeMember.ts"
import * as Laws from "../src/laws/Laws.ts"
import { Redis } from "../src/redis/client.ts"
import * as OnRedis from "../src/redis/coordinator.ts"
import { layerRedis } from "./support/redis.ts"

const temporaryDirectory = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "millrace-coordinator-"))),
  (directory) => Effect.sync(() => rmSync(directory, { recursive: true, force: true }))
)

const layerFile = Layer.unwrap(
  Effect.map(temporaryDirectory, (directory) => Sqlite.layerFile({ file: join(directory, "test.db") }))
)

Laws.coordinator("memory", Layer.provide(Embedded.layer, Sqlite.layerMemory), { live: false })

Laws.coordinator("file", Layer.provide(Embedded.layer, layerFile))

Laws.coordinator("Redis", Layer.provide(OnRedis.layer, layerRedis()))

const timing = { lease: 60_000, settle: 0 }

describe("Coordinator on a shared file", () => {
  it.live("a change by another process wakes those concerned, and a mere heartbeat nobody", () =>
    Effect.gen(function* () {
      const file = join(yield* temporaryDirectory, "test.db")
      // Two connections, as two processes have them.
      const connect = Effect.map(
        Layer.build(Layer.fresh(Layer.provide(Embedded.layer, Sqlite.layerFile({ file })))),
        (context) => Coordinator.of(Effect.runSync(Effect.provide(Coordinator, context)))
      )
      const [here, there] = [yield* connect, yield* connect]
      const a = new FakeMember(here, "a", { g: 4 }, timing)
      yield* a.sync()
      let wakes = 0
      yield* Effect.forkChild(Stream.runForEach(here.wakes("a"), () => Effect.sync(() => wakes++)))
      yield* there.pause("other", true)
      // Real waits: another process is noticed every 10 ms.
      yield* Effect.sleep(60)
      assert.strictEqual(wakes, 0)
      const b = new FakeMember(there, "b", { g: 4 }, timing)
      yield* b.sync()
      yield* Effect.sleep(60)
      assert.isAtLeast(wakes, 1)
      yield* a.sync()
      yield* a.sync()
      yield* b.sync()
      assert.strictEqual(b.running.size, 2)
      yield* a.sync()
      yield* Effect.sleep(60)
      wakes = 0
      for (let beat = 0; beat < 5; beat++) {
        yield* b.sync()
        yield* Effect.sleep(15)
      }
      assert.strictEqual(wakes, 0)
    })
  )
})

describe("Coordinator on a Redis that went back", () => {
  it.live("gives the whole statement again, and epochs above those that shards refuse", () =>
    Effect.gen(function* () {
      const redis = yield* Redis
      const coordinator = yield* Coordinator
      const a = new FakeMember(coordinator, "a", { g: 2 }, timing)
      yield* a.sync()
      const restore = yield* snapshot(redis)
      yield* a.sync({ released: [a.grant("g/0")] })
      const later = a.grant("g/0").epoch
      yield* restore
      const { mine, number } = yield* a.sync()
      assert.strictEqual(mine?.length, 2)
      assert.isTrue(a.grant("g/0").epoch < later)
      assert.strictEqual((yield* a.sync({ known: number })).mine, undefined)
      const inForce = { ...a.grant("g/0"), epoch: later }
      yield* a.sync({ released: [a.grant("g/0")], refused: [inForce] })
      assert.isTrue(a.grant("g/0").epoch > later)
    }).pipe(Effect.provide(layerBoth))
  )

  it.live("takes the start for the living one that it has forgotten, not the one before it", () =>
    Effect.gen(function* () {
      const redis = yield* Redis
      const coordinator = yield* Coordinator
      const old = new FakeMember(coordinator, "a", { g: 2 }, timing, "first")
      yield* old.sync()
      const restore = yield* snapshot(redis)
      const fresh = new FakeMember(coordinator, "a", { g: 2 }, timing, "second")
      // A millisecond apart, as starts are.
      yield* Effect.sleep(2)
      yield* fresh.sync()
      yield* restore
      assert.strictEqual((yield* fresh.sync()).mine?.length, 2)
      assert.strictEqual((yield* Effect.flip(old.sync()))._tag, "MemberReplaced")
    }).pipe(Effect.provide(layerBoth))
  )
})

const layerBoth = Layer.provideMerge(OnRedis.layer, layerRedis())

/** The coordinator's keys as they are now; the effect that it gives puts them back. */
const snapshot = (redis: Redis["Service"]) =>
  Effect.gen(function* () {
    const keys = yield* redis.call<ReadonlyArray<string>>("KEYS", `{${redis.namespace}}:*`)
    const saved = yield* Effect.forEach(keys, (key) => redis.callBuffer<Uint8Array>("DUMP", key))
    return Effect.forEach(keys, (key, i) => redis.call("RESTORE", key, 0, saved[i]!, "REPLACE"), { discard: true })
  })
