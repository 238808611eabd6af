/** What workers measure, trace and log reaches a collector over OTLP, by Effect's own layer, as the README says. */
import { createServer } from "node:http"
import type { AddressInfo } from "node:net"
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import { assert, it } from "@effect/vitest"
import { Effect, Layer, Schema } from "effect"
import { Otlp } from "effect/observability"
import { Engine, Policy, Processor, Settings, Topic, Worker } from "../src/index.ts"

/** A collector that keeps what it is sent. */
const collector = Effect.acquireRelease(
  Effect.callback<{ readonly url: string; readonly received: Map<string, Array<any>>; readonly close: () => void }>(
    (resume) => {
      const received = new Map<string, Array<any>>()
      const server = createServer((request, response) => {
        const chunks: Array<Buffer> = []
        request.on("data", (chunk: Buffer) => chunks.push(chunk))
        request.on("end", () => {
          const path = request.url!
          received.set(path, [...(received.get(path) ?? []), JSON.parse(Buffer.concat(chunks).toString())])
          response.writeHead(200, { "content-type": "application/json" }).end("{}")
        })
      })
      server.listen(0, "127.0.0.1", () => {
        const { port } = server.address() as AddressInfo
        resume(Effect.succeed({ url: `http://127.0.0.1:${port}`, received, close: () => server.close() }))
      })
    }
  ),
  ({ close }) => Effect.sync(close)
)

it.live("metrics, spans and log lines arrive", () =>
  Effect.gen(function* () {
    const { received, url } = yield* collector
    const topic = Topic.make("otlp", { schema: Schema.Int, partitions: 1 })
    const part = Processor.make("otlp", { topic }, (n) => (n === 2 ? Effect.fail("two" as const) : Effect.void)).pipe(
      Processor.catch(Policy.deadLetter())
    )
    yield* Effect.gen(function* () {
      yield* Effect.withSpan(Topic.publishAll(topic, [1, 2, 3]), "publisher")
      yield* Worker.run([part], { limit: 3, member: "collected" })
    }).pipe(
      Effect.provide(Engine.layerMemory),
      Effect.provide(Settings.layer({ tracing: { sample: 1 } })),
      // What is left is sent when the layer closes.
      Effect.provide(
        Otlp.layerJson({ baseUrl: url, resource: { serviceName: "orders" } }).pipe(
          Layer.provide(NodeHttpClient.layerUndici)
        )
      )
    )
    const metrics = received
      .get("/v1/metrics")!
      .flatMap((body) => body.resourceMetrics)
      .flatMap(({ scopeMetrics }) => scopeMetrics)
      .flatMap((scope) => scope.metrics)
    const processed = metrics.findLast(({ name }) => name === "millrace_events_processed_total")
    const [point] = processed.sum.dataPoints.filter((one: any) => one.attributes[0].value.stringValue === "otlp")
    assert.strictEqual(Number(point.asInt ?? point.asDouble), 2)
    const names = new Set(metrics.map(({ name }) => name))
    for (const name of ["millrace_handler_seconds", "millrace_commit_seconds", "millrace_append_seconds"]) {
      assert.isTrue(names.has(name), name)
    }
    const spans = received
      .get("/v1/traces")!
      .flatMap((body) => body.resourceSpans)
      .flatMap(({ scopeSpans }) => scopeSpans)
      .flatMap((scope) => scope.spans)
    const publisher = spans.find(({ name }) => name === "publisher")
    const handled = spans.filter(({ name }) => name === "process otlp")
    assert.lengthOf(handled, 3)
    for (const span of handled) {
      assert.deepInclude(span, { traceId: publisher.traceId, parentSpanId: publisher.spanId, kind: 5 })
    }
    const logs = received
      .get("/v1/logs")!
      .flatMap((body) => body.resourceLogs)
      .flatMap(({ scopeLogs }) => scopeLogs)
      .flatMap(({ logRecords }) => logRecords)
    const failure = logs.find(({ body }) => JSON.stringify(body).includes("goes to otlp.dead"))
    const attributes = new Map(failure.attributes.map(({ key, value }: any) => [key, Object.values(value)[0]]))
    assert.deepInclude(Object.fromEntries(attributes), { member: "collected", processor: "otlp", topic: "otlp" })
    assert.isTrue(attributes.has("partition") && attributes.has("offset"))
  }).pipe(Effect.scoped)
)
