/**
 * A publisher of a chaos round: `MILLRACE_URL`, `MILLRACE_SHARDS`, `SEED`, `SOURCES` (names, by commas, of sequences that
 * it publishes side by side, each with keys of its own), `RECORD` (its file; one that is there is gone on with). Numbers
 * the events of each key, and writes down what it tries before it does and what it is told. SIGTERM ends it, in order.
 */
import { Effect, Exit } from "effect"
import { Engine, Topic } from "../../src/index.ts"
import { Choices } from "../../src/testing/choices.ts"
import { type Work, work } from "./rounds.ts"
import { publishedWriter, readPublished } from "./roundsRecord.ts"

const variable = (name: string): string => {
  const value = process.env[name]
  if (value === undefined) throw new Error(`${name} is not set`)
  return value
}

const keysOfSource = 8
/** Events of a source: a round that takes long on a busy machine is not to have more and more to do. */
const most = 800
const record = variable("RECORD")
const last = new Map<string, number>()
for (const { key, n } of readPublished(record)) last.set(key, n)
const write = publishedWriter(record)
const random = new Choices(Number(variable("SEED")) + last.size)

let ending = false
process.once("SIGTERM", () => {
  ending = true
})

const next = (source: string): Work => {
  const key = `${source}-${random.below(keysOfSource)}`
  const n = (last.get(key) ?? 0) + 1
  last.set(key, n)
  return { key, n }
}

const publishing = Effect.fnUntraced(function* (source: string) {
  for (let count = 0; !ending; ) {
    // Real time: so that events come all through the round.
    yield* Effect.sleep(10 + random.below(50))
    if (count >= most) continue
    const events = Array.from({ length: 1 + random.below(6) }, () => next(source))
    count += events.length
    write(events.map((event) => ({ what: "tried", ...event, partition: -1, offset: "-" })))
    const exit = yield* Effect.exit(Topic.publishAll(work, events))
    if (Exit.isSuccess(exit)) {
      write(events.map((event, i) => ({ what: "stored", ...event, ...exit.value[i]! })))
    } else write(events.map((event) => ({ what: "failed", ...event, partition: -1, offset: "-" })))
  }
})

process.stdout.write(`${JSON.stringify({ what: "started" })}\n`)
await Effect.runPromise(
  Effect.forEach(variable("SOURCES").split(","), publishing, { concurrency: "unbounded", discard: true }).pipe(
    Effect.provide(Engine.layerConfig)
  )
)
// The client's connections would keep it alive for as long as closing them takes.
process.exit(0)
