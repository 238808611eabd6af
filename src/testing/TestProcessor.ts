/**
 * Run one processor over given events, without a worker of your own or an engine: what it emitted, what its tables
 * hold, which policies settled what. Under it works a private engine in memory, so everything behaves as it does in
 * production, commits included.
 */
import { Cause, type Context, Effect, Exit, Layer, Option, Stream } from "effect"
import { Broker, type Commit } from "../Broker.ts"
import * as Engine from "../Engine.ts"
import type { ProcessorHalted } from "../Errors.ts"
import type { Event } from "../Event.ts"
import { CurrentObserver } from "../internal/run/observer.ts"
import type { Settlement } from "../Policy.ts"
import type * as Processor from "../Processor.ts"
import * as Table from "../Table.ts"
import * as Topic from "../Topic.ts"
import * as Worker from "../Worker.ts"

/** An event to feed: made from its topic, so its value is checked. */
export interface Input {
  readonly topic: Topic.Any
  readonly value: unknown
  readonly options: Topic.EmitOptions | undefined
}

export interface Settled {
  readonly offset: string
  readonly value: unknown
  readonly policy: "ignore" | "deadLetter" | "quarantine" | "park"
  readonly cause: Cause.Cause<unknown>
}

/** Names of policies, as results tell them. @internal */
export const policies = {
  Ignore: "ignore",
  DeadLetter: "deadLetter",
  Quarantine: "quarantine",
  Park: "park"
} as const satisfies Record<Settlement["_tag"], Settled["policy"]>

export interface Result<out E> {
  /** What the processor emitted to this topic, in order per partition. */
  emitted<A, K>(topic: Topic.Topic<A, K>): ReadonlyArray<A>
  /** The rows of a table, of all partitions. */
  table<Name extends string, K, V>(table: Table.State<Name, K, V>): ReadonlyMap<K, V>
  readonly settled: ReadonlyArray<Settled>
  readonly halted: Option.Option<ProcessorHalted<E>>
}

export const event = <A, K>(topic: Topic.Topic<A, K>, value: A, options?: Topic.EmitOptions): Input => ({
  topic,
  value,
  options
})

/** Publish the events, run the processor until it has handled them all or halts, and collect what is committed. */
export const run = <E, R>(
  processor: Processor.Processor<E, R>,
  events: Iterable<Input>
): Effect.Effect<Result<E>, never, R> =>
  Effect.gen(function* () {
    const settled: Array<Settled> = []
    const targets = new Map<string, Topic.Any>()
    const observer = {
      settled: (_: string, event: Event<unknown>, settlement: Settlement, cause: Cause.Cause<unknown>) => {
        settled.push({ offset: event.offset, value: event.value, policy: policies[settlement._tag], cause })
      }
    }
    const watched = Layer.effect(
      Broker,
      Effect.map(Broker, (broker) => watch(broker, targets))
    )
    const collected = Effect.gen(function* () {
      for (const { options, topic, value } of events) yield* Topic.publish(topic, value, options)
      const exit = yield* Effect.exit(handled(processor as Processor.Processor<any, never>))
      const emitted = new Map<string, ReadonlyArray<unknown>>()
      for (const topic of targets.values()) {
        const stored = Stream.map(Topic.stream(topic, { until: "now" }), (event) => event.value)
        emitted.set(topic.name, yield* Stream.runCollect(stored))
      }
      const tables = new Map<string, ReadonlyMap<unknown, unknown>>()
      for (const table of processor.definition.tables) {
        // What a join holds is no business of a test.
        if (table.definition.holding !== undefined) continue
        tables.set(
          table.name,
          new Map(yield* Stream.runCollect(Table.entries(table as Table.State<string, unknown, unknown>)))
        )
      }
      return { exit, emitted, tables }
    }).pipe(
      Effect.provideService(CurrentObserver, observer),
      Effect.provide(watched.pipe(Layer.provideMerge(Layer.fresh(Engine.layerMemory))))
    )
    const { emitted, exit, tables } = yield* Effect.orDie(collected) as Effect.Effect<
      Effect.Success<typeof collected>,
      never,
      R
    >
    return {
      emitted: (topic) => (emitted.get(topic.name) ?? []) as never,
      table: (table) => {
        const rows = tables.get(table.name)
        if (rows === undefined) throw new Error(`processor ${processor.name} does not declare table ${table.name}`)
        return rows as never
      },
      settled,
      halted: Exit.isSuccess(exit) ? Option.none() : halt(exit.cause)
    }
  })

// What it requires is in the environment of `run`.
const handled = (processor: Processor.Processor<any, never>) =>
  Effect.raceFirst(Worker.idle, Worker.join).pipe(
    Effect.andThen(Worker.stop),
    Effect.provide(Worker.layer([processor]))
  )

/** A halt is a result; anything else that ends a worker here is a mistake of the test. */
const halt = (cause: Cause.Cause<unknown>): Option.Option<ProcessorHalted<any>> => {
  const error = Option.getOrThrowWith(Cause.findErrorOption(cause), () => Cause.squash(cause))
  if ((error as { readonly _tag?: string })._tag === "ProcessorHalted")
    return Option.some(error as ProcessorHalted<any>)
  throw error
}

/** Notes which topics are emitted to. */
const watch = (broker: Context.Service.Shape<typeof Broker>, targets: Map<string, Topic.Any>) =>
  Broker.of({
    ...broker,
    commit: (commits: ReadonlyArray<Commit>, durability) => {
      for (const { emits } of commits) for (const { topic } of emits) targets.set(topic.name, topic as Topic.Any)
      return broker.commit(commits, durability)
    }
  })
