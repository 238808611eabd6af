/** Connections in trouble between a worker, its publishers and a server that is well: slow, cut, half-open, killed. */
import { assert, describe, it } from "@effect/vitest"
import { Deferred, Duration, Effect, Exit, Fiber, Layer, Scope, Stream } from "effect"
import * as Redis from "../../src/redis/client.ts"
import { Choices } from "../../src/testing/choices.ts"
import { underLoad } from "../support/load.ts"
import { makeProxy } from "../support/proxy.ts"
import { makeServer } from "../support/redis.ts"
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
        const random = new Choices(1)
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

const put = Redis.script<string>("put", `return redis.call("SET", KEYS[1], ARGV[1]).ok`)

/** A client behind a proxy of its own. */
const client = Effect.gen(function* () {
  const proxy = yield* proxied
  const scope = yield* Effect.acquireRelease(Scope.make(), (scope) => Scope.close(scope, Exit.void))
  const services = yield* Layer.buildWithScope(Layer.fresh(Redis.layer({ url: proxy.url })), scope)
  return { proxy, redis: yield* Effect.provideContext(Redis.Redis, services), close: Scope.close(scope, Exit.void) }
})

const took = <A, E>(effect: Effect.Effect<A, E>) =>
  Effect.map(Effect.timed(effect), ([duration, answer]) => [Duration.toMillis(duration), answer] as const)

// They mostly wait for what is silent to be found out: side by side.
describe("a client", { concurrent: true }, () => {
  it.live("whose connection broke under a command keeps the one that it got for it", () =>
    Effect.gen(function* () {
      const { proxy, redis } = yield* client
      yield* proxy.silence
      const lost = yield* Effect.forkChild(Effect.flip(redis.call("ping")), { startImmediately: true })
      // A real wait: the command is written.
      yield* Effect.sleep("20 millis")
      yield* proxy.cut
      assert.strictEqual((yield* Fiber.join(lost)).reason, "Unreachable")
      yield* redis.call("ping")
      const opened = proxy.opened()
      // A real wait, for longer than a connection may owe an answer: nothing may end this one.
      yield* Effect.sleep("4500 millis")
      yield* redis.call("ping")
      assert.strictEqual(proxy.opened(), opened)
    })
  )

  it.live("does not wait for ever for a connection of its own on which nobody speaks", () =>
    Effect.gen(function* () {
      const { proxy, redis } = yield* client
      yield* proxy.hold(true)
      const [millis, error] = yield* took(Effect.flip(redis.open("{a}")))
      assert.strictEqual(error.reason, "Unreachable")
      assert.include(error.message, "no answer within")
      assert.isBelow(millis, 8_000)
    })
  )

  it.live("does not wait for ever for a durable write, and makes the next one on another connection", () =>
    Effect.gen(function* () {
      const { proxy, redis } = yield* client
      const safe = (value: string) => redis.runDurable(put, ["{a}k"], [value], { replicas: 0 })
      yield* safe("1")
      yield* proxy.silence
      const [millis, error] = yield* took(Effect.flip(safe("2")))
      assert(error._tag === "EngineError" && error.reason === "Unreachable")
      assert.isBelow(millis, 12_000)
      assert.strictEqual(yield* safe("3"), "OK")
    })
  )

  it.live("hears its channels again when their connection went silent", () =>
    Effect.gen(function* () {
      const { proxy, redis } = yield* client
      const { call } = yield* server
      const heard = yield* Deferred.make<string>()
      const first = yield* Deferred.make<string>()
      yield* Effect.forkChild(
        Stream.runForEach(redis.subscribe("silent"), (message) =>
          Deferred.succeed(message === "one" ? first : heard, message)
        ),
        { startImmediately: true }
      )
      const say = (message: string, until: Deferred.Deferred<string>) =>
        Effect.raceFirst(
          Deferred.await(until),
          Effect.forever(Effect.andThen(call("publish", "silent", message), Effect.sleep("50 millis")))
        )
      yield* say("one", first)
      yield* proxy.silence
      const [millis] = yield* took(say("two", heard))
      assert.isBelow(millis, 12_000)
    })
  )

  it.live("whose channels went silent can be closed all the same", () =>
    Effect.gen(function* () {
      const { proxy, redis, close } = yield* client
      const listening = yield* Effect.forkChild(Stream.runDrain(redis.subscribe("quiet")), { startImmediately: true })
      // Until it listens: a connection more.
      while (proxy.open() < 2) yield* Effect.sleep("5 millis")
      yield* proxy.silence
      const [millis] = yield* took(Effect.andThen(Fiber.interrupt(listening), close))
      assert.isBelow(millis, 2_000)
    })
  )
})
