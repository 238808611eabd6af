/**
 * The embedded engine's connection: one SQLite database, in memory or in a file that several processes may share.
 * `node:sqlite` is synchronous, so everything here is made never to wait inside SQLite: the busy timeout is 0, a busy file
 * is tried again by a fiber that sleeps, and transactions are kept small by those who write them.
 *
 * Gotcha: what is told with `notify` inside a transaction is told after its commit, and not at all if it is rolled back.
 */
import { accessSync, constants, existsSync, statSync } from "node:fs"
import { dirname, resolve as resolvePath } from "node:path"
import type { DatabaseSync } from "node:sqlite"
import { Context, Effect, Layer, Random } from "effect"
import { EngineError } from "../Errors.ts"
import { Copies } from "../internal/copies.ts"
import { fill, take } from "./copy.ts"

export type Value = null | number | bigint | string | Uint8Array

/** A prepared statement. The caller names the row's type: it is what the SQL text selects. */
export interface Statement {
  run(...values: ReadonlyArray<Value>): { readonly changes: number | bigint; readonly lastInsertRowid: number | bigint }
  get<Row>(...values: ReadonlyArray<Value>): Row | undefined
  all<Row>(...values: ReadonlyArray<Value>): Array<Row>
}

/** The statements of one connection: each SQL text is prepared once. */
export interface Statements {
  prepare(sql: string): Statement
  /** The same, with rows as arrays in the order of the columns (faster) instead of objects. */
  prepareArrays(sql: string): Statement
  /** Several statements without parameters or results, such as a schema. */
  exec(sql: string): void
}

export class Sqlite extends Context.Service<
  Sqlite,
  {
    readonly namespace: string
    /** False for memory: then there is no other process, and no write can be made safer. */
    readonly isFile: boolean
    /**
     * Run `f` in one BEGIN IMMEDIATE transaction; a busy file is tried again after 1-10 ms, so `f` may run more than once.
     * What `f` throws rolls back; an `EngineError` becomes the failure. `now` is Effect's clock in milliseconds.
     * `fsync`: on the disk before it is answered.
     */
    transaction<A>(
      operation: string,
      f: (db: Statements, now: number) => A,
      options?: { readonly fsync?: boolean | undefined }
    ): Effect.Effect<A, EngineError>
    /** Make tables. Where they are there already it takes no lock: a program starts while others write without a pause. */
    create(f: (db: Statements) => void): Effect.Effect<void, EngineError>
    /** Read one state of the database; takes no lock, and never waits for a writer. */
    query<A>(operation: string, f: (db: Statements, now: number) => A): Effect.Effect<A, EngineError>
    /** Tell this process's waiters on a channel; other processes notice the change of the file itself. */
    notify(channel: string): void
    /** A number that differs after each change of the channel: take it before you look, and wait for changes since. */
    ticket(channel: string): number
    /** Wait until notified, or until another process changed the file; since the ticket, or else since now. */
    changed(channel: string, since?: number): Effect.Effect<void>
  }
>()("millrace/Embedded") {}

export interface FileOptions {
  readonly file: string
  readonly namespace?: string | undefined
  /** Every write is on the disk before it is answered, whether it asks for it or not. */
  readonly fsync?: boolean | undefined
}

const layer = (options: FileOptions | undefined): Layer.Layer<Sqlite, EngineError> =>
  Layer.effect(
    Sqlite,
    Effect.acquireRelease(
      Effect.flatMap(Copies, (copies) => open(options ?? { file: ":memory:" }, options !== undefined, copies)),
      (connection) => Effect.sync(connection.close)
    ).pipe(Effect.map((connection) => connection.service))
  )

/** A database in memory, a new one with each build. It cannot be busy, missing or of another version. */
export const layerMemory: Layer.Layer<Sqlite> = Layer.orDie(layer(undefined))

/** A database in a file, made if it is missing; its directory must exist. */
export const layerFile = (options: FileOptions): Layer.Layer<Sqlite, EngineError> => layer(options)

const defaultNamespace = "millrace"
/** "Mill" in ASCII: tells our files from those of other programs. */
const applicationId = 0x4d696c6c
/** Raised with each change of the tables that an older release could not read, or would not keep (2: parked events, 3: windows). */
const schemaVersion = 3
const pollMillis = 10
/** Longer than any honest transaction; after it the caller decides. */
const busyMillis = 10_000

