/**
 * An address that answers: a contract (name, request, reply, error) that clients import without the code behind it, and a
 * handler, which is a processor that a worker runs. Cast to it, or ask it and wait for the reply, from any process that
 * reaches the engine, whether it runs a worker or not.
 *
 * The reply travels in the commit of its request, so who has it knows that the effects are durable. A failure is a reply
 * too, where somebody waits for one: the asker gets the handler's own typed error, or `AgentDefect`. Without anybody who
 * waits it goes to the handler's policies, like that of any processor.
 */
import { Context, Duration, Effect, Option, Queue, type Schema, type Scope, Stream } from "effect"
import { dual } from "effect/Function"
import { type Pipeable, pipeArguments } from "effect/Pipeable"
import type { NoInfer } from "effect/Types"
import { Broker } from "./Broker.ts"
import {
  type AgentDefect,
  AgentTimeout,
  AskCycle,
  type DecodeError,
  EncodeError,
  type EngineError,
  type TopicFull
} from "./Errors.ts"
import { type Event, TypeId as EventTypeId, type Excess, UnitOfWork } from "./Event.ts"
import { agentHeaders, inboxHeaders, topicHeaders } from "./internal/agent/address.ts"
import { answer, answersFailures } from "./internal/agent/answering.ts"
import { askerOf, serializerOf } from "./internal/agent/asker.ts"
import * as Contract from "./internal/agent/contract.ts"
import { checkName, invalid } from "./internal/names.ts"
import { CurrentMiddleware } from "./internal/publish/middleware.ts"
import { encodeFailure, publish, senderOf } from "./internal/publish/publisher.ts"
import { Received } from "./internal/record/received.ts"
import type { Encoded } from "./internal/record/record.ts"
import type { Definition } from "./internal/run/definition.ts"
import { stage, unitOf } from "./internal/run/unit.ts"
import { sensed, senseOf } from "./internal/telemetry/sensing.ts"
import { traced } from "./internal/telemetry/tracing.ts"
import * as Processor from "./Processor.ts"
import type * as Table from "./Table.ts"
import * as Topic from "./Topic.ts"

const TypeId = "~millrace/Agent"

type Codec = Schema.ConstraintCodec<any, any>

/** An address with a contract; knows nothing of the code that answers. `Rep` is `never` if it does not reply. */
export interface Agent<in out Req, in out Rep, in out Err> extends Pipeable {
  readonly [TypeId]: {
    readonly _Req: (_: Req) => Req
    readonly _Rep: (_: Rep) => Rep
    readonly _Err: (_: Err) => Err
  }
  readonly name: string
  /** Where its requests are stored; events that anybody publishes there count as casts. */
  readonly topic: Topic.Topic<Req>
  /** @internal */
  readonly contract: Contract.Contract
}

/** The part that answers; a processor, so every policy applies to casts (asks are answered with the failure). */
export interface Handler<in out Rep, out E, out R> extends Processor.Processor<E, R> {
  readonly "~millrace/Handler": (_: Rep) => Rep
  /** @internal The same with one more sink. */
  readonly sinking: (target: unknown) => Handler<any, any, any>
}

export interface HandlerOptions<Tables, C> extends Processor.Settings<Tables> {
  readonly concurrency?: C | undefined
}

/** What a sink may be, beside a function. */
export type Target<Rep> = Stored<Rep> | Queue.Enqueue<Rep>
/** A topic, or an agent, whatever that replies itself. */
export type Stored<Rep> = Topic.Topic<Rep, any> | { readonly name: string; readonly topic: Topic.Topic<Rep, any> }

/** What casting and asking need: no worker. */
export type Client = Topic.Client
export type SendError = EncodeError | TopicFull | EngineError
export type AskError = SendError | AgentTimeout | AgentDefect | AskCycle | DecodeError

/** An agent without a reply cannot be asked, and has no sinks. */
export type Answers<Rep> = [Rep] extends [never] ? { readonly "this agent has no reply": never } : unknown

export interface SendOptions {
  readonly key?: Topic.Key | undefined
  readonly partition?: number | undefined
  readonly headers?: Readonly<Record<string, string>> | undefined
}

export interface AskOptions extends SendOptions {
  /** How long to wait for the reply; default 30 seconds. */
  readonly timeout?: Duration.Input | undefined
}

