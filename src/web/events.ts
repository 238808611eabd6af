/**
 * The overview as server-sent events: `overview` once a second, `problem` where the engine did not answer. One look at the
 * engine serves all listeners, and without any there is none.
 */
import { Effect, Schedule, type Scope, Stream } from "effect"
import { HttpServerResponse } from "effect/http"
import * as Admin from "../Admin.ts"
import { answer, respond } from "./problems.ts"

const everyMillis = 1_000
/** Each holds a connection. */
const mostListeners = 100

const encoder = new TextEncoder()

/** JSON has no line breaks, so one line holds it. */
const event = (name: string, data: unknown): Uint8Array =>
  encoder.encode(`event: ${name}\ndata: ${JSON.stringify(data)}\n\n`)

const look: Effect.Effect<Uint8Array, never, Admin.Services> = Effect.match(answer(Admin.overview), {
  onFailure: ({ message }) => event("problem", { message }),
  onSuccess: (overview) => event("overview", overview)
})

const headers = { "cache-control": "no-store", "x-accel-buffering": "no" }

/** The response to a listener; `stopping` ends all of them. */
export const make = (
  stopping: Effect.Effect<void>
): Effect.Effect<Effect.Effect<HttpServerResponse.HttpServerResponse>, never, Admin.Services | Scope.Scope> =>
  Effect.gen(function* () {
    const context = yield* Effect.context<Admin.Services>()
    const shared = yield* Stream.fromEffectSchedule(look, Schedule.spaced(everyMillis)).pipe(
      Stream.provideContext(context),
      // Who is slow misses looks that are old by then.
      Stream.share({ capacity: 1, strategy: "sliding", replay: 1 })
    )
    let listeners = 0
    return Effect.sync(() => {
      if (listeners >= mostListeners) {
        return respond(503, "Unavailable", `${mostListeners} listen already; ask /api/overview instead`)
      }
      const listening = Effect.acquireRelease(
        Effect.sync(() => void listeners++),
        () => Effect.sync(() => void listeners--)
      )
      const events = Stream.unwrap(Effect.as(listening, Stream.interruptWhen(shared, stopping)))
      return HttpServerResponse.stream(events, { contentType: "text/event-stream", headers })
    })
  })
