/** A coordinator that tells what it is asked to put aside, and may be away for the first calls. */
import { Effect, Layer } from "effect"
import { Coordinator, type Grant, type Quarantine } from "../../src/Coordinator.ts"
import { EngineError } from "../../src/Errors.ts"

export interface Aside {
  readonly grant: Grant
  readonly member: string
  readonly entry: Quarantine
}

/** Run with it. */
export const noting =
  (asides: Array<Aside>, options: { readonly away?: number } = {}) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>) => {
    let { away = 0 } = options
    const layer = Layer.effect(
      Coordinator,
      Effect.map(Coordinator, (coordinator) =>
        Coordinator.of({
          ...coordinator,
          quarantine: (grant, member, entry) =>
            Effect.suspend(() => {
              if (away-- > 0) {
                return Effect.fail(new EngineError({ operation: "quarantine", reason: "Unreachable", detail: "away" }))
              }
              return Effect.andThen(
                coordinator.quarantine(grant, member, entry),
                Effect.sync(() => void asides.push({ grant, member, entry }))
              )
            })
        })
      )
    )
    return Effect.provide(effect, layer)
  }