interface Connection {
  readonly service: Sqlite["Service"]
  readonly close: () => void
}

const open = (
  options: FileOptions,
  isFile: boolean,
  copies: Copies | undefined
): Effect.Effect<Connection, EngineError> => {
  const where = isFile ? resolvePath(options.file) : options.file
  let database: DatabaseSync | undefined
  const attempt = (): Connection => {
    database ??= openDatabase(where, isFile)
    prepareDatabase(database, where, isFile, options.fsync === true)
    if (copies !== undefined) {
      const opened = database
      fill(opened, copies.begin)
      copies.opened(() => take(opened))
    }
    return connect(database, where, isFile, options)
  }
  return withBusyRetry("open", where, attempt).pipe(
    Effect.onError(() =>
      Effect.sync(() => {
        if (database?.isOpen) database.close()
      })
    )
  )
}

const openDatabase = (where: string, isFile: boolean): DatabaseSync => {
  if (isFile) {
    const directory = dirname(where)
    if (!existsSync(directory)) {
      throw refused("open", `the directory ${directory} does not exist; create it, or name another file`)
    }
    if (existsSync(where) && !statSync(where).isFile()) {
      throw refused("open", `${where} is not a file; name the file that holds (or shall hold) the database`)
    }
    // SQLite would open it all the same, and fail with the first write. Beside the file it keeps its log.
    for (const path of existsSync(where) ? [where, directory] : [directory]) {
      try {
        accessSync(path, constants.W_OK)
      } catch {
        throw refused("open", `${path} is read-only; let this user write ${where} and its directory`)
      }
    }
  }
  return new (loadSqlite().DatabaseSync)(where, { timeout: 0, enableForeignKeyConstraints: false })
}

/** Older releases of Node warn that SQLite is experimental; that one warning is kept from our users, all others pass. */
const loadSqlite = (): typeof import("node:sqlite") => {
  const emitWarning = process.emitWarning
  process.emitWarning = ((warning: string | Error, ...rest: Array<never>) => {
    if (!String(warning).includes("SQLite")) emitWarning.call(process, warning, ...rest)
  }) as typeof process.emitWarning
  try {
    return process.getBuiltinModule("node:sqlite")
  } finally {
    process.emitWarning = emitWarning
  }
}

const pragma = (database: DatabaseSync, name: string): number =>
  Number(Object.values(database.prepare(`PRAGMA ${name}`).get() ?? {})[0])

const prepareDatabase = (database: DatabaseSync, where: string, isFile: boolean, fsync: boolean): void => {
  const application = pragma(database, "application_id")
  const version = pragma(database, "user_version")
  const isEmpty = database.prepare("SELECT 1 FROM sqlite_schema LIMIT 1").get() === undefined
  if (application !== applicationId && !(isEmpty && application === 0 && version === 0)) {
    throw refused("open", `${where} is the database of another program; name another file`)
  }
  if (version > schemaVersion) {
    throw refused(
      "open",
      `${where} was written by a newer release (schema ${version}, this one knows ${schemaVersion}); upgrade millrace here`
    )
  }
  // Entries of a few KiB stay in one page of a clustered table only if pages are larger than the default.
  if (isEmpty) database.exec("PRAGMA page_size = 16384")
  if (isFile) database.exec("PRAGMA journal_mode = WAL")
  database.exec(`PRAGMA synchronous = ${fsync ? "FULL" : "NORMAL"}; PRAGMA wal_autocheckpoint = 256`)
  database.exec("PRAGMA temp_store = MEMORY; PRAGMA cache_size = -16384")
  if (version < schemaVersion) {
    database.exec(
      `BEGIN IMMEDIATE; PRAGMA application_id = ${applicationId}; PRAGMA user_version = ${schemaVersion}; COMMIT`
    )
  }
}

