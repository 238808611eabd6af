/**
 * The books of members and groups in SQLite: what the coordinator's operations read and change within one transaction.
 * The same rules, step by step, as `redis/books.ts`.
 *
 * Gotcha: a transaction may run more than once, so books are opened anew in each; who is to be woken is in them.
 */
import { targets } from "../internal/targets.ts"
import type { Statements } from "./client.ts"

const schema = `
-- groups: what it runs, as "name count name count ..."; since: when its incarnation began; replaced: the last eight that were replaced.
-- stated: number of its last statement, NULL when something of it changed since.
CREATE TABLE IF NOT EXISTS coordinator_members (
  namespace TEXT NOT NULL, member TEXT NOT NULL, incarnation TEXT NOT NULL, groups TEXT NOT NULL,
  since INTEGER NOT NULL, replaced TEXT NOT NULL, stated INTEGER, ends INTEGER NOT NULL, PRIMARY KEY (namespace, member)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS coordinator_leases ON coordinator_members (namespace, ends);
-- due: when its targets are to be computed; NULL while nothing is open.
CREATE TABLE IF NOT EXISTS coordinator_groups (
  namespace TEXT NOT NULL, name TEXT NOT NULL, partitions INTEGER NOT NULL, paused INTEGER NOT NULL,
  generation INTEGER NOT NULL, counter INTEGER NOT NULL, due INTEGER, PRIMARY KEY (namespace, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS coordinator_group_members (
  namespace TEXT NOT NULL, name TEXT NOT NULL, member TEXT NOT NULL, PRIMARY KEY (namespace, name, member)
) WITHOUT ROWID;
-- owner: empty text where it is held back by takeEpoch.
CREATE TABLE IF NOT EXISTS coordinator_partitions (
  namespace TEXT NOT NULL, name TEXT NOT NULL, partition INTEGER NOT NULL, owner TEXT, epoch INTEGER, target TEXT,
  PRIMARY KEY (namespace, name, partition)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS coordinator_owners ON coordinator_partitions (namespace, name, owner);
CREATE INDEX IF NOT EXISTS coordinator_targets ON coordinator_partitions (namespace, name, target);
-- entry: who put it aside, reason, error, positions, as JSON.
CREATE TABLE IF NOT EXISTS coordinator_quarantine (
  namespace TEXT NOT NULL, name TEXT NOT NULL, partition INTEGER NOT NULL, since INTEGER NOT NULL, entry TEXT NOT NULL,
  PRIMARY KEY (namespace, name, partition)
) WITHOUT ROWID;
-- When a group last got a member while it had none.
CREATE TABLE IF NOT EXISTS coordinator_begun (
  namespace TEXT NOT NULL, name TEXT NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (namespace, name)
) WITHOUT ROWID;
-- The schedules of the leader: the latest tick that was claimed, and those that are claimed and not done.
CREATE TABLE IF NOT EXISTS coordinator_ticks (
  namespace TEXT NOT NULL, schedule TEXT NOT NULL, last INTEGER NOT NULL, PRIMARY KEY (namespace, schedule)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS coordinator_open_ticks (
  namespace TEXT NOT NULL, schedule TEXT NOT NULL, tick INTEGER NOT NULL, epoch INTEGER NOT NULL,
  PRIMARY KEY (namespace, schedule, tick)
) WITHOUT ROWID;
-- What members say about themselves, when, and until when it is kept.
CREATE TABLE IF NOT EXISTS coordinator_reports (
  namespace TEXT NOT NULL, member TEXT NOT NULL, at INTEGER NOT NULL, until INTEGER NOT NULL, text TEXT NOT NULL,
  PRIMARY KEY (namespace, member)
) WITHOUT ROWID;
-- When the engine was found to have been away, and until when nobody is dropped for it.
CREATE TABLE IF NOT EXISTS coordinator_away (
  namespace TEXT PRIMARY KEY, noticed INTEGER NOT NULL, until INTEGER NOT NULL
) WITHOUT ROWID;
`

export const createTables = (db: Statements): void => db.exec(schema)

export interface MemberRow {
  readonly incarnation: string
  readonly groups: string
  readonly since: number
  readonly replaced: string
  readonly stated: number | null
  readonly ends: number
}

export interface GroupRow {
  readonly name: string
  partitions: number
  paused: number
  generation: number
  counter: number
  due: number | null
}

