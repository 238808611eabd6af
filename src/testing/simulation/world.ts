/**
 * Processes on virtual time, in one real process: each has its own scheduler and clocks, so that one can be stopped
 * (none of its fibers runs, whatever wakes it), killed (none ever runs again: no finalizer, no farewell), or suspended
 * with its machine (its clocks stand still too). Whose turn it is when several could go on is a choice of the seed.
 *
 * Gotcha: only what waits on Effect's clock or on the simulated network waits in virtual time; real I/O is not waited for.
 */
import { Clock, Context, Duration, Effect, type Fiber, Random, Scheduler } from "effect"
import type { Choices } from "../choices.ts"

type Task = () => void

interface Timer {
  at: number
  readonly process: Process
  readonly task: Task
  /** Counted by the process's own clock; messages that arrive are not. */
  readonly own: boolean
  cancelled: boolean
}

/** Tasks of one moment; more means that somebody goes round and round without waiting. */
const mostTasks = 200_000

export class Process {
  readonly name: string
  readonly world: World
  /** Scheduler, clock and random numbers: what makes a fiber belong to this process. */
  readonly context: Context.Context<never>
  state: "running" | "stopped" | "dead" = "running"
  /** Milliseconds that its calendar is ahead of the world's. */
  skew = 0
  private tasks: Array<Task> = []
  private head = 0
  /** Milliseconds that its clocks have stood still in all, and since when they do now. */
  private behind = 0
  private frozenAt: number | undefined
  /** Its own timers that came due while its clocks stood still. */
  readonly held: Array<Timer> = []

  constructor(world: World, name: string, choices: Choices) {
    this.world = world
    this.name = name
    const maxOps = choices.pick([60, 400, 2_048])
    this.context = Context.make(Scheduler.Scheduler, this.scheduler()).pipe(
      Context.add(Clock.Clock, this.clock()),
      Context.add(Random.Random, choices.fork().random()),
      Context.add(Scheduler.MaxOpsBeforeYield, maxOps)
    ) as Context.Context<never>
  }

  /** It has something to do and may do it. */
  get ready(): boolean {
    return this.state === "running" && this.head < this.tasks.length
  }

  post(task: Task): void {
    if (this.state !== "dead") this.tasks.push(task)
  }

  /** Do the next thing. */
  step(): void {
    const task = this.tasks[this.head++]!
    if (this.head === this.tasks.length) {
      this.tasks = []
      this.head = 0
    }
    task()
  }

  /** Run an effect in this process; `done` is called with its exit unless the process dies first. */
  run<A, E, R>(
    effect: Effect.Effect<A, E, R>,
    context: Context.Context<R>,
    started?: (fiber: Fiber.Fiber<A, E>) => void
  ) {
    this.post(() => {
      const fiber = Effect.runForkWith(Context.merge(context, this.context))(effect)
      started?.(fiber)
    })
  }

  /** As SIGSTOP does; with `machine` its clocks stand still as well. */
  stop(machine: boolean): void {
    if (this.state !== "running") return
    this.state = "stopped"
    if (machine) this.frozenAt = this.world.now
  }

  continue(): void {
    if (this.state !== "stopped") return
    this.state = "running"
    if (this.frozenAt === undefined) return
    const late = this.world.now - this.frozenAt
    this.frozenAt = undefined
    this.behind += late
    this.world.shift(this, late)
  }

  /** As SIGKILL does. */
  kill(): void {
    this.state = "dead"
    this.tasks = []
    this.head = 0
    this.world.forget(this)
  }

  get frozen(): boolean {
    return this.frozenAt !== undefined
  }

  private get local(): number {
    return (this.frozenAt ?? this.world.now) - this.behind
  }

  private scheduler(): Scheduler.Scheduler {
    const dispatcher: Scheduler.SchedulerDispatcher = {
      scheduleTask: (task) => this.post(task),
      flush: () => {
        while (this.ready) this.step()
      }
    }
    return {
      executionMode: "async",
      shouldYield: ({ cache, currentOpCount }) => currentOpCount >= cache.maxOpsBeforeYield,
      makeDispatcher: () => dispatcher
    }
  }

