/** What the tests of `Admin` are written with: shapes that fit, failures in words, looks that are repeated until they hold. */
import { assert } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { type TestEngine, until } from "./engines.ts"

/** What each function gives fits the schema of its name, and is plain JSON. */
export const fits = <A>(schema: Schema.ConstraintCodec<A, unknown>, value: A): A => {
  assert.deepStrictEqual(Schema.decodeUnknownSync(schema)(JSON.parse(JSON.stringify(value))), value)
  return value
}

const described = (error: { readonly _tag: string; readonly message: string }) => `${error._tag}: ${error.message}`

/** The failure of a function, in words. */
export const refusal = <A, R>(effect: Effect.Effect<A, { readonly _tag: string; readonly message: string }, R>) =>
  Effect.map(Effect.flip(effect), described)

export const eventually = <A, R>(
  engine: TestEngine,
  what: string,
  look: Effect.Effect<A, unknown, R>,
  holds: (a: A) => boolean
) =>
  Effect.gen(function* () {
    yield* until(engine, what, () => Effect.map(Effect.orDie(look), holds))
    return yield* Effect.orDie(look)
  })
