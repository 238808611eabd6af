/**
 * Runs a processor's code over the events of one partition until the partition is stopped or halts. Four shapes share
 * one bookkeeping (`Partition`) and one way to fail: one event at a time (the fast path: no fiber, no allocation beyond
 * the handler's own), lanes (several at once, by key or without order), batches, and free-form streams.
 */
import { Cause, Context, Deferred, Effect, Exit, Latch, Scope, Stream } from "effect"
import type { NonEmptyReadonlyArray } from "effect/Array"
import { type BetweenEvents, ProcessorHalted } from "../Errors.ts"
import { type Event, UnitOfWork } from "../Event.ts"
import type { Settlement } from "../Policy.ts"
import type { Definition, Wrap } from "./definition.ts"
import type { Book, Log } from "./log.ts"
import type { Observer } from "./observer.ts"
import type { Partition } from "./partition.ts"
import type { Received } from "./received.ts"
import { type Host, Unit } from "./unit.ts"

/** Counted per processor, for the worker's summary. */
export interface Counts {
  processed: number
  failed: number
  ignored: number
}

export interface Setup {
  readonly definition: Definition
  readonly partition: Partition
  readonly host: Host
  /** The services of the handler. */
  readonly context: Context.Context<never>
  readonly counts: Counts
  /** Completes when everything done so far is committed. */
  readonly flush: Effect.Effect<void>
  readonly observer: Observer | undefined
}

type Halted = ProcessorHalted<unknown>

/** Writes that may wait for a commit; at the bound the partition waits for it. */
const maxStaged = 2_500

/** A unit of work in waiting: its own unit and scope, in one context that is made once. */
class Lane {
  readonly unit: Unit
  readonly context: Context.Context<never>
  private readonly scope = Scope.makeUnsafe()
  private readonly empty = this.scope.state
  constructor(setup: Setup) {
    const { concurrency } = setup.definition
    this.unit = new Unit(setup.host, concurrency._tag === "PerKey")
    this.context = Context.add(
      Context.add(setup.context, UnitOfWork, this.unit),
      Scope.Scope,
      this.scope
    ) as Context.Context<never>
  }
  /** The handler opened something that must be closed before the next event. */
  get scoped(): boolean {
    return this.scope.state._tag !== "Empty"
  }
  readonly close = (exit: Exit.Exit<unknown, unknown>): Effect.Effect<void> => {
    if (!this.scoped) return Effect.void
    return Effect.ensuring(
      Scope.close(this.scope, exit),
      // A closed scope is as good as new: nothing refers to it any more.
      Effect.sync(() => {
        this.scope.state = this.empty
      })
    )
  }
}

const isEngineError = (error: unknown): boolean =>
  typeof error === "object" && error !== null && "_tag" in error && error._tag === "EngineError"

const infrastructure = (cause: Cause.Cause<unknown>): boolean =>
  cause.reasons.some((reason) => Cause.isFailReason(reason) && isEngineError(reason.error))

/** The first of these policies that takes the failure. */
const settlementOf = (
  wraps: ReadonlyArray<Wrap>,
  from: number,
  cause: Cause.Cause<unknown>,
  event: Event<unknown>
): Settlement | undefined => {
  for (let i = from; i < wraps.length; i++) {
    const wrap = wraps[i]!
    const settlement = wrap._tag === "Catch" ? wrap.settle(cause, event) : undefined
    if (settlement !== undefined) return settlement
  }
  return undefined
}

export const run = (setup: Setup): Effect.Effect<void, Halted> => {
  const { concurrency, middleware, shape } = setup.definition
  switch (shape._tag) {
    case "Each":
      if (concurrency._tag !== "One") return lanes(setup, shape.handler)
      if (shape.acknowledge === "before") return beforehand(setup, shape.handler)
      return middleware.length === 0
        ? sequential(setup, shape.handler)
        : streamed(setup, (events) =>
            Stream.runForEach(
              events,
              unitRunner(setup, ([event]) => shape.handler(event!.value, event!))
            )
          )
    case "Batch":
      return streamed(setup, (events) =>
        events.pipe(
          Stream.groupedWithin(shape.size, shape.within),
          Stream.runForEach((batch) =>
            // A batch that was only gathered belongs to the next owner.
            setup.partition.stopping
              ? Effect.void
              : unitRunner(setup, (events) =>
                  shape.handler(
                    events.map((event) => event.value),
                    events
                  )
                )(batch as never)
          )
        )
      )
    case "Stream":
      return streamed(setup, (events) => emitted(setup, shape.pipeline(events as never), shape.acknowledge))
  }
}

