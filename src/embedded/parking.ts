/**
 * Parked events: what a commit changes in the lanes of its partition, and reading them. A lane is a row with its state and
 * the number of its events; their ids grow with the order in which they were parked.
 *
 * Gotcha: all of it runs inside the transaction of the commit, and only after `isFirst` was asked.
 */
import { type Lane, type LaneState, maxLaneError, type Parked, type ParkedPage, type Parking } from "../Broker.ts"
import type { Statements } from "./client.ts"
import { pack, unpack } from "./entry.ts"

interface Row {
  readonly id: number
  readonly events: number
}

const find = (db: Statements, processor: string, partition: number, lane: string): Row | undefined =>
  db
    .prepare("SELECT id, events FROM lanes WHERE processor = ? AND partition = ? AND name = ?")
    .get<Row>(processor, partition, lane)

/** The ids of a lane's first events. */
const firstIds = (db: Statements, lane: number, count: number): ReadonlyArray<string> =>
  db
    .prepareArrays("SELECT id || '' FROM parked WHERE lane = ? ORDER BY id LIMIT ?")
    .all<[string]>(lane, count)
    .map(([id]) => id)

/** Whether the events to be removed are the first ones of their lanes. */
export const isFirst = (db: Statements, processor: string, partition: number, remove: Parking["remove"]): boolean => {
  const byLane = new Map<string, Array<string>>()
  for (const { lane, id } of remove) {
    const ids = byLane.get(lane)
    if (ids === undefined) byLane.set(lane, [id])
    else ids.push(id)
  }
  for (const [name, ids] of byLane) {
    const lane = find(db, processor, partition, name)
    const first = lane === undefined ? [] : firstIds(db, lane.id, ids.length)
    if (first.length < ids.length || ids.some((id, i) => id !== first[i])) return false
  }
  return true
}

const drop = (db: Statements, lane: Row | undefined): void => {
  if (lane === undefined) return
  db.prepare("DELETE FROM parked WHERE lane = ?").run(lane.id)
  db.prepare("DELETE FROM lanes WHERE id = ?").run(lane.id)
}

const setState = (db: Statements, lane: Row | undefined, state: LaneState): void => {
  if (lane === undefined) return
  db.prepare("UPDATE lanes SET attempts = ?, due = ?, since = ?, error = ? WHERE id = ?").run(
    state.attempts,
    state.due,
    state.since,
    state.error.slice(0, maxLaneError),
    lane.id
  )
}

/** Drops, parks, removals, states, in this order. */
export const change = (db: Statements, processor: string, partition: number, parking: Parking): void => {
  for (const lane of parking.drop) drop(db, find(db, processor, partition, lane))
  const grow = db.prepare(
    `INSERT INTO lanes (processor, partition, name, events) VALUES (?, ?, ?, 1)
     ON CONFLICT DO UPDATE SET events = events + 1 RETURNING id`
  )
  const insert = db.prepare("INSERT INTO parked (lane, topic, source, fields) VALUES (?, ?, ?, ?)")
  for (const { lane, topic, offset, fields } of parking.park) {
    insert.run(grow.get<Pick<Row, "id">>(processor, partition, lane)!.id, topic, offset, pack(fields))
  }
  const remove = db.prepare("DELETE FROM parked WHERE id = ? AND lane = ?")
  const shrink = db.prepare("UPDATE lanes SET events = events - ? WHERE id = ?")
  for (const { lane, id } of parking.remove) {
    const row = find(db, processor, partition, lane)
    // It may have been dropped just now.
    if (row === undefined) continue
    const { changes } = remove.run(id, row.id)
    if (row.events === Number(changes)) drop(db, row)
    else shrink.run(changes, row.id)
  }
  for (const state of parking.states) setState(db, find(db, processor, partition, state.lane), state)
}

export const lanes = (db: Statements, processor: string, partition: number): ReadonlyArray<Lane> =>
  db
    .prepareArrays(
      `SELECT name, (SELECT min(id) || '' FROM parked WHERE lane = lanes.id), events, attempts, due, since, error
       FROM lanes WHERE processor = ? AND partition = ?`
    )
    .all<[string, string, number, number, number, number, string]>(processor, partition)
    .map(([lane, head, count, attempts, due, since, error]) => ({ lane, head, count, attempts, due, since, error }))

export const page = (
  db: Statements,
  processor: string,
  partition: number,
  name: string,
  after: string | undefined,
  count: number
): ParkedPage => {
  const lane = find(db, processor, partition, name)
  if (lane === undefined) return { events: [], next: undefined }
  // One more than asked for tells whether that is all.
  const rows = db
    .prepareArrays("SELECT id || '', topic, source, fields FROM parked WHERE lane = ? AND id > ? ORDER BY id LIMIT ?")
    .all<[string, string, string, Uint8Array]>(lane.id, after ?? "0", count + 1)
  const events = rows
    .slice(0, count)
    .map(([id, topic, offset, fields]): Parked => ({ id, topic, offset, fields: unpack(fields) }))
  return { events, next: rows.length > count ? events[events.length - 1]?.id : undefined }
}

/** Remove what is parked in one partition, or in all; at most so many events. Gives how many there were. */
export const empty = (db: Statements, processor: string, partition: number | undefined, most: number): number => {
  const own = "processor = ?1 AND (?2 IS NULL OR partition = ?2)"
  const { changes } = db
    .prepare(
      `DELETE FROM parked WHERE id IN
       (SELECT id FROM parked WHERE lane IN (SELECT id FROM lanes WHERE ${own}) LIMIT ?3)`
    )
    .run(processor, partition ?? null, most)
  if (Number(changes) < most) db.prepare(`DELETE FROM lanes WHERE ${own}`).run(processor, partition ?? null)
  return Number(changes)
}
