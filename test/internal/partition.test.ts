/**
 * The books of one partition against a model: events are handed out, finish in any order, are committed at any moment;
 * the committed place is always the end of the longest done prefix, and whoever goes on there gets exactly the rest.
 */
import { assert, describe, it } from "@effect/vitest"
import { Schema } from "effect"
import type { Claim, Commit, Entry } from "../../src/Broker.ts"
import type { Received } from "../../src/internal/record/received.ts"
import { codecOf } from "../../src/internal/record/record.ts"
import { Limit } from "../../src/internal/run/limit.ts"
import { Log } from "../../src/internal/run/log.ts"
import { Parking } from "../../src/internal/run/parking.ts"
import { Partition } from "../../src/internal/run/partition.ts"
import { Rows } from "../../src/internal/run/rows.ts"
import * as Serializer from "../../src/Serializer.ts"
import * as Topic from "../../src/Topic.ts"
import { Choices } from "../../src/testing/choices.ts"

const topic = Topic.make("t", { schema: Schema.Int, partitions: 1 })
const codec = codecOf(topic, Serializer.json)

/** A log of these entry sizes; the values count up. */
const logOf = (sizes: ReadonlyArray<number>): ReadonlyArray<Entry> => {
  let n = 0
  return sizes.map((count, i) => {
    const values = Array.from({ length: count }, () => codec.encode(n++, undefined, () => 0))
    const { fields } = codec.pack(values)
    return { id: `${1 + (i >> 1)}-${i & 1}`, count, fields: fields.map((field) => Buffer.from(field as string)) }
  })
}

type Claimed = Extract<Claim, { _tag: "Claimed" }>

const start = (committed: Commit["offsets"][number] | undefined, number: number, limit?: Limit): Partition => {
  const place = committed ?? { topic: "t", offset: "0-0.0", entry: "0-0", entries: 0, events: 0 }
  const claimed: Claimed = {
    _tag: "Claimed",
    number,
    committed: [place],
    logs: [],
    lanes: [],
    times: [],
    probation: undefined
  }
  const book = { log: undefined as never, drop: () => {}, unit: () => assert.fail("no units here") }
  return new Partition({
    processor: "p",
    partition: 0,
    fence: { epoch: 1n, incarnation: "one" },
    number,
    logs: [new Log(topic, codec, book, claimed)],
    rows: new Rows(
      [],
      Serializer.json,
      { partition: 0, partitionOf: () => 0 },
      {
        rows: () => assert.fail("no tables here"),
        page: () => assert.fail("no tables here")
      }
    ),
    bounds: { events: 256, bytes: 1_000_000, uncommitted: 10_000 },
    limit,
    parking: new Parking([]),
    // Both as they are when nothing is wrong.
    lease: { held: true } as never,
    pressure: { note: () => {} } as never,
    onDirty: () => {},
    onRoom: () => {}
  })
}

/** Read some of what is after the partition's position. */
const feed = (partition: Partition, entries: ReadonlyArray<Entry>, random: Choices): void => {
  const log = partition.logs[0]!
  const rest = entries.filter((entry) => aboveId(entry.id, log.after))
  if (rest.length > 0) partition.deliver(log, rest.slice(0, 1 + random.below(Math.min(4, rest.length))))
}

const aboveId = (a: string, b: string): boolean => {
  const [am, as] = a.split("-").map(BigInt) as [bigint, bigint]
  const [bm, bs] = b.split("-").map(BigInt) as [bigint, bigint]
  return am > bm || (am === bm && as > bs)
}

const run = (seed: number, ordered: boolean): void => {
  const random = new Choices(seed)
  const entries = logOf(Array.from({ length: 1 + random.below(12) }, () => random.pick([1, 1, 2, 3, 7])))
  const total = entries.reduce((sum, entry) => sum + entry.count, 0)
  let committed: Commit["offsets"][number] | undefined
  let committedEvents = 0
  let number = 1
  for (let life = 0; committedEvents < total; life++) {
    if (life > 2_000) assert.fail(`seed ${seed}: it never came to an end`)
    const partition = start(committed, number)
    const began = committedEvents
    const inHand: Array<Received<unknown>> = []
    const handed: Array<number> = []
    const done = new Set<number>()
    for (let step = random.below(60); step >= 0; step--) {
      const choice = random.below(4)
      if (choice === 0) feed(partition, entries, random)
      else if (choice === 1) {
        const events = partition.take()
        if (!ordered) partition.register(events)
        for (const event of events) handed.push(event.value as number)
        inHand.push(...events)
      } else if (choice === 2 && inHand.length > 0) {
        const [event] = inHand.splice(ordered ? 0 : random.below(inHand.length), 1)
        done.add(event!.value as number)
        if (ordered) partition.done(event!)
        else partition.close([event!])
      } else {
        const commit = partition.cut()
        if (commit === undefined) continue
        let prefix = committedEvents
        // What was handed out begins at the committed place, so the longest done prefix is counted from there.
        for (const value of handed) {
          if (value < committedEvents) continue
          if (!done.has(value)) break
          prefix = value + 1
        }
        assert.strictEqual(commit.offsets[0]?.events, prefix, `seed ${seed}`)
        assert.strictEqual(commit.number, number)
        partition.committed(commit)
        number++
        committed = commit.offsets[0]
        committedEvents = prefix
      }
    }
    const expected = Array.from({ length: handed.length }, (_, i) => began + i)
    assert.deepStrictEqual(handed, expected, `seed ${seed}: a gap or a repeat`)
  }
  assert.strictEqual(committed?.entries, entries.length)
  assert.strictEqual(committed?.entry, entries.at(-1)?.id)
}

describe("the books of a partition", () => {
  it("in order: every life begins where the last commit stood", () => {
    for (let seed = 1; seed <= 300; seed++) run(seed, true)
  })

  it("out of order: nothing is committed past a hole", () => {
    for (let seed = 1; seed <= 300; seed++) run(seed, false)
  })

  it("what is given away before it was done does not count for the limit, and the others get it", () => {
    const entries = logOf([10])
    const limit = new Limit(8)
    const [one, two] = [start(undefined, 1, limit), start(undefined, 1, limit)]
    for (const partition of [one, two]) partition.deliver(partition.logs[0]!, entries)
    const events = one.take()
    assert.strictEqual(events.length, 8)
    assert.deepStrictEqual(two.take(), [])
    assert.isFalse(two.arrival.isOpen())
    for (const event of events.slice(0, 3)) one.done(event)
    one.stop()
    one.giveBack()
    assert.isTrue(two.arrival.isOpen())
    assert.strictEqual(two.take().length, 5)
    assert.strictEqual(limit.remaining, 0)
  })
})
