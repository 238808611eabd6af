/** Trying again in place: attempts, fresh staged writes, who waits meanwhile and who does not. */
import { assert, describe } from "@effect/vitest"
import { Cause, Clock, Deferred, Duration, Effect, Schedule, Schema, type Stream } from "effect"
import * as Event from "../src/Event.ts"
import * as Policy from "../src/Policy.ts"
import * as Processor from "../src/Processor.ts"
import * as Retention from "../src/Retention.ts"
import * as Table from "../src/Table.ts"
import * as Topic from "../src/Topic.ts"
import { behaviour, counts, drain, halted, numbers, start, until } from "./support/engines.ts"
import { assertRising, collect, type Reading, reading, readings, Seen } from "./support/readings.ts"

class Busy extends Schema.TaggedError<Busy>()("Busy", { n: Schema.Int }) {}
class Wrong extends Schema.TaggedError<Wrong>()("Wrong", { n: Schema.Int }) {}

const totals = Table.make("totals", { key: Schema.String, value: Schema.Finite, initial: () => 0 })

/** Fails the first so many tries of one reading, and notes every try. */
const flaky = (n: number, failures: number) => {
  const tries: Array<readonly [n: number, attempt: number]> = []
  let left = failures
  const handle = (value: Reading, event: Event.Event<Reading>) =>
    Effect.suspend(() => {
      tries.push([value.n, event.attempt])
      return value.n === n && left-- > 0 ? Effect.fail(new Busy({ n })) : Effect.void
    })
  return { tries, handle }
}

const publish = (topic: ReturnType<typeof readings>, count: number, keys?: number) =>
  Topic.publishAll(
    topic,
    numbers(count).map((n) => reading(n, keys))
  )

