/**
 * The processes of a simulation: workers that come and go, and the one that publishes. Each is a process of its own on
 * the simulated network, with its own faults.
 */
import { Cause, Context, Duration, Effect, Exit, type Fiber, Logger } from "effect"
import { Broker } from "../../Broker.ts"
import { Coordinator } from "../../Coordinator.ts"
import type * as Engine from "../../Engine.ts"
import { make, Scheduler, ticking } from "../../internal/schedule/scheduler.ts"
import { JobStore } from "../../JobStore.ts"
import type * as Part from "../../Part.ts"
import { Serializer } from "../../Serializer.ts"
import { TableStore } from "../../TableStore.ts"
import * as Topic from "../../Topic.ts"
import * as Worker from "../../Worker.ts"
import type { Choices } from "../choices.ts"
import * as Faults from "../Faults.ts"
import type { Input } from "../TestProcessor.ts"
import type { Ledger } from "./ledger.ts"
import type { Network } from "./network.ts"
import { recorded } from "./recorded.ts"
import { planOf, timing, type Weather } from "./weather.ts"
import type { Process, World } from "./world.ts"

export interface Member {
  /** As the coordinator knows it; another process may have the same. */
  readonly name: string
  readonly process: Process
  fiber: Fiber.Fiber<unknown, unknown> | undefined
  /** It was told to leave. */
  leaving: boolean
  over: boolean
}

/** Milliseconds that a message takes at most. */
const slowest = 1_000

const millisOf = (input: Duration.Input): number => Duration.toMillis(Duration.fromInputUnsafe(input))

/** Failures that tell of lost acknowledged work: false alarms while no server went back. */
const alarms = ["WentBack", "LogTruncated", "EventsLost"]

export interface Setup {
  readonly world: World
  readonly network: Network
  readonly ledger: Ledger
  readonly choices: Choices
  readonly weather: Weather
  readonly parts: ReadonlyArray<Part.Any>
  /** The services of handlers. */
  readonly context: Context.Context<never>
  readonly serverWentBack: boolean
}

export class Cluster {
  readonly members: Array<Member> = []
  readonly steps: Array<string> = []
  /** What must not be, seen on the way. */
  readonly violations: Array<string> = []
  /** No trouble from now on. */
  calm = false
  /** Events that are stored, or whose publishing failed. */
  published = 0
  /** By when the network has given out the last duplicate that it kept. */
  lateUntil = 0
  private readonly setup: Setup
  private count = 0
  constructor(setup: Setup) {
    this.setup = setup
  }

  readonly step = (text: string): void => {
    const { world } = this.setup
    const seconds = ((world.now - world.start) / 1_000).toFixed(3)
    this.steps.push(`${seconds.padStart(8)} ${text}`)
  }

  /** A process as far as the ports: its fibers belong to it, its calls travel and meet faults. */
  private equip(process: Process): Context.Context<Engine.Services> {
    const { choices, context, network, weather, world } = this.setup
    const tell = (what: string): void => this.step(`${process.name}: ${what}`)
    const drawn = planOf(weather, choices.fork(), () => this.calm, tell)
    const plan: Faults.Plan = (port, method, call) => {
      const fault = drawn(port, method, call)
      if (fault?._tag === "Late") this.lateUntil = Math.max(this.lateUntil, world.now + millisOf(fault.by) + slowest)
      return fault
    }
    const ports = Faults.around(network.client(process), plan)
    const logger = Logger.make<unknown, void>(({ logLevel, message }) => {
      const [text] = Array.isArray(message) ? message : [message]
      if (logLevel !== "Info") tell(`logs "${String(text).split("\n")[0]}"`)
    })
    const serializer = Context.getOption(context as Context.Context<Serializer>, Serializer)
    return Context.merge(context, process.context).pipe(
      Context.add(Broker, ports.Broker),
      Context.add(Coordinator, ports.Coordinator),
      Context.add(TableStore, ports.TableStore),
      Context.add(JobStore, ports.JobStore),
      Context.add(Scheduler, Effect.runSync(make(ticking))),
      Context.add(
        Serializer,
        serializer._tag === "Some" ? serializer.value : Context.get(network.services, Serializer)
      ),
      Context.add(Logger.CurrentLoggers, new Set([logger]))
    )
  }

  get live(): ReadonlyArray<Member> {
    return this.members.filter((member) => !member.over && !member.leaving)
  }

