/**
 * Run one processor over given events, without a worker of your own or an engine: what it emitted, enqueued and replied,
 * what its tables hold, which policies settled what. Under it works a private engine in memory, so everything behaves as
 * it does in production, commits included.
 */
import { Cause, type Context, Effect, Exit, Layer, Option, Stream } from "effect"
import type * as Agent from "../Agent.ts"
import { Broker, type Commit, type Entry } from "../Broker.ts"
import * as Engine from "../Engine.ts"
import type { AgentDefect, DecodeError, ProcessorHalted } from "../Errors.ts"
import type { Event } from "../Event.ts"
import { inboxHeaders } from "../internal/agent/address.ts"
import { answerOf, idOf } from "../internal/agent/asker.ts"
import type { Contract } from "../internal/agent/contract.ts"
import { codecOf } from "../internal/jobs/codecs.ts"
import { CurrentObserver } from "../internal/run/observer.ts"
import type { Job } from "../Job.ts"
import type { Settlement } from "../Policy.ts"
import type * as Processor from "../Processor.ts"
import { Serializer } from "../Serializer.ts"
import * as Table from "../Table.ts"
import * as Topic from "../Topic.ts"
import * as Worker from "../Worker.ts"

/** An event to feed: made from its topic, so its value is checked. */
export interface Input {
  readonly topic: Topic.Any
  readonly value: unknown
  readonly options: Topic.EmitOptions | undefined
  /** Somebody waits for the reply of this agent. @internal */
  readonly asked: Contract | undefined
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
  /** The payloads of the jobs that its units of work enqueued, in order per partition. */
  enqueued<P, S, Err, Pr>(job: Job<P, S, Err, Pr>): ReadonlyArray<P>
  /** What became of what was asked with `ask`, in the order of the requests; those that got no answer are left out. */
  replies<Req, Rep, Err>(
    agent: Agent.Agent<Req, Rep, Err>
  ): ReadonlyArray<Exit.Exit<Rep, Err | AgentDefect | DecodeError>>
  readonly settled: ReadonlyArray<Settled>
  readonly halted: Option.Option<ProcessorHalted<E>>
}

/** To an agent's own topic it is a cast. */
export const event = <A, K>(topic: Topic.Topic<A, K>, value: A, options?: Topic.EmitOptions): Input => ({
  topic,
  value,
  options,
  asked: undefined
})

/** A request that somebody waits for: its reply, or its failure, is among the `replies`. */
export const ask = <Req, Rep, Err>(
  agent: Agent.Agent<Req, Rep, Err> & Agent.Answers<Rep>,
  request: NoInfer<Req>,
  options?: Agent.SendOptions
): Input => ({ topic: agent.topic, value: request, options, asked: agent.contract })

/** Publish the events, run the processor until it has handled them all or halts, and collect what is committed. */
export const run = <E, R>(
  processor: Processor.Processor<E, R>,
  events: Iterable<Input>
): Effect.Effect<Result<E>, never, Exclude<R, Engine.Services>> =>
  Effect.gen(function* () {
    const settled: Array<Settled> = []
    const inputs = [...events]
    const committed: Committed = { topics: new Map(), jobs: [], replies: new Map() }
    const observer = {
      settled: (_: string, event: Event<unknown>, settlement: Settlement, cause: Cause.Cause<unknown>) => {
        settled.push({ offset: event.offset, value: event.value, policy: policies[settlement._tag], cause })
      }
    }
    const watched = Layer.effect(
      Broker,
      Effect.map(Broker, (broker) => watch(broker, committed))
    )
    const collected = Effect.gen(function* () {
      for (const [n, { asked, options, topic, value }] of inputs.entries()) {
        const headers = asked === undefined ? {} : { ...options?.headers, ...inboxHeaders(asker, String(n)) }
        yield* Topic.publish(topic, value, asked === undefined ? options : { ...options, headers })
      }
      const exit = yield* Effect.exit(handled(processor as Processor.Processor<any, never>))
      const emitted = new Map<string, ReadonlyArray<unknown>>()
      for (const topic of committed.topics.values()) {
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
      const serializer = yield* Serializer
      const replies: Array<readonly [agent: string, exit: Exit.Exit<unknown, unknown>]> = []
      for (const [n, { asked }] of inputs.entries()) {
        const entry = committed.replies.get(String(n))
        if (asked === undefined || entry === undefined) continue
        replies.push([asked.name, yield* Effect.exit(answerOf({ contract: asked, serializer }, entry))])
      }
      return { exit, emitted, tables, replies, serializer }
    }).pipe(
      Effect.provideService(CurrentObserver, observer),
      Effect.provide(watched.pipe(Layer.provideMerge(Layer.fresh(Engine.layerMemory))))
    )
    const { emitted, exit, replies, serializer, tables } = yield* Effect.orDie(collected) as Effect.Effect<
      Effect.Success<typeof collected>,
      never,
      Exclude<R, Engine.Services>
    >
    return {
      emitted: (topic) => (emitted.get(topic.name) ?? []) as never,
      table: (table) => {
        const rows = tables.get(table.name)
        if (rows === undefined) throw new Error(`processor ${processor.name} does not declare table ${table.name}`)
        return rows as never
      },
      enqueued: ({ name, queue, spec }) => {
        const own = committed.jobs.filter((staged) => staged.queue === queue && staged.job.name === name)
        const codec = codecOf(spec, "payload", serializer)
        return own.map(({ job }) => codec.decode(job.format, Buffer.from(job.payload), job.id)) as never
      },
      replies: ({ name }) => replies.flatMap(([agent, exit]) => (agent === name ? [exit] : [])) as never,
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

/** Who waits for the replies. Nobody reads an inbox: they are taken from the commits. */
const asker = "test"

/** What commits carried, beside what the engine tells later. */
interface Committed {
  /** Those that were emitted to. */
  readonly topics: Map<string, Topic.Any>
  readonly jobs: Array<NonNullable<Commit["jobs"]>[number]>
  /** By the number of the request. */
  readonly replies: Map<string, Entry>
}

/** Notes what is committed. */
const watch = (broker: Context.Service.Shape<typeof Broker>, committed: Committed) =>
  Broker.of({
    ...broker,
    commit: (commits: ReadonlyArray<Commit>, durability) =>
      Effect.tap(broker.commit(commits, durability), (results) =>
        Effect.sync(() => {
          for (const [at, { emits, jobs, replies }] of commits.entries()) {
            if (results[at]!._tag !== "Done") continue
            for (const { topic } of emits) committed.topics.set(topic.name, topic as Topic.Any)
            committed.jobs.push(...(jobs ?? []))
            for (const { entry } of replies ?? []) {
              const stored = { ...entry, id: "0-0", fields: entry.fields.map((field) => Buffer.from(field)) }
              committed.replies.set(idOf(stored)!, stored)
            }
          }
        })
      )
  })
