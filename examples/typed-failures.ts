/**
 * Policies take errors out of a processor's type: each says what becomes of the event. What is left in the type halts
 * the worker, and the program fails with it, typed. A halted event is not acknowledged: it comes again at the next start.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Console, Effect, Schema } from "effect"
import { Engine, Policy, Processor, Topic, Worker } from "../src/index.ts"

class Declined extends Schema.TaggedError<Declined>()("Declined", { id: Schema.Int }) {}
class Unpaid extends Schema.TaggedError<Unpaid>()("Unpaid", { id: Schema.Int }) {}
class TooMuch extends Schema.TaggedError<TooMuch>()("TooMuch", { id: Schema.Int }) {
  override get message() {
    return `payment ${this.id} needs a second signature`
  }
}

const Payment = Schema.Struct({ id: Schema.Int, amount: Schema.Finite })
const payments = Topic.make("payments", { schema: Payment, partitions: 1 })

// Processor<Declined | Unpaid | TooMuch | DecodeError, never>
const charge = Processor.make(
  "charge",
  { topic: payments },
  Effect.fnUntraced(function* ({ amount, id }) {
    if (amount < 0) return yield* new Declined({ id })
    if (amount === 0) return yield* new Unpaid({ id })
    if (amount > 1_000) return yield* new TooMuch({ id })
    yield* Console.log(`charged ${id}`)
  })
)

// Processor<TooMuch | DecodeError, never>
const safe = charge.pipe(
  Processor.catchTag("Declined", Policy.ignore), // acknowledged, what it staged is dropped, counted
  Processor.catchTag(
    "Unpaid",
    // By looking at the error, and at the event it came from.
    Policy.choose((error, event) => {
      console.log(`payment ${error.id} is for nothing: ignored on attempt ${event.attempt}`)
      return Policy.ignore
    })
  )
)

const program = Effect.gen(function* () {
  for (const [i, amount] of [10, -1, 0, 20, 5_000, 30].entries()) yield* Topic.publish(payments, { id: i + 1, amount })
  // Effect<Summary, ProcessorHalted<TooMuch | DecodeError> | EngineError | ...>
  yield* Worker.run([safe]).pipe(Effect.catchTag("ProcessorHalted", (halted) => Console.log(halted.message)))
  const [lag] = yield* Processor.lag("charge")
  yield* Console.log(`${lag?.events} events wait for the next start`)
})

const engine = process.env.MILLRACE_URL ? Engine.layerConfig : Engine.layerMemory

program.pipe(Effect.provide(engine), NodeRuntime.runMain)
