/** What is dear to make, made once for all tests of a file: at the first use, until the file is done. */
import { Effect, Exit, Scope } from "effect"
import { afterAll } from "vitest"

/** Call it at the top of the file. */
export const sharedInFile = <A>(make: Effect.Effect<A, never, Scope.Scope>): Effect.Effect<A> => {
  const scope = Scope.makeUnsafe()
  const made = Effect.runSync(Effect.cached(Effect.uninterruptible(Scope.provide(make, scope))))
  afterAll(() => Effect.runPromise(Scope.close(scope, Exit.void)))
  return made
}
