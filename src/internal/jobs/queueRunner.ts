/**
 * The jobs of one queue in one worker: what it claims, how it runs them, and what becomes of them. Of its two exchangers
 * the second one claims only where there is plenty, while the first one's exchange is on its way.
 */
import { Effect, Exit, Latch, Random, Stream } from "effect"
import type { Outcome, Room } from "../../JobStore.ts"
import { soon } from "../backoff.ts"
import { QueueMeter } from "../telemetry/queueMeter.ts"
import { isBehind } from "./behind.ts"
import type { Options as CrewOptions, Post, Shared } from "./crew.ts"
import { Deadlines } from "./deadlines.ts"
import { type Doing, doing } from "./doing.ts"
import { type Answer, Exchanger, most, type Settled, type Wanted } from "./exchanger.ts"
import { Firing } from "./firing.ts"
import { InHand, refusalOf, tellDead } from "./inHand.ts"
import { count, outcomeOf } from "./settle.ts"
import { Shares } from "./shares.ts"

interface Options extends CrewOptions {
  readonly queue: string
  readonly shared: Shared
}

/** A mean run shorter than this many milliseconds is worth claiming ahead for. */
const quick = 5

export class QueueRunner {
  readonly options: Options
  private readonly posts: ReadonlyMap<string, Post>
  private readonly hands = new Map<string, InHand>()
  /** Settled before they ran: nobody else has them, and they run here. */
  private readonly unattended = new Set<InHand>()
  private waiting: Array<InHand> = []
  private readonly exchangers: readonly [Exchanger, Exchanger]
  private readonly running = new Map<string, number>()
  private readonly shares = new Shares()
  private readonly meter: QueueMeter
  private readonly firing: Firing
  private readonly deadlines: Deadlines<InHand>
  private draining = false
  /** The last claim found all that it asked for. */
  private plenty = false
  /** Exchanges that claim, on their way: how many jobs they ask for, of each name, and whether one asks for a suspect. */
  private asked = 0
  private readonly askedOf = new Map<string, number>()
  private asksAlone = false
  private rotation = 0
  /** Something may be there to be claimed. */
  private hopeful = true
  /** The last hint that came, and the last one that a claim came after. */
  private heard = 0
  private followed = 0
  private next: number | undefined
  /** Milliseconds that a run takes, in the mean. */
  private mean = Number.POSITIVE_INFINITY
  /** Milliseconds without a word, after which it is looked all the same. */
  private unheard = 50
  /** What a drain waits for. */
  private readonly progress = Latch.makeUnsafe(false)
  others: () => void = () => undefined
  constructor(options: Options) {
    this.options = options
    this.posts = new Map(options.posts.map((post) => [post.handler.name, post]))
    this.meter = new QueueMeter(options.queue, options.posts[0]!.context)
    this.firing = new Firing(options.queue, options.store, options.clock)
    const inHand = () => [...this.hands.values(), ...this.unattended]
    this.deadlines = new Deadlines(options.clock, inHand, (hand) => this.stop(hand, "Timeout"))
    const exchanger = () =>
      new Exchanger({
        ...options,
        wanted: (exchanger) => this.wanted(exchanger),
        asking: (wanted) => this.asking(wanted),
        onAnswer: (...answered) => this.onAnswer(...answered),
        onLost: (exchanger) => this.forget(exchanger)
      })
    this.exchangers = [exchanger(), exchanger()]
  }

