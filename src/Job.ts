/**
 * A job is one piece of work on a queue: unordered, with priority, delay, retries, timeout and result. `make` is the
 * contract, which clients import without the handler's code; `handler` is the part that runs it in a worker.
 *
 * Gotcha: a job runs at least once. One whose worker died runs again, so what it does outside must bear that.
 */
import { availableParallelism } from "node:os"
import {
  Context,
  type Cron,
  DateTime,
  Duration,
  Effect,
  type Exit,
  Layer,
  Option,
  type Schema,
  type Scope,
  Stream
} from "effect"
import { type Pipeable, pipeArguments } from "effect/Pipeable"
import type { Durability } from "./Broker.ts"
import type { DecodeError, DurabilityNotReached, EncodeError, EngineError, JobFailed } from "./Errors.ts"
import * as Bulk from "./internal/jobs/bulk.ts"
import { attempt } from "./internal/jobs/codec.ts"
import { codecOf } from "./internal/jobs/codecs.ts"
import { answer, Current as Running } from "./internal/jobs/current.ts"
import { enqueuerOf } from "./internal/jobs/enqueuer.ts"
import { attemptsOf, endOf } from "./internal/jobs/ledger.ts"
import { make as makePart } from "./internal/jobs/part.ts"
import { prepare } from "./internal/jobs/prepare.ts"
import * as Recurring from "./internal/jobs/recurring.ts"
import type { Backoff, Run, Spec } from "./internal/jobs/spec.ts"
import { defaultBackoff, specOf } from "./internal/jobs/specOf.ts"
import { stagerIn } from "./internal/jobs/staging.ts"
import { untold } from "./internal/jobs/telling.ts"
import { serve } from "./internal/jobs/thread.ts"
import { handlerIn } from "./internal/jobs/threads.ts"
import { awaitEnd, changesOf } from "./internal/jobs/watch.ts"
import { checkCount } from "./internal/names.ts"
import { traced } from "./internal/telemetry/tracing.ts"
import { type Item, JobStore, type Priority, type State } from "./JobStore.ts"
import type { Part } from "./Part.ts"
import { type Codec, Serializer } from "./Serializer.ts"

export type { Priority, Run, State }

type Schemas = Schema.ConstraintCodec<any, any>
type Key = string | number | bigint

const TypeId = "~millrace/Job"

/** A contract: what goes in, what comes out, how it fails. Defining one touches no engine. */
export interface Job<in out P, in out S = void, in out Err = never, in out Pr = never> extends Pipeable {
  readonly [TypeId]: {
    readonly _P: (_: P) => P
    readonly _S: (_: S) => S
    readonly _Err: (_: Err) => Err
    readonly _Pr: (_: Pr) => Pr
  }
  readonly name: string
  readonly queue: string
  /** @internal */
  readonly spec: Spec
}

export type Any = Job<any, any, any, any>

export interface Handle {
  readonly id: string
  /**
   * There was one with this id or key already: nothing was stored, and this is that one's id. Not known of one that is
   * staged in a handler.
   */
  readonly repeated: boolean | undefined
}

export interface Defaults {
  /** Default `"default"`. */
  readonly queue?: string | undefined
  /** Claims favour high over medium over low 10 : 3 : 1, so low is never starved; default medium. */
  readonly priority?: Priority | undefined
  /** Runs after the first one that failed; default 0. */
  readonly retries?: number | undefined
  /** The delay before a retry, the first is number 1; default `max(10 s, min(5 s * 2^n, 1 day))`. */
  readonly backoff?: Backoff | undefined
  /** How much of the delay is random, from 0 (the default) to 1. */
  readonly jitter?: number | undefined
  /** A handler that runs longer is interrupted, which counts as a failure; default 10 minutes. */
  readonly timeout?: Duration.Input | undefined
  /** One that is older when its turn comes is dead, without having run; default: none. */
  readonly ttl?: Duration.Input | undefined
  /** How long its result is kept, and its id taken; default 1 day. */
  readonly resultTtl?: Duration.Input | undefined
}

