/**
 * The work that our own simulations do: every event is noted in a table under its key and copied to another topic, so
 * that both show at the end what was handled, how often, and in which order.
 */
import { Effect, Option, Schema, Stream } from "effect"
import type * as Engine from "../../src/Engine.ts"
import * as Event from "../../src/Event.ts"
import type { Part } from "../../src/Part.ts"
import * as Processor from "../../src/Processor.ts"
import * as Retention from "../../src/Retention.ts"
import * as Table from "../../src/Table.ts"
import * as Topic from "../../src/Topic.ts"
import { differences } from "../../src/testing/History.ts"
import { Simulation, TestProcessor } from "../../src/testing/index.ts"
import { numbers } from "./engines.ts"

const Work = Schema.Struct({ key: Schema.String, n: Schema.Int })
type Work = typeof Work.Type

const options = { schema: Work, partitionBy: "key", partitions: 3 } as const
const copies = Topic.make("copies", { ...options, retention: Retention.forever })

/** The numbers of each key, in the order in which they were handled. */
const listOf = <const Name extends string>(name: Name) =>
  Table.make(name, { key: Schema.String, value: Schema.Array(Schema.Int), initial: () => [], changes: true })

const keys = ["a", "b", "c", "d", "e"]

/** A way to do the work, with the topic that it is done on and the table that shows it. */
interface Shape {
  readonly name: string
  readonly topic: Topic.Topic<Work, string>
  readonly table: Table.Table<string, string, ReadonlyArray<number>> & Table.Logged
  readonly part: Part<unknown, Engine.Services>
}

const note = <Name extends string>(table: Table.Table<Name, string, ReadonlyArray<number>>, { key, n }: Work) =>
  Effect.andThen(
    Table.update(table, key, (list) => [...list, n]),
    Topic.emit(copies, { key, n })
  )

const shapesOn = (suffix: string, retention: Retention.Retention): ReadonlyArray<Shape> => {
  const named = (name: string) => ({
    name: `${name}${suffix}`,
    topic: Topic.make(`${name}${suffix}`, { ...options, retention }),
    table: listOf(`${name}${suffix}`)
  })
  const [sequential, keyed, batched, streamed] = [named("one"), named("keyed"), named("batched"), named("streamed")]
  return [
    {
      ...sequential,
      part: Processor.make(sequential.name, { topic: sequential.topic, tables: [sequential.table] }, (work) =>
        note(sequential.table, work)
      )
    },
    {
      ...keyed,
      part: Processor.make(
        keyed.name,
        { topic: keyed.topic, tables: [keyed.table], concurrency: { perKey: 2 }, maxUncommitted: 5 },
        (work) => Effect.andThen(Effect.yieldNow, note(keyed.table, work))
      )
    },
    {
      ...batched,
      part: Processor.batch(
        batched.name,
        { topic: batched.topic, tables: [batched.table], size: 4, within: "200 millis" },
        (works) => Effect.forEach(works, (work) => note(batched.table, work))
      )
    },
    {
      ...streamed,
      part: Processor.stream(
        streamed.name,
        { topic: streamed.topic, tables: [streamed.table], prefetch: { events: 4 } },
        (events) => events.pipe(Event.mapEffect((work) => note(streamed.table, work)))
      )
    }
  ]
}

const shapes = shapesOn("", Retention.consumed({ capacity: 8 }))
/** Where a server may go back, what is expected is what its log has in the end. */
const kept = shapesOn("-kept", Retention.forever)

const byKey = (works: ReadonlyArray<Work>): ReadonlyMap<string, ReadonlyArray<number>> =>
  new Map(keys.map((key) => [key, works.filter((work) => work.key === key).map((work) => work.n)]))

/** All keys, as they are compared. */
const byKeyOf = (rows: ReadonlyMap<string, ReadonlyArray<number>>) =>
  new Map(keys.map((key) => [key, rows.get(key) ?? []]))

/** All of it stands in the whole, in this order, whatever stands between. */
const isWithin = (part: ReadonlyArray<number>, whole: ReadonlyArray<number>): boolean => {
  let at = 0
  for (const item of whole) if (item === part[at]) at++
  return at === part.length
}

const values = (topic: Topic.Topic<Work, string>) =>
  Effect.map(Stream.runCollect(Topic.stream(topic, { until: "now" })), (events) => events.map(({ value }) => value))

/** What a table's changes make of it, one after the other. */
const replayed = ({ table }: Shape) =>
  Effect.map(Stream.runCollect(Topic.stream(Table.changes(table), { until: "now" })), (events) => {
    const rows = new Map<string, ReadonlyArray<number>>()
    for (const { value } of events)
      rows.set(
        value.key,
        Option.getOrElse(value.value, () => [])
      )
    return rows
  })

/** What one seed does to the work, in one of its shapes. */
export const simulate = (
  seed: number,
  { events = 24, serverWentBack = false }: { readonly serverWentBack?: boolean; readonly events?: number } = {}
) => {
  const shape = (serverWentBack ? kept : shapes)[seed % shapes.length]!
  const { part, table, topic } = shape
  const works = numbers(events).map((n) => ({ key: keys[(n * 7 + (n >> 2)) % keys.length]!, n }))
  const check = Effect.gen(function* () {
    const rows = new Map(yield* Stream.runCollect(Table.entries(table)))
    const copied = byKey(yield* values(copies))
    const same = [
      ...differences("the copies", byKeyOf(rows), copied),
      ...differences("the table's changes", rows, yield* replayed(shape))
    ]
    if (!serverWentBack) return [...differences("the table", byKey(works), rows), ...same]
    // It may have lost events that were handled before, and stored a late duplicate of one that it had forgotten: what
    // its log has in the end must be noted in that order.
    const logged = byKey(yield* values(topic))
    const missing = [...logged].filter(([key, list]) => !isWithin(list, rows.get(key) ?? []))
    return [...same, ...missing.map(([key, list]) => `the table, key ${key}: has not all of ${list} in order`)]
  })
  return Simulation.run(seed, {
    parts: [part],
    events: works.map((work) => TestProcessor.event(topic, work)),
    check,
    serverWentBack
  })
}
