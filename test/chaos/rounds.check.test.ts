/** The checker of the chaos rounds finds everything that it is there for, in evidence made by hand. */
import { assert, describe, it } from "@effect/vitest"
import { countingName, loadingName } from "../support/rounds.ts"
import type { Handled } from "../support/roundsRecord.ts"
import { check, type Finding } from "./rounds/check.ts"
import type { Evidence, Unit } from "./rounds/evidence.ts"

const key = "p0a-0"
const partition = 2
const offsets = ["10-0.0", "10-0.1", "20-0.0"] as const
const events = offsets.map((offset, i) => ({ offset, key, n: i + 1 }))

const handledBy = (epoch: bigint, which: ReadonlyArray<(typeof events)[number]>): ReadonlyArray<Handled> =>
  [countingName, loadingName].flatMap((processor) =>
    which.flatMap((event) =>
      (["began", "ended"] as const).map((what) => ({ what, processor, partition, epoch, ...event }))
    )
  )

const unitOf = (epoch: bigint, by: string, events: Unit["events"]): Unit => ({ partition, events, epoch, by })

/** The first two events were handled by one worker, the third by another, after a change of owner. */
const sound: Evidence = {
  log: events.map((event) => ({ partition, ...event })),
  units: new Map([
    [
      countingName,
      [unitOf(1n, "a", events.slice(0, 1)), unitOf(1n, "a", events.slice(1, 2)), unitOf(2n, "b", events.slice(2))]
    ],
    [loadingName, [unitOf(1n, "a", events.slice(0, 2)), unitOf(2n, "b", events.slice(2))]]
  ]),
  counts: new Map([[key, [1, 2, 3]]]),
  totals: new Map([[key, 3]]),
  quarantined: [],
  behind: [],
  handled: [
    // It was killed after it had handled the third and before that was committed.
    { by: "a", facts: handledBy(1n, events) },
    { by: "b", facts: handledBy(2n, events.slice(2)) }
  ],
  published: new Map([
    ["p0a", (["tried", "stored"] as const).flatMap((what) => events.map((event) => ({ what, partition, ...event })))]
  ])
}

const counted = (units: ReadonlyArray<Unit>): Partial<Evidence> => ({
  units: new Map([...sound.units, [countingName, units]])
})
const counting = sound.units.get(countingName)!

const cases: ReadonlyArray<
  readonly [what: string, changes: Partial<Evidence>, found: Partial<Finding>, violation: RegExp]
> = [
  [
    "an acknowledged event that is not in the log",
    { log: sound.log.slice(0, 2) },
    {},
    /acknowledged and is not in the log/
  ],
  [
    "an event that stands in the log twice",
    { log: [...sound.log, { partition, offset: "30-0.0", key, n: 3 }] },
    {},
    /the log has 3 twice/
  ],
  [
    "a log that is not in the order of publishing",
    { log: [sound.log[1]!, sound.log[0]!, sound.log[2]!].map((event, i) => ({ ...event, offset: offsets[i]! })) },
    {},
    /the log has 1 after 2/
  ],
  ["an event that nobody published", { published: new Map() }, {}, /which nobody published/],
  [
    "an event that no process handled",
    { handled: sound.handled.slice(0, 1).map(({ by, facts }) => ({ by, facts: facts.filter(({ n }) => n < 3) })) },
    {},
    /was never handled/
  ],
  [
    "an event that was committed by one who had not handled it",
    { handled: [sound.handled[0]!, { by: "b", facts: handledBy(2n, []) }] },
    {},
    /which had not handled it/
  ],
  [
    "events of a key that a process handled out of order",
    {
      handled: [
        { by: "a", facts: [...handledBy(1n, events.slice(1)), ...handledBy(1n, events.slice(0, 1))] },
        sound.handled[1]!
      ]
    },
    { reordered: 2 },
    /began 10-0\.0 after 20-0\.0/
  ],
  ["an output that is missing", counted(counting.slice(0, 2)), {}, /outputs of counting.*misses 3/],
  ["an output that is there twice", counted([...counting, counting[2]!]), {}, /has more than once 3/],
  [
    "outputs that are out of order",
    counted([counting[0]!, unitOf(1n, "a", events.slice(2)), unitOf(1n, "a", events.slice(1, 2))]),
    {},
    /is out of order/
  ],
  [
    "a commit of an epoch that had been replaced",
    counted([counting[0]!, unitOf(2n, "b", events.slice(1, 2)), unitOf(1n, "a", events.slice(2))]),
    {},
    /epoch 1 was accepted while 2 was in force/
  ],
  [
    "two processes that commit under one epoch",
    counted([counting[0]!, counting[1]!, unitOf(1n, "b", events.slice(2))]),
    {},
    /epoch 1 was accepted while 1 was in force/
  ],
  ["a total that is wrong", { totals: new Map([[key, 4]]) }, {}, /totals, key p0a-0/],
  ["a count that was lost and made again", { counts: new Map([[key, [1, 2, 2]]]) }, {}, /counts, key p0a-0/],
  ["a partition that is put aside", { quarantined: ["counting/2 was put aside"] }, {}, /put aside/],
  ["what is left uncommitted", { behind: ["counting/2 is 1 events behind"] }, {}, /events behind/]
]

describe("the checker of the rounds", () => {
  it("accepts a change of owner with a repeat", () => {
    const finding = check(sound)
    assert.deepStrictEqual(finding.violations, [])
    assert.strictEqual(finding.events, 3)
    assert.strictEqual(finding.repeated, 2, "each processor handled the third again")
  })

  it("accepts what was tried and never answered, stored or not", () => {
    const tried = { what: "tried" as const, partition: -1, offset: "-", key, n: 4 }
    const unanswered = new Map([["p0a", [...sound.published.get("p0a")!, tried]]])
    assert.deepStrictEqual(check({ ...sound, published: unanswered }).violations, [])
    const facts = sound.published.get("p0a")!.filter(({ n, what }) => !(what === "stored" && n === 3))
    assert.deepStrictEqual(check({ ...sound, published: new Map([["p0a", facts]]) }).violations, [])
  })

  for (const [what, changes, found, violation] of cases) {
    it(`finds ${what}`, () => {
      const finding = check({ ...sound, ...changes })
      assert.isTrue(
        finding.violations.some((text) => violation.test(text)),
        `${violation} is not among ${JSON.stringify(finding.violations, undefined, 2)}`
      )
      for (const [name, count] of Object.entries(found)) assert.strictEqual(finding[name as keyof Finding], count, name)
    })
  }

  it("counts what it found by kind", () => {
    const of = (at: number): Finding => check({ ...sound, ...cases[at]![1] })
    const zero = check(sound)
    assert.deepStrictEqual([zero.lost, zero.reordered, zero.stale], [0, 0, 0])
    for (const lost of [0, 4, 5, 7]) assert.isAbove(of(lost).lost, 0, cases[lost]![0])
    for (const reordered of [2, 6, 9]) assert.isAbove(of(reordered).reordered, 0, cases[reordered]![0])
    for (const stale of [10, 11]) assert.isAbove(of(stale).stale, 0, cases[stale]![0])
  })
})