export interface Options<P extends Schemas, S extends Schemas, Err extends Schemas, Pr extends Schemas>
  extends Defaults {
  readonly payload: P
  readonly success?: S | undefined
  readonly error?: Err | undefined
  readonly progress?: Pr | undefined
  /** Of two jobs with one key the second is not stored while the first is neither done nor dead. */
  readonly key?: ((payload: P["Type"]) => Key) | undefined
  /** Jobs of one group run in order, so many at a time (default 1), and so many in a time. */
  readonly group?:
    | {
        readonly by: (payload: P["Type"]) => Key
        readonly concurrency?: number | undefined
        readonly limit?: { readonly count: number; readonly per: Duration.Input } | undefined
      }
    | undefined
  /** False: do not try again, whatever is left of the retries. */
  readonly retryable?: ((error: Err["Type"]) => boolean) | undefined
  readonly serializer?: Codec | undefined
  /** Bytes that the payload, and the result, may have; default 1 MiB. */
  readonly maxBytes?: number | undefined
}

export interface EnqueueOptions {
  /** Taken until its result is forgotten: a second enqueue gives the handle of the first. */
  readonly id?: string | undefined
  readonly priority?: Priority | undefined
  readonly delay?: Duration.Input | undefined
  readonly at?: DateTime.Utc | undefined
  readonly headers?: Readonly<Record<string, string>> | undefined
  /**
   * Under the key there is one job that is not over; `within` (throttle): one in that time. One that is still delayed takes
   * the new payload (`replace`), and begins its delay anew (`restart`: debounce).
   */
  readonly deduplicate?:
    | {
        readonly key: Key
        readonly within?: Duration.Input | undefined
        readonly replace?: boolean | undefined
        readonly restart?: boolean | undefined
      }
    | undefined
  /** Not before these jobs of its queue are done. If one of them does not end well it is dead, as `Child`. */
  readonly after?: Iterable<string | Handle> | undefined
}

/** How safe a job is to be before it is answered; default `"memory"`. In a handler it is as safe as what stores it. */
export interface Safe {
  readonly durability?: Durability | undefined
}

/** What enqueueing and asking need. */
export type Client = JobStore | Serializer

const Proto = {
  [TypeId]: { _P: (_: any) => _, _S: (_: any) => _, _Err: (_: any) => _, _Pr: (_: any) => _ },
  pipe() {
    return pipeArguments(this, arguments)
  }
}

export { defaultBackoff }

type Make = <
  P extends Schemas,
  S extends Schemas = typeof Schema.Void,
  Err extends Schemas = typeof Schema.Never,
  Pr extends Schemas = typeof Schema.Never
>(
  name: string,
  options: Options<P, S, Err, Pr>
) => Job<P["Type"], S["Type"], Err["Type"], Pr["Type"]>

/** Define a job. Wrong options throw `Misconfigured` at once. */
export const make: Make = (name: string, options: Options<any, any, any, any>): Any => {
  const spec = specOf(name, options)
  return Object.assign(Object.create(Proto), { name: spec.name, queue: spec.queue, spec })
}

/** `make` with other defaults. An option that is undefined is one that is left out. */
export const withDefaults =
  (defaults: Defaults): Make =>
  (name: string, options: Options<any, any, any, any>): any => {
    const given = Object.entries(options).filter(([, option]) => option !== undefined)
    return make(name, { ...defaults, ...(Object.fromEntries(given) as typeof options) })
  }

// ----------------------------------------------------------------------------------------------------------- handlers

/** The running job; also what `progress`, `retryAfter`, `giveBack` and `bury` need. */
export type Current = Running

export interface HandlerOptions {
  /** Jobs of this kind that one worker runs at a time; default: as many as the worker runs in all. */
  readonly concurrency?: number | undefined
  /** `"before"`: settled when it is claimed, so it runs at most once; it has no result and no retries. */
  readonly acknowledge?: "after" | "before" | undefined
}

