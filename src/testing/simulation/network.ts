/**
 * One server with an engine in memory, and the way to it from each process: every call travels there and its answer
 * back, each as a message that takes a while and may be kept up. What a process sent before it died may still arrive;
 * what arrives at a server that is away fails as a lost connection does.
 */
import { Context, Effect, Exit, type Fiber, Layer, Queue, Scheduler, Scope, Stream } from "effect"
import { Broker, type Reader } from "../../Broker.ts"
import { Coordinator } from "../../Coordinator.ts"
import * as Engine from "../../Engine.ts"
import type { EngineError } from "../../Errors.ts"
import { Copies, type Copy } from "../../internal/copies.ts"
import { JobStore } from "../../JobStore.ts"
import { TableStore } from "../../TableStore.ts"
import type { Choices } from "../choices.ts"
import { isHint, mapMethods, type Ports, unreachable } from "../ports.ts"
import type { Ledger } from "./ledger.ts"
import type { Process, World } from "./world.ts"

/** Where a call is when somebody wants to know. */
export type Stage = "sent" | "applied"

/** A call that was not answered yet. */
interface Call {
  readonly client: Process
  readonly method: string
  /** It waits at the server: when nobody waits for its answer it ends. */
  readonly waits: boolean
  dropped: boolean
  fiber: Fiber.Fiber<unknown, unknown> | undefined
  readonly lose: () => void
}

interface Running {
  readonly context: Context.Context<Engine.Services>
  readonly ports: Ports
  readonly copy: () => Copy
}

interface Remote {
  readonly reader: Reader
  readonly scope: Scope.Closeable
  /** The server that it was opened at: none other knows it. */
  readonly server: Running
}

const waiting = (method: string): boolean =>
  method === "read" || method === "replies" || method === "wakes" || isHint(method)

export class Network {
  readonly process: Process
  /** Calls fail as they arrive. */
  away = false
  /** Messages take up to so many milliseconds; one in ten up to thirty times as many. */
  pace = 2
  /** Processes that cannot reach the server. */
  readonly cut = new Set<Process>()
  /** Told of every call, for those who wait for a certain one. */
  watch: (client: Process, method: string, stage: Stage) => void = () => {}
  private readonly world: World
  private readonly choices: Choices
  private readonly ledger: Ledger
  private readonly scope = Scope.makeUnsafe()
  private readonly calls = new Set<Call>()
  private server!: Running

  constructor(world: World, choices: Choices, ledger: Ledger) {
    this.world = world
    this.choices = choices
    this.ledger = ledger
    this.process = world.process("the server")
  }

  /** The engine's own services, for those who look at it from inside. */
  get services(): Context.Context<Engine.Services> {
    return this.server.context
  }

  /** A copy of the engine as it is now. */
  readonly copy = (): Copy => this.server.copy()

  /** Start the server, with what a copy holds. All connections to the one before are lost. */
  start(copy: Copy): Effect.Effect<void> {
    return Effect.gen({ self: this }, function* () {
      let take: () => Copy = () => []
      const services = yield* Layer.buildWithScope(Layer.fresh(Engine.layerMemory), this.scope).pipe(
        Effect.provideService(Copies, { begin: copy, opened: (opened) => (take = opened) })
      )
      const inside = Context.get(services, Broker)
      const broker = this.ledger.around(inside, yield* Scope.provide(Effect.orDie(inside.reader(0)), this.scope))
      // In one go: what is applied and what is written down of it are one moment.
      const own = Context.add(this.process.context, Scheduler.PreventSchedulerYield, true)
      const context = Context.merge(services, own).pipe(Context.add(Broker, broker)) as Context.Context<Engine.Services>
      const ports = {
        Broker: broker,
        Coordinator: Context.get(services, Coordinator),
        TableStore: Context.get(services, TableStore),
        JobStore: this.ledger.jobs.around(Context.get(services, JobStore))
      }
      this.lose(() => true)
      this.server = { context, ports, copy: () => take() }
    })
  }

  /** Their connections break. */
  lose(whose: (client: Process) => boolean): void {
    for (const call of [...this.calls]) if (whose(call.client)) call.lose()
  }

  /** What a dead process sent may arrive or not; nobody waits for an answer any more. */
  forget(client: Process): void {
    for (const call of [...this.calls]) {
      if (call.client !== client) continue
      if (call.waits || this.choices.chance(0.5)) this.drop(call)
      else this.calls.delete(call)
    }
  }

  close(): Effect.Effect<void> {
    return Scope.close(this.scope, Exit.void)
  }

  private latency(): number {
    if (this.choices.chance(0.3)) return 0
    const most = this.choices.chance(0.1) ? this.pace * 30 : this.pace
    return this.choices.next() * most
  }

  private drop(call: Call): void {
    this.calls.delete(call)
    call.dropped = true
    if (call.fiber !== undefined) this.process.post(() => call.fiber?.interruptUnsafe())
  }

