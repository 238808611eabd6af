/** What is looked at and done by name: each command on both engines, with its output, `--json` and exit code. */
import { assert, describe } from "@effect/vitest"
import { Effect, Stream } from "effect"
import * as Admin from "../../src/Admin.ts"
import * as Job from "../../src/Job.ts"
import * as Worker from "../../src/Worker.ts"
import { shop as app, mail } from "./shop.app.ts"
import { drained, good, json, jsonLines, onBoth, type Place, refused, run, shop } from "./support.ts"

const order = (id: number, customer: string, amount = 5) => JSON.stringify({ id, customer, amount })

/** One good order, one that is dead-lettered, one that parks its key, one that quarantines its partition. */
const stocked = (place: Place, ...orders: ReadonlyArray<string>) =>
  Effect.gen(function* () {
    good(yield* run(["sendmany", shop, "orders", ...place.at], { stdin: Stream.make(orders.join("\n")) }))
    yield* drained(place, app.parts)
  })

/** What the command prints is what `Admin` gives: the same as the HTTP API. */
const equals = <A, E, R>(place: Place, args: ReadonlyArray<string>, from: Effect.Effect<A, E, R>) =>
  Effect.gen(function* () {
    const printed = json(yield* run([...args, "--json", ...place.at]))
    const expected = yield* Effect.provide(from as Effect.Effect<A, E, Admin.Services>, place.layer)
    assert.deepStrictEqual(printed, JSON.parse(JSON.stringify(expected)))
    return printed
  })

