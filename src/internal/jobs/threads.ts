/**
 * The threads of one job handler: each runs one job at a time, so the event loop of the worker stays free whatever they
 * compute. One that does not stop when it is told to is ended, and another takes its place.
 */
import { Worker as Thread } from "node:worker_threads"
import { Effect, type Scope } from "effect"
import { type Trace, traceOf } from "../telemetry/tracing.ts"
import { answer, Current, type Running } from "./current.ts"
import { type FromThread, formsOf, type Invitation, type ToThread } from "./messages.ts"
import type { Run, Spec } from "./spec.ts"

/** Milliseconds that a handler has for its finalizers when it is to stop. */
const patience = 250

interface Seat {
  readonly thread: Thread
  ready: boolean
  /** Who hears what it says. */
  listener: ((message: FromThread) => void) | undefined
  dead: boolean
}

class Pool {
  private readonly free: Array<Seat> = []
  private readonly all = new Set<Seat>()
  private readonly waiting: Array<(seat: Seat) => void> = []
  private readonly url: URL
  private readonly spec: Spec
  private closed = false
  constructor(url: URL, spec: Spec, threads: number) {
    this.url = url
    this.spec = spec
    for (let i = 0; i < threads; i++) this.open()
  }

  private open(): void {
    const invitation: Invitation = { millraceJob: this.spec.name }
    const seat: Seat = {
      thread: new Thread(this.url, { workerData: invitation }),
      ready: false,
      listener: undefined,
      dead: false
    }
    this.all.add(seat)
    seat.thread.on("message", (message: FromThread) => {
      if (message._tag !== "Ready") return seat.listener?.(message)
      seat.ready = true
      this.give(seat)
    })
    const end = (message: string): void => {
      if (seat.dead) return
      this.drop(seat)
      seat.listener?.({ _tag: "Defect", message })
    }
    seat.thread.on("error", (error) => end(error instanceof Error ? (error.stack ?? error.message) : String(error)))
    seat.thread.on("exit", (code) => end(`its thread ended with code ${code}`))
  }

  private drop(seat: Seat): void {
    seat.dead = true
    this.all.delete(seat)
    const at = this.free.indexOf(seat)
    if (at >= 0) this.free.splice(at, 1)
    // A module that cannot even begin is not tried for ever: who waits is told.
    if (!seat.ready) return this.waiting.shift()?.(seat)
    if (!this.closed) this.open()
  }

  private give(seat: Seat): void {
    const next = this.waiting.shift()
    if (next !== undefined) next(seat)
    else this.free.push(seat)
  }

  readonly acquire: Effect.Effect<Seat> = Effect.callback((resume) => {
    const seat = this.free.pop()
    if (seat !== undefined) return resume(Effect.succeed(seat))
    if (this.all.size === 0) this.open()
    const take = (seat: Seat): void => resume(Effect.succeed(seat))
    this.waiting.push(take)
    return Effect.sync(() => {
      const at = this.waiting.indexOf(take)
      if (at >= 0) this.waiting.splice(at, 1)
    })
  })

  release(seat: Seat): void {
    seat.listener = undefined
    if (!seat.dead) this.give(seat)
  }

  /** It is told to stop, and what does not end by itself is ended. */
  stop(seat: Seat): Effect.Effect<void> {
    const stopped = Effect.callback<void>((resume) => {
      if (seat.dead) return resume(Effect.void)
      seat.listener = (message) => {
        if (message._tag === "Progress" || message._tag === "Staged") return
        this.release(seat)
        resume(Effect.void)
      }
      seat.thread.postMessage({ _tag: "Stop" } satisfies ToThread)
    })
    const ended = Effect.sync(() => {
      void seat.thread.terminate()
      this.drop(seat)
    })
    return Effect.raceFirst(stopped, Effect.andThen(Effect.sleep(patience), ended))
  }

  readonly close: Effect.Effect<void> = Effect.promise(async () => {
    this.closed = true
    await Promise.all(Array.from(this.all, ({ thread }) => thread.terminate()))
  })
}

export const handlerIn =
  (spec: Spec, url: URL, threads: number) =>
  (): Effect.Effect<(payload: unknown, run: Run) => Effect.Effect<unknown, unknown, Current>, never, Scope.Scope> =>
    Effect.gen(function* () {
      const forms = formsOf(spec)
      const pool = yield* Effect.acquireRelease(
        Effect.sync(() => new Pool(url, spec, threads)),
        (pool) => pool.close
      )

      const runOn = (
        seat: Seat,
        payload: unknown,
        run: Run,
        running: Running,
        trace: Trace | undefined
      ): Effect.Effect<unknown, unknown, Current> =>
        Effect.callback<Effect.Effect<unknown, unknown, Current>>((resume) => {
          if (seat.dead) {
            return resume(Effect.succeed(Effect.die(new Error(`${url.href} cannot be run in a thread`))))
          }
          const end = (effect: Effect.Effect<unknown, unknown, Current>): void => {
            pool.release(seat)
            resume(Effect.succeed(effect))
          }
          seat.listener = (message) => {
            switch (message._tag) {
              case "Progress":
                Effect.runFork(
                  Effect.catchCause(
                    Effect.suspend(() => running.progress(forms.progress.decode(message.value))),
                    // Thrown here it would end the process.
                    (cause) => Effect.logWarning(`job ${spec.name}: progress that its thread told is dropped`, cause)
                  )
                )
                return
              case "Staged":
                // Checked over there, by the same bounds.
                return running.stage?.(message.job)
              case "Success":
                return end(Effect.sync(() => forms.success.decode(message.value)))
              case "Failure":
                return end(Effect.suspend(() => Effect.fail(forms.error.decode(message.error))))
              case "Answer":
                return end(answer(message.answer))
              case "Defect":
                return end(Effect.die(new Error(message.message)))
            }
          }
          seat.thread.postMessage({
            _tag: "Run",
            payload: forms.payload.encode(payload),
            id: run.id,
            attempt: run.attempt,
            queue: run.queue,
            enqueuedAt: Number(run.enqueuedAt.epochMilliseconds),
            headers: run.headers,
            after: run.after,
            trace
          } satisfies ToThread)
          return pool.stop(seat)
        }).pipe(Effect.flatten)

      return (payload, run) =>
        Effect.withFiber((fiber) => {
          const trace = traceOf(fiber)
          return Effect.flatMap(Current, (running) =>
            Effect.flatMap(pool.acquire, (seat) => runOn(seat, payload, run, running, trace))
          )
        })
    })
