/** Askers in processes of their own, without a worker: all their questions wait at once, and each gets its own answer. */

import { randomUUID } from "node:crypto"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, it } from "@effect/vitest"
import { Effect, Latch } from "effect"
import * as Agent from "../src/Agent.ts"
import * as Engine from "../src/Engine.ts"
import { echo } from "./support/echo.ts"
import { numbers, start } from "./support/engines.ts"
import { start as spawn } from "./support/processes.ts"
import { sharedUrl } from "./support/redis.ts"

const total = 200
/** A process takes a second of processor time to start, so there are few unless more are asked for. */
const processes = Number(process.env["MILLRACE_TEST_ASKERS"] ?? 4)
const directory = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "millrace-askers-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true }))
)

/** Nobody is answered before all have asked, so that they really wait together. */
const together = (url: string, namespace: string) =>
  Effect.gen(function* () {
    const gate = Latch.makeUnsafe(false)
    let waiting = 0
    const handler = Agent.handler(
      echo,
      (question) =>
        Effect.suspend(() => {
          if (++waiting >= total) gate.openUnsafe()
          return Effect.as(gate.await, `you said ${question}`)
        }),
      { concurrency: { unordered: total } }
    )
    yield* start([handler as never])
    const children = yield* Effect.forEach(
      numbers(processes),
      (n) =>
        spawn("asker", {
          MILLRACE_URL: url,
          MILLRACE_NAMESPACE: namespace,
          NAME: `process ${n}`,
          ASKS: String(total / processes)
        }),
      { concurrency: "unbounded" }
    )
    for (const child of children) {
      // It ends by itself, with nothing left that keeps it.
      assert.strictEqual(yield* child.exit, 0, child.errors())
      const line = yield* child.until(({ what }) => what === "answered", "all answers")
      assert.deepInclude(line, { right: total / processes, wrong: 0 })
    }
    assert.strictEqual(waiting, total)
  }).pipe(Effect.scoped)

it.live(
  "200 asks at once from several processes: none lost, none mixed up [Redis]",
  () =>
    Effect.gen(function* () {
      const url = yield* Effect.promise(sharedUrl)
      const namespace = `askers-${randomUUID()}`
      yield* Effect.provide(together(url, namespace), Engine.layerRedis({ url, namespace }))
    }),
  120_000
)

it.live(
  "200 asks at once from several processes: none lost, none mixed up [file]",
  () =>
    Effect.gen(function* () {
      const file = join(yield* directory, "test.db")
      yield* Effect.provide(together(`file:${file}`, "askers"), Engine.layerEmbedded({ file, namespace: "askers" }))
    }).pipe(Effect.scoped),
  120_000
)