// ------------------------------------------------------------------------------------------------------- failing

const halt = (setup: Setup, offset: string, cause: Cause.Cause<unknown>): Halted =>
  new ProcessorHalted<unknown>({
    processor: setup.definition.name,
    partition: setup.partition.partition,
    offset,
    cause: cause as Cause.Cause<BetweenEvents>
  })

/** Acknowledge without effects: the reason stays visible. */
const ignored = (setup: Setup, event: Event<unknown>, cause: Cause.Cause<unknown>): Effect.Effect<void> => {
  setup.counts.ignored++
  setup.observer?.settled(setup.definition.name, event, { _tag: "Ignore" }, cause)
  return Effect.logDebug("ignored a failed event", cause).pipe(
    Effect.annotateLogs({ processor: setup.definition.name, partition: event.partition, offset: event.offset })
  )
}

/** After a failure: true if a policy settled it, false to try the same events again, or the processor halts. */
const failed = (
  setup: Setup,
  event: Event<unknown>,
  cause: Cause.Cause<unknown>,
  from: number
): Effect.Effect<boolean, Halted> => {
  // The engine is away or busy: no failure of the event, and no policy sees it.
  if (infrastructure(cause)) {
    return Effect.logWarning("an event waits for the engine", cause).pipe(
      Effect.annotateLogs({ processor: setup.definition.name, partition: event.partition, offset: event.offset }),
      Effect.andThen(Effect.sleep("1 second")),
      Effect.as(false)
    )
  }
  setup.counts.failed++
  const settlement = settlementOf(setup.definition.wraps, from, cause, event)
  if (settlement === undefined) return Effect.fail(halt(setup, event.offset, cause))
  return Effect.as(ignored(setup, event, cause), true)
}

/** The handler with what stands around it, up to the outermost `around`; the policies after it meet failures outside. */
const wrapped = (
  setup: Setup,
  handle: (events: ReadonlyArray<Received<unknown>>) => Effect.Effect<unknown, unknown>
): { readonly handle: typeof handle; readonly from: number } => {
  const { wraps } = setup.definition
  const from = wraps.findLastIndex((wrap) => wrap._tag === "Around") + 1
  if (from === 0) return { handle, from }
  return {
    from,
    handle: (events) => {
      const last = events[events.length - 1]!
      let effect = Effect.suspend(() => handle(events))
      for (const wrap of wraps.slice(0, from)) {
        effect =
          wrap._tag === "Around"
            ? wrap.f(Effect.asVoid(effect), events as never)
            : Effect.catchCause(effect, (cause) => {
                const settlement =
                  Cause.hasInterruptsOnly(cause) || infrastructure(cause) ? undefined : wrap.settle(cause, last)
                if (settlement === undefined) return Effect.failCause(cause)
                setup.counts.failed++
                return Effect.andThen(undoHandler, ignored(setup, last, cause))
              })
      }
      return effect
    }
  }
}

/** What a handler staged before a policy settled its failure. */
const undoHandler: Effect.Effect<void> = Effect.withFiber((fiber) => {
  ;(Context.getUnsafe(fiber.context, UnitOfWork) as unknown as Unit).undo()
  return Effect.void
})

// ------------------------------------------------------------------------------------------------- one at a time

/** The next events, or undefined once the partition is stopped. */
const next = (setup: Setup): Effect.Effect<Array<Received<unknown>> | undefined> => {
  const { partition } = setup
  const look: Effect.Effect<Array<Received<unknown>> | undefined> = Effect.suspend(() => {
    if (partition.stopping) return Effect.succeed(undefined)
    if (!partition.open) return Effect.flatMap(partition.reopening, () => look)
    if (partition.pressure.due) {
      return Effect.flatMap(Effect.raceFirst(partition.pressure.relief, partition.stops.await), () => look)
    }
    if (partition.staged >= maxStaged) return Effect.flatMap(setup.flush, () => look)
    const events = partition.take()
    return events.length > 0 ? Effect.succeed(events) : Effect.flatMap(partition.arrival.await, () => look)
  })
  return look
}

