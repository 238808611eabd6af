/**
 * Everything that can be seen and done from outside, by name: no definition of a topic, processor or job is needed, only an
 * engine (`Engine.layerConfig`). What the functions give is plain JSON with a schema of the same name; the HTTP API serves
 * it, the command line prints it, the page shows it.
 *
 * Gotcha: lists are looks at a running system, no snapshots; what moves meanwhile may be seen twice or not at all.
 */
import { Effect, Schema } from "effect"
import type { Broker } from "./Broker.ts"
import type { Coordinator } from "./Coordinator.ts"
import type { EngineError, EventsLost, Misconfigured, NotFound } from "./Errors.ts"
import * as Aside from "./internal/admin/aside.ts"
import * as JobSchedules from "./internal/admin/jobSchedules.ts"
import * as Jobs from "./internal/admin/jobs.ts"
import { iso, now } from "./internal/admin/known.ts"
import * as Letters from "./internal/admin/letters.ts"
import * as Processors from "./internal/admin/processors.ts"
import { type Lane, Parked, Quarantined } from "./internal/admin/shapes/aside.ts"
import type { Page } from "./internal/admin/shapes/common.ts"
import { Job, JobSchedule, Queue, type State } from "./internal/admin/shapes/jobs.ts"
import { DeadLetter, DeadTopic } from "./internal/admin/shapes/letters.ts"
import { Lag, Processor } from "./internal/admin/shapes/processors.ts"
import { Schedule } from "./internal/admin/shapes/schedules.ts"
import { Row, Table } from "./internal/admin/shapes/tables.ts"
import { Topic, TopicLogs } from "./internal/admin/shapes/topics.ts"
import { Worker } from "./internal/admin/shapes/workers.ts"
import * as Tables from "./internal/admin/tables.ts"
import * as Topics from "./internal/admin/topics.ts"
import * as Workers from "./internal/admin/workers.ts"
import type { JobStore } from "./JobStore.ts"
import type { Serializer } from "./Serializer.ts"
import type { TableStore } from "./TableStore.ts"

export { Lane } from "./internal/admin/shapes/aside.ts"
export { type Page, pageOf, Time } from "./internal/admin/shapes/common.ts"
export { Attempt, Counts, State } from "./internal/admin/shapes/jobs.ts"
export { Payload } from "./internal/admin/shapes/payload.ts"
export { Owner, PartitionLag } from "./internal/admin/shapes/processors.ts"
export { Log, Retention } from "./internal/admin/shapes/topics.ts"
export { Doing, Part, RunningJob, WorkerReport, WorkerSchedule } from "./internal/admin/shapes/workers.ts"
export {
  DeadLetter,
  DeadTopic,
  Job,
  JobSchedule,
  Lag,
  Parked,
  Processor,
  Quarantined,
  Queue,
  Row,
  Schedule,
  Table,
  Topic,
  TopicLogs,
  Worker
}

/** What is asked of an engine, and what reads its values. */
export type Services = Broker | Coordinator | TableStore | JobStore | Serializer

/** What a function that names something can fail with; `Misconfigured` says why it was refused. */
export type Failure = EngineError | Misconfigured | NotFound

type Of<A, E = Failure> = Effect.Effect<A, E, Services>

/** Where a page begins: the `next` of the page before. */
export interface From {
  readonly cursor?: string | undefined
}

// ------------------------------------------------------------------------------------------------------------- topics

/** All of them, by name, those of dead letters and agents included. */
export const topics: Of<ReadonlyArray<Topic>, EngineError> = Topics.topics

export const topic = (name: string): Of<TopicLogs> => Topics.topic(name)

// --------------------------------------------------------------------------------------------------------- processors

export const processors: Of<ReadonlyArray<Processor>, EngineError> = Processors.processors

export const processor = (name: string): Of<Processor> => Processors.processor(name)

/** Of every processor. */
export const lags: Of<ReadonlyArray<Lag>, EngineError> = Processors.lags

export const lag = (name: string): Of<Lag> => Processors.lag(name)

