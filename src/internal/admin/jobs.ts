/** Queues and their jobs, by name and id: looking at them, and what can be done to them without their handlers. */
import { Effect } from "effect"
import type { EngineError, Misconfigured } from "../../Errors.ts"
import { NotFound } from "../../Errors.ts"
import { type Item, type JobFacts, JobStore } from "../../JobStore.ts"
import * as Queues from "../../Queue.ts"
import { type Codec, Serializer } from "../../Serializer.ts"
import { type Line, parseLine } from "../jobs/ledger.ts"
import { checkCount, invalid } from "../names.ts"
import { hide, mask, type Paths } from "../record/redacted.ts"
import { attempt } from "../run/selecting.ts"
import { concurrency, iso } from "./known.ts"
import * as Payload from "./payload.ts"
import type { Page } from "./shapes/common.ts"
import type { Job, Queue, State } from "./shapes/jobs.ts"

const describeQueue = (name: string): Effect.Effect<Queue, EngineError, JobStore> =>
  Effect.gen(function* () {
    const store = yield* JobStore
    return { name, paused: yield* store.isPaused(name), counts: yield* store.counts(name) }
  })

const names = Effect.flatMap(JobStore, (store) => store.queues)

export const queues: Effect.Effect<ReadonlyArray<Queue>, EngineError, JobStore> = Effect.flatMap(names, (all) =>
  Effect.forEach(all.toSorted(), describeQueue, { concurrency })
)

const find = (name: string): Effect.Effect<void, EngineError | NotFound, JobStore> =>
  Effect.flatMap(names, (known) =>
    known.includes(name) ? Effect.void : Effect.fail(new NotFound({ kind: "queue", name, known }))
  )

export const queue = (name: string): Effect.Effect<Queue, EngineError | NotFound, JobStore> =>
  Effect.andThen(find(name), describeQueue(name))

/** Something done to a queue that is there. */
const onQueue = <A>(
  name: string,
  f: (store: JobStore["Service"]) => Effect.Effect<A, EngineError>
): Effect.Effect<A, EngineError | NotFound, JobStore> => Effect.andThen(find(name), Effect.flatMap(JobStore, f))

export const pause = (name: string, paused: boolean) => onQueue(name, (store) => store.pause(name, paused))

export const flush = (name: string) => onQueue(name, (store) => store.flush(name))

export const redrive = (name: string) => onQueue(name, (store) => store.redrive(name, undefined))

/** Settings as plain JSON; times in milliseconds. */
export interface QueueSettings {
  readonly limit?: { readonly count: number; readonly millis: number } | undefined
  readonly keepDone?: number | undefined
  readonly keepDead?: { readonly count?: number | undefined; readonly millis?: number | undefined } | undefined
}

export const declare = (
  name: string,
  { keepDead, keepDone, limit }: QueueSettings
): Effect.Effect<void, EngineError | Misconfigured, JobStore> =>
  Effect.flatten(
    attempt(() => {
      if (limit !== undefined) checkCount("limit.millis", limit.millis)
      if (keepDead?.count !== undefined) checkCount("keepDead.count", keepDead.count)
      if (keepDead?.millis !== undefined) checkCount("keepDead.millis", keepDead.millis)
      return Queues.declare(name, {
        limit: limit && { count: limit.count, per: limit.millis },
        keepDone,
        keepDead: keepDead && { count: keepDead.count, age: keepDead.millis }
      })
    })
  )

export const remove = (name: string) => onQueue(name, (store) => store.remove(name))

const attemptOf = ({ at, attempt, exit, message, worker }: Line): Job["history"][number] => ({
  at: iso(at),
  exit,
  attempt: attempt ?? null,
  worker: worker ?? null,
  message: message ?? null
})

/** How jobs of a queue are shown. */
interface View {
  readonly queue: string
  readonly serializer: Codec
  readonly most: number
  readonly facts: ReadonlyMap<string, JobFacts>
}

const viewOf = (queue: string, most: number): Effect.Effect<View, EngineError, JobStore | Serializer> =>
  Effect.gen(function* () {
    const facts = yield* Effect.flatMap(JobStore, (store) => store.facts(queue))
    return { queue, serializer: yield* Serializer, most, facts: new Map(facts.map((one) => [one.name, one])) }
  })

