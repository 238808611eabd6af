/** Something of everything, for the page to show: what the workers of its test run, and what is sent to them. */
import { existsSync } from "node:fs"
import { Effect, Schedule, Schema } from "effect"
import { Job, Policy, Processor, Retention, Scheduler, Table, Topic } from "../../src/index.ts"

const Crate = Schema.Struct({
  id: Schema.Int,
  ship: Schema.String,
  cargo: Schema.String,
  fate: Schema.Literals(["fine", "slow", "jammed", "held", "broken"])
})
type Crate = typeof Crate.Type

class Jammed extends Schema.TaggedError<Jammed>()("Jammed", { id: Schema.Int }) {
  override get message() {
    return `crate ${this.id} is stuck in the crane`
  }
}
class Held extends Schema.TaggedError<Held>()("Held", { ship: Schema.String }) {
  override get message() {
    return `the customs hold ${this.ship}`
  }
}
class Broken extends Schema.TaggedError<Broken>()("Broken", { cargo: Schema.String }) {
  override get message() {
    return `<b>${this.cargo}</b> arrived broken`
  }
}

export const crates = Topic.make("crates", {
  schema: Crate,
  partitionBy: "ship",
  partitions: 16,
  retention: Retention.forever
})
/** Many partitions, and letters by the thousand. */
export const parcels = Topic.make("parcels", {
  schema: Crate,
  partitionBy: "ship",
  partitions: 256,
  retention: Retention.forever
})
const weights = Table.make("weights", { key: Schema.String, value: Schema.Int, initial: () => 0 })

/** While this file is not there, what jams stays jammed. */
const gate = process.env["GATE"] ?? ""

const unload = (crate: Crate): Effect.Effect<void, Jammed | Held | Broken> => {
  switch (crate.fate) {
    case "fine":
      return Effect.void
    case "slow":
      // A real wait: so that somebody can be seen at work.
      return Effect.sleep("300 millis")
    case "jammed":
      return existsSync(gate) ? Effect.void : Effect.fail(new Jammed({ id: crate.id }))
    case "held":
      return Effect.fail(new Held({ ship: crate.ship }))
    case "broken":
      return Effect.fail(new Broken({ cargo: crate.cargo }))
  }
}

export const mail = Job.make("mail", {
  payload: Schema.Struct({ to: Schema.String }),
  error: Held,
  queue: "post",
  retries: 0
})

export const parts = [
  Processor.make("unloading", { topic: crates, tables: [weights] }, (crate) =>
    Effect.andThen(
      unload(crate),
      Table.update(weights, crate.ship, (n) => n + 1)
    )
  ).pipe(
    Processor.catchTag("Jammed", Policy.quarantine),
    Processor.catchTag("Held", Policy.park({ schedule: Schedule.spaced("1 hour") })),
    Processor.catchTag("Broken", Policy.deadLetter())
  ),
  Processor.make("sorting", { topic: parcels }, unload).pipe(
    Processor.catchTag("Jammed", Policy.quarantine),
    Processor.catchTag("Held", Policy.park({ schedule: Schedule.spaced("1 hour") })),
    Processor.catchTag("Broken", Policy.deadLetter())
  ),
  Job.handler(mail, ({ to }) => (to.startsWith("ship") ? Effect.fail(new Held({ ship: to })) : Effect.void)),
  Scheduler.timer("tides", { every: "5 seconds", onLeader: true }, Effect.void),
  Scheduler.cron("closing", { expression: "0 18 * * *", timezone: "Europe/Amsterdam" }, Effect.void)
]

const cargoes = ["tea", "copper", "lenses", "paper", "barley"]

export const crate = (id: number, fate: Crate["fate"] = "fine", ship = `ship-${id % 97}`): Crate => ({
  id,
  ship,
  cargo: cargoes[id % cargoes.length]!,
  fate
})
