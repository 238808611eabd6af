/**
 * The logs on SQLite: every operation of `Broker` as one transaction. There is one shard, and the rules, numbers and
 * epochs are those of the Redis engine. `fsync` waits for the disk; replicas do not exist here, so asking for some is
 * answered `DurabilityNotReached` by a file. Memory takes any durability as reached: it is what tests run on.
 */
import { Clock, Effect, Layer } from "effect"
import {
  type Append,
  type Appended,
  Broker,
  type Durability,
  type Lag,
  type Layout,
  type StoredProcessor,
  type StoredTopic
} from "../Broker.ts"
import { DurabilityNotReached, type EngineError, type Misconfigured } from "../Errors.ts"
import * as Mismatch from "../internal/mismatch.ts"
import * as TopicFacts from "../internal/topicFacts.ts"
import { append, hasRoom, sweepPublishers } from "./append.ts"
import { Sqlite, type Statements } from "./client.ts"
import * as Commits from "./commit.ts"
import * as Inbox from "./inbox.ts"
import { createTables as createJobTables, work } from "./jobRows.ts"
import * as Log from "./log.ts"
import * as Parking from "./parking.ts"
import { logChannel, makeReader } from "./reader.ts"
import { createTables, makeNames, type Names } from "./schema.ts"
import * as Windows from "./windows.ts"

/** Notified whenever a publisher may find room. */
const roomChannel = "room"
/** Room made by other processes is noticed anyway; this bounds the wait if the notice is missed. */
const roomMillis = 50
const sweepMillis = 60_000
const rowsPerTransaction = 4_000

type Write = <A>(
  operation: string,
  f: (db: Statements, now: number) => A,
  durability?: Durability
) => Effect.Effect<A, EngineError>

export const reached = (isFile: boolean, durability: Durability): Effect.Effect<void, DurabilityNotReached> =>
  isFile && typeof durability === "object" && durability.replicas > 0
    ? Effect.fail(new DurabilityNotReached({ wanted: durability.replicas, reached: 0 }))
    : Effect.void

/** What is stored of the topics, if it contradicts them. */
const contradiction = (db: Statements, names: Names, topics: ReadonlyArray<Layout>): Misconfigured | undefined => {
  const select = db.prepareArrays("SELECT partitions FROM topics WHERE name = ?")
  for (const topic of topics) {
    const found = select.get<[number]>(names.stored(topic.name))?.[0]
    if (found !== undefined && found !== topic.partitions) return Mismatch.ofTopic(topic, { partitions: found })
  }
  return undefined
}

const declare = (db: Statements, names: Names, topics: ReadonlyArray<Layout>): Misconfigured | undefined => {
  const wrong = contradiction(db, names, topics)
  if (wrong !== undefined) return wrong
  const insert = db.prepare(
    `INSERT INTO topics (name, partitions, facts) VALUES (?1, ?2, ?3)
     ON CONFLICT DO UPDATE SET facts = ?3 WHERE facts IS NOT ?3`
  )
  for (const topic of topics) insert.run(names.stored(topic.name), topic.partitions, TopicFacts.encode(topic))
  return undefined
}

const topics = (db: Statements, names: Names): ReadonlyArray<StoredTopic> =>
  db
    .prepareArrays("SELECT name, partitions, facts FROM topics WHERE substr(name, 1, ?) = ? ORDER BY name")
    .all<[string, number, string | null]>(names.stored("").length, names.stored(""))
    .map(([name, partitions, facts]) => ({ name: names.plain(name), partitions, ...TopicFacts.decode(facts) }))

const processors = (db: Statements, names: Names): ReadonlyArray<StoredProcessor> =>
  db
    .prepareArrays(
      "SELECT processor, partitions, topics FROM registrations WHERE substr(processor, 1, ?) = ? ORDER BY processor"
    )
    .all<[string, number, string]>(names.stored("").length, names.stored(""))
    .map(([name, partitions, topics]) => ({ name: names.plain(name), partitions, topics: JSON.parse(topics) }))

interface Registration {
  readonly partitions: number
  readonly topics: string
}

const registration = (db: Statements, processor: string): Registration | undefined =>
  db.prepare("SELECT partitions, topics FROM registrations WHERE processor = ?").get(processor)

