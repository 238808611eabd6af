/**
 * Sends jobs to one queue: concurrent callers travel together, several calls on their way. Ids are made here, so a call
 * whose answer was lost is sent again unchanged.
 */
import { randomUUID } from "node:crypto"
import { Cause, type Context, Effect, Exit } from "effect"
import type { Durability } from "../../Broker.ts"
import { type DurabilityNotReached, EngineError } from "../../Errors.ts"
import { type Enqueued, type JobStore, maxJobs, type NewJob } from "../../JobStore.ts"
import { patiently } from "../backoff.ts"

/** Jobs of one call, about, and calls on their way. */
const batchSize = 250
const maxCalls = 4

type Failure = EngineError | DurabilityNotReached

type Done = (exit: Exit.Exit<ReadonlyArray<Enqueued>, Failure>) => void

interface Waiting {
  readonly jobs: ReadonlyArray<NewJob>
  /** Of the caller: its clock is the engine's. */
  readonly context: Context.Context<never>
  readonly done: Done
}

export class Enqueuer {
  private waiting: Array<Waiting> = []
  private calls = 0
  private scheduled = false
  private readonly store: JobStore["Service"]
  private readonly queue: string
  private readonly durability: Durability
  constructor(store: JobStore["Service"], queue: string, durability: Durability) {
    this.store = store
    this.queue = queue
    this.durability = durability
  }

  /** At most `maxJobs` of one caller stay together: they are stored all at once, or not at all. */
  submit(jobs: ReadonlyArray<NewJob>, context: Context.Context<never>, done: Done): void {
    this.waiting.push({ jobs, context, done })
    if (this.scheduled || this.calls >= maxCalls) return
    this.scheduled = true
    // What is enqueued in the same turn travels together.
    queueMicrotask(this.flush)
  }

  readonly enqueue = (jobs: ReadonlyArray<NewJob>): Effect.Effect<ReadonlyArray<Enqueued>, Failure> =>
    Effect.withFiber((fiber) => Effect.callback((resume) => this.submit(jobs, fiber.context, resume)))

  private readonly flush = (): void => {
    this.scheduled = false
    while (this.waiting.length > 0 && this.calls < maxCalls) {
      let size = 0
      let take = 0
      while (take < this.waiting.length) {
        const next = this.waiting[take]!.jobs.length
        if (take > 0 && (size + next > maxJobs || size >= batchSize)) break
        size += next
        take++
      }
      this.send(this.waiting.splice(0, take))
    }
  }

  private send(batch: ReadonlyArray<Waiting>): void {
    this.calls++
    const jobs = batch.length === 1 ? batch[0]!.jobs : batch.flatMap((one) => one.jobs)
    const call = patiently(this.store.enqueue(this.queue, jobs, this.durability))
    Effect.runForkWith(batch[0]!.context)(call).addObserver((exit) => {
      this.calls--
      let at = 0
      for (const { done, jobs } of batch) {
        const from = at
        at += jobs.length
        done(
          Exit.isSuccess(exit)
            ? Exit.succeed(batch.length === 1 ? exit.value : exit.value.slice(from, at))
            : failureOf(exit.cause)
        )
      }
      this.flush()
    })
  }
}

const failureOf = (cause: Cause.Cause<Failure>): Exit.Exit<never, Failure> =>
  Cause.hasInterruptsOnly(cause)
    ? Exit.fail(new EngineError({ operation: "enqueue", reason: "Unreachable", detail: "it was broken off" }))
    : Exit.failCause(cause)

interface Desk {
  readonly prefix: string
  count: number
  readonly queues: Map<string, Enqueuer>
}

const desks = new WeakMap<JobStore["Service"], Desk>()

const deskOf = (store: JobStore["Service"]): Desk => {
  let desk = desks.get(store)
  if (desk === undefined) {
    desk = { prefix: randomUUID().replaceAll("-", "").slice(0, 14), count: 0, queues: new Map() }
    desks.set(store, desk)
  }
  return desk
}

/** What is to be equally safe travels together. */
export const enqueuerOf = (store: JobStore["Service"], queue: string, durability: Durability = "memory"): Enqueuer => {
  const { queues } = deskOf(store)
  const key = durability === "memory" ? queue : `${queue} ${JSON.stringify(durability)}`
  let enqueuer = queues.get(key)
  if (enqueuer === undefined) queues.set(key, (enqueuer = new Enqueuer(store, queue, durability)))
  return enqueuer
}

/** Unique; those of one process stand in their order. */
export const nextId = (store: JobStore["Service"]): string => {
  const desk = deskOf(store)
  return `${desk.prefix}-${(desk.count++).toString(36).padStart(7, "0")}`
}
