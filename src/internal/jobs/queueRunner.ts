/**
 * The jobs of one queue in one worker: one exchange at a time settles what was done and claims what there is room for.
 * Where jobs are quick, the next ones are claimed while these are run, so that neither side waits for the other.
 *
 * Gotcha: a job stays in hand until the exchange that settles it was answered; the heartbeat says what is in hand.
 */
import { Effect, Exit, Fiber, Latch, Random, Schedule, Semaphore, Stream } from "effect"
import type { EngineError } from "../../Errors.ts"
import type { Exchange, Exchanged, Outcome, Room, Session, Settlement } from "../../JobStore.ts"
import { backoff } from "../backoff.ts"
import { QueueMeter } from "../telemetry/queueMeter.ts"
import { answered } from "./answered.ts"
import { isBehind } from "./behind.ts"
import type { Options as CrewOptions, Post, Shared } from "./crew.ts"
import { Deadlines } from "./deadlines.ts"
import { type Doing, doing } from "./doing.ts"
import { Firing } from "./firing.ts"
import { InHand, refusalOf, tellDead } from "./inHand.ts"
import { count, outcomeOf } from "./settle.ts"
import { Shares } from "./shares.ts"
import { portion } from "./staging.ts"

interface Options extends CrewOptions {
  readonly queue: string
  readonly shared: Shared
}

/** Jobs of one exchange. */
const most = 200
/** A mean run shorter than this many milliseconds is worth claiming ahead for. */
const quick = 5
/** Without any signal it is looked so often, in parts of the lease. */
const patient = backoff("20 millis", "1 second")

export class QueueRunner {
  readonly options: Options
  private readonly posts: ReadonlyMap<string, Post>
  private readonly hands = new Map<string, InHand>()
  /** Settled before they ran: nobody else has them, and they run here. */
  private readonly unattended = new Set<InHand>()
  private waiting: Array<InHand> = []
  private settled: Array<{ readonly hand: InHand; readonly outcome: Outcome }> = []
  private readonly running = new Map<string, number>()
  private readonly shares = new Shares()
  private readonly meter: QueueMeter
  private readonly firing: Firing
  private readonly deadlines: Deadlines<InHand>
  private session: Session | undefined
  private number = 0
  /** The last exchange that was answered. */
  private answered = 0
  private draining = false
  /** Something may be there to be claimed. */
  private hopeful = true
  private next: number | undefined
  /** Milliseconds that a run takes, in the mean. */
  private mean = Number.POSITIVE_INFINITY
  /** Milliseconds without a word, after which it is looked all the same. */
  private unheard = 50
  private readonly bell = Latch.makeUnsafe(false)
  others: () => void = () => undefined
  constructor(options: Options) {
    this.options = options
    this.posts = new Map(options.posts.map((post) => [post.handler.name, post]))
    this.meter = new QueueMeter(options.queue, options.posts[0]!.context)
    this.firing = new Firing(options.queue, options.store, options.clock)
    const inHand = () => [...this.hands.values(), ...this.unattended]
    this.deadlines = new Deadlines(options.clock, inHand, (hand) => this.stop(hand, "Timeout"))
  }

  poke(): void {
    this.bell.openUnsafe()
  }

  quiet(): boolean {
    return this.hands.size === 0 && this.unattended.size === 0
  }

  private now(): number {
    return this.options.clock.currentTimeMillisUnsafe()
  }

  // ------------------------------------------------------------------------------------------------------------- claims

  /**
   * One that twice lost its lease is claimed by who has nothing in hand: now and then a busy worker takes no more for the
   * length of a lease, to come to that.
   */
  private makesWay(): boolean {
    const { lease, shared } = this.options
    if (!this.suspects || shared.empty) return false
    const now = this.now()
    if (now - this.madeWay > 10 * lease) this.madeWay = now
    return now - this.madeWay < lease
  }
  private madeWay = Number.NEGATIVE_INFINITY

