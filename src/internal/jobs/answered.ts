/** An exchange until it is answered: the same one again, for what it did is known by its number. */
import { Effect } from "effect"
import type { Durability } from "../../Broker.ts"
import type { DurabilityNotReached, EngineError } from "../../Errors.ts"
import type { Exchange, Exchanged, JobStore } from "../../JobStore.ts"
import { soon, whenFailed } from "../backoff.ts"

type Failure = EngineError | DurabilityNotReached

const isPassing = (error: Failure): boolean =>
  error._tag === "EngineError" && (error.reason === "Unreachable" || error.reason === "Full")

export const answered = (
  store: JobStore["Service"],
  request: Exchange,
  durability: Durability
): Effect.Effect<Exchanged, EngineError> =>
  whenFailed(store.exchange(request, durability), (exchange) =>
    Effect.catch(
      Effect.retry(exchange, { schedule: soon, while: isPassing }),
      (error): Effect.Effect<Exchanged, EngineError> => {
        if (error._tag === "EngineError") return Effect.fail(error)
        if (durability === "memory") return Effect.die(error)
        // It is done, if not as safe as it should be; what else it said is asked for.
        const told = Effect.logWarning(`what became of jobs is ${error.message}`)
        return Effect.andThen(told, answered(store, request, "memory"))
      }
    )
  )
