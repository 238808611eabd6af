/** The checker of histories finds each thing that must not be, and nothing in a good history. */
import { assert, describe, it } from "@effect/vitest"
import { differences, type Happened, type Judged, judge } from "../src/testing/History.ts"

const work: Judged = { name: "work", topics: ["in"], ordered: true, strict: true }

const offset = (n: number): string => `${n}-0.0`

const appended = (...numbers: ReadonlyArray<number>): Happened => ({
  _tag: "Appended",
  topic: "in",
  partition: 0,
  offsets: numbers.map(offset),
  emitted: false
})
const stored = (n: number, sequence = n): Happened => ({
  _tag: "Published",
  topic: "in",
  partition: 0,
  offset: offset(n),
  sequence
})
const put = (...numbers: ReadonlyArray<number>): ReadonlyArray<Happened> => [
  appended(...numbers),
  ...numbers.map((n) => stored(n))
]

const owner = (epoch: number, incarnation = `start-${epoch}`) => ({
  processor: "work",
  partition: 0,
  epoch: BigInt(epoch),
  incarnation
})
const place = (n: number) => [{ topic: "in", offset: n === 0 ? "0-0.0" : offset(n) }]
const claimed = (epoch: number, number: number, after: number, incarnation?: string): Happened => ({
  _tag: "Claimed",
  ...owner(epoch, incarnation),
  number,
  offsets: place(after)
})
const committed = (epoch: number, number: number, upTo: number, incarnation?: string): Happened => ({
  _tag: "Committed",
  ...owner(epoch, incarnation),
  number,
  offsets: place(upTo)
})
const event = (epoch: number, n: number, key: string | undefined = "k") => ({
  processor: "work",
  topic: "in",
  partition: 0,
  offset: offset(n),
  key,
  epoch: BigInt(epoch),
  by: `process-${epoch}`
})
const began = (epoch: number, n: number, key?: string): Happened => ({ _tag: "Began", ...event(epoch, n, key) })
const ended = (epoch: number, n: number): Happened => ({ _tag: "Ended", ...event(epoch, n) })
const handled = (epoch: number, ...numbers: ReadonlyArray<number>): ReadonlyArray<Happened> =>
  numbers.flatMap((n) => [began(epoch, n), ended(epoch, n)])

const judged = (...history: ReadonlyArray<Happened | ReadonlyArray<Happened>>) => judge(history.flat(), [work])

const none = { lost: 0, reordered: 0, repeated: 0, stale: 0, violations: [] }

describe("a good history", () => {
  it("of one owner has nothing to tell", () => {
    const verdict = judged(put(1, 2), claimed(7, 1, 0), handled(7, 1, 2), committed(7, 1, 1), committed(7, 2, 2))
    const commits = [{ processor: "work", partition: 0, epoch: 7n, commits: 2 }]
    assert.deepStrictEqual(verdict, { ...none, commits })
  })

  it("of a crash repeats what was not committed", () => {
    const first = [claimed(7, 1, 0), handled(7, 1, 2, 3), committed(7, 1, 1)].flat()
    const second = [claimed(8, 2, 1), handled(8, 2, 3), committed(8, 2, 3)].flat()
    const { commits, ...verdict } = judged(put(1, 2, 3), first, second)
    assert.deepStrictEqual(verdict, { ...none, repeated: 2 })
    assert.deepStrictEqual(
      commits.map(({ epoch, commits }) => [epoch, commits]),
      [
        [7n, 1],
        [8n, 1]
      ]
    )
  })

  it("may have a late start, other keys between, and a retry in place", () => {
    const keys = [began(7, 3, "b"), ended(7, 3), began(7, 2, "a"), began(7, 2, "a"), ended(7, 2)]
    assert.deepInclude(judged(put(1, 2, 3), claimed(7, 1, 1), keys, committed(7, 1, 3)), { ...none, repeated: 1 })
  })

  it("may go on under the same claim, which was answered twice", () => {
    const verdict = judged(put(1), claimed(7, 1, 0), claimed(7, 1, 0), handled(7, 1), committed(7, 1, 1))
    assert.deepInclude(verdict, none)
  })
})

