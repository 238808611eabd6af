/** Jobs that recur, by their queue and name. */
import { DateTime, Duration, Effect, Option } from "effect"
import { type EngineError, NotFound } from "../../Errors.ts"
import type { JobStore } from "../../JobStore.ts"
import * as Queue from "../../Queue.ts"
import { queue, queues } from "./jobs.ts"
import { concurrency } from "./known.ts"
import type { JobSchedule } from "./shapes/jobs.ts"

/** Slots to come that are told. */
const runs = 3

const describe = (schedule: Queue.Schedule): JobSchedule => ({
  queue: schedule.queue,
  name: schedule.name,
  job: schedule.job,
  every: Option.getOrNull(Option.map(schedule.every, Duration.toMillis)),
  expression: Option.getOrNull(schedule.expression),
  timezone: Option.getOrNull(schedule.timezone),
  missed: schedule.missed,
  paused: schedule.paused,
  last: Option.getOrNull(Option.map(schedule.last, DateTime.formatIso)),
  next: schedule.next.map(DateTime.formatIso)
})

/** Of all queues. */
export const jobSchedules: Effect.Effect<ReadonlyArray<JobSchedule>, EngineError, JobStore> = Effect.flatMap(
  queues,
  (all) =>
    Effect.map(
      Effect.forEach(all, ({ name }) => Queue.schedules(name, { runs }), { concurrency }),
      (each) => each.flat().map(describe)
    )
)

const notFound = (name: string, schedule: string) =>
  Effect.flatMap(Queue.schedules(name), (all) =>
    Effect.fail(new NotFound({ kind: `schedule of queue ${name}`, name: schedule, known: all.map((one) => one.name) }))
  )

export const jobSchedule = (
  name: string,
  schedule: string
): Effect.Effect<JobSchedule, EngineError | NotFound, JobStore> =>
  Effect.gen(function* () {
    yield* queue(name)
    const found = (yield* Queue.schedules(name, { runs })).find((one) => one.name === schedule)
    return found === undefined ? yield* notFound(name, schedule) : describe(found)
  })

const onSchedule = (
  name: string,
  schedule: string,
  f: (name: string, schedule: string) => Effect.Effect<boolean, EngineError, JobStore>
): Effect.Effect<void, EngineError | NotFound, JobStore> =>
  Effect.gen(function* () {
    yield* queue(name)
    if (!(yield* f(name, schedule))) return yield* notFound(name, schedule)
  })

export const pause = (name: string, schedule: string) => onSchedule(name, schedule, Queue.pauseSchedule)

export const resume = (name: string, schedule: string) => onSchedule(name, schedule, Queue.resumeSchedule)

export const remove = (name: string, schedule: string) => onSchedule(name, schedule, Queue.removeSchedule)