/** The part that runs it. Its error must be the declared one: it is stored, and read elsewhere. */
export const handler = <P, S, Err, Pr, R>(
  job: Job<P, S, Err, Pr>,
  f: (payload: P, run: Run) => Effect.Effect<NoInfer<S>, NoInfer<Err> | EngineError, R>,
  options: HandlerOptions = {}
): Part<never, Exclude<R, Current | Scope.Scope>> => makePart(job.spec, f, options)

/**
 * The same in worker threads, one job in each at a time: for what computes, so that the worker's event loop stays free. The
 * module at `url` calls `Job.thread`. Timeout and cancel end the work of the thread: one that does not listen is ended.
 */
export const handlerInThread = <P, S, Err, Pr>(
  job: Job<P, S, Err, Pr>,
  url: URL,
  options: {
    /** Default: one for each processor, less one. */
    readonly threads?: number | undefined
  } = {}
): Part<never, never> => {
  const threads = checkCount(
    `handler of job ${job.name}: threads`,
    options.threads ?? Math.max(1, availableParallelism() - 1),
    1,
    1_000
  )
  const unused = () => Effect.die(new Error(`the threads of job ${job.name} were not started`))
  return makePart(job.spec, unused, { concurrency: threads }, handlerIn(job.spec, url, threads))
}

/** What a module for `handlerInThread` consists of. */
export interface Thread<out Err> {
  readonly "~millrace/Thread": { readonly _Err: (_: never) => Err }
  readonly job: string
}

/** The handler's side of `handlerInThread`: in a thread that was started for this job it begins to serve. */
export const thread: {
  <P, S, Err, Pr>(
    job: Job<P, S, Err, Pr>,
    f: (payload: P, run: Run) => Effect.Effect<NoInfer<S>, NoInfer<Err>, Current | Scope.Scope>
  ): Thread<Err>
  <P, S, Err, Pr, R, E>(
    job: Job<P, S, Err, Pr>,
    f: (payload: P, run: Run) => Effect.Effect<NoInfer<S>, NoInfer<Err>, R | Current | Scope.Scope>,
    layer: Layer.Layer<R, E>
  ): Thread<Err>
} = (job: Any, f: (payload: any, run: Run) => Effect.Effect<any, any, any>, layer?: Layer.Layer<any, any>) => {
  serve(job.spec, f, (layer ?? Layer.empty) as Layer.Layer<any, any>)
  return { "~millrace/Thread": { _Err: (_: never) => _ }, job: job.name }
}

/** The job that is being run. */
export const current: Effect.Effect<Run, never, Current> = Effect.map(Running, ({ run }) => run)

/** Tell how far it is, for whoever looks (`info`) or watches (`changes`). While the engine is away it is dropped. */
export const progress = <P, S, Err, Pr>(
  _job: Job<P, S, Err, Pr>,
  value: NoInfer<Pr>
): Effect.Effect<void, never, Current> => Effect.flatMap(Running, (running) => running.progress(value))

/** End here, and be tried again after a while. Not counted: it has as many retries left as before (the default). */
export const retryAfter = (
  delay: Duration.Input,
  options?: { readonly counted?: boolean | undefined }
): Effect.Effect<never, never, Current> =>
  answer({
    _tag: "Retry",
    delay: Duration.toMillis(Duration.fromInputUnsafe(delay)),
    counted: options?.counted === true
  })

/** End here, and let another worker have it, now. */
export const giveBack: Effect.Effect<never, never, Current> = answer({ _tag: "Back" })

/** End here, dead, whatever is left of the retries. */
export const bury = (reason: string): Effect.Effect<never, never, Current> => answer({ _tag: "Bury", reason })

// ---------------------------------------------------------------------------------------------------------- enqueueing

