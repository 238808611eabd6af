/**
 * One session of a worker at a queue: its exchanges, one after the other, each settling what was done of its claims and
 * claiming what there is room for. A worker has two of these, so that one's exchange is on its way while the other's jobs run.
 *
 * Gotcha: a job stays in hand until the exchange that settles it was answered; the heartbeat says what is in hand.
 */
import { Effect, Latch, Schedule, Semaphore } from "effect"
import type { Durability } from "../../Broker.ts"
import type { EngineError } from "../../Errors.ts"
import type { Exchange, Exchanged, JobStore, Room, Session, Settlement } from "../../JobStore.ts"
import { soon } from "../backoff.ts"
import { answered } from "./answered.ts"
import type { InHand } from "./inHand.ts"
import { portion } from "./staging.ts"

/** Jobs settled, or claimed, by one exchange. */
export const most = 200

export interface Settled extends Settlement {
  readonly hand: InHand
}

/** What is asked for: so many of each name, and so many in all. */
export interface Wanted extends Pick<Exchange, "rooms" | "count" | "shares" | "alone"> {
  readonly rooms: ReadonlyArray<Room>
}

export type Answer = Extract<Exchanged, { readonly _tag: "Exchanged" }>

export interface Options {
  readonly store: JobStore["Service"]
  readonly queue: string
  readonly worker: string
  /** Milliseconds. */
  readonly lease: number
  readonly durability: Durability
  /** What there is room for now. */
  readonly wanted: (exchanger: Exchanger) => Wanted
  /** This is asked for, until it is answered: `undefined` when it was not. */
  readonly asking: (wanted: Wanted) => (answer: Answer | undefined) => void
  readonly onAnswer: (exchanger: Exchanger, wanted: Wanted, answer: Answer, settled: ReadonlyArray<Settled>) => void
  /** The session is not known any more: others have what is in hand of it. */
  readonly onLost: (exchanger: Exchanger) => void
}

export class Exchanger {
  private readonly options: Options
  session: Session | undefined
  /** The last exchange that was answered. */
  private answered = 0
  private number = 0
  private settled: Array<Settled> = []
  readonly bell = Latch.makeUnsafe(false)
  /** One after the other: the numbers rise. */
  private readonly turn = Semaphore.makeUnsafe(1)
  constructor(options: Options) {
    this.options = options
  }

  poke(): void {
    this.bell.openUnsafe()
  }

  settle(settled: Settled): void {
    this.settled.push(settled)
    this.bell.openUnsafe()
  }

  /** Outcomes wait for an exchange. */
  get settles(): boolean {
    return this.settled.length > 0
  }

  isSettled(hand: InHand): boolean {
    return this.settled.some((one) => one.hand === hand)
  }

  lose(): void {
    this.session = undefined
    this.settled = []
    this.options.onLost(this)
  }

  /** False: there is nothing to settle, and nothing to claim now. */
  readonly exchange: Effect.Effect<boolean, EngineError> = Effect.suspend(() => this.turn.withPermit(this.exchangeNow))

  private readonly exchangeNow: Effect.Effect<boolean, EngineError> = Effect.gen({ self: this }, function* () {
    const { asking, durability, lease, onAnswer, queue, store, wanted, worker } = this.options
    let want = wanted(this)
    if (want.count === 0 && !this.settles) return false
    if (this.session === undefined) {
      this.session = yield* store.open(queue, worker, lease)
      want = wanted(this)
    }
    const { session } = this
    const settling = this.settled.splice(0, portion(this.settled, most))
    if (want.count === 0 && settling.length === 0) return false
    const told = asking(want)
    const number = ++this.number
    const request = { session, number, lease, settle: settling, ...want }
    const answer = yield* Effect.onError(answered(store, request, durability), () =>
      Effect.sync(() => {
        told(undefined)
        // Settled again if it was not; else the engine refuses, and no harm is done.
        if (this.session === session) this.settled.unshift(...settling)
      })
    )
    this.answered = number
    if (answer._tag === "Unknown" || this.session !== session) {
      told(undefined)
      // Lost already, where a heartbeat was told so meanwhile: what came is somebody else's.
      if (this.session === session) this.lose()
      return true
    }
    told(answer)
    onAnswer(this, want, answer, settling)
    if (answer.expired) yield* this.sweep
    return true
  })

  /** Jobs of sessions that have ended go back. */
  readonly sweep = Effect.suspend(() => Effect.ignore(this.options.store.sweep(this.options.queue)))

  /**
   * Renews the lease, and tells the engine what is in hand. All of one moment, also when it is asked again: the engine takes
   * back what was claimed up to the number and is not in hand.
   */
  extend(session: Session, hands: ReadonlyArray<InHand>) {
    const { lease, store } = this.options
    const held = hands.map(({ job }) => job)
    return store.extend(session, lease, this.answered, held).pipe(
      Effect.tapError((error) => Effect.logWarning("the leases of jobs were not extended", error)),
      Effect.retry({ schedule: soon, times: 5 }),
      Effect.orElseSucceed(() => undefined)
    )
  }

  /** What is in hand yet goes back at once. */
  readonly close: Effect.Effect<void> = Effect.suspend(() => {
    const { lease, store } = this.options
    const { session } = this
    this.session = undefined
    if (session === undefined) return Effect.void
    const closing = Effect.retry(store.close(session), {
      schedule: Schedule.max([soon, Schedule.during(lease)]),
      while: (error) => error.reason === "Unreachable"
    })
    return Effect.asVoid(Effect.timeoutOption(Effect.ignore(closing), lease))
  })
}