/** Keep owners, hand out nothing, on every worker, until resumed. */
export const pause = (name: string): Of<void> => Processors.pause(name, true)

export const resume = (name: string): Of<void> => Processors.pause(name, false)

/** The first event, behind the last one, at an offset, or the first event that is not older than a time (ISO 8601). */
export type Position = Processors.To

/** Move the position of all partitions, one after the other; refused while the processor runs unpaused. */
export const seek = (
  name: string,
  to: Position,
  options?: {
    readonly resetTables?: boolean | undefined
    /** Called after each partition, to show how far it is. */
    readonly moved?: (() => void) | undefined
  }
): Of<void, Failure | EventsLost> => Processors.seek(name, to, options?.resetTables ?? false, options?.moved)

/**
 * Forget one that is gone for good: its position, its tables, and its hold on what its topics keep. Refused while it runs.
 */
export const removeProcessor = (name: string): Of<void> => Processors.remove(name)

// -------------------------------------------------------------------------------------------------------------- aside

/** Partitions that are put aside: of one processor, or of all. */
export const quarantined = (processor?: string | undefined): Of<ReadonlyArray<Quarantined>, EngineError | NotFound> =>
  Aside.quarantined(processor)

/** Put a quarantined partition back to work: it meets what failed again. */
export const release = (processor: string, partition: number): Of<void> => Aside.release(processor, partition)

/** Put it back to work behind the unit that failed. */
export const skip = (processor: string, partition: number): Of<void> => Aside.skip(processor, partition)

/** Keys of a processor that wait aside, by partition and by when they are tried again. */
export const parked = (processor: string, from?: From): Of<Page<Parked>> => Aside.parked(processor, from?.cursor)

/** Try the first event of what waits now. */
export const releaseParked = (processor: string, partition: number, lane: Lane): Of<void> =>
  Aside.releaseLane(processor, partition, lane)

/** Drop its first event, or all, and go on with the next one. */
export const skipParked = (
  processor: string,
  partition: number,
  lane: Lane,
  options?: { readonly all?: boolean | undefined }
): Of<void> => Aside.skipLane(processor, partition, lane, options?.all ?? false)

// ------------------------------------------------------------------------------------------------------- dead letters

/** Topics that take dead letters, and how many there are. */
export const deadTopics: Of<ReadonlyArray<DeadTopic>, EngineError> = Letters.deadTopics

/** Those that were not put back, by partition and offset; `topic` is the one that holds them, such as `orders.dead`. */
export const deadLetters = (topic: string, from?: From): Of<Page<DeadLetter>> =>
  Letters.deadLetters(topic, from?.cursor)

/** One of them with its whole payload. */
export const deadLetter = (topic: string, partition: number, offset: string): Of<DeadLetter> =>
  Letters.deadLetter(topic, partition, offset)

/** Put them back at the end of where they came from, each exactly once: all, or these. Gives how many. */
export const redrive = (
  topic: string,
  letters?: ReadonlyArray<{ readonly partition: number; readonly offset: string }> | undefined
): Of<number> => Letters.redrive(topic, letters)

// ------------------------------------------------------------------------------------------------------------- tables

export const tables: Of<ReadonlyArray<Table>, EngineError> = Tables.tables

export const table = (name: string): Of<Table> => Tables.table(name)

/** A row by its key in text form, as the last commit left it. Without a partition it is looked for in all. */
export const row = (table: string, key: string, options?: { readonly partition?: number | undefined }): Of<Row> =>
  Tables.row(table, key, options?.partition)

/** A page of rows, partition by partition, or of one alone. */
export const rows = (table: string, from?: From & { readonly partition?: number | undefined }): Of<Page<Row>> =>
  Tables.rows(table, from ?? {})

// --------------------------------------------------------------------------------------------------------------- jobs

export const queues: Of<ReadonlyArray<Queue>, EngineError> = Jobs.queues

export const queue = (name: string): Of<Queue> => Jobs.queue(name)