  /** How many of each name may be claimed, and how many in all. */
  private room(): { readonly rooms: ReadonlyArray<Room>; readonly count: number; readonly alone: boolean } {
    const { limit, shared } = this.options
    // Quick ones may wait here for a moment; slow ones are better off with another worker.
    const ahead = this.mean < quick ? shared.total : 0
    const held = this.draining || shared.alone || !this.hopeful || this.makesWay()
    const open = held ? 0 : shared.free + ahead
    const count = Math.max(0, Math.min(most, open, limit?.remaining ?? most))
    const rooms: Array<Room> = []
    for (const [name, { handler }] of this.posts) {
      const { concurrency, spec } = handler
      const own = concurrency === undefined ? count : concurrency - (this.running.get(name) ?? 0)
      rooms.push({
        name,
        count: Math.max(0, Math.min(count, own)),
        group: spec.group && { concurrency: spec.group.concurrency, limit: spec.group.limit }
      })
    }
    // Each has its turn to be looked at first.
    rooms.push(...rooms.splice(0, this.number % rooms.length))
    const own = rooms.reduce((sum, room) => sum + room.count, 0)
    return { rooms, count: Math.min(count, own), alone: shared.empty && !shared.alone }
  }

  /** One after the other: the numbers rise. */
  private readonly turn = Semaphore.makeUnsafe(1)
  private readonly exchange: Effect.Effect<void, EngineError> = Effect.suspend(() =>
    this.turn.withPermit(this.exchangeNow)
  )

  private readonly exchangeNow: Effect.Effect<void, EngineError> = Effect.gen({ self: this }, function* () {
    const { limit, lease, queue, store, worker } = this.options
    this.session ??= yield* store.open(queue, worker, lease)
    const { alone, count, rooms } = this.room()
    const settling = this.settled.splice(0, portion(this.settled, most))
    if (count === 0 && settling.length === 0) return
    if (limit !== undefined) limit.remaining -= count
    if (count > 0) {
      this.hopeful = false
      this.next = undefined
    }
    const number = ++this.number
    const settle = settling.map(({ hand, outcome }): Settlement => ({ job: hand.job, outcome }))
    const request = {
      session: this.session,
      number,
      lease,
      settle,
      rooms,
      count,
      shares: this.shares.next(count),
      alone
    }
    const answer = yield* answered(store, request, this.options.durability)
    this.answered = number
    if (answer._tag === "Unknown") {
      if (limit !== undefined) limit.remaining += count
      return yield* this.forget
    }
    if (limit !== undefined) limit.remaining += count - answer.claimed.length
    // First what came: a worker is not at its end while it has something in hand.
    this.take(answer, request)
    for (const { hand, outcome } of settling) {
      this.finish(hand, answer.refused.includes(hand.job.id) ? undefined : outcome)
    }
    this.firing.told({ now: answer.now, next: answer.slot })
    if (answer.expired) yield* this.sweep
  })

  private take(answer: Extract<Exchanged, { readonly _tag: "Exchanged" }>, { count, rooms }: Exchange): void {
    const { claimed, next, now, suspects } = answer
    const { shared } = this.options
    this.shares.claimed(claimed.length)
    const found = Map.groupBy(claimed, ({ name }) => name)
    // Where all room was used there may be more.
    this.hopeful ||= rooms.some((room) => room.count > 0 && (found.get(room.name)?.length ?? 0) >= room.count)
    this.hopeful ||= claimed.length > 0 && claimed.length >= count
    // On our own clock: only the difference is the engine's.
    if (next !== undefined) this.next = this.now() + Math.max(0, next - now)
    for (const job of claimed) {
      const post = this.posts.get(job.name)
      if (post === undefined) continue
      const hand = new InHand(job, post)
      if (job.lost >= 2) shared.alone = true
      this.hands.set(job.id, hand)
      this.running.set(job.name, (this.running.get(job.name) ?? 0) + 1)
      shared.free--
      this.waiting.push(hand)
    }
    if (count > 0) this.suspects = suspects
  }
  private suspects = false

  /** It does not run any more: there is room for another. */
  private release(hand: InHand): void {
    if (hand.released) return
    hand.released = true
    const { name } = hand.job
    this.running.set(name, this.running.get(name)! - 1)
    this.options.shared.free++
    // Others may be waiting for the last bit of room.
    if (this.options.shared.free === 1) this.others()
  }

  /** Out of hand; undefined: the outcome did not count. */
  private finish(hand: InHand, outcome: Outcome | undefined): void {
    const { job, post } = hand
    const { limit, onProgress, shared } = this.options
    if (this.hands.get(job.id) !== hand) return
    this.hands.delete(job.id)
    if (hand.onSettled === undefined || outcome === undefined) this.release(hand)
    if (job.lost >= 2) shared.alone = false
    this.meter.settled(job.name, outcome)
    if (outcome !== undefined) hand.onSettled?.()
    if (outcome !== undefined) count(post.counts, outcome)
    if (outcome?._tag === "Dead") tellDead(hand, outcome)
    if (outcome?._tag === "Back" && limit !== undefined) limit.remaining++
    if (shared.empty) this.others()
    // It made room for what had to wait for it.
    this.hopeful = this.hopeful || this.suspects || outcome?._tag === "Retry" || job.group !== undefined
    onProgress()
    this.poke()
  }

