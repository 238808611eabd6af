/**
 * A worker beside a web server, in one program: both are layers. `Worker.launch` ends with the worker, fails with what
 * halted it, and closes the server; SIGTERM finishes what is being handled, commits, leaves, and exits with 0.
 *
 *     curl -X POST localhost:3000/votes/tea        curl localhost:3000/votes/tea
 */
import { createServer } from "node:http"
import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Config, Effect, Layer, Schema } from "effect"
import { HttpRouter, HttpServerResponse } from "effect/http"
import { Engine, Processor, Table, Topic, Worker } from "../src/index.ts"

const votes = Topic.make("votes", { schema: Schema.String, partitionBy: (choice) => choice })
const counts = Table.make("counts", { key: Schema.String, value: Schema.Int, initial: () => 0 })

const counting = Processor.make("counting", { topic: votes, tables: [counts] }, (choice) =>
  Table.update(counts, choice, (count) => count + 1)
)

const choice = Effect.map(
  HttpRouter.schemaPathParams(Schema.Struct({ choice: Schema.NonEmptyString })),
  (path) => path.choice
)

const routes = Layer.mergeAll(
  HttpRouter.add(
    "POST",
    "/votes/:choice",
    Effect.gen(function* () {
      const { offset, partition } = yield* Topic.publish(votes, yield* choice)
      return yield* HttpServerResponse.json({ partition, offset })
    })
  ),
  // What is committed, from any process that reaches the engine.
  HttpRouter.add(
    "GET",
    "/votes/:choice",
    Effect.gen(function* () {
      return yield* HttpServerResponse.json({ count: yield* Table.lookup(counts, yield* choice) })
    })
  )
)

const server = Layer.unwrap(
  Effect.map(Config.Port("PORT").pipe(Config.withDefault(3000)), (port) => NodeHttpServer.layer(createServer, { port }))
)

const engine = process.env.MILLRACE_URL ? Engine.layerConfig : Engine.layerMemory

const app = Layer.mergeAll(HttpRouter.serve(routes).pipe(Layer.provide(server)), Worker.layer([counting])).pipe(
  Layer.provide(engine)
)

Worker.launch(app).pipe(NodeRuntime.runMain({ teardown: Worker.teardown }))
