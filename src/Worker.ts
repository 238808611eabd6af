/**
 * Runs parts: joins their groups, keeps a lease, and works on the partitions it is granted. Interruption is the graceful
 * stop: stop reading, finish what runs within the grace, commit, leave. `NodeRuntime.runMain` turns SIGTERM and SIGINT
 * into interruption; give it `{ teardown: Worker.teardown }` to exit with 0 after a clean stop (its default is 130).
 */

import { randomUUID } from "node:crypto"
import {
  Cause,
  Clock,
  Context,
  Deferred,
  type Duration,
  Effect,
  Exit,
  Fiber,
  Layer,
  PubSub,
  type Runtime,
  Scope,
  Stream
} from "effect"
import { Broker, type Durability } from "./Broker.ts"
import { Coordinator, leaderGroup } from "./Coordinator.ts"
import type * as Engine from "./Engine.ts"
import type { EngineError, MemberReplaced, Misconfigured, ProcessorHalted } from "./Errors.ts"
import * as Reporting from "./internal/admin/reporting.ts"
import { unled } from "./internal/admin/unled.ts"
import * as Crew from "./internal/jobs/crew.ts"
import { checkCount, checkName } from "./internal/names.ts"
import { declare } from "./internal/run/declaring.ts"
import { isProcessing } from "./internal/run/definition.ts"
import * as Group from "./internal/run/group.ts"
import * as Health from "./internal/run/health.ts"
import { Lease } from "./internal/run/lease.ts"
import { Limit } from "./internal/run/limit.ts"
import { memberOf } from "./internal/run/member.ts"
import * as Ownership from "./internal/run/ownership.ts"
import { attempt, select } from "./internal/run/selecting.ts"
import { servicesIn } from "./internal/run/services.ts"
import * as Signals from "./internal/run/signals.ts"
import { Turns } from "./internal/run/turns.ts"
import { serveWeb } from "./internal/run/web.ts"
import { isSchedule } from "./internal/schedule/definition.ts"
import * as Schedules from "./internal/schedule/schedules.ts"
import { placeOf } from "./internal/telemetry/annotating.ts"
import { collecting } from "./internal/telemetry/collecting.ts"
import { metered } from "./internal/telemetry/handover.ts"
import { traceable } from "./internal/telemetry/tracing.ts"
import { JobStore } from "./JobStore.ts"
import type * as Part from "./Part.ts"
import { Serializer } from "./Serializer.ts"
import * as Settings from "./Settings.ts"
import type * as Table from "./Table.ts"
import { TableStore } from "./TableStore.ts"
import type { Options as WebOptions } from "./web/Web.ts"

/** What one part did. */
export interface Counts {
  readonly processed: number
  /** Failures of handlers, those that a policy settled included. */
  readonly failed: number
  /** Events that were tried again after a failure, by `Processor.retry` or out of a split batch; once for each try. */
  readonly retried: number
  /** Events that `Policy.ignore` acknowledged. */
  readonly ignored: number
  /** Events that `Policy.deadLetter` acknowledged. */
  readonly deadLettered: number
  /** Events that `Policy.park` set aside, and those that came behind them. */
  readonly parked: number
  /** Partitions that `Policy.quarantine` put aside, or a crash loop. */
  readonly quarantined: number
}

const nothing: Counts = { processed: 0, failed: 0, retried: 0, ignored: 0, deadLettered: 0, parked: 0, quarantined: 0 }

export interface Summary {
  readonly parts: Readonly<Record<string, Counts>>
  /** How often, after the start, partitions came or went; `Metrics.handovers` counts the partitions. */
  readonly rebalances: number
}

export type Change = Ownership.Change