  start(name: string): Member {
    const { choices, ledger, parts, world } = this.setup
    const process = world.process(`${name}#${++this.count}`)
    const own = choices.fork()
    const member: Member = { name, process, fiber: undefined, leaving: false, over: false }
    const recording = {
      by: process.name,
      record: (happened: Parameters<typeof ledger.history.push>[0]) => void ledger.history.push(happened),
      ran: (queue: string, id: string) => ledger.jobs.ran(queue, id),
      delay: () => this.delay(own)
    }
    // What the parts need is in the context that they are run with.
    const wrapped = parts.map((part) => recorded(part, recording)) as ReadonlyArray<Part.Part<unknown, Engine.Services>>
    const worker = Worker.run(wrapped, { member: name, ...timing })
    process.run(worker, this.equip(process), (fiber) => {
      member.fiber = fiber
      fiber.addObserver((exit) => this.ended(member, exit))
    })
    this.members.push(member)
    return member
  }

  /** What a handler takes beyond its own time. */
  private delay(choices: Choices): Effect.Effect<void> | undefined {
    const { slow } = this.setup.weather
    if (this.calm || !choices.chance(slow.chance)) return undefined
    const sleep = Effect.sleep(choices.next() * slow.millis)
    return choices.chance(slow.stuck) ? Effect.uninterruptible(sleep) : sleep
  }

  private ended(member: Member, exit: Exit.Exit<unknown, unknown>): void {
    member.over = true
    const { name } = member.process
    if (Exit.isSuccess(exit)) return this.step(`${name} has ended`)
    if (Cause.hasInterruptsOnly(exit.cause)) return this.step(`${name} has left`)
    const failure = Cause.findErrorOption(exit.cause)
    if (failure._tag === "None") {
      this.violations.push(`${name} died: ${Cause.pretty(exit.cause)}`)
      return this.step(`${name} died`)
    }
    const error = failure.value as Worker.Failure<unknown>
    this.step(`${name} has failed: ${error.message}`)
    if (error._tag !== "ProcessorHalted" || this.setup.serverWentBack) return
    const reason = Cause.squash(error.cause) as { readonly _tag?: string } | undefined
    if (alarms.includes(String(reason?._tag))) this.violations.push(`${name} raised a false alarm: ${error.message}`)
  }

  leave(member: Member): void {
    member.leaving = true
    member.process.post(() => member.fiber?.interruptUnsafe())
  }

  kill(member: Member): void {
    member.over = true
    member.process.kill()
    this.setup.network.forget(member.process)
  }

  /** Publish all of it, a few at a time; order is that of the input. */
  publish(events: ReadonlyArray<Input>, millis: number): Process {
    const { ledger } = this.setup
    const one = ({ options, topic, value }: Input, sequence: number) =>
      Effect.matchCause(Topic.publish(topic, value, options), {
        onSuccess: ({ offset, partition }) => {
          this.published++
          ledger.history.push({ _tag: "Published", topic: topic.name, partition, offset, sequence })
        },
        onFailure: (cause) => {
          this.published++
          ledger.history.push({ _tag: "Unpublished", topic: topic.name })
          this.step(`the publisher: event ${sequence} failed: ${Cause.squash(cause)}`)
        }
      })
    return this.publisher(events, millis, one)
  }

  /** Run all of them, a few at a time; order is that of the input. */
  perform(effects: ReadonlyArray<Effect.Effect<unknown, unknown, Engine.Services>>, millis: number): Process {
    return this.publisher(effects, millis, (effect, n) =>
      Effect.matchCause(effect, {
        onSuccess: () => void this.published++,
        onFailure: (cause) => {
          this.published++
          this.step(`the publisher: number ${n} failed: ${Cause.squash(cause)}`)
        }
      })
    )
  }

  private publisher<A>(
    events: ReadonlyArray<A>,
    millis: number,
    one: (event: A, sequence: number) => Effect.Effect<void, never, Engine.Services>
  ): Process {
    const { choices, world } = this.setup
    const process = world.process("the publisher")
    const own = choices.fork()
    const all = Effect.gen(function* () {
      for (let i = 0; i < events.length; ) {
        const few = events.slice(i, i + own.between(1, 6))
        const first = i
        // Some wait for their turn, some go out together.
        const concurrency = own.chance(0.7) ? "unbounded" : 1
        yield* Effect.forEach(few, (event, at) => one(event, first + at), { concurrency, discard: true })
        i += few.length
        yield* Effect.sleep((own.next() * 2 * millis * few.length) / events.length)
      }
    })
    process.run(all, this.equip(process))
    return process
  }
}
