/**
 * Agents under test, on a private engine in memory: what is sent to them waits until you let it be handled, request by
 * request (the oldest first, whichever agent's it is) or all, and each tells what became of it. In the body everything of
 * `Agent` works as it does elsewhere; `agents.ask` asks without waiting for the reply.
 *
 *     TestAgent.run([pricing, billing], (agents) => Effect.gen(function* () {
 *       yield* Agent.cast(bill, { customer: "ada" })
 *       const asking = yield* agents.ask(price, "tea")
 *       yield* agents.run()
 *       const [billed] = agents.handled(bill)
 *       const reply = yield* Fiber.join(asking)
 *     }))
 *
 * Gotcha: what a handler asks of another agent is handled within its own step, with all that stands before it in its
 * partition; what it casts waits. Delays of retries pass by the program's clock: fork the step, and move the `TestClock`.
 */
import { Cause, Clock, Context, Effect, Exit, Fiber, Layer, Option, type Scope, Stream } from "effect"
import * as Agent from "../Agent.ts"
import { Broker } from "../Broker.ts"
import { Coordinator } from "../Coordinator.ts"
import * as Engine from "../Engine.ts"
import { ProcessorHalted } from "../Errors.ts"
import type { Event } from "../Event.ts"
import { addressOf } from "../internal/agent/address.ts"
import { declare } from "../internal/run/declaring.ts"
import { type Definition, isProcessing, type Wrap } from "../internal/run/definition.ts"
import { CurrentObserver } from "../internal/run/observer.ts"
import type * as Part from "../Part.ts"
import type { Settlement } from "../Policy.ts"
import * as Worker from "../Worker.ts"
import { type Head, Turnstile } from "./agents/turnstile.ts"
import { policies, type Settled } from "./TestProcessor.ts"

/** What became of one request. */
export interface Handled<out Req, out Rep, out Err> {
  readonly agent: string
  readonly request: Req
  readonly event: Event<Req>
  /** Somebody waits for the reply. */
  readonly asked: boolean
  /**
   * `done`: handled and committed. `failed`: whoever asked is told of the failure. `halted`: the failure ends a worker, and
   * the request stays the next of its partition. Else what a policy did with it.
   */
  readonly status: "done" | "failed" | "halted" | Settled["policy"]
  /** What the handler gave, whether somebody waits for it or not; none after a failure, and of a stream that dropped it. */
  readonly reply: Option.Option<Rep>
  /** The failure, if it is an error that the contract declares. */
  readonly error: Option.Option<Err>
  /** The failure of the last try, whatever it is. */
  readonly cause: Option.Option<Cause.Cause<unknown>>
}

export interface Agents {
  /**
   * Have the next request handled, the oldest of all or of one agent: its retries, its policies, and whatever its handler
   * asks of the other agents included. None if none waits.
   */
  readonly step: {
    (): Effect.Effect<Option.Option<Handled<unknown, unknown, unknown>>>
    <Req, Rep, Err>(agent: Agent.Agent<Req, Rep, Err>): Effect.Effect<Option.Option<Handled<Req, Rep, Err>>>
  }
  /** Until none waits, or one halts. Of all agents they are handled as a worker does, of one agent in order, one by one. */
  readonly run: {
    (): Effect.Effect<ReadonlyArray<Handled<unknown, unknown, unknown>>>
    <Req, Rep, Err>(agent: Agent.Agent<Req, Rep, Err>): Effect.Effect<ReadonlyArray<Handled<Req, Rep, Err>>>
  }
  /** All that was handled so far, in the order in which it began. */
  readonly handled: {
    (): ReadonlyArray<Handled<unknown, unknown, unknown>>
    <Req, Rep, Err>(agent: Agent.Agent<Req, Rep, Err>): ReadonlyArray<Handled<Req, Rep, Err>>
  }
  /** How many requests wait; what a policy parked is not counted. */
  readonly waiting: (agent?: { readonly name: string }) => Effect.Effect<number>
  /** Ask, and go on when the request is stored: join the fiber after the step that handles it. */
  readonly ask: <Req, Rep, Err>(
    agent: Agent.Agent<Req, Rep, Err> & Agent.Answers<Rep>,
    request: NoInfer<Req>,
    options?: Agent.AskOptions
  ) => Effect.Effect<Fiber.Fiber<Rep, Err | Agent.AskError>>
}

type Any = Handled<any, any, any>
type AgentPart = Part.Any & { readonly definition: Definition }
type Watched = { readonly part: AgentPart; readonly own: AgentPart }

/** Parts that are no agents are refused. */
const agentsOf = (parts: ReadonlyArray<Part.Any>): ReadonlyArray<AgentPart> => {
  const other = parts.find((part) => !isProcessing(part) || part.definition.heard === undefined)
  if (other !== undefined) throw new Error(`TestAgent.run: ${other.name} is no agent (Agent.handler, Agent.stream)`)
  return parts as ReadonlyArray<AgentPart>
}