  // --------------------------------------------------------------------------------------------------------------- runs

  /** Starts what was claimed; what ends at once is settled with the next exchange. */
  private startWaiting(): void {
    const { shared } = this.options
    if (this.starting) return
    this.starting = true
    let at = 0
    while (at < this.waiting.length && (this.draining || shared.running < shared.total)) {
      const hand = this.waiting[at++]!
      if (this.draining || hand.stop === "Lost") {
        this.settle(hand, hand.stop === "Lost" ? undefined : { _tag: "Back" })
        continue
      }
      if (hand.post.handler.acknowledge === "before" && !hand.acknowledged) {
        this.acknowledge(hand)
        continue
      }
      this.start(hand)
    }
    this.waiting = this.waiting.slice(at)
    this.starting = false
  }
  private starting = false

  /** Settled first; it runs when that was answered, and is nobody's concern any more. */
  private acknowledge(hand: InHand): void {
    hand.acknowledged = true
    hand.onSettled = () => {
      this.unattended.add(hand)
      this.start(hand)
    }
    this.settled.push({ hand, outcome: { _tag: "Done", format: undefined, result: "", ttl: 0 } })
    this.poke()
  }

  private runOf(hand: InHand) {
    const { queue, serializer, store } = this.options
    return { queue, serializer, store, session: this.session!, began: this.now(), onEnd: this.ended(hand) }
  }

  private start(hand: InHand): void {
    const { serializer, shared } = this.options
    const { spec } = hand.post.handler
    const now = this.now()
    const refusal = refusalOf(hand, now, serializer)
    if (refusal !== undefined) return this.settle(hand, refusal)
    hand.deadline = now + spec.timeout
    this.deadlines.add(hand.deadline)
    shared.running++
    hand.begin(this.runOf(hand))
  }

  private readonly ended =
    (hand: InHand) =>
    (exit: Exit.Exit<unknown, unknown>): void => {
      const { serializer, shared, worker } = this.options
      const now = this.now()
      shared.running--
      const took = now - hand.began
      this.meter.ran(hand.job.name, took)
      this.mean = this.mean === Number.POSITIVE_INFINITY ? took : this.mean + (took - this.mean) / 16
      const outcome = outcomeOf({
        spec: hand.post.handler.spec,
        serializer,
        job: hand.job,
        exit,
        stop: hand.stop,
        answer: hand.answer,
        staged: hand.staged?.jobs,
        worker,
        now,
        random: Exit.isSuccess(exit) ? 0 : Effect.runSyncWith(hand.post.context)(Random.next)
      })
      this.settle(hand, outcome)
      this.startWaiting()
    }

  private settle(hand: InHand, outcome: Outcome | undefined): void {
    this.release(hand)
    if (this.unattended.delete(hand)) {
      // It is settled; what became of it is only counted.
      if (outcome?._tag !== "Done") hand.post.counts.failed++
      this.options.onProgress()
      return this.poke()
    }
    if (outcome === undefined) this.finish(hand, undefined)
    else this.settled.push({ hand, outcome })
    this.poke()
  }

  // -------------------------------------------------------------------------------------------------------- life of it

  /** The session is gone, and with it all that is in hand: others have it. */
  private readonly forget: Effect.Effect<void> = Effect.sync(() => {
    this.session = undefined
    this.settled = []
    this.hopeful = true
    for (const hand of this.hands.values()) this.stop(hand, "Lost")
  })

  private stop(hand: InHand, why: InHand["stop"]): void {
    if (!hand.interrupt(why) && why === "Lost") this.finish(hand, undefined)
  }

  private readonly sweep = Effect.suspend(() => Effect.ignore(this.options.store.sweep(this.options.queue)))