export interface Options {
  /** How long running handlers may take to finish at a hand-over or shutdown; default 25 seconds. */
  readonly grace?: Duration.Input | undefined
  /** How long this worker keeps its partitions when it says nothing; default 10 seconds. */
  readonly lease?: Duration.Input | undefined
  /** How long membership must be quiet before partitions are dealt out; default 50 milliseconds. */
  readonly settle?: Duration.Input | undefined
  /** How many events, batches and jobs are handled in a span of their own (see `Settings`); default none. */
  readonly tracing?: { readonly sample?: number | undefined } | undefined
  /** Job handlers: how many jobs run at a time, of all kinds together; default 100. */
  readonly jobs?: { readonly concurrency?: number | undefined } | undefined
  /** End after so many events and runs of jobs, exactly. */
  readonly limit?: number | undefined
  /** A stable name: restarted within the lease, it takes its partitions back without a move. */
  readonly member?: string | undefined
  /** Run only these processors. */
  readonly processors?: ReadonlyArray<string> | undefined
  /**
   * Store the topics (those for dead letters too) of the parts where they are not there yet; default true. With false,
   * topics and queues that are not there fail the start with `Misconfigured`, which names them, and nothing is stored.
   */
  readonly declare?: boolean | undefined
  /**
   * Handle signals: SIGTERM and SIGINT drain, a second one or SIGQUIT ends the process at once (130, 143, 131; nothing is
   * lost), SIGUSR1 prints what every part is doing to stderr. Default: none; interruption drains.
   */
  readonly signals?: boolean | undefined
  /**
   * Serve health, metrics, the API and the page over HTTP; `{}` on 127.0.0.1, port 6066. Default: no port is opened. See
   * `millrace/web`.
   */
  readonly web?: WebOptions | undefined
  /** How safe a commit, or what settles a job, must be. */
  readonly durability?: Durability | undefined
}

type Parts = ReadonlyArray<Part.Any>

/**
 * Names the tables that a part uses and does not declare, or writes without an order. Checked here, and not where the
 * handler is given, so that functions around `make` may be generic in `R`.
 */
export type Declared<R> = [Extract<R, Table.Reads<any> | Table.Writes<any>>] extends [never]
  ? unknown
  : { readonly "declare in `tables`, and keep an order": Extract<R, Table.Reads<any> | Table.Writes<any>> }

/** Why a worker ends before it is told to. */
export type Failure<E> = ProcessorHalted<E> | EngineError | MemberReplaced | Misconfigured

/** The running worker as a service; `E` is what can still halt it. */
export interface Worker<in E> {
  readonly "~millrace/Worker": (_: E) => void
}

interface Handle {
  readonly join: Effect.Effect<Summary, Failure<unknown>>
  readonly stop: Effect.Effect<Summary, Failure<unknown>>
  readonly idle: Effect.Effect<void, Failure<unknown>>
  readonly changes: Stream.Stream<Change>
  readonly health: Health.Health
}

// A service per program, whatever can halt its worker: the error type is checked where the layer is made.
const Running = Context.Service<Worker<unknown>, Handle>("millrace/Worker")

const settingsOf = (options: Options): Effect.Effect<Settings.Settings, Misconfigured> =>
  Effect.flatMap(Settings.current, (settings) =>
    attempt(() => {
      if (options.limit !== undefined) checkCount("limit", options.limit)
      if (options.member !== undefined) checkName("member", options.member)
      if (options.jobs?.concurrency !== undefined) checkCount("jobs.concurrency", options.jobs.concurrency, 1, 10_000)
      const { grace, lease, settle, tracing } = options
      return Settings.override(settings, { grace, lease, settle, tracing }, "Worker.run")
    })
  )

/** How often `idle` asks the engine again when nothing moves here. */
const otherWorkersMillis = 250

interface Started extends Handle {
  readonly member: string
  readonly drain: Effect.Effect<void>
  readonly ready: Effect.Effect<void>
  readonly end: Effect.Effect<void, Failure<unknown>>
  readonly summary: Effect.Effect<Summary>
}

// In a scope of its own, which closes after the drain that is the caller's finalizer, whatever was forked last.
const start = (given: Parts, options: Options) =>
  Effect.flatMap(Effect.flatMap(Effect.scope, Scope.fork), (scope) => {
    const incarnation = randomUUID()
    const member = memberOf(options.member, incarnation)
    const started = Scope.provide(startIn(given, options, member, incarnation), scope)
    return Effect.annotateLogs(started, { member })
  })