  readonly poke = (): void => {
    for (const exchanger of this.exchangers) exchanger.poke()
    this.progress.openUnsafe()
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
  private wanted(exchanger: Exchanger): Wanted {
    const { limit, shared } = this.options
    // Quick ones may wait here for a moment; slow ones are better off with another worker.
    const ahead = this.mean < quick ? shared.total * (this.plenty ? 3 : 1) : 0
    const all = shared.free + ahead
    const isSpare = exchanger !== this.exchangers[0] && !(this.plenty && this.asked > 0)
    const isHopeful = this.hopeful || this.heard > this.followed
    const held = this.draining || shared.alone || !isHopeful || this.asksAlone || isSpare || this.makesWay()
    // Half of it for each exchanger, where both claim.
    const open = held ? 0 : Math.min(all - this.asked, this.plenty ? Math.ceil(all / 2) : all)
    const wish = Math.max(0, Math.min(most, open))
    const room = Math.min(wish, limit?.remaining ?? most)
    if (room < wish) limit?.wait(this.poke)
    const rooms: Array<Room> = []
    for (const [name, { handler }] of this.posts) {
      const { concurrency, spec } = handler
      const taken = (this.running.get(name) ?? 0) + (this.askedOf.get(name) ?? 0)
      const own = concurrency === undefined ? room : concurrency - taken
      rooms.push({
        name,
        count: Math.max(0, Math.min(room, own)),
        group: spec.group && { concurrency: spec.group.concurrency, limit: spec.group.limit }
      })
    }
    // Each has its turn to be looked at first.
    rooms.push(...rooms.splice(0, this.rotation % rooms.length))
    const own = rooms.reduce((sum, { count }) => sum + count, 0)
    const count = Math.min(room, own)
    // Where there is plenty nobody waits for the other's answer, so long as no suspect is known.
    const alone = shared.empty && !shared.alone && this.asked === 0 && (this.suspects || !this.plenty)
    return { rooms, count, shares: this.shares.next(count), alone }
  }

  /** It is on its way: what it may bring is not asked for twice. */
  private asking({ alone, count, rooms }: Wanted): (answer: Answer | undefined) => void {
    const { limit } = this.options
    if (count === 0) return () => undefined
    const ask = (sign: 1 | -1): void => {
      this.asked += sign * count
      for (const room of rooms) this.askedOf.set(room.name, (this.askedOf.get(room.name) ?? 0) + sign * room.count)
      if (alone) this.asksAlone = sign === 1
    }
    this.rotation++
    this.next = undefined
    this.hopeful = this.plenty
    ask(1)
    limit?.reserve(count)
    if (this.plenty) this.poke()
    return (answer) => {
      ask(-1)
      limit?.arrived(count, answer?.claimed.length ?? 0)
    }
  }

  private onAnswer(exchanger: Exchanger, wanted: Wanted, answer: Answer, settled: ReadonlyArray<Settled>): void {
    if (wanted.count > 0) this.followed = answer.hint ?? this.heard
    // First what came: a worker is not at its end while it has something in hand.
    this.take(exchanger, answer, wanted)
    for (const { hand, outcome } of settled) {
      this.finish(hand, answer.refused.includes(hand.job.id) ? undefined : outcome)
    }
    this.firing.told({ now: answer.now, next: answer.slot })
  }

  private take(exchanger: Exchanger, answer: Answer, { count, rooms }: Wanted): void {
    const { claimed, next, now, suspects } = answer
    const { shared } = this.options
    this.shares.claimed(claimed.length)
    const found = Map.groupBy(claimed, ({ name }) => name)
    // Where all room was used there may be more.
    this.plenty = count > 0 && claimed.length >= count
    this.hopeful ||= this.plenty
    this.hopeful ||= rooms.some((room) => room.count > 0 && (found.get(room.name)?.length ?? 0) >= room.count)
    // On our own clock: only the difference is the engine's.
    if (next !== undefined) this.next = this.now() + Math.max(0, next - now)
    const { serializer, store } = this.options
    const setting = { serializer, store, session: exchanger.session!, onEnd: this.ended }
    for (const job of claimed) {
      const post = this.posts.get(job.name)
      if (post === undefined) continue
      const hand = new InHand(job, post, exchanger, setting)
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
    const running = this.running.get(name)!
    this.running.set(name, running - 1)
    // It was not asked for while there was no room for it.
    this.hopeful ||= running === hand.post.handler.concurrency
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
    if (outcome?._tag === "Back") limit?.giveBack(1)
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
    this.settled(hand, { _tag: "Done", format: undefined, result: "", ttl: 0 })
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
    hand.begin(now)
  }

  private readonly ended = (hand: InHand, exit: Exit.Exit<unknown, unknown>): void => {
    const { serializer, shared, worker } = this.options
    const now = this.now()
    shared.running--
    const took = now - hand.began
    this.meter.ran(hand.job.name, took)
    this.mean = this.mean === Number.POSITIVE_INFINITY ? took : this.mean + (took - this.mean) / 16
    const random = Exit.isSuccess(exit) ? 0 : Effect.runSyncWith(hand.post.context)(Random.next)
    const outcome = outcomeOf(hand, exit, { serializer, worker, now, random })
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
    else this.settled(hand, outcome)
  }

  /** What became of it goes with the next exchange of the exchanger that it came on. */
  private settled(hand: InHand, outcome: Outcome): void {
    hand.exchanger.settle({ hand, job: hand.job, outcome })
    this.progress.openUnsafe()
  }

  // -------------------------------------------------------------------------------------------------------- life of it

  /** The session is gone, and with it all that is in hand of it: others have it. */
  private forget(exchanger: Exchanger): void {
    this.hopeful = true
    for (const hand of this.hands.values()) if (hand.exchanger === exchanger) this.stop(hand, "Lost")
  }

  private stop(hand: InHand, why: InHand["stop"]): void {
    if (!hand.interrupt(why) && why === "Lost") this.finish(hand, undefined)
  }

  private readonly follow = (exchanger: Exchanger) =>
    Effect.gen({ self: this }, function* () {
      while (!this.draining) {
        exchanger.bell.closeUnsafe()
        this.startWaiting()
        if (yield* exchanger.exchange) continue
        yield* exchanger === this.exchangers[0] ? this.lull(exchanger) : exchanger.bell.await
      }
    })

  /** Nothing to do, until there is a word of it, or it is time to look all the same. */
  private lull(exchanger: Exchanger): Effect.Effect<void> {
    const wait = Math.min(this.next === undefined ? Infinity : this.next - this.now(), this.unheard)
    const waited = wait > 0 ? Effect.timeoutOption(exchanger.bell.await, wait) : Effect.void
    return Effect.map(waited, () => {
      if (this.next !== undefined && this.now() >= this.next) {
        this.hopeful = true
        this.next = undefined
      }
      // Subscribing takes a moment, and what is told meanwhile is not heard: at first it is looked without a word.
      if (this.unheard < this.options.lease) {
        this.unheard *= 2
        this.hopeful = true
      }
    })
  }

  private readonly listen = Effect.suspend(() =>
    Stream.runForEach(this.options.store.signals(this.options.queue), (signal) =>
      Effect.sync(() => {
        if (signal._tag === "Work") {
          if (signal.hint === undefined) this.hopeful = true
          else this.heard = signal.hint
          this.poke()
        } else if (signal._tag === "Slots") {
          this.firing.look()
        } else if (signal._tag === "Cancelled" && signal.id !== undefined) {
          const hand = this.hands.get(signal.id)
          if (hand !== undefined) this.stop(hand, "Cancelled")
        }
      })
    )
  ).pipe(Effect.retry(soon), Effect.ignore)

  private readonly beat = Effect.gen({ self: this }, function* () {
    while (true) {
      yield* Effect.sleep(this.options.lease / 3)
      // A lost hint costs no more than this.
      this.hopeful = true
      this.poke()
      yield* Effect.forEach(this.exchangers, this.extend, { concurrency: "unbounded", discard: true })
    }
  })

  private readonly extend = (exchanger: Exchanger) =>
    Effect.gen({ self: this }, function* () {
      const { session } = exchanger
      if (session === undefined) return
      const hands = Array.from(this.hands.values()).filter((hand) => hand.exchanger === exchanger)
      const answer = yield* exchanger.extend(session, hands)
      // It may have been lost meanwhile, and another one opened.
      if (answer === undefined || exchanger.session !== session) return
      if (answer === "Unknown") return exchanger.lose()
      for (const id of answer.lost) {
        const hand = this.hands.get(id)
        if (hand?.exchanger === exchanger && !exchanger.isSettled(hand)) this.stop(hand, "Lost")
      }
      for (const id of answer.cancelled) {
        const hand = this.hands.get(id)
        if (hand !== undefined) this.stop(hand, "Cancelled")
      }
      if (answer.expired) yield* exchanger.sweep
    })

  readonly run: Effect.Effect<void> = Effect.suspend(() =>
    Effect.all(
      [
        // First of all, so that nothing is missed.
        this.listen,
        this.beat,
        this.deadlines.watch,
        this.firing.run,
        ...this.exchangers.map((exchanger) =>
          this.follow(exchanger).pipe(
            Effect.tapError((error) => Effect.logError("jobs cannot be claimed; trying again", error)),
            Effect.retry(soon),
            Effect.ignore
          )
        )
      ],
      { concurrency: "unbounded", discard: true }
    )
  )

  /** Called when `run` was interrupted or is about to be: nothing is claimed from here on. */
  readonly drain: Effect.Effect<void> = Effect.gen({ self: this }, function* () {
    const { grace, lease } = this.options
    this.draining = true
    this.poke()
    this.startWaiting()
    const finish = (exchanger: Exchanger) =>
      // Also when there is nothing to settle: one that is on its way may bring jobs.
      Effect.repeat(exchanger.exchange, { while: () => exchanger.settles })
    const finished = Effect.gen({ self: this }, function* () {
      while (true) {
        this.progress.closeUnsafe()
        yield* Effect.forEach(this.exchangers, finish, { concurrency: "unbounded", discard: true })
        this.startWaiting()
        if (this.exchangers.some((exchanger) => exchanger.settles)) continue
        if (this.quiet()) return
        yield* this.progress.await
      }
    })
    const settling = Effect.ignore(finished)
    yield* Effect.timeoutOption(settling, grace)
    if (!this.quiet()) {
      for (const hand of [...this.hands.values(), ...this.unattended]) this.stop(hand, "Shutdown")
      // One that cannot be interrupted does not hold this up: closing the session gives its job back.
      yield* Effect.timeoutOption(settling, Math.min(1_000, lease))
    }
    yield* Effect.forEach(this.exchangers, (exchanger) => exchanger.close, { concurrency: "unbounded", discard: true })
    this.meter.end()
  })

  readonly behind: Effect.Effect<boolean> = Effect.suspend(() =>
    isBehind(this.options.store, this.options.queue, this.posts.keys())
  )

  doing(now: number): ReadonlyArray<Doing> {
    return doing(this.options.queue, this.hands.values(), now)
  }
}
