/** The app that the tests of the command line work with: a processor, an agent, a table, a job, a schedule, commands. */
import { Console, Context, Effect, Layer, Schedule, Schema } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import { Agent, App, Job, Policy, Processor, Retention, Scheduler, Table, Topic } from "../../src/index.ts"

export class Order extends Schema.Class<Order>("Order")({
  id: Schema.Int,
  customer: Schema.String,
  amount: Schema.Finite
}) {}

class Declined extends Schema.TaggedError<Declined>()("Declined", { id: Schema.Int }) {}
class Broken extends Schema.TaggedError<Broken>()("Broken", { id: Schema.Int }) {}
class Later extends Schema.TaggedError<Later>()("Later", { id: Schema.Int }) {}

class Greeting extends Context.Service<Greeting, { readonly word: string }>()("test/Greeting") {}

export const orders = Topic.make("orders", {
  schema: Order,
  partitionBy: "customer",
  partitions: 4,
  retention: Retention.forever
})
/** Only written to. */
export const receipts = Topic.make("receipts", { schema: Schema.String, partitions: 1 })
const totals = Table.make("totals", { key: Schema.String, value: Schema.Finite, initial: () => 0 })

const billing = Processor.make("billing", { topic: orders, tables: [totals] }, (order) =>
  Effect.gen(function* () {
    if (order.amount < 0) return yield* new Declined({ id: order.id })
    if (order.amount === 666) return yield* new Broken({ id: order.id })
    if (order.amount === 555) return yield* new Later({ id: order.id })
    yield* Table.update(totals, order.customer, (total) => total + order.amount)
  })
).pipe(
  Processor.catchTag("Declined", Policy.deadLetter()),
  Processor.catchTag("Broken", Policy.quarantine),
  Processor.catchTag("Later", Policy.park({ schedule: Schedule.spaced("1 hour") })),
  Processor.catchTag("DecodeError", Policy.deadLetter())
)

class TooLong extends Schema.TaggedError<TooLong>()("TooLong", { most: Schema.Int }) {}

export const shout = Agent.make("shout", {
  request: Schema.Struct({ text: Schema.String }),
  reply: Schema.String,
  error: TooLong,
  partitions: 2
})
const shouting = Agent.handler(shout, ({ text }) =>
  text.length > 20 ? Effect.fail(new TooLong({ most: 20 })) : Effect.succeed(text.toUpperCase())
)

export const mail = Job.make("mail", {
  payload: Schema.Struct({ to: Schema.String }),
  success: Schema.String,
  queue: "post"
})
const mailing = Job.handler(mail, ({ to }) =>
  to === "nobody" ? Effect.die("no address") : Effect.succeed(`sent to ${to}`)
)

const cleanup = Scheduler.timer("cleanup", { every: "1 hour", onLeader: true }, Effect.void)

const greet = Command.make(
  "greet",
  { name: Argument.String("name"), twice: Flag.Boolean("twice").pipe(Flag.withDefault(false)) },
  Effect.fn(function* ({ name, twice }) {
    const { word } = yield* Greeting
    const position = yield* Effect.orDie(Topic.publish(receipts, name))
    for (let i = 0; i < (twice ? 2 : 1); i++) yield* Console.log(`${word} ${name}, ${position.topic}`)
  })
).pipe(Command.withDescription("Greet somebody"))

export const shop = App.make({
  name: "shop",
  version: "1.2",
  parts: [billing, shouting, mailing, cleanup],
  layer: Layer.succeed(Greeting, { word: "hello" }),
  commands: [greet]
})