const store = (
  job: Any,
  payload: unknown,
  options: (EnqueueOptions & Safe) | undefined,
  stages: boolean
): Effect.Effect<Handle, EncodeError | EngineError | DurabilityNotReached, Client> =>
  Effect.withFiber((fiber): Effect.Effect<Handle, EncodeError | EngineError | DurabilityNotReached> => {
    const context = fiber.context as Context.Context<Client>
    const store = Context.get(context, JobStore)
    const stage = stages ? stagerIn(fiber.context) : undefined
    const prepared = attempt(() => {
      const one = prepare(job.spec, payload, traced(fiber, options), store, Context.get(context, Serializer))
      stage?.({ queue: job.queue, job: one })
      return one
    })
    const stored: Effect.Effect<Handle, EncodeError | EngineError | DurabilityNotReached> =
      stage === undefined
        ? Effect.flatMap(prepared, (one) =>
            Effect.map(enqueuerOf(store, job.queue, options?.durability).enqueue([one]), ([stored]) => stored!)
          )
        : Effect.map(prepared, ({ id }) => ({ id, repeated: undefined }))
    const first = untold(store, job.spec)
    return first === undefined ? stored : Effect.andThen(first, stored)
  })

/**
 * Store one job; succeeds when the engine has it. Concurrent calls travel together. In the handler of a processor it is part
 * of the unit of work, and in that of a job of what settles it when it ends well: it is there with that, or not at all. (Of a
 * job that is acknowledged before it runs there is nothing to settle, so it acts at once.)
 */
export const enqueue: {
  <P, S, Err, Pr>(
    job: Job<P, S, Err, Pr>,
    payload: NoInfer<P>,
    options?: EnqueueOptions & { readonly durability?: undefined }
  ): Effect.Effect<Handle, EncodeError | EngineError, Client>
  <P, S, Err, Pr>(
    job: Job<P, S, Err, Pr>,
    payload: NoInfer<P>,
    options: EnqueueOptions & Safe
  ): Effect.Effect<Handle, EncodeError | EngineError | DurabilityNotReached, Client>
} = (job: Any, payload: unknown, options?: EnqueueOptions & Safe): any => store(job, payload, options, true)

/** Store many: an iterable gives their handles, in order; a stream of any length is stored in bounded memory and counted. */
export const enqueueAll: {
  <P, S, Err, Pr>(
    job: Job<P, S, Err, Pr>,
    payloads: Iterable<NoInfer<P>>,
    options?: Omit<EnqueueOptions, "id"> & { readonly durability?: undefined }
  ): Effect.Effect<ReadonlyArray<Handle>, EncodeError | EngineError, Client>
  <P, S, Err, Pr>(
    job: Job<P, S, Err, Pr>,
    payloads: Iterable<NoInfer<P>>,
    options: Omit<EnqueueOptions, "id"> & Safe
  ): Effect.Effect<ReadonlyArray<Handle>, EncodeError | EngineError | DurabilityNotReached, Client>
  <P, S, Err, Pr, E, R>(
    job: Job<P, S, Err, Pr>,
    payloads: Stream.Stream<NoInfer<P>, E, R>,
    options?: Omit<EnqueueOptions, "id"> & { readonly durability?: undefined }
  ): Effect.Effect<number, EncodeError | EngineError | E, Client | R>
  <P, S, Err, Pr, E, R>(
    job: Job<P, S, Err, Pr>,
    payloads: Stream.Stream<NoInfer<P>, E, R>,
    options: Omit<EnqueueOptions, "id"> & Safe
  ): Effect.Effect<number, EncodeError | EngineError | DurabilityNotReached | E, Client | R>
} = (job: Any, payloads: Iterable<unknown> | Stream.Stream<unknown, any, any>, options?: EnqueueOptions & Safe): any =>
  Stream.isStream(payloads)
    ? Bulk.enqueueStream(job.spec, payloads as Stream.Stream<unknown, any, any>, options)
    : Bulk.enqueueAll(job.spec, payloads as Iterable<unknown>, options)

