/** What members say about themselves, on SQLite: a row for each, as `redis/reports.ts` has them. */
import type { Coordinator, Report } from "../Coordinator.ts"
import type { Sqlite } from "./client.ts"

export const reportsOf = (sqlite: Sqlite["Service"]): Pick<Coordinator["Service"], "report" | "reports"> => {
  const { namespace } = sqlite
  return {
    report: (member, text, millis) =>
      sqlite.transaction("report", (db, now) => {
        db.prepare("DELETE FROM coordinator_reports WHERE namespace = ? AND (until <= ? OR member = ?)").run(
          namespace,
          now,
          member
        )
        if (millis <= 0) return
        const insert = db.prepare(
          "INSERT INTO coordinator_reports (namespace, member, at, until, text) VALUES (?, ?, ?, ?, ?)"
        )
        insert.run(namespace, member, Math.floor(now), Math.ceil(now + millis), text)
      }),
    reports: () =>
      sqlite.query("reports", (db, now) =>
        db
          .prepare("SELECT member, at, text FROM coordinator_reports WHERE namespace = ? AND until > ? ORDER BY member")
          .all<Report>(namespace, now)
          .map(({ at, member, text }) => ({ member, text, at }))
      )
  }
}
