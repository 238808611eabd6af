/** The API as `Admin` answers it: each endpoint is one function of it, and its failures are problems with a status. */
import { Effect, Layer } from "effect"
import { HttpApiBuilder, HttpApiMiddleware } from "effect/http-api"
import type { Failure, Services } from "../Admin.ts"
import * as Admin from "../Admin.ts"
import type { EventsLost } from "../Errors.ts"
import { CurrentHealth } from "../internal/run/health.ts"
import { Api, CheckedInput } from "./api.ts"
import * as Events from "./events.ts"
import { answer, BadRequest, long, type Problem } from "./problems.ts"

type Asked<A> = Effect.Effect<A, Failure | EventsLost, Services>

/** Answers with the engine that the routes were given. */
const withEngine = Effect.map(
  Effect.context<Services>(),
  (context) =>
    <A>(asked: Asked<A>, patience?: typeof long): Effect.Effect<A, Problem> =>
      answer(Effect.provideContext(asked, context), patience)
)

const counted = (asked: Asked<number>) => Effect.map(asked, (count) => ({ count }))

const overview = HttpApiBuilder.group(
  Api,
  "overview",
  Effect.fnUntraced(function* (handlers) {
    const tell = yield* withEngine
    const { stopping } = yield* CurrentHealth
    const listen = yield* Events.make(stopping)
    return handlers.handleAll({
      overview: () => tell(Admin.overview),
      events: () => listen,
      access: () => Effect.void
    })
  })
)

const topics = HttpApiBuilder.group(
  Api,
  "topics",
  Effect.fnUntraced(function* (handlers) {
    const tell = yield* withEngine
    return handlers.handleAll({
      topics: () => tell(Admin.topics),
      topic: ({ params }) => tell(Admin.topic(params.name))
    })
  })
)

const processors = HttpApiBuilder.group(
  Api,
  "processors",
  Effect.fnUntraced(function* (handlers) {
    const tell = yield* withEngine
    return handlers.handleAll({
      processors: () => tell(Admin.processors),
      processor: ({ params }) => tell(Admin.processor(params.name)),
      lags: () => tell(Admin.lags),
      lag: ({ params }) => tell(Admin.lag(params.name)),
      pause: ({ params }) => tell(Admin.pause(params.name)),
      resume: ({ params }) => tell(Admin.resume(params.name)),
      removeProcessor: ({ params }) => tell(Admin.removeProcessor(params.name), long),
      seek: ({ params, payload }) =>
        tell(Admin.seek(params.name, payload.to, { resetTables: payload.resetTables ?? false }), long)
    })
  })
)

const aside = HttpApiBuilder.group(
  Api,
  "aside",
  Effect.fnUntraced(function* (handlers) {
    const tell = yield* withEngine
    return handlers.handleAll({
      quarantined: ({ query }) => tell(Admin.quarantined(query.processor)),
      release: ({ params }) => tell(Admin.release(params.name, params.partition)),
      skip: ({ params }) => tell(Admin.skip(params.name, params.partition)),
      parked: ({ params, query }) => tell(Admin.parked(params.name, query)),
      releaseParked: ({ params, payload }) => tell(Admin.releaseParked(params.name, params.partition, payload)),
      skipParked: ({ params, payload: { all = false, ...lane } }) =>
        tell(Admin.skipParked(params.name, params.partition, lane, { all }))
    })
  })
)

const dead = HttpApiBuilder.group(
  Api,
  "dead",
  Effect.fnUntraced(function* (handlers) {
    const tell = yield* withEngine
    return handlers.handleAll({
      deadTopics: () => tell(Admin.deadTopics),
      deadLetters: ({ params, query }) => tell(Admin.deadLetters(params.topic, query)),
      deadLetter: ({ params }) => tell(Admin.deadLetter(params.topic, params.partition, params.offset)),
      redrive: ({ params, payload }) => tell(counted(Admin.redrive(params.topic, payload.letters)), long)
    })
  })
)

const tables = HttpApiBuilder.group(
  Api,
  "tables",
  Effect.fnUntraced(function* (handlers) {
    const tell = yield* withEngine
    return handlers.handleAll({
      tables: () => tell(Admin.tables),
      rows: ({ params, query }) => tell(Admin.rows(params.name, query)),
      row: ({ params, query }) => tell(Admin.row(params.name, params.key, query))
    })
  })
)

const queues = HttpApiBuilder.group(
  Api,
  "queues",
  Effect.fnUntraced(function* (handlers) {
    const tell = yield* withEngine
    return handlers.handleAll({
      queues: () => tell(Admin.queues),
      queue: ({ params }) => tell(Admin.queue(params.name)),
      pauseQueue: ({ params }) => tell(Admin.pauseQueue(params.name)),
      resumeQueue: ({ params }) => tell(Admin.resumeQueue(params.name)),
      flushQueue: ({ params }) => tell(counted(Admin.flushQueue(params.name)), long),
      redriveQueue: ({ params }) => tell(counted(Admin.redriveQueue(params.name)), long),
      removeQueue: ({ params }) => tell(Admin.removeQueue(params.name), long),
      declareQueue: ({ params, payload }) => tell(Admin.declareQueue(params.name, payload)),
      jobs: ({ params, query: { job, state, ...from } }) =>
        tell(Admin.jobs(params.name, state, { ...from, name: job })),
      job: ({ params }) => tell(Admin.job(params.name, params.id)),
      retryJob: ({ params }) => tell(Admin.retryJob(params.name, params.id)),
      cancelJob: ({ params }) => tell(Admin.cancelJob(params.name, params.id))
    })
  })
)

const jobSchedules = HttpApiBuilder.group(
  Api,
  "jobSchedules",
  Effect.fnUntraced(function* (handlers) {
    const tell = yield* withEngine
    return handlers.handleAll({
      jobSchedules: () => tell(Admin.jobSchedules),
      pauseSchedule: ({ params }) => tell(Admin.pauseSchedule(params.name, params.schedule)),
      resumeSchedule: ({ params }) => tell(Admin.resumeSchedule(params.name, params.schedule)),
      removeSchedule: ({ params }) => tell(Admin.removeSchedule(params.name, params.schedule))
    })
  })
)

const workers = HttpApiBuilder.group(
  Api,
  "workers",
  Effect.fnUntraced(function* (handlers) {
    const tell = yield* withEngine
    return handlers.handleAll({
      schedules: () => tell(Admin.schedules),
      workers: () => tell(Admin.workers)
    })
  })
)

/** What an issue says of the value may be as long as the value. */
const maxMessage = 1_000

const checked = HttpApiMiddleware.layerSchemaErrorTransform(CheckedInput, (error) =>
  error.kind === "Body" || error.kind === "ResponseHeaders"
    ? Effect.die(error)
    : Effect.fail(
        new BadRequest({ message: `${error.kind.toLowerCase()}: ${error.cause.message.slice(0, maxMessage)}` })
      )
)

export const handlers = Layer.mergeAll(
  overview,
  topics,
  processors,
  aside,
  dead,
  tables,
  queues,
  jobSchedules,
  workers
).pipe(Layer.provideMerge(checked))
