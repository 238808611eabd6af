/**
 * Lets requests through to their handlers, one at a time or all, and knows which came first and which are over. Workers come
 * and go between two steps; what they are kept from handling stays in the log.
 */
import { type Cause, type Context, Deferred, Effect, Option } from "effect"
import type { Broker, Commit } from "../../Broker.ts"
import type { Coordinator } from "../../Coordinator.ts"
import type { Event } from "../../Event.ts"
import { compare, parseOffset } from "../../internal/entryId.ts"
import type { Settled } from "../TestProcessor.ts"

type BrokerPort = Context.Service.Shape<typeof Broker>
type CoordinatorPort = Context.Service.Shape<typeof Coordinator>

/** A request that was let through. */
export interface Passed {
  readonly agent: string
  readonly event: Event<unknown>
  /** It was parked, and is tried again. */
  readonly back: boolean
  reply: Option.Option<unknown>
  /** Of the last try. */
  cause: Option.Option<Cause.Cause<unknown>>
  policy: Settled["policy"] | undefined
  /** Its handler has ended. */
  ended: boolean
  /** That is committed. */
  over: boolean
}

/** The next request of a partition. */
export interface Head {
  readonly agent: string
  readonly topic: string
  readonly partition: number
  /** Requests of the partition that are done, and the last of them. */
  readonly done: number
  readonly committed: string
  /** It was parked, and its time has come. */
  readonly back: boolean
}

const isUpTo = (offset: string, limit: string): boolean => {
  const [a, b] = [parseOffset(offset)!, parseOffset(limit)!]
  const order = compare(a.id, b.id)
  return order < 0 || (order === 0 && a.index <= b.index)
}

/** The last event of an entry, whatever that holds. */
const endOf = (id: string): string => `${id}.999999`

const place = (name: string, partition: number): string => `${partition}/${name}`

export class Turnstile {
  private arrivals = 0
  /** Of each event of a partition, the how manyth it was of all. */
  private readonly arrived = new Map<string, Array<number>>()
  private stored: Array<{ readonly topic: string; readonly tell: () => void }> = []
  /** Events that handlers wait for: all up to these, by place of the topic. */
  private readonly needed = new Map<string, string>()
  private open: "all" | Head | undefined
  /** The one whose turn it is has begun. */
  private begun = false
  private waiting: Array<() => void> = []
  private committed = new Map<string, string>()
  private turn = Deferred.makeUnsafe<void>()
  private readonly commits: Array<() => void> = []
  passed: Array<Passed> = []

  /** The one of these that came first. */
  first(heads: ReadonlyArray<Head>): Head | undefined {
    const age = ({ back, done, partition, topic }: Head): number =>
      back ? 0 : (this.arrived.get(place(topic, partition))?.[done] ?? 0)
    return heads.toSorted((a, b) => age(a) - age(b))[0]
  }

  /** Events that this partition of a topic ever got. */
  count(topic: string, partition: number): number {
    return this.arrived.get(place(topic, partition))?.length ?? 0
  }

  /** The end of this turn; it never comes if all may pass. */
  get over(): Effect.Effect<void> {
    return Deferred.await(this.turn)
  }

  begin(open: "all" | Head, heads: ReadonlyArray<Head>): void {
    this.open = open
    this.begun = false
    this.passed = []
    this.needed.clear()
    this.turn = Deferred.makeUnsafe()
    this.committed = new Map(heads.map((head) => [place(head.agent, head.partition), head.committed]))
  }

  /** Nothing more passes; gives what did, and is over. */
  end(): ReadonlyArray<Passed> {
    this.open = undefined
    this.waiting = []
    return this.passed
  }

  /** Completes when this request may be handled. */
  readonly pass = (agent: string, event: Event<unknown>): Effect.Effect<void> =>
    Effect.callback((resume) => {
      const look = (): void => {
        if (this.isFree(agent, event)) {
          this.passed.push({
            agent,
            event,
            back: this.isCommitted(agent, event),
            reply: Option.none(),
            cause: Option.none(),
            policy: undefined,
            ended: false,
            over: false
          })
          resume(Effect.void)
        } else this.waiting.push(look)
      }
      look()
    })

  private isFree(agent: string, event: Event<unknown>): boolean {
    const { open } = this
    if (open === undefined) return false
    // What was parked waits for its time, and for nothing else.
    const back = this.isCommitted(agent, event)
    const isTurn = typeof open === "object" && open.agent === agent && open.partition === event.partition
    if (isTurn && back && open.back) this.begun = true
    if (open === "all" || back) return true
    const needed = this.needed.get(place(event.topic, event.partition))
    if (needed !== undefined && isUpTo(event.offset, needed)) return true
    if (this.begun || !isTurn || open.back) return false
    this.begun = true
    return true
  }

