/** Entry ids and offsets: a total order by number, and neighbours that have nothing between them. */
import { assert, describe, it } from "@effect/vitest"
import { before, compare, offset, parseOffset } from "../../src/internal/entryId.ts"
import { Choices } from "../../src/testing/choices.ts"

const largest = 2n ** 64n - 1n

/** Ids whose halves lie at, near and far from the places where numbers stop being exact. */
const ids = (() => {
  const random = new Choices(1)
  const halves = [0n, 1n, 9n, 10n, 2n ** 53n - 1n, 2n ** 53n, 2n ** 53n + 1n, 2n ** 63n, largest - 1n, largest]
  for (let i = 0; i < 20; i++) halves.push(BigInt(random.below(2 ** 31)) ** 2n % (largest + 1n))
  return Array.from({ length: 400 }, () => [random.pick(halves), random.pick(halves)] as const)
})()
const text = ([millis, seq]: readonly [bigint, bigint]): string => `${millis}-${seq}`
const value = ([millis, seq]: readonly [bigint, bigint]): bigint => millis * (largest + 1n) + seq

describe("entry ids", () => {
  it("compare as numbers, part by part, at any size", () => {
    for (const a of ids) {
      for (const b of ids.slice(0, 50)) {
        const expected = value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : 0
        assert.strictEqual(Math.sign(compare(text(a), text(b))), expected, `${text(a)} and ${text(b)}`)
      }
    }
  })

  it("the one before is the greatest below", () => {
    for (const id of ids) {
      if (value(id) === 0n) assert.strictEqual(before(text(id)), "0-0")
      else {
        const [millis, seq] = before(text(id)).split("-").map(BigInt) as [bigint, bigint]
        assert.strictEqual(value([millis, seq]), value(id) - 1n, text(id))
      }
    }
  })

  it("an offset is an id and an index; an id alone is its first event", () => {
    for (const id of ids.slice(0, 50)) {
      assert.deepStrictEqual(parseOffset(offset(text(id), 99)), { id: text(id), index: 99 })
      assert.deepStrictEqual(parseOffset(text(id)), { id: text(id), index: 0 })
    }
    for (const wrong of ["", "1", "1-", "-1", "1-1.", "1-1.x", "a-1", "1-1.1.1", " 1-1", "1-1 ", "-1-1", "1.0-1"]) {
      assert.isUndefined(parseOffset(wrong), wrong)
    }
  })
})