const found = (verdict: ReturnType<typeof judge>, text: RegExp): void => {
  assert.lengthOf(verdict.violations, 1, verdict.violations.join("\n"))
  assert.match(verdict.violations[0]!, text)
}

describe("what was lost is found:", () => {
  it("an event that nobody handled", () => {
    const verdict = judged(put(1, 2), claimed(7, 1, 0), handled(7, 1), committed(7, 1, 1))
    found(verdict, /2-0\.0 was never handled/)
    assert.strictEqual(verdict.lost, 1)
  })

  it("an event that was handled and is in no commit", () => {
    const verdict = judged(put(1, 2), claimed(7, 1, 0), handled(7, 1, 2), committed(7, 1, 1))
    found(verdict, /2-0\.0 was handled and never committed/)
    assert.strictEqual(verdict.lost, 1)
  })

  it("an event that was committed by one who had not come to its end", () => {
    const half = [handled(7, 1, 2), claimed(8, 1, 0), handled(8, 1), began(8, 2)].flat()
    const verdict = judged(put(1, 2), claimed(7, 1, 0), half, committed(8, 1, 2))
    found(verdict, /2-0\.0 was committed under epoch 8, which had not handled it/)
    assert.strictEqual(verdict.lost, 1)
  })

  it("an event that was stored for its publisher and is not in the log", () => {
    const verdict = judged(put(1), stored(2), claimed(7, 1, 0), handled(7, 1), committed(7, 1, 1))
    found(verdict, /event 2 was stored at 2-0\.0, and is not there/)
    assert.strictEqual(verdict.lost, 1)
  })
})

describe("what is out of order is found:", () => {
  it("an event that began after a later one of its key", () => {
    const verdict = judged(put(1, 2), claimed(7, 1, 0), handled(7, 2, 1), committed(7, 1, 2))
    found(verdict, /key k: process-7 began 1-0\.0 after 2-0\.0/)
    assert.strictEqual(verdict.reordered, 1)
  })

  it("halves of ids are compared as numbers", () => {
    const verdict = judged(put(9, 10), claimed(7, 1, 0), handled(7, 10, 9), committed(7, 1, 10))
    assert.strictEqual(verdict.reordered, 1)
  })

  it("but not where no order was asked for, or the owner is another", () => {
    const history = [put(1, 2), claimed(7, 1, 0), handled(7, 2, 1), committed(7, 1, 2)].flat()
    assert.deepInclude(judge(history, [{ ...work, ordered: false }]), none)
    const again = [handled(7, 1, 2), claimed(8, 1, 0), handled(8, 1, 2), committed(8, 1, 2)].flat()
    assert.deepInclude(judged(put(1, 2), claimed(7, 1, 0), again), { reordered: 0, repeated: 2, violations: [] })
  })

  it("events that stand in the log in another order than they were published", () => {
    const verdict = judged(appended(1, 2), stored(2, 1), stored(1, 2), claimed(7, 1, 0), handled(7, 1, 2), [
      committed(7, 1, 2)
    ])
    found(verdict, /event 2 stands at 1-0\.0, not after event 1/)
    assert.strictEqual(verdict.reordered, 1)
  })

  it("a log that does not rise", () => {
    found(
      judged(put(2), put(1), claimed(7, 1, 0), handled(7, 1, 2), committed(7, 1, 1)),
      /1-0\.0 was appended after 2-0\.0/
    )
  })
})

describe("what was accepted from an old owner is found:", () => {
  const good = [...put(1, 2), claimed(7, 1, 0), ...handled(7, 1), claimed(8, 1, 0), ...handled(8, 1, 2)]

  it("a commit of an old epoch", () => {
    const verdict = judged(good, committed(7, 1, 1), committed(8, 2, 2))
    found(verdict, /a commit of epoch 7 was accepted while 8 was in force/)
    assert.strictEqual(verdict.stale, 1)
  })

  it("a commit of another start under the same epoch", () => {
    const verdict = judged(good, committed(8, 1, 1, "twin"), committed(8, 2, 2))
    assert.strictEqual(verdict.stale, 1)
  })

  it("a claim with an old epoch, or of another start under the same one", () => {
    assert.strictEqual(judged(good, claimed(7, 1, 0)).stale, 1)
    assert.strictEqual(judged(good, claimed(8, 1, 0, "twin")).stale, 1)
  })

  it("a commit before any claim", () => {
    assert.strictEqual(judged(put(1), handled(7, 1), committed(7, 1, 1)).stale, 1)
  })
})