const startIn = (given: Parts, options: Options, member: string, incarnation: string) =>
  Effect.gen(function* () {
    const settings = yield* settingsOf(options)
    const selected = yield* select(given, options.processors)
    const parts = selected.filter(isProcessing)
    const scope = yield* Effect.scope
    const outer = (yield* Effect.context<never>()).pipe(Context.omit(Scope.Scope)) as Context.Context<never>
    const context = traceable(outer, settings.tracing.sample)
    const broker = yield* Broker
    const coordinator = yield* Coordinator
    const counts = new Map(selected.map((part) => [part.name, { ...nothing }]))
    const end = yield* Deferred.make<void, Failure<unknown>>()
    const changes = yield* PubSub.unbounded<Change>()
    const limit = options.limit === undefined ? undefined : new Limit(options.limit)
    const lease = new Lease(yield* Clock.Clock)
    const turns = new Turns()
    let progress: Array<() => void> = []
    const groups = new Map<string, Group.Group>()

    let crew: Crew.Crew | undefined
    const quiet = (): boolean =>
      Array.from(groups.values()).every((group) => group.quiet()) && crew?.quiet() !== false && schedules.quiet()
    // What was read ahead beyond the limit is not handed out, so it does not count.
    const settled = (): boolean =>
      Array.from(groups.values()).every((group) => group.settled()) && crew?.quiet() !== false
    const moved = (): void => {
      const waiting = progress
      progress = []
      for (const look of waiting) look()
      turns.look()
      if (limit?.isReached && settled()) Deferred.doneUnsafe(end, Exit.void)
    }
    const nextMove = Effect.callback<void>((resume) => {
      progress.push(() => resume(Effect.void))
    })

    let ownership: Ownership.Ownership | undefined
    const servicesOf = servicesIn(context)
    const schedules = yield* Schedules.make({
      schedules: yield* Schedules.ofParts(selected, servicesOf, counts),
      coordinator,
      lease,
      timezone: settings.timezone,
      onFailure: (failure) => Deferred.doneUnsafe(end, Exit.fail(failure)),
      onFenced: (epoch) => ownership?.lost(leaderGroup, 0, epoch, undefined),
      onProgress: moved
    })
    for (const part of parts) {
      const services = yield* servicesOf(part)
      const group = yield* Group.make({
        definition: part.definition,
        broker,
        tables: yield* TableStore,
        serializer: yield* Serializer,
        settings,
        durability: options.durability ?? "memory",
        limit,
        lease,
        turns,
        counts: counts.get(part.name)!,
        incarnation,
        context: services,
        onFailure: (failure) => Deferred.doneUnsafe(end, Exit.fail(failure)),
        onLost: (partition, epoch, inForce) => ownership?.lost(part.name, partition, epoch, inForce),
        onQuarantine: (partition, epoch, entry) => ownership?.quarantine(part.name, partition, epoch, entry),
        onProgress: moved
      }).pipe(Effect.annotateLogs(placeOf(part.definition, undefined)))
      groups.set(part.name, metered(group, services))
    }
    const queues = Array.from(new Set(selected.flatMap((part) => part.job?.spec.queue ?? [])))
    yield* collecting({ context, broker, coordinator, store: yield* JobStore, groups: [...groups.values()], queues })

    yield* declare(selected, options.declare ?? true)
    const owners = new Map<string, Ownership.Owner>(groups)
    if (schedules.leaders !== undefined) owners.set(leaderGroup, schedules.leaders)
    ownership = yield* Ownership.make({
      coordinator,
      member,
      incarnation,
      lease,
      leaseMillis: settings.lease,
      settle: settings.settle,
      grace: settings.grace,
      groups: owners,
      onChange: (change) => {
        // Who leads is told by `Scheduler.leadership`.
        if (!("processor" in change) || change.processor !== leaderGroup) PubSub.publishUnsafe(changes, change)
        reporting.changed()
        moved()
      }
    })
    const reporting = yield* Reporting.make({
      coordinator,
      member,
      parts: selected.map((part) => ({
        name: part.name,
        queue: part.job?.spec.queue,
        kind: Reporting.kindOf(part),
        counts: counts.get(part.name)!
      })),
      partitions: (now) => Array.from(groups.values(), (group) => group.doing(now)).flat(),
      jobs: (now) => crew?.doing(now) ?? [],
      schedules: schedules.doing,
      rebalances: () => ownership?.rebalances() ?? 0
    })
    if (owners.size > 0) {
      yield* Effect.forkIn(
        Effect.catchCause(ownership.run, (cause) => Effect.sync(() => Deferred.doneUnsafe(end, Exit.failCause(cause)))),
        scope
      )
      const slow = Array.from(groups.values(), (group) => group.slowAfter)
      // A report tells for how long an event has been in hand as exactly as this looks.
      const look = options.signals ? 1_000 : Math.max(1_000, Math.min(60_000, ...slow.map((millis) => millis / 5)))
      yield* Effect.forkIn(
        Effect.forever(
          Effect.andThen(
            Effect.sleep(look),
            Effect.forEach(Array.from(groups.values()), (group) => group.watch, { discard: true })
          )
        ),
        scope
      )
    } else if (selected.length === 0) Deferred.doneUnsafe(end, Exit.void)

    // Jobs, and schedules of one's own, need no lease of the coordinator.
    const joined = owners.size === 0 ? Effect.void : ownership.joined
    const ready = yield* Deferred.make<void>()
    const health = Health.watch(ready, end)
    if (options.web !== undefined) yield* serveWeb(options.web, health)
    yield* Effect.forkIn(
      Effect.ensuring(Effect.andThen(joined, schedules.start), Deferred.succeed(ready, undefined)),
      scope
    )

    if (selected.some((part) => part.job !== undefined)) {
      crew = yield* Crew.make({
        store: yield* JobStore,
        serializer: yield* Serializer,
        clock: yield* Clock.Clock,
        posts: yield* Crew.postsOf(selected, servicesOf, counts),
        worker: member,
        concurrency: options.jobs?.concurrency ?? 100,
        lease: settings.lease,
        grace: settings.grace,
        limit,
        durability: options.durability ?? "memory",
        onProgress: moved
      })
      yield* Effect.forkIn(
        Effect.catchCause(crew.run, (cause) => Effect.sync(() => Deferred.doneUnsafe(end, Exit.failCause(cause)))),
        scope
      )
    }

    const led = selected.filter(isSchedule).flatMap(({ definition, name }) => (definition.onLeader ? [name] : []))
    if (led.length > 0) yield* Effect.forkIn(Effect.andThen(joined, unled(coordinator, member, led)), scope)

    // What is of nobody else's interest is not told: a worker with nothing but schedules of its own asks the engine nothing.
    const reports = owners.size > 0 || crew !== undefined
    if (reports) yield* Effect.forkIn(Effect.andThen(joined, reporting.run), scope)

    if (options.signals) {
      const clock = yield* Clock.Clock
      yield* Signals.install({
        drain: () => Deferred.doneUnsafe(end, Exit.void),
        report: () => {
          const now = clock.currentTimeMillisUnsafe()
          const reports = Array.from(groups.values(), (group) => group.report(now))
          return [...reports, crew?.report(now) ?? [], schedules.report(now)].flat().join("\n")
        }
      }).pipe(Scope.provide(scope))
    }

    const stopped = schedules.stop(settings.grace)
    const said = Effect.annotateLogs({ member })
    const leave = owners.size === 0 ? Effect.void : ownership.leave
    const drain = yield* Effect.cached(
      said(
        Effect.gen(function* () {
          health.stop()
          yield* Effect.all([leave, crew?.drain ?? Effect.void, stopped], { concurrency: 3, discard: true })
          if (reports) yield* reporting.end
        })
      )
    )
    const summary = Effect.sync(
      (): Summary => ({
        parts: Object.fromEntries(Array.from(counts, ([name, count]) => [name, { ...count }])),
        rebalances: ownership.rebalances()
      })
    )
    // A halt drains too: the other partitions finish what they have in hand, and the lease is given back.
    const join: Handle["join"] = Effect.flatMap(Effect.exit(Deferred.await(end)), (exit) =>
      Effect.andThen(drain, Exit.isSuccess(exit) ? summary : Effect.failCause(exit.cause))
    )
    /** What is put aside is nobody's to finish until it is released. */
    const isBehind = Effect.fnUntraced(function* (name: string) {
      const late = (yield* broker.lag(name)).filter((lag) => lag.events > 0)
      if (late.length === 0) return false
      const { quarantined } = yield* coordinator.group(name)
      return late.some((lag) => !quarantined.includes(lag.partition))
    })
    const behind = Effect.map(
      Effect.all([Effect.forEach(parts, (part) => isBehind(part.name)), crew?.behind ?? Effect.succeed(false)]),
      ([each, jobs]) => each.includes(true) || jobs
    )
    const idle: Handle["idle"] = Effect.gen(function* () {
      yield* Effect.raceFirst(Deferred.await(ready), Deferred.await(end))
      while (true) {
        const moves = yield* Effect.forkChild(nextMove, { startImmediately: true })
        if (yield* Deferred.isDone(end)) return yield* Deferred.await(end)
        if (quiet() && !(yield* behind) && quiet()) return
        // What other workers commit is not seen here: look again now and then.
        const moved = Effect.timeoutOption(Fiber.join(moves), otherWorkersMillis)
        yield* Effect.raceFirst(Effect.asVoid(moved), Deferred.await(end))
      }
    })
    const started: Started = {
      member,
      join,
      stop: Effect.andThen(
        Effect.sync(() => Deferred.doneUnsafe(end, Exit.void)),
        join
      ),
      idle,
      changes: Stream.fromPubSub(changes),
      health,
      drain,
      ready: Effect.raceFirst(Deferred.await(ready), Effect.ignore(Deferred.await(end))),
      end: Deferred.await(end),
      summary
    }
    return started
  })

