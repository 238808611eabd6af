/**
 * The job store on Redis: each method is one script, in the file that its idea names: `jobEnqueue.ts`, `jobExchange.ts`,
 * `jobSessions.ts`, `jobBooks.ts`, `jobSlots.ts`, `jobFollow.ts`. A queue lies in one shard, with all of its keys in one slot (`jobKeys.ts`).
 *
 * Gotcha: what a method sends may have been done when it fails with `Unreachable`; send it again unchanged.
 */
import { Effect, Layer, Schedule, Stream } from "effect"
import type { EngineError } from "../Errors.ts"
import { decode, encode } from "../internal/jobFacts.ts"
import { type Item, JobStore, maxJobs, type Signal, type State } from "../JobStore.ts"
import { type Argument, Redis, type Script } from "./client.ts"
import * as Books from "./jobBooks.ts"
import * as Enqueue from "./jobEnqueue.ts"
import * as Exchange from "./jobExchange.ts"
import * as Facts from "./jobFacts.ts"
import * as Follow from "./jobFollow.ts"
import { QueueKeys, queues } from "./jobKeys.ts"
import { claimedOf, itemOf, type Row } from "./jobRows.ts"
import * as Sessions from "./jobSessions.ts"
import * as Slots from "./jobSlots.ts"
import { pairs, rowsOf } from "./layouts.ts"

/** How long to wait before an outbox is tried again. */
const patient = Schedule.min([Schedule.exponential("50 millis"), Schedule.spaced("2 seconds")])

/** Jobs of a page, about. */
const pageSize = 100
/** Ids that one run of a script is given. */
const idsPerCall = 500

type Reply = readonly [
  known: Buffer,
  now: Buffer,
  next: Buffer,
  suspects: number,
  expired: number,
  refused: ReadonlyArray<Buffer>,
  records: ReadonlyArray<Buffer | null>,
  states: ReadonlyArray<Buffer | null>,
  slot: Buffer,
  outbox: Buffer,
  hint: Buffer
]

const work = "w"

const signalOf = (message: string): Signal => {
  const id = message.slice(1)
  switch (message[0]) {
    case "c":
      return { _tag: "Cancelled", id }
    case "s":
      return { _tag: "Settled", id }
    case "p":
      return { _tag: "Progress", id }
    case "t":
      return { _tag: "Slots", id: undefined }
    default:
      return { _tag: "Work", id: undefined, hint: momentOf(id) }
  }
}

const momentOf = (text: string | Buffer): number | undefined => (text.length === 0 ? undefined : Number(text))

/** Runs again as long as it says that there may be more; the sum of what it did. */
const whole = (
  once: Effect.Effect<readonly [number, number], EngineError>,
  sum = 0
): Effect.Effect<number, EngineError> =>
  Effect.flatMap(once, ([count, more]) => (more === 1 ? whole(once, sum + count) : Effect.succeed(sum + count)))