const sequential = (
  setup: Setup,
  handler: (value: any, event: any) => Effect.Effect<unknown, unknown>
): Effect.Effect<void, Halted> => {
  const { counts, partition } = setup
  const lane = new Lane(setup)
  const { unit } = lane
  const around = wrapped(setup, ([event]) =>
    event!.failure === undefined ? handler(event!.value, event!) : Effect.fail(event!.failure)
  )
  const direct = around.from === 0
  let events: Array<Received<unknown>> = []
  let i = 0

  const done = (): void => {
    if (unit.emits.length > 0) partition.emit(unit.emits)
    unit.settle()
    counts.processed++
    partition.done(events[i]!)
    i++
  }
  const each = Effect.whileLoop({
    while: () => i < events.length && partition.open && partition.staged < maxStaged && !lane.scoped,
    body: () => {
      const event = events[i]!
      unit.event = event
      if (direct && event.failure === undefined) return handler(event.value, event)
      return around.handle([event])
    },
    // A scope that the handler used is closed first, outside of the loop.
    step: () => {
      if (!lane.scoped) done()
    }
  })
  const rest: Effect.Effect<void, Halted> = Effect.suspend(() =>
    Effect.matchCauseEffect(each, {
      onSuccess: () => {
        if (lane.scoped) return Effect.andThen(Effect.map(lane.close(Exit.void), done), rest)
        if (i >= events.length || partition.stopping) return Effect.void
        return Effect.flatMap(partition.open ? setup.flush : partition.reopening, () => rest)
      },
      onFailure: (cause) => {
        const event = events[i]!
        return lane.close(Exit.failCause(cause)).pipe(
          Effect.andThen(
            Effect.suspend(() => {
              unit.undo()
              return failed(setup, event, cause, around.from)
            })
          ),
          Effect.flatMap((settled) => {
            if (settled) {
              partition.done(event)
              i++
            }
            return rest
          })
        )
      }
    })
  )
  const cycle: Effect.Effect<void, Halted> = Effect.flatMap(next(setup), (chunk) => {
    if (chunk === undefined) return Effect.void
    events = chunk
    i = 0
    return Effect.flatMap(rest, () => cycle)
  })
  // An interrupted handler's scope is closed by nobody else.
  return Effect.provideContext(Effect.onExit(cycle, lane.close), lane.context)
}

/** At most once: the offset is committed before the handler starts; what it stages is a commit after it. */
const beforehand = (
  setup: Setup,
  handler: (value: any, event: any) => Effect.Effect<unknown, unknown>
): Effect.Effect<void, Halted> => {
  const { partition } = setup
  const lane = new Lane(setup)
  const around = wrapped(setup, ([event]) =>
    event!.failure === undefined ? handler(event!.value, event!) : Effect.fail(event!.failure)
  )
  const one = (event: Received<unknown>): Effect.Effect<void, Halted> =>
    Effect.suspend(() => {
      partition.done(event)
      lane.unit.event = event
      return setup.flush
    }).pipe(
      // Refused by the engine: somebody else has it.
      Effect.andThen(Effect.suspend(() => (partition.fenced ? Effect.void : handled(event))))
    )
  const handled = (event: Received<unknown>): Effect.Effect<void, Halted> =>
    Effect.flatMap(Effect.exit(Effect.suspend(() => around.handle([event]))), (exit) =>
      Effect.andThen(
        lane.close(exit),
        Exit.isSuccess(exit)
          ? Effect.sync(() => {
              if (lane.unit.emits.length > 0) partition.emit(lane.unit.emits)
              lane.unit.settle()
              setup.counts.processed++
              partition.touched()
            })
          : Effect.suspend(() => {
              lane.unit.undo()
              return Effect.asVoid(failed(setup, event, exit.cause, around.from))
            })
      )
    )
  const cycle: Effect.Effect<void, Halted> = Effect.flatMap(next(setup), (events) => {
    if (events === undefined) return Effect.void
    let i = 0
    const each = Effect.whileLoop({
      while: () => i < events.length && partition.open,
      body: () => one(events[i++]!),
      step: () => {}
    })
    const rest: Effect.Effect<void, Halted> = Effect.flatMap(each, () =>
      i >= events.length || partition.stopping ? Effect.void : Effect.flatMap(partition.reopening, () => rest)
    )
    return Effect.flatMap(rest, () => cycle)
  })
  return Effect.provideContext(Effect.onExit(cycle, lane.close), lane.context)
}