/** What its handler told, as it is stored: a line of JSON with the format, and the data as text or in base64. */
const progressOf = (text: string, secret: Paths): string => {
  if (secret.length === 0) return text
  try {
    const stored = JSON.parse(text)
    return JSON.stringify({ ...stored, data: JSON.stringify(hide(JSON.parse(stored.data), secret)) })
  } catch {
    return mask
  }
}

const describe = (item: Item, { facts, most, queue, serializer }: View): Job => {
  const history = item.history.map(parseLine).map(attemptOf)
  const secret = facts.get(item.name)
  const ofData = item.state === "done" ? secret?.success : secret?.payload
  return {
    queue,
    id: item.id,
    name: item.name,
    state: item.state,
    priority: item.priority,
    failures: item.failures,
    lost: item.lost,
    enqueuedAt: iso(item.enqueuedAt),
    at: iso(item.at),
    headers: item.headers === "" ? {} : JSON.parse(item.headers),
    group: item.group ?? null,
    reason: item.reason ?? null,
    error: history.at(-1)?.message ?? null,
    progress: item.progress === undefined ? null : progressOf(item.progress, secret?.progress ?? []),
    history,
    payload: Payload.read(serializer, item.format, item.data, most, ofData ?? [])
  }
}

/** A page of the jobs in one state, of one name if that is asked for. A scan, no snapshot. */
export const jobs = (
  queue: string,
  state: State,
  options: { readonly name?: string | undefined; readonly cursor?: string | undefined }
): Effect.Effect<Page<Job>, EngineError | Misconfigured | NotFound, JobStore | Serializer> =>
  Effect.gen(function* () {
    const { cursor = "", name } = options
    if (!/^[\x20-\x7e]{0,400}$/.test(cursor)) return yield* invalid(`the cursor: give the "next" of the page before`)
    const { items, next } = yield* onQueue(queue, (store) => store.list(queue, state, { name, cursor }))
    const view = yield* viewOf(queue, Payload.inList)
    return { items: items.map((item) => describe(item, view)), next: next ?? null }
  })

const missing = (queue: string, id: string): NotFound =>
  new NotFound({ kind: `job of queue ${queue}`, name: id, known: [] })

export const job = (queue: string, id: string): Effect.Effect<Job, EngineError | NotFound, JobStore | Serializer> =>
  Effect.gen(function* () {
    const item = yield* onQueue(queue, (store) => store.get(queue, id, false))
    return item === undefined ? yield* missing(queue, id) : describe(item, yield* viewOf(queue, Payload.alone))
  })

/** Something done to one job; false: it is in no state for it. */
const onJob = (
  queue: string,
  id: string,
  f: (store: JobStore["Service"], state: State) => Effect.Effect<boolean, EngineError>,
  otherwise: (state: State) => string
): Effect.Effect<void, EngineError | Misconfigured | NotFound, JobStore> =>
  Effect.gen(function* () {
    const store = yield* JobStore
    const item = yield* onQueue(queue, (store) => store.get(queue, id, false))
    if (item === undefined) return yield* missing(queue, id)
    if (!(yield* f(store, item.state))) return yield* invalid(`job ${id} of queue ${queue}: ${otherwise(item.state)}`)
  })

/** A dead one is ready again, with all its retries; a delayed one is ready now. */
export const retry = (queue: string, id: string) =>
  onJob(
    queue,
    id,
    (store, state) =>
      state === "delayed"
        ? store.promote(queue, id)
        : state === "dead"
          ? Effect.map(store.redrive(queue, [id]), (count) => count > 0)
          : Effect.succeed(false),
    (state) => `it is ${state}; what can be tried again now is dead or delayed`
  )

/** How long a cancelled job is remembered. */
const cancelledMillis = 24 * 60 * 60_000

export const cancel = (queue: string, id: string) =>
  onJob(
    queue,
    id,
    (store) => store.cancel(queue, id, cancelledMillis),
    (state) => `it is ${state}; what is over cannot be cancelled`
  )
