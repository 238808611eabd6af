/** Values as they are typed and printed: JSON, in the form that their schema gives it. */
import { Effect, FileSystem, Option, Result, Schema, Stdio, Stream } from "effect"
import { Argument, Flag } from "effect/cli"
import { hide, redactedIn } from "../internal/record/redacted.ts"
import { oneLine, WrongUse } from "./failures.ts"

type Codec = Schema.ConstraintCodec<any, any>

export const parse = (text: string): Result.Result<unknown, string> => {
  try {
    return Result.succeed(JSON.parse(text))
  } catch (error) {
    return Result.fail(`it is no JSON: ${error instanceof Error ? oneLine(error.message) : String(error)}`)
  }
}

/** From JSON text to a value; why not is said in one line. */
export const decoder = (schema: Codec): ((text: string) => Result.Result<any, string>) => {
  const decode = Schema.decodeUnknownResult(Schema.toCodecJson(schema))
  return (text) =>
    Result.flatMap(parse(text), (json) =>
      Result.mapError(decode(json), (error) => `it does not fit: ${oneLine(error.message)}`)
    )
}

/** To what `JSON.stringify` takes, to be printed: without what is redacted. A value that its own schema refuses is shown as it is. */
export const encoder = (schema: Codec): ((value: unknown) => unknown) => {
  const encode = Schema.encodeUnknownResult(Schema.toCodecJson(schema))
  return (value) => {
    const encoded = encode(value)
    return Result.isSuccess(encoded) ? hide(encoded.success, redactedIn(schema)) : value
  }
}

/** A value for something with a name: as it was given, or from standard input. */
export const read = (what: string, schema: Codec, given: Option.Option<string>) =>
  Effect.gen(function* () {
    const text = Option.filter(given, (text) => text !== "-")
    const stdio = yield* Stdio.Stdio
    if (Option.isNone(text) && (yield* stdio.stdinIsTerminal)) {
      return yield* new WrongUse({ message: `there is no value for ${what}: give it as JSON, or on standard input` })
    }
    const json = Option.isSome(text) ? text.value : yield* Stream.mkString(Stream.decodeText(stdio.stdin))
    const decoded = decoder(schema)(json)
    if (Result.isSuccess(decoded)) return decoded.success
    return yield* new WrongUse({ message: `the value for ${what}: ${decoded.failure}` })
  })

export const json = Argument.String("json").pipe(
  Argument.withDescription("The value, as JSON; - or nothing: from standard input"),
  Argument.optional
)

export const headers = Flag.KeyValuePair("header").pipe(
  Flag.withMetavar("name=value"),
  Flag.withDescription("A header; may be given several times"),
  Flag.withDefault({} as Record<string, string>)
)

export const key = Flag.String("key").pipe(Flag.withDescription("The key, instead of the value's own"), Flag.optional)

export const partition = Flag.Int("partition").pipe(
  Flag.withDescription("The partition, whatever the key is"),
  Flag.optional
)

/** Lines of a file, or of standard input (`-`), in bounded memory; `bytes` hears how many were read. */
export const linesOf = (file: string, bytes: (count: number) => void) =>
  Stream.unwrap(
    Effect.gen(function* () {
      const fs = yield* FileSystem.FileSystem
      const stdio = yield* Stdio.Stdio
      const source = file === "-" ? stdio.stdin : fs.stream(file, { chunkSize: 64 * 1024 })
      return source.pipe(
        Stream.tap((chunk) => Effect.sync(() => bytes(chunk.length))),
        Stream.decodeText,
        Stream.splitLines
      )
    })
  ).pipe(Stream.mapError((error) => new WrongUse({ message: `${file} cannot be read: ${oneLine(error.message)}` })))
