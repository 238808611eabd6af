/**
 * The processes of a round, and a supervisor as any deployment has one: a worker that ends because it could not reach
 * the engine while it started is started again. Any other end that nobody asked for is a problem.
 */
import { tmpdir } from "node:os"
import { join } from "node:path"
import { Effect, Fiber, Scope, Semaphore } from "effect"
import { type Child, type Line, start } from "../../support/processes.ts"
import type { Plan } from "./plan.ts"
import type { Stage } from "./stage.ts"
import type { Timeline } from "./timeline.ts"

interface Running {
  readonly name: string
  readonly child: Child
  /** Somebody ends it, and looks at how it ends. */
  expected: boolean
}

export interface Cast {
  readonly start: Effect.Effect<void>
  readonly kill: (worker: number, away: number) => Effect.Effect<void>
  readonly pause: (worker: number, millis: number, thenKill: boolean) => Effect.Effect<void>
  readonly restart: (worker: number, patience: number) => Effect.Effect<void>
  readonly replace: (worker: number, millis: number) => Effect.Effect<void>
  readonly killPublisher: (publisher: number) => Effect.Effect<void>
  /** Publishers end in order, with all that they tried answered. */
  readonly endPublishers: Effect.Effect<void>
  readonly endWorkers: Effect.Effect<void>
  /** The names of all workers that were started. */
  readonly names: () => ReadonlyArray<string>
  /** What the processes wrote to stderr. */
  readonly errors: () => string
}

export const handledFile = (directory: string, name: string): string => join(directory, `${name}.handled`)
export const publishedFile = (directory: string, publisher: number): string => join(directory, `${publisher}.published`)

// Starting a process is what a round costs most; all rounds share what was compiled.
const compiled = join(tmpdir(), "millrace-chaos-compiled")

/** How long anything may take that a process was told to do; the machine may be busy. */
const patienceSeconds = 60

const hasStarted = (line: Line): boolean => line.what === "started"
const hasJoined = (line: Line): boolean => line.what === "joined"
const hasFailed = (line: Line): boolean => line.what === "failed"