describe("in place", () => {
  behaviour("attempts 1, 2, 3, later events after it, effects once", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      const target = Topic.variant(topic, "target")
      yield* publish(topic, 5, 1)
      const { handle, tries } = flaky(2, 2)
      const summary = yield* drain([
        Processor.make(
          "p",
          { topic, tables: [totals] },
          Effect.fnUntraced(function* (value, event) {
            yield* Table.update(totals, value.key, (total) => total + 1)
            yield* Topic.emit(target, value)
            yield* handle(value, event)
          })
        ).pipe(Processor.retry({ times: 2 }))
      ])
      assert.deepStrictEqual(tries, [
        [0, 1],
        [1, 1],
        [2, 1],
        [2, 2],
        [2, 3],
        [3, 1],
        [4, 1]
      ])
      assert.deepStrictEqual(yield* collect(target), numbers(5))
      assert.strictEqual(yield* Table.lookup(totals, "k0"), 5)
      assert.deepStrictEqual(summary.parts.p, counts({ processed: 5, failed: 2, retried: 2 }))
    })
  )

  for (const shape of ["perKey", "batch", "stream", "middleware", "before", "around"] as const) {
    behaviour(`the same in ${shape}`, () =>
      Effect.gen(function* () {
        const topic = readings(1)
        const target = Topic.variant(topic, "target")
        yield* publish(topic, 5, 1)
        const { handle, tries } = flaky(2, 2)
        const one = (value: Reading, event: Event.Event<Reading>) =>
          Effect.andThen(
            Table.update(totals, value.key, (total) => total + 1),
            Effect.andThen(Topic.emit(target, value), handle(value, event))
          )
        const tables = [totals] as const
        const shapes = {
          perKey: Processor.make("p", { topic, tables, concurrency: { perKey: 3 } }, one),
          batch: Processor.batch("p", { topic, tables, size: 5, within: "1 hour" }, (values, events) =>
            Effect.forEach(values, (value, i) => one(value, events[i]!))
          ),
          stream: Processor.stream("p", { topic, tables }, Event.mapEffect(one)),
          middleware: Processor.make("p", { topic, tables }, one).pipe(Processor.middleware((events) => events)),
          before: Processor.make("p", { topic, tables, acknowledge: "before" }, one),
          around: Processor.make("p", { topic, tables }, one)
        }
        const seen: Array<string> = []
        const retried = shapes[shape].pipe(Processor.retry({ times: 2 }))
        const part =
          shape === "around"
            ? retried.pipe(
                Processor.around((handle) => Effect.onExit(handle, (exit) => Effect.sync(() => seen.push(exit._tag))))
              )
            : retried
        yield* drain([part])
        const again = (n: number) => tries.filter((one) => one[0] === n).map(([, attempt]) => attempt)
        assert.deepStrictEqual(again(2), [1, 2, 3])
        // A batch is tried again as a whole, up to where it fails.
        assert.deepStrictEqual(again(1), shape === "batch" ? [1, 2, 3] : [1])
        assert.deepStrictEqual(again(4), [shape === "batch" ? 3 : 1])
        assert.deepStrictEqual(yield* collect(target), numbers(5))
        assert.strictEqual(yield* Table.lookup(totals, "k0"), 5)
        // What stands around a retry sees what is left of it.
        assert.deepStrictEqual(seen, shape === "around" ? Array.from({ length: 5 }, () => "Success") : [])
      })
    )
  }

  behaviour("it runs out: by count, by schedule, by predicate; then the next policy, or a halt", () =>
    Effect.gen(function* () {
      const topic = readings(1, Retention.forever)
      yield* publish(topic, 2)
      const run = Effect.fnUntraced(function* (name: string, options: Processor.RetryOptions<Busy, never>) {
        const { handle, tries } = flaky(1, 100)
        const part = Processor.make(name, { topic }, handle).pipe(
          Processor.catchTag("DecodeError", Policy.ignore),
          Processor.retry(options),
          Processor.catchTag("Busy", Policy.ignore)
        )
        const summary = yield* drain([part])
        assert.strictEqual(summary.parts[name]!.ignored, 1)
        assert.strictEqual(summary.parts[name]!.retried, tries.length - 2)
        return tries.length - 1
      })
      assert.strictEqual(yield* run("count", { times: 3 }), 4)
      assert.strictEqual(yield* run("none", { times: 0 }), 1)
      assert.strictEqual(yield* run("schedule", { schedule: Schedule.recurs(2) }), 3)
      assert.strictEqual(yield* run("both", { schedule: Schedule.recurs(5), times: 1 }), 2)
      assert.strictEqual(yield* run("predicate", { times: 3, while: (error) => error.n !== 1 }), 1)
      const failure = yield* halted([
        Processor.make("halts", { topic }, flaky(1, 100).handle).pipe(Processor.retry({ times: 2 }))
      ])
      assert.deepStrictEqual(Cause.squash(failure.cause), new Busy({ n: 1 }))
    })
  )

  behaviour("policies nest: what is settled inside is not tried again, an outer retry starts an inner one afresh", () =>
    Effect.gen(function* () {
      const topic = readings(1, Retention.forever)
      yield* publish(topic, 3)
      const tries: Array<readonly [number, number]> = []
      const handler = ({ n }: Reading, event: Event.Event<Reading>) => {
        tries.push([n, event.attempt])
        if (n === 0) return Effect.void
        return Effect.fail<Wrong | Busy>(n === 1 ? new Wrong({ n }) : new Busy({ n }))
      }
      const summary = yield* drain([
        Processor.make("p", { topic }, handler).pipe(
          Processor.catchTag("Wrong", Policy.ignore),
          Processor.retry({ times: 1 }),
          Processor.retry({ times: 2 }),
          Processor.catchTag("Busy", Policy.ignore)
        )
      ])
      assert.deepStrictEqual(
        tries.map(([n]) => n),
        [0, 1, 2, 2, 2, 2, 2, 2]
      )
      assert.deepStrictEqual(
        tries.slice(2).map(([, attempt]) => attempt),
        [1, 2, 3, 4, 5, 6]
      )
      assert.deepStrictEqual(summary.parts.p, counts({ processed: 1, failed: 7, retried: 5, ignored: 2 }))
    })
  )

  behaviour("defects are not tried again, and an undecodable entry neither", () =>
    Effect.gen(function* () {
      const topic = readings(1, Retention.forever)
      yield* publish(topic, 1)
      let runs = 0
      const failure = yield* halted([
        Processor.make("p", { topic }, () => {
          runs++
          return Effect.die("boom")
        }).pipe(Processor.retry({ times: 5 }))
      ])
      assert.strictEqual(Cause.squash(failure.cause), "boom")
      assert.strictEqual(runs, 1)
    })
  )

  behaviour("what a try opened is closed before the next, and a middleware's own stays open", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* publish(topic, 2)
      const trace: Array<string> = []
      const scoped = (name: string) =>
        Effect.acquireRelease(
          Effect.sync(() => void trace.push(`open ${name}`)),
          () => Effect.sync(() => void trace.push(`close ${name}`))
        )
      let failures = 1
      const part = Processor.make("p", { topic }, ({ n }) =>
        Effect.andThen(
          scoped(`${n}`),
          Effect.suspend(() => (n === 0 && failures-- > 0 ? Effect.fail(new Busy({ n })) : Effect.void))
        )
      ).pipe(Processor.retry({ times: 1 }))
      yield* drain([part.pipe(Processor.around((handle) => Effect.andThen(scoped("around"), handle)))])
      assert.deepStrictEqual(trace, [
        "open around",
        "open 0",
        "close 0",
        "open 0",
        "close 0",
        "close around",
        "open around",
        "open 1",
        "close 1",
        "close around"
      ])
    })
  )

  behaviour("what a middleware staged before the handler stays when the handler's part is undone", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      const target = Topic.variant(topic, "target")
      yield* publish(topic, 2, 1)
      let failures = 2
      const part = Processor.make("p", { topic, tables: [totals] }, (value) =>
        Effect.gen(function* () {
          yield* Table.update(totals, value.key, (total) => total + 10)
          yield* Topic.emit(target, { ...value, n: value.n + 100 })
          if (value.n === 0 && failures-- > 0) return yield* new Busy({ n: 0 })
        })
      ).pipe(
        Processor.retry({ times: 1 }),
        Processor.catchTag("Busy", Policy.ignore),
        Processor.around((handle, [event]) => Effect.andThen(Topic.emit(target, event.value as Reading), handle))
      )
      yield* drain([part])
      // 0 fails twice and is ignored: what stands around it is not.
      assert.deepStrictEqual(yield* collect(target), [0, 1, 101])
      assert.strictEqual(yield* Table.lookup(totals, "k0"), 10)
    })
  )
})

