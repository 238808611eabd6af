/** `send`, `sendmany`, `tail`: events in and out, on both engines. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Schema, Stream } from "effect"
import * as Topic from "../../src/Topic.ts"
import { sharedUrl } from "../support/redis.ts"
import { good, json, jsonLines, onBoth, refused, run, shop, spawned } from "./support.ts"

const order = (id: number, customer = "ada", amount = 5) => JSON.stringify({ id, customer, amount })

const scratch = Effect.acquireRelease(
  Effect.sync(() => mkdtempSync(join(tmpdir(), "millrace-cli-"))),
  (path) => Effect.sync(() => rmSync(path, { recursive: true, force: true }))
)

describe("send", () => {
  onBoth("stores an event and says where it is", ({ at }) =>
    Effect.gen(function* () {
      assert.match(good(yield* run(["send", shop, "orders", order(1), ...at])), /^orders\/\d@\d+-\d+\.0\n$/)
      const [position] = jsonLines(yield* run(["send", shop, "orders", order(2), "--partition", "3", "--json", ...at]))
      assert.deepInclude(position, { topic: "orders", partition: 3, repeated: false })
      const piped = yield* run(["send", shop, "orders", "--json", ...at], { stdin: Stream.make(order(3)) })
      assert.lengthOf(jsonLines(piped), 1)
      const many = yield* run(["send", shop, "orders", order(4), "--repeat", "3", "--key", "bob", ...at])
      assert.lengthOf(good(many).trim().split("\n"), 3)
      const dry = yield* run(["send", shop, "orders", order(5), "--dry-run", ...at])
      assert.strictEqual(good(dry), "")
      assert.include(dry.err, "would send one event to orders")

      const all = jsonLines(yield* run(["tail", shop, "orders", "--from", "earliest", "--end", "--json", ...at]))
      assert.deepStrictEqual(all.map(({ value }) => value.id).toSorted(), [1, 2, 3, 4, 4, 4])
      assert.deepStrictEqual(
        all.filter(({ key }) => key === "bob").map(({ value }) => value),
        Array.from({ length: 3 }, () => ({ id: 4, customer: "ada", amount: 5 }))
      )
    })
  )

  it.live("sets headers", () =>
    Effect.gen(function* () {
      const at = ["--url", yield* Effect.promise(sharedUrl), "--namespace", `cli-${crypto.randomUUID()}`]
      good(yield* run(["send", shop, "receipts", '"paid"', "--header", "a=1", "--header", "b=2=3", ...at]))
      const [event] = jsonLines(
        yield* run(["tail", shop, "receipts", "--from", "earliest", "-n", "1", "--json", ...at])
      )
      assert.deepInclude(event, { value: "paid", headers: { a: "1", b: "2=3" }, topic: "receipts", partition: 0 })
    })
  )

  it.live("refuses what does not fit, each time in one line", () =>
    Effect.gen(function* () {
      const at = ["--url", "memory:"]
      refused(yield* run(["send", shop, "ordrs", order(1), ...at]), 2, "no topic ordrs", "orders, receipts, shout")
      refused(yield* run(["send", shop, "orders", "{", ...at]), 2, "topic orders", "no JSON")
      refused(yield* run(["send", shop, "orders", '{"id":1}', ...at]), 2, "does not fit", "customer")
      refused(yield* run(["send", shop, "orders", order(1), "--partition", "9", ...at]), 2, "partitions 0 to 3")
      refused(yield* run(["send", shop, "orders", order(1), "--repeat", "0", ...at]), 2, "--repeat")
      refused(yield* run(["send", shop, "orders", ...at], { isTerminal: true }), 2, "there is no value")
      refused(yield* run(["send", shop, "orders", order(1)]), 2, "--url", "MILLRACE_URL")
    })
  )
})

describe("sendmany", () => {
  onBoth("stores a file and a pipe", ({ at }) =>
    Effect.gen(function* () {
      const directory = yield* scratch
      const file = join(directory, "orders.jsonl")
      writeFileSync(file, `${[1, 2, 3, 4, 5].map((id) => order(id)).join("\n")}\n`)
      assert.deepStrictEqual(json(yield* run(["sendmany", shop, "orders", file, "--json", ...at])), {
        topic: "orders",
        sent: 5
      })
      const stdin = Stream.make(`${order(6)}\n`, `${order(7)}\n\n${order(8)}`)
      assert.strictEqual(good(yield* run(["sendmany", shop, "orders", ...at], { stdin })), "3 events sent to orders\n")
      const all = jsonLines(yield* run(["tail", shop, "orders", "--from", "earliest", "--end", "--json", ...at]))
      // One customer, one partition: in their order.
      assert.deepStrictEqual(
        all.map(({ value }) => value.id),
        [1, 2, 3, 4, 5, 6, 7, 8]
      )
    })
  )

  onBoth("names a line that is wrong, and goes on from it", ({ at }) =>
    Effect.gen(function* () {
      const texts = [order(1), order(2), '{"id":"three"}', order(4)]
      const stdin = Stream.make(texts.join("\n"))
      const wrong = yield* run(["sendmany", shop, "orders", ...at], { stdin })
      assert.strictEqual(wrong.code, 1)
      assert.strictEqual(wrong.out, "2 events sent to orders\n")
      assert.match(wrong.err, /^millrace: line 3: it does not fit: .*--from-line\)\n$/)
      const dry = yield* run(["sendmany", shop, "orders", "--dry-run", ...at], { stdin })
      assert.strictEqual(dry.code, 1)
      assert.include(dry.out, "2 lines fit")
      good(yield* run(["sendmany", shop, "orders", "--from-line", "4", ...at], { stdin }))
      const all = jsonLines(yield* run(["tail", shop, "orders", "--from", "earliest", "--end", "--json", ...at]))
      assert.deepStrictEqual(
        all.map(({ value }) => value.id),
        [1, 2, 4]
      )
    })
  )

  it.live("says which file is not there", () =>
    Effect.gen(function* () {
      const outcome = yield* run(["sendmany", shop, "orders", "/nowhere/a.jsonl", "--url", "memory:"])
      refused(outcome, 2, "/nowhere/a.jsonl cannot be read")
    })
  )

  it.live(
    "streams a file that is larger than its heap, as a process",
    () =>
      Effect.scoped(
        Effect.gen(function* () {
          const directory = yield* scratch
          const file = join(directory, "large.jsonl")
          // 32 MB in a heap of 64, of which the program itself takes 30: the file and its values do not fit.
          const line = `${JSON.stringify("x".repeat(1_000))}\n`
          const lines = 32_000
          writeFileSync(file, line.repeat(lines))
          const at = ["--url", `file:${join(directory, "engine.db")}`]
          const env = { NODE_OPTIONS: "--max-old-space-size=64" }
          const outcome = yield* spawned(["sendmany", shop, "receipts", file, "--json", ...at], { env })
          assert.deepStrictEqual(json(outcome), { topic: "receipts", sent: lines })
        })
      ),
    120_000
  )
})

describe("tail", () => {
  onBoth("begins at a position, filters, and moves nobody", ({ at }) =>
    Effect.gen(function* () {
      const stdin = Stream.make([order(1, "ada"), order(2, "bob"), order(3, "ada")].join("\n"))
      good(yield* run(["sendmany", shop, "orders", ...at], { stdin }))
      const tail = (...args: ReadonlyArray<string>) => run(["tail", shop, "orders", "--end", "--json", ...args, ...at])
      const all = jsonLines(yield* tail("--from", "earliest"))
      assert.lengthOf(all, 3)
      const ada = jsonLines(yield* tail("--from", "earliest", "--key", "ada"))
      assert.deepStrictEqual(
        ada.map(({ value }) => value.id),
        [1, 3]
      )
      const { offset, partition } = ada[1]
      const later = jsonLines(yield* tail("--from", offset, "--partition", String(partition), "--key", "ada"))
      assert.deepStrictEqual(
        later.map(({ value }) => value.id),
        [3]
      )
      assert.deepStrictEqual(jsonLines(yield* tail("--from", "latest")), [])
      assert.deepStrictEqual(jsonLines(yield* tail("--from", "2999-01-01T00:00:00Z")), [])
      assert.lengthOf(jsonLines(yield* tail("--from", "2001-01-01T00:00:00Z")), 3)
      const [first] = good(yield* run(["tail", shop, "orders", "--from", "earliest", "-n", "1", ...at])).split("\n")
      assert.match(first!, /^\d@\d+-\d+\.0 {2}\d{4}-\d\d-\d\dT\S+ {2}\w+ {2}\{"id":/)
      refused(yield* tail("--from", "yesterday"), 2, '"yesterday" is no position')
      refused(yield* tail("--partition", "4"), 2, "partitions 0 to 3")
    })
  )

  onBoth("tells what cannot be decoded on stderr, and shows the next", ({ at, layer }) =>
    Effect.gen(function* () {
      const send = (text: string) => run(["send", shop, "receipts", text, ...at])
      good(yield* send('"before"'))
      // Another release wrote something else.
      const other = Topic.make("receipts", { schema: Schema.Int, partitions: 1 })
      yield* Effect.provide(Topic.publishAll(other, [5, 6]), layer)
      good(yield* send('"after"'))
      const seen = yield* run(["tail", shop, "receipts", "--from", "earliest", "--end", "--json", ...at])
      assert.deepStrictEqual(
        jsonLines(seen).map(({ value }) => value),
        ["before", "after"]
      )
      assert.match(seen.err, /^skipped: receipts\/0@\S+ cannot be decoded .*\n(?:.*\n)*skipped: receipts/)
    })
  )

  it.live(
    "goes on until a signal ends it with 0, as a process",
    () =>
      Effect.gen(function* () {
        const url = yield* Effect.promise(sharedUrl)
        const at = ["--url", url, "--namespace", `cli-${crypto.randomUUID()}`]
        good(yield* run(["send", shop, "receipts", '"first"', ...at]))
        const seen = yield* spawned(["tail", shop, "receipts", "--from", "earliest", "--json", ...at], {
          endAfter: { printed: "first", meanwhile: Effect.void }
        })
        assert.deepStrictEqual(
          jsonLines(seen).map(({ value }) => value),
          ["first"]
        )
      }),
    60_000
  )
})