/** Run parts until interrupted, halted, or `limit`. Interruption stops reading, finishes, commits and leaves. */
export const run = <const P extends Parts>(
  parts: P & Declared<Part.Services<P[number]>>,
  options: Options = {}
): Effect.Effect<Summary, Failure<Part.Error<P[number]>>, Part.Services<P[number]> | Engine.Services> =>
  Effect.scoped(
    Effect.gen(function* () {
      const worker = yield* start(parts, options)
      yield* Effect.onExit(worker.end, () => worker.drain)
      return yield* worker.summary
    })
  ) as Effect.Effect<any, any, any>

/** Run parts in the background for as long as the layer lives; ready once the groups are joined. */
export const layer = <const P extends Parts>(
  parts: P & Declared<Part.Services<P[number]>>,
  options: Options = {}
): Layer.Layer<
  Worker<Part.Error<P[number]>>,
  EngineError | Misconfigured,
  Part.Services<P[number]> | Engine.Services
> =>
  Layer.effectContext(
    Effect.gen(function* () {
      const worker = yield* start(parts, options)
      yield* Effect.addFinalizer(() => worker.drain)
      // No background fiber can fail a layer: what halts the worker is met by `launch`, `join`, and in the log.
      yield* Effect.forkScoped(
        Effect.catchCause(worker.join, (cause) =>
          Cause.hasInterruptsOnly(cause)
            ? Effect.void
            : Effect.annotateLogs(Effect.logFatal("the worker ended", cause), { member: worker.member })
        )
      )
      yield* worker.ready
      return Context.add(Context.make(Running, worker), Health.CurrentHealth, worker.health)
    })
  ) as Layer.Layer<any, any, any>

