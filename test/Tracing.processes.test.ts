/** A trace crosses processes: published here, handled and emitted in another one, seen here again. */
import { assert, it } from "@effect/vitest"
import { Effect, Option, Schema, Stream } from "effect"
import * as Engine from "../src/Engine.ts"
import * as Retention from "../src/Retention.ts"
import * as Settings from "../src/Settings.ts"
import * as Topic from "../src/Topic.ts"
import * as Tracing from "../src/Tracing.ts"
import { start as spawn } from "./support/processes.ts"
import { sharedUrl } from "./support/redis.ts"

it.live(
  "publisher here, handler there, what it emitted here [Redis]",
  () =>
    Effect.gen(function* () {
      const url = yield* Effect.promise(sharedUrl)
      const namespace = `tracing-${crypto.randomUUID()}`
      const retention = Retention.forever
      const source = Topic.make("traced", { schema: Schema.Int, partitions: 1, retention })
      const out = Topic.make("traced-out", { schema: Schema.Int, partitions: 1, retention })
      yield* Effect.gen(function* () {
        const publisher = yield* Effect.andThen(Topic.publish(source, 1), Effect.orDie(Effect.currentSpan)).pipe(
          Effect.withSpan("publisher")
        )
        const child = yield* spawn("tracing", {
          MILLRACE_URL: url,
          MILLRACE_NAMESPACE: namespace,
          MILLRACE_TRACING_SAMPLE: "0.001",
          TOPIC: "traced"
        })
        const span = yield* child.until(({ what }) => what === "span", "its span")
        assert.deepInclude(span, { traceId: publisher.traceId, parent: publisher.spanId })
        assert.strictEqual(yield* child.exit, 0, child.errors())
        const [event] = yield* Stream.runCollect(Topic.stream(out, { until: "now" }))
        const parent = Option.getOrThrow(Tracing.parentOf(event!))
        assert.deepInclude(parent, { traceId: publisher.traceId, spanId: String(span["spanId"]), sampled: true })
      }).pipe(
        Effect.provide(Engine.layerRedis({ url, namespace })),
        Effect.provide(Settings.layer({ tracing: { sample: 1 } }))
      )
    }).pipe(Effect.scoped),
  30_000
)