/** The same part, which waits for its turn with each request, and tells what becomes of it. */
const watch = (part: AgentPart, turnstile: Turnstile): AgentPart => {
  const { name } = part
  const told = part.definition.heard!((event, reply) => {
    const passed = turnstile.of(name, event)
    if (passed === undefined) return
    passed.reply = Option.some(reply)
    passed.cause = Option.none()
  })
  const inner: Wrap = {
    _tag: "Around",
    f: (handle, [event]) =>
      Effect.tapCause(handle, (cause) =>
        Effect.sync(() => {
          const passed = turnstile.of(name, event)
          if (passed !== undefined) passed.cause = Option.some(cause)
        })
      )
  }
  if (told._tag === "Stream") {
    const pipeline: typeof told.pipeline = (events) =>
      // One by one: with those behind it a request would wait for their turns too.
      told.pipeline(Stream.tap(Stream.rechunk(events, 1), (event) => turnstile.pass(name, event)))
    return part.with({ shape: { ...told, pipeline }, wraps: [inner, ...part.definition.wraps] })
  }
  const outer: Wrap = {
    _tag: "Around",
    f: (handle, [event]) =>
      Effect.onExit(Effect.andThen(turnstile.pass(name, event), handle), () =>
        Effect.sync(() => {
          const passed = turnstile.of(name, event)
          if (passed !== undefined) passed.ended = true
        })
      )
  }
  return part.with({ shape: told, wraps: [inner, ...part.definition.wraps, outer] })
}

