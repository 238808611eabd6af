/**
 * The ticks of the leader's schedules on SQLite, as `redis/ticks.ts` has them: each operation is one transaction, which
 * looks into the books of the leaders' group for the epoch it is sent under.
 */
import { type Coordinator, leaderGroup, type TakenTicks, type Ticks } from "../Coordinator.ts"
import { openBooks } from "./books.ts"
import type { Sqlite, Statements } from "./client.ts"

type Methods = "takeTicks" | "claimTick" | "finishTick" | "ticks"

export const ticksOf = (sqlite: Sqlite["Service"]): Pick<Coordinator["Service"], Methods> => {
  const { namespace } = sqlite

  const leads = (db: Statements, now: number, epoch: bigint): boolean => {
    const row = openBooks(db, namespace, now).ownerOf(leaderGroup, 0)
    // The empty text: held back by takeEpoch.
    return row?.owner !== undefined && row.owner !== null && row.owner !== "" && BigInt(row.epoch ?? 0) === epoch
  }
  const lastOf = (db: Statements, schedule: string): number | undefined =>
    db
      .prepare("SELECT last FROM coordinator_ticks WHERE namespace = ? AND schedule = ?")
      .get<{ last: number }>(namespace, schedule)?.last
  const setLast = (db: Statements, schedule: string, last: number): void => {
    db.prepare("INSERT OR REPLACE INTO coordinator_ticks VALUES (?, ?, ?)").run(namespace, schedule, last)
  }
  const isOpen = (db: Statements, schedule: string, tick: number, epoch: bigint): boolean =>
    db
      .prepare("SELECT 1 FROM coordinator_open_ticks WHERE namespace = ? AND schedule = ? AND tick = ? AND epoch = ?")
      .get(namespace, schedule, tick, Number(epoch)) !== undefined

  return {
    takeTicks: (schedule, epoch, from) =>
      sqlite.transaction("takeTicks", (db, now): TakenTicks | undefined => {
        if (!leads(db, now, epoch)) return undefined
        const last = lastOf(db, schedule) ?? from
        setLast(db, schedule, last)
        db.prepare("UPDATE coordinator_open_ticks SET epoch = ? WHERE namespace = ? AND schedule = ?").run(
          Number(epoch),
          namespace,
          schedule
        )
        const open = db
          .prepare("SELECT tick FROM coordinator_open_ticks WHERE namespace = ? AND schedule = ? ORDER BY tick")
          .all<{ tick: number }>(namespace, schedule)
        const began = db
          .prepare("SELECT at FROM coordinator_begun WHERE namespace = ? AND name = ?")
          .get<{ at: number }>(namespace, leaderGroup)
        return { last, open: open.map(({ tick }) => tick), began: began?.at ?? 0 }
      }),
    claimTick: (schedule, tick, epoch, done) =>
      sqlite.transaction("claimTick", (db, now) => {
        if (!leads(db, now, epoch)) return "Fenced"
        if (tick <= (lastOf(db, schedule) ?? -1)) return isOpen(db, schedule, tick, epoch) ? "Claimed" : "Past"
        setLast(db, schedule, tick)
        if (!done) {
          db.prepare("INSERT INTO coordinator_open_ticks VALUES (?, ?, ?, ?)").run(
            namespace,
            schedule,
            tick,
            Number(epoch)
          )
        }
        return "Claimed"
      }),
    finishTick: (schedule, tick, epoch) =>
      sqlite.transaction("finishTick", (db) => {
        db.prepare(
          "DELETE FROM coordinator_open_ticks WHERE namespace = ? AND schedule = ? AND tick = ? AND epoch = ?"
        ).run(namespace, schedule, tick, Number(epoch))
      }),
    ticks: () =>
      sqlite.query("ticks", (db) => {
        const open = db
          .prepare("SELECT schedule, tick, epoch FROM coordinator_open_ticks WHERE namespace = ? ORDER BY tick")
          .all<{ schedule: string; tick: number; epoch: number }>(namespace)
        return db
          .prepare("SELECT schedule, last FROM coordinator_ticks WHERE namespace = ? ORDER BY schedule")
          .all<{ schedule: string; last: number }>(namespace)
          .map(
            ({ last, schedule }): Ticks => ({
              schedule,
              last,
              open: open
                .filter((row) => row.schedule === schedule)
                .map(({ epoch, tick }) => ({ tick, epoch: BigInt(epoch) }))
            })
          )
      })
  }
}
