/**
 * Entries as anybody may have written them, thousands on each engine: cut, garbled, with fields that say what is not so.
 * Each way to process goes through all of them; what cannot be decoded meets its policy, and what can is handled once.
 */
import { assert, describe } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { Broker } from "../src/Broker.ts"
import * as Event from "../src/Event.ts"
import * as Policy from "../src/Policy.ts"
import * as Processor from "../src/Processor.ts"
import * as Topic from "../src/Topic.ts"
import { Choices } from "../src/testing/choices.ts"
import { behaviour, start, until } from "./support/engines.ts"

const entries = 3_400
const partitions = 2
const Note = Schema.Struct({ n: Schema.Int, text: Schema.String })
type Field = string | Uint8Array

/** How many events the engine takes an entry for: what stands in `n`, where that is a number. */
const countOf = (fields: ReadonlyArray<Field>): number => {
  for (let i = 0; i < fields.length; i += 2) {
    const [name, value] = [String(fields[i]), String(fields[i + 1])]
    if (name === "n") return /^[1-9]\d{0,5}$/.test(value) ? Number(value) : 1
  }
  return 1
}

const makeEntries = (seed: number) => {
  const random = new Choices(seed)
  const bytes = (most: number) => Uint8Array.from({ length: random.below(most) }, () => random.below(256))
  const sound: Array<number> = []
  const note = (n: number) => JSON.stringify({ n, text: "x".repeat(random.below(20)) })
  const whole = (n: number): Array<Field> => {
    if (random.chance(0.7)) return ["v", note(n), ...(random.chance(0.5) ? ["k", `key-${n % 7}`] : [])]
    return ["n", "2", "v", `[${note(n)},${note(n)}]`, "k", `["key-${n % 7}",null]`]
  }
  const garble = (fields: Array<Field>): Array<Field> => {
    const at = random.below(fields.length / 2) * 2
    switch (random.below(8)) {
      case 0: {
        const text = Buffer.from(fields[at + 1]!)
        if (text.length > 0) text[random.below(text.length)] = random.below(256)
        return fields.with(at + 1, text)
      }
      case 1:
        return fields.with(at + 1, bytes(40))
      case 2:
        return fields.with(at, random.pick(["", "n", "v", "k", "h", "t", "f", "vv", "\0", "__proto__"]))
      case 3:
        return fields.toSpliced(at, 2).concat(fields.length === 2 ? ["x", ""] : [])
      case 4:
        return [
          ...fields,
          random.pick(["n", "h", "t", "f", "k"]),
          random.pick(["-1", "0", "3", "300", "1e3", "{}", "[]", "null", "gzip"])
        ]
      case 5:
        return ["n", random.pick(["0", "2", "7", "many", "99999999"]), ...fields]
      case 6:
        return [...fields, "h", random.pick([`{"a":1}`, `[{"a":"b"}]`, "{", "null", `{"__proto__":{"x":"y"}}`])]
      default:
        return fields.with(at + 1, String(fields[at + 1]).slice(0, random.below(10)))
    }
  }
  const all = Array.from({ length: entries }, (_, n) => {
    const isSound = random.chance(0.6)
    // Numbers of their own: what is garbled must not become the number of a sound one.
    let fields = whole(isSound ? n : 1_000_000 + n)
    if (isSound) sound.push(...Array.from({ length: countOf(fields) }, () => n))
    else for (let times = 1 + random.below(3); times > 0; times--) fields = garble(fields)
    return { count: countOf(fields), fields }
  })
  return { all, sound }
}

describe("entries of any kind", () => {
  behaviour(
    "crash nothing and hold up nothing; those that are sound are handled, each once",
    (engine) =>
      Effect.gen(function* () {
        const topic = Topic.make("notes", { schema: Note, partitions })
        const { all, sound } = makeEntries(engine.name.length)
        const seen: Record<string, Array<number>> = { make: [], perKey: [], batch: [], stream: [] }
        const see = (shape: string) => (value: { readonly n: number }) =>
          Effect.sync(() => void seen[shape]!.push(value.n))
        const parts = [
          Processor.make("make", { topic }, see("make")),
          Processor.make("perKey", { topic, concurrency: { perKey: 4 } }, see("perKey")),
          Processor.batch("batch", { topic, size: 10, within: "10 millis", onFailure: "split" }, (values) =>
            Effect.forEach(values, see("batch"))
          ),
          Processor.stream("stream", { topic }, Event.mapEffect(see("stream")))
        ].map(Processor.catchTag("DecodeError", Policy.ignore))
        const publisher = crypto.randomUUID()
        for (let from = 0, number = 1; from < all.length; from += 100, number++) {
          yield* Broker.use((broker) =>
            broker.append(
              [
                {
                  topic,
                  partition: number % partitions,
                  publisher,
                  number: Math.ceil(number / partitions),
                  entries: all.slice(from, from + 100)
                }
              ],
              "memory"
            )
          )
        }
        const worker = yield* start(parts)
        const idle = yield* Effect.forkChild(worker.idle)
        yield* until(engine, "all is handled", () => idle.pollUnsafe() !== undefined)
        for (const { name } of parts) {
          const lags = yield* Processor.lag(name)
          assert.deepStrictEqual(
            lags.map(({ events }) => events),
            [0, 0],
            name
          )
          const found = Map.groupBy(seen[name]!, (n) => n)
          const missing = sound.filter((n) => !found.has(n))
          assert.deepStrictEqual(missing.slice(0, 5), [], `${name} has not seen these`)
          const wrong = sound.filter(
            (n, i) => sound[i - 1] !== n && found.get(n)!.length !== sound.filter((m) => m === n).length
          )
          assert.deepStrictEqual(wrong.slice(0, 5), [], `${name} has not seen these as often as they are there`)
        }
        yield* worker.stop
      }),
    { timeout: 60_000 }
  )
})
