/**
 * The API as a description: paths, what goes in and comes out. It is all that `Admin` has, under the same names; the
 * OpenAPI document and the routes are made from it.
 */
import { Schema } from "effect"
import { HttpApi, HttpApiEndpoint, HttpApiGroup, HttpApiMiddleware, HttpApiSchema, OpenApi } from "effect/http-api"
import * as Admin from "../Admin.ts"
import { BadRequest, NotThere, Refused, Unavailable } from "./problems.ts"

const { get, post } = HttpApiEndpoint

/** What does not fit its schema is a bad request, and says where. */
export class CheckedInput extends HttpApiMiddleware.Service<CheckedInput>()("millrace/web/CheckedInput", {
  error: BadRequest
}) {}

const Name = Schema.String.check(Schema.isMinLength(1), Schema.isMaxLength(512))
const Partition = Schema.NumberFromString.check(Schema.isInt(), Schema.isBetween({ minimum: 0, maximum: 65_535 }))
const cursor = { cursor: Schema.optionalKey(Schema.String.check(Schema.isMaxLength(4_096))) }
const error = [NotThere, Refused, Unavailable] as const
const name = { name: Name }
const partition = { name: Name, partition: Partition }
const job = { name: Name, id: Name }
const letter = { topic: Name, partition: Partition, offset: Name }
const Done = HttpApiSchema.NoContent

/** So many were changed. */
export const Count = Schema.Struct({ count: Schema.Int })

const Position = Schema.Union([
  Schema.Literals(["earliest", "latest"]),
  Schema.Struct({ offset: Schema.String }),
  Schema.Struct({ time: Schema.String })
])

const LetterPlace = Schema.Struct({ partition: Schema.Int, offset: Schema.String })

/** What the stream of looks says: the overview once a second, or why the engine did not answer. */
const Look = Schema.Union([
  Schema.Struct({ event: Schema.tag("overview"), data: Schema.fromJsonString(Admin.Overview) }),
  Schema.Struct({
    event: Schema.tag("problem"),
    data: Schema.fromJsonString(Schema.Struct({ message: Schema.String }))
  })
])

const Overview = HttpApiGroup.make("overview").add(
  get("overview", "/overview", { success: Admin.Overview, error }),
  get("events", "/events", { success: HttpApiSchema.StreamSse({ events: Look }), error: Unavailable }),
  /** Does nothing, for whoever may change things: so a page learns whether its token is right. */
  post("access", "/access", { success: Done })
)

const Topics = HttpApiGroup.make("topics").add(
  get("topics", "/topics", { success: Schema.Array(Admin.Topic), error }),
  get("topic", "/topics/:name", { params: name, success: Admin.TopicLogs, error })
)

const Processors = HttpApiGroup.make("processors").add(
  get("processors", "/processors", { success: Schema.Array(Admin.Processor), error }),
  get("processor", "/processors/:name", { params: name, success: Admin.Processor, error }),
  get("lags", "/lag", { success: Schema.Array(Admin.Lag), error }),
  get("lag", "/processors/:name/lag", { params: name, success: Admin.Lag, error }),
  post("pause", "/processors/:name/pause", { params: name, success: Done, error }),
  post("resume", "/processors/:name/resume", { params: name, success: Done, error }),
  post("removeProcessor", "/processors/:name/remove", { params: name, success: Done, error }),
  post("seek", "/processors/:name/seek", {
    params: name,
    payload: Schema.Struct({ to: Position, resetTables: Schema.optionalKey(Schema.Boolean) }),
    success: Done,
    error
  })
)

const Aside = HttpApiGroup.make("aside").add(
  get("quarantined", "/quarantine", {
    query: { processor: Schema.optionalKey(Name) },
    success: Schema.Array(Admin.Quarantined),
    error
  }),
  post("release", "/processors/:name/partitions/:partition/release", { params: partition, success: Done, error }),
  post("skip", "/processors/:name/partitions/:partition/skip", { params: partition, success: Done, error }),
  get("parked", "/processors/:name/parked", {
    params: name,
    query: cursor,
    success: Admin.pageOf(Admin.Parked),
    error
  }),
  post("releaseParked", "/processors/:name/partitions/:partition/parked/release", {
    params: partition,
    payload: Admin.Lane,
    success: Done,
    error
  }),
  post("skipParked", "/processors/:name/partitions/:partition/parked/skip", {
    params: partition,
    payload: Schema.Struct({ ...Admin.Lane.fields, all: Schema.optionalKey(Schema.Boolean) }),
    success: Done,
    error
  })
)

