/**
 * Carries out what a policy decided about failed events: acknowledges them without effects, turns them into dead letters,
 * or has their partition put aside. Each says in metric and log what was done, where, and what to do next.
 */
import { Cause, Clock, Effect } from "effect"
import type { Quarantine } from "../../Coordinator.ts"
import type { Settlement } from "../../Policy.ts"
import { failureHeaders, messageOf, sourceHeaders, tagOf } from "../dead/headers.ts"
import type { Received } from "../record/received.ts"
import type { Answer } from "./definition.ts"
import { Overdue } from "./overdue.ts"
import type { Setup } from "./runner.ts"
import type { Unit } from "./unit.ts"

type Events = ReadonlyArray<Received<unknown>>

/** Where a log line belongs. */
export const place = (setup: Setup, events: Events) => {
  const last = events[events.length - 1]!
  const { offset, partition, topic } = last
  return Effect.annotateLogs({
    processor: setup.definition.name,
    topic,
    partition,
    offset,
    ...(events.length > 1 ? { events: events.length } : {})
  })
}

/** Stages what the settlement needs in the unit, which was undone before. */
export const settle = (
  setup: Setup,
  unit: Unit,
  events: Events,
  settlement: Exclude<Settlement, { readonly _tag: "Park" }> | Answer,
  cause: Cause.Cause<unknown>
): Effect.Effect<"settled" | Quarantine> => {
  const { counts, definition, observer } = setup
  const tag = tagOf(Cause.squash(cause))
  const note = (policy: string): void => {
    setup.count(policy, tag, events.length)
    if (settlement._tag === "Answer") return
    for (const event of events) observer?.settled(definition.name, event, settlement, cause)
  }
  const carryOut = Effect.suspend((): Effect.Effect<"settled" | Quarantine> => {
    switch (settlement._tag) {
      case "Answer": {
        unit.emit(settlement.reply(setup.host))
        note("answer")
        const log = settlement.declared
          ? Effect.logDebug("a request failed; whoever asked is told", cause)
          : Effect.logError("a request could not be handled; whoever asked is told", cause)
        return Effect.as(place(setup, events)(log), "settled" as const)
      }
      case "Ignore":
        counts.ignored += events.length
        note("ignore")
        return Effect.as(place(setup, events)(Effect.logDebug("ignored a failed event", cause)), "settled" as const)
      case "DeadLetter":
        return Effect.flatMap(Clock.currentTimeMillis, (now) => {
          const failure = failureHeaders(definition.name, cause, now)
          for (const event of events) {
            unit.emit(setup.host.deadLetter(event.read, settlement, { ...sourceHeaders(event), ...failure }))
          }
          counts.deadLettered += events.length
          note("deadLetter")
          const dead = unit.emits[unit.emits.length - 1]!.topic.name
          const line = Effect.logWarning(
            `a failed event goes to ${dead}: look at it with Topic.deadLetters, put it back with Topic.redrive`,
            cause
          )
          return Effect.as(setup.repeats.say(`${dead} ${tag}`, now, place(setup, events)(line)), "settled" as const)
        })
      case "Quarantine":
        counts.quarantined++
        note("quarantine")
        return place(
          setup,
          events
        )(
          Effect.logError(
            "a failed event puts its partition aside: release it with Processor.release, or skip it with Processor.skip",
            cause
          )
        ).pipe(Effect.as(entryOf(events, cause)))
    }
  })
  // What a join told of is told, however that ended.
  const overdue = events.flatMap(({ read }) => (read instanceof Overdue ? [read] : []))
  if (overdue.length > 0 && settlement._tag !== "Quarantine") {
    const letGo = Effect.forEach(overdue, (event) => Effect.ignore(event.letGo(unit)), { discard: true })
    return Effect.andThen(letGo, carryOut)
  }
  return carryOut
}

const entryOf = (events: Events, cause: Cause.Cause<unknown>): Quarantine => {
  const positions = new Map<string, { readonly topic: string; readonly first: string; last: string }>()
  // What a join held was read long ago: to pass it passes nothing.
  const read = events.filter((event) => !(event.read instanceof Overdue))
  for (const { offset, topic } of read.length > 0 ? read : events) {
    const known = positions.get(topic)
    if (known === undefined) positions.set(topic, { topic, first: offset, last: offset })
    else known.last = offset
  }
  const error = Cause.squash(cause)
  return { reason: "failure", error: `${tagOf(error)}: ${messageOf(error)}`, positions: Array.from(positions.values()) }
}
