/** What programs say of the jobs of a queue, for those who show them (see `internal/jobFacts.ts`). */
import { decode, encode } from "../internal/jobFacts.ts"
import type { JobFacts } from "../JobStore.ts"
import type { Statements } from "./client.ts"

export const declare = (db: Statements, queue: string, jobs: ReadonlyArray<JobFacts>): void => {
  const set = db.prepare(
    `INSERT INTO job_facts (queue, name, facts) VALUES (?1, ?2, ?3)
     ON CONFLICT DO UPDATE SET facts = ?3 WHERE facts IS NOT ?3`
  )
  const remove = db.prepare("DELETE FROM job_facts WHERE queue = ? AND name = ?")
  for (const job of jobs) {
    const facts = encode(job)
    if (facts === undefined) remove.run(queue, job.name)
    else set.run(queue, job.name, facts)
  }
}

export const facts = (db: Statements, queue: string): ReadonlyArray<JobFacts> =>
  db
    .prepareArrays("SELECT name, facts FROM job_facts WHERE queue = ? ORDER BY name")
    .all<[string, string]>(queue)
    .map(([name, facts]) => decode(name, facts))