// ---------------------------------------------------------------------------------------------- units out of order

/** Run some events as one unit of work in a lane, trying again while the engine is away; false if a policy settled it. */
const attempt = (
  setup: Setup,
  lane: Lane,
  events: ReadonlyArray<Received<unknown>>,
  handle: (events: ReadonlyArray<Received<unknown>>) => Effect.Effect<unknown, unknown>,
  from: number
): Effect.Effect<boolean, Halted> => {
  const last = events[events.length - 1]!
  const again: Effect.Effect<boolean, Halted> = Effect.suspend(() => {
    lane.unit.event = last
    // On exit, so that an interrupted handler's scope is closed too.
    const handled = Effect.onExit(
      Effect.suspend(() => handle(events)),
      lane.close
    )
    return Effect.flatMap(Effect.exit(handled), (exit) => {
      if (Exit.isSuccess(exit)) {
        setup.partition.stage(last.read as Received<unknown>, lane.unit.take())
        return Effect.succeed(true)
      }
      lane.unit.undo()
      return Effect.flatMap(failed(setup, last, exit.cause, from), (settled) =>
        settled ? Effect.succeed(false) : again
      )
    })
  })
  return again
}

/** For batches and streamed events: run them as one unit, then they are done. */
const unitRunner = (
  setup: Setup,
  handler: (events: ReadonlyArray<Received<unknown>>) => Effect.Effect<unknown, unknown>
): ((events: Received<unknown> | NonEmptyReadonlyArray<Received<unknown>>) => Effect.Effect<void, Halted>) => {
  const lane = new Lane(setup)
  const around = wrapped(setup, handler)
  return (given) => {
    const events = Array.isArray(given) ? (given as ReadonlyArray<Received<unknown>>) : [given as Received<unknown>]
    return Effect.provideContext(
      Effect.map(attempt(setup, lane, events, around.handle, around.from), (handled) => {
        if (handled) setup.counts.processed += events.length
        setup.partition.close(events.map((event) => event.read as Received<unknown>))
      }),
      lane.context
    )
  }
}

interface Slot {
  readonly lane: Lane
  readonly queue: Array<Received<unknown>>
  readonly work: Latch.Latch
  key: string | undefined
  busy: boolean
}

