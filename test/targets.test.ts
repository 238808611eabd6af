/** The assignment as properties over many random books, and the Lua of the Redis engine held against it. */
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { targets } from "../src/internal/targets.ts"
import { assignLua } from "../src/redis/books.ts"
import { Redis } from "../src/redis/client.ts"
import { Choices } from "../src/testing/choices.ts"
import { layerRedis } from "./support/redis.ts"

type Places = ReadonlyArray<number | undefined>

interface Books {
  readonly group: string
  readonly members: ReadonlyArray<string>
  readonly owners: Places
  readonly wanted: Places
  readonly aside: ReadonlySet<number>
}

const seeds = Array.from({ length: 1_000 }, (_, seed) => seed)

/** Any books at all: also such as no run of the coordinator would leave behind. */
const booksOf = (seed: number): Books => {
  const random = new Choices(seed)
  const members = Array.from({ length: random.below(13) }, (_, i) => `worker-${seed % 7}-${i}`)
  const favourites = 1 + random.below(members.length || 1)
  const sparse = random.pick([0, 0.2, 1])
  const place = (): number | undefined =>
    members.length === 0 || random.chance(sparse)
      ? undefined
      : random.below(random.chance(0.5) ? favourites : members.length)
  const partitions = 1 + random.below(64)
  const owners = Array.from({ length: partitions }, place)
  const wanted = random.chance(0.5) ? [...owners] : Array.from({ length: partitions }, place)
  // Mostly none, now and then some, now and then nearly all.
  const quarantined = random.pick([0, 0, 0.1, 0.9])
  const aside = new Set([...owners.keys()].filter(() => random.chance(quarantined)))
  return { group: `group-${random.below(5)}`, members, owners, wanted, aside }
}

const run = ({ aside, group, members, owners, wanted }: Books): Places => targets(group, members, owners, wanted, aside)

const countsOf = (places: Places, members: number): ReadonlyArray<number> => {
  const counts = new Array<number>(members).fill(0)
  for (const place of places) if (place !== undefined) counts[place]!++
  return counts
}

describe("targets", () => {
  it("gives every partition but those aside to one member, and no two differ by more than one", () => {
    for (const seed of seeds) {
      const books = booksOf(seed)
      const target = run(books)
      if (books.members.length === 0) {
        assert.deepStrictEqual(target, [])
        continue
      }
      assert.strictEqual(target.length, books.owners.length)
      assert.isTrue(
        target.every((member, partition) =>
          member === undefined ? books.aside.has(partition) : member < books.members.length
        ),
        `seed ${seed}`
      )
      assert.isTrue([...books.aside].every((partition) => target[partition] === undefined))
      const counts = countsOf(target, books.members.length)
      assert.isAtMost(Math.max(...counts) - Math.min(...counts), 1, `seed ${seed}`)
    }
  })

  it("moves no more than balance demands", () => {
    for (const seed of seeds) {
      const books = booksOf(seed)
      const count = books.members.length
      if (count === 0) continue
      const target = run(books)
      const owners = books.owners.map((owner, partition) => (books.aside.has(partition) ? undefined : owner))
      const moved = owners.filter((owner, partition) => owner !== undefined && owner !== target[partition]).length
      const free = owners.length - books.aside.size
      const base = Math.floor(free / count)
      const extra = free - base * count
      const have = countsOf(owners, count)
      const above = have.reduce((sum, owned) => sum + Math.max(0, owned - base), 0)
      const saved = Math.min(extra, have.filter((owned) => owned > base).length)
      assert.strictEqual(moved, above - saved, `seed ${seed}`)
    }
  })

  it("changes nothing when computed again, also in the midst of the hand-over", () => {
    for (const seed of seeds) {
      const books = booksOf(seed)
      const random = new Choices(seed + 1)
      const target = run(books)
      if (books.members.length === 0) continue
      // What is put aside is nobody's.
      const owners = books.owners.map((owner, partition) => (books.aside.has(partition) ? undefined : owner))
      while (owners.some((owner, partition) => owner !== target[partition])) {
        assert.deepStrictEqual(run({ ...books, owners, wanted: target }), target, `seed ${seed}`)
        for (let partition = 0; partition < owners.length; partition++) {
          if (owners[partition] === target[partition] || random.chance(0.5)) continue
          owners[partition] = owners[partition] === undefined ? target[partition] : undefined
        }
      }
      assert.deepStrictEqual(run({ ...books, owners, wanted: target }), target, `seed ${seed}`)
    }
  })

  it("does not depend on the order in which members are named", () => {
    for (const seed of seeds) {
      const books = booksOf(seed)
      const last = books.members.length - 1
      const mirror = (places: Places): Places => places.map((place) => (place === undefined ? undefined : last - place))
      const mirrored = targets(
        books.group,
        [...books.members].reverse(),
        mirror(books.owners),
        mirror(books.wanted),
        books.aside
      )
      assert.deepStrictEqual(mirror(mirrored), run(books), `seed ${seed}`)
    }
  })

  it("gives the remainder of different groups to different members", () => {
    const members = Array.from({ length: 5 }, (_, i) => `worker-${i}`)
    const favoured = new Set<number>()
    for (let i = 0; i < 20; i++) {
      const none = new Array<undefined>(6).fill(undefined)
      const counts = countsOf(targets(`group-${i}`, members, none, none), members.length)
      favoured.add(counts.indexOf(2))
    }
    assert.isAtLeast(favoured.size, 4)
  })

  it.live("is the same in the Lua of the Redis engine", () =>
    Effect.gen(function* () {
      const redis = yield* Redis
      const inputs = seeds.map(booksOf)
      const answer = yield* redis.call<string>("EVAL", everyLua, 0, JSON.stringify(inputs.map(forLua)))
      const found: ReadonlyArray<ReadonlyArray<number> | Record<string, never>> = JSON.parse(answer)
      for (const seed of seeds) {
        // cjson writes an empty table as an object.
        const lua: unknown = Array.isArray(found[seed]) ? found[seed] : []
        const expected = run(inputs[seed]!).map((member) => (member === undefined ? 0 : member + 1))
        assert.deepStrictEqual(lua, expected, `seed ${seed}`)
      }
    }).pipe(Effect.provide(layerRedis()))
  )
})

/** Nobody is 0 in Lua, and a member a slot, here its place from 1 on. Places count from 1 too. */
const forLua = (books: Books) => ({
  ...books,
  owners: books.owners.map((place) => (place === undefined ? 0 : place + 1)),
  wanted: books.wanted.map((place) => (place === undefined ? 0 : place + 1)),
  aside: [...books.aside].map((partition) => partition + 1)
})

const everyLua = /* lua */ `${assignLua}
local results = {}
for i, books in ipairs(cjson.decode(ARGV[1])) do
  local order, ranks, aside = {}, {}, {}
  for slot, member in ipairs(books.members) do order[slot], ranks[slot] = slot, rank(books.group, member) end
  table.sort(order, function(a, b) return ranks[a] < ranks[b] end)
  for _, place in ipairs(books.aside) do aside[place] = true end
  results[i] = #order == 0 and {} or assign(order, books.owners, books.wanted, aside)
end
return cjson.encode(results)
`
