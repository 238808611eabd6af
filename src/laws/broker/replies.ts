/** Laws of replies: in the inbox with the commit of the request, once, and nowhere if nobody waits for them. */
import { randomUUID } from "node:crypto"
import { assert } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { Broker, type Entry, type Reply } from "../../Broker.ts"
import {
  claimed,
  commit,
  commitOf,
  fence,
  forkBlocked,
  type Laws,
  register,
  single,
  text,
  topicOf,
  unique
} from "./support.ts"

const replyTo = (asker: string, value: string): Reply => ({ asker, entry: single(value) })

const valuesOf = (entries: ReadonlyArray<Entry>): ReadonlyArray<string | undefined> =>
  entries.map(({ fields }) => text(fields[1]))

const read = (
  asker: string,
  options: { readonly after?: string; readonly clear?: boolean; readonly block?: number; readonly shard?: number } = {}
) =>
  Broker.use((broker) =>
    broker.replies(
      { asker, shard: options.shard ?? 0, after: options.after ?? "0-0", clear: options.clear ?? false },
      options.block ?? 0
    )
  )

const open = (asker: string, shard = 0) => Broker.use((broker) => broker.openInbox(asker, shard))

const setup = Effect.gen(function* () {
  const [topic, processor, asker] = [topicOf(3), unique("p"), randomUUID()]
  yield* register(processor, [topic])
  for (let partition = 0; partition < 3; partition++) yield* claimed(processor, [topic], fence(1), partition)
  return { topic, processor, asker }
})

export const replyLaws = (laws: Laws): void => {
  const { it } = laws

  it.effect("replies are in the inbox in the order of the commits, and stay until they are cleared", () =>
    Effect.gen(function* () {
      const { asker, processor } = yield* setup
      yield* open(asker)
      assert.deepStrictEqual(yield* read(asker), [])
      yield* commit(commitOf(processor, fence(1), 1, { replies: [replyTo(asker, "a"), replyTo(asker, "b")] }))
      yield* commit(commitOf(processor, fence(1), 2, { replies: [replyTo(asker, "c")] }))
      const all = yield* read(asker)
      assert.deepStrictEqual(valuesOf(all), ["a", "b", "c"])
      // Its answer was lost: it is asked for again.
      assert.deepStrictEqual(yield* read(asker), all)
      assert.deepStrictEqual(valuesOf(yield* read(asker, { after: all[1]!.id })), ["c"])
      assert.deepStrictEqual(yield* read(asker), all)
      assert.deepStrictEqual(valuesOf(yield* read(asker, { after: all[1]!.id, clear: true })), ["c"])
      assert.deepStrictEqual(valuesOf(yield* read(asker)), ["c"])
    })
  )

  it.effect("a commit that is sent twice replies once, and one that is refused not at all", () =>
    Effect.gen(function* () {
      const { asker, processor, topic } = yield* setup
      yield* open(asker)
      const first = commitOf(processor, fence(1), 1, { replies: [replyTo(asker, "a")] })
      yield* commit(first)
      assert.deepStrictEqual(yield* commit(first), [{ _tag: "DoneBefore" }])
      yield* claimed(processor, [topic], fence(2, "two"))
      yield* commit(commitOf(processor, fence(1), 2, { replies: [replyTo(asker, "zombie")] }))
      yield* commit(commitOf(processor, fence(2, "two"), 5, { replies: [replyTo(asker, "gap")] }))
      assert.deepStrictEqual(valuesOf(yield* read(asker)), ["a"])
    })
  )

  it.effect("a reply to nobody is dropped, and makes no inbox; the commit stands", () =>
    Effect.gen(function* () {
      const { asker, processor } = yield* setup
      const other = randomUUID()
      yield* open(other)
      const replies = [replyTo(asker, "lost"), replyTo(other, "kept")]
      assert.deepStrictEqual(yield* commit(commitOf(processor, fence(1), 1, { replies })), [{ _tag: "Done" }])
      assert.deepStrictEqual(valuesOf(yield* read(other)), ["kept"])
      yield* open(asker)
      assert.deepStrictEqual(yield* read(asker), [])
    })
  )

  it.effect("opening an inbox that is open loses nothing in it", () =>
    Effect.gen(function* () {
      const { asker, processor } = yield* setup
      yield* open(asker)
      yield* commit(commitOf(processor, fence(1), 1, { replies: [replyTo(asker, "a")] }))
      yield* open(asker)
      assert.deepStrictEqual(valuesOf(yield* read(asker)), ["a"])
    })
  )

  it.effect("a read that waits ends with the reply, or when its time is up", () =>
    Effect.gen(function* () {
      const { asker, processor } = yield* setup
      yield* open(asker)
      const fiber = yield* forkBlocked(laws, read(asker, { block: 60_000 }))
      yield* commit(commitOf(processor, fence(1), 1, { replies: [replyTo(asker, "a")] }))
      const found = yield* Fiber.join(fiber)
      assert.deepStrictEqual(valuesOf(found), ["a"])
      const late = yield* forkBlocked(laws, read(asker, { after: found[0]!.id, block: 50 }))
      yield* laws.elapse(100)
      assert.deepStrictEqual(yield* Fiber.join(late), [])
    })
  )

  it.effect("a read that was interrupted takes nothing away", () =>
    Effect.gen(function* () {
      const { asker, processor } = yield* setup
      yield* open(asker)
      const fiber = yield* forkBlocked(laws, read(asker, { block: 60_000 }))
      yield* Fiber.interrupt(fiber)
      yield* commit(commitOf(processor, fence(1), 1, { replies: [replyTo(asker, "a")] }))
      assert.deepStrictEqual(valuesOf(yield* read(asker, { block: 60_000 })), ["a"])
    })
  )

  it.effect("each asker has its own, in each shard", () =>
    Effect.gen(function* () {
      const broker = yield* Broker
      const { asker, processor } = yield* setup
      const other = randomUUID()
      for (let shard = 0; shard < broker.shards; shard++) {
        yield* open(asker, shard)
        yield* open(other, shard)
      }
      for (let partition = 0; partition < broker.shards; partition++) {
        const replies = [replyTo(asker, `mine ${partition}`), replyTo(other, `theirs ${partition}`)]
        yield* commit({ ...commitOf(processor, fence(1), 1, { replies }), partition })
        assert.deepStrictEqual(valuesOf(yield* read(asker, { shard: partition })), [`mine ${partition}`])
        assert.deepStrictEqual(valuesOf(yield* read(other, { shard: partition })), [`theirs ${partition}`])
      }
    })
  )
}
