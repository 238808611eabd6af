/** What is redacted by its schema is sent as it is, and printed by no command. */
import { fileURLToPath } from "node:url"
import { assert, describe } from "@effect/vitest"
import { Effect, Redacted, Stream } from "effect"
import * as Topic from "../../src/Topic.ts"
import * as Worker from "../../src/Worker.ts"
import { secrets as app, logins } from "./secrets.app.ts"
import { good, json, jsonLines, type Outcome, onBoth, run } from "./support.ts"

const module = fileURLToPath(new URL("./secrets.app.ts", import.meta.url))
const secret = "hunter2"
const value = JSON.stringify({ user: "ada", password: secret })
const shown = { user: "ada", password: "<redacted>" }

const hides = (outcome: Outcome): Outcome => {
  assert.notInclude(outcome.out + outcome.err, secret)
  return outcome
}

describe("redacted fields", () => {
  onBoth("are sent, and not printed: tail, send, explain", ({ at, layer }) =>
    Effect.gen(function* () {
      const dry = hides(yield* run(["send", module, "logins", value, "--dry-run", ...at]))
      assert.include(dry.err, JSON.stringify(shown))
      const [position] = jsonLines(hides(yield* run(["send", module, "logins", value, "--json", ...at])))
      const stored = yield* Stream.runCollect(Topic.stream(logins, { until: "now" })).pipe(Effect.provide(layer))
      assert.deepStrictEqual(
        stored.map((event) => Redacted.value(event.value.password)),
        [secret]
      )
      const tail = ["tail", module, "logins", "--from", "earliest", "--end"]
      const [event] = jsonLines(hides(yield* run([...tail, "--json", ...at])))
      assert.deepStrictEqual(event.value, shown)
      assert.include(good(hides(yield* run([...tail, ...at]))), JSON.stringify(shown))
      const place = `logins/${position.partition}@${position.offset}`
      const about = json(hides(yield* run(["explain", place, "--json", ...at])))
      assert.deepStrictEqual(about.value, shown)
      // To look at it changes nothing of what is known of it.
      const [topic] = json(yield* run(["topics", "--json", ...at])).filter(({ name }: any) => name === "logins")
      assert.deepStrictEqual(topic.retention, JSON.parse(JSON.stringify(logins.retention)))
      assert.deepStrictEqual(json(hides(yield* run(["explain", place, "--json", ...at]))).value, shown)
    })
  )

  onBoth("an event of a flat topic is explained too", ({ at }) =>
    Effect.gen(function* () {
      const [{ offset }] = jsonLines(yield* run(["send", module, "lines", '{"count":1}', "--json", ...at]))
      assert.strictEqual(json(yield* run(["explain", `lines/0@${offset}`, "--json", ...at])).state, "stored")
    })
  )

  onBoth("are in replies, and not printed: agents ask", ({ at, layer }) =>
    Effect.gen(function* () {
      yield* Effect.forkScoped(Effect.provide(Worker.run(app.parts), layer))
      const reply = json(hides(yield* run(["agents", "ask", module, "tokens", value, "--json", ...at])))
      assert.deepStrictEqual(reply, shown)
    })
  )
})
