/**
 * What a handler needs is a service, and stands in the processor's type until a layer gives it: another one in a test,
 * without touching the processor. The engine is layers too, and each can be swapped alone: here the serializer.
 */
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import { Console, Context, Effect, Layer, Schema } from "effect"
import { Engine, Part, Processor, Serializer, Topic, Worker } from "../src/index.ts"

class Mailer extends Context.Service<Mailer, { send(to: string, text: string): Effect.Effect<void> }>()(
  "examples/Mailer"
) {
  static readonly layer = Layer.succeed(this, { send: (to, text) => Console.log(`smtp: to ${to}: ${text}`) })
}

const signups = Topic.make("signups", { schema: Schema.Struct({ email: Schema.String }), partitionBy: "email" })

// Processor<DecodeError, Mailer>
const welcome = Processor.make("welcome", { topic: signups }, ({ email }) =>
  Mailer.use((mailer) => mailer.send(email, "welcome"))
)

const once = Effect.gen(function* () {
  yield* Topic.publish(signups, { email: "ada@example.org" })
  yield* Worker.run([welcome], { limit: 1 })
})

// In a test: the same worker, with a mailer that remembers.
const outbox: Array<string> = []
const fakeMailer = Layer.succeed(Mailer, {
  send: (to) =>
    Effect.sync(() => {
      outbox.push(to)
    })
})

const program = Effect.gen(function* () {
  yield* once.pipe(Effect.provide(Mailer.layer))
  yield* once.pipe(Effect.provide(fakeMailer))
  yield* Console.log(`fake: ${outbox.join()}`)

  // MessagePack for all topics that name no serializer; the one that is nearest to the program counts.
  yield* once.pipe(Effect.provide([Mailer.layer, Serializer.layer(Serializer.msgpack)]))

  // Or a layer for one part only, opened when the worker starts and closed when it ends.
  yield* Topic.publish(signups, { email: "grace@example.org" })
  yield* Worker.run([welcome.pipe(Part.provide(Mailer.layer))], { limit: 1 })
})

const engine = process.env.MILLRACE_URL ? Engine.layerConfig : Engine.layerMemory

program.pipe(Effect.provide(engine), NodeRuntime.runMain)