const storeRegistration = (
  db: Statements,
  names: Names,
  processor: string,
  topics: ReadonlyArray<Layout>
): Misconfigured | undefined => {
  const wrong = contradiction(db, names, topics)
  if (wrong !== undefined) return wrong
  const differing = Mismatch.ofPartitions(processor, topics)
  if (differing !== undefined) return differing
  const partitions = topics[0]?.partitions ?? 0
  const list = topics.map((topic) => topic.name).sort()
  const found = registration(db, names.stored(processor))
  if (found === undefined) {
    const insert = db.prepare("INSERT INTO registrations (processor, partitions, topics) VALUES (?, ?, ?)")
    insert.run(names.stored(processor), partitions, JSON.stringify(list))
    return undefined
  }
  if (found.partitions === partitions && found.topics === JSON.stringify(list)) return undefined
  const stored = { partitions: found.partitions, topics: JSON.parse(found.topics) }
  return Mismatch.ofProcessor(processor, stored, { partitions, topics: list })
}

const lag = (db: Statements, names: Names, processor: string): ReadonlyArray<Lag> => {
  const stored = names.stored(processor)
  const found = registration(db, stored)
  if (found === undefined) return []
  const position = db.prepareArrays("SELECT entries, events, offset FROM positions WHERE log = ? AND processor = ?")
  const select = db.prepareArrays(
    `SELECT e.ms || '' FROM positions p, entries e WHERE p.log = ? AND p.processor = ? AND e.log = p.log
       AND (e.ms, e.seq) > (p.ms, p.seq) ORDER BY e.ms, e.seq LIMIT 1`
  )
  const all: Array<Lag> = []
  for (const topic of JSON.parse(found.topics) as ReadonlyArray<string>) {
    for (let partition = 0; partition < found.partitions; partition++) {
      const id = names.log(db, topic, partition)
      const log = id === undefined ? undefined : Log.load(db, id)
      const done = id === undefined ? undefined : position.get<[number, number, string]>(id, stored)
      const entries = log === undefined ? 0 : Math.max(0, log.added - (done?.[0] ?? 0))
      // How many events were in entries that were lost unread nobody knows: at the end of the log none are left.
      const events = log === undefined || entries === 0 ? 0 : Math.max(0, log.events - (done?.[1] ?? 0))
      const oldest = events === 0 ? undefined : select.get<[string]>(id!, stored)?.[0]
      all.push({
        topic,
        partition,
        events,
        entries,
        oldest: oldest === undefined ? undefined : Number(oldest),
        committed: done?.[2] ?? "0-0.0"
      })
    }
  }
  return all
}

/** Rows and parked events first, in pieces; then, in the last one, what makes it a processor. False: there is more to remove. */
const unregister = (db: Statements, names: Names, processor: string): boolean => {
  const stored = names.stored(processor)
  const rows = db
    .prepare(
      `DELETE FROM table_rows WHERE (id, key) IN (SELECT id, key FROM table_rows WHERE id IN
       (SELECT id FROM table_names WHERE processor = ?) LIMIT ${rowsPerTransaction})`
    )
    .run(stored)
  if (Number(rows.changes) === rowsPerTransaction) return false
  const ends = db
    .prepare(
      `DELETE FROM row_ends WHERE (id, key) IN (SELECT id, key FROM row_ends WHERE id IN
       (SELECT id FROM table_names WHERE processor = ?) LIMIT ${rowsPerTransaction})`
    )
    .run(stored)
  if (Number(ends.changes) === rowsPerTransaction) return false
  if (Parking.empty(db, stored, undefined, rowsPerTransaction) === rowsPerTransaction) return false
  if (Windows.empty(db, stored, undefined, rowsPerTransaction) === rowsPerTransaction) return false
  for (const table of ["positions", "fences", "registrations", "tables"]) {
    db.prepare(`DELETE FROM ${table} WHERE processor = ?`).run(stored)
  }
  return true
}

const until = (step: Effect.Effect<boolean, EngineError>): Effect.Effect<void, EngineError> =>
  Effect.flatMap(step, (isDone) => (isDone ? Effect.void : until(step)))

/** Every partition once; what one transaction could not drop goes with the next. */
const trim = (write: Write, names: Names, topic: Layout, partition: number): Effect.Effect<number, EngineError> =>
  Effect.flatMap(
    write("trim", (db, now) => {
      const id = names.log(db, topic.name, partition)
      if (id === undefined) return 0
      const log = Log.load(db, id)
      const dropped = Log.trim(db, log, topic.retention, now)
      if (dropped > 0) Log.save(db, log)
      return dropped
    }),
    (dropped) =>
      dropped < Log.trimLimit
        ? Effect.succeed(dropped)
        : Effect.map(trim(write, names, topic, partition), (more) => dropped + more)
  )