const Proto = {
  [TypeId]: { _Req: (_: unknown) => _, _Rep: (_: unknown) => _, _Err: (_: unknown) => _ },
  pipe() {
    return pipeArguments(this, arguments)
  }
}

const isAgent = (target: unknown): target is Agent<any, any, any> =>
  typeof target === "object" && target !== null && TypeId in target

/**
 * The contract. Its requests are stored in a topic of its own, named after it, or in `topic`, whose other events count as
 * casts. Wrong options throw `Misconfigured` at once.
 */
export const make = <
  Req extends Codec,
  Rep extends Codec = Schema.Never,
  Err extends Codec = Schema.Never,
  K extends Topic.Key | undefined = undefined
>(
  name: string,
  options: {
    readonly request: Req
    readonly reply?: Rep | undefined
    readonly error?: Err | undefined
    /** Requests of one key are handled in order. */
    readonly partitionBy?: ((request: Req["Type"]) => K) | undefined
    /** Default 16. */
    readonly partitions?: number | undefined
    readonly topic?: Topic.Topic<Req["Type"], any> | undefined
  }
): Agent<Req["Type"], Rep["Type"], Err["Type"]> => {
  checkName("agent", name)
  const { error, partitionBy, partitions, reply, request } = options
  if (options.topic !== undefined && (partitionBy !== undefined || partitions !== undefined)) {
    throw invalid(`agent ${name}: topic ${options.topic.name} has its own partitions and keys; leave them out here`)
  }
  if (error !== undefined && reply === undefined) {
    throw invalid(`agent ${name}: an error is told instead of a reply; give it a reply schema, Schema.Void at least`)
  }
  const topic = options.topic ?? Topic.make(name, { schema: request, partitionBy, partitions })
  return Object.assign(Object.create(Proto), { name, topic, contract: Contract.make(name, topic, reply, error) })
}

// ---------------------------------------------------------------------------------------------------------- answering

type Finish = (event: Event<any>, reply: any) => Effect.Effect<unknown, unknown>

const toHandler = (
  make: (finish: Finish) => Processor.Processor<any, any>,
  { contract }: Agent<any, any, any>,
  sinks: ReadonlyArray<(reply: unknown) => Effect.Effect<unknown, unknown>>
): Handler<any, any, any> => {
  const finish: Finish = (event, reply) => {
    let all: Effect.Effect<unknown, unknown> = Effect.suspend(() => answer(contract, event, reply))
    for (const sink of sinks) all = Effect.andThen(all, sink(reply))
    return all
  }
  const processor = make(finish)
  const heard: Definition["heard"] = (tell) =>
    make((event, reply) =>
      Effect.andThen(
        Effect.sync(() => tell(event, reply)),
        finish(event, reply)
      )
    ).definition.shape
  return Object.assign(processor.with({ wraps: [answersFailures(contract)], agent: contract, heard }), {
    "~millrace/Handler": (_: unknown) => _,
    sinking: (target: unknown) => toHandler(make, { contract } as Agent<any, any, any>, [...sinks, sinkOf(target)])
  })
}

/** One request, one reply: what it gives back. It may be tried again after a failure of the engine, like any handler. */
export const handler = <
  Req,
  Rep,
  Err,
  E,
  R,
  const Tables extends ReadonlyArray<Table.Declared> = readonly [],
  const C extends Processor.Concurrency = { readonly perKey: 1 }
>(
  agent: Agent<Req, Rep, Err>,
  f: (request: Req, event: Event<Req>) => Effect.Effect<[Rep] extends [never] ? unknown : NoInfer<Rep>, E, R>,
  options: HandlerOptions<Tables, C> = {}
): Handler<Rep, Exclude<E, EngineError> | DecodeError | Excess<R>, Processor.Needs<R, Tables, C>> =>
  toHandler(
    (finish) =>
      Processor.make(agent.name, { ...options, topic: agent.topic }, (request: Req, event: Event<Req>) =>
        Effect.flatMap(f(request, event), (reply) => finish(event, reply))
      ),
    agent,
    []
  )

/**
 * Requests as a stream, per partition; one reply per request. A plain value is the reply to the oldest request that has
 * none; an event (`Event.map`, `Event.mapEffect`) is that to its own request, whatever comes before it. More values than
 * requests halt; a request that gets none is reported like any event that a pipeline takes and never emits. Table writes
 * stand inside `Event.mapEffect`, whose failures are answered.
 */
