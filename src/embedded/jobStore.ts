/**
 * The job store on SQLite: every method is one transaction, on Effect's clock; those that clear a whole queue are several.
 * The rules are those of the Redis one, step by step.
 *
 * Gotcha: a worker of another process that shares the file is woken by every change of the file, so what changes nothing
 * must write nothing: idle workers would wake each other for ever.
 */
import { Effect, Layer, Stream } from "effect"
import type { Durability } from "../Broker.ts"
import type { DurabilityNotReached, EngineError } from "../Errors.ts"
import { type Counts, JobStore, maxJobs, type Signal } from "../JobStore.ts"
import { reached } from "./broker.ts"
import { Sqlite } from "./client.ts"
import { enqueue } from "./jobEnqueue.ts"
import { exchange, hasExpired, isInVain, tidy } from "./jobExchange.ts"
import * as Facts from "./jobFacts.ts"
import { type Books, cancelled, claimsOf, lose, makeReady, openLane, over, takeBack } from "./jobLife.ts"
import { columns, createTables, find, itemOf, type Row, stateOf, update, work } from "./jobRows.ts"
import * as Slots from "./jobSlots.ts"

/** Rows of a page, and of one transaction that clears. */
const pageRows = 100
const sliceRows = 500

const make = Effect.gen(function* () {
  const sqlite = yield* Sqlite
  yield* sqlite.create(createTables)
  const prefix = `${sqlite.namespace}:`
  const told = (queue: string) => `told:${queue}`

  const booksOf = (db: Books["db"], queue: string, now: number): Books => ({
    db,
    queue: prefix + queue,
    now,
    work: false,
    told: false
  })
  const write = <A>(operation: string, queue: string, f: (books: Books) => A, fsync?: boolean) =>
    sqlite.transaction(
      operation,
      (db, now) => {
        const books = booksOf(db, queue, now)
        const answer = f(books)
        if (books.work) sqlite.notify(work(queue))
        if (books.told) sqlite.notify(told(queue))
        return answer
      },
      { fsync }
    )
  const change: {
    <A>(operation: string, queue: string, f: (books: Books) => A): Effect.Effect<A, EngineError>
    <A>(
      operation: string,
      queue: string,
      f: (books: Books) => A,
      durability: Durability | undefined
    ): Effect.Effect<A, EngineError | DurabilityNotReached>
  } = <A>(operation: string, queue: string, f: (books: Books) => A, durability: Durability = "memory"): any =>
    durability === "memory"
      ? write(operation, queue, f)
      : Effect.tap(write(operation, queue, f, durability === "fsync"), reached(sqlite.isFile, durability))
  const look = <A>(operation: string, queue: string, f: (books: Books) => A): Effect.Effect<A, EngineError> =>
    sqlite.query(operation, (db, now) => f(booksOf(db, queue, now)))

  /** One transaction after the other, until one does less than it could. */
  const slices = (operation: string, queue: string, f: (books: Books) => number): Effect.Effect<number, EngineError> =>
    Effect.gen(function* () {
      let sum = 0
      while (true) {
        const count = yield* change(operation, queue, f)
        sum += count
        if (count < sliceRows) return sum
      }
    })

  const rowsOf = ({ db, queue }: Books, where: string, ...values: ReadonlyArray<string | number>): ReadonlyArray<Row> =>
    db.prepare(`SELECT ${columns} FROM jobs WHERE queue = ? AND ${where} LIMIT ${sliceRows}`).all<Row>(queue, ...values)

  const dead = (
    queue: string,
    ids: ReadonlyArray<string> | undefined,
    what: (books: Books, row: Row) => void
  ): Effect.Effect<number, EngineError> => {
    if (ids === undefined) {
      return Effect.flatMap(
        look("dead jobs", queue, (books) => books.now),
        (began) =>
          slices("dead jobs", queue, (books) => {
            // Not those that die again meanwhile.
            const rows = rowsOf(books, "state = 4 AND at <= ? ORDER BY at, row", began)
            for (const row of rows) what(books, row)
            return rows.length
          })
      )
    }
    return change("dead jobs", queue, (books) => {
      let count = 0
      for (const id of ids) {
        const row = find(books.db, books.queue, id, books.now)
        if (row?.state !== 4) continue
        what(books, row)
        count++
      }
      return count
    })
  }

  const signals = (queue: string): Stream.Stream<Signal, EngineError> => {
    const stream = (channel: string, first: number, ask: () => Effect.Effect<ReadonlyArray<Signal>, EngineError>) =>
      Stream.fromPull(
        Effect.sync(() => {
          let since = first
          return Effect.gen(function* () {
            while (true) {
              yield* sqlite.changed(channel, since)
              since = sqlite.ticket(channel)
              const [first, ...rest] = yield* ask()
              if (first !== undefined) return [first, ...rest] as const
            }
          })
        })
      )
    let due = 0
    let slot: number | undefined
    // The tickets are taken before anything is waited for: what happens from here on is told.
    return Stream.suspend(() =>
      Stream.merge(
        stream(work(queue), sqlite.ticket(work(queue)), () =>
          look("wakes", queue, ({ db, now, queue }) => {
            const first = db
              .prepareArrays("SELECT min(at) FROM jobs WHERE queue = ? AND state = 1")
              .get<[number]>(queue)
            const ready = db.prepareArrays("SELECT 1 FROM jobs WHERE queue = ? AND state = 0 LIMIT 1").get(queue)
            const at = first?.[0] ?? 0
            const moved = at !== due
            due = at
            const signals: Array<Signal> = []
            if (ready !== undefined || moved || (at > 0 && at <= now)) signals.push({ _tag: "Work", id: undefined })
            const begins = Slots.earliest({ db, queue })
            if (begins !== slot) signals.push({ _tag: "Slots", id: undefined })
            slot = begins
            return signals
          })
        ),
        stream(told(queue), sqlite.ticket(told(queue)), () =>
          look("told", queue, ({ db, queue }) => {
            const stop = db
              .prepareArrays("SELECT id FROM jobs WHERE queue = ? AND state = 3 AND stop = 1")
              .all<[string]>(queue)
            return [
              ...stop.map(([id]): Signal => ({ _tag: "Cancelled", id })),
              { _tag: "Settled", id: undefined },
              { _tag: "Progress", id: undefined }
            ]
          })
        )
      )
    )
  }

  return JobStore.of({
    enqueue: (queue, jobs, durability) =>
      jobs.length > maxJobs
        ? Effect.die(new Error(`${jobs.length} jobs at once; ${maxJobs} are possible`))
        : change("enqueue", queue, (books) => enqueue(books, jobs), durability),
    open: (queue, worker, lease) =>
      change("open", queue, ({ db, now, queue: stored }) => {
        const { lastInsertRowid } = db
          .prepare("INSERT INTO job_sessions (queue, worker, ends) VALUES (?, ?, ?)")
          .run(stored, worker, now + Math.ceil(lease))
        return { queue, slot: Number(lastInsertRowid) }
      }),
    exchange: Effect.fnUntraced(function* (request, durability) {
      const { queue } = request.session
      if (request.settle.length === 0) {
        const answer = yield* look("exchange", queue, (books) =>
          isInVain(books, request) ? exchange(books, request, undefined) : undefined
        )
        if (answer !== undefined) return answer
      }
      const settling = (books: Books) =>
        exchange(books, request, (to, job) => {
          enqueue({ ...books, queue: prefix + to }, [job])
          sqlite.notify(work(to))
        })
      return yield* change("exchange", queue, settling, request.settle.length === 0 ? undefined : durability)
    }),
    extend: (session, lease, number, held) =>
      change("extend", session.queue, (books) => {
        const { db, now, queue } = books
        const { slot } = session
        const row = db
          .prepareArrays("SELECT ends FROM job_sessions WHERE slot = ? AND queue = ?")
          .get<[number]>(slot, queue)
        if (row === undefined) return "Unknown"
        // Late itself, so the others may be: it was the machine that was away.
        if (row[0] < now)
          db.prepare("UPDATE queues SET grace = ? WHERE queue = ?").run(Math.ceil(now + lease / 3), queue)
        db.prepare("UPDATE job_sessions SET ends = ? WHERE slot = ?").run(now + Math.ceil(lease), slot)
        const mine = new Map(claimsOf(books, slot).map((row) => [row.id, row]))
        const lost: Array<string> = []
        const stop: Array<string> = []
        for (const { claim, id } of held) {
          const row = mine.get(id)
          if (row?.claim !== claim) lost.push(id)
          else {
            mine.delete(id)
            if (row.stop === 1) stop.push(id)
          }
        }
        for (const row of mine.values()) if (row.claim! <= number) takeBack(books, row)
        tidy(books)
        return { lost, cancelled: stop, expired: hasExpired(books) }
      }),
    close: ({ queue, slot }) =>
      change("close", queue, (books) => {
        for (const row of claimsOf(books, slot)) takeBack(books, row)
        books.db.prepare("DELETE FROM job_sessions WHERE slot = ?").run(slot)
      }),
    sweep: (queue) =>
      change("sweep", queue, (books) => {
        const { db, now, queue } = books
        const [grace] = db.prepareArrays("SELECT grace FROM queues WHERE queue = ?").get<[number]>(queue) ?? [0]
        const all = db
          .prepareArrays("SELECT slot, ends, worker FROM job_sessions WHERE queue = ?")
          .all<[number, number, string]>(queue)
        const ended = all.filter(([, ends]) => ends <= now)
        if (now < grace || ended.length === 0) return 0
        // Most workers at once: it was the machine that was away. They get a third of a lease to say something.
        const many = 2 * ended.length > all.length && new Set(ended.map(([, , worker]) => worker)).size >= 2
        if (many && (grace === 0 || now > grace + graceMillis)) {
          db.prepare("UPDATE queues SET grace = ? WHERE queue = ?").run(now + Math.ceil(graceMillis / 3), queue)
          return 0
        }
        let count = 0
        for (const [slot] of ended) {
          for (const row of claimsOf(books, slot)) {
            lose(books, row)
            count++
          }
          db.prepare("DELETE FROM job_sessions WHERE slot = ?").run(slot)
        }
        return count
      }),
    cancel: (queue, id, ttl) =>
      change("cancel", queue, (books) => {
        const row = find(books.db, books.queue, id, books.now)
        if (row === undefined || row.state >= 4) return false
        if (row.state === 3) update(books.db, row.row, { stop: 1 })
        else cancelled(books, row, Math.ceil(ttl))
        books.told = true
        return true
      }),
    promote: (queue, id) =>
      change("promote", queue, (books) => {
        const row = find(books.db, books.queue, id, books.now)
        if (row?.state !== 1) return false
        makeReady(books, row, books.now)
        return true
      }),
    progress: ({ queue, slot }, { claim, id }, value) =>
      change("progress", queue, (books) => {
        const row = find(books.db, books.queue, id, books.now)
        if (row?.state !== 3 || row.slot !== slot || row.claim !== claim) return false
        update(books.db, row.row, { progress: value })
        books.told = true
        return true
      }),
    get: (queue, id) =>
      look("read job", queue, ({ db, now, queue }) => {
        const row = find(db, queue, id, now)
        return row === undefined ? undefined : itemOf(row, now)
      }),
    list: (queue, state, { cursor, name }) =>
      look("list jobs", queue, ({ db, now, queue }) => {
        const due =
          state === "ready" ? "(state = 0 OR (state = 1 AND at <= ?1))" : `state = ${stateOf(state)} AND ?1 >= 0`
        const open = state === "delayed" ? "AND at > ?1" : state === "done" ? "AND expires > ?1" : ""
        // Of what is most of a queue the next page is found row by row, of the others by their index.
        const is = state === "ready" || state === "done" ? "+queue = ?2" : "queue = ?2"
        const rows = db
          .prepare(
            `SELECT ${columns} FROM jobs WHERE ${is} AND row > ?3 AND ${due} ${open}
             AND (?4 IS NULL OR name = ?4) ORDER BY row LIMIT ${pageRows}`
          )
          .all<Row>(now, queue, Number(cursor), name ?? null)
        return {
          items: rows.map((row) => itemOf(row, now)),
          next: rows.length < pageRows ? undefined : String(rows[pageRows - 1]!.row)
        }
      }),
    counts: (queue) =>
      look("count jobs", queue, ({ db, now, queue }): Counts => {
        // From the indexes alone: a look at each row of a long queue would hold up all else that runs here. Each condition
        // has that of its index in it, word for word, as SQLite wants it.
        const count = (index: string, where: string, ...values: ReadonlyArray<number>): number =>
          db
            .prepareArrays(`SELECT count(*) FROM jobs INDEXED BY ${index} WHERE queue = ?1 AND ${where}`)
            .get<[number]>(queue, ...values)![0]
        const alone = "state = 0 AND lane IS NULL"
        return {
          ready:
            count("jobs_ready", `${alone} AND lost < 2`) +
            count("jobs_suspect", `${alone} AND lost >= 2`) +
            count("jobs_in_lane", "state = 0 AND state < 4 AND lane IS NOT NULL") +
            count("jobs_due", "state = 1 AND at <= ?2", now),
          delayed: count("jobs_due", "state = 1 AND at > ?2", now),
          waiting: count("jobs_waiting", "state = 2"),
          active: count("jobs_active", "state = 3"),
          dead: count("jobs_dead", "state = 4"),
          done: count("jobs_over", "state >= 5 AND expires > ?2", now)
        }
      }),
    queues: sqlite.query("queues", (db) =>
      db
        .prepareArrays("SELECT queue FROM queues WHERE substr(queue, 1, ?) = ? ORDER BY queue")
        .all<[string]>(prefix.length, prefix)
        .map(([queue]) => queue.slice(prefix.length))
    ),
    configure: (queue, { keepDead, keepDone, limit }) =>
      change("configure", queue, (books) => {
        books.work = true
        books.db.prepare("INSERT OR IGNORE INTO queues (queue) VALUES (?)").run(books.queue)
        books.db
          .prepare(
            "UPDATE queues SET limit_count = ?, limit_per = ?, keep_done = ?, dead_count = ?, dead_age = ? WHERE queue = ?"
          )
          .run(
            limit?.count ?? null,
            limit === undefined ? null : Math.ceil(limit.per),
            keepDone ?? null,
            keepDead?.count ?? null,
            keepDead?.age === undefined ? null : Math.ceil(keepDead.age),
            books.queue
          )
      }),
    declare: (queue, jobs) => change("declare jobs", queue, ({ db, queue }) => Facts.declare(db, queue, jobs)),
    facts: (queue) => look("job facts", queue, ({ db, queue }) => Facts.facts(db, queue)),
    pause: (queue, paused) =>
      change("pause", queue, (books) => {
        books.db
          .prepare("INSERT INTO queues (queue, paused) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET paused = ?2")
          .run(books.queue, paused ? 1 : 0)
        books.work = true
      }),
    isPaused: (queue) =>
      look("queue", queue, ({ db, queue }) => {
        const row = db.prepareArrays("SELECT paused FROM queues WHERE queue = ?").get<[number]>(queue)
        return row?.[0] === 1
      }),
    redrive: (queue, ids) =>
      dead(queue, ids, (books, row) => {
        update(books.db, row.row, { failures: 0, lost: 0, reason: null, since: books.now })
        openLane(books, row.name, row.lane)
        makeReady(books, { row: row.row, waits: 0 }, books.now, row.place)
      }),
    bury: (queue, ids) => dead(queue, ids, ({ db }, { row }) => db.prepare("DELETE FROM jobs WHERE row = ?").run(row)),
    flush: (queue) =>
      slices("flush", queue, (books) => {
        const rows = rowsOf(books, "state < 3 ORDER BY row")
        for (const row of rows) {
          books.db.prepare("DELETE FROM jobs WHERE row = ?").run(row.row)
          over(books, row.id, false)
        }
        return rows.length
      }),
    remove: (queue) =>
      Effect.asVoid(
        slices("remove queue", queue, ({ db, queue }) => {
          const some = `SELECT row FROM jobs WHERE queue = ? LIMIT ${sliceRows}`
          const { changes } = db.prepare(`DELETE FROM jobs WHERE row IN (${some})`).run(queue)
          if (Number(changes) < sliceRows) {
            for (const table of ["queues", "job_lanes", "job_keys", "job_parents", "job_sessions", "job_recurrences"]) {
              db.prepare(`DELETE FROM ${table} WHERE queue = ?`).run(queue)
            }
          }
          return Number(changes)
        })
      ),
    recur: (queue, recurrence) => change("recur", queue, (books) => Slots.recur(books, recurrence)),
    recurrences: (queue, which) =>
      look("recurrences", queue, (books) => ({
        now: books.now,
        next: Slots.earliest(books),
        found: Slots.recurrences(books, which)
      })),
    fire: (queue, firings) =>
      change("fire", queue, (books) => {
        Slots.fire(books, firings)
        return { now: books.now, next: Slots.earliest(books) }
      }),
    alter: (queue, name, to) => change("alter", queue, (books) => Slots.alter(books, name, to)),
    signals
  })
})

/** How long members of a queue may have been away together. */
const graceMillis = 10_000

export const layer: Layer.Layer<JobStore, EngineError, Sqlite> = Layer.effect(JobStore, make)