/** What the operations share. */
interface Engine {
  readonly sqlite: Sqlite["Service"]
  readonly names: Names
  readonly write: Write
}

const makeWrite =
  (sqlite: Sqlite["Service"], names: Names): Write =>
  (operation, f, durability = "memory") =>
    sqlite.transaction(operation, f, { fsync: durability === "fsync" }).pipe(
      // Numbers that the failed transaction gave to names are not stored.
      Effect.tapCause(() => Effect.sync(names.forget))
    )

type Room = Pick<Broker["Service"], "append" | "awaitRoom" | "hasRoom">

const makeRoom = ({ names, sqlite, write }: Engine): Room => {
  /** Channel numbers from before the last `Full` of a partition: room made since then is not waited for. */
  const fullAt = new Map<string, number>()
  let swept = 0

  const store = (appends: ReadonlyArray<Append>) => (db: Statements, now: number) => {
    if (now - swept >= sweepMillis) {
      swept = now
      sweepPublishers(db, now)
    }
    sqlite.notify(logChannel)
    return appends.map((request) => append(db, names, now, request))
  }
  const note = (appends: ReadonlyArray<Append>, answers: ReadonlyArray<Appended>, ticket: number): void => {
    for (const [i, answer] of answers.entries()) {
      const key = `${appends[i]!.topic.name}/${appends[i]!.partition}`
      if (answer._tag === "Full") fullAt.set(key, ticket)
      else fullAt.delete(key)
    }
  }
  return {
    append: (appends, durability) =>
      Effect.suspend(() => {
        const ticket = sqlite.ticket(roomChannel)
        return Effect.tap(write("append", store(appends), durability), (answers) => {
          note(appends, answers, ticket)
          return reached(sqlite.isFile, durability)
        })
      }),
    awaitRoom: (topic, partition) =>
      Effect.suspend(() => {
        const room = sqlite.changed(roomChannel, fullAt.get(`${topic.name}/${partition}`))
        // Who looked without an append has no number to wait from, so it looks again by time too.
        return sqlite.isFile || !fullAt.has(`${topic.name}/${partition}`)
          ? Effect.raceFirst(room, Effect.sleep(roomMillis))
          : room
      }),
    hasRoom: (topic, partition) => sqlite.query("room", (db) => hasRoom(db, names, topic, partition))
  }
}

type Ownership = Pick<Broker["Service"], "claim" | "mark" | "release" | "lanes" | "parked">

const makeOwnership = ({ names, sqlite, write }: Engine): Ownership => ({
  claim: (processor, partition, topics, fence) =>
    write("claim", (db) => Commits.claim(db, names, processor, partition, topics, fence)),
  mark: (processor, partition, fence) => write("mark", (db) => Commits.mark(db, names, processor, partition, fence)),
  release: (processor, partition, fence) =>
    Effect.asVoid(write("release", (db) => Commits.release(db, names, processor, partition, fence))),
  lanes: (processor, partition) => sqlite.query("lanes", (db) => Parking.lanes(db, names.stored(processor), partition)),
  parked: ({ processor, partition, lane, after, count }) =>
    sqlite.query("parked", (db) => Parking.page(db, names.stored(processor), partition, lane, after, count))
})

type Progress = Pick<Broker["Service"], "commit" | "seek">

const makeProgress = ({ names, sqlite, write }: Engine): Progress => {
  const finishTrim = (untrimmed: ReadonlyArray<Commits.Untrimmed>): Effect.Effect<void, EngineError> =>
    Effect.forEach(untrimmed, ({ partition, topic }) => trim(write, names, topic, partition), { discard: true })

  return {
    commit: (commits, durability) =>
      Effect.suspend(() => {
        let untrimmed: Array<Commits.Untrimmed> = []
        const committed = write(
          "commit",
          (db, now) => {
            untrimmed = []
            sqlite.notify(roomChannel)
            if (commits.some((request) => request.emits.length > 0)) sqlite.notify(logChannel)
            if (commits.some((request) => request.replies !== undefined)) sqlite.notify(Inbox.inboxChannel)
            for (const { jobs } of commits) for (const { queue } of jobs ?? []) sqlite.notify(work(queue))
            return commits.map((request) => Commits.commit(db, names, now, request, untrimmed))
          },
          durability
        )
        return Effect.tap(committed, () => {
          const safe = reached(sqlite.isFile, durability)
          return untrimmed.length === 0 ? safe : Effect.andThen(finishTrim(untrimmed), safe)
        })
      }),
    seek: (request) =>
      Effect.suspend(() => {
        let untrimmed: Array<Commits.Untrimmed> = []
        const sought = write("seek", (db, now) => {
          untrimmed = []
          sqlite.notify(roomChannel)
          return Commits.seek(db, names, now, request, untrimmed)
        })
        return Effect.tap(sought, () => finishTrim(untrimmed))
      })
  }
}

