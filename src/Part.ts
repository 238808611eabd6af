/** Something a worker runs. `E` is what can halt the worker, `R` what it needs. */
import type { Effect, Layer, Scope } from "effect"
import { dual } from "effect/Function"
import type { Pipeable } from "effect/Pipeable"
import type { Handler } from "./internal/jobs/spec.ts"
import { type Around, around as aroundPart, type Work } from "./internal/run/around.ts"
import type { Common, Definition } from "./internal/run/definition.ts"
import type { Definition as Ticking } from "./internal/schedule/definition.ts"

export type { Work }

type Covariant<A> = (_: never) => A

export interface Part<out E, out R> extends Pipeable {
  readonly "~millrace/Part": { readonly _E: Covariant<E>; readonly _R: Covariant<R> }
  readonly name: string
  /** @internal */
  readonly definition: Common
  /** @internal */
  readonly job?: Handler | undefined
  /** @internal */
  readonly with: (changes: Partial<Definition> & Partial<Ticking> & { readonly job?: Handler }) => this
}

export type Any = Part<any, any>
export type Error<P> = P extends Part<infer E, any> ? E : never
export type Services<P> = P extends Part<any, infer R> ? R : never

/**
 * Give one part its own layer, built when the worker starts and closed when it ends. The same layer given to several parts
 * is built once for the worker, as in Effect (the first part's needs are its); `Layer.fresh(layer)` is one for each.
 */
export const provide: {
  <ROut, RIn>(layer: Layer.Layer<ROut, never, RIn>): <E, R>(self: Part<E, R>) => Part<E, Exclude<R, ROut> | RIn>
  <E, R, ROut, RIn>(self: Part<E, R>, layer: Layer.Layer<ROut, never, RIn>): Part<E, Exclude<R, ROut> | RIn>
} = dual(
  2,
  <E, R, ROut, RIn>(self: Part<E, R>, layer: Layer.Layer<ROut, never, RIn>): Part<E, Exclude<R, ROut> | RIn> =>
    self.with({ layers: [...self.definition.layers, layer] }) as Part<any, any>
)

/**
 * One middleware for any part: around the handler of a processor, agent, job or schedule, each time it runs. It sees success,
 * failure and interruption, may do something before and after, and die in the handler's place. The last one added is the
 * outermost, and that of `App.make` is outside them all. A stream (`Processor.stream`) has no handler, and is left as it is.
 */
export const around: {
  <R2 = never>(
    f: <A, E>(handle: Effect.Effect<A, E>, work: Work) => Effect.Effect<A, E, R2>
  ): <E, R>(self: Part<E, R>) => Part<E, R | Exclude<R2, Scope.Scope>>
  <E, R, R2 = never>(
    self: Part<E, R>,
    f: <A, E>(handle: Effect.Effect<A, E>, work: Work) => Effect.Effect<A, E, R2>
  ): Part<E, R | Exclude<R2, Scope.Scope>>
} = dual(2, (self: Any, f: any): Any => aroundPart(self, f as Around))