  private isCommitted(agent: string, { offset, partition }: Event<unknown>): boolean {
    const committed = this.committed.get(place(agent, partition))
    return committed !== undefined && isUpTo(offset, committed)
  }

  private arrive(topic: string, partition: number, events: number): void {
    const at = place(topic, partition)
    const arrived = this.arrived.get(at) ?? []
    this.arrived.set(at, arrived)
    for (let i = 0; i < events; i++) arrived.push(this.arrivals++)
  }

  /** The last try of a request that is in hand. */
  of(agent: string, { offset, partition }: Event<unknown>): Passed | undefined {
    return this.passed.findLast(
      ({ agent: name, event }) => name === agent && event.partition === partition && event.offset === offset
    )
  }

  /** Completes when somebody outside of the handlers has stored a request in this topic. */
  nextStored(topic: string): Effect.Effect<void> {
    return Effect.callback((resume) => {
      this.stored.push({ topic, tell: () => resume(Effect.void) })
    })
  }

  readonly nextCommit: Effect.Effect<void> = Effect.callback((resume) => {
    this.commits.push(() => resume(Effect.void))
  })

  /** The engine's logs, as those see it who send requests; with `inside` these are the handlers, who wait for them. */
  broker(broker: BrokerPort, inside: boolean): BrokerPort {
    const append: BrokerPort["append"] = (appends, durability) =>
      Effect.tap(broker.append(appends, durability), (results) =>
        Effect.sync(() => {
          appends.forEach(({ entries, partition, topic: { name } }, i) => {
            const result = results[i]!
            const ids = "ids" in result ? result.ids : []
            const events = entries.slice(0, ids.length).reduce((sum, { count }) => sum + count, 0)
            this.arrive(name, partition, events)
            if (inside && ids.length > 0) this.needed.set(place(name, partition), endOf(ids[ids.length - 1]!))
            if (!inside) this.tell(name)
          })
          if (inside) this.lookAgain()
        })
      )
    if (!inside) return { ...broker, append }
    const commit: BrokerPort["commit"] = (commits, durability) =>
      Effect.tap(broker.commit(commits, durability), (results) =>
        Effect.sync(() => {
          commits.forEach((one, i) => {
            if (results[i]!._tag === "Done") this.commit(one)
          })
        })
      )
    return { ...broker, append, commit }
  }

  coordinator(coordinator: CoordinatorPort): CoordinatorPort {
    const quarantine: CoordinatorPort["quarantine"] = (grant, member, entry) =>
      Effect.tap(coordinator.quarantine(grant, member, entry), () =>
        Effect.sync(() => {
          for (const one of this.passed) {
            if (one.agent === grant.processor && one.event.partition === grant.partition) {
              one.over ||= one.policy === "quarantine"
            }
          }
          this.skip(grant.processor, grant.partition)
          this.look()
        })
      )
    return { ...coordinator, quarantine }
  }

  private commit({ emits, offsets, parking, partition, processor }: Commit): void {
    for (const { entries, partition, topic } of emits) {
      this.arrive(
        topic.name,
        partition,
        entries.reduce((sum, { count }) => sum + count, 0)
      )
    }
    const own = this.passed.filter((one) => one.agent === processor && one.event.partition === partition)
    for (const one of own) {
      if (one.back) one.over ||= one.ended && parking !== undefined
      else
        one.over ||= offsets.some(({ offset, topic }) => topic === one.event.topic && isUpTo(one.event.offset, offset))
    }
    if (offsets.length > 0 && typeof this.open === "object" && !this.open.back) this.skip(processor, partition)
    this.look()
    for (const tell of this.commits.splice(0)) tell()
  }

  /** What cannot be decoded, or waits aside behind others of its key, has had its turn without a handler. */
  private skip(agent: string, partition: number): void {
    const { open } = this
    if (typeof open === "object" && open.agent === agent && open.partition === partition) this.begun = true
  }

  private tell(topic: string): void {
    const told = this.stored.filter((one) => one.topic === topic)
    this.stored = this.stored.filter((one) => one.topic !== topic)
    for (const { tell } of told) tell()
  }

  private lookAgain(): void {
    const waiting = this.waiting
    this.waiting = []
    for (const look of waiting) look()
  }

  /** All that began are over: so is the turn. */
  private look(): void {
    if (this.open === "all" || !this.begun) return
    if (this.passed.every(({ over }) => over)) Deferred.doneUnsafe(this.turn, Effect.void)
  }
}
