/**
 * What a simulation writes down of jobs that recur, on the server: which slots were enqueued, and which were passed over. The
 * slots are worked out once more from the timing, so that each has its end: enqueued once, or passed over by its policy.
 */
import { type Context, Effect } from "effect"
import { late, read, slotAfter } from "../../internal/jobs/recurrence.ts"
import type { Firing, JobStore, NewJob, Recurrence } from "../../JobStore.ts"

type Store = Context.Service.Shape<typeof JobStore>

interface Chain {
  readonly timing: string
  /** The first slot that has no end yet. */
  next: number
  /** Those that were enqueued. */
  readonly fired: Set<number>
}

export class SlotLedger {
  readonly violations: Array<string> = []
  private readonly chains = new Map<string, Chain>()
  /** The latest that the engine's clock ever showed: it may step back. */
  private latest = 0
  /** Slots that were enqueued, and those that were passed over. */
  fired = 0
  missed = 0

  private wrong(at: string, what: string): void {
    this.violations.push(`${at} ${what}`)
  }

  /** It was set, or goes on; it may have gone. */
  private changed(queue: string, name: string, isResumed: boolean, found: ReadonlyArray<Recurrence>): void {
    const at = `${queue}/${name}`
    const one = found.find((other) => other.name === name)
    if (one === undefined) return void this.chains.delete(at)
    const known = this.chains.get(at)
    const { slot, timing } = one
    if (known === undefined || known.timing !== timing || isResumed) {
      // A period begins anywhere.
      const how = read(timing)
      if (how._tag === "Cron" && slotAfter(how, slot - 1) !== slot)
        this.wrong(at, `begins at ${slot}, which is no slot`)
      this.chains.set(at, { timing, next: slot, fired: known?.fired ?? new Set() })
    } else if (known.next !== slot) this.wrong(at, `was set again, and went from slot ${known.next} to ${slot}`)
  }

  /** `stored`: the firing has stored its job. */
  private tried(at: string, { run }: Firing, before: Recurrence, after: Recurrence, stored: boolean): void {
    const chain = this.chains.get(at)
    if (chain === undefined) return this.wrong(at, "fires, and nobody has set it")
    if (before.slot !== chain.next) this.wrong(at, `went from slot ${chain.next} to ${before.slot} by nobody's hand`)
    if (stored && run !== undefined) {
      this.fired++
      if (chain.fired.has(run.slot)) this.wrong(at, `has enqueued slot ${run.slot} twice`)
      else if (run.slot < before.slot) this.wrong(at, `has enqueued slot ${run.slot}, which was passed over`)
      chain.fired.add(run.slot)
    }
    if (after.slot === before.slot) return
    chain.next = after.slot
    const timing = read(before.timing)
    const covered: Array<number> = []
    for (let slot = before.slot; slot < after.slot; slot = slotAfter(timing, slot)) covered.push(slot)
    const newest = covered.at(-1)
    if (newest === undefined || slotAfter(timing, newest) !== after.slot) {
      return this.wrong(at, `goes on from slot ${before.slot} at ${after.slot}, which is not one to come`)
    }
    this.missed += covered.filter((slot) => !chain.fired.has(slot)).length
    if (newest > this.latest) this.wrong(at, `is done with slot ${newest} before its time`)
    if (chain.fired.has(newest)) return
    // Those before the newest are missed, whatever the policy; the newest is only if it was late, and is to be skipped.
    if (before.missed === "last") this.wrong(at, `has lost slot ${newest}: the last one is never missed`)
    else if (this.latest - newest < late) this.wrong(at, `has lost slot ${newest}, which was not late`)
  }

  /** The job store of the server; `stored` is told of every job that a slot has brought. */
  around(store: Store, stored: (queue: string, job: NewJob) => void, isKnown: (queue: string, id: string) => boolean) {
    const all = (queue: string) =>
      Effect.map(store.recurrences(queue, "all"), ({ found, now }) => {
        this.latest = Math.max(this.latest, now)
        return found
      })
    const looked = (queue: string, name: string, isResumed: boolean) =>
      Effect.map(all(queue), (found) => this.changed(queue, name, isResumed, found))
    const fire: Store["fire"] = (queue, firings) =>
      Effect.gen({ self: this }, function* () {
        const before = yield* all(queue)
        const answer = yield* store.fire(queue, firings)
        const after = yield* all(queue)
        for (const firing of firings) {
          const { name, run } = firing
          const [was, is] = [before, after].map((found) => found.find((one) => one.name === name))
          if (was === undefined || is === undefined) continue
          const isNew =
            run !== undefined &&
            !isKnown(queue, run.job.id) &&
            (yield* store.get(queue, run.job.id, false)) !== undefined
          if (isNew) stored(queue, run.job)
          this.tried(`${queue}/${name}`, firing, was, is, isNew)
        }
        return answer
      })
    return {
      fire,
      recur: (queue, recurrence) =>
        Effect.tap(store.recur(queue, recurrence), () => looked(queue, recurrence.name, false)),
      alter: (queue, name, change) =>
        Effect.tap(store.alter(queue, name, change), () => looked(queue, name, typeof change === "object"))
    } satisfies Partial<Store>
  }

  /** What is wrong when nothing is left to do. */
  judge(find: (queue: string) => Effect.Effect<ReadonlyArray<Recurrence>>): Effect.Effect<ReadonlyArray<string>> {
    return Effect.map(
      Effect.forEach([...this.chains], ([at, { next }]) => {
        const [queue, name] = at.split("/") as [string, string]
        return Effect.map(find(queue), (found): string | undefined => {
          const slot = found.find((one) => one.name === name)?.slot
          return slot === next ? undefined : `${at} waits for ${slot ?? "nothing"}, and slot ${next} is the next one`
        })
      }),
      (found) => [...this.violations, ...found.filter((text) => text !== undefined)]
    )
  }
}