  private send<A, E>(
    client: Process,
    method: string,
    run: () => Effect.Effect<A, E>,
    arrived?: () => void
  ): Effect.Effect<A, E | EngineError> {
    return Effect.callback<A, E | EngineError>((resume) => {
      let over = false
      const answer = (exit: Exit.Exit<A, E | EngineError>): void => {
        this.calls.delete(call)
        this.world.at(client, this.latency(), () => {
          if (over) return
          over = true
          resume(exit)
        })
      }
      const fail = (detail: string): void => answer(Exit.fail(unreachable(method, detail)))
      const call: Call = {
        client,
        method,
        waits: waiting(method),
        dropped: false,
        fiber: undefined,
        lose: () => {
          if (call.waits || call.fiber !== undefined || this.choices.chance(0.5)) this.drop(call)
          fail("the connection was lost")
        }
      }
      const arrive = (): void => {
        if (call.dropped) return
        if (this.away) return fail("the server is away")
        if (this.cut.has(client)) return fail("the server cannot be reached")
        const fiber = Effect.runForkWith(this.server.context as Context.Context<never>)(run())
        call.fiber = fiber
        arrived?.()
        fiber.addObserver((exit) => {
          this.watch(client, method, "applied")
          // A call whose connection was lost has its answer already.
          if (!call.dropped) answer(exit)
        })
      }
      this.calls.add(call)
      this.watch(client, method, "sent")
      if (client.state === "dead") return
      this.world.at(this.process, this.latency(), arrive)
      return Effect.sync(() => {
        over = true
        if (call.waits) this.drop(call)
        else if (call.fiber === undefined && this.choices.chance(0.5)) this.drop(call)
      })
    })
  }

  /** The ports as this process reaches them. */
  client(client: Process): Ports {
    const over = <S extends object>(port: (server: Running) => S): S =>
      mapMethods(port(this.server), (method, _, args) => {
        const call = () =>
          (port(this.server) as Record<string, (...args: ReadonlyArray<unknown>) => unknown>)[method]!(...args)
        if (method === "wakes" || method === "signals") {
          return this.wakes(client, call as () => Stream.Stream<unknown, EngineError>)
        }
        if (method === "reader") return this.reader(client, args[0] as number)
        // What the type system cannot follow: every other method gives an effect without requirements.
        const sent = this.send(client, method, call as () => Effect.Effect<unknown, unknown>)
        return isHint(method) ? Effect.ignore(sent) : sent
      })
    return {
      Broker: over(({ ports }) => ports.Broker),
      Coordinator: over(({ ports }) => ports.Coordinator),
      TableStore: over(({ ports }) => ports.TableStore),
      JobStore: over(({ ports }) => ports.JobStore)
    }
  }

  private reader(client: Process, shard: number): Effect.Effect<Reader, EngineError, Scope.Scope> {
    const open = this.send(client, "reader", () =>
      Effect.gen({ self: this }, function* () {
        const scope = yield* Scope.fork(this.scope)
        const { server } = this
        return {
          reader: yield* Scope.provide(server.ports.Broker.reader(shard), scope),
          scope,
          server
        } satisfies Remote
      })
    )
    const close = ({ scope }: Remote): Effect.Effect<void> =>
      Effect.sync(() => this.process.run(Scope.close(scope, Exit.void), Context.empty()))
    return Effect.map(Effect.acquireRelease(open, close), (remote) => this.remote(client, remote))
  }

  private remote(client: Process, { reader, server }: Remote): Reader {
    /** The read that was sent last: whether it has arrived, and whether it is to end as soon as it does. */
    let pending: { arrived: boolean; woken: boolean } | undefined
    const wake = (): void => this.process.run(reader.wake, Context.empty())
    return {
      read: (from, options) =>
        Effect.suspend(() => {
          const read = { arrived: false, woken: false }
          pending = read
          const run = () =>
            server === this.server
              ? reader.read(from, options)
              : Effect.fail(unreachable("read", "the server was started anew"))
          return this.send(client, "read", run, () => {
            read.arrived = true
            if (read.woken) wake()
          })
        }),
      wake: Effect.sync(() => {
        const read = pending
        if (read === undefined) return
        this.world.at(this.process, this.latency(), () => {
          if (read.arrived) wake()
          else read.woken = true
        })
      })
    }
  }

  private wakes(
    client: Process,
    subscribe: () => Stream.Stream<unknown, EngineError>
  ): Stream.Stream<unknown, EngineError> {
    return Stream.callback<unknown, EngineError>(
      (queue) =>
        Effect.flatMap(Effect.scope, (scope) => {
          const told = Effect.suspend(() =>
            Stream.runForEach(subscribe(), (told) =>
              Effect.sync(() => {
                this.world.at(client, this.latency(), () => Queue.offerUnsafe(queue, told))
              })
            )
          )
          // It ends when its connection does, and so does the stream.
          return Effect.forkIn(
            Effect.matchCauseEffect(
              this.send(client, "wakes", () => told),
              {
                onFailure: (cause) => Queue.failCause(queue, cause),
                onSuccess: () => Queue.end(queue)
              }
            ),
            scope
          )
        }),
      { bufferSize: 1, strategy: "sliding" }
    )
  }
}