/** Store it at once, also in a unit of work, and wait for its end: its success, or its typed error. */
export const execute = <P, S, Err, Pr>(
  job: Job<P, S, Err, Pr>,
  payload: NoInfer<P>,
  options?: EnqueueOptions
): Effect.Effect<S, Err | JobFailed | EncodeError | DecodeError | EngineError, Client> =>
  Effect.flatMap(store(job, payload, options, false), ({ id }) => awaitEnd(job.spec, id)) as Effect.Effect<
    any,
    any,
    Client
  >

/** Wait for the end of a job that was enqueued. */
const await_ = <P, S, Err, Pr>(
  job: Job<P, S, Err, Pr>,
  id: string
): Effect.Effect<S, Err | JobFailed | DecodeError | EngineError, Client> =>
  awaitEnd(job.spec, id) as Effect.Effect<any, any, Client>

export { await_ as await }

// ----------------------------------------------------------------------------------------------------------- recurring

export interface RecurOptions<out P> {
  readonly payload: P
  /**
   * A slot that no worker of the queue came for in a minute, or before the next one, is missed. `"skip"` (the default): it
   * does not run; `"last"`: one run makes up for all that were missed.
   */
  readonly missed?: "skip" | "last" | undefined
  readonly priority?: Priority | undefined
  /** Beside `schedule` (its name) and `slot` (its moment), which every run has. */
  readonly headers?: Readonly<Record<string, string>> | undefined
}

/**
 * Enqueue a job at a fixed rate of a second or more, for the first time after one period, from now on and whatever becomes
 * of its runs. It is data beside the queue: set again it is not doubled, with another period it begins anew, and it goes on
 * through the restart of everything until `Queue.removeSchedule`. Each slot is enqueued once, by any worker of the queue,
 * under the id `<name>@<slot>`. Throws `Misconfigured` for wrong options.
 */
export const every = <P, S, Err, Pr>(
  job: Job<P, S, Err, Pr>,
  name: string,
  options: RecurOptions<NoInfer<P>> & { readonly every: Duration.Input }
): Effect.Effect<void, EncodeError | EngineError, Client> =>
  Recurring.set(job.spec, name, Recurring.everyOf(job.spec, name, options), options)

/**
 * The same by cron expression, in a time zone (default: that of the settings where it is set, else UTC), right across
 * changes of daylight saving. Five fields (minute, hour, day, month, weekday), six with seconds before them, or a `Cron`.
 */
export const cron = <P, S, Err, Pr>(
  job: Job<P, S, Err, Pr>,
  name: string,
  options: RecurOptions<NoInfer<P>> & {
    readonly expression: string | Cron.Cron
    readonly timezone?: string | DateTime.TimeZone | undefined
  }
): Effect.Effect<void, EncodeError | EngineError, Client> =>
  Recurring.set(job.spec, name, Recurring.cronOf(job.spec, name, options), options)

// -------------------------------------------------------------------------------------------------------------- asking

/** One run that did not end well. `again`: it asked to be tried again. */
export interface Attempt<out Err> {
  readonly at: DateTime.Utc
  readonly attempt: number | undefined
  readonly worker: string | undefined
  readonly again: boolean
  readonly exit: Exit.Exit<never, Err | JobFailed>
}

export interface Info<out S, out Err, out Pr> {
  readonly id: string
  readonly state: State
  readonly priority: Priority
  readonly enqueuedAt: DateTime.Utc
  /** When it is due, or ended; else when it was enqueued. */
  readonly at: DateTime.Utc
  readonly headers: Readonly<Record<string, string>>
  readonly failures: number
  /** The last twenty, the oldest first. */
  readonly attempts: ReadonlyArray<Attempt<Err>>
  readonly progress: Option.Option<Pr>
  /** How it ended, if it has. */
  readonly end: Option.Option<Exit.Exit<S, Err | JobFailed>>
}

