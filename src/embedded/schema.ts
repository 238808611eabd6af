/**
 * The tables of logs, processors, parked events, replies and table rows, and the numbers that stand for names in them. Logs and tables are rows
 * that are never deleted, so a process may remember their numbers for ever.
 *
 * Gotcha: a number made in a transaction that was rolled back must be forgotten (`Names.forget`).
 */
import type { Statements } from "./client.ts"

const schema = `
-- facts: see internal/topicFacts.ts.
CREATE TABLE IF NOT EXISTS topics (
  name TEXT PRIMARY KEY, partitions INTEGER NOT NULL, facts TEXT
) WITHOUT ROWID;
-- One partition of a topic. Entries and events are counted from its beginning; trimmed ones are still counted.
CREATE TABLE IF NOT EXISTS logs (
  id INTEGER PRIMARY KEY, topic TEXT NOT NULL, partition INTEGER NOT NULL, last TEXT NOT NULL DEFAULT '0-0',
  added INTEGER NOT NULL DEFAULT 0, events INTEGER NOT NULL DEFAULT 0,
  trimmed INTEGER NOT NULL DEFAULT 0, trimmed_events INTEGER NOT NULL DEFAULT 0,
  UNIQUE (topic, partition)
);
-- nth: its place in the log, from 1; upto: events from the log's beginning to the end of this entry.
CREATE TABLE IF NOT EXISTS entries (
  log INTEGER NOT NULL, ms INTEGER NOT NULL, seq INTEGER NOT NULL,
  count INTEGER NOT NULL, nth INTEGER NOT NULL, upto INTEGER NOT NULL, fields BLOB NOT NULL,
  PRIMARY KEY (log, ms, seq)
) WITHOUT ROWID;
-- recent: the ids of its last five appends, oldest first (see append.ts).
CREATE TABLE IF NOT EXISTS publishers (
  publisher TEXT NOT NULL, log INTEGER NOT NULL, number INTEGER NOT NULL, seen INTEGER NOT NULL, recent TEXT NOT NULL,
  PRIMARY KEY (publisher, log)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS producers (
  log INTEGER NOT NULL, producer TEXT NOT NULL, sequence TEXT NOT NULL, id TEXT NOT NULL,
  PRIMARY KEY (log, producer)
) WITHOUT ROWID;
-- topics: a JSON array of their names, sorted.
CREATE TABLE IF NOT EXISTS registrations (
  processor TEXT PRIMARY KEY, partitions INTEGER NOT NULL, topics TEXT NOT NULL
) WITHOUT ROWID;
-- The epoch in force, and the number that the next commit must carry. trial: see probation.ts.
CREATE TABLE IF NOT EXISTS fences (
  processor TEXT NOT NULL, partition INTEGER NOT NULL, epoch TEXT NOT NULL, incarnation TEXT NOT NULL,
  number INTEGER NOT NULL, trial TEXT NOT NULL DEFAULT '', PRIMARY KEY (processor, partition)
) WITHOUT ROWID;
-- Those that hold events; due and since in milliseconds.
CREATE TABLE IF NOT EXISTS lanes (
  id INTEGER PRIMARY KEY, processor TEXT NOT NULL, partition INTEGER NOT NULL, name TEXT NOT NULL,
  events INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, due INTEGER NOT NULL DEFAULT 0,
  since INTEGER NOT NULL DEFAULT 0, error TEXT NOT NULL DEFAULT '', UNIQUE (processor, partition, name)
);
-- source: the offset that it had. An id is never given again.
CREATE TABLE IF NOT EXISTS parked (
  id INTEGER PRIMARY KEY AUTOINCREMENT, lane INTEGER NOT NULL, topic TEXT NOT NULL, source TEXT NOT NULL,
  fields BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS parked_in_lane ON parked (lane, id);
-- How far a processor is in a log; ms and seq are those of entry.
CREATE TABLE IF NOT EXISTS positions (
  log INTEGER NOT NULL, processor TEXT NOT NULL, offset TEXT NOT NULL, entry TEXT NOT NULL,
  ms INTEGER NOT NULL, seq INTEGER NOT NULL, entries INTEGER NOT NULL, events INTEGER NOT NULL,
  PRIMARY KEY (log, processor)
) WITHOUT ROWID;
-- until: milliseconds since 1970. Its replies go with it.
CREATE TABLE IF NOT EXISTS inboxes (asker TEXT PRIMARY KEY, until INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS replies (
  id INTEGER PRIMARY KEY AUTOINCREMENT, asker TEXT NOT NULL, fields BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS replies_to_asker ON replies (asker, id);
-- redacted: paths as a JSON array; null: none.
CREATE TABLE IF NOT EXISTS tables (
  name TEXT PRIMARY KEY, processor TEXT NOT NULL, partitions INTEGER NOT NULL, hashed INTEGER NOT NULL, redacted TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS table_names (
  id INTEGER PRIMARY KEY, processor TEXT NOT NULL, name TEXT NOT NULL, partition INTEGER NOT NULL,
  UNIQUE (processor, partition, name)
);
CREATE TABLE IF NOT EXISTS table_rows (
  id INTEGER NOT NULL, key TEXT NOT NULL, value NOT NULL, PRIMARY KEY (id, key)
) WITHOUT ROWID;
-- When something is to be done about a row of a table with windows; see windows.ts.
CREATE TABLE IF NOT EXISTS windows (
  id INTEGER NOT NULL, key TEXT NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (id, key)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS windows_due ON windows (id, at, key);
-- source: a topic with its namespace, or empty for the clock.
CREATE TABLE IF NOT EXISTS times (
  processor TEXT NOT NULL, partition INTEGER NOT NULL, source TEXT NOT NULL, time INTEGER NOT NULL,
  PRIMARY KEY (processor, partition, source)
) WITHOUT ROWID;
-- When rows expire, in milliseconds.
CREATE TABLE IF NOT EXISTS row_ends (
  id INTEGER NOT NULL, key TEXT NOT NULL, due INTEGER NOT NULL, PRIMARY KEY (id, key)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS row_ends_due ON row_ends (id, due);
`

