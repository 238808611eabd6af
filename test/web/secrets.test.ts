/**
 * A whole run with everything said aloud: the password of the server and the token of the web are in no log line, no error,
 * no span, no report and no response.
 */
import { inspect } from "node:util"
import { assert, it } from "@effect/vitest"
import { Cause, Effect, Exit, Layer, Logger, Redacted, References, Schema, Tracer } from "effect"
import { Coordinator } from "../../src/Coordinator.ts"
import * as Engine from "../../src/Engine.ts"
import * as Policy from "../../src/Policy.ts"
import * as Processor from "../../src/Processor.ts"
import * as Topic from "../../src/Topic.ts"
import { Web } from "../../src/web/index.ts"
import { start } from "../support/engines.ts"
import { freePort, makeServer } from "../support/redis.ts"
import { ask, bearer, firstOf, token } from "../support/web.ts"

const password = "pa55word-of-the-tests"

class Bad extends Schema.TaggedError<Bad>()("Bad", { n: Schema.Int }) {}

/** As deep as anything goes, getters and hidden properties too. */
const shown = (value: unknown): string => inspect(value, { depth: 12, showHidden: true, getters: true })

it.live(
  "neither the password nor the token is ever shown",
  () =>
    Effect.gen(function* () {
      const said: Array<string> = []
      const logger = Logger.make(({ cause, fiber, message }) => {
        const annotations = fiber.getRef(References.CurrentLogAnnotations)
        said.push(shown(message), Cause.pretty(cause), shown(annotations), shown(cause.reasons))
      })
      const spans: Array<Tracer.Span> = []
      const tracer = Tracer.make({
        span: (options) => {
          const span = new Tracer.NativeSpan(options)
          spans.push(span)
          return span
        }
      })
      const loud = Layer.mergeAll(
        Logger.layer([logger]),
        Layer.succeed(References.MinimumLogLevel, "All"),
        Layer.succeed(Tracer.Tracer, tracer)
      )

      const server = yield* makeServer(["--requirepass", password])
      const url = (pass: string) => Redacted.make(`redis://:${pass}@127.0.0.1:${server.port}`)
      const run = Effect.gen(function* () {
        const topic = Topic.make("numbers", { schema: Schema.Int, partitions: 2 })
        const part = Processor.make("p", { topic }, (n) => (n === 3 ? Effect.fail(new Bad({ n })) : Effect.void)).pipe(
          Processor.catchTag("Bad", Policy.deadLetter())
        )
        const port = yield* Effect.promise(freePort)
        const worker = yield* start([part], { lease: "1 second", grace: 0, web: { port, token: Redacted.make(token) } })
        yield* Topic.publishAll(topic, [1, 2, 3])
        yield* worker.idle
        const get = ask(port)
        // The stream of events does not end; what it says is read below.
        const endpoints = Object.values(Web.Api.groups)
          .flatMap((group) => Object.values(group.endpoints))
          .filter(({ path }) => path !== "/api/events")
        const paths = endpoints.map(
          ({ method, path }) =>
            [method, path.replace(/:(\w+)/g, (_: string, name: string) => names[name] ?? "x")] as const
        )
        const more = ["/", "/metrics", "/health/live", "/health/ready", "/api/openapi.json", "/nope"]
        for (const [method, path] of [...paths, ...more.map((path) => ["GET", path] as const)]) {
          for (const headers of [
            {},
            bearer,
            { authorization: "Bearer wrong" },
            { ...bearer, origin: "http://evil.example" }
          ]) {
            const answer = yield* get(path, { method, headers })
            said.push(answer.text, shown(answer.headers))
          }
        }
        said.push(yield* firstOf(port, "/api/events"))
        said.push(shown(yield* Coordinator.use((coordinator) => coordinator.reports())))
        // The server goes away under it, and what is asked then fails.
        yield* server.kill
        const late = ["/health/ready", "/api/overview"].map((path) => get(path))
        const failed = Effect.exit(Topic.publish(topic, 4).pipe(Effect.timeout("1 second")))
        said.push(...(yield* Effect.all([...late, failed], { concurrency: "unbounded" })).map(shown))
      })
      const exits: ReadonlyArray<Exit.Exit<unknown, unknown>> = [
        yield* Effect.exit(
          Effect.scoped(run).pipe(Effect.provide(Engine.layer({ url: url(password) })), Effect.provide(loud))
        ),
        // One of the start: a token that is none.
        yield* Effect.exit(
          Effect.scoped(
            Layer.build(Layer.provide(Web.layer({ token: Redacted.make(`${token} x`) }), Engine.layerMemory))
          )
        )
      ]
      assert.isTrue(Exit.isSuccess(exits[0]!), shown(exits[0]))
      for (const exit of exits.slice(1)) assert.isTrue(Exit.isFailure(exit))
      said.push(...exits.map(shown))
      said.push(...spans.map((span) => shown([span.name, [...span.attributes], span.links])))
      assert.isAbove(said.length, 500)
      assert.isNotEmpty(spans)
      const leaks = said.filter((text) => text.includes(password) || text.includes(token))
      assert.deepStrictEqual(leaks, [])
      // What is scanned would show one that leaks.
      assert.include(shown({ deep: { url: Redacted.value(url(password)) } }), password)
    }).pipe(Effect.scoped),
  60_000
)

const names: Readonly<Record<string, string>> = { name: "p", partition: "0", topic: "numbers.dead", offset: "1-1.0" }
