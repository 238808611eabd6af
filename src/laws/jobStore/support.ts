/** What the laws of the job store are written with: a queue of its own for each law, and a worker who plays by hand. */
import { assert } from "@effect/vitest"
import { Effect } from "effect"
import { type Claimed, type Item, JobStore, type NewJob, type Room, type Session, type State } from "../../JobStore.ts"
import { type Registering, unique } from "../suite.ts"

export type Laws = Registering<JobStore>

export { unique }

export const jobOf = (id: string, more: Partial<NewJob> = {}): NewJob => ({
  id,
  name: "work",
  priority: "medium",
  format: undefined,
  payload: `payload of ${id}`,
  headers: "",
  ...more
})

export const jobsOf = (ids: ReadonlyArray<string>, more: Partial<NewJob> = {}): ReadonlyArray<NewJob> =>
  ids.map((id) => jobOf(id, more))

export const range = (length: number, prefix = "job"): Array<string> =>
  Array.from({ length }, (_, i) => `${prefix}${String(i).padStart(4, "0")}`)

/** Long enough that a busy machine does not end it. */
export const lease = 60_000

export interface HandOptions {
  readonly rooms?: ReadonlyArray<Room> | undefined
  readonly count?: number | undefined
  readonly shares?: readonly [number, number, number] | undefined
  readonly alone?: boolean | undefined
}

type Settle = Parameters<JobStore["Service"]["exchange"]>[0]["settle"]

/** One worker at one queue, without a runtime: what it is given it holds until it settles it. */
export class Hand {
  number = 0
  readonly store: JobStore["Service"]
  session: Session
  constructor(store: JobStore["Service"], session: Session) {
    this.store = store
    this.session = session
  }
  request(settle: Settle, options: HandOptions, number: number) {
    const { alone = false, count = 100, rooms = [{ name: "work", count: 1_000 }], shares = [72, 21, 7] } = options
    return { session: this.session, number, lease, settle, rooms, count, shares, alone }
  }
  exchange(settle: Settle = [], options: HandOptions = {}) {
    return Effect.flatMap(this.store.exchange(this.request(settle, options, ++this.number)), (answer) =>
      answer._tag === "Exchanged" ? Effect.succeed(answer) : Effect.die(new Error("the session is not known"))
    )
  }
  claim(options: HandOptions = {}): Effect.Effect<ReadonlyArray<Claimed>, unknown> {
    return Effect.map(this.exchange([], options), ({ claimed }) => claimed)
  }
  /** Settle without claiming; gives what was refused. */
  settle(settle: Settle, options: HandOptions = {}): Effect.Effect<ReadonlyArray<string>, unknown> {
    return Effect.map(this.exchange(settle, { ...options, count: 0 }), ({ refused }) => refused)
  }
  done(jobs: ReadonlyArray<Claimed>, ttl = 60_000) {
    return this.settle(jobs.map((job) => ({ job, outcome: doneWith(`result of ${job.id}`, ttl) })))
  }
}

export const doneWith = (result: string, ttl = 60_000) => ({ _tag: "Done", format: undefined, result, ttl }) as const
export const retryIn = (delay: number, counted = true) =>
  ({ _tag: "Retry", delay, counted, entry: `{"exit":"Failed"}` }) as const
export const dead = { _tag: "Dead", reason: "Failed", entry: `{"exit":"Failed","error":"no"}` } as const

let workers = 0

/** A session, of a worker of its own unless one is named. */
export const open = (queue: string, millis = lease, worker = `worker-${++workers}`) =>
  Effect.gen(function* () {
    const store = yield* JobStore
    return new Hand(store, yield* store.open(queue, worker, millis))
  })

export const idsOf = (jobs: ReadonlyArray<{ readonly id: string }>): ReadonlyArray<string> => jobs.map(({ id }) => id)

/** All jobs of a state, page by page. */
export const listOf = (queue: string, state: State, name?: string) =>
  Effect.gen(function* () {
    const store = yield* JobStore
    const items: Array<Item> = []
    let cursor: string | undefined = ""
    for (let page = 0; cursor !== undefined && page < 1_000; page++) {
      const found: { readonly items: ReadonlyArray<Item>; readonly next: string | undefined } = yield* store.list(
        queue,
        state,
        { name, cursor }
      )
      items.push(...found.items)
      cursor = found.next
    }
    return items
  })

export const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes)

/** A law: a sentence about one queue of its own. */
export const lawOf =
  ({ it }: Laws) =>
  (
    sentence: string,
    body: (queue: string, store: JobStore["Service"]) => Effect.Effect<unknown, unknown, JobStore>
  ): void =>
    it.effect(sentence, () => Effect.flatMap(JobStore, (store) => body(unique("q"), store)))

export const assertCounts = (
  queue: string,
  some: Partial<Record<"ready" | "delayed" | "waiting" | "active" | "dead" | "done", number>>
) =>
  Effect.gen(function* () {
    const none = { ready: 0, delayed: 0, waiting: 0, active: 0, dead: 0, done: 0 }
    assert.deepStrictEqual(yield* (yield* JobStore).counts(queue), { ...none, ...some })
  })
