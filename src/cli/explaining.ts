/**
 * What became of one event: is it stored, and for each processor of its topic whether it is done, waits, or was put aside.
 * Put together from several looks at a running system, so what moves meanwhile may be seen between two states.
 */
import { Clock, DateTime, Effect, Option, Stream } from "effect"
import * as Admin from "../Admin.ts"
import { Broker, type Lag, type StoredTopic } from "../Broker.ts"
import { Coordinator, type Group, type Quarantined } from "../Coordinator.ts"
import type { Event } from "../Event.ts"
import { anything } from "../internal/admin/topics.ts"
import { compare, millis, offset as offsetOf, parseOffset } from "../internal/entryId.ts"
import { hide } from "../internal/record/redacted.ts"
import { keyOf } from "../internal/run/parking.ts"
import { tail } from "../internal/tail.ts"
import { WrongUse } from "./failures.ts"

export interface Place {
  readonly topic: string
  readonly partition: number
  readonly offset: string
}

/** `<topic>/<partition>@<offset>`, as `send` prints it. */
export const placeOf = (text: string): Effect.Effect<Place, WrongUse> => {
  const match = /^([^/@]+)\/(\d+)@(\d+-\d+(?:\.\d+)?)$/.exec(text)
  const offset = match === null ? undefined : parseOffset(match[3]!)
  return match === null || offset === undefined
    ? Effect.fail(new WrongUse({ message: `${JSON.stringify(text)} is no event: give <topic>/<partition>@<offset>` }))
    : Effect.succeed({
        topic: match[1]!,
        partition: Number(match[2]),
        offset: offsetOf(offset.id, offset.index)
      })
}

/** Negative, zero or positive, as for `Array.sort`. */
const compareOffsets = (a: string, b: string): number => {
  const [left, right] = [parseOffset(a)!, parseOffset(b)!]
  return compare(left.id, right.id) || left.index - right.index
}

export interface Standing {
  readonly processor: string
  readonly state: "done" | "dead letter" | "parked" | "quarantined" | "waiting"
  readonly detail: string
  /** The last event that is done; null if none is. */
  readonly committed: string | null
  /** Who owns its partition; null: nobody. */
  readonly owner: string | null
}

/** Letters and lanes are looked through page by page. */
const letterOf = (place: Place) =>
  Effect.gen(function* () {
    const topics = yield* Admin.deadTopics
    return yield* Stream.fromIterable(topics).pipe(
      Stream.filter(({ letters }) => letters > 0),
      Stream.flatMap(({ topic }) =>
        Stream.paginate(undefined as string | undefined, (cursor) =>
          Effect.map(Admin.deadLetters(topic, { cursor }), ({ items, next }) => [
            items,
            Option.map(Option.fromNullOr(next), (next): string | undefined => next)
          ])
        )
      ),
      Stream.filter(
        ({ source }) =>
          source.topic === place.topic &&
          source.partition === place.partition &&
          compareOffsets(source.offset, place.offset) === 0
      ),
      Stream.runCollect
    )
  })

/** The lane of a processor that holds it. */
const laneOf = (processor: string, place: Place) =>
  Effect.gen(function* () {
    const broker = yield* Broker
    const { partition } = place
    for (const lane of yield* broker.lanes(processor, partition)) {
      let after: string | undefined
      do {
        const page = yield* broker.parked({ processor, partition, lane: lane.lane, after, count: 100 })
        const isHere = page.events.some(
          ({ offset, topic }) => topic === place.topic && compareOffsets(offset, place.offset) === 0
        )
        if (isHere) return lane
        after = page.next
      } while (after !== undefined)
    }
    return undefined
  })

const waiting = ({ topic, offset, partition }: Place, group: Group, aside: Quarantined | undefined): string => {
  const position = aside?.positions.find((one) => one.topic === topic)
  const behind = position === undefined ? "" : ` at ${position.first}`
  if (aside !== undefined) {
    return `behind an event that quarantined the partition${behind}: release it, or skip that event`
  }
  if (group.paused) return `the processor is paused; ${offset} is handled once it is resumed`
  const owner = group.owners[partition]
  return owner === undefined ? "no worker runs the processor" : `its turn comes at ${owner.member}`
}