/** No job of it is started on any worker; those that run finish. */
export const pauseQueue = (name: string): Of<void> => Jobs.pause(name, true)

export const resumeQueue = (name: string): Of<void> => Jobs.pause(name, false)

/** Forget what waits: ready, delayed, or for other jobs. Gives how many. */
export const flushQueue = (name: string): Of<number> => Jobs.flush(name)

/** Its dead jobs are ready again, with all their retries. Gives how many. */
export const redriveQueue = (name: string): Of<number> => Jobs.redrive(name)

/** What holds for a whole queue, times in milliseconds; what is left out has its default. See `Queue.Settings`. */
export type QueueSettings = Jobs.QueueSettings

/** Make it known, with these settings; they replace all of those of before. */
export const declareQueue = (name: string, settings: QueueSettings = {}): Of<void> => Jobs.declare(name, settings)

/** Forget it with all of its jobs and schedules. What runs goes on, and what becomes of it is not stored. */
export const removeQueue = (name: string): Of<void> => Jobs.remove(name)

/** A page of the jobs in one state, of one name if that is given. */
export const jobs = (
  queue: string,
  state: State,
  from?: From & { readonly name?: string | undefined }
): Of<Page<Job>> => Jobs.jobs(queue, state, from ?? {})

/** One job with its history and its whole payload. */
export const job = (queue: string, id: string): Of<Job> => Jobs.job(queue, id)

/** A dead one is ready again, with all its retries; a delayed one is ready now. */
export const retryJob = (queue: string, id: string): Of<void> => Jobs.retry(queue, id)

/** One that waits is cancelled at once; the worker of one that runs is told. */
export const cancelJob = (queue: string, id: string): Of<void> => Jobs.cancel(queue, id)

// -------------------------------------------------------------------------------------------------- schedules, workers

/** Those of the leader, and those of living workers, by name. */
export const schedules: Of<ReadonlyArray<Schedule>, EngineError> = Workers.schedules

/** Jobs that recur, of all queues, with their next slots. */
export const jobSchedules: Of<ReadonlyArray<JobSchedule>, EngineError> = JobSchedules.jobSchedules

export const jobSchedule = (queue: string, schedule: string): Of<JobSchedule> =>
  JobSchedules.jobSchedule(queue, schedule)

/** It is enqueued no more until it is resumed. */
export const pauseSchedule = (queue: string, schedule: string): Of<void> => JobSchedules.pause(queue, schedule)

/** It goes on with the next slot. */
export const resumeSchedule = (queue: string, schedule: string): Of<void> => JobSchedules.resume(queue, schedule)

/** Forget it; jobs that it has enqueued stay. */
export const removeSchedule = (queue: string, schedule: string): Of<void> => JobSchedules.remove(queue, schedule)

/** Members of groups, and those that report, by name, with what each does now. */
export const workers: Of<ReadonlyArray<Worker>, EngineError> = Workers.workers

// ----------------------------------------------------------------------------------------------------------- overview

/** All that fits on one page. */
export const Overview = Schema.Struct({
  /** When it was looked at. */
  at: Schema.String,
  topics: Schema.Array(Topic),
  processors: Schema.Array(Processor),
  lags: Schema.Array(Lag),
  quarantined: Schema.Array(Quarantined),
  deadTopics: Schema.Array(DeadTopic),
  tables: Schema.Array(Table),
  queues: Schema.Array(Queue),
  jobSchedules: Schema.Array(JobSchedule),
  schedules: Schema.Array(Schedule),
  workers: Schema.Array(Worker)
})
export type Overview = typeof Overview.Type

export const overview: Of<Overview, EngineError> = Effect.map(
  Effect.all(
    {
      at: Effect.map(now, iso),
      topics,
      processors,
      lags,
      // Of no processor by name, so none can be missing.
      quarantined: Effect.catchTag(quarantined(), "NotFound", Effect.die),
      deadTopics,
      tables,
      queues,
      jobSchedules,
      schedules,
      workers
    },
    { concurrency: 4 }
  ),
  (all): Overview => all
)