  private clock(): Clock.Clock {
    const millis = (): number => Math.floor(this.local + this.skew)
    const nanos = (): bigint => BigInt(millis()) * 1_000_000n
    const monotonic = (): bigint => BigInt(Math.floor(this.local * 1_000)) * 1_000n
    return {
      currentTimeMillisUnsafe: millis,
      currentTimeMillis: Effect.sync(millis),
      currentTimeNanosUnsafe: nanos,
      currentTimeNanos: Effect.sync(nanos),
      monotonicTimeNanosUnsafe: monotonic,
      monotonicTimeNanos: Effect.sync(monotonic),
      sleep: (duration) => {
        const wait = Duration.toMillis(duration)
        if (wait <= 0) return Effect.yieldNow
        return Effect.callback<void>((resume) => {
          if (wait === Infinity) return
          const timer = this.world.at(this, wait, () => resume(Effect.void), true)
          return Effect.sync(() => {
            timer.cancelled = true
          })
        })
      }
    }
  }
}

export class World {
  /** Milliseconds since 1970. */
  now = Date.UTC(2026, 0, 1)
  readonly start = this.now
  /** What is to come, the next one last. */
  private timers: Array<Timer> = []
  private processes: ReadonlyArray<Process> = []
  private readonly choices: Choices
  constructor(choices: Choices) {
    this.choices = choices
  }

  process(name: string): Process {
    const process = new Process(this, name, this.choices.fork())
    this.processes = [...this.processes, process]
    return process
  }

  forget(process: Process): void {
    this.processes = this.processes.filter((other) => other !== process)
  }

  /** Do this in that process so much later. */
  at(process: Process, wait: number, task: Task, own = false): Timer {
    const timer: Timer = { at: this.now + wait, process, task, own, cancelled: false }
    this.insert(timer)
    return timer
  }

  private insert(timer: Timer): void {
    let low = 0
    let high = this.timers.length
    while (low < high) {
      const middle = (low + high) >>> 1
      // Before those of the same moment: the first to come was the first to ask.
      if (this.timers[middle]!.at > timer.at) low = middle + 1
      else high = middle
    }
    this.timers.splice(low, 0, timer)
  }

  /** The clocks of a process stood still for so long: so much later its timers come. */
  shift(process: Process, late: number): void {
    const own = this.timers.filter((timer) => timer.own && timer.process === process)
    this.timers = this.timers.filter((timer) => !own.includes(timer))
    own.push(...process.held.splice(0))
    for (const timer of own) {
      timer.at += late
      this.insert(timer)
    }
  }

  /** All that can be done at this moment; what is wrong if there is no end of it. */
  private async moment(): Promise<string | undefined> {
    for (let tasks = 0; tasks < mostTasks; tasks++) {
      const ready = this.processes.filter((process) => process.ready)
      if (ready.length === 0) return undefined
      const process = ready.length === 1 ? ready[0]! : ready[this.choices.below(ready.length)]!
      process.step()
      // What it left for the end of its turn is done before anybody else's.
      await undefined
    }
    return `${this.busy().join(", ")} went round and round without waiting for anything`
  }

  private busy(): ReadonlyArray<string> {
    return this.processes.filter((process) => process.ready).map((process) => process.name)
  }

  /** Go to the next moment at which something happens; false if nothing ever will. */
  private advance(): boolean {
    let timer = this.timers.pop()
    while (timer !== undefined && (timer.cancelled || timer.process.state === "dead")) timer = this.timers.pop()
    if (timer === undefined) return false
    this.now = Math.max(this.now, timer.at)
    if (timer.own && timer.process.frozen) timer.process.held.push(timer)
    else timer.process.post(timer.task)
    return true
  }

  /** Let time pass until this holds; gives what is wrong if it never will. */
  readonly run = (until: () => boolean): Effect.Effect<string | undefined> => {
    const on: Effect.Effect<string | undefined> = Effect.suspend(() =>
      Effect.flatMap(
        Effect.promise(() => this.moment()),
        (wrong) => (wrong === undefined ? Effect.andThen(Effect.yieldNow, next) : Effect.succeed(wrong))
      )
    )
    // After a turn of the real event loop, for whatever a handler left to it.
    const next = Effect.suspend(() => {
      if (this.busy().length > 0) return on
      if (until()) return Effect.undefined
      return this.advance() ? on : Effect.succeed("nobody waits for anything any more, and it is not over")
    })
    return on
  }
}