describe("commits that do not follow each other are found:", () => {
  const start = [...put(1, 2), claimed(7, 1, 0), ...handled(7, 1, 2), committed(7, 1, 1)]

  it("a number twice", () => found(judged(start, committed(7, 1, 2)), /commit number 1 was accepted, and 2 was next/))

  it("a number left out", () =>
    found(judged(start, committed(7, 3, 2)), /commit number 3 was accepted, and 2 was next/))

  it("an offset that goes back", () => {
    const verdict = judged(start, committed(7, 2, 2), committed(7, 3, 1))
    assert.include(verdict.violations, "work/0: a commit went back from event 2 to 1 of in")
  })

  it("a claim that is told the wrong number or place", () => {
    const end = [...handled(8, 2), committed(8, 2, 2)]
    found(judged(start, claimed(8, 1, 1), end), /told commit number 1, and 2 is next/)
    found(judged(start, claimed(8, 2, 0), end), /told to go on after event 0 of in, and 1 are done/)
  })
})

describe("publishing", () => {
  const done = [claimed(7, 1, 0), ...handled(7, 1, 2), committed(7, 1, 2)]

  it("that stored an event twice is found", () => found(judged(appended(1, 2), stored(1), done), /stored twice\?/))

  it("that failed may have stored it or not, and what a commit emits has no publisher", () => {
    assert.deepInclude(judged(appended(1, 2), stored(1), { _tag: "Unpublished", topic: "in" }, done), none)
    assert.deepInclude(judged({ ...appended(1, 2), emitted: true } as Happened, done), none)
  })
})

describe("a server that goes back", () => {
  const before: ReadonlyArray<Happened> = [
    ...put(1),
    claimed(7, 1, 0),
    ...handled(7, 1),
    { _tag: "Snapshot", id: 1 },
    committed(7, 1, 1),
    ...put(2),
    ...handled(7, 2),
    committed(7, 2, 2),
    { _tag: "WentBack", id: 1 }
  ]

  it("takes back what it had accepted since, and what is done again is no violation", () => {
    assert.deepInclude(judged(before, claimed(8, 1, 0), handled(8, 1), committed(8, 1, 1)), { ...none, repeated: 1 })
  })

  it("and what is left must still be handled, by an owner in force", () => {
    assert.strictEqual(judged(before).lost, 1)
    const late = committed(7, 1, 1)
    assert.strictEqual(judged(before, claimed(8, 1, 0), handled(8, 1), late, committed(8, 2, 1)).stale, 1)
  })
})

describe("differences", () => {
  const expected = new Map([["k", [1, 2, 3]]])
  const compared = (items: ReadonlyArray<number>, key = "k") =>
    differences("the table", expected, new Map([[key, items]]))

  it("there are none between equals", () => assert.deepStrictEqual(compared([1, 2, 3]), []))

  it("tell what is missing, repeated, foreign or out of order, by key", () => {
    assert.deepStrictEqual(compared([1, 3]), ["the table, key k: misses 2"])
    assert.deepStrictEqual(compared([1, 2, 2, 3]), ["the table, key k: has more than once 2"])
    assert.deepStrictEqual(compared([1, 2, 3, 4]), ["the table, key k: has what was never put in: 4"])
    assert.deepStrictEqual(compared([2, 1, 3]), ["the table, key k: is out of order: 2, 1, 3"])
    assert.deepStrictEqual(compared([1, 2, 3], "other"), [
      "the table, key k: misses 1, 2, 3",
      "the table, key other: has what was never put in: 1, 2, 3"
    ])
  })
})
