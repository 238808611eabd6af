/** Brokers that stand between a worker and its engine: they lose answers, or tell what was committed. */
import { type Context, Deferred, Effect, Layer } from "effect"
import { Broker, type Commit } from "../../src/Broker.ts"
import { EngineError } from "../../src/Errors.ts"

type Service = Context.Service.Shape<typeof Broker>

/** Run with another broker, made of the engine's. */
export const through =
  (change: (broker: Service) => Service) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    Effect.provide(effect, Layer.effect(Broker, Effect.map(Broker, change)))

/** The first commit of which this holds is applied, and its answer is lost. */
export const losingReply = (when: (commit: Commit) => boolean) => {
  const state = { lost: 0 }
  const change = (broker: Service): Service =>
    Broker.of({
      ...broker,
      commit: (commits, durability) =>
        Effect.flatMap(broker.commit(commits, durability), (results) => {
          if (state.lost > 0 || !commits.some(when)) return Effect.succeed(results)
          state.lost++
          return Effect.fail(
            new EngineError({ operation: "commit", reason: "Unreachable", detail: "the answer is lost" })
          )
        })
    })
  return { state, change }
}

/** The first commit of which this holds is applied, and nobody ever hears of it: `applied` says when. */
export const hanging = (when: (commit: Commit) => boolean) => {
  const applied = Deferred.makeUnsafe<void>()
  const change = (broker: Service): Service =>
    Broker.of({
      ...broker,
      commit: (commits, durability) =>
        Effect.flatMap(broker.commit(commits, durability), (results) =>
          commits.some(when) && Deferred.doneUnsafe(applied, Effect.void) ? Effect.never : Effect.succeed(results)
        )
    })
  return { applied: Deferred.await(applied), change }
}

/** Told of each append that was answered: how many events it stored. */
export const countingAppends = (stored: (events: number) => void) => (broker: Service) =>
  Broker.of({
    ...broker,
    append: (appends, durability) =>
      Effect.tap(broker.append(appends, durability), () =>
        Effect.sync(() => {
          for (const { entries } of appends) for (const entry of entries) stored(entry.count)
        })
      )
  })

/** Every call of commits, as it is sent. */
export const recording = (calls: Array<ReadonlyArray<Commit>>) => (broker: Service) =>
  Broker.of({
    ...broker,
    commit: (commits, durability) => {
      calls.push(commits)
      return broker.commit(commits, durability)
    }
  })