export interface PartitionRow {
  readonly partition: number
  readonly owner: string | null
  readonly epoch: number | null
  readonly target: string | null
}

export interface QuarantineRow {
  readonly partition: number
  readonly since: number
  readonly entry: string
}

/** The names in "name count name count ...". */
export const namesIn = (groups: string): ReadonlyArray<string> =>
  groups === "" ? [] : groups.split(" ").filter((_, index) => index % 2 === 0)

/** Targets computed in one run: members and partitions together, so that a transaction stays short. */
const roomOfRun = 6_000

export type Books = ReturnType<typeof openBooks>

export const openBooks = (db: Statements, namespace: string, now: number) => {
  const groups = new Map<string, GroupRow>()
  /** For whom something changed: their next statement is a whole one, and they are woken. */
  const concerned = new Set<string>()
  const concern = (rows: ReadonlyArray<{ readonly member: string }>): void => {
    for (const row of rows) concerned.add(row.member)
  }

  const member = (name: string): MemberRow | undefined =>
    db.prepare("SELECT * FROM coordinator_members WHERE namespace = ? AND member = ?").get<MemberRow>(namespace, name)

  const saveMember = (name: string, row: MemberRow): void => {
    db.prepare("INSERT OR REPLACE INTO coordinator_members VALUES (?, ?, ?, ?, ?, ?, ?, ?)").run(
      namespace,
      name,
      row.incarnation,
      row.groups,
      row.since,
      row.replaced,
      row.stated,
      row.ends
    )
  }
  /** The end of the first lease to end; of another member than `except`, if one is given. */
  const firstEnd = (except = ""): number | undefined =>
    db
      .prepare("SELECT ends FROM coordinator_members WHERE namespace = ? AND member <> ? ORDER BY ends LIMIT 1")
      .get<{ ends: number }>(namespace, except)?.ends
  const anyDue = (): boolean =>
    db.prepare("SELECT 1 FROM coordinator_groups WHERE namespace = ? AND due IS NOT NULL LIMIT 1").get(namespace) !==
    undefined

  /** When the engine was last found to have been away, and until when nobody is dropped for it. */
  const away = (): { readonly noticed: number; readonly until: number } =>
    db
      .prepare("SELECT noticed, until FROM coordinator_away WHERE namespace = ?")
      .get<{ noticed: number; until: number }>(namespace) ?? { noticed: 0, until: 0 }
  /**
   * The members to drop. Two or more, and more than half of all, ended at once: the engine was away, and they get the
   * time to come back. Those that had that time already (their leases ended before it was noticed) are dropped.
   */
  const takeEnded = (grace: number): ReadonlyArray<string> => {
    const { noticed, until } = away()
    if (now < until) return []
    const ended = db
      .prepare("SELECT member, ends FROM coordinator_members WHERE namespace = ? AND ends <= ?")
      .all<{ member: string; ends: number }>(namespace, now)
    const fresh = ended.filter((row) => row.ends > noticed).length
    const all = db
      .prepare("SELECT count(*) AS n FROM coordinator_members WHERE namespace = ?")
      .get<{ n: number }>(namespace)!.n
    if (fresh < 2 || fresh * 2 <= all) return ended.map((row) => row.member)
    db.prepare("INSERT OR REPLACE INTO coordinator_away VALUES (?, ?, ?)").run(namespace, now, now + grace)
    return ended.filter((row) => row.ends <= noticed).map((row) => row.member)
  }

  const group = (name: string): GroupRow => {
    let row = groups.get(name)
    if (row === undefined) {
      row = db
        .prepare(
          "SELECT name, partitions, paused, generation, counter, due FROM coordinator_groups WHERE namespace = ? AND name = ?"
        )
        .get<GroupRow>(namespace, name) ?? { name, partitions: 0, paused: 0, generation: 0, counter: 0, due: null }
      groups.set(name, row)
    }
    return row
  }
  const save = (row: GroupRow): void => {
    db.prepare("INSERT OR REPLACE INTO coordinator_groups VALUES (?, ?, ?, ?, ?, ?, ?)").run(
      namespace,
      row.name,
      row.partitions,
      row.paused,
      row.generation,
      row.counter,
      row.due
    )
  }
  const nextEpoch = (row: GroupRow): number => (row.counter = Math.max(row.counter + 1, now))
  /** From the first change that is not settled yet; an earlier time is kept. */
  const unsettle = (row: GroupRow, at: number): void => {
    if (row.due !== null && row.due <= at) return
    row.due = at
    save(row)
  }

  const members = (name: string): ReadonlyArray<string> =>
    db
      .prepare("SELECT member FROM coordinator_group_members WHERE namespace = ? AND name = ? ORDER BY member")
      .all<{ member: string }>(namespace, name)
      .map((row) => row.member)
  const isIn = (name: string, who: string): boolean =>
    db
      .prepare("SELECT 1 FROM coordinator_group_members WHERE namespace = ? AND name = ? AND member = ?")
      .get(namespace, name, who) !== undefined
  const partitions = (name: string): ReadonlyArray<PartitionRow> =>
    db
      .prepare(
        "SELECT partition, owner, epoch, target FROM coordinator_partitions WHERE namespace = ? AND name = ? ORDER BY partition"
      )
      .all<PartitionRow>(namespace, name)
  const owned = (name: string, who: string): ReadonlyArray<PartitionRow> =>
    db
      .prepare(
        "SELECT partition, owner, epoch, target FROM coordinator_partitions WHERE namespace = ? AND name = ? AND owner = ? ORDER BY partition"
      )
      .all<PartitionRow>(namespace, name, who)
  const setOwner = (name: string, partition: number, owner: string | null, epoch: number | null): void => {
    db.prepare(
      `INSERT INTO coordinator_partitions (namespace, name, partition, owner, epoch) VALUES (?, ?, ?, ?, ?)
       ON CONFLICT (namespace, name, partition) DO UPDATE SET owner = excluded.owner, epoch = excluded.epoch`
    ).run(namespace, name, partition, owner, epoch)
  }

  /** Strike a member from a group, and free what it had there; false if it was not in the group. */
  const strike = (name: string, who: string): boolean => {
    const gone = db
      .prepare("DELETE FROM coordinator_group_members WHERE namespace = ? AND name = ? AND member = ?")
      .run(namespace, name, who)
    if (Number(gone.changes) === 0) return false
    // Who waited for one of its partitions may have it, and who was to give one up to it may keep it.
    concern(
      db
        .prepare(
          `SELECT DISTINCT target AS member FROM coordinator_partitions
           WHERE namespace = ? AND name = ? AND owner = ? AND target IS NOT NULL`
        )
        .all<{ member: string }>(namespace, name, who)
    )
    concern(
      db
        .prepare(
          `SELECT DISTINCT owner AS member FROM coordinator_partitions
           WHERE namespace = ? AND name = ? AND target = ? AND owner <> ''`
        )
        .all<{ member: string }>(namespace, name, who)
    )
    const free =
      "UPDATE coordinator_partitions SET owner = NULL, epoch = NULL WHERE namespace = ? AND name = ? AND owner = ?"
    db.prepare(free).run(namespace, name, who)
    db.prepare("UPDATE coordinator_partitions SET target = NULL WHERE namespace = ? AND name = ? AND target = ?").run(
      namespace,
      name,
      who
    )
    return true
  }
  const forget = (who: string): void => {
    db.prepare("DELETE FROM coordinator_members WHERE namespace = ? AND member = ?").run(namespace, who)
  }

  /** Targets, written where they differ from those before. */
  const compute = (row: GroupRow, names: ReadonlyArray<string>): void => {
    const places = new Map(names.map((name, index) => [name, index]))
    const owners = new Array<number | undefined>(row.partitions).fill(undefined)
    const wanted = new Array<number | undefined>(row.partitions).fill(undefined)
    for (const { partition, owner, target } of partitions(row.name)) {
      if (owner !== null) owners[partition] = places.get(owner)
      if (target !== null) wanted[partition] = places.get(target)
    }
    const aside = new Set(quarantined(row.name).map(({ partition }) => partition))
    const result = targets(row.name, names, owners, wanted, aside)
    const write = db.prepare(
      `INSERT INTO coordinator_partitions (namespace, name, partition, target) VALUES (?, ?, ?, ?)
       ON CONFLICT (namespace, name, partition) DO UPDATE SET target = excluded.target`
    )
    for (let partition = 0; partition < row.partitions; partition++) {
      const to = result[partition]
      if (to === wanted[partition]) continue
      write.run(namespace, row.name, partition, to === undefined ? null : names[to]!)
      // The owner must stop; where there is none, the target may begin.
      const first = owners[partition] ?? to
      if (first !== undefined) concerned.add(names[first]!)
    }
    row.generation++
  }

  /** Compute what is due, as much as one run may take; for what is left over somebody is called at once. */
  const settleDue = (): void => {
    let room: number | undefined
    for (const row of groups.values()) {
      if (row.due === null) continue
      const names = members(row.name)
      const size = names.length + row.partitions
      if (names.length > 0 && row.due > now) continue
      if (names.length > 0 && room !== undefined && size > room) {
        concerned.add(names[0]!)
        continue
      }
      if (names.length > 0) {
        room = (room ?? roomOfRun) - size
        compute(row, names)
      }
      row.due = null
      save(row)
    }
  }

  /** Add a member to a group, with nothing yet. */
  const enter = (name: string, who: string, isAlone: boolean): void => {
    if (isAlone) {
      db.prepare(
        `INSERT INTO coordinator_begun VALUES (?, ?, ?)
         ON CONFLICT (namespace, name) DO UPDATE SET at = max(at + 1, excluded.at)`
      ).run(namespace, name, Math.max(1, Math.floor(now)))
    }
    db.prepare("INSERT INTO coordinator_group_members VALUES (?, ?, ?)").run(namespace, name, who)
  }
  const removeGroup = (name: string): void => {
    for (const table of ["groups", "group_members", "partitions", "quarantine"]) {
      db.prepare(`DELETE FROM coordinator_${table} WHERE namespace = ? AND name = ?`).run(namespace, name)
    }
  }

  const quarantined = (name: string): ReadonlyArray<QuarantineRow> =>
    db
      .prepare(
        "SELECT partition, since, entry FROM coordinator_quarantine WHERE namespace = ? AND name = ? ORDER BY partition"
      )
      .all<QuarantineRow>(namespace, name)
  const isAside = (name: string, partition: number): boolean =>
    db
      .prepare("SELECT 1 FROM coordinator_quarantine WHERE namespace = ? AND name = ? AND partition = ?")
      .get(namespace, name, partition) !== undefined
  /** Out of the targets, and nobody's. */
  const putAside = (name: string, partition: number, entry: string): void => {
    db.prepare("INSERT INTO coordinator_quarantine VALUES (?, ?, ?, ?, ?)").run(namespace, name, partition, now, entry)
    db.prepare(
      `UPDATE coordinator_partitions SET owner = NULL, epoch = NULL, target = NULL
       WHERE namespace = ? AND name = ? AND partition = ?`
    ).run(namespace, name, partition)
  }
  /** False if it is not aside. */
  const takeBack = (name: string, partition: number): boolean => {
    const gone = db
      .prepare("DELETE FROM coordinator_quarantine WHERE namespace = ? AND name = ? AND partition = ?")
      .run(namespace, name, partition)
    return Number(gone.changes) > 0
  }

  /** What takeEpoch held back is free again. */
  const letGo = (name: string): void => {
    db.prepare("UPDATE coordinator_partitions SET owner = NULL WHERE namespace = ? AND name = ? AND owner = ''").run(
      namespace,
      name
    )
  }
  /** Targeted at a member and free. */
  const open = (name: string, who: string): ReadonlyArray<number> =>
    db
      .prepare(
        "SELECT partition FROM coordinator_partitions WHERE namespace = ? AND name = ? AND target = ? AND owner IS NULL ORDER BY partition"
      )
      .all<{ partition: number }>(namespace, name, who)
      .map((row) => row.partition)
  const ownerOf = (name: string, partition: number): PartitionRow | undefined =>
    db
      .prepare(
        "SELECT partition, owner, epoch, target FROM coordinator_partitions WHERE namespace = ? AND name = ? AND partition = ?"
      )
      .get<PartitionRow>(namespace, name, partition)

  /** The next statement of those concerned is a whole one. */
  const tell = (): void => {
    const untold = db.prepare("UPDATE coordinator_members SET stated = NULL WHERE namespace = ? AND member = ?")
    for (const who of concerned) untold.run(namespace, who)
  }

  return {
    now,
    concerned,
    member,
    saveMember,
    forget,
    firstEnd,
    anyDue,
    away,
    takeEnded,
    group,
    save,
    removeGroup,
    nextEpoch,
    unsettle,
    settleDue,
    members,
    isIn,
    enter,
    strike,
    partitions,
    owned,
    open,
    ownerOf,
    setOwner,
    letGo,
    quarantined,
    isAside,
    putAside,
    takeBack,
    tell
  }
}