export const createTables = (db: Statements): void => {
  db.exec(schema)
  // Files of schema 1 have fences without it, those of schema 3 topics and tables without theirs.
  addColumn(db, "fences", "trial", "TEXT NOT NULL DEFAULT ''")
  addColumn(db, "topics", "facts", "TEXT")
  addColumn(db, "tables", "redacted", "TEXT")
}

const addColumn = (db: Statements, table: string, column: string, type: string): void => {
  const found = db.prepare("SELECT 1 FROM pragma_table_info(?) WHERE name = ?").get(table, column)
  if (found === undefined) db.exec(`ALTER TABLE ${table} ADD COLUMN ${column} ${type}`)
}

/** Names of one namespace as they are stored, and the numbers that stand for them. */
export interface Names {
  /** A topic or processor with its namespace. */
  stored(name: string): string
  /** The plain name of a stored one. */
  plain(stored: string): string
  log(db: Statements, topic: string, partition: number): number | undefined
  logOrNew(db: Statements, topic: string, partition: number): number
  table(db: Statements, processor: string, name: string, partition: number): number | undefined
  tableOrNew(db: Statements, processor: string, name: string, partition: number): number
  forget(): void
}

export const makeNames = (namespace: string): Names => {
  const prefix = `${namespace}:`
  const logs = new Map<string, number>()
  const tables = new Map<string, number>()
  const stored = (name: string): string => prefix + name

  const log = (db: Statements, topic: string, partition: number): number | undefined => {
    const key = `${topic}/${partition}`
    const known = logs.get(key)
    if (known !== undefined) return known
    const row = db.prepareArrays("SELECT id FROM logs WHERE topic = ? AND partition = ?")
    const found = row.get<[number]>(stored(topic), partition)?.[0]
    if (found !== undefined) logs.set(key, found)
    return found
  }
  const table = (db: Statements, processor: string, name: string, partition: number): number | undefined => {
    const key = `${processor}/${partition}/${name}`
    const known = tables.get(key)
    if (known !== undefined) return known
    const row = db.prepareArrays("SELECT id FROM table_names WHERE processor = ? AND partition = ? AND name = ?")
    const found = row.get<[number]>(stored(processor), partition, name)?.[0]
    if (found !== undefined) tables.set(key, found)
    return found
  }
  return {
    stored,
    plain: (name) => name.slice(prefix.length),
    log,
    logOrNew: (db, topic, partition) => {
      const found = log(db, topic, partition)
      if (found !== undefined) return found
      db.prepare("INSERT INTO logs (topic, partition) VALUES (?, ?)").run(stored(topic), partition)
      return log(db, topic, partition)!
    },
    table,
    tableOrNew: (db, processor, name, partition) => {
      const found = table(db, processor, name, partition)
      if (found !== undefined) return found
      const insert = db.prepare("INSERT INTO table_names (processor, name, partition) VALUES (?, ?, ?)")
      insert.run(stored(processor), name, partition)
      return table(db, processor, name, partition)!
    },
    forget: () => {
      logs.clear()
      tables.clear()
    }
  }
}