const Dead = HttpApiGroup.make("dead").add(
  get("deadTopics", "/dead", { success: Schema.Array(Admin.DeadTopic), error }),
  get("deadLetters", "/dead/:topic", {
    params: { topic: Name },
    query: cursor,
    success: Admin.pageOf(Admin.DeadLetter),
    error
  }),
  get("deadLetter", "/dead/:topic/:partition/:offset", { params: letter, success: Admin.DeadLetter, error }),
  post("redrive", "/dead/:topic/redrive", {
    params: { topic: Name },
    /** All, without letters. */
    payload: Schema.Struct({ letters: Schema.optionalKey(Schema.Array(LetterPlace).check(Schema.isMaxLength(1_000))) }),
    success: Count,
    error
  })
)

const Tables = HttpApiGroup.make("tables").add(
  get("tables", "/tables", { success: Schema.Array(Admin.Table), error }),
  get("rows", "/tables/:name", {
    params: name,
    query: { ...cursor, partition: Schema.optionalKey(Partition) },
    success: Admin.pageOf(Admin.Row),
    error
  }),
  get("row", "/tables/:name/:key", {
    params: { name: Name, key: Schema.String },
    query: { partition: Schema.optionalKey(Partition) },
    success: Admin.Row,
    error
  })
)

const Least = (minimum: number) => Schema.Int.check(Schema.isGreaterThanOrEqualTo(minimum))

/** What is left out has its default; times in milliseconds. */
const QueueSettings = Schema.Struct({
  limit: Schema.optionalKey(Schema.Struct({ count: Least(1), millis: Least(1) })),
  keepDone: Schema.optionalKey(Least(0)),
  keepDead: Schema.optionalKey(
    Schema.Struct({ count: Schema.optionalKey(Least(1)), millis: Schema.optionalKey(Least(1)) })
  )
})

const Queues = HttpApiGroup.make("queues").add(
  get("queues", "/queues", { success: Schema.Array(Admin.Queue), error }),
  get("queue", "/queues/:name", { params: name, success: Admin.Queue, error }),
  post("pauseQueue", "/queues/:name/pause", { params: name, success: Done, error }),
  post("resumeQueue", "/queues/:name/resume", { params: name, success: Done, error }),
  post("flushQueue", "/queues/:name/flush", { params: name, success: Count, error }),
  post("redriveQueue", "/queues/:name/redrive", { params: name, success: Count, error }),
  post("removeQueue", "/queues/:name/remove", { params: name, success: Done, error }),
  post("declareQueue", "/queues/:name/declare", { params: name, payload: QueueSettings, success: Done, error }),
  get("jobs", "/queues/:name/jobs", {
    params: name,
    query: { ...cursor, state: Admin.State, job: Schema.optionalKey(Name) },
    success: Admin.pageOf(Admin.Job),
    error
  }),
  get("job", "/queues/:name/jobs/:id", { params: job, success: Admin.Job, error }),
  post("retryJob", "/queues/:name/jobs/:id/retry", { params: job, success: Done, error }),
  post("cancelJob", "/queues/:name/jobs/:id/cancel", { params: job, success: Done, error })
)

const schedule = { name: Name, schedule: Name }
const scheduleAt = "/queues/:name/schedules/:schedule"

const JobSchedules = HttpApiGroup.make("jobSchedules").add(
  get("jobSchedules", "/job-schedules", { success: Schema.Array(Admin.JobSchedule), error }),
  post("pauseSchedule", `${scheduleAt}/pause`, { params: schedule, success: Done, error }),
  post("resumeSchedule", `${scheduleAt}/resume`, { params: schedule, success: Done, error }),
  post("removeSchedule", `${scheduleAt}/remove`, { params: schedule, success: Done, error })
)

const Workers = HttpApiGroup.make("workers").add(
  get("schedules", "/schedules", { success: Schema.Array(Admin.Schedule), error }),
  get("workers", "/workers", { success: Schema.Array(Admin.Worker), error })
)

/** What changes something needs the token; what is only looked at may. */
const withToken = (document: Record<string, any>): Record<string, any> => {
  const token = [{ token: [] }]
  const paths = Object.entries(document["paths"] as Record<string, Record<string, object>>).map(([path, methods]) => [
    path,
    Object.fromEntries(
      Object.entries(methods).map(([method, operation]) => [
        method,
        { ...operation, security: method === "get" ? [{}, ...token] : token }
      ])
    )
  ])
  const securitySchemes = { token: { type: "http", scheme: "bearer" } }
  return {
    ...document,
    paths: Object.fromEntries(paths),
    components: { ...document["components"], securitySchemes }
  }
}

export const Api = HttpApi.make("millrace")
  .add(Overview, Topics, Processors, Aside, Dead, Tables, Queues, JobSchedules, Workers)
  .middleware(CheckedInput)
  .prefix("/api")
  .annotateMerge(OpenApi.annotations({ title: "Millrace", version: "1", transform: withToken }))