/** `Layer.launch` for layers with a worker in them: ends when the worker does, fails with what halted it. */
export const launch = <A, E, R>(
  self: Layer.Layer<A, E, R> &
    ([Extract<A, Worker<never>>] extends [never] ? { readonly "no worker in this layer": never } : unknown)
): Effect.Effect<Summary, E | (A extends Worker<infer H> ? Failure<H> : never), R> =>
  Effect.provide(join, self as Layer.Layer<any, any, any>) as Effect.Effect<any, any, any>

/** Wait for the end of the worker of this program. */
export const join: Effect.Effect<Summary, Failure<unknown>, Worker<unknown>> = Running.use((worker) => worker.join)

/** Drain and end it. */
export const stop: Effect.Effect<Summary, Failure<unknown>, Worker<unknown>> = Running.use((worker) => worker.stop)

/** Wait until nothing is left to read and all is committed: for tests and batch programs. */
export const idle: Effect.Effect<void, Failure<unknown>, Worker<unknown>> = Running.use((worker) => worker.idle)

/** Members and ownership as they change. */
export const changes: Stream.Stream<Change, never, Worker<unknown>> = Stream.unwrap(
  Running.useSync((worker) => worker.changes)
)

/** For `NodeRuntime.runMain(worker, { teardown: Worker.teardown })`: a drained worker exits with 0, not 130. */
export const teardown: Runtime.Teardown = (exit, onExit) =>
  onExit(Exit.isSuccess(exit) || Cause.hasInterruptsOnly(exit.cause) ? 0 : 1)
