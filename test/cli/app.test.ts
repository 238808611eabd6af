/** What an app says of itself holds for the command line: where it is, and its settings. */

import { fileURLToPath } from "node:url"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import * as App from "../../src/App.ts"
import * as Engine from "../../src/Engine.ts"
import * as Topic from "../../src/Topic.ts"
import { fileUrl } from "../support/places.ts"
import { shop as app, Order, orders } from "./shop.app.ts"
import { good, jsonLines, run, shop } from "./support.ts"

describe("the command line", () => {
  it.live("looks where the app's programs are", () =>
    Effect.gen(function* () {
      const url = yield* fileUrl
      const engine = App.engine(app, Engine.layer({ url }))
      const order = { id: 1, customer: "ada", amount: 5 }
      yield* Effect.provide(Topic.publish(orders, new Order(order)), engine)
      const tail = yield* run(["tail", shop, "orders", "--from", "earliest", "--limit", "1", "--json", "--url", url])
      assert.deepStrictEqual(
        jsonLines(tail).map(({ value }) => value),
        [order]
      )
      good(yield* run(["send", shop, "orders", JSON.stringify({ ...order, id: 2 }), "--url", url]))
      const { parts } = yield* Effect.provide(App.run(app, { limit: 2, processors: ["billing"] }), engine)
      assert.strictEqual(parts.billing?.processed, 2)
    })
  )

  it.live("has the app's settings, for its commands, its worker and its logs", () =>
    Effect.gen(function* () {
      const at = ["--url", yield* fileUrl]
      const settled = fileURLToPath(new URL("./settings.app.ts", import.meta.url))
      assert.strictEqual(good(yield* run(["run", settled, "look", ...at])), "lease 3000, grace 25000\n")
      good(yield* run(["send", settled, "numbers", "1", ...at]))
      const worker = yield* run(["worker", settled, "--limit", "1", ...at])
      good(worker)
      const logged = worker.err.split("\n").find((line) => line.startsWith("{") && line.includes("lease 3000"))
      assert.strictEqual(JSON.parse(logged ?? "{}").message, "lease 3000, grace 25000", worker.err)
      // A flag beats it.
      good(yield* run(["send", settled, "numbers", "2", ...at]))
      const flagged = yield* run(["worker", settled, "--limit", "1", "--log-format", "logfmt", ...at])
      assert.match(flagged.err, /^timestamp=.* message="lease 3000, grace 25000"/m)
    })
  )
})
