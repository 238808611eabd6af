/**
 * Jobs that recur in simulated trouble: their slots are fired by whichever worker comes first, while workers crash, hang, lose
 * answers and leave; and broken on purpose, which must be found. `SEEDS` as in `simulation.test.ts`; `SEED` runs one of them
 * again.
 */
import { assert, it } from "@effect/vitest"
import { Effect, Schedule, Schema } from "effect"
import { vi } from "vitest"
import { type Engine, Job, Queue } from "../src/index.ts"
import { JobSimulation } from "../src/testing/index.ts"
import { numbers } from "./support/engines.ts"

const { broken } = vi.hoisted(() => ({ broken: { worker: "" as "" | "id" | "next" | "run", store: false } }))

// What workers do about a slot that is due, and what the store does; as they are unless a test breaks them.
vi.mock(import("../src/internal/jobs/recurrence.ts"), async (original) => {
  const actual = await original()
  let count = 0
  return {
    ...actual,
    firingOf: (one, now) => {
      const firing = actual.firingOf(one, now)
      const { next, run } = firing
      if (broken.worker === "next") return { ...firing, next: actual.slotAfter(actual.read(one.timing), next) }
      if (broken.worker === "run" && ++count % 5 === 0) return { ...firing, run: undefined }
      if (broken.worker !== "id" || run === undefined) return firing
      return { ...firing, run: { ...run, job: { ...run.job, id: `${run.job.id}-${++count}` } } }
    }
  }
})
vi.mock(import("../src/embedded/jobSlots.ts"), async (original) => {
  const actual = await original()
  return {
    ...actual,
    fire: (books, firings) => {
      // As if nobody looked whether that slot is the next one.
      const set = books.db.prepare("UPDATE job_recurrences SET slot = ? WHERE queue = ? AND name = ?")
      if (broken.store) for (const { name, slot } of firings) set.run(slot, books.queue, name)
      actual.fire(books, firings)
    }
  }
})

const beat = Job.make("beat", { payload: Schema.String })
const tell = Job.make("tell", { payload: Schema.Void, queue: "elsewhere", retries: 1, backoff: () => "100 millis" })
const other = Job.make("other", { payload: Schema.Int })

const parts = [
  Job.handler(beat, () => Effect.sleep(30)),
  Job.handler(tell, (_, { attempt }) => (attempt === 1 ? Effect.die(new Error("once")) : Effect.void)),
  Job.handler(other, () => Effect.void)
]

// A server that is full, or away, takes nothing for a while.
const sure = <A, E extends { readonly _tag: string }, R>(effect: Effect.Effect<A, E, R>) =>
  Effect.retry(effect, { schedule: Schedule.spaced("200 millis"), while: ({ _tag }) => _tag === "EngineError" })
const setting = [
  Job.every(beat, "pulse", { every: "1 second", payload: "pulse" }),
  Job.every(beat, "slow", { every: "2 seconds", payload: "slow", missed: "last" }),
  Job.cron(tell, "told", { expression: "*/3 * * * * *", payload: undefined, missed: "last" })
]
const enqueue = [
  ...setting,
  ...numbers(6).map((n) => Job.enqueue(other, n, { id: `other-${n}` })),
  // Set again by another process, paused for a while, and removed.
  ...setting,
  Queue.pauseSchedule("default", "slow"),
  ...numbers(6).map((n) => Job.enqueue(other, 6 + n)),
  Queue.resumeSchedule("default", "slow"),
  Queue.removeSchedule("elsewhere", "told"),
  Job.every(beat, "pulse", { every: "1500 millis", payload: "pulse" })
].map((effect) => sure<unknown, { readonly _tag: string }, Engine.Services>(effect))

const only = process.env["SEED"] === undefined ? undefined : Number(process.env["SEED"])
const count = Math.max(1, Math.round(Number(process.env["SEEDS"] ?? 2_000) / 33))
const told = ({ seed, steps, violations }: JobSimulation.Report): string =>
  [
    `SEED=${seed} npx vitest run test/simulation.recurring.test.ts`,
    ...steps,
    ...violations.map((text) => `!! ${text}`)
  ].join("\n")

it.live(
  "whatever goes wrong, every slot is enqueued once or passed over by its policy, none twice, none lost",
  () =>
    Effect.gen(function* () {
      let [fired, missed] = [0, 0]
      for (const seed of only === undefined ? numbers(count) : [only]) {
        const report = yield* JobSimulation.run(seed, { parts, enqueue })
        assert.isEmpty(report.violations, told(report))
        fired += report.slots.fired
        missed += report.slots.missed
        if (only !== undefined) yield* Effect.log(told(report))
      }
      // There was trouble: some slots had nobody who came for them in time.
      if (only === undefined && count > 20) {
        assert.isAbove(fired, 3 * count)
        assert.isAbove(missed, count / 10)
      }
    }),
  10_000 + count * 2_000
)

const found = (how: Partial<typeof broken>) =>
  Effect.gen(function* () {
    Object.assign(broken, how)
    for (let seed = 0; seed < 40; seed++) {
      const { violations } = yield* JobSimulation.run(seed, { parts, enqueue: setting.map(sure) })
      if (violations.length > 0) return violations.join("\n")
    }
    return "nothing"
  }).pipe(Effect.ensuring(Effect.sync(() => Object.assign(broken, { worker: "", store: false }))))

it.live(
  "a slot whose job has not the slot's id, in a store that does not look which is the next, is found out",
  () =>
    Effect.map(found({ worker: "id", store: true }), (text) =>
      assert.match(text, /has enqueued slot \d+ twice|goes on from slot/)
    ),
  60_000
)

it.live(
  "a worker that passes a slot over is found out",
  () => Effect.map(found({ worker: "next" }), (text) => assert.match(text, /is done with slot \d+ before its time/)),
  60_000
)

it.live(
  "a worker that enqueues nothing for a slot that is not late is found out",
  () => Effect.map(found({ worker: "run" }), (text) => assert.match(text, /has lost slot \d+/)),
  60_000
)