/** Several handlers at once: by key, each key in order, or without any order. */
const lanes = (
  setup: Setup,
  handler: (value: any, event: any) => Effect.Effect<unknown, unknown>
): Effect.Effect<void, Halted> => {
  const { concurrency } = setup.definition
  const { partition } = setup
  const count = concurrency._tag === "One" ? 1 : concurrency.lanes
  const around = wrapped(setup, ([event]) =>
    event!.failure === undefined ? handler(event!.value, event!) : Effect.fail(event!.failure)
  )
  const byKey = new Map<string, Slot>()
  const idle: Array<Slot> = []
  const free = Latch.makeUnsafe(true)
  const slots = Array.from(
    { length: count },
    (): Slot => ({
      lane: new Lane(setup),
      queue: [],
      work: Latch.makeUnsafe(false),
      key: undefined,
      busy: false
    })
  )
  idle.push(...slots)
  let ended = false

  const serve = (slot: Slot): Effect.Effect<void, Halted> => {
    const loop: Effect.Effect<void, Halted> = Effect.suspend(() => {
      if (!partition.stopping && !partition.open) return Effect.flatMap(partition.reopening, () => loop)
      const event = partition.stopping ? undefined : slot.queue.shift()
      if (event === undefined) {
        if (ended || partition.stopping) return Effect.void
        // Closed first: opening `free` runs who waits for it, who may give this very slot its next event.
        slot.work.closeUnsafe()
        if (slot.busy) {
          slot.busy = false
          if (slot.key !== undefined) byKey.delete(slot.key)
          idle.push(slot)
          free.openUnsafe()
        }
        return Effect.flatMap(slot.work.await, () => loop)
      }
      return Effect.flatMap(attempt(setup, slot.lane, [event], around.handle, around.from), (handled) => {
        if (handled) setup.counts.processed++
        partition.close([event])
        return loop
      })
    })
    return Effect.provideContext(loop, slot.lane.context)
  }

  const assign = (event: Received<unknown>): Effect.Effect<void> =>
    Effect.suspend(() => {
      if (partition.stopping) return Effect.void
      const key = concurrency._tag === "PerKey" ? event.key : undefined
      const slot = (key === undefined ? undefined : byKey.get(key)) ?? idle.pop()
      if (slot === undefined) {
        free.closeUnsafe()
        return Effect.flatMap(Effect.raceFirst(free.await, stopped(setup)), () => assign(event))
      }
      if (!slot.busy) {
        slot.busy = true
        slot.key = key
        if (key !== undefined) byKey.set(key, slot)
      }
      slot.queue.push(event)
      slot.work.openUnsafe()
      return Effect.void
    })

  const dispatch: Effect.Effect<void> = Effect.flatMap(next(setup), (events) => {
    if (events === undefined) {
      ended = true
      for (const slot of slots) slot.work.openUnsafe()
      return Effect.void
    }
    partition.register(events)
    return Effect.flatMap(Effect.forEach(events, assign, { discard: true }), () => dispatch)
  })

  return Effect.all([dispatch, ...slots.map(serve)], { concurrency: "unbounded", discard: true })
}

const stopped = (setup: Setup): Effect.Effect<void> =>
  Effect.suspend(() =>
    setup.partition.stopping ? Effect.void : Effect.flatMap(setup.partition.stops.await, () => Effect.void)
  )

// --------------------------------------------------------------------------------------------------------- streams

/** The partition's events as a stream through the middleware, into `consume`; halts that arise inside end it. */
const streamed = (
  setup: Setup,
  consume: (events: Stream.Stream<Received<unknown>, unknown>) => Effect.Effect<void, unknown>
): Effect.Effect<void, Halted> =>
  Effect.suspend(() => {
    const { definition, partition } = setup
    const halted = Deferred.makeUnsafe<never, Halted>()
    for (const log of partition.logs) (log.origin as Books).attach(setup, halted)
    let last: Received<unknown> | undefined
    /** An event that cannot be decoded and has no policy: the stream ends before it, and then it halts. */
    let undecodable: Halted | undefined
    const pull: Effect.Effect<NonEmptyReadonlyArray<Received<unknown>>, Cause.Done> = Effect.suspend(() =>
      undecodable === undefined ? Effect.flatMap(next(setup), given) : Cause.done()
    )
    const given = (events: Array<Received<unknown>> | undefined): typeof pull => {
      if (events === undefined) return Cause.done()
      partition.register(events)
      last = events[events.length - 1]!
      if (events.every((event) => event.failure === undefined)) return Effect.succeed(events as never)
      return Effect.flatMap(settleUndecodable(setup, events), ({ good, halt }) => {
        undecodable = halt
        return good.length > 0 ? Effect.succeed(good as never) : pull
      })
    }
    let events: Stream.Stream<Received<unknown>, unknown> = Stream.fromPull(Effect.succeed(pull))
    // The first in the pipe is the closest to the handler, so the last comes first.
    for (let i = definition.middleware.length - 1; i >= 0; i--)
      events = definition.middleware[i]!(events) as typeof events
    const position = (): string => last?.offset ?? partition.position
    const consumed = Effect.catchCause(consume(events), (cause) => {
      const known = Cause.findErrorOption(cause)
      return Effect.fail(
        known._tag === "Some" && known.value instanceof ProcessorHalted ? known.value : halt(setup, position(), cause)
      )
    })
    const ended = Effect.suspend(() =>
      partition.stopping
        ? Effect.void
        : Effect.fail(
            undecodable ??
              halt(
                setup,
                position(),
                Cause.die(new Error("the pipeline ended by itself; a processor's stream must not end"))
              )
          )
    )
    return Effect.raceFirst(Effect.andThen(consumed, ended), Deferred.await(halted)) as Effect.Effect<void, Halted>
  }).pipe(Effect.provideContext(setup.context))