describe("who waits", () => {
  const hour = Duration.toMillis("1 hour")

  behaviour("the partition waits on the schedule, the others go on", (engine) =>
    Effect.gen(function* () {
      const topic = readings(2)
      const positions = yield* publish(topic, 40)
      const { handle, tries } = flaky(3, 2)
      const times: Array<number> = []
      const timed = (value: Reading, event: Event.Event<Reading>) =>
        Effect.flatMap(Clock.currentTimeMillis, (now) => {
          if (value.n === 3) times.push(now)
          return handle(value, event)
        })
      const worker = yield* start([
        Processor.make("p", { topic }, timed).pipe(
          Processor.retry({ schedule: Schedule.spaced("200 millis"), times: 2 })
        )
      ])
      const slow = positions[3]!.partition
      const of = (partition: number) => numbers(40).filter((n) => positions[n]!.partition === partition)
      const seen = () => tries.map(([n]) => n)
      yield* until(engine, "the other partition is done", () => of(1 - slow).every((n) => seen().includes(n)))
      if (engine.virtual) {
        // Three is the last one that its own partition has seen.
        assert.deepStrictEqual(
          seen().filter((n) => of(slow).includes(n)),
          of(slow).filter((n) => n <= 3)
        )
      }
      const idle = yield* Effect.forkChild(worker.idle)
      yield* until(engine, "all is done", () => idle.pollUnsafe() !== undefined)
      assert.deepStrictEqual(
        seen().filter((n) => of(slow).includes(n)),
        of(slow).flatMap((n) => (n === 3 ? [3, 3, 3] : [n]))
      )
      for (const wait of [times[1]! - times[0]!, times[2]! - times[1]!]) {
        // Timers of a real clock may be a moment early.
        assert.isAtLeast(wait, engine.virtual ? 200 : 195)
        if (engine.virtual) assert.strictEqual(wait, 200)
      }
    })
  )

  behaviour("with perKey only the key waits: other keys of its partition go on, its own stay in order", (engine) =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* publish(topic, 60, 6)
      const seen = new Seen()
      let failures = 2
      const worker = yield* start([
        Processor.make("p", { topic, concurrency: { perKey: 3 } }, ({ key, n }) =>
          Effect.suspend(() => {
            if (n === 8 && failures-- > 0) return Effect.fail(new Busy({ n }))
            seen.add(key, n)
            return Effect.void
          })
        ).pipe(Processor.retry({ schedule: Schedule.spaced("300 millis") }))
      ])
      yield* until(engine, "the other keys are done", () => seen.all.length >= 51)
      if (engine.virtual) assert.deepStrictEqual(seen.lists.get("k2"), [2])
      const idle = yield* Effect.forkChild(worker.idle)
      yield* until(engine, "all is done", () => idle.pollUnsafe() !== undefined)
      assert.deepStrictEqual(seen.all, numbers(60))
      assertRising(seen.lists.values())
    })
  )

  behaviour("a partition that waits is given away at once, and the next owner begins with that event", (engine) =>
    Effect.gen(function* () {
      const topic = readings(1, Retention.forever)
      yield* publish(topic, 3)
      for (const shape of ["make", "perKey", "stream", "around"] as const) {
        const failing = yield* Deferred.make<void>()
        const seen: Array<number> = []
        let fails = true
        const handle = ({ n }: Reading) => {
          seen.push(n)
          return n === 1 && fails
            ? Effect.andThen(Deferred.succeed(failing, undefined), Effect.fail(new Busy({ n })))
            : Effect.void
        }
        const retried = { schedule: Schedule.spaced(hour) }
        const name = `p-${shape}`
        const shapes = {
          make: Processor.make(name, { topic }, handle).pipe(Processor.retry(retried)),
          perKey: Processor.make(name, { topic, concurrency: { perKey: 2 } }, handle).pipe(Processor.retry(retried)),
          stream: Processor.stream(name, { topic }, Event.mapEffect(handle)).pipe(Processor.retry(retried)),
          around: Processor.make(name, { topic }, handle).pipe(
            Processor.retry(retried),
            Processor.around((handle) => handle)
          )
        }
        // With the whole grace ahead of it: nobody is to wait for that.
        const worker = yield* start([shapes[shape]], { grace: "1 hour" })
        yield* Deferred.await(failing)
        if (shape === "perKey") yield* until(engine, "the other key is done", () => seen.includes(2))
        yield* worker.close
        fails = false
        const before = seen.length
        assert.deepStrictEqual(seen, shape === "perKey" ? [0, 1, 2] : [0, 1])
        yield* drain([shapes[shape]])
        assert.deepStrictEqual(seen.slice(before), [1, 2])
      }
    })
  )

  behaviour(
    "a pause holds the next try",
    (engine) =>
      Effect.gen(function* () {
        const topic = readings(1)
        yield* publish(topic, 1)
        const { handle, tries } = flaky(0, 3)
        const worker = yield* start([
          Processor.make("p", { topic }, handle).pipe(Processor.retry({ schedule: Schedule.spaced("1 second") }))
        ])
        yield* until(engine, "it failed", () => tries.length === 1)
        yield* Processor.pause("p")
        yield* engine.elapse(20_000)
        assert.strictEqual(tries.length, 1)
        yield* Processor.resume("p")
        const idle = yield* Effect.forkChild(worker.idle)
        yield* until(engine, "it went on", () => idle.pollUnsafe() !== undefined)
        assert.deepStrictEqual(
          tries.map(([, attempt]) => attempt),
          [1, 2, 3, 4]
        )
      }),
    { on: ["memory"] }
  )
})

