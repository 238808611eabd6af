/** `millrace dead topics | list | show | redrive`: events that were given up, and putting them back. */
import { Effect } from "effect"
import { Argument, Command, Flag } from "effect/cli"
import * as Admin from "../Admin.ts"
import { change, dryRun, yes } from "./changing.ts"
import { withEngine } from "./engine.ts"
import { oneLine, WrongUse } from "./failures.ts"
import { show, toJson } from "./output.ts"
import { limit, list, listPages } from "./pages.ts"
import { withProgress } from "./progress.ts"

const topicName = Argument.String("topic").pipe(
  Argument.withDescription("The topic that holds the letters, such as orders.dead")
)

interface Place {
  readonly partition: number
  readonly offset: string
}

/** `<partition>@<offset>`, as lists show it. */
const placeOf = (text: string): Effect.Effect<Place, WrongUse> => {
  const match = /^(\d+)@(\d+-\d+\.\d+)$/.exec(text)
  return match === null
    ? Effect.fail(
        new WrongUse({
          message: `${JSON.stringify(text)} is no letter: give <partition>@<offset>, as dead list shows it`
        })
      )
    : Effect.succeed({ partition: Number(match[1]), offset: match[2]! })
}

const topics = Command.make(
  "topics",
  {},
  Effect.fn(function* () {
    const all = yield* withEngine()(Admin.deadTopics)
    yield* list(all, ["topic", "partitions", "letters", "dropped"], (one) => [
      one.topic,
      one.partitions,
      one.letters,
      one.dropped
    ])
  })
).pipe(Command.withDescription("Topics that take dead letters, and how many there are"))

const listing = Command.make(
  "list",
  { topic: topicName, limit },
  Effect.fn(function* ({ limit, topic }) {
    yield* withEngine()(
      listPages(
        limit,
        (cursor) => Admin.deadLetters(topic, { cursor }),
        ["letter", "processor", "attempts", "given up", "from", "error"],
        (letter) => [
          `${letter.partition}@${letter.offset}`,
          letter.processor,
          letter.attempts,
          letter.failedAt ?? undefined,
          `${letter.source.topic}/${letter.source.partition}@${letter.source.offset}`,
          oneLine(`${letter.error.tag}: ${letter.error.message}`)
        ]
      )
    )
  })
).pipe(Command.withDescription("The letters of a topic that were not put back"))

const one = Command.make(
  "show",
  { topic: topicName, letter: Argument.String("letter").pipe(Argument.withDescription("<partition>@<offset>")) },
  Effect.fn(function* ({ letter: text, topic }) {
    const { offset, partition } = yield* placeOf(text)
    const letter = yield* withEngine()(Admin.deadLetter(topic, partition, offset))
    yield* show(letter, () => [
      `from       ${letter.source.topic}/${letter.source.partition}@${letter.source.offset}`,
      `key        ${letter.key ?? "-"}`,
      `given up   ${letter.failedAt ?? "-"} by ${letter.processor}, after ${letter.attempts} attempts`,
      `value      ${letter.payload.problem ?? toJson(letter.payload.value)}`,
      `error      ${letter.error.tag}: ${letter.error.message}`,
      ...letter.error.stack.split("\n").map((line) => `           ${line}`)
    ])
  })
).pipe(Command.withDescription("One letter with its payload and its whole error"))

/** In pages, so that it is seen how far it is; each letter is put back exactly once, also if this ends in between. */
const redriven = (topic: string, places: ReadonlyArray<Place>, letters: number) =>
  withProgress("put back", places.length > 0 ? places.length : letters, (progress) => {
    const some = (places: ReadonlyArray<Place>) =>
      Effect.map(Admin.redrive(topic, places), (count) => {
        progress.done = progress.part += count
        return count
      })
    if (places.length > 0) return some(places)
    const all: ReturnType<typeof some> = Effect.flatMap(Admin.deadLetters(topic), ({ items }) =>
      items.length === 0
        ? Effect.succeed(0)
        : Effect.flatMap(some(items), (count) =>
            count === 0 ? Effect.succeed(0) : Effect.map(all, (more) => count + more)
          )
    )
    return all
  })

const redrive = Command.make(
  "redrive",
  {
    topic: topicName,
    letter: Flag.String("letter").pipe(
      Flag.withMetavar("partition@offset"),
      Flag.withDescription("Only this one; may be given several times"),
      Flag.atLeast(0)
    ),
    dryRun,
    yes
  },
  Effect.fn(function* ({ dryRun, letter, topic, yes }) {
    const places = yield* Effect.forEach(letter, placeOf)
    yield* withEngine()(
      Effect.gen(function* () {
        const known = yield* Admin.deadTopics
        const found = known.find((one) => one.topic === topic)
        if (found === undefined) {
          const there = known.length === 0 ? "there is none" : `there are ${known.map((one) => one.topic).join(", ")}`
          return yield* new WrongUse({ message: `no topic ${topic} takes dead letters; ${there}` })
        }
        const count = places.length > 0 ? places.length : found.letters
        yield* change(
          { dryRun, yes },
          {
            what: `put ${count} dead letters of ${topic} back at the end of their topics`,
            look: Effect.void,
            act: redriven(topic, places, found.letters),
            json: (redriven) => ({ topic, redriven }),
            line: (redriven) => `${redriven} dead letters of ${topic} are put back`
          }
        )
      })
    )
  })
).pipe(Command.withDescription("Put dead letters back where they came from, each exactly once"))

export const dead = Command.make("dead").pipe(
  Command.withDescription("Dead letters: where they are, list, show, put back"),
  Command.withSubcommands([topics, listing, one, redrive])
)
