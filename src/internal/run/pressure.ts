/**
 * Emits never wait, so back-pressure stands before the next event: while a topic that was emitted to is above its
 * capacity, the partition takes nothing new. When that topic's floor has not moved for 30 seconds it takes one more
 * chunk all the same, and says so: a circle of processors slows down and never stands still.
 */
import { Clock, type Context, Effect, Schedule } from "effect"
import type { Broker, Commit, Layout } from "../../Broker.ts"

const patience = 30_000

interface Target {
  readonly topic: Layout
  readonly partition: number
  /** Events that may be emitted between two looks. */
  readonly share: number
  emitted: number
}

export class Pressure {
  private readonly targets = new Map<string, Target>()
  /** Somebody should look whether there is room. */
  due = false
  private readonly processor: string
  private readonly inputs: ReadonlySet<string>
  private readonly broker: Context.Service.Shape<typeof Broker>
  constructor(processor: string, inputs: ReadonlySet<string>, broker: Context.Service.Shape<typeof Broker>) {
    this.processor = processor
    this.inputs = inputs
    this.broker = broker
  }

  /** These are on their way. Emits to one of its own inputs are not held back: they could wait for themselves. */
  note(emits: Commit["emits"]): void {
    for (const { entries, partition, topic } of emits) {
      if (topic.retention._tag !== "Consumed" || this.inputs.has(topic.name)) continue
      const id = `${topic.name}/${partition}`
      let target = this.targets.get(id)
      if (target === undefined) {
        const share = Math.max(1, Math.min(1_000, Math.floor(topic.retention.capacity / 10)))
        target = { topic, partition, share, emitted: 0 }
        this.targets.set(id, target)
      }
      for (const { count } of entries) target.emitted += count
      if (target.emitted >= target.share) this.due = true
    }
  }

  /** Completes when all targets have room, or after the patience is over, reported. */
  readonly relief: Effect.Effect<void> = Effect.suspend(() =>
    Effect.forEach(
      Array.from(this.targets.values()).filter((target) => target.emitted >= target.share),
      (target) => this.relieve(target),
      { discard: true }
    )
  ).pipe(
    Effect.map(() => {
      // The next commit says whether to look again.
      this.due = false
    })
  )

  private relieve(target: Target): Effect.Effect<void> {
    const { broker, processor } = this
    const { partition, topic } = target
    return Effect.gen(function* () {
      const since = yield* Clock.currentTimeMillis
      // While the engine is away nothing is committed either.
      const look = broker.hasRoom(topic, partition).pipe(
        Effect.retry({ schedule: Schedule.spaced("500 millis"), while: (error) => error.reason === "Unreachable" }),
        Effect.orElseSucceed(() => true)
      )
      while (!(yield* look)) {
        if ((yield* Clock.currentTimeMillis) - since >= patience) {
          yield* Effect.logWarning(
            `TopicOverfull: ${topic.name}/${partition} is above its capacity and nobody has committed there for ` +
              `30 seconds; ${processor} emits one more chunk: run the processors of ${topic.name}, or raise its capacity`
          )
          return
        }
        yield* Effect.timeoutOption(broker.awaitRoom(topic, partition), patience)
      }
      target.emitted = 0
    })
  }
}