export const stream = <Req, Rep, Err, E, R, const Tables extends ReadonlyArray<Table.Declared> = readonly []>(
  agent: Agent<Req, Rep, Err>,
  f: (requests: Stream.Stream<Event<Req>>) => Stream.Stream<NoInfer<Rep> | Event<NoInfer<Rep>>, E, R>,
  options: Processor.Settings<Tables> = {}
): Handler<Rep, Exclude<E, EngineError> | DecodeError, Exclude<R, Exclude<Processor.Supplied<Tables>, UnitOfWork>>> =>
  toHandler(
    (finish) =>
      Processor.stream(agent.name, { ...options, topic: agent.topic }, (requests: Stream.Stream<Event<Req>>) =>
        Stream.unwrap(
          Effect.sync(() => {
            const waiting: Waiting = { requests: [], last: undefined }
            const taken = Stream.tap(requests, (event) =>
              Effect.sync(() => waiting.requests.push(event as Received<unknown>))
            )
            return f(taken).pipe(
              Stream.mapEffect((reply) => replied(agent.name, waiting, reply, finish)),
              Stream.filter((event) => event !== undefined)
            )
          })
        )
      ) as Processor.Processor<any, any>,
    agent,
    []
  )

/** Requests that a stream has taken and not answered, oldest first, and the one that was answered last. */
interface Waiting {
  readonly requests: Array<Received<unknown>>
  last: Received<unknown> | undefined
}

/** The request that this answers, done. */
const replied = (
  agent: string,
  waiting: Waiting,
  reply: unknown,
  finish: Finish
): Effect.Effect<Event<unknown> | undefined, any, any> => {
  const { last, requests } = waiting
  const own = reply instanceof Received ? reply : undefined
  // Those that a policy settled, or that were dropped.
  while (requests.length > 0 && requests[0]!.read.done) requests.shift()
  const request = own ?? requests.shift()
  if (request === undefined) {
    const where = last === undefined ? "before the first request" : `after the request at ${last.offset}`
    return Effect.die(new Error(`agent ${agent}: its stream gave a reply that no request is left for, ${where}`))
  }
  if (own !== undefined) {
    const at = requests.findIndex((one) => one.read === own.read)
    if (at < 0) {
      return Effect.die(new Error(`agent ${agent}: its stream gave a second reply to the request at ${own.offset}`))
    }
    requests.splice(at, 1)
  }
  waiting.last = request
  const value = own === undefined ? reply : own.value
  return request[EventTypeId].unit([request], Effect.as(finish(request, value), request as Event<unknown>))
}

// -------------------------------------------------------------------------------------------------------------- sinks

type SinkError<A> = A extends Effect.Effect<any, infer E, any> ? Exclude<E, EngineError> : never
type SinkServices<A> = A extends Effect.Effect<any, any, infer R> ? Exclude<R, UnitOfWork | Scope.Scope> : never

/**
 * Also send every reply there: to a topic or an agent (both in the unit of work of the request), to a queue, or to a
 * function, whose effect is awaited. Sinks run in the order added; add them before policies.
 */
export const sink: {
  <Rep>(target: Stored<Rep>): <E, R>(self: Handler<Rep, E, R> & Answers<Rep>) => Handler<Rep, E | EncodeError, R>
  <Rep>(target: Queue.Enqueue<Rep>): <E, R>(self: Handler<Rep, E, R> & Answers<Rep>) => Handler<Rep, E, R>
  <Rep, A>(
    f: (reply: Rep) => A
  ): <E, R>(self: Handler<Rep, E, R> & Answers<Rep>) => Handler<Rep, E | SinkError<A>, R | SinkServices<A>>
  <Rep, E, R>(self: Handler<Rep, E, R> & Answers<Rep>, target: Stored<NoInfer<Rep>>): Handler<Rep, E | EncodeError, R>
  <Rep, E, R>(self: Handler<Rep, E, R> & Answers<Rep>, target: Queue.Enqueue<NoInfer<Rep>>): Handler<Rep, E, R>
  <Rep, E, R, A>(
    self: Handler<Rep, E, R> & Answers<Rep>,
    f: (reply: NoInfer<Rep>) => A
  ): Handler<Rep, E | SinkError<A>, R | SinkServices<A>>
} = dual(2, (self: Handler<any, any, any>, target: unknown) => self.sinking(target))