const standing = (
  processor: string,
  place: Place,
  lag: Lag | undefined,
  letters: ReadonlyArray<Admin.DeadLetter>
): Effect.Effect<Standing, Admin.Failure, Admin.Services> =>
  Effect.gen(function* () {
    const coordinator = yield* Coordinator
    const group = yield* coordinator.group(processor)
    const committed = lag === undefined || lag.committed === "0-0.0" ? null : lag.committed
    const owner = group.owners[place.partition]?.member ?? null
    const is = (state: Standing["state"], detail: string): Standing => ({ processor, state, detail, committed, owner })
    if (committed !== null && compareOffsets(place.offset, committed) <= 0) {
      const letter = letters.find((one) => one.processor === processor)
      if (letter !== undefined) {
        const { error, offset, partition, topic } = letter
        return is("dead letter", `${topic}/${partition}@${offset}: ${error.tag}: ${error.message}`)
      }
      const lane = yield* laneOf(processor, place)
      if (lane === undefined) return is("done", "handled, or settled by a policy")
      const key = keyOf(lane.lane)
      const due = DateTime.formatIso(DateTime.makeUnsafe(lane.due))
      return is("parked", `waits aside${key === undefined ? "" : ` under key ${JSON.stringify(key)}`}; tried at ${due}`)
    }
    const all = yield* coordinator.quarantined(processor)
    const aside = all.find(({ partition }) => partition === place.partition)
    const failed = aside?.positions.find(
      ({ first, last, topic }) =>
        topic === place.topic && compareOffsets(first, place.offset) <= 0 && compareOffsets(place.offset, last) <= 0
    )
    return aside !== undefined && failed !== undefined
      ? is("quarantined", `it put its partition aside (${aside.reason}): ${aside.error}`)
      : is("waiting", waiting(place, group, aside))
  })

/** The event itself, if it is stored and can be read without a schema. */
const read = (stored: StoredTopic, place: Place) =>
  tail<unknown>(anything(stored), {
    from: { offset: place.offset },
    until: "now",
    partitions: [place.partition],
    onUndecodable: () => Effect.void
  }).pipe(
    Stream.runHead,
    Effect.map(Option.filter((event: Event<unknown>) => compareOffsets(event.offset, place.offset) === 0))
  )

/** Its place in the log. */
const placed = (first: string, last: string, place: Place): "stored" | "trimmed" | "missing" => {
  const { id } = parseOffset(place.offset)!
  if (compare(id, last) > 0) return "missing"
  return first === "0-0" || compare(id, first) < 0 ? "trimmed" : "stored"
}

export const explain = (place: Place) =>
  Effect.gen(function* () {
    const broker = yield* Broker
    const stored = yield* Admin.topic(place.topic)
    const known = (yield* broker.topics()).find(({ name }) => name === place.topic)
    const log = stored.logs.find(({ partition }) => partition === place.partition)
    if (log === undefined) {
      const message = `topic ${place.topic} has partitions 0 to ${stored.partitions - 1}, there is no ${place.partition}`
      return yield* new WrongUse({ message })
    }
    const state = placed(log.first, log.last, place)
    if (state === "missing") {
      return yield* new WrongUse({
        message: `there is no event ${place.topic}/${place.partition}@${place.offset}: the last entry there is ${log.last}`
      })
    }
    const event =
      state === "stored" && known !== undefined ? Option.getOrUndefined(yield* read(known, place)) : undefined
    const letters = yield* letterOf(place)
    const processors = yield* Effect.forEach(stored.processors, (processor) =>
      Effect.gen(function* () {
        const lags = yield* broker.lag(processor)
        const lag = lags.find((one) => one.topic === place.topic && one.partition === place.partition)
        return yield* standing(processor, place, lag, letters)
      })
    )
    const at = millis(parseOffset(place.offset)!.id)
    return {
      ...place,
      state,
      storedAt: DateTime.formatIso(DateTime.makeUnsafe(at)),
      seconds: Math.max(0, ((yield* Clock.currentTimeMillis) - at) / 1_000),
      key: event?.key ?? null,
      headers: event?.headers ?? null,
      value: event === undefined ? null : hide(event.value, known?.redacted ?? []),
      processors
    }
  })
