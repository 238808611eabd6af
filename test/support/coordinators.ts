/** A coordinator that tells what it was asked to put aside, and may be away for the first calls. */
import { Effect, Layer } from "effect"
import { Coordinator, type Grant, type Quarantine } from "../../src/Coordinator.ts"
import { EngineError } from "../../src/Errors.ts"

export interface Aside {
  readonly grant: Grant
  readonly member: string
  readonly entry: Quarantine
}

/** Run with it: the cluster's books stay as they are, so the next worker is given the partition as after a release. */
export const noting =
  (asides: Array<Aside>, options: { readonly away?: number; readonly before?: Effect.Effect<void> } = {}) =>
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
              asides.push({ grant, member, entry })
              return options.before ?? Effect.void
            })
        })
      )
    )
    return Effect.provide(effect, layer)
  }
