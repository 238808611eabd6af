/**
 * Random appends, commits and trims, compared with a plain model after each step: what a processor would be handed, its
 * lag, what was ever added, and that nothing unread is gone.
 */
import { assert } from "@effect/vitest"
import { Effect, Schema } from "effect"
import { Broker, type Committed, type NewEntry } from "../../Broker.ts"
import * as Retention from "../../Retention.ts"
import {
  append,
  batch,
  claimed,
  commit,
  commitOf,
  eventsOf,
  fence,
  from,
  type Laws,
  pending,
  read,
  register,
  topicOf,
  unique
} from "./support.ts"

const Step = Schema.Union([
  Schema.Struct({ do: Schema.Literal("append"), sizes: Schema.Array(Schema.Literals([1, 1, 2, 3, 7])) }),
  Schema.Struct({
    do: Schema.Literal("commit"),
    who: Schema.Literals([0, 1]),
    events: Schema.Literals([0, 1, 2, 5, 50])
  }),
  Schema.Struct({ do: Schema.Literal("again"), who: Schema.Literals([0, 1]) }),
  Schema.Struct({ do: Schema.Literal("takeOver"), who: Schema.Literals([0, 1]) })
])
type Step = typeof Step.Type

const capacity = 20

/** The plain model: all entries ever stored, and how many events each of two processors has done. */
class Model {
  readonly entries: Array<NewEntry> = []
  readonly ids: Array<string> = []
  readonly events: Array<string> = []
  readonly done = [0, 0]
  readonly number = [1, 1]
  readonly epoch = [1, 1]
  serial = 0

  /** The entries of the next append, and how many of them find room. */
  offer(sizes: ReadonlyArray<number>): { readonly entries: ReadonlyArray<NewEntry>; readonly fits: number } {
    const entries = sizes.map((size) => batch(...Array.from({ length: size }, () => `${this.serial++}`)))
    let waiting = this.events.length - Math.min(...this.done)
    let fits = 0
    for (const { count } of entries) {
      if (waiting > 0 && waiting + count > capacity) break
      waiting += count
      fits++
    }
    return { entries, fits }
  }

  store(entries: ReadonlyArray<NewEntry>, ids: ReadonlyArray<string>): void {
    ids.forEach((id, i) => {
      this.ids.push(id)
      this.entries.push(entries[i]!)
      const { count, fields } = entries[i]!
      this.events.push(...(count === 1 ? [fields[1] as string] : JSON.parse(fields[3] as string)))
    })
  }

  /** The last entries that hold at least `keep` events. */
  kept(keep: number): ReadonlyArray<string> {
    let events = 0
    for (let i = this.entries.length - 1; i >= 0 && events < keep; i--) events += this.entries[i]!.count
    return this.events.slice(this.events.length - events)
  }

  place(topic: string, done: number): Committed {
    let whole = 0
    let before = 0
    while (whole < this.entries.length && before + this.entries[whole]!.count <= done)
      before += this.entries[whole++]!.count
    const entry = whole === 0 ? "0-0" : this.ids[whole - 1]!
    const index = done > before ? done - before - 1 : whole === 0 ? 0 : this.entries[whole - 1]!.count - 1
    const offset = `${done > before ? this.ids[whole]! : entry}.${index}`
    return { topic, offset, entry, entries: whole, events: done }
  }
}

const run = (steps: ReadonlyArray<Step>, keep: number) =>
  Effect.gen(function* () {
    const broker = yield* Broker
    const topic = topicOf(1, Retention.consumed({ capacity, keep }))
    const processors = [unique("one"), unique("two")]
    const model = new Model()
    for (const processor of processors) {
      yield* register(processor, [topic])
      yield* claimed(processor, [topic], fence(1))
    }
    for (const step of steps) {
      if (step.do === "append") {
        if (step.sizes.length === 0) continue
        const { entries, fits } = model.offer(step.sizes)
        const answer = yield* append(topic, entries)
        assert.strictEqual(answer._tag, fits === entries.length ? "Stored" : "Full")
        const ids = answer._tag === "Stored" || answer._tag === "Full" ? answer.ids : []
        assert.strictEqual(ids.length, fits)
        model.store(entries, ids)
        continue
      }
      const { who } = step
      const processor = processors[who]!
      if (step.do === "takeOver") {
        const { committed, number } = yield* claimed(processor, [topic], fence(++model.epoch[who]!))
        assert.strictEqual(number, model.number[who])
        const events = yield* pending(topic, committed[0]!)
        assert.deepStrictEqual(events, model.events.slice(model.done[who]))
        continue
      }
      const its = fence(model.epoch[who]!)
      if (step.do === "again") {
        if (model.number[who] === 1) continue
        const [answer] = yield* commit(commitOf(processor, its, model.number[who]! - 1))
        assert.deepStrictEqual(answer, { _tag: "DoneBefore" })
        continue
      }
      const done = Math.min(model.events.length, model.done[who]! + step.events)
      const place = { ...model.place(topic.name, done), layout: topic }
      const [answer] = yield* commit(commitOf(processor, its, model.number[who]!, { offsets: [place] }))
      assert.deepStrictEqual(answer, { _tag: "Done" })
      model.done[who] = done
      model.number[who]!++
    }
    for (const [who, processor] of processors.entries()) {
      const place = model.place(topic.name, model.done[who]!)
      const [lag] = yield* broker.lag(processor)
      const expected = [model.events.length - model.done[who]!, model.entries.length - place.entries]
      assert.deepStrictEqual([lag!.events, lag!.entries], expected)
      assert.deepStrictEqual(yield* pending(topic, place), model.events.slice(model.done[who]))
    }
    const [info] = yield* broker.inspect(topic, [0])
    const added = model.entries.length
    assert.deepStrictEqual([info!.added, info!.extra], [added, model.events.length - added])
    if (Math.min(...model.done) === model.events.length) {
      assert.deepStrictEqual(eventsOf(yield* read([from(topic)])), model.kept(keep))
    }
  })

export const modelLaws = ({ it }: Laws): void => {
  for (const keep of [0, 5]) {
    it.effect.prop(
      `random appends, commits and changes of owner agree with a plain model (keep ${keep})`,
      [Schema.Array(Step).check(Schema.isMinLength(5))],
      ([steps]) => run(steps, keep),
      { arbitrary: { runs: 60, size: 60 } }
    )
  }
}