const infoOf = (spec: Spec, serializer: Codec, item: Item): Info<any, any, any> => ({
  id: item.id,
  state: item.state,
  priority: item.priority,
  enqueuedAt: DateTime.makeUnsafe(item.enqueuedAt),
  at: DateTime.makeUnsafe(item.at),
  headers: item.headers === "" ? {} : JSON.parse(item.headers),
  failures: item.failures,
  attempts: attemptsOf(spec, serializer, item).map((one) => ({
    ...one,
    at: DateTime.makeUnsafe(one.at),
    exit: one.exit as Exit.Exit<never, any>
  })),
  progress:
    item.progress === undefined ? Option.none() : Option.some(progressOf(spec, serializer, item.id, item.progress)),
  end: Option.fromNullishOr(endOf(spec, serializer, item))
})

const progressOf = (spec: Spec, serializer: Codec, id: string, stored: string): unknown => {
  const { base64, data, format } = JSON.parse(stored)
  const bytes = base64 === undefined ? Buffer.from(data) : Buffer.from(base64, "base64")
  return codecOf(spec, "progress", serializer).decode(format, bytes, id)
}

const asked = <A>(
  job: Any,
  id: string,
  f: (item: Item, serializer: Codec) => A
): Effect.Effect<Option.Option<A>, DecodeError | EngineError, Client> =>
  Effect.gen(function* () {
    const serializer = yield* Serializer
    const item = yield* (yield* JobStore).get(job.queue, id, false)
    if (item === undefined || item.name !== job.name) return Option.none()
    return Option.some(yield* attempt<A, DecodeError>(() => f(item, serializer)))
  })

/** All that is known of a job; none if it is not known, or forgotten. */
export const info = <P, S, Err, Pr>(
  job: Job<P, S, Err, Pr>,
  id: string
): Effect.Effect<Option.Option<Info<S, Err, Pr>>, DecodeError | EngineError, Client> =>
  asked(job, id, (item, serializer) => infoOf(job.spec, serializer, item))

/** The stored success; none while it is not there, or not any more. One that did not end well fails as it did. */
export const result = <P, S, Err, Pr>(
  job: Job<P, S, Err, Pr>,
  id: string
): Effect.Effect<Option.Option<S>, Err | JobFailed | DecodeError | EngineError, Client> =>
  Effect.flatMap(
    asked(job, id, (item, serializer) => endOf(job.spec, serializer, item)),
    (found): Effect.Effect<Option.Option<any>, any> => {
      const end = Option.getOrUndefined(found)
      return end === undefined ? Effect.succeedNone : Effect.map(end, Option.some)
    }
  )

/** What is known of it as it changes, until it is over: its state, and what its handler tells. */
export const changes = <P, S, Err, Pr>(
  job: Job<P, S, Err, Pr>,
  id: string
): Stream.Stream<Info<S, Err, Pr>, DecodeError | EngineError, Client> =>
  changesOf(job.spec, id).pipe(
    Stream.mapEffect((item) =>
      Effect.flatMap(Serializer, (serializer) =>
        attempt<Info<any, any, any>, DecodeError>(() => infoOf(job.spec, serializer, item))
      )
    )
  )

// ------------------------------------------------------------------------------------------------------------ changing

/** Remove it, or interrupt the fiber that runs it, wherever. False: it was over, or is not known. */
export const cancel = <P, S, Err, Pr>(
  job: Job<P, S, Err, Pr>,
  id: string
): Effect.Effect<boolean, EngineError, JobStore> =>
  Effect.flatMap(JobStore, (store) => store.cancel(job.queue, id, job.spec.resultTtl))

/** Make a delayed one ready now. False: it is not delayed. */
export const promote = <P, S, Err, Pr>(
  job: Job<P, S, Err, Pr>,
  id: string
): Effect.Effect<boolean, EngineError, JobStore> => Effect.flatMap(JobStore, (store) => store.promote(job.queue, id))