const connect = (database: DatabaseSync, where: string, isFile: boolean, options: FileOptions): Connection => {
  const statements = statementCache(database)
  const begin = statements.prepare("BEGIN")
  const beginImmediate = statements.prepare("BEGIN IMMEDIATE")
  const commit = statements.prepare("COMMIT")
  const rollback = statements.prepare("ROLLBACK")
  const waiting = waiters(isFile ? statements.prepareArrays("PRAGMA data_version") : undefined)
  const always = options.fsync === true
  let full = always

  const run = <A>(first: Statement, f: (db: Statements, now: number) => A, now: number): A => {
    first.run()
    waiting.hold()
    try {
      const result = f(statements, now)
      commit.run()
      waiting.release(true)
      return result
    } catch (error) {
      waiting.release(false)
      // Some errors (a full disk) have rolled back already.
      if (database.isOpen && database.isTransaction) rollback.run()
      throw error
    }
  }
  const synchronous = (fsync: boolean): void => {
    if (fsync === full || !isFile) return
    database.exec(`PRAGMA synchronous = ${fsync ? "FULL" : "NORMAL"}`)
    full = fsync
  }

  const service = Sqlite.of({
    namespace: options.namespace ?? defaultNamespace,
    isFile,
    transaction: (operation, f, settings) =>
      withBusyRetry(operation, where, (now) => {
        synchronous(always || settings?.fsync === true)
        return run(beginImmediate, f, now)
      }),
    // Only a statement that has something to write asks for the lock.
    create: (f) => withBusyRetry("create tables", where, (now) => run(begin, f, now)),
    query: (operation, f) => withBusyRetry(operation, where, (now) => run(begin, f, now)),
    notify: waiting.notify,
    ticket: waiting.ticket,
    changed: waiting.changed
  })
  const close = (): void => {
    if (!database.isOpen) return
    // Another process may be writing: then the last one to close does it.
    if (isFile) ignoreErrors(() => database.exec("PRAGMA wal_checkpoint(TRUNCATE)"))
    database.close()
  }
  return { service, close }
}

const ignoreErrors = (f: () => void): void => {
  try {
    f()
  } catch {}
}

const statementCache = (database: DatabaseSync): Statements => {
  const objects = new Map<string, Statement>()
  const arrays = new Map<string, Statement>()
  const prepare = (cache: Map<string, Statement>, sql: string, asArrays: boolean): Statement => {
    const known = cache.get(sql)
    if (known !== undefined) return known
    const statement = database.prepare(sql)
    if (asArrays) statement.setReturnArrays(true)
    // The row type is the caller's claim about its own SQL text.
    const typed = statement as unknown as Statement
    cache.set(sql, typed)
    return typed
  }
  return {
    prepare: (sql) => prepare(objects, sql, false),
    prepareArrays: (sql) => prepare(arrays, sql, true),
    exec: (sql) => database.exec(sql)
  }
}

/** Counters and waiters by channel; `dataVersion` tells when another connection has committed. */
const waiters = (dataVersion: Statement | undefined) => {
  const counters = new Map<string, number>()
  const channels = new Map<string, Set<() => void>>()
  const held = new Set<string>()
  let holding = false
  let foreign = 0
  let seen = dataVersion?.get<[number]>()?.[0]

  const wake = (resumes: Set<() => void>): void => {
    const woken = [...resumes]
    resumes.clear()
    // Not at once: the fiber of a waiter must not run in the middle of the one that notifies.
    queueMicrotask(() => {
      for (const resume of woken) resume()
    })
  }
  const tell = (channel: string): void => {
    counters.set(channel, (counters.get(channel) ?? 0) + 1)
    const resumes = channels.get(channel)
    if (resumes !== undefined && resumes.size > 0) wake(resumes)
  }
  const look = (): void => {
    if (dataVersion === undefined || holding) return
    let version: number | undefined
    try {
      version = dataVersion.get<[number]>()?.[0]
    } catch {
      // Whoever waits finds out what is wrong when it looks itself.
    }
    if (version !== undefined && version === seen) return
    seen = version
    foreign++
    for (const resumes of channels.values()) wake(resumes)
  }
  const current = (channel: string): number => (counters.get(channel) ?? 0) + foreign
  const ticket = (channel: string): number => {
    look()
    return current(channel)
  }
  const poll = Effect.forever(Effect.andThen(Effect.sleep(pollMillis), Effect.sync(look)))
  const wait = (channel: string, since: number): Effect.Effect<void> =>
    Effect.callback<void>((resume) => {
      if (current(channel) !== since) return resume(Effect.void)
      let resumes = channels.get(channel)
      if (resumes === undefined) channels.set(channel, (resumes = new Set()))
      const entry = resumes
      const done = (): void => resume(Effect.void)
      entry.add(done)
      return Effect.sync(() => {
        entry.delete(done)
        if (entry.size === 0 && channels.get(channel) === entry) channels.delete(channel)
      })
    })

  return {
    hold: (): void => {
      holding = true
    },
    release: (tellThem: boolean): void => {
      holding = false
      if (held.size === 0) return
      const told = [...held]
      held.clear()
      if (tellThem) for (const channel of told) tell(channel)
    },
    notify: (channel: string): void => {
      if (holding) held.add(channel)
      else tell(channel)
    },
    ticket,
    changed: (channel: string, since?: number): Effect.Effect<void> =>
      Effect.suspend(() => {
        const from = since ?? ticket(channel)
        const waited = wait(channel, from)
        return dataVersion === undefined ? waited : Effect.raceFirst(waited, poll)
      })
  }
}

