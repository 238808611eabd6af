/** Keys that are looked for in a whole batch: it may be wrong in one direction only. */
import { assert, describe, it } from "@effect/vitest"
import { needlesOf, Source } from "../../src/internal/record/received.ts"
import { Choices } from "../../src/testing/choices.ts"

const source = (keys: string | undefined, count: number): Source => {
  const bytes = keys === undefined ? undefined : Buffer.from(keys)
  const entry = { id: "1-0", count, fields: [] }
  return new Source("t", 0, entry, {} as never, 1n, bytes, undefined, undefined, false, () => [])
}

const lacks = (written: Source, ...keys: ReadonlyArray<string>): boolean => {
  const needles = needlesOf(new Set(keys))
  return needles !== undefined && written.lacks(needles)
}

describe("a batch without a key", () => {
  it("is told from one with it", () => {
    const batch = source('["a","ab",null]', 3)
    assert.isTrue(lacks(batch, "b"))
    assert.isFalse(lacks(batch, "b", "ab"))
    // The same needles again, and others.
    const needles = needlesOf(new Set(["c"]))!
    assert.isTrue(batch.lacks(needles) && batch.lacks(needles))
    assert.isFalse(lacks(batch, "a"))
    assert.isTrue(lacks(source(undefined, 2), "a"))
  })

  it("is never claimed where a key may be written in another way", () => {
    assert.isFalse(lacks(source('["\\u0061","b"]', 2), "a"))
    assert.isFalse(lacks(source('["a\\"","b"]', 2), 'a"'))
    assert.isFalse(lacks(source("a", 1), "b"), "a single key is its own text")
    assert.isUndefined(needlesOf(new Set(["a\ufffd"])))
    assert.isUndefined(needlesOf(new Set(Array.from({ length: 9 }, (_, i) => `k${i}`))))
  })

  it("is never claimed of one that has it", () => {
    const random = new Choices(7)
    const plain = ["a", "b", "é", "\u{1f600}", ",", " "]
    const odd = ['"', "\\", "\ufffd", "\n"]
    const word = (): string =>
      Array.from({ length: 1 + random.below(3) }, () => random.pick(random.chance(0.02) ? odd : plain)).join("")
    let told = 0
    for (let round = 0; round < 2_000; round++) {
      const keys = Array.from({ length: 4 }, word)
      const escaped = JSON.stringify(keys).replace(/a/g, () => (random.chance(0.1) ? "\\u0061" : "a"))
      const batch = source(escaped, 4)
      const wanted = Array.from({ length: 2 }, word)
      if (lacks(batch, ...wanted)) {
        told++
        for (let i = 0; i < 4; i++) assert.notInclude(wanted, batch.key(i))
      }
    }
    assert.isAbove(told, 100)
  })
})