/** Events that cannot be decoded meet their policy; the good ones go on, up to one that halts. */
const settleUndecodable = (
  setup: Setup,
  events: ReadonlyArray<Received<unknown>>
): Effect.Effect<{ readonly good: ReadonlyArray<Received<unknown>>; readonly halt: Halted | undefined }> =>
  Effect.gen(function* () {
    const good: Array<Received<unknown>> = []
    for (const event of events) {
      if (event.failure === undefined) {
        good.push(event)
        continue
      }
      const outcome = yield* Effect.exit(failed(setup, event, Cause.fail(event.failure), 0))
      if (Exit.isSuccess(outcome)) setup.partition.close([event])
      else {
        const reason = Cause.findErrorOption(outcome.cause)
        return { good, halt: reason._tag === "Some" ? reason.value : halt(setup, event.offset, outcome.cause) }
      }
    }
    return { good, halt: undefined }
  })

/** What a pipeline emits is done: alone, or in an array. */
const emitted = (
  setup: Setup,
  pipeline: Stream.Stream<Event<unknown> | ReadonlyArray<Event<unknown>>, unknown>,
  acknowledge: "emitted" | "upTo"
): Effect.Effect<void, unknown> =>
  Stream.runForEachArray(pipeline, (chunk) =>
    Effect.sync(() => {
      const { partition } = setup
      for (const item of chunk) {
        const events = (Array.isArray(item) ? item : [item]) as ReadonlyArray<Received<unknown>>
        if (acknowledge === "upTo") for (const event of events) partition.closeUpTo(event.read)
        else partition.close(events.map((event) => event.read))
        setup.counts.processed += events.length
      }
    })
  )

/** Keeps the books of streamed events: what a pipeline drops, and the units of work in it. */
export class Books implements Book {
  /** Set by the log itself: they refer to each other. */
  log!: Log
  private setup: Setup | undefined
  private halted: Deferred.Deferred<never, Halted> | undefined
  attach(setup: Setup, halted: Deferred.Deferred<never, Halted>): void {
    this.setup = setup
    this.halted = halted
  }
  drop(event: Event<unknown>): void {
    this.setup?.partition.close([(event as Received<unknown>).read])
  }
  unit<A, E, R>(
    events: ReadonlyArray<Event<unknown>>,
    effect: Effect.Effect<A, E, R>
  ): Effect.Effect<A | undefined, E, Exclude<R, UnitOfWork | Scope.Scope>> {
    const { halted, setup } = this
    if (setup === undefined || halted === undefined) {
      throw new Error(
        "Event.mapEffect and mapBatch work on the events of Processor.stream, not on those of Topic.stream"
      )
    }
    const own = events as ReadonlyArray<Received<unknown>>
    return Effect.suspend(() => {
      const lane = new Lane(setup)
      let result: A | undefined
      const around = wrapped(setup, () =>
        Effect.map(effect as Effect.Effect<A, E>, (value) => {
          result = value
        })
      )
      const unit = Effect.provideContext(attempt(setup, lane, own, around.handle, around.from), lane.context)
      return Effect.matchCauseEffect(unit, {
        onSuccess: (kept) => {
          if (!kept) setup.partition.close(own.map((event) => event.read))
          return Effect.succeed(kept ? result : undefined)
        },
        // It halts with its own offset; the pipeline only waits for the end.
        onFailure: (cause) => {
          const reason = Cause.findErrorOption(cause)
          return reason._tag === "Some"
            ? Effect.andThen(Deferred.fail(halted, reason.value), Effect.never)
            : Effect.failCause(cause as Cause.Cause<never>)
        }
      })
    }) as Effect.Effect<A | undefined, E, Exclude<R, UnitOfWork | Scope.Scope>>
  }
}
