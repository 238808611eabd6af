/** `explain`: one event in each state it can be in, on both engines. */
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import * as Partitioner from "../../src/Partitioner.ts"
import { shop as app } from "./shop.app.ts"
import { drained, good, json, jsonLines, onBoth, refused, run, shop } from "./support.ts"

/** Customers of partition 1: they share its order. */
const [ada, bob, cyd, dan] = Array.from({ length: 100 }, (_, i) => `c${i}`).filter(
  (name) => Partitioner.hash(name, 4) === 1
)

onBoth("says what became of an event", (place) =>
  Effect.gen(function* () {
    const { at } = place
    const send = (id: number, customer: string | undefined, amount: number) =>
      Effect.map(
        run(["send", shop, "orders", JSON.stringify({ id, customer, amount }), "--json", ...at]),
        (outcome) => {
          const [{ offset, partition, topic }] = jsonLines(outcome)
          return `${topic}/${partition}@${offset}`
        }
      )
    const good1 = yield* send(1, ada, 5)
    const explain = (event: string) => Effect.map(run(["explain", event, "--json", ...at]), json)
    const early = yield* explain(good1)
    assert.deepInclude(early, { state: "stored", key: ada, processors: [] })
    assert.include(good(yield* run(["explain", good1, ...at])), "no processor reads this topic")

    const dead = yield* send(2, ada, -1)
    const parked = yield* send(3, bob, 555)
    const behindIt = yield* send(4, bob, 1)
    const broken = yield* send(5, cyd, 666)
    const after = yield* send(6, dan, 1)
    yield* drained(place, app.parts)
    const state = (event: string) => Effect.map(explain(event), ({ processors }) => processors[0])

    assert.deepInclude(yield* state(good1), { processor: "billing", state: "done", owner: null })
    const letter = yield* state(dead)
    assert.strictEqual(letter.state, "dead letter")
    assert.match(letter.detail, /^orders\.dead\/1@\S+: Declined/)
    assert.strictEqual((yield* state(parked)).state, "parked")
    assert.include((yield* state(behindIt)).detail, `under key "${bob}"`)
    const aside = yield* state(broken)
    assert.strictEqual(aside.state, "quarantined")
    assert.include(aside.detail, "Broken")
    const waits = yield* state(after)
    assert.strictEqual(waits.state, "waiting")
    assert.include(waits.detail, broken.split("@")[1]!)
    const text = good(yield* run(["explain", broken, ...at]))
    assert.match(text, /^orders\/1@\S+\nstored .* ago\nkey +c\d+\nvalue +\{"id":5.*\n\nprocessor +state/)

    good(yield* run(["quarantine", "release", "billing", "1", ...at]))
    assert.include((yield* state(after)).detail, "no worker runs")
    good(yield* run(["pause", "billing", ...at]))
    assert.include((yield* state(after)).detail, "paused")

    refused(yield* run(["explain", "orders", ...at]), 2, '"orders" is no event')
    refused(yield* run(["explain", "ordrs/1@1-0.0", ...at]), 2, "ordrs", "orders")
    refused(yield* run(["explain", "orders/9@1-0.0", ...at]), 2, "partitions 0 to 3")
    refused(
      yield* run(["explain", "orders/1@9999999999999-0.0", ...at]),
      2,
      "there is no event",
      "the last entry there"
    )
  })
)
