/**
 * What a simulation writes down of jobs: on the server, in the order in which it happens there, what was stored, claimed and
 * settled; in the workers, which ran. What must not be is found as it happens, or when all is over.
 */
import { type Context, Effect } from "effect"
import type { Exchange, Exchanged, Item, JobStore, NewJob } from "../../JobStore.ts"
import { SlotLedger } from "./slotLedger.ts"

type Store = Context.Service.Shape<typeof JobStore>

interface Known {
  readonly queue: string
  readonly id: string
  readonly group: string | undefined
  /** Its place among all that were stored. */
  readonly place: number
  end: "Done" | "Dead" | "Cancelled" | undefined
  /** With that it was forgotten at once. */
  forgotten: boolean
  runs: number
}

export class JobLedger {
  readonly violations: Array<string> = []
  readonly slots = new SlotLedger()
  private readonly jobs = new Map<string, Known>()
  /** Exchanges that were answered: the same one again changes nothing. */
  private readonly answered = new Set<string>()
  /** The last of each group that ended, in the order of their ends. */
  private readonly ended = new Map<string, Known>()
  claims = 0

  get all(): ReadonlyArray<Known> {
    return [...this.jobs.values()]
  }

  private stored(queue: string, { group, id, name }: NewJob): void {
    const key = `${queue}/${id}`
    if (this.jobs.get(key)?.forgotten === false) return void this.violations.push(`${key} was stored twice`)
    const lane = group === undefined ? undefined : `${queue}/${name}/${group}`
    this.jobs.set(key, { queue, id, group: lane, place: this.jobs.size, end: undefined, forgotten: false, runs: 0 })
  }

  private exchanged(request: Exchange, answer: Exchanged): void {
    const { number, session, settle } = request
    const key = `${session.queue}/${session.slot}/${number}`
    if (answer._tag !== "Exchanged" || this.answered.has(key)) return
    this.answered.add(key)
    for (const { job, outcome } of settle) {
      if (answer.refused.includes(job.id)) continue
      const known = this.jobs.get(`${session.queue}/${job.id}`)
      if (known === undefined) continue
      if (known.end !== undefined) this.violations.push(`${known.id} was settled again, after it was ${known.end}`)
      if (outcome._tag === "Done" || outcome._tag === "Dead" || outcome._tag === "Cancelled")
        this.over(known, outcome._tag)
      known.forgotten = "ttl" in outcome && outcome.ttl === 0
      if (outcome._tag === "Done") for (const { job, queue } of outcome.jobs ?? []) this.stored(queue, job)
    }
    for (const { id } of answer.claimed) {
      this.claims++
      const known = this.jobs.get(`${session.queue}/${id}`)
      if (known === undefined) this.violations.push(`${id} was claimed, and nobody had stored it`)
      else if (known.end !== undefined) this.violations.push(`${id} was claimed after it was ${known.end}`)
    }
  }

  private over(known: Known, end: Known["end"]): void {
    known.end = end
    if (known.group === undefined) return
    const last = this.ended.get(known.group)
    if (last !== undefined && last.place > known.place) {
      this.violations.push(`${known.id} ended after ${last.id}, which stands behind it in group ${known.group}`)
    }
    this.ended.set(known.group, known)
  }

  /** A handler has begun. */
  ran(queue: string, id: string): void {
    const known = this.jobs.get(`${queue}/${id}`)
    if (known === undefined) this.violations.push(`${id} ran, and nobody had stored it`)
    else known.runs++
  }

  /** The job store of the server. */
  around(store: Store): Store {
    const slots = this.slots.around(
      store,
      (queue, job) => this.stored(queue, job),
      (queue, id) => this.jobs.get(`${queue}/${id}`)?.forgotten === false
    )
    return {
      ...store,
      ...slots,
      enqueue: (queue, jobs, durability) =>
        Effect.tap(store.enqueue(queue, jobs, durability), (answers) =>
          Effect.sync(() =>
            answers.forEach(({ repeated }, i) => {
              if (!repeated) this.stored(queue, jobs[i]!)
            })
          )
        ),
      exchange: (request, durability) =>
        Effect.tap(store.exchange(request, durability), (answer) => Effect.sync(() => this.exchanged(request, answer)))
    }
  }

  /** What is wrong when nothing is left to do; `find` tells what the engine has of a job. */
  judge(find: (queue: string, id: string) => Effect.Effect<Item | undefined>): Effect.Effect<ReadonlyArray<string>> {
    return Effect.map(
      Effect.forEach(this.all, (known) =>
        Effect.map(find(known.queue, known.id), (item): string | undefined => {
          const { end, id, runs } = known
          // Three lost leases are the end of a job, and nobody settles it.
          const state = item?.state === "dead" && item.reason === "Lost" ? "Lost" : item?.state
          if (state === "Lost") return end === undefined ? undefined : `${id} was ${end}, and is lost`
          if (end === undefined) return `${id} is ${state ?? "gone"}, and nobody has settled it`
          if (!known.forgotten && state !== end.toLowerCase()) return `${id} was ${end}, and is ${state ?? "gone"}`
          return end === "Done" && runs === 0 ? `${id} is done, and never ran` : undefined
        })
      ),
      (found) => [...this.violations, ...found.filter((text) => text !== undefined)]
    )
  }
}