const sinkOf = (target: unknown): ((reply: unknown) => Effect.Effect<unknown, unknown>) => {
  if (typeof target === "function") {
    return (reply) =>
      Effect.suspend(() => {
        const result: unknown = target(reply)
        return Effect.isEffect(result) ? (result as Effect.Effect<unknown, unknown>) : Effect.void
      })
  }
  if (Queue.isEnqueue(target)) return (reply) => Queue.offer(target, reply as never)
  const topic = isAgent(target) ? target.topic : (target as Topic.Any)
  // The handler's own unit of work.
  return (reply) => Topic.emit(topic, reply) as Effect.Effect<void, EncodeError>
}

// ----------------------------------------------------------------------------------------------------- casting, asking

/** Store the request and go on. Inside a handler it is part of the unit of work, and never waits. */
export const cast = <Req, Rep, Err>(
  agent: Agent<Req, Rep, Err>,
  request: NoInfer<Req>,
  options?: SendOptions
): Effect.Effect<void, SendError, Client> => put(agent.topic, request, options)

const put = (
  topic: Topic.Any,
  value: unknown,
  options: Topic.EmitOptions | undefined
): Effect.Effect<void, SendError, Client> =>
  Effect.withFiber((fiber) =>
    Option.isSome(Context.getOption(fiber.context as Context.Context<never>, UnitOfWork))
      ? (stage((host, fiber) => host.encode(topic, value, traced(fiber, options))) as Effect.Effect<void, EncodeError>)
      : // What is only in memory is as safe as it is to be.
        (Effect.asVoid(publish(topic, value, options)) as Effect.Effect<void, SendError, Client>)
  )

/**
 * Cast, with the reply going to a topic or an agent, in the commit of the request. There it has the key of the request, or
 * `replyKey`, which a target with a `partitionBy` of its own demands: the agent that replies does not have that function.
 * Only a reply is sent there; a failure goes to the agent's policies.
 */
export const send = <Req, Rep, Err>(
  agent: Agent<Req, Rep, Err> & Answers<Rep>,
  request: NoInfer<Req>,
  options: SendOptions & {
    readonly replyTo: Stored<NoInfer<Rep>>
    readonly replyKey?: Topic.Key | undefined
    /** In the headers of the reply (`Agent.headers.correlationId`). */
    readonly correlationId?: string | undefined
  }
): Effect.Effect<void, SendError, Client> =>
  Effect.gen(function* () {
    const { correlationId, headers, key, partition, replyKey, replyTo } = options
    const target: Topic.Any = isAgent(replyTo) ? replyTo.topic : (replyTo as Topic.Any)
    const refused = (reason: EncodeError["reason"], detail: string) =>
      new EncodeError({ target: agent.name, reason, detail: `replies cannot go to ${target.name}: ${detail}` })
    if (target.partitionBy !== undefined && replyKey === undefined) {
      return yield* refused("Key", "it has a partitionBy, which the agent does not have; give replyKey")
    }
    if (target.flat || target.serializer !== undefined || target.partitioner !== agent.topic.partitioner) {
      return yield* refused(
        "Serializer",
        "the agent knows nothing of its encoding, serializer or partitioner; use Agent.sink"
      )
    }
    const broker = yield* Broker
    yield* Effect.catchTag(broker.declare([target]), "Misconfigured", ({ detail }) =>
      Effect.fail(refused("Refused", detail))
    )
    const { name, partitions, retention } = target
    const address = { topic: name, partitions, retention, ...(replyKey === undefined ? {} : { key: String(replyKey) }) }
    return yield* put(agent.topic, request, {
      key,
      partition,
      headers: { ...headers, ...topicHeaders(address, correlationId) }
    })
  })

const defaultTimeout = Duration.seconds(30)

/**
 * Wait for the reply, which means that the effects of the request are durable. Fails with the handler's own error if the
 * contract declares it, with `AgentDefect` for any other failure, and with `AgentTimeout`; it leaves nothing behind then,
 * and a reply that comes late is dropped. At most 1,000 of a process wait at once, the others for their turn.
 *
 * Inside a handler it is sent at once, and again if the event is tried again.
 */
