/** Connections in trouble between a worker, its publishers and a server that is well: slow, cut, half-open, killed. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { underLoad } from "../support/load.ts"
import { makeProxy } from "../support/proxy.ts"
import { makeServer } from "../support/redis.ts"
import { seeded } from "../support/seeded.ts"
import { sharedInFile } from "../support/sharedInFile.ts"

const server = sharedInFile(makeServer())

/** A proxy of a test's own before the server. */
const proxied = Effect.flatMap(server, ({ port }) => makeProxy(port))

describe("connections", () => {
  it.live(
    "that are cut at random moments, between commands and in the middle of them, lose and double nothing",
    () =>
      Effect.gen(function* () {
        const proxy = yield* proxied
        const random = seeded(1)
        yield* underLoad({ url: proxy.url }, (load) =>
          Effect.gen(function* () {
            for (let round = 0; round < 12; round++) {
              yield* random.pick([
                proxy.cut,
                proxy.cutAfter(random.below(3_000), "requests"),
                proxy.cutAfter(random.below(3_000), "answers")
              ])
              yield* load.handles(20 + random.below(60))
            }
            assert.deepStrictEqual(load.failures, [])
          })
        )
      }),
    60_000
  )

  it.live(
    "on which answers are lost after commands were applied lose and double nothing",
    () =>
      Effect.gen(function* () {
        const proxy = yield* proxied
        yield* underLoad({ url: proxy.url }, (load) =>
          Effect.gen(function* () {
            for (let round = 0; round < 8; round++) {
              yield* proxy.loseAnswers
              // A real wait: the server gets and applies what is on its way.
              yield* Effect.sleep("50 millis")
              yield* proxy.cut
              yield* load.handles(40)
            }
            assert.deepStrictEqual(load.failures, [])
          })
        )
      }),
    60_000
  )

  it.live(
    "that are slow make all slow, and nothing wrong",
    () =>
      Effect.gen(function* () {
        const proxy = yield* proxied
        yield* underLoad({ url: proxy.url }, (load) =>
          Effect.gen(function* () {
            yield* proxy.delay(100)
            yield* load.handles(100)
            yield* proxy.delay(0)
            assert.isBelow(yield* load.resumes, 2_000)
            assert.deepStrictEqual(load.failures, [])
          })
        )
      }),
    60_000
  )

  it.live(
    "that the server closes at random moments, all of them, are opened again",
    () =>
      Effect.gen(function* () {
        const { call, url } = yield* server
        yield* underLoad({ url }, (load) =>
          Effect.gen(function* () {
            for (let round = 0; round < 12; round++) {
              for (const type of ["normal", "pubsub"]) yield* call("client", "kill", "type", type)
              yield* load.handles(50)
            }
            assert.deepStrictEqual(load.failures, [])
          })
        )
      }),
    60_000
  )

  it.live(
    "that went silent without a word are found out and replaced, before the lease is over",
    () =>
      Effect.gen(function* () {
        const proxy = yield* proxied
        const { url } = yield* server
        yield* underLoad({ url: proxy.url, publishersUrl: url, lease: 10_000 }, (load) =>
          Effect.gen(function* () {
            yield* proxy.silence
            const resumed = yield* load.resumes
            assert.isBelow(resumed, 9_000)
            assert.deepStrictEqual(load.logs, [])
          })
        )
      }),
    60_000
  )
})