const makeAgents = (parts: ReadonlyArray<AgentPart>) =>
  Effect.gen(function* () {
    const given = yield* Effect.context<Engine.Services | Scope.Scope>()
    const scope = yield* Effect.scope
    const engine = Context.get(given, Broker)
    const coordinator = Context.get(given, Coordinator)
    const turnstile = new Turnstile()
    const watched: ReadonlyArray<Watched> = parts.map((part) => ({ part, own: watch(part, turnstile) }))
    // Those outside and the handlers are told apart by the service that they use.
    const outside = Context.add(given, Broker, turnstile.broker(engine, false))
    const observer = {
      settled: (agent: string, event: Event<unknown>, { _tag }: Settlement, cause: Cause.Cause<unknown>) => {
        const passed = turnstile.of(agent, event)
        if (passed === undefined) return
        passed.policy = policies[_tag]
        passed.cause = Option.some(cause)
      }
    }
    const inside = given.pipe(
      Context.add(Broker, turnstile.broker(engine, true)),
      Context.add(Coordinator, turnstile.coordinator(coordinator)),
      Context.add(CurrentObserver, observer)
    )
    const history: Array<Any> = []

    /** Of all that ran, in the order in which it began; what did not come to its end waits still. */
    const tell = (halted: ProcessorHalted<unknown> | undefined): ReadonlyArray<Any> => {
      const own = turnstile.end().flatMap((passed) => {
        const { agent, cause, event, over, policy, reply } = passed
        const isHalt = halted?.processor === agent && halted.offset === event.offset
        if (!over && !isHalt) return []
        const part = parts.find(({ name }) => name === agent)!
        const address = addressOf(event.headers)
        const asked = typeof address === "object" && address._tag === "Inbox"
        const failed = Option.isSome(cause)
        return [
          {
            agent,
            request: event.value,
            event,
            asked,
            status: isHalt ? "halted" : (policy ?? (failed ? "failed" : "done")),
            reply: failed || isHalt ? Option.none() : reply,
            error: Option.filter(Option.flatMap(cause, Cause.findErrorOption), part.definition.agent!.isError),
            cause
          } satisfies Any
        ]
      })
      history.push(...own)
      return own
    }

    /** Parked requests whose time has come, and the next one of each partition. */
    const headsOf = Effect.fnUntraced(function* ({ definition, name }: AgentPart) {
      const lags = yield* engine.lag(name)
      const now = yield* Clock.currentTimeMillis
      const parks = definition.wraps.some((wrap) => wrap._tag === "Catch" && wrap.parks)
      const { paused, quarantined } = yield* coordinator.group(name)
      const heads: Array<Head> = []
      for (const { committed, events, partition, topic } of lags) {
        if (paused || quarantined.includes(partition)) continue
        const lanes = parks ? yield* engine.lanes(name, partition) : []
        const back = lanes.some(({ due }) => due <= now)
        if (!back && events === 0) continue
        heads.push({ agent: name, topic, partition, done: turnstile.count(topic, partition) - events, committed, back })
      }
      return heads
    })
    const heads = Effect.map(Effect.forEach(parts, headsOf), (heads) => heads.flat())

    /** A worker for as long as `turn` takes, or until it halts. */
    const work = (turn: Effect.Effect<void, unknown, Worker.Worker<unknown>>) =>
      Effect.gen(function* () {
        const all = watched.map(({ own }) => own) as ReadonlyArray<unknown> as ReadonlyArray<Part.Part<never, never>>
        const exit = yield* Effect.exit(Effect.raceFirst(turn, Worker.join)).pipe(
          Effect.tap(() => Effect.exit(Worker.stop)),
          Effect.provide(Layer.fresh(Worker.layer(all, { grace: 0 })))
        )
        const halted = Exit.isSuccess(exit) ? undefined : haltOf(exit.cause)
        return tell(halted)
      }).pipe(Effect.provideContext(inside))

    const step = (agent: { readonly name: string } | undefined): Effect.Effect<Option.Option<Any>, unknown> =>
      Effect.gen(function* () {
        const all = yield* heads
        const head = turnstile.first(all.filter((head) => agent === undefined || head.agent === agent.name))
        if (head === undefined) return Option.none()
        turnstile.begin(head, all)
        const handled = yield* work(turnstile.over)
        const own = handled.find((one) => one.agent === head.agent && one.event.partition === head.partition)
        // It went without its handler: it waits aside, or cannot be decoded.
        return own === undefined ? yield* step(agent) : Option.some(own)
      })

    const rest: Effect.Effect<void, unknown, Worker.Worker<unknown>> = Effect.gen(function* () {
      const moved = yield* Effect.forkChild(turnstile.nextCommit, { startImmediately: true })
      yield* Worker.idle
      if ((yield* heads).length === 0) return yield* Fiber.interrupt(moved)
      // Parked ones are nobody's to finish, and are tried all the same.
      yield* Fiber.join(moved)
      yield* rest
    })
    const runAll = Effect.gen(function* () {
      turnstile.begin("all", yield* heads)
      return yield* work(rest)
    })

    const runOne = (agent: { readonly name: string }): Effect.Effect<ReadonlyArray<Any>, unknown> =>
      Effect.gen(function* () {
        const all: Array<Any> = []
        while (true) {
          const handled = yield* step(agent)
          if (Option.isNone(handled)) return all
          all.push(handled.value)
          if (handled.value.status === "halted") return all
        }
      })

    // Here the engine cannot be away, and parts that make no worker are a mistake of the test.
    const sure = <A>(effect: Effect.Effect<A, unknown, never>): Effect.Effect<A> => Effect.orDie(effect)

    yield* Effect.orDie(declare(parts, true))
    const agents: Agents = {
      step: (agent?: { readonly name: string }) => sure(step(agent)),
      run: (agent?: { readonly name: string }) => sure(agent === undefined ? runAll : runOne(agent)),
      handled: (agent?: { readonly name: string }) =>
        agent === undefined ? [...history] : history.filter((one) => one.agent === agent.name),
      waiting: (agent) =>
        sure(
          Effect.map(
            Effect.forEach(parts, ({ name }) =>
              agent === undefined || agent.name === name ? engine.lag(name) : Effect.succeed([])
            ),
            (lags) => lags.flat().reduce((sum, { events }) => sum + events, 0)
          )
        ),
      ask: (agent, request, options) =>
        Effect.gen(function* () {
          const asked = Effect.provideContext(Agent.ask(agent, request, options), outside)
          const stored = yield* Effect.forkChild(turnstile.nextStored(agent.topic.name), { startImmediately: true })
          const fiber = yield* Effect.forkIn(asked, scope, { startImmediately: true })
          yield* Effect.raceFirst(Fiber.join(stored), Effect.asVoid(Fiber.await(fiber)))
          return fiber
        })
    }
    return { agents, outside }
  })

/** A halt is a result; anything else that ends a worker here is a mistake of the test. */
const haltOf = (cause: Cause.Cause<unknown>): ProcessorHalted<unknown> => {
  const error = Option.getOrThrowWith(Cause.findErrorOption(cause), () => Cause.squash(cause))
  if (error instanceof ProcessorHalted) return error
  throw error
}

/** Gives what the body gives. The engine is gone with it. */
export const run = <const P extends ReadonlyArray<Part.Part<any, any>>, A, E, R>(
  parts: P,
  body: (agents: Agents) => Effect.Effect<A, E, R>
): Effect.Effect<A, E, Exclude<Part.Services<P[number]> | R, Engine.Services | Scope.Scope>> =>
  Effect.suspend(() =>
    Effect.flatMap(makeAgents(agentsOf(parts)), ({ agents, outside }) =>
      Effect.provideContext(body(agents), outside as Context.Context<any>)
    )
  ).pipe(Effect.scoped, Effect.provide(Layer.fresh(Engine.layerMemory))) as Effect.Effect<A, E, any>