const make = Effect.gen(function* () {
  const redis = yield* Redis
  const { namespace, shards } = redis
  const known = new Map<string, QueueKeys>()
  const of = (queue: string): QueueKeys => {
    let keys = known.get(queue)
    if (keys === undefined) known.set(queue, (keys = new QueueKeys(namespace, shards, queue)))
    return keys
  }

  const namesOf = (queue: QueueKeys): Effect.Effect<ReadonlyArray<string>, EngineError> =>
    Effect.map(redis.call<ReadonlyArray<string>>("smembers", queue.key("names")), (names) => names.toSorted())

  const withNames = <A>(
    queue: string,
    f: (keys: QueueKeys, names: ReadonlyArray<string>) => Effect.Effect<A, EngineError>
  ) => Effect.flatMap(namesOf(of(queue)), (names) => f(of(queue), names))

  /** A script that says which name it needs the keys of, where that is another one than it was given. */
  const byName = <A>(
    script: Script<A | string>,
    queue: QueueKeys,
    args: ReadonlyArray<Argument>,
    name: string
  ): Effect.Effect<A, EngineError> =>
    Effect.flatMap(redis.run(script, queue.with([name]), [...args, name]), (answer) =>
      typeof answer === "string" ? byName(script, queue, args, answer) : Effect.succeed(answer)
    )

  /** Reads jobs; one in due is delayed until its moment. */
  const read = Effect.fnUntraced(function* (queue: QueueKeys, ids: ReadonlyArray<string>, watch: boolean) {
    const [time, ...rows] = yield* redis.runBuffer<readonly [Buffer, ...ReadonlyArray<Row>]>(Books.read, queue.fixed, [
      watch ? "1" : "0",
      ...ids
    ])
    const now = Number(time)
    const found: Array<Item | undefined> = []
    for (const [i, row] of rows.entries()) {
      const one = itemOf(ids[i]!, row, now)
      let item = one?.item
      if (one !== undefined && one.place !== "0") {
        const due = yield* redis.call<string | null>("zscore", queue.of(one.item.name)[3]!, one.place + ids[i])
        if (due !== null) item = { ...one.item, state: Number(due) > now ? "delayed" : "ready", at: Number(due) }
      }
      found.push(item)
    }
    return found
  })

  /** A page of a hash: its fields, or its values. */
  const scan = (key: string, cursor: string, value: boolean) =>
    Effect.map(
      redis.call<readonly [string, ReadonlyArray<string>]>("hscan", key, cursor, "COUNT", pageSize),
      ([next, rows]) => ({
        ids: rows.filter((_, i) => (i % 2 === 1) === value),
        next: next === "0" ? undefined : next
      })
    )

  /** A page of ids of one list or sorted set. */
  const range = (key: string, isList: boolean, from: number) =>
    Effect.map(
      redis.call<ReadonlyArray<string>>(isList ? "lrange" : "zrange", key, from, from + pageSize - 1),
      (ids) => ({ ids, next: ids.length < pageSize ? undefined : String(from + pageSize) })
    )

  /** Where jobs of a state may stand, one place after the other; a cursor is "<place>:<cursor there>". */
  const places = (keys: QueueKeys, state: State, names: ReadonlyArray<string>) => {
    const list = (key: string) => (cursor: string) => range(key, true, Number(cursor))
    const due = (name: string) => (cursor: string) =>
      Effect.map(range(keys.of(name)[3]!, false, Number(cursor)), ({ ids, next }) => ({
        ids: ids.map((id) => id.slice(12)),
        next
      }))
    switch (state) {
      case "ready":
        return [
          ...names.flatMap((name) => {
            const [high, medium, low, , suspects] = keys.of(name)
            return [list(suspects!), list(high!), list(medium!), list(low!), due(name)]
          }),
          (cursor: string) => scan(keys.key("items"), cursor, true),
          (cursor: string) =>
            Effect.map(scan(keys.key("freed"), cursor, true), ({ ids, next }) => ({
              ids: ids.flatMap((row) => row.split("\t")),
              next
            }))
        ]
      case "delayed":
        return names.map(due)
      case "waiting":
        return [(cursor: string) => scan(keys.key("waiting"), cursor, false)]
      case "active":
      case "dead":
        return [(cursor: string) => range(keys.key(state), false, Number(cursor))]
      case "done":
      case "cancelled":
        return [
          (cursor: string) =>
            Effect.map(
              redis.call<ReadonlyArray<string>>("zrange", keys.key("forget"), Number(cursor), Number(cursor)),
              ([row]) => ({
                ids: row === undefined || row.startsWith("\u0001") ? [] : row.split("\t").slice(1),
                next: row === undefined ? undefined : String(Number(cursor) + 1)
              })
            )
        ]
    }
  }

  const raise = Effect.fnUntraced(function* (queue: string, how: "again" | "forget", ids?: ReadonlyArray<string>) {
    const run = (some: ReadonlyArray<string>) => redis.run(Books.raise, of(queue).fixed, [how, ...some])
    let sum = 0
    if (ids !== undefined) {
      for (let i = 0; i < ids.length; i += idsPerCall) sum += yield* run(ids.slice(i, i + idsPerCall))
      return sum
    }
    // Not more than there are now: one that dies again meanwhile is another matter.
    let left = yield* redis.call<number>("zcard", of(queue).key("dead"))
    while (left > 0) {
      const count = yield* run([])
      if (count === 0) break
      sum += count
      left -= count
    }
    return sum
  })

  /** Queues whose outbox is being emptied, in the background: a shard that is away holds up nobody else. */
  const posting = new Set<string>()
  const fork = Effect.runForkWith(yield* Effect.context<never>())
  const scope = yield* Effect.scope
  const post = (queue: string): void => {
    if (posting.has(queue)) return
    posting.add(queue)
    const all = Effect.ensuring(
      Effect.retry(Follow.deliver(redis, of(queue)), {
        schedule: patient,
        while: ({ reason }) => reason !== "Unsupported"
      }),
      Effect.sync(() => posting.delete(queue))
    )
    fork(Effect.forkIn(Effect.ignore(all), scope))
  }

  return JobStore.of({
    enqueue: (queue, jobs, durability = "memory") => {
      if (jobs.length === 0) return Effect.succeed([])
      if (jobs.length > maxJobs) return Effect.die(new Error(`${jobs.length} jobs at once; ${maxJobs} are possible`))
      const { answer, args, keys, script } = Enqueue.callOf(of(queue), jobs)
      if (durability !== "memory") return Effect.map(redis.runDurable(script, keys, args, durability), answer)
      const sent = Effect.suspend(() => {
        // Workers of this process ask right behind it, on the same connection. If that comes too early, they hear of it.
        queueMicrotask(() => redis.tell(of(queue).key("meta"), work))
        return redis.run(script, keys, args)
      })
      return Effect.map(sent, answer)
    },
    open: (queue, worker, lease) =>
      Effect.map(redis.run(Sessions.open, of(queue).fixed, [worker, Math.ceil(lease)]), (slot) => ({ queue, slot })),
    exchange: (request, durability = "memory") => {
      const { args, keys, script } = Exchange.callOf(of(request.session.queue), of, request)
      const plain = redis.runBuffer<Reply>(script, keys, args)
      // The second one changes nothing, and answers as the first one did: in bytes.
      const isSafe = durability === "memory" || request.settle.length === 0
      return Effect.map(
        isSafe ? plain : Effect.andThen(redis.runDurable(script, keys, args, durability), plain),
        ([known, now, next, suspects, expired, refused, records, states, slot, outbox, hint]) => {
          if (known.toString() !== "1") return { _tag: "Unknown" }
          if (outbox.length > 0) post(request.session.queue)
          const claimed = []
          for (let i = 0; i < records.length; i++) {
            const record = records[i]
            if (record) claimed.push(claimedOf(record, states[i], request.number))
          }
          return {
            _tag: "Exchanged",
            now: Number(now),
            refused: refused.length === 0 ? nothing : refused.map(String),
            claimed,
            next: momentOf(next),
            slot: momentOf(slot),
            suspects: suspects > 0,
            expired: expired === 1,
            hint: momentOf(hint)
          }
        }
      )
    },
    extend: ({ queue, slot }, lease, number, held) =>
      Effect.map(
        redis.run(Sessions.extend, of(queue).fixed, [
          slot,
          Math.ceil(lease),
          number,
          ...held.flatMap(({ claim, id }) => [id, claim])
        ]),
        (answer) =>
          answer === -1 ? "Unknown" : { lost: answer[1], cancelled: answer[2], expired: Number(answer[0]) === 1 }
      ),
    close: ({ queue, slot }) =>
      Effect.andThen(
        posting.has(queue) ? Effect.ignore(Follow.deliver(redis, of(queue))) : Effect.void,
        Effect.asVoid(whole(redis.run(Sessions.close, of(queue).fixed, [slot])))
      ),
    sweep: (queue) => whole(redis.run(Sessions.sweep, of(queue).fixed, [10_000])),
    cancel: (queue, id, ttl) =>
      Effect.map(byName<0 | 1>(Books.cancel, of(queue), [id, Math.ceil(ttl)], "any"), (answer) => answer === 1),
    promote: (queue, id) => Effect.map(byName<0 | 1>(Books.promote, of(queue), [id], "any"), (answer) => answer === 1),
    progress: ({ queue, slot }, { claim, id }, value) =>
      Effect.map(
        redis.run(Books.tell, of(queue).fixed, [slot * Exchange.claimsPerSlot + claim, id, value]),
        (answer) => answer === 1
      ),
    get: (queue, id, watch) => Effect.map(read(of(queue), [id], watch), ([item]) => item),
    list: (queue, state, { cursor, name }) =>
      withNames(queue, (keys, names) =>
        Effect.gen(function* () {
          const all = places(keys, state, name === undefined ? names : [name])
          const [place = "0", ...rest] = cursor === "" ? ["0", "0"] : cursor.split(":")
          const at = Number(place)
          const page = all[at]
          if (page === undefined) return { items: [], next: undefined }
          const { ids, next } = yield* page(rest.join(":"))
          const wanted = ids.filter((id) => !id.startsWith("\u0001"))
          const items: Array<Item> = []
          for (let i = 0; i < wanted.length; i += idsPerCall) {
            for (const item of yield* read(keys, wanted.slice(i, i + idsPerCall), false)) {
              if (item?.state === state && (name === undefined || item.name === name)) items.push(item)
            }
          }
          const further = next !== undefined ? `${at}:${next}` : at + 1 < all.length ? `${at + 1}:0` : undefined
          return { items, next: further }
        })
      ),
    counts: (queue) =>
      withNames(queue, (keys, names) =>
        Effect.map(redis.run(Books.counts, keys.with(names), []), (all) => {
          const [ready = 0, delayed = 0, waiting = 0, active = 0, dead = 0, done = 0] = all.map(Number)
          return { ready, delayed, waiting, active, dead, done }
        })
      ),
    queues: Effect.map(
      Effect.forEach(Array.from({ length: shards }), (_, shard) =>
        redis.call<ReadonlyArray<string>>("smembers", queues(namespace, shard))
      ),
      (all) => all.flat().toSorted()
    ),
    configure: (queue, { keepDead, keepDone, limit }) =>
      Effect.asVoid(
        redis.run(
          Books.configure,
          [of(queue).key("meta"), of(queue).queues],
          [
            queue,
            limit === undefined ? "" : `${limit.count} ${Math.ceil(limit.per)}`,
            keepDone ?? "",
            keepDead === undefined ? "" : `${keepDead.count ?? 0} ${Math.ceil(keepDead.age ?? 0)}`
          ]
        )
      ),
    declare: (queue, jobs) =>
      jobs.length === 0
        ? Effect.void
        : Effect.asVoid(
            redis.run(
              Facts.declare,
              [of(queue).facts],
              jobs.flatMap((job) => [job.name, encode(job) ?? ""])
            )
          ),
    facts: (queue) =>
      Effect.map(redis.run(rowsOf, [of(queue).facts], []), (rows) =>
        pairs(rows).map(([name, facts]) => decode(name, facts))
      ),
    pause: (queue, paused) => {
      const meta = of(queue).key("meta")
      return Effect.asVoid(
        paused
          ? redis.call("hset", meta, "paused", "1")
          : Effect.andThen(redis.call("hdel", meta, "paused"), redis.call("publish", meta, work))
      )
    },
    isPaused: (queue) => Effect.map(redis.call("hexists", of(queue).key("meta"), "paused"), (found) => found === 1),
    redrive: (queue, ids) => raise(queue, "again", ids),
    bury: (queue, ids) => raise(queue, "forget", ids),
    flush: (queue) => withNames(queue, (keys, names) => whole(redis.run(Books.flush, keys.with(names), []))),
    remove: (queue) =>
      withNames(queue, (keys, names) =>
        Effect.asVoid(redis.run(Books.remove, [...keys.with(names), keys.queues], [queue]))
      ),
    recur: (queue, recurrence) =>
      Effect.asVoid(
        redis.run(Slots.recur, of(queue).fixed.concat(of(queue).queues), Slots.recurArgs(of(queue), recurrence))
      ),
    recurrences: (queue, which) =>
      Effect.map(
        redis.runBuffer<ReadonlyArray<Buffer>>(Slots.recurrences, of(queue).fixed, [which]),
        ([now, next, ...rows]) => {
          const found = rows.flatMap((name, i) =>
            i % 3 === 0 ? Slots.recurrenceOf(name, rows[i + 1]!, rows[i + 2]!) : []
          )
          if (which === "all") found.sort((a, b) => (a.name < b.name ? -1 : 1))
          return { now: Number(now), next: momentOf(next!), found }
        }
      ),
    fire: (queue, firings) => {
      const { keys, names } = Slots.fireKeys(of(queue), firings)
      return Effect.map(redis.run(Slots.fire, keys, Slots.fireArgs(firings, names)), ([now, next]) => ({
        now: Number(now),
        next: momentOf(next)
      }))
    },
    alter: (queue, name, change) => {
      const args = typeof change === "string" ? [name, change, ""] : [name, "resume", change.resume]
      return Effect.map(redis.run(Slots.alter, of(queue).fixed, args), (found) => found === 1)
    },
    signals: (queue) => Stream.map(redis.subscribe(of(queue).key("meta")), signalOf)
  })
})

const nothing: ReadonlyArray<string> = []

export const layer: Layer.Layer<JobStore, never, Redis> = Layer.effect(JobStore, make)
