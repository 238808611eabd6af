/** Something a worker runs. `E` is what can halt the worker, `R` what it needs. */
import type { Layer } from "effect"
import { dual } from "effect/Function"
import type { Pipeable } from "effect/Pipeable"
import type { Handler } from "./internal/jobs/spec.ts"
import type { Common, Definition } from "./internal/run/definition.ts"

type Covariant<A> = (_: never) => A

export interface Part<out E, out R> extends Pipeable {
  readonly "~millrace/Part": { readonly _E: Covariant<E>; readonly _R: Covariant<R> }
  readonly name: string
  /** @internal */
  readonly definition: Common
  /** @internal */
  readonly job?: Handler | undefined
  /** @internal */
  readonly with: (changes: Partial<Definition>) => this
}

export type Any = Part<any, any>
export type Error<P> = P extends Part<infer E, any> ? E : never
export type Services<P> = P extends Part<any, infer R> ? R : never

/** Give one part its own layer, built when the worker starts and closed when it ends. */
export const provide: {
  <ROut, RIn>(layer: Layer.Layer<ROut, never, RIn>): <E, R>(self: Part<E, R>) => Part<E, Exclude<R, ROut> | RIn>
  <E, R, ROut, RIn>(self: Part<E, R>, layer: Layer.Layer<ROut, never, RIn>): Part<E, Exclude<R, ROut> | RIn>
} = dual(
  2,
  <E, R, ROut, RIn>(self: Part<E, R>, layer: Layer.Layer<ROut, never, RIn>): Part<E, Exclude<R, ROut> | RIn> =>
    self.with({ layers: [...self.definition.layers, layer] }) as Part<any, any>
)