export const makeCast = (
  plan: Plan,
  stage: Stage,
  directory: string,
  timeline: Timeline
): Effect.Effect<Cast, never, Scope.Scope> =>
  Effect.gen(function* () {
    const scope = yield* Effect.scope
    const names: Array<string> = []
    const children: Array<Running> = []
    const workers: Array<Running> = []
    const publishers: Array<Running> = []
    // One fault of a process at a time; others wait for it.
    const turns = plan.workers.map(() => Semaphore.makeUnsafe(1))
    const publisherTurns = plan.publishers.map(() => Semaphore.makeUnsafe(1))
    const common = {
      MILLRACE_URL: stage.url,
      MILLRACE_SHARDS: String(plan.shards),
      NODE_COMPILE_CACHE: compiled
    }
    let ending = false

    const launch = (file: string, name: string, env: Record<string, string>) =>
      Effect.gen(function* () {
        const child = yield* start(file, { ...common, ...env })
        const running: Running = { name, child, expected: false }
        children.push(running)
        return running
      }).pipe(Scope.provide(scope))

    const bootWorker = (worker: number): Effect.Effect<Running> =>
      Effect.gen(function* () {
        const { member, signals } = plan.workers[worker]!
        const name = `w${worker}.${names.length}`
        names.push(name)
        timeline.note(`${name} starts`)
        const running = yield* launch("rounds", name, {
          NAME: name,
          RECORD: handledFile(directory, name),
          LANES: String(plan.lanes),
          ...(member === undefined ? {} : { MEMBER: member }),
          ...(signals ? { SIGNALS: "yes" } : {})
        })
        workers[worker] = running
        yield* Effect.forkIn(watch(worker, running), scope)
        return running
      })

    const watch = (worker: number, running: Running): Effect.Effect<void> =>
      Effect.gen(function* () {
        const code = yield* running.child.exit
        if (running.expected) return
        const failure = yield* lastWords(running)
        const isUnreachable = failure?.["tag"] === "EngineError" && failure["reason"] === "Unreachable"
        if (isUnreachable && !running.child.lines.some(hasJoined) && !ending) {
          timeline.note(`${running.name} could not start: the engine is away`)
          timeline.count("failed starts")
          yield* bootWorker(worker)
        } else timeline.problem(`${running.name} ended by itself (${code}): ${why(running, failure)}`)
      })

    /** The line that tells why it ended; its file is read every few milliseconds. */
    const lastWords = ({ child }: Running): Effect.Effect<Line | undefined> =>
      Effect.map(Effect.sleep("50 millis"), () => child.lines.find(hasFailed))

    const why = (running: Running, failure: Line | undefined): string =>
      String(failure?.["error"] ?? running.child.errors())

    const endOf = (running: Running) => Effect.timeoutOption(running.child.exit, patienceSeconds * 1_000)

    /** Told to end: it exits with 0, unless it had not begun to listen. */
    const terminate = (running: Running): Effect.Effect<void> =>
      Effect.gen(function* () {
        running.expected = true
        yield* running.child.signal("SIGTERM")
        const code = yield* endOf(running)
        if (code._tag === "None") {
          timeline.problem(`${running.name} did not end within ${patienceSeconds} s of SIGTERM`)
          return yield* running.child.signal("SIGKILL")
        }
        timeline.note(`${running.name} ended (${code.value})`)
        if (code.value === 0 || (code.value === "SIGTERM" && !running.child.lines.some(hasJoined))) return
        const failure = yield* lastWords(running)
        if (failure?.["reason"] === "Unreachable" && !running.child.lines.some(hasJoined)) return
        timeline.problem(`${running.name} ended with ${code.value} after SIGTERM: ${why(running, failure)}`)
      })

    const destroy = (running: Running): Effect.Effect<void> =>
      Effect.gen(function* () {
        running.expected = true
        yield* running.child.signal("SIGKILL")
        yield* running.child.exit
      })

    const bootPublisher = (publisher: number): Effect.Effect<Running> =>
      Effect.gen(function* () {
        const running = yield* launch("roundsPublisher", `publisher ${publisher}`, {
          SEED: String(plan.seed + publisher),
          SOURCES: plan.publishers[publisher]!.join(","),
          RECORD: publishedFile(directory, publisher)
        })
        publishers[publisher] = running
        yield* Effect.forkIn(
          Effect.flatMap(running.child.exit, (code) =>
            Effect.sync(() => {
              if (!running.expected) timeline.problem(`${running.name} ended (${code}): ${running.child.errors()}`)
            })
          ),
          scope
        )
        return running
      })

    const inTurn =
      <Arguments extends ReadonlyArray<unknown>>(
        turns: ReadonlyArray<Semaphore.Semaphore>,
        f: (at: number, ...rest: Arguments) => Effect.Effect<void>
      ) =>
      (at: number, ...rest: Arguments): Effect.Effect<void> =>
        turns[at]!.withPermits(1)(Effect.suspend(() => f(at, ...rest)))

    const everyWorker = (f: (worker: number) => Effect.Effect<unknown>) =>
      Effect.forEach(plan.workers.keys(), f, { concurrency: "unbounded", discard: true })

    return {
      start: Effect.gen(function* () {
        const booting = yield* Effect.forkChild(
          Effect.forEach(plan.publishers.keys(), bootPublisher, { concurrency: "unbounded" })
        )
        yield* everyWorker(bootWorker)
        yield* Fiber.join(booting)
        // From here on there is work in the middle of which faults can come.
        yield* everyWorker((worker) => untilJoined(workers[worker]!))
      }),
      kill: inTurn(turns, (worker, away: number) =>
        Effect.gen(function* () {
          timeline.count("kills")
          yield* destroy(workers[worker]!)
          yield* Effect.sleep(away)
          yield* bootWorker(worker)
        })
      ),
      pause: inTurn(turns, (worker, millis: number, thenKill: boolean) =>
        Effect.gen(function* () {
          timeline.count("stops")
          const running = workers[worker]!
          yield* running.child.signal("SIGSTOP")
          yield* Effect.sleep(millis)
          if (thenKill) {
            timeline.count("kills")
            yield* destroy(running)
            yield* bootWorker(worker)
          } else yield* running.child.signal("SIGCONT")
        })
      ),
      restart: inTurn(turns, (worker, patience: number) =>
        Effect.gen(function* () {
          timeline.count("restarts")
          const running = workers[worker]!
          if (patience === 0) yield* terminate(running)
          else {
            timeline.count("kills")
            running.expected = true
            yield* running.child.signal("SIGTERM")
            yield* Effect.sleep(patience)
            yield* destroy(running)
          }
          yield* bootWorker(worker)
        })
      ),
      replace: inTurn(turns, (worker, millis: number) =>
        Effect.gen(function* () {
          timeline.count("stops")
          const old = workers[worker]!
          yield* untilJoined(old)
          old.expected = true
          yield* old.child.signal("SIGSTOP")
          const young = yield* bootWorker(worker)
          yield* untilJoined(young)
          yield* Effect.sleep(millis)
          yield* old.child.signal("SIGCONT")
          const code = yield* endOf(old)
          const failure = yield* lastWords(old)
          if (code._tag === "None") {
            timeline.problem(`${old.name} was replaced by ${young.name} and did not end within ${patienceSeconds} s`)
            yield* destroy(old)
          } else if (failure?.["tag"] !== "MemberReplaced") {
            timeline.problem(`${old.name} was replaced and ended with ${code.value}: ${why(old, failure)}`)
          }
        })
      ),
      killPublisher: inTurn(publisherTurns, (publisher) =>
        Effect.gen(function* () {
          timeline.count("kills")
          yield* destroy(publishers[publisher]!)
          yield* bootPublisher(publisher)
        })
      ),
      endPublishers: Effect.suspend(() =>
        Effect.forEach(publishers, (running) => Effect.andThen(untilStarted(running), terminate(running)), {
          concurrency: "unbounded",
          discard: true
        })
      ),
      endWorkers: Effect.suspend(() => {
        ending = true
        return everyWorker((worker) => terminate(workers[worker]!))
      }),
      names: () => names,
      errors: () =>
        children
          .map(({ child, name }) => [name, child.errors()] as const)
          .filter(([, errors]) => errors !== "")
          .map(([name, errors]) => `--- ${name}\n${errors}`)
          .join("\n")
    }
  })

/** It has said so, or has ended. */
const until = (fits: (line: Line) => boolean, running: Running): Effect.Effect<void> =>
  Effect.gen(function* () {
    const { child, name } = running
    const began = performance.now()
    while (!child.lines.some(fits) && child.process.exitCode === null && child.process.signalCode === null) {
      if (performance.now() - began > patienceSeconds * 1_000) {
        return yield* Effect.die(new Error(`${name} is silent; it said ${JSON.stringify(child.lines)}`))
      }
      // Real time: another process starts.
      yield* Effect.sleep("10 millis")
    }
  })

const untilJoined = (running: Running): Effect.Effect<void> => until(hasJoined, running)
/** It listens to signals: before, one would just end it. */
const untilStarted = (running: Running): Effect.Effect<void> => until(hasStarted, running)
