/** An engine of somebody's own that breaks a law of each port, and the suite as they run it. */
import { randomUUID } from "node:crypto"
import { Effect, Layer } from "effect"
import { Broker } from "../../../src/Broker.ts"
import { Coordinator } from "../../../src/Coordinator.ts"
import * as Engine from "../../../src/Engine.ts"
import { JobStore } from "../../../src/JobStore.ts"
import { Laws } from "../../../src/laws/index.ts"
import { TableStore } from "../../../src/TableStore.ts"

/** Does not know again what was sent twice. */
const broker = Effect.map(Broker, (sound) =>
  Broker.of({
    ...sound,
    append: (appends, durability) =>
      sound.append(
        appends.map((append) => ({ ...append, publisher: randomUUID(), number: 1 })),
        durability
      )
  })
)

/** Answers in another order than it was asked in. */
const tables = Effect.map(TableStore, (sound) =>
  TableStore.of({
    ...sound,
    readMany: (...args) => Effect.map(sound.readMany(...args), (rows) => rows.toReversed())
  })
)

/** Never takes anything from the dead. */
const coordinator = Effect.map(Coordinator, (sound) =>
  Coordinator.of({ ...sound, sync: (request) => sound.sync({ ...request, lease: request.lease * 1_000 }) })
)

/** Gives a worker that is answered late the jobs once more. */
const jobs = Effect.map(JobStore, (sound) => {
  let number = 0
  return JobStore.of({ ...sound, exchange: (request) => sound.exchange({ ...request, number: ++number }) })
})

const broken = Layer.mergeAll(
  Layer.effect(Broker, broker),
  Layer.effect(TableStore, tables),
  Layer.effect(Coordinator, coordinator),
  Layer.effect(JobStore, jobs)
).pipe(Layer.provide(Engine.layerMemory))

Laws.all("broken", broken, { live: false, seeds: 2 })