export const ask = <Req, Rep, Err>(
  agent: Agent<Req, Rep, Err> & Answers<Rep>,
  request: NoInfer<Req>,
  options?: AskOptions
): Effect.Effect<Rep, Err | AskError, Client> =>
  Effect.withFiber((fiber) => {
    const context = fiber.context as Context.Context<Broker | Topic.Client>
    const { contract, name } = agent
    const asker = askerOf(context)
    const sender = senderOf(context, contract.topic, "memory")
    const id = asker.next()
    const headers = { ...options?.headers, ...inboxHeaders(asker.id, id) }
    let event: Encoded
    try {
      const placed = { key: options?.key, partition: options?.partition, headers }
      event = sender.encode(request, traced(fiber, placed), Context.get(context, CurrentMiddleware))
    } catch (error) {
      return encodeFailure(error)
    }
    const { partition } = event
    if (Option.isSome(Context.getOption(context as Context.Context<never>, UnitOfWork))) {
      const { host } = unitOf(context as Context.Context<never>)
      if (host.processor === name && host.partition === partition) {
        return Effect.fail(new AskCycle({ agent: name, partition }))
      }
    }
    const shard = partition % Context.get(context, Broker).shards
    const answered = asker.permits.withPermit(
      Effect.flatMap(asker.opened(shard), () =>
        asker.answered(contract, serializerOf(context), shard, id, event, sender)
      )
    )
    const sense = senseOf(context as Context.Context<never>, "request")
    const duration = options?.timeout === undefined ? defaultTimeout : Duration.fromInputUnsafe(options.timeout)
    const asked = Effect.timeoutOrElse(answered as Effect.Effect<Rep, Err | AskError>, {
      duration,
      orElse: () => Effect.fail(new AgentTimeout({ agent: name, millis: Duration.toMillis(duration) }))
    })
    return sense === undefined ? asked : sensed(sense, () => ({ agent: name, partition }), asked)
  })

/** Requests that are open at once, unless told otherwise. */
const defaultInFlight = 1_000

const askEach = <A, Rep, Err, E, R>(
  requests: Iterable<A> | Stream.Stream<A, E, R>,
  one: (request: A) => Effect.Effect<Rep, Err | AskError, Client>,
  inFlight = defaultInFlight
): Stream.Stream<Rep, Err | E | AskError, R | Client> =>
  (Stream.isStream(requests) ? requests : (Stream.fromIterable(requests) as Stream.Stream<A, E, R>)).pipe(
    Stream.mapEffect(one, { concurrency: inFlight, unordered: true })
  )

/** Replies as they come, a bounded number of requests open; the input may be endless. */
export const map = <Req, Rep, Err, E = never, R = never>(
  agent: Agent<Req, Rep, Err> & Answers<Rep>,
  requests: Iterable<NoInfer<Req>> | Stream.Stream<NoInfer<Req>, E, R>,
  options?: AskOptions & { readonly inFlight?: number | undefined }
): Stream.Stream<Rep, Err | E | AskError, R | Client> =>
  askEach(requests, (request) => ask(agent, request, options), options?.inFlight)

/** The same with a key for each. */
export const kvmap = <Req, Rep, Err, E = never, R = never>(
  agent: Agent<Req, Rep, Err> & Answers<Rep>,
  requests: Iterable<readonly [Topic.Key, NoInfer<Req>]> | Stream.Stream<readonly [Topic.Key, NoInfer<Req>], E, R>,
  options?: Omit<AskOptions, "key" | "partition"> & { readonly inFlight?: number | undefined }
): Stream.Stream<Rep, Err | E | AskError, R | Client> =>
  askEach(requests, ([key, request]) => ask(agent, request, { ...options, key }), options?.inFlight)

/** All replies in the order of the input, or the first failure. */
export const join = <Req, Rep, Err>(
  agent: Agent<Req, Rep, Err> & Answers<Rep>,
  requests: Iterable<NoInfer<Req>>,
  options?: AskOptions
): Effect.Effect<ReadonlyArray<Rep>, Err | AskError, Client> =>
  Effect.forEach(requests, (request) => ask(agent, request, options), { concurrency: defaultInFlight })

/** The same with a key for each. */
export const kvjoin = <Req, Rep, Err>(
  agent: Agent<Req, Rep, Err> & Answers<Rep>,
  requests: Iterable<readonly [Topic.Key, NoInfer<Req>]>,
  options?: Omit<AskOptions, "key" | "partition">
): Effect.Effect<ReadonlyArray<Rep>, Err | AskError, Client> =>
  Effect.forEach(requests, ([key, request]) => ask(agent, request, { ...options, key }), {
    concurrency: defaultInFlight
  })

/** Names of the headers of requests and replies. */
export { agentHeaders as headers }