type Inboxes = Pick<Broker["Service"], "openInbox" | "replies">

const makeInboxes = ({ names, sqlite, write }: Engine): Inboxes => {
  const known = new Map<string, number>()
  return {
    openInbox: (asker) =>
      Effect.flatMap(Clock.currentTimeMillis, (now) => {
        if (now < (known.get(asker) ?? 0)) return Effect.void
        return Effect.map(
          write("openInbox", (db, now) => Inbox.open(db, names.stored(asker), now)),
          () => void known.set(asker, now + Inbox.knownMillis)
        )
      }),
    replies: ({ after, asker, clear }, block) => {
      const stored = names.stored(asker)
      const look = sqlite.query("replies", (db) => Inbox.page(db, stored, after))
      const waited = Inbox.wait(sqlite, look, block)
      return clear
        ? Effect.andThen(
            write("replies", (db) => Inbox.removeUpTo(db, stored, after)),
            waited
          )
        : waited
    }
  }
}

/** The contradiction that a transaction found, as the failure. */
const orFail = (
  found: Effect.Effect<Misconfigured | undefined, EngineError>
): Effect.Effect<void, EngineError | Misconfigured> =>
  Effect.flatMap(found, (wrong) => (wrong === undefined ? Effect.void : Effect.fail(wrong)))

const make = (engine: Engine): Broker["Service"] => {
  const { names, sqlite, write } = engine
  return Broker.of({
    shards: 1,
    ...makeRoom(engine),
    ...makeOwnership(engine),
    ...makeProgress(engine),
    ...makeInboxes(engine),
    // With one shard nothing is ever emitted to another one.
    deliver: () => Effect.succeed({ upTo: undefined, more: false }),
    declare: (topics) => orFail(write("declare", (db) => declare(db, names, topics))),
    topics: () => sqlite.query("topics", (db) => topics(db, names)),
    processors: () => sqlite.query("processors", (db) => processors(db, names)),
    reader: () => Effect.sync(() => makeReader(sqlite, names)),
    inspect: (topic, partitions) =>
      sqlite.query("inspect", (db) =>
        partitions.map((partition) => Log.info(db, names.log(db, topic.name, partition), topic.name, partition))
      ),
    entriesBefore: (topic, partition, id) =>
      sqlite.query("entriesBefore", (db) => {
        const log = names.log(db, topic.name, partition)
        return log === undefined ? 0 : Log.entriesBefore(db, Log.load(db, log), id)
      }),
    register: (processor, topics, start) =>
      orFail(
        write("register", (db) => {
          const wrong = storeRegistration(db, names, processor, topics)
          if (wrong === undefined) Commits.register(db, names, processor, topics, start)
          sqlite.notify(roomChannel)
          return wrong
        })
      ),
    unregister: (processor) =>
      until(
        write("unregister", (db) => {
          sqlite.notify(roomChannel)
          return unregister(db, names, processor)
        })
      ),
    lag: (processor) => sqlite.query("lag", (db) => lag(db, names, processor)),
    trim: (topic, partitions) =>
      Effect.reduce(
        partitions ?? Array.from({ length: topic.partitions }, (_, partition) => partition),
        () => 0,
        (total, partition) => Effect.map(trim(write, names, topic, partition), (dropped) => total + dropped)
      )
  })
}

export const layer: Layer.Layer<Broker, EngineError, Sqlite> = Layer.effect(
  Broker,
  Effect.gen(function* () {
    const sqlite = yield* Sqlite
    yield* sqlite.create((db) => {
      createTables(db)
      // Commits enqueue jobs.
      createJobTables(db)
    })
    const names = makeNames(sqlite.namespace)
    return make({ sqlite, names, write: makeWrite(sqlite, names) })
  })
)
