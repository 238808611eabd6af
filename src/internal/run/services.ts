/**
 * What the code of parts needs, built from their own layers (`Part.provide`, `App.make({ layer })`). All parts of a worker
 * build in one memo map, as Effect's layers do: the same layer, given to several of them, is built once and closed once.
 */
import { Context, Effect, Layer, Scope } from "effect"
import type * as Part from "../../Part.ts"

/** The services of a part, above those of the worker; what they hold is closed with the scope. */
export const servicesIn = (context: Context.Context<never>) => {
  // What the program around has built is shared too; what is built here stays the worker's.
  const built = Layer.CurrentMemoMap.forkOrCreate(context)
  return Effect.fnUntraced(function* (part: Part.Any) {
    const scope = yield* Scope.Scope
    let services = context
    for (const layer of part.definition.layers.toReversed()) {
      const own = Layer.buildWithMemoMap(layer, built, scope)
      services = Context.merge(services, yield* Effect.provideContext(own, services))
    }
    return services
  })
}