  private readonly loop = Effect.gen({ self: this }, function* () {
    while (!this.draining) {
      this.bell.closeUnsafe()
      // What was claimed before is run while the next is asked for.
      const exchanged = yield* Effect.forkChild(this.exchange, { startImmediately: true })
      this.startWaiting()
      yield* Fiber.join(exchanged)
      if (this.waiting.length > 0 && this.options.shared.running < this.options.shared.total) continue
      const { count } = this.room()
      if (this.settled.length > 0 || (count > 0 && this.hopeful)) continue
      const wait = Math.min(this.next === undefined ? Infinity : this.next - this.now(), this.unheard)
      if (wait > 0) yield* Effect.timeoutOption(this.bell.await, wait)
      if (this.next !== undefined && this.now() >= this.next) {
        this.hopeful = true
        this.next = undefined
      }
      // Subscribing takes a moment, and what is told meanwhile is not heard: at first it is looked without a word.
      if (this.unheard < this.options.lease) {
        this.unheard *= 2
        this.hopeful = true
      }
    }
  })

  private readonly listen = Effect.suspend(() =>
    Stream.runForEach(this.options.store.signals(this.options.queue), (signal) =>
      Effect.sync(() => {
        if (signal._tag === "Work") {
          this.hopeful = true
          this.poke()
        } else if (signal._tag === "Slots") {
          this.firing.look()
        } else if (signal._tag === "Cancelled" && signal.id !== undefined) {
          const hand = this.hands.get(signal.id)
          if (hand !== undefined) this.stop(hand, "Cancelled")
        }
      })
    )
  ).pipe(Effect.retry(patient), Effect.ignore)

  private readonly beat = Effect.gen({ self: this }, function* () {
    const { lease, store } = this.options
    while (true) {
      yield* Effect.sleep(lease / 3)
      // A lost hint costs no more than this.
      this.hopeful = true
      this.poke()
      if (this.session === undefined) continue
      const held = Array.from(this.hands.values(), ({ job }) => job)
      const answer = yield* store.extend(this.session, lease, this.answered, held).pipe(
        Effect.tapError((error) => Effect.logWarning("the leases of jobs were not extended", error)),
        Effect.retry({ schedule: patient, times: 5 }),
        Effect.orElseSucceed(() => undefined)
      )
      if (answer === undefined) continue
      if (answer === "Unknown") {
        yield* this.forget
        continue
      }
      for (const id of answer.lost) {
        const hand = this.hands.get(id)
        if (hand !== undefined && !this.settled.some((one) => one.hand === hand)) this.stop(hand, "Lost")
      }
      for (const id of answer.cancelled) {
        const hand = this.hands.get(id)
        if (hand !== undefined) this.stop(hand, "Cancelled")
      }
      if (answer.expired) yield* this.sweep
    }
  })

  readonly run: Effect.Effect<void> = Effect.suspend(() =>
    Effect.all(
      [
        // First of all, so that nothing is missed.
        this.listen,
        this.beat,
        this.deadlines.watch,
        this.firing.run,
        this.loop.pipe(
          Effect.tapError((error) => Effect.logError("jobs cannot be claimed; trying again", error)),
          Effect.retry(patient),
          Effect.ignore
        )
      ],
      { concurrency: "unbounded", discard: true }
    )
  )

  /** Called when `run` was interrupted or is about to be: nothing is claimed from here on. */
  readonly drain: Effect.Effect<void> = Effect.gen({ self: this }, function* () {
    const { grace, lease, store } = this.options
    this.draining = true
    this.poke()
    this.startWaiting()
    const finished = Effect.gen({ self: this }, function* () {
      while (true) {
        this.bell.closeUnsafe()
        // Also when there is nothing to settle: one that is on its way may bring jobs.
        do yield* this.exchange
        while (this.settled.length > 0)
        this.startWaiting()
        if (this.settled.length > 0) continue
        if (this.quiet()) return
        yield* this.bell.await
      }
    })
    const settling = Effect.ignore(finished)
    yield* Effect.timeoutOption(settling, grace)
    if (!this.quiet()) {
      for (const hand of [...this.hands.values(), ...this.unattended]) this.stop(hand, "Shutdown")
      // One that cannot be interrupted does not hold this up: closing the session gives its job back.
      yield* Effect.timeoutOption(settling, Math.min(1_000, lease))
    }
    if (this.session !== undefined) {
      const closing = Effect.retry(store.close(this.session), {
        schedule: Schedule.max([patient, Schedule.during(lease)]),
        while: (error) => error.reason === "Unreachable"
      })
      yield* Effect.timeoutOption(Effect.ignore(closing), lease)
    }
    this.session = undefined
  })

  readonly behind: Effect.Effect<boolean> = Effect.suspend(() =>
    isBehind(this.options.store, this.options.queue, this.posts.keys())
  )

  doing(now: number): ReadonlyArray<Doing> {
    return doing(this.options.queue, this.hands.values(), now)
  }
}
