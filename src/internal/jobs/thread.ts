/** The inside of a thread that runs jobs: one at a time, told by messages. Elsewhere it does nothing. */
import { type MessagePort, parentPort, threadId, workerData } from "node:worker_threads"
import { Cause, DateTime, Effect, Exit, type Fiber, type Layer, ManagedRuntime } from "effect"
import { continued } from "../telemetry/tracing.ts"
import { Current, type Running } from "./current.ts"
import { messageOf } from "./ledger.ts"
import { type FromThread, formsOf, type Invitation, type ToThread } from "./messages.ts"
import type { Run, Spec } from "./spec.ts"
import { Staged } from "./staging.ts"

/** Serve, if this is a thread that was started for this job. */
export const serve = (
  spec: Spec,
  handle: (payload: unknown, run: Run) => Effect.Effect<unknown, unknown, any>,
  layer: Layer.Layer<any, unknown>
): void => {
  const invitation: Partial<Invitation> | null = workerData
  if (parentPort === null || invitation?.millraceJob !== spec.name) return
  const port: MessagePort = parentPort
  const say = (message: FromThread): void => port.postMessage(message)
  const forms = formsOf(spec)
  const runtime = ManagedRuntime.make(layer)
  let fiber: Fiber.Fiber<unknown, unknown> | undefined

  const begin = (told: Extract<ToThread, { readonly _tag: "Run" }>): void => {
    const { _tag, enqueuedAt, payload, trace, ...rest } = told
    const run: Run = { ...rest, enqueuedAt: DateTime.makeUnsafe(enqueuedAt) }
    const staged = new Staged(spec.name)
    const running: Running = {
      run,
      answer: undefined,
      stage: (job) => {
        staged.add(job)
        say({ _tag: "Staged", job })
      },
      progress: (value) => Effect.sync(() => say({ _tag: "Progress", value: forms.progress.encode(value) }))
    }
    const effect = Effect.scoped(Effect.suspend(() => handle(forms.payload.decode(payload), run)))
    const spanned = continued(effect, trace, `run ${spec.name} in a thread`, {
      "messaging.message.id": run.id,
      "millrace.job": spec.name,
      "thread.id": threadId
    })
    fiber = runtime.runFork(Effect.provideService(spanned, Current, running))
    fiber.addObserver((exit) => say(messageOfExit(exit, running)))
  }

  const messageOfExit = (exit: Exit.Exit<unknown, unknown>, { answer }: Running): FromThread => {
    try {
      if (Exit.isSuccess(exit)) return { _tag: "Success", value: forms.success.encode(exit.value) }
      if (answer !== undefined) return { _tag: "Answer", answer }
      const error = Cause.findErrorOption(exit.cause)
      return error._tag === "Some"
        ? { _tag: "Failure", error: forms.error.encode(error.value) }
        : { _tag: "Defect", message: Cause.pretty(exit.cause) }
    } catch (refused) {
      return { _tag: "Defect", message: messageOf(refused) }
    }
  }

  port.on("message", (message: ToThread) => {
    if (message._tag === "Run") begin(message)
    else fiber?.interruptUnsafe()
  })
  say({ _tag: "Ready" })
}