describe("refused", () => {
  behaviour(
    "a retry that would never pause and never end, or with a wrong count",
    () =>
      Effect.sync(() => {
        const part = Processor.make("p", { topic: readings(1) }, () => Effect.void)
        assert.throws(() => Processor.retry(part, {}), /try for ever/)
        assert.throws(() => Processor.retry(part, { while: () => true }), /"schedule" or "times"/)
        assert.throws(() => Processor.retry(part, { times: 1.5 }), /times must be a whole number/)
        assert.throws(() => Processor.retry(part, { times: -1 }), /times must be a whole number/)
      }),
    { on: ["memory"] }
  )

  behaviour("a pipeline's units count their attempts each for itself", () =>
    Effect.gen(function* () {
      const topic = readings(1)
      yield* publish(topic, 3, 1)
      const attempts: Array<string> = []
      const unit = (name: string) => {
        let left = 1
        return Event.mapEffect((value: Reading, event: Event.Event<Reading>) =>
          Effect.suspend(() => {
            attempts.push(`${name}${value.n}:${event.attempt}`)
            return value.n === 1 && left-- > 0 ? Effect.fail(new Busy({ n: 1 })) : Effect.succeed(value)
          })
        )
      }
      const summary = yield* drain([
        Processor.stream("p", { topic }, (events: Stream.Stream<Event.Event<Reading>>) =>
          events.pipe(unit("a"), unit("b"))
        ).pipe(Processor.retry({ times: 1 }))
      ])
      assert.deepStrictEqual(
        attempts.filter((one) => one.includes("1:")),
        ["a1:1", "a1:2", "b1:1", "b1:2"]
      )
      assert.deepStrictEqual(summary.parts.p, counts({ processed: 3, failed: 2, retried: 2 }))
    })
  )
})