describe("looking", () => {
  onBoth("shows topics, processors, lag and tables", (place) =>
    Effect.gen(function* () {
      const { at } = place
      const none = yield* run(["topics", ...at])
      assert.match(good(none), /^topic +partitions/)
      assert.match(none.err, /^there is none \(in namespace cli-.*; see --namespace\)\n$/)
      assert.strictEqual((yield* run(["topics", "--json", ...at])).err, "")
      yield* stocked(place, order(1, "ada"), order(2, "bob"), order(3, "ada"))
      yield* equals(place, ["topics"], Admin.topics)
      const orders = yield* equals(place, ["topics", "orders"], Admin.topic("orders"))
      assert.strictEqual(orders.eventsAdded, 3)
      assert.match(good(yield* run(["topics", ...at])), /^topic +partitions +events .*\n(?:.*\n)*orders +4 /)
      assert.match(good(yield* run(["topics", "orders", ...at])), /^partition +events/)
      yield* equals(place, ["processors"], Admin.processors)
      yield* equals(place, ["processors", "billing"], Admin.processor("billing"))
      assert.match(good(yield* run(["processors", ...at])), /\nbilling +orders +4 +on +0 +nobody: 4\n/)
      yield* equals(place, ["lag", "billing"], Admin.lag("billing"))
      good(yield* run(["send", shop, "orders", order(4, "cyd"), ...at]))
      assert.match(good(yield* run(["lag", ...at])), /\nbilling +1 +1 +\d+s\n/)
      yield* equals(place, ["tables", "list"], Admin.tables)
      const row = yield* equals(place, ["tables", "get", "totals", "ada"], Admin.row("totals", "ada"))
      assert.strictEqual(row.payload.value, 10)
      assert.strictEqual(good(yield* run(["tables", "get", "totals", "bob", ...at])), "5\n")
      const rows = json(yield* run(["tables", "entries", "totals", "--json", ...at]))
      assert.sameMembers(
        rows.map((one: Admin.Row) => one.key),
        ["ada", "bob"]
      )
      const one = yield* run(["tables", "entries", "totals", "-n", "1", ...at])
      assert.lengthOf(good(one).trim().split("\n"), 2)
      assert.include(one.err, "there are more")
      yield* equals(place, ["schedules"], Admin.schedules)
      yield* equals(place, ["workers"], Admin.workers)
    })
  )

  onBoth("prints a key of any characters in one line, and lets none of them command the terminal", (place) =>
    Effect.gen(function* () {
      yield* stocked(place, order(1, "a\nb\u001b[31m"))
      const rows = good(yield* run(["tables", "entries", "totals", ...place.at]))
        .trim()
        .split("\n")
      assert.lengthOf(rows, 2)
      assert.match(rows[1]!, /^ *\d {2}a\\nb\\u001b\[31m {2}5$/)
      const tail = ["tail", shop, "orders", "--from", "earliest", "--end", ...place.at]
      assert.include(good(yield* run(tail)), "  a\\nb\\u001b[31m  ")
    })
  )

  onBoth("tells a wrong name what there is, and where it looked", (place) =>
    Effect.gen(function* () {
      yield* stocked(place, order(1, "ada"))
      const wrong = (...args: ReadonlyArray<string>) => run([...args, ...place.at])
      refused(yield* wrong("topics", "ordrs"), 2, 'no topic "ordrs"', "orders", "namespace cli-")
      refused(yield* wrong("lag", "biling"), 2, "billing")
      refused(yield* wrong("pause", "biling"), 2, "billing")
      refused(yield* wrong("seek", "biling", "earliest", "--yes"), 2, "billing")
      refused(yield* wrong("tables", "get", "total", "ada"), 2, "totals")
      refused(yield* wrong("tables", "get", "totals", "zoe"), 2, "zoe")
      refused(yield* wrong("dead", "list", "orders"), 2, "orders.dead")
      refused(yield* wrong("dead", "redrive", "orders", "--yes"), 2, "orders.dead")
      refused(
        yield* wrong("quarantine", "release", "billing", "0"),
        2,
        "partition 0 of processor billing is not quarantined"
      )
      refused(yield* wrong("parked", "release", "billing", "0"), 2, "--key", "--event")
      refused(yield* wrong("parked", "release", "billing", "0", "--key", "zoe"), 2, "zoe")
      refused(yield* wrong("jobs", "show", "post", "none"), 2)
      refused(yield* wrong("queues", "pause", "nowhere"), 2, "nowhere")
    })
  )
})

describe("processors", () => {
  onBoth("are paused, resumed and moved", (place) =>
    Effect.gen(function* () {
      const { at } = place
      yield* stocked(place, order(1, "ada"), order(2, "ada"))
      assert.strictEqual(good(yield* run(["pause", "billing", "--dry-run", ...at])), "")
      assert.isFalse(json(yield* run(["processors", "billing", "--json", ...at])).paused)
      assert.strictEqual(good(yield* run(["pause", "billing", ...at])), "processor billing is paused\n")
      assert.isTrue(json(yield* run(["processors", "billing", "--json", ...at])).paused)
      const seek = (...args: ReadonlyArray<string>) => run(["seek", "billing", ...args, ...at])
      refused(yield* seek("earliest"), 2, "nobody can be asked here", "--yes")
      refused(yield* seek("sometime", "--yes"), 2, '"sometime" is no position')
      const dry = yield* seek("earliest", "--dry-run")
      assert.strictEqual(good(dry), "")
      assert.include(dry.err, "would move all 4 partitions of processor billing to earliest")
      assert.strictEqual(json(yield* run(["lag", "billing", "--json", ...at])).events, 0)
      const moved = json(yield* seek("earliest", "--reset-tables", "--yes", "--json"))
      assert.deepStrictEqual(moved, { processor: "billing", partitions: 4, position: "earliest", resetTables: true })
      assert.strictEqual(json(yield* run(["lag", "billing", "--json", ...at])).events, 2)
      const silent = yield* seek("earliest", "--yes")
      assert.notInclude(silent.err, "moved")
      const shown = yield* run(["seek", "billing", "earliest", "--yes", ...at], { isTerminal: true })
      assert.include(shown.err, `\rmoved 4  [${"#".repeat(24)}] 100 %`)
      refused(yield* run(["tables", "get", "totals", "ada", ...at]), 2)
      assert.deepStrictEqual(json(yield* run(["resume", "billing", "--json", ...at])), {
        processor: "billing",
        paused: false
      })
      yield* drained(place, app.parts)
      assert.strictEqual(good(yield* run(["tables", "get", "totals", "ada", ...at])), "10\n")
    })
  )
})

describe("what is gone for good", () => {
  onBoth("processors are removed, with their tables", (place) =>
    Effect.gen(function* () {
      const { at } = place
      yield* stocked(place, order(1, "ada"))
      const remove = (...args: ReadonlyArray<string>) => run(["processors", "remove", "billing", ...args, ...at])
      refused(yield* remove(), 2, "nobody can be asked here", "--yes")
      const dry = yield* remove("--dry-run")
      assert.strictEqual(good(dry), "")
      assert.include(dry.err, "would forget processor billing")
      assert.strictEqual(json(yield* run(["processors", "billing", "--json", ...at])).name, "billing")
      assert.deepStrictEqual(json(yield* remove("--yes", "--json")), { processor: "billing", removed: true })
      refused(yield* remove("--yes"), 2, "billing")
      refused(yield* run(["processors", "billing", ...at]), 2, "billing")
      refused(yield* run(["tables", "get", "totals", "ada", ...at]), 2, "totals")
      const [left] = json(yield* run(["topics", "--json", ...at])).filter(({ name }: Admin.Topic) => name === "orders")
      assert.deepStrictEqual(left.processors, [])
    })
  )

  onBoth("a processor that runs is not removed", (place) =>
    Effect.gen(function* () {
      yield* Effect.forkScoped(Effect.provide(Worker.run(app.parts), place.layer))
      const owned = run(["processors", "billing", "--json", ...place.at])
      while (!(yield* owned).out.includes('"member"')) yield* Effect.sleep("50 millis")
      refused(yield* run(["processors", "remove", "billing", "--yes", ...place.at]), 2, "billing is running")
    })
  )

  onBoth("queues are declared and removed", (place) =>
    Effect.gen(function* () {
      const { at } = place
      const declare = (...args: ReadonlyArray<string>) => run(["queues", "declare", "post", ...args, ...at])
      const limited = [
        "--limit",
        "1",
        "--per",
        "1 hour",
        "--keep-done",
        "0",
        "--keep-dead",
        "3",
        "--keep-dead-for",
        "7 days"
      ]
      refused(yield* declare(...limited), 2, "nobody can be asked here", "--yes")
      assert.include((yield* declare(...limited, "--dry-run")).err, "at most 1 jobs in 1h")
      assert.deepStrictEqual(json(yield* run(["queues", "list", "--json", ...at])), [])
      assert.deepStrictEqual(json(yield* declare(...limited, "--yes", "--json")), {
        queue: "post",
        limit: { count: 1, millis: 3_600_000 },
        keepDone: 0,
        keepDead: { count: 3, millis: 604_800_000 }
      })
      // It holds: of two jobs one is given out.
      yield* Job.enqueueAll(mail, [{ to: "ada" }, { to: "bob" }]).pipe(Effect.provide(place.layer))
      yield* Effect.forkScoped(Effect.provide(Worker.run(app.parts), place.layer))
      const counts = Effect.map(run(["queues", "list", "--json", ...at]), (outcome) => json(outcome)[0].counts)
      while ((yield* counts).ready === 2) yield* Effect.sleep("50 millis")
      assert.deepInclude(yield* counts, { ready: 1, dead: 0 })
      refused(yield* declare("--limit", "0", "--yes"), 2, "--limit")
      refused(yield* declare("--limit", "5", "--per", "often", "--yes"), 2, "--per", "often")
      refused(yield* run(["queues", "declare", "no name", "--yes", ...at]), 2, "no name")
      assert.include(
        good(yield* declare("--yes")),
        "queue post: no limit; finished jobs kept: the default; dead jobs kept: for ever"
      )
      while ((yield* counts).ready > 0) yield* Effect.sleep("50 millis")

      const remove = (...args: ReadonlyArray<string>) => run(["queues", "remove", "post", ...args, ...at])
      refused(yield* remove(), 2, "--yes")
      assert.include((yield* remove("--dry-run")).err, "would forget queue post")
      assert.deepStrictEqual(json(yield* remove("--yes", "--json")), { queue: "post", removed: true })
      assert.deepStrictEqual(json(yield* run(["queues", "list", "--json", ...at])), [])
      refused(yield* remove("--yes"), 2, "post")
    })
  )
})

describe("what failed", () => {
  onBoth("is listed, released and skipped where it is quarantined", (place) =>
    Effect.gen(function* () {
      const { at } = place
      yield* stocked(place, order(1, "ada"), order(2, "ada", 666), order(3, "ada"))
      const [one] = yield* equals(place, ["quarantine", "list"], Admin.quarantined())
      assert.deepInclude(one, { processor: "billing", reason: "failure" })
      assert.include(good(yield* run(["quarantine", "list", "billing", ...at])), "Broken")
      const partition = String(one.partition)
      const release = ["quarantine", "release", "billing", partition]
      assert.include((yield* run([...release, "--dry-run", ...at])).err, "would put partition")
      assert.isTrue(json(yield* run([...release, "--json", ...at])).released)
      assert.deepStrictEqual(json(yield* run(["quarantine", "list", "--json", ...at])), [])
      // It meets the same event, and is put aside again.
      yield* drained(place, app.parts)
      const skip = ["quarantine", "skip", "billing", partition]
      refused(yield* run([...skip, ...at]), 2, "--yes")
      assert.include(good(yield* run([...skip, "--yes", ...at])), "behind what failed")
      yield* drained(place, app.parts)
      assert.strictEqual(good(yield* run(["tables", "get", "totals", "ada", ...at])), "10\n")
    })
  )

  onBoth("is listed, tried and dropped where its key waits aside", (place) =>
    Effect.gen(function* () {
      const { at } = place
      yield* stocked(place, order(1, "ada", 555), order(2, "ada"), order(3, "ada"))
      const list = () => run(["parked", "list", "billing", "--json", ...at])
      const [one] = json(yield* list())
      assert.deepInclude(one, { key: "ada", count: 3 })
      assert.match(good(yield* run(["parked", "list", "billing", ...at])), /\n *\d +ada +3 +1 /)
      const lane = ["billing", String(one.partition), "--key", "ada"]
      assert.isTrue(json(yield* run(["parked", "release", ...lane, "--json", ...at])).released)
      assert.include((yield* run(["parked", "skip", ...lane, "--dry-run", ...at])).err, "would drop the first event")
      refused(yield* run(["parked", "skip", ...lane, ...at]), 2, "--yes")
      good(yield* run(["parked", "skip", ...lane, "--yes", ...at]))
      assert.strictEqual(json(yield* list())[0].count, 2)
      assert.isTrue(json(yield* run(["parked", "skip", ...lane, "--all", "--yes", "--json", ...at])).all)
      assert.deepStrictEqual(json(yield* list()), [])
    })
  )

  onBoth("is listed, shown and put back where it was given up", (place) =>
    Effect.gen(function* () {
      const { at } = place
      yield* stocked(place, order(1, "ada", -1), order(2, "bob", -2), order(3, "cyd", -3))
      yield* equals(place, ["dead", "topics"], Admin.deadTopics)
      const letters = json(yield* run(["dead", "list", "orders.dead", "--json", ...at]))
      assert.lengthOf(letters, 3)
      assert.include(good(yield* run(["dead", "list", "orders.dead", ...at])), "Declined")
      const letter = `${letters[0].partition}@${letters[0].offset}`
      const shown = json(yield* run(["dead", "show", "orders.dead", letter, "--json", ...at]))
      assert.deepInclude(shown.source, { topic: "orders" })
      assert.include(good(yield* run(["dead", "show", "orders.dead", letter, ...at])), "given up")
      const redrive = ["dead", "redrive", "orders.dead"]
      refused(yield* run([...redrive, ...at]), 2, "put 3 dead letters", "--yes")
      refused(yield* run([...redrive, "--letter", "first", "--yes", ...at]), 2, '"first" is no letter')
      assert.include((yield* run([...redrive, "--dry-run", ...at])).err, "would put 3 dead letters")
      assert.strictEqual(json(yield* run([...redrive, "--letter", letter, "--yes", "--json", ...at])).redriven, 1)
      assert.strictEqual(good(yield* run([...redrive, "--yes", ...at])), "2 dead letters of orders.dead are put back\n")
      assert.deepStrictEqual(json(yield* run(["dead", "list", "orders.dead", "--json", ...at])), [])
    })
  )
})

describe("jobs and queues", () => {
  onBoth("are listed, shown, retried, cancelled, paused, flushed", (place) =>
    Effect.gen(function* () {
      const { at } = place
      yield* Job.enqueue(mail, { to: "nobody" }, { id: "bad" }).pipe(Effect.provide(place.layer))
      yield* drained(place, app.parts)
      for (const id of ["a", "b", "c"]) {
        yield* Job.enqueue(mail, { to: id }, { id }).pipe(Effect.provide(place.layer))
      }
      yield* equals(place, ["queues", "list"], Admin.queues)
      assert.match(good(yield* run(["queues", "list", ...at])), /\npost +on +3 +0 +0 +0 +1 +0\n/)
      const ready = json(yield* run(["jobs", "list", "post", "--json", ...at]))
      assert.sameMembers(
        ready.map((one: Admin.Job) => one.id),
        ["a", "b", "c"]
      )
      assert.include(good(yield* run(["jobs", "list", "post", "--state", "dead", ...at])), "no address")
      refused(yield* run(["jobs", "list", "post", "--state", "lost", ...at]), 2, "lost")
      yield* equals(place, ["jobs", "show", "post", "bad"], Admin.job("post", "bad"))
      assert.include(good(yield* run(["jobs", "show", "post", "a", ...at])), '{"to":"a"}')
      assert.isTrue(json(yield* run(["jobs", "retry", "post", "bad", "--json", ...at])).ready)
      refused(yield* run(["jobs", "cancel", "post", "a", ...at]), 2, "--yes")
      assert.isTrue(json(yield* run(["jobs", "cancel", "post", "a", "--yes", "--json", ...at])).cancelled)
      assert.isTrue(json(yield* run(["queues", "pause", "post", "--json", ...at])).paused)
      assert.include(good(yield* run(["queues", "list", ...at])), "paused")
      good(yield* run(["queues", "resume", "post", ...at]))
      assert.include((yield* run(["queues", "flush", "post", "--dry-run", ...at])).err, "would forget all jobs")
      assert.strictEqual(json(yield* run(["queues", "flush", "post", "--yes", "--json", ...at])).flushed, 3)
      assert.strictEqual(json(yield* run(["queues", "redrive", "post", "--yes", "--json", ...at])).redriven, 0)
    })
  )
})

describe("jobs that recur", () => {
  onBoth("are listed, paused, resumed, removed", (place) =>
    Effect.gen(function* () {
      const { at } = place
      yield* Job.every(mail, "digest", { every: "1 hour", payload: { to: "all" } }).pipe(Effect.provide(place.layer))
      yield* equals(place, ["recurring", "list"], Admin.jobSchedules)
      assert.match(good(yield* run(["recurring", "list", ...at])), /\npost +digest +mail +every 3600 s +on /)
      const unknown = yield* run(["recurring", "pause", "post", "nobody", ...at])
      refused(unknown, 2, "digest")
      assert.include(
        (yield* run(["recurring", "pause", "post", "digest", "--dry-run", ...at])).err,
        "would pause digest"
      )
      assert.isTrue(json(yield* run(["recurring", "pause", "post", "digest", "--json", ...at])).paused)
      assert.include(good(yield* run(["recurring", "list", ...at])), "paused")
      good(yield* run(["recurring", "resume", "post", "digest", ...at]))
      refused(yield* run(["recurring", "remove", "post", "digest", ...at]), 2, "--yes")
      assert.isTrue(json(yield* run(["recurring", "remove", "post", "digest", "--yes", "--json", ...at])).removed)
      assert.deepStrictEqual(json(yield* run(["recurring", "list", "--json", ...at])), [])
    })
  )
})

describe("agents", () => {
  onBoth("are listed, and sent what nobody waits for", ({ at }) =>
    Effect.gen(function* () {
      const [shout] = json(yield* run(["agents", "list", shop, "--json"]))
      assert.deepInclude(shout, { name: "shout", topic: "shout", partitions: 2, replies: true, handled: true })
      assert.strictEqual(
        good(yield* run(["agents", "cast", shop, "shout", '{"text":"a"}', ...at])),
        "sent to agent shout\n"
      )
      assert.lengthOf(jsonLines(yield* run(["tail", shop, "shout", "--from", "earliest", "--end", "--json", ...at])), 1)
      const silent = yield* run(["agents", "ask", shop, "shout", '{"text":"a"}', "--timeout", "0.2", ...at])
      refused(silent, 1, 'agent "shout" gave no reply')
      refused(yield* run(["agents", "ask", shop, "shot", "{}", ...at]), 2, "there are shout")
      refused(yield* run(["agents", "ask", shop, "shout", "{}", ...at]), 2, "text")
    })
  )
})