const withBusyRetry = <A>(operation: string, where: string, f: (now: number) => A): Effect.Effect<A, EngineError> =>
  Effect.clockWith((clock) => {
    const started = clock.currentTimeMillisUnsafe()
    const attempt = (): Effect.Effect<A, EngineError> => {
      const now = clock.currentTimeMillisUnsafe()
      try {
        return Effect.succeed(f(Math.floor(now)))
      } catch (error) {
        if (error instanceof EngineError) return Effect.fail(error)
        const code = resultCode(error)
        if (code === undefined) return Effect.die(error)
        if ((code === busy || code === locked) && now - started < busyMillis) return Effect.andThen(pause, again)
        return Effect.fail(describe(operation, where, code, error))
      }
    }
    const again = Effect.suspend(attempt)
    return attempt()
  })

const pause = Effect.flatMap(Random.nextIntBetween(1, 11), (millis) => Effect.sleep(millis))

const busy = 5
const locked = 6
const closed = -1

/** SQLite's primary result code; undefined if the error is not SQLite's (then it is a defect). */
const resultCode = (error: unknown): number | undefined => {
  if (!(error instanceof Error) || !("code" in error)) return undefined
  if (error.code === "ERR_INVALID_STATE") return closed
  if (error.code === "ERR_SQLITE_ERROR" && "errcode" in error && typeof error.errcode === "number") {
    const code = error.errcode & 0xff
    // 1 (SQL error), 19 (constraint) and 21 (misuse) are bugs of ours.
    return code === 1 || code === 19 || code === 21 ? undefined : code
  }
  return undefined
}

const refused = (operation: string, detail: string): EngineError =>
  new EngineError({ operation, reason: "Refused", detail })

const describe = (operation: string, where: string, code: number, cause: unknown): EngineError => {
  const because = cause instanceof Error ? cause.message : String(cause)
  const known: Record<number, readonly [EngineError["reason"], string]> = {
    [closed]: ["Unreachable", `${where} was closed`],
    [busy]: [
      "Unreachable",
      `${where} was locked for ${busyMillis / 1000} s; find the program that holds a transaction open`
    ],
    [locked]: [
      "Unreachable",
      `${where} was locked for ${busyMillis / 1000} s; find the program that holds a transaction open`
    ],
    3: ["Refused", `no permission for ${where}; let this user read and write it and its directory`],
    8: ["Refused", `${where} is read-only; let this user write it and its directory`],
    10: ["Unreachable", `the disk failed under ${where} (${because}); check the disk, then start again`],
    11: ["Refused", `${where} is damaged (${because}); restore it from a backup`],
    13: ["Full", `the disk of ${where} is full; make room`],
    14: ["Refused", `${where} cannot be opened; let this user read and write it and its directory`],
    26: ["Refused", `${where} is not an SQLite database; name another file`]
  }
  const [reason, detail] = known[code] ?? ["Refused", `${where}: ${because} (SQLite result ${code})`]
  return new EngineError({ operation, reason, detail, cause })
}
